"""Bytes of a file to documents and faults: the envelope, positions, limits and hostile inputs."""

from __future__ import annotations

import time

import pytest

from specs.document import ParsedFile
from specs.loader import LARGEST_FILE, opaque_file, parse_file

HEAD = "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: web, project: shop}\n"


def first(data: str | bytes) -> str:
    """The first fault of a text, of the file or of its first document."""
    parsed = parse_file(data.encode() if isinstance(data, str) else data)
    faults = [*parsed.faults, *(fault for document in parsed.documents for fault in document.faults)]
    assert faults, "no fault found"
    return f"{faults[0].line}:{faults[0].column}: {faults[0].message}"


def test_a_document_keeps_its_envelope_and_its_values() -> None:
    """Kind, name, scope, labels, annotations and spec arrive as written."""
    text = HEAD.replace("project: shop", "project: shop, labels: {a: b}, annotations: {c: 'd'}")
    (document,) = parse_file(
        f"{text}spec: {{on: no, n: 1, f: 1.5, v: '1', x: 0x10, o: 0o7, t: true}}\n".encode()
    ).documents
    assert (
        document.kind,
        document.name,
        document.project,
        document.environment,
    ) == ("Build", "web", "shop", None)
    assert (document.labels, document.annotations) == ({"a": "b"}, {"c": "d"})
    assert document.spec == {"on": "no", "n": 1, "f": 1.5, "v": "1", "x": 16, "o": 7, "t": True}


def test_every_value_has_a_position() -> None:
    """Values and keys are found at their lines and columns, from 1; inside an alias, the alias counts."""
    text = f"---\n{HEAD}spec:\n  a:\n    - x: &x {{y: 1}}\n  b: *x\n"
    (document,) = parse_file(text.encode()).documents
    assert document.line == 2
    assert document.positions["/spec/a/0/x/y"] == (7, 17)
    assert document.positions.of_key("/spec/a") == (6, 3)
    assert document.positions.nearest("/spec/b/y") == (8, 6)
    assert document.positions.nearest("/spec/a/0/nothing/here") == (7, 7)


def test_positions_of_odd_keys_are_found() -> None:
    """Keys with a slash, a tilde, a space or a line end have positions too."""
    (document,) = parse_file(f'{HEAD}spec: {{a/b: 1, "~": 2, "c d": 3, "e\\nf": 4}}\n'.encode()).documents
    found = [document.positions[f"/spec/{name}"] for name in ("a~1b", "~0", "c d", "e~nf")]
    assert [line for line, _ in found] == [4] * 4
    assert len(set(found)) == 4


def test_several_documents_and_empty_ones() -> None:
    """Empty documents are skipped, all others kept in order."""
    text = f"---\n---\n{HEAD}---\n# nothing\n---\n{HEAD.replace('web', 'two')}...\n"
    parsed = parse_file(text.encode())
    assert [document.name for document in parsed.documents] == ["web", "two"]
    assert not parsed.opaque
    assert parse_file(b"") == parse_file(b"# only a comment\n") == ParsedFile()


def test_a_byte_order_mark_is_left_out() -> None:
    """Columns count from after it."""
    assert parse_file(HEAD.encode()) == parse_file(b"\xef\xbb\xbf" + HEAD.encode())


