"""Whatever a file looks like and whatever changes: what is read afterwards is what was wanted, and lines that
no change concerns are there byte for byte.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs import edit as editing
from specs.compose import Composed, compose
from specs.edit import Change, append, difference, edit, remove
from specs.edit_changes import applied, same
from specs.edit_text import text as quoted
from specs.positions import pointer

KEYS = ["name", "run", "needs", "env", "on", "é", "a b", "x: y", "0", "z"]
WORDS = ["web", "a b", "it's", "src/**", "https://e.org/x", "v1", "on", "é", "make"]
SCRIPTS = ["make\nmake test\n", "a\n\n  b\n# c\n", "one\ntwo", "x\n"]
TEXTS = [
    *WORDS, *SCRIPTS, "", "no", "1.10", "012", "null", "~", "2026-01-01", "*.md", "@x", "a: b", "c #d", "- e", "'",
    '"', "\\", "\ttab", " lead", "trail ", "{a}", "[b]", "a,b", "x\r\ny", "\x07", "\x85", "\u2028", "\ufeff", "😀",
    "---", "...", "<<", "=", "0x1f", "1e3", ".5", ".inf", "1:30", "yes", "y", "a:", "? q", "\n", "\n\n", "  x\n y\n",
    "a\n\n\n", "end\n  ", "tab\t\nb",
]  # fmt: skip
SCALARS = [None, True, False, 0, 1, -7, 1.0, 1.5, 1e16, 1e-9, 2**63 - 1]
SEEDS = st.integers(0, 2**32)


class Writer:
    """Writes a document as carelessly as people do."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.anchors: list[str] = []
        self.anchored = self.maybe(0.15)
        self.aliases = 0

    def maybe(self, part: float) -> bool:
        return self.chance.random() < part

    def document(self) -> list[str]:
        return [*self.notes(0), "kind: K" + self.comment(), *self.mapping(0, 3, "kind")]

    def notes(self, indent: int) -> list[str]:
        lines = []
        while self.maybe(0.2):
            lines.append(self.chance.choice(["", "", " " * indent + "# note", "# far left", "   "]))
        return lines

    def comment(self) -> str:
        return self.chance.choice(["", "", "", "  # why", " # a: b"])

    def mapping(self, indent: int, depth: int, taken: str = "") -> list[str]:
        lines: list[str] = []
        names = [key for key in KEYS if key != taken]
        for key in self.chance.sample(names, self.chance.randint(1, 4)):
            lines += self.notes(indent) if lines else []
            styled = (
                f'"{key}"' if ":" in key or key == "0" else self.chance.choice([key, key, key, f"'{key}'"])
            )
            space = " " if self.maybe(0.05) else ""
            lines += self.value(f"{' ' * indent}{styled}{space}:", indent, depth)
        return lines

    def value(self, head: str, indent: int, depth: int) -> list[str]:
        kind = self.chance.random()
        if depth and kind < 0.4:
            anchor, name = self.anchor()
            width = self.chance.choice([2, 2, 2, 4, 1]) if kind < 0.2 else self.chance.choice([0, 2, 2, 4])
            inner = (
                self.mapping(indent + width, depth - 1)
                if kind < 0.2
                else self.items(indent + width, depth - 1)
            )
            self.anchors += name
            return [head + anchor + self.comment(), *self.notes(indent + width), *inner]
        return self.leaf(head, indent)

    def leaf(self, head: str, indent: int) -> list[str]:
        kind = self.chance.random()
        space = self.chance.choice([" ", " ", "   "])
        if self.anchors and self.aliases < 4 and self.maybe(0.3):
            self.aliases += 1
            return [f"{head} *{self.anchors.pop()}{self.comment()}"]
        anchor, name = self.anchor()
        self.anchors += name
        if kind < 0.2:
            return self.script(head + anchor, indent)
        if kind < 0.45:
            return [f"{head}{anchor}{space}{self.flow(2, indent)}{self.comment()}"]
        if kind < 0.55:
            return [head + anchor + self.comment()]
        return [f"{head}{anchor}{space}{self.scalar()}{self.comment()}"]

    def anchor(self) -> tuple[str, list[str]]:
        if not (self.anchored and self.maybe(0.2)):
            return "", []
        name = f"a{self.chance.randrange(10**9)}"
        return f" &{name}", [name]

    def items(self, indent: int, depth: int) -> list[str]:
        lines: list[str] = []
        named, spaced = self.maybe(0.5), self.maybe(0.3)
        for number in range(self.chance.randint(1, 4)):
            if lines:
                lines += [""] if spaced else self.notes(indent)
            head = " " * indent + "-"
            if named:
                lines += [f"{head} name: n{number}{self.comment()}"]
                lines += self.mapping(indent + 2, max(depth - 1, 0), "name")
            elif depth and self.maybe(0.3):
                width = self.chance.choice([2, 2, 4])
                make = self.mapping if self.maybe(0.7) else self.items
                inner = make(indent + width, depth - 1)
                lines += [head + inner[0][indent + 1 :], *inner[1:]]
            else:
                lines += self.leaf(head, indent)
        return lines

    def script(self, head: str, indent: int) -> list[str]:
        text = self.chance.choice(SCRIPTS)
        inner = " " * (indent + self.chance.choice([2, 2, 4]))
        style = self.chance.choice(["|", "|", "|", "|-", "|-", ">", ">-", "|+"])
        body = [inner + line if line else "" for line in text.rstrip("\n").split("\n")]
        return [f"{head} {style}{self.comment()}", *body, *([""] if self.maybe(0.3) else [])]

    def scalar(self, *, inside: bool = False) -> str:
        kind = self.chance.random()
        if kind < 0.4:
            return self.chance.choice([word for word in WORDS if not (inside and set(word) & set(",[]{}:*"))])
        if kind < 0.6:
            return '"' + self.chance.choice(["1.4.12", "a\\nb", "", "x: y", "é # no"]) + '"'
        if kind < 0.75:
            return "'" + self.chance.choice(["it''s", "", "1.10", "# no"]) + "'"
        return self.chance.choice(["1", "true", "null", "~", "1.5", "0x1f", "-3", "2026-01-01"])

    def flow(self, depth: int, indent: int) -> str:
        space = self.chance.choice(["", "", " "])
        comma = self.chance.choice([", ", ", ", ",", " , "])
        if depth and self.maybe(0.15):
            comma = ",\n" + " " * (indent + 4)
        number = self.chance.randint(0, 3)
        trailing = "," if number and self.maybe(0.1) else ""
        if self.maybe(0.5):
            names = self.chance.sample(["name", "b", "c", "é"], number)
            return (
                "{"
                + space
                + comma.join(f"{name}: {self.within(depth, indent)}" for name in names)
                + space
                + "}"
            )
        return (
            "["
            + space
            + comma.join(self.within(depth, indent) for _ in range(number))
            + trailing
            + space
            + "]"
        )

    def within(self, depth: int, indent: int) -> str:
        return self.flow(depth - 1, indent) if depth and self.maybe(0.3) else self.scalar(inside=True)


