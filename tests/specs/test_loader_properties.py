"""The loader reads what ruamel, which edits the same files, reads as YAML 1.2; and nothing makes it raise."""

from __future__ import annotations

import io
import json
import textwrap
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from specs.document import ParsedFile
from specs.loader import parse_file
from specs.scalars import resolve

HEAD = "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: web}\nspec:\n"

LETTERS = st.characters(
    codec="utf-8", exclude_categories=("Cs", "Cc", "Co", "Cn"), exclude_characters="\x85\u2028\u2029\ufeff"
)
TEXTS = st.text(LETTERS | st.sampled_from("\n\t :#-'\"{}[]*&!|>%@`"), max_size=20)
WORDS = st.sampled_from(
    [
        "on",
        "no",
        "true",
        "null",
        "~",
        "1",
        "0o7",
        "1.5",
        "1e3",
        "",
        "2026-01-01",
        "0x1f",
        "-",
        "yes",
        "=",
        "<<",
    ]
)
SCALARS = (
    TEXTS
    | WORDS
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | WORDS, inner, max_size=4),
    max_leaves=20,
)


def ruamel(text: str) -> Any:
    """What ruamel's pure reader makes of a text."""
    return YAML(typ="safe", pure=True).load(text)


class Written(SafeRepresenter):
    """Writes null as a word: libyaml does not read `{'a':}`."""


Written.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def dumped(value: Any, *, flow: bool, width: int) -> str:
    """A value written by ruamel, in block or flow style."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Written
    yaml.default_flow_style, yaml.width, yaml.allow_unicode = flow, width, True
    out = io.StringIO()
    yaml.dump(value, out)
    return "spec:\n" + textwrap.indent(out.getvalue(), "  ")


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.booleans(), st.sampled_from([80, 4096]))
def test_generated_documents_are_read_as_ruamel_reads_them(
    value: dict[str, Any], flow: bool, width: int
) -> None:
    """Same values, same types, whatever the style."""
    text = dumped(value, flow=flow, width=width)
    parsed = parse_file(f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: web}}\n{text}".encode())
    # libyaml refuses some flow texts that are right (`{:a: 1}`, `{?0: 1}`); what it reads, it must read alike.
    assume(not (flow and (parsed.faults or parsed.documents[0].faults)))
    assert not parsed.faults
    (document,) = parsed.documents
    assert document.faults == ()
    assert json.dumps(ruamel(text)["spec"]) == json.dumps(document.spec)


PLAIN = st.text(st.sampled_from("0123456789+-.eExXoOabfnNtTrRuUlLsS~"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(PLAIN | WORDS)
def test_plain_scalars_mean_what_they_mean_to_ruamel(text: str) -> None:
    """Words and numbers without quotes; where ruamel goes beyond the core schema (dates, 0b, _), ours is text."""
    if text in ("", "<<") or (text.startswith(("-", "+", ".")) and not any(c.isdigit() for c in text)):
        return
    try:
        theirs = ruamel(f"a: {text}\n")["a"]
    except Exception:  # what ruamel cannot read is no common ground
        return
    parsed = parse_file(f"{HEAD}  a: {text}\n".encode())
    if not parsed.documents or parsed.documents[0].faults:
        return
    ours = parsed.documents[0].spec["a"]
    if isinstance(ours, str):
        assert ours == text
        return
    assert (type(theirs), theirs) == (type(ours), ours)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    """Whatever comes, documents or faults come back, and survive the cache."""
    parsed = parse_file(data)
    assert parsed == ParsedFile.from_json(parsed.to_json())


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab: -[]{}&*!|>'\"#\n,?%~<0"), max_size=80))
def test_no_text_that_looks_like_yaml_makes_it_raise(text: str) -> None:
    """The same with the characters that mean something."""
    parsed = parse_file(f"{HEAD}  {text}\n".encode())
    assert parsed == ParsedFile.from_json(parsed.to_json())
    assert parsed.opaque or parsed.documents


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_read_back(number: int) -> None:
    """Decimal, and hexadecimal where it is not negative."""
    assert number == resolve(str(number))
    if number >= 0:
        assert number == resolve(hex(number)) == resolve(oct(number))