def test_line_ends_of_windows_are_read() -> None:
    """CR LF ends a line as LF does; literal texts are the same."""
    text = f"{HEAD}spec:\n  run: |\n    a\n    b\n"
    assert parse_file(text.replace("\n", "\r\n").encode()).documents[0].spec["run"] == "a\nb\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kind: Build\nmetadata: {name: a}\n", "1:1: apiVersion must be steersman/v1"),
        ("apiVersion: steersman/v1\nmetadata: {name: a}\n", "1:1: kind is missing"),
        ("apiVersion: steersman/v1\nkind: Build\n", "1:1: metadata must be a mapping with at least a name"),
        (
            "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: 12}\n",
            "3:18: metadata.name must be a quoted string",
        ),
        (
            "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: ''}\n",
            "3:18: metadata.name must not be empty",
        ),
        ("[1]", "1:1: a document is a mapping with apiVersion, kind, metadata and spec"),
        (f"{HEAD}spce: {{}}\n", '4:1: unknown field "spce"; did you mean "spec"?'),
        (f"{HEAD}spec: []\n", "4:7: spec must be a mapping"),
        (
            HEAD.replace("name: web", "name: web, lables: {}"),
            '3:23: unknown field "lables"; did you mean "labels"?',
        ),
        (
            HEAD.replace("name: web", "name: web, labels: {a: 1}"),
            "3:35: metadata.labels.a must be a quoted string",
        ),
        (f"{HEAD}spec:\n  a: 1\n  a: 2\n", '6:3: "a" stands here twice; keep one'),
        (f"{HEAD}spec: {{a: !!str x}}\n", "4:11: tags are not allowed; leave tag:yaml.org,2002:str out"),
        (
            f"{HEAD}spec:\n  <<: {{a: 1}}\n",
            "5:3: merge keys (<<) are not allowed; write the fields out, or use defaults",
        ),
        (f"{HEAD}spec: {{? [a] : 1}}\n", "4:10: a key must be text, not a mapping or a list"),
        (f"{HEAD}spec: {{1: a}}\n", '4:8: a key must be text; write "1" in quotes'),
        (f"{HEAD}spec: {{true: a}}\n", '4:8: a key must be text; write "true" in quotes'),
        (
            f"{HEAD}spec: {{a: .inf}}\n",
            "4:11: .inf is not a number that a specification can hold; if it is text, quote it",
        ),
        (f"{HEAD}spec: {{a: *b}}\n", "4:11: no anchor &b stands before *b; if it is text, quote it or use |"),
        (
            f"{HEAD}spec: {{a: &a [*a]}}\n",
            "4:15: no anchor &a stands before *a; if it is text, quote it or use |",
        ),
        (f"%YAML 1.1\n---\n{HEAD}", "1:1: specifications are YAML 1.2; leave the %YAML directive out"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, fault: str) -> None:
    """Each fault says what is wrong, where, and what to write."""
    assert fault == first(text)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run: echo a: b", "quote it or use |"),
        ("cron: * * * * *", "quote it or use |"),
        ("attachments: [*.whl]", "quote it or use |"),
        ("ignore_file_changes: [**/*.md]", "quote it or use |"),
        ("run: @make", "quote it or use |"),
        ("run: 'it's'", "quote it or use |"),
        ("a: [1, 2", "not valid YAML"),
        ("\ta: 1", "tabs cannot indent"),
        ("a: 'x", "a quote is opened and never closed"),
    ],
)
def test_a_syntax_error_says_what_to_write_instead(line: str, told: str) -> None:
    """Near scripts, cron and globs the advice is to quote."""
    parsed = parse_file(f"{HEAD}spec:\n  {line}\n".encode())
    assert parsed.opaque
    assert parsed.documents == ()
    assert told in parsed.faults[-1].message


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("- name: a\n\t  run: x", "tabs cannot indent; use spaces"),
        ("- name: a\n  run:\n    x\n\ty", "tabs cannot indent; use spaces"),
        ("- name: a\n  run: |\n\t  x", "tabs cannot indent; use spaces"),
        ("- name: a\n run: x", "the line is indented wrongly, or a quote or bracket is missing"),
        ("- name: a\n  run: x\n branch: x", "the line is indented wrongly, or a quote or bracket is missing"),
        ("  - name: a\n   run: x", "the items of this list are not indented alike"),
        (
            "- name: a\n  run: x\n   image: x",
            '": " inside unquoted text, or a line indented wrongly; quote it or use |',
        ),
    ],
)
def test_a_line_that_is_indented_wrongly_needs_no_quotes(lines: str, told: str) -> None:
    parsed = parse_file(f"{HEAD}spec:\n  tasks:\n  {lines.replace(chr(10), chr(10) + '  ')}\n".encode())
    assert parsed.faults[-1].message == f"not valid YAML: {told}"


def test_a_file_that_breaks_in_the_middle_declares_nothing() -> None:
    """Documents before the break may have ended too early, so none is believed."""
    parsed = parse_file(f"{HEAD}---\n{HEAD}spec: [\n".encode())
    assert (parsed.opaque, parsed.documents) == (True, ())


def test_an_unreadable_document_leaves_its_neighbours() -> None:
    """The file is opaque, the rest of it is declared."""
    parsed = parse_file(f"{HEAD}---\nkind: Build\n".encode())
    assert parsed.opaque
    assert [document.name for document in parsed.documents] == ["web"]


