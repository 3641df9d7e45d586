"""Edits of specification files, by example: what a person sees in the diff."""

from __future__ import annotations

import copy
import difflib
import time
from collections.abc import Callable
from typing import Any

import pytest

from specs.compose import compose
from specs.edit import Change, Uneditable, append, difference, edit, remove
from specs.edit_dump import dumped
from specs.edit_nodes import document_at
from specs.loader import parse_file

FILE = """\
# yaml-language-server: $schema=../schema.json
# The shop's builds.

# What is deployed every night.
apiVersion: steersman/v1
kind: Build      # the storefront
metadata: {name: web, project: shop, environment: dev}
spec:
  # Only main is built.
  repo: web                      # a Repository of the project
  branch: 'main'
  release: {namespace: shop, version: "1.4.12"}   # quote it
  disabled: false

  steps:
    # The library comes first.
    - plan_location: lib/escape.yml
      run_tests: true            # always
      ignore_file_changes: ["**/*.md"]

    - plan_location: escape.yml
      scripts:
        build: {inline: "make build"}
        test:
          inline: |
            make test   # slow

            make report
      run_destroy_deploy: false  # leave it standing in dev
  triggers:
    - {type: poll, interval_seconds: 60}
    - {type: webhook}

# What it uses.
---
apiVersion: steersman/v1
kind: Repository
metadata:
  name: web
  project: shop
spec:
  url: git@git.example.org:shop/web.git
"""
BUILD, REPOSITORY = 5, 36


def value_of(text: str, at: int = 0) -> Any:
    """What a document says."""
    return list(compose(text))[at].value