def written(chance: random.Random) -> str:
    """A file of one to three documents."""
    documents = ["\n".join(Writer(chance).document()) for _ in range(chance.choice([1, 1, 2, 3]))]
    between = chance.choice(["\n---\n", "\n--- # next\n", "\n...\n---\n", "\n\n# about it\n---\n"])
    text = chance.choice(["", "", "# file\n\n", "---\n"]) + between.join(documents)
    text += chance.choice(["\n", "\n", "\n", "", "\n# end\n"])
    if chance.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return chance.choice(["", "", "", "\ufeff"]) + text


def anything(chance: random.Random, depth: int = 2) -> Any:
    """A JSON value."""
    kind = chance.random()
    if depth and kind < 0.15:
        return {key: anything(chance, depth - 1) for key in chance.sample(KEYS, chance.randint(0, 3))}
    if depth and kind < 0.3:
        return [anything(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    return chance.choice(TEXTS) if kind < 0.75 else chance.choice(SCALARS)


def changed(chance: random.Random, value: Any, part: float) -> Any:
    """A value of which a part is another."""
    if chance.random() < part:
        return anything(chance)
    if isinstance(value, Mapping):
        found = {k: changed(chance, inner, part) for k, inner in value.items() if chance.random() >= part / 2}
        return found | ({chance.choice(KEYS): anything(chance)} if chance.random() < part else {})
    if isinstance(value, list):
        items = [changed(chance, inner, part) for inner in value if chance.random() >= part / 2]
        if chance.random() < part:
            new = chance.choice([anything(chance), {"name": "new", "run": "x\ny\n"}])
            items.insert(chance.randint(0, len(items)), new)
        if chance.random() < part / 2:
            chance.shuffle(items)
        return items
    return value


def documents_of(text: str) -> list[Composed]:
    """The documents of a text with or without a byte order mark."""
    return list(compose(text.removeprefix("\ufeff")))


class Case:
    """A file, one of its documents, and what that shall be."""

    def __init__(self, seed: int, part: float) -> None:
        chance = random.Random(seed)
        self.text = written(chance)
        self.documents = documents_of(self.text)
        assert not any(document.faults for document in self.documents)
        self.at = chance.randrange(len(self.documents))
        self.line = self.documents[self.at].line
        self.old: dict[str, Any] = self.documents[self.at].value
        rest = {key: value for key, value in self.old.items() if key != "kind"}
        new = changed(chance, rest, part)
        self.new = {"kind": "K"} | (new if isinstance(new, dict) else rest)
        self.changes = difference(self.old, self.new)

    def values(self) -> list[Any]:
        """What all documents say afterwards."""
        values = [document.value for document in self.documents]
        values[self.at] = self.new
        return values

    def untouched(self) -> list[str]:
        """The lines, but blank ones, that no change concerns."""
        lines = self.text.removeprefix("\ufeff").splitlines()
        concerned = {line for change in self.changes for line in self._concerned(change, lines)}
        return [line for at, line in enumerate(lines, 1) if at not in concerned and line.strip()]

    def _concerned(self, change: Change, lines: list[str]) -> Iterator[int]:
        """Lines of what a change sets or removes, up to the next value: comments there may go with it."""
        positions = self.documents[self.at].positions
        steps = change.steps
        if change.remove and isinstance(steps[-1], int):
            steps = steps[:-1]
        while not _has(self.old, steps[:-1]):  # in a list of which items above are removed
            steps = steps[:-1]
        around = positions[pointer(steps[:-1])]
        in_flow = lines[around[0] - 1][around[1] - 1 : around[1]] in ("{", "[")
        is_anew = not _at(self.old, steps[:-1]) or not _kept(self.old, self.new, steps[:-1])
        if not _has(self.old, steps) or in_flow or is_anew:
            if not in_flow and not is_anew:
                return
            steps = steps[:-1]
        where = pointer(steps)
        line, column = positions.of_key(where)
        others = [positions.of_key(name) for name in positions if not f"{name}/".startswith(f"{where}/")]
        after = [place[0] for place in others if place > (line, column)]
        next_documents = [document.line for document in self.documents[self.at + 1 :]]
        end = min([*after, *next_documents, len(lines) + 1])
        yield from range(line, max(end, line + 1))
        if change.remove or in_flow:
            yield end  # behind a dash the next key comes up; a bracket closes


def _at(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if not isinstance(value, dict if isinstance(step, str) else list):
            raise KeyError(step)
        value = value[step]
    return value


def _has(value: Any, steps: Sequence[str | int]) -> bool:
    try:
        _at(value, steps)
    except (KeyError, IndexError):
        return False
    return True


def _kept(old: Any, new: Any, steps: Sequence[str | int]) -> bool:
    """Whether some key of a mapping, or something of a list, is there before and after."""
    if not _has(new, steps):
        return False
    before, after = _at(old, steps), _at(new, steps)
    return not isinstance(before, Mapping) or (
        isinstance(after, Mapping) and bool(before.keys() & after.keys())
    )


def is_part(lines: list[str], whole: list[str]) -> bool:
    """Whether lines are in a text, in their order."""
    rest = iter(whole)
    return all(line in rest for line in lines)


@pytest.fixture
def dumps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry whenever a document is written anew."""
    found: list[str] = []
    dumped = editing.dumped

    def counted(text: str, *arguments: Any) -> str:
        found.append(text)
        return dumped(text, *arguments)

    monkeypatch.setattr(editing, "dumped", counted)
    return found


def test_what_is_read_afterwards_is_what_was_wanted(dumps: list[str]) -> None:
    """In all documents, with types; editing back gives the old value; few documents are written anew."""

    edited = 0

    @settings(max_examples=150, deadline=None, database=None)
    @given(SEEDS, st.sampled_from([0.02, 0.05, 0.15, 0.4]))
    def holds(seed: int, part: float) -> None:
        nonlocal edited
        case = Case(seed, part)
        before = len(dumps)
        after = edit(case.text, case.line, case.changes)
        edited += bool(case.changes)
        found = documents_of(after)
        assert same(case.values(), [document.value for document in found])
        if not case.changes:
            assert case.text == after
        if len(dumps) == before and "&a" not in case.text and case.text.endswith("\n"):
            assert is_part(case.untouched(), after.removeprefix("\ufeff").splitlines())
        line = found[case.at].line
        back = edit(after, line, difference(case.new, case.old))
        del dumps[before + 1 :]
        assert same([d.value for d in case.documents], [d.value for d in documents_of(back)])

    holds()
    assert len(dumps) < 0.05 * edited


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([0.05, 0.3]))
def test_a_difference_makes_the_old_the_new(seed: int, part: float) -> None:
    """And of equal values there is none."""
    case = Case(seed, part)
    assert same(case.new, applied(case.old, case.changes))
    assert not difference(case.new, case.new)
    assert len(case.changes) == 0 or not same(case.old, case.new)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_new_document_is_read_as_it_was_given(seed: int) -> None:
    """At the end of any file, whose text stays; and in a new one."""
    chance = random.Random(seed)
    text = chance.choice([None, "", "# only a comment\n", written(chance), written(chance)])
    new = {key: anything(chance, 4) for key in chance.sample(KEYS, 5)}
    after = append(text, new)
    before = documents_of(text or "")
    found = documents_of(after)
    assert same([*(d.value for d in before), new], [d.value for d in found])
    assert list(new) == list(found[-1].value)
    if text and text.endswith("\n"):
        assert after.startswith(text)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_documents_that_are_not_removed_stay(seed: int) -> None:
    """Line by line; the last one takes the file with it."""
    case = Case(seed, 0)
    after = remove(case.text, case.line)
    kept = [document for document in case.documents if document.line != case.line]
    if after is None:
        assert not kept
        return
    assert same([d.value for d in kept], [d.value for d in documents_of(after)])
    assert is_part(after.removeprefix("\ufeff").splitlines(), case.text.removeprefix("\ufeff").splitlines())


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.sampled_from(TEXTS), st.booleans())
def test_any_text_is_read_as_it_was_written(value: str, inside: bool) -> None:
    """Quoted or not, in flow and in block style."""
    style = quoted(value, inside=inside)
    read = documents_of(f"a: [{style}]\n" if inside else f"a: {style}\n")[0]
    assert (read.value["a"] == [value]) if inside else (read.value["a"] == value)