def test_all_faults_are_told_at_once() -> None:
    """A document with four faults has four."""
    parsed = parse_file(f"{HEAD}spec: {{a: !x 1, a: 2, 3: 4}}\nspce: 1\n".encode())
    assert len(parsed.documents[0].faults) == 4
    assert not parsed.opaque


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[" * 100_000, "nested deeper than 50 levels"),
        (b"- " * 100_000, "nested deeper than 50 levels"),
        (b"{a: " * 60, "nested deeper than 50 levels"),
        (
            (
                "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 9))
            ).encode(),
            "aliases",
        ),
        (b"a: &a x\nb: [" + b"*a," * 21 + b"]", "more than 20 aliases"),
        (
            (
                "a0: &a0 x\n" + "".join(f"a{i}: &a{i} {'[' * 15}*a{i - 1}{']' * 15}\n" for i in range(1, 6))
            ).encode(),
            "nested deeper",
        ),
        (b"a: \xed\xa0\x80", "not UTF-8"),
        (b'a: "\\ud800"', "not valid YAML"),
        ("a: ü".encode("utf-16"), "UTF-16"),
        ("a: ü".encode("utf-16-le"), "UTF-16"),
        ("a: ü".encode("latin-1"), "not UTF-8"),
        (b"a: b\x00c", "a NUL character"),
        (b"a: b\x01c", "not valid YAML"),
        ("a: b\u2028c".encode(), "U+2028"),
        (b"a: b\xff", "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8"),
    ],
)
def test_hostile_bytes_end_the_file_quickly(data: bytes, told: str) -> None:
    """Bombs, binaries and broken encodings make an opaque file with a sentence, in no time."""
    start = time.process_time()
    parsed = parse_file(data)
    assert time.process_time() - start < 10
    assert parsed.opaque
    assert told in " ".join(fault.message for fault in parsed.faults)


def test_twenty_aliases_are_allowed() -> None:
    """The limit itself is not over the limit."""
    parsed = parse_file(f"{HEAD}spec: {{a: &a x, b: [{', '.join(['*a'] * 20)}]}}\n".encode())
    assert parsed.documents[0].spec["b"] == ["x"] * 20


@pytest.mark.parametrize(
    "number", ["9" * 5000, "1e999", str(2**63), "0x" + "f" * 5000, "-9223372036854775809", "0o" + "7" * 30]
)
def test_a_number_that_does_not_fit_is_a_fault(number: str) -> None:
    """Numbers beyond 64 bits or beyond any float are told, not read."""
    assert "the number is too large; if it is text, quote it" in first(f"{HEAD}spec: {{a: {number}}}\n")


@pytest.mark.parametrize(
    "text", ["2026-99-99", "2026-01-01", "1_000", "0b1", "yes", "12:30:45", "=", "1e", "..", "-"]
)
def test_what_other_readers_convert_is_text(text: str) -> None:
    """Dates, sexagesimals and words of YAML 1.1 stay text."""
    assert (
        text
        == parse_file(f"{HEAD}spec:\n  a: {text if text != '-' else repr(text)}\n".encode())
        .documents[0]
        .spec["a"]
    )


def test_a_file_beyond_the_limit_is_not_parsed() -> None:
    """50 MB cost nothing."""
    data = b"a" * 50_000_000
    start = time.process_time()
    parsed = parse_file(data)
    assert time.process_time() - start < 1
    assert opaque_file(f"the file has 50000000 bytes; the limit is {LARGEST_FILE}") == parsed


def test_the_cache_form_gives_back_the_same() -> None:
    """Documents, positions, faults and opacity survive."""
    text = f"{HEAD}spec: {{a: [1, 2.5, null, ü, true], a: 2}}\n---\nkind: x\n"
    parsed = parse_file(text.encode())
    assert parsed == ParsedFile.from_json(parsed.to_json())
    assert parsed.opaque
    assert parsed.documents[0].faults


def test_a_thousand_faulty_files_are_all_told() -> None:
    """Each file's faults are its own."""
    files = [parse_file(f"{HEAD}spec:\n  a: 1\n  a: {i}\n  {i}: x\n".encode()) for i in range(1000)]
    assert sum(len(document.faults) for file in files for document in file.documents) == 2000