def diff(before: str, after: str) -> list[str]:
    """The lines that went and came."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if not line.startswith(("  ", "? "))]


def with_changes(change: Callable[[Any], object], text: str = FILE, line: int = BUILD) -> list[str]:
    """The diff of an edit that makes of a document what a function makes of its value."""
    old = next(document.value for document in compose(text) if document.line == line)
    new = copy.deepcopy(old)
    change(new)
    after = edit(text, line, difference(old, new))
    assert new in [document.value for document in compose(after)]
    return diff(text, after)


def setting(*steps: str | int, to: Any) -> Callable[[Any], None]:
    """Sets one value."""

    def change(document: Any) -> None:
        for step in steps[:-1]:
            document = document[step]
        document[steps[-1]] = to

    return change


def test_case_23_flipping_a_flag_of_a_step_changes_its_line() -> None:
    """One line of a commented file with several documents; its comment stays."""
    assert with_changes(setting("spec", "steps", 0, "run_tests", to=False)) == [
        "-       run_tests: true            # always",
        "+       run_tests: false            # always",
    ]


def test_case_22_no_change_gives_the_very_text() -> None:
    """Also where a change sets what is there."""
    same = Change(("spec", "steps", 0, "run_tests"), True)
    assert edit(FILE, BUILD, []) is FILE
    assert edit(FILE, BUILD, [same]) is FILE


@pytest.mark.parametrize(
    ("steps", "to", "expected"),
    [
        (("spec", "branch"), "next", ["-   branch: 'main'", "+   branch: 'next'"]),
        (
            ("spec", "release", "version"),
            "1.4.13",
            [
                '-   release: {namespace: shop, version: "1.4.12"}   # quote it',
                '+   release: {namespace: shop, version: "1.4.13"}   # quote it',
            ],
        ),
        (
            ("spec", "release", "application"),
            "web",
            [
                '-   release: {namespace: shop, version: "1.4.12"}   # quote it',
                '+   release: {namespace: shop, version: "1.4.12", application: web}   # quote it',
            ],
        ),
        (("spec", "timeout_seconds"), 60, ["+   timeout_seconds: 60"]),
        (("spec", "steps", 1, "tag_git"), True, ["+       tag_git: true"]),
        (("spec", "variables"), {"A": "1", "B": "no"}, ["+   variables:", '+     A: "1"', '+     B: "no"']),
        (("metadata", "labels"), {"team": "web"}, None),
        (
            ("spec", "steps", 0, "ignore_file_changes"),
            ["**/*.md", "docs/**"],
            [
                '-       ignore_file_changes: ["**/*.md"]',
                '+       ignore_file_changes: ["**/*.md", docs/**]',
            ],
        ),
        (
            ("spec", "steps", 1, "scripts", "test", "inline"),
            "make test   # slow\n\nmake all\n",
            ["-             make report", "+             make all"],
        ),
        (
            ("spec", "steps", 1, "scripts", "build"),
            {"inline": "make\nmake build\n"},
            [
                '-         build: {inline: "make build"}',
                '+         build: {inline: "make\\nmake build\\n"}',
            ],
        ),
        (
            ("spec", "branch"),
            "one\ntwo\n",
            ["-   branch: 'main'", "+   branch: |", "+     one", "+     two"],
        ),
    ],
)
def test_one_value(steps: tuple[str | int, ...], to: Any, expected: list[str] | None) -> None:
    """Set where it stands, or put behind the last one of its mapping."""
    found = with_changes(setting(*steps, to=to))
    if expected is not None:
        assert expected == found
    assert len(found) <= 4


@pytest.mark.parametrize(
    ("written", "to", "expected"),
    [
        ("a", "b", "b"),
        ("a", "no", '"no"'),
        ("a", "1.10", '"1.10"'),
        ("a", "012", '"012"'),
        ("a", "2026-01-01", '"2026-01-01"'),
        ("a", "", '""'),
        ("a", "null", '"null"'),
        ("a", 'say "hi"', 'say "hi"'),
        ("a", '"hi"', "'\"hi\"'"),
        ("a", "a: b", '"a: b"'),
        ("a", "https://e.org/x#y", "https://e.org/x#y"),
        ("a", "*.md", '"*.md"'),
        ("'a'", "it's", "'it''s'"),
        ("'a'", "\x07", '"\\x07"'),
        ('"a"', "b", '"b"'),
        ('"a"', 5, "5"),
        ("1", "1", '"1"'),
        ("1", True, "true"),
        ("1", 1.0, "1.0"),
        ("1", 1e22, "1.0e+22"),
        ("a", None, "null"),
        ("~", "a", "a"),
        ("&x a", "b", "&x b"),
        ("[a]", [], "[]"),
        ("{a: 1}", {"b": 2}, "{b: 2}"),
        ("[a,b]", ["a", "b", "c"], "[a,b,c]"),
        ("[ a, b, ]", ["b"], "[ b, ]"),
        ("{a: , b: 1}", {"a": 1, "b": 1}, "{a: 1, b: 1}"),
        ("[{a: 1}, {b: 2}]", [{"b": 2}, {"a": 1}], "[{b: 2}, {a: 1}]"),
    ],
)
def test_how_values_are_written(written: str, to: Any, expected: str) -> None:
    """As they were quoted; new ones plain where no reader of YAML 1.1 takes them for something else."""
    assert edit(f"k: x\nv:  {written}  # why\n", 1, [Change(("v",), to)]) == f"k: x\nv:  {expected}  # why\n"


def test_a_step_in_the_middle_adds_lines_and_changes_no_others() -> None:
    """With a blank line, as the others have; in flow style where the others are."""
    new = {"plan_location": "doc/escape.yml", "variables": {"A": "1"}}
    assert with_changes(lambda document: document["spec"]["steps"].insert(1, new)) == [
        "+ ",
        "+     - plan_location: doc/escape.yml",
        "+       variables:",
        '+         A: "1"',
    ]
    assert with_changes(lambda document: document["spec"]["triggers"].insert(0, {"type": "change"})) == [
        "+     - {type: change}"
    ]


def test_a_removed_step_takes_its_comments_along() -> None:
    """Those directly above it, and a blank line."""
    found = with_changes(lambda document: document["spec"]["steps"].pop(0))
    assert found == [
        "-     # The library comes first.",
        "-     - plan_location: lib/escape.yml",
        "-       run_tests: true            # always",
        '-       ignore_file_changes: ["**/*.md"]',
        "- ",
    ]


def test_a_moved_step_keeps_its_comments_and_its_way_of_writing() -> None:
    """Its lines stand in another place, changed where it has changed."""
    text = "k: x\nsteps:\n  # one\n  - name: a   # first\n    run: 'make'\n  - name: b\n  - name: c\n    run: x\n"
    new = {
        "k": "x",
        "steps": [{"name": "c", "run": "x"}, {"name": "b"}, {"name": "a", "run": "make all"}],
    }
    assert edit(text, 1, difference(value_of(text), new)) == (
        "k: x\nsteps:\n  - name: c\n    run: x\n  - name: b\n  # one\n  - name: a   # first\n    run: 'make all'\n"
    )


def test_a_removed_key_leaves_the_comments_of_others() -> None:
    """Its own line goes; of blank lines above and below it one."""
    assert with_changes(lambda document: document["spec"].pop("repo")) == [
        "-   repo: web                      # a Repository of the project"
    ]
    assert with_changes(lambda document: document["spec"].pop("disabled")) == ["-   disabled: false"]
    assert with_changes(lambda document: document["spec"]["steps"][1].pop("plan_location")) == [
        "-     - plan_location: escape.yml",
        "-       scripts:",
        "+     - scripts:",
    ]


def test_the_last_key_of_a_mapping_leaves_an_empty_one() -> None:
    """Not a null."""
    text = "k: x\nenv:   # variables\n  A: 1   # one\nz: 1\n"
    assert edit(text, 1, [Change.removal(("env", "A"))]) == "k: x\nenv: {}   # variables\nz: 1\n"


def test_a_field_of_a_mapping_that_is_not_there_makes_it() -> None:
    """Also where it is null, and where the file is indented otherwise."""
    assert with_changes(setting("spec", "run_on", to={"traits": ["linux"]})) == [
        "+   run_on:",
        "+     traits: [linux]",
    ]
    text = "k: x\nspec:\n    a:\n    - b\n    deep:\n        x: 1\n    empty:  # nothing\n"
    changes = [Change(("spec", "empty", "new", "list"), [{"a": 1}]), Change(("spec", "more"), {"a": [[1]]})]
    assert edit(text, 1, changes) == (
        "k: x\nspec:\n    a:\n    - b\n    deep:\n        x: 1\n    empty:  # nothing\n        new:\n"
        "            list:\n            - a: 1\n    more:\n        a:\n        - [1]\n"
    )


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_bytes_of_a_file_stay(line_end: str, mark: str, end: str) -> None:
    """Line ends, a byte order mark, a missing last line end."""
    text = (mark + FILE.rstrip("\n") + end).replace("\n", line_end)
    changes = [Change(("spec", "url"), "https://e.org/x"), Change(("spec", "description"), "one\ntwo\n")]
    after = edit(text, REPOSITORY, changes)
    url = f"  url: git@git.example.org:shop/web.git{end}".replace("\n", line_end)
    new = f"  url: https://e.org/x\n  description: |\n    one\n    two{end or chr(10)}".replace(
        "\n", line_end
    )
    assert after == text.removesuffix(url) + new
    document = parse_file(edit(text, BUILD, [Change(("spec", "x"), 1)]).encode()).documents[0]
    assert document.spec["x"] == 1


def test_a_last_line_without_end_does_not_change_its_script() -> None:
    """The block scalar that it ends is told not to end its line."""
    text = "k: x\nrun: |\n  make"
    assert edit(text, 1, [Change(("z",), 1)]) == "k: x\nrun: |-\n  make\nz: 1"
    assert append(text, {"k": "z"}) == "k: x\nrun: |-\n  make\n---\nk: z\n"


def test_aliases_keep_their_own_values() -> None:
    """What they stood for is written out where it changes."""
    text = "k: x\na: &a\n  p: 1   # one\nb: *a   # same\nc: *a\n"
    assert edit(text, 1, [Change(("a", "p"), 2)]) == (
        "k: x\na: &a\n  p: 2   # one\nb:   # same\n  p: 1\nc:\n  p: 1\n"
    )
    assert edit(text, 1, [Change(("b", "p"), 2)]) == (
        "k: x\na: &a\n  p: 1   # one\nb:   # same\n  p: 2\nc: *a\n"
    )
    assert edit(text, 1, [Change(("d",), 1)]) == f"{text}d: 1\n"


def test_what_cannot_be_spliced_is_written_anew() -> None:
    """The document alone, with its comments."""
    text = "k: one\n---\n? k\n: two\n# why\n? list\n: [a]   # a\n---\nk:   three\n"
    after = edit(text, 3, [Change(("k",), "new"), Change(("list",), ["a", {"b": "1.10"}])])
    assert [document.value for document in compose(after)] == [
        {"k": "one"},
        {"k": "new", "list": ["a", {"b": "1.10"}]},
        {"k": "three"},
    ]
    assert after.startswith("k: one\n---\n")
    assert after.endswith("\n---\nk:   three\n")
    assert "# why" in after


def test_a_round_trip_knows_new_moved_and_shared_values() -> None:
    """What stands in several places through aliases is not changed in all of them."""
    text = (
        "k: x\na: &a {p: 1}\nb: *a\ns: 'q'\nt: \"q\"\nsteps:\n  - name: a   # first\n  - name: b\n"
        "  - name: c\n"
    )
    new = {
        "k": "x",
        "a": {"p": 2},
        "b": {"p": 1},
        "s": "it's",
        "t": "on",
        "steps": [{"name": "c"}, {"name": "new", "run": "one\ntwo\n", "needs": ["no"]}, {"name": "a"}],
    }
    after = dumped(text, document_at(text, 1), value_of(text), new)
    assert value_of(after) == new
    assert "s: 'it''s'\nt: \"on\"\n" in after
    assert "run: |" in after
    assert "# first" in after


def test_a_fault_of_the_document_is_named() -> None:
    """Unless the change takes it out."""
    text = "k: x\na: !t 1\nb: 2\n"
    with pytest.raises(
        Uneditable, match=r"^line 2: tags are not allowed.*; put that right in the file first$"
    ):
        edit(text, 1, [Change(("b",), 3)])
    assert edit(text, 1, [Change(("a",), 3)]) == "k: x\na: 3\nb: 2\n"
    with pytest.raises(Uneditable, match=r'^line 2: "k" stands here twice'):
        edit("k: x\nk: y\nb: 1\n", 1, [Change(("b",), 2)])
    with pytest.raises(Uneditable, match=r"^line 2: not valid YAML"):
        edit("k: x\n: [\n", 1, [Change(("b",), 2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(("k", "x"), 1), "k is not a mapping, so x cannot be changed in it"),
        (Change(("k", 0), 1), "k is not a list, so no item of it can be changed"),
        (Change(("list", 2), 1), r"list has 1 item\(s\), so \[2\] cannot be set"),
        (Change(("k",), float("inf")), "k cannot be held by a specification: the number is endless"),
        (
            Change(("k",), 2**63),
            "k cannot be held by a specification: the number is endless, or has more than",
        ),
        (Change(("k",), {"a": b"x"}), "k.a cannot be held by a specification: it is a bytes, not JSON"),
        (Change(("k",), {1: "x"}), "k has a key that is not text"),
        (Change(("k",), "\ud800"), "k holds half of a surrogate pair"),
        (Change((), [1]), "the document at line 1 cannot become anything but a mapping"),
    ],
)
def test_what_no_document_can_hold_is_refused(change: Change, message: str) -> None:
    """With a sentence that says where."""
    with pytest.raises(Uneditable, match=f"^{message}"):
        edit("k: x\nlist: [a]\n", 1, [change])


def test_no_nesting_breaks_an_edit() -> None:
    """Deeper than files may be is refused."""
    value: Any = "x"
    for _ in range(3000):
        value = [value]
    with pytest.raises(Uneditable, match="nested deeper than 50 levels"):
        edit("k: x\n", 1, [Change(("k",), value)])


def test_a_line_where_no_document_begins_is_refused() -> None:
    """The file may have changed since."""
    with pytest.raises(Uneditable, match="no document begins at line 6; has the file changed"):
        edit(FILE, 6, [])
    with pytest.raises(Uneditable, match="the document at line 1 is not a mapping"):
        edit("- a\n", 1, [Change(("k",), 1)])


def test_differences_are_few_and_know_types() -> None:
    """What is equal to Python need not be equal to YAML."""
    old = {
        "a": 1,
        "b": [1, 2],
        "c": {"d": 1},
        "e": [{"name": "x", "p": 1}, {"name": "y"}],
        "f": {"g": 1, "h": 2},
    }
    new = {"a": True, "b": [1, 3], "c": {"d": 1}, "e": [{"name": "x", "p": 1.0}], "f": {}, "i": None}
    assert difference(old, new, ("spec",)) == [
        Change(("spec", "a"), True),
        Change(("spec", "b"), [1, 3]),
        Change.removal(("spec", "e", 1)),
        Change(("spec", "e", 0, "p"), 1.0),
        Change(("spec", "f"), {}),
        Change(("spec", "i"), None),
    ]


def test_a_renamed_item_is_the_same_item() -> None:
    """One of several at the same place, with another name."""
    old = {"l": [{"name": "a"}, {"name": "b", "run": "x"}, {"name": "c"}]}
    new = {"l": [{"name": "a"}, {"name": "z", "run": "x"}, {"name": "c"}, {"name": "d"}]}
    assert difference(old, new) == [Change(("l", 1, "name"), "z"), Change(("l", 3), {"name": "d"})]


def test_very_long_lists_are_compared_in_time() -> None:
    """Also where all items are alike."""
    old, new = {"l": [{"a": 1}] * 20_000}, {"l": [{"b": 1}, *[{"a": 1}] * 20_000, {"c": 1}]}
    start = time.process_time()
    changes = difference(old, new)
    assert time.process_time() - start < 5
    assert changes == [Change(("l",), new["l"])]


NEW = {
    "apiVersion": "steersman/v1",
    "kind": "Build",
    "metadata": {"name": "web", "project": "shop"},
    "spec": {
        "repo": "web",
        "version": "1.10",
        "tags": ["v*", "main"],
        "triggers": [{"type": "poll"}],
        "tasks": [{"name": "a", "run": "make\nmake test\n", "environment_variables": {}}],
    },
}
NEW_TEXT = """\
apiVersion: steersman/v1
kind: Build
metadata:
  name: web
  project: shop
spec:
  repo: web
  version: "1.10"
  tags: [v*, main]
  triggers:
    - type: poll
  tasks:
    - name: a
      run: |
        make
        make test
      environment_variables: {}
"""


@pytest.mark.parametrize(
    ("text", "between"),
    [
        (None, ""),
        ("", ""),
        ("# the shop\n\n", ""),
        ("k: x\n", "---\n"),
        ("k: x", "\n---\n"),
        ("k: x\n...\n", "---\n"),
        ("k: x\n---\n", ""),
        ("k: x\r\n", "---\r\n"),
        ("\ufeffk: x\n", "---\n"),
        (FILE, "---\n"),
    ],
)
def test_a_new_document(text: str | None, between: str) -> None:
    """In a new file, and at the end of another one."""
    written = NEW_TEXT.replace("\n", "\r\n") if text and "\r" in text else NEW_TEXT
    assert append(text, NEW) == (text or "") + between + written


def test_a_file_that_cannot_be_read_takes_no_document() -> None:
    """It is named what is wrong with it."""
    with pytest.raises(Uneditable, match="line 2: not valid YAML"):
        append("k: [\n", NEW)


def test_a_removed_document_takes_its_comments_along() -> None:
    """Those of the file and of other documents stay."""
    first, second = FILE.split("\n# What it uses.\n---\n")
    assert remove(FILE, REPOSITORY) == f"{first}\n"[: -1 if first.endswith("\n") else None]
    head = "# yaml-language-server: $schema=../schema.json\n# The shop's builds.\n\n"
    assert remove(FILE, BUILD) == f"{head}# What it uses.\n---\n{second}"
    assert remove(second, 1) is None


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("k: 1\n---\nk: 2\n---\nk: 3\n", 1, "k: 2\n---\nk: 3\n"),
        ("k: 1\n---\nk: 2\n---\nk: 3\n", 3, "k: 1\n---\nk: 3\n"),
        ("k: 1\n---\nk: 2\n---\nk: 3\n", 5, "k: 1\n---\nk: 2\n"),
        ("---\nk: 1\n--- # two\nk: 2\n", 2, "--- # two\nk: 2\n"),
        ("k: 1\n--- # two\nk: 2\n", 1, "--- # two\nk: 2\n"),
        ("k: 1\n# of one\n---\nk: 2\n", 4, "k: 1\n# of one\n"),
        ("k: 1\n\n# of two\n---\nk: 2", 5, "k: 1\n"),
        ("k: 1\n\n# of two\n---\nk: 2\n---\nk: 3\n", 1, "# of two\n---\nk: 2\n---\nk: 3\n"),
        ("k: 1\n...\n# of two\n---\nk: 2\n", 5, "k: 1\n...\n"),
        ("k: |+\n  a\n\n---\nk: 2\n", 5, "k: |+\n  a\n\n"),
        ("\ufeffk: 1\r\n---\r\nk: 2\r\n", 1, "\ufeffk: 2\r\n"),
        ("k: 1\n---\n# nothing\n", 1, None),
    ],
)
def test_a_document_goes_with_its_separator(text: str, line: int, expected: str | None) -> None:
    """From the beginning, the middle and the end of a file."""
    assert remove(text, line) == expected
