"""YAML text to plain values with positions: one pass over the events of libyaml, YAML 1.2 core types,
strict limits.

Called by the loader only. Works on events, never on nodes: nothing recurses, so nesting cannot break the
process. Tags, merge keys, complex keys, duplicate keys and keys that are not text are faults of the
document; alias bombs, deep nesting and broken syntax end the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import yaml
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from specs.errors import Fault
from specs.positions import Positions, escape
from specs.scalars import BadScalar, Scalar, resolve
from specs.syntax import syntax_fault

DEEPEST = 50
MOST_ALIASES = 20


class Mark(Protocol):
    """Where an event begins; both count from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Composed:
    """One document: its value, where its values stand, its faults, and the pointers of those."""

    value: Any
    line: int
    positions: Positions
    faults: tuple[Fault, ...]
    fault_pointers: tuple[str, ...]


class Unreadable(Exception):
    """The rest of the text cannot be read; carries the fault. Never leaves the loader."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being filled."""

    value: dict[str, Any] | list[Any]
    pointer: str
    mark: Mark
    anchor: str | None
    key: str | None = None
    key_mark: Mark | None = None
    height: int = 1
    aliases: int = 0


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    height: int
    aliases: int


@dataclass(slots=True)
class _Builder:
    """Fills one document from events."""

    line: int = 1
    root: Any = None
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    aliases: int = 0
    empty: bool = True

    def composed(self) -> Composed:
        positions = Positions("\n".join(self.rows))
        return Composed(self.root, self.line, positions, tuple(self.faults), tuple(self.pointers))

    def fault(self, mark: Mark, message: str, pointer: str | None = None) -> None:
        self.faults.append(Fault(mark.line + 1, mark.column + 1, message))
        self.pointers.append(self._pointer() if pointer is None else pointer)

    def _pointer(self) -> str:
        if not self.stack:
            return ""
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            return f"{frame.pointer}/{len(frame.value)}"
        return frame.pointer if frame.key is None else f"{frame.pointer}/{escape(frame.key)}"

    def scalar(self, event: ScalarEvent) -> None:
        mark = _mark(event)
        value: Scalar = event.value
        plain = event.style in (None, "")
        if event.tag is not None:
            self.fault(mark, f"tags are not allowed; leave {event.tag} out")
        elif plain:
            try:
                value = resolve(event.value)
            except BadScalar as bad:
                self.fault(mark, str(bad))
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, 0, 0)
        if plain and value == "<<" and self._wants_key():
            self.fault(mark, "merge keys (<<) are not allowed; write the fields out, or use defaults")
        self.add(value, mark, 0, 0)

    def start(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        mark = _mark(event)
        if len(self.stack) >= DEEPEST:
            raise _unreadable(mark, f"nested deeper than {DEEPEST} levels")
        if event.tag is not None:
            self.fault(mark, f"tags are not allowed; leave {event.tag} out")
        value: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        self.stack.append(_Frame(value, self._pointer(), mark, event.anchor))

    def end(self) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = _Anchored(frame.value, frame.height, frame.aliases)
        self.add(frame.value, frame.mark, frame.height, frame.aliases)

    def alias(self, event: AliasEvent) -> None:
        name, mark = str(event.anchor), _mark(event)
        anchored = self.anchors.get(name)
        if anchored is None:
            self.fault(mark, f"no anchor &{name} stands before *{name}; if it is text, quote it or use |")
            anchored = _Anchored(None, 0, 0)
        self.aliases += 1 + anchored.aliases
        if self.aliases > MOST_ALIASES:
            raise _unreadable(
                mark, f"more than {MOST_ALIASES} aliases are expanded in this document; write the values out"
            )
        if len(self.stack) + anchored.height > DEEPEST:
            raise _unreadable(mark, f"nested deeper than {DEEPEST} levels through the alias *{name}")
        self.add(anchored.value, mark, anchored.height, 1 + anchored.aliases)

    def _wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def add(self, value: Any, mark: Mark, height: int, aliases: int) -> None:
        if not self.stack:
            self.root, self.empty, self.line = value, value is None, mark.line + 1
            self.rows.append(f"{mark.line + 1},{mark.column + 1} ")
            return
        frame = self.stack[-1]
        frame.height = max(frame.height, height + 1)
        frame.aliases += aliases
        if isinstance(frame.value, list):
            self.rows.append(f"{mark.line + 1},{mark.column + 1} {frame.pointer}/{len(frame.value)}")
            frame.value.append(value)
        elif frame.key is None:
            self._key(frame, value, mark)
        else:
            self._entry(frame, frame.key, value, mark)

    def _key(self, frame: _Frame, value: Any, mark: Mark) -> None:
        if isinstance(value, (dict, list)):
            self.fault(mark, "a key must be text, not a mapping or a list", frame.pointer)
            value = f"<{mark.line}:{mark.column}>"
        elif not isinstance(value, str):
            self.fault(mark, f'a key must be text; write "{_shown(value)}" in quotes', frame.pointer)
            value = _shown(value)
        frame.key, frame.key_mark = value, mark

    def _entry(self, frame: _Frame, key: str, value: Any, mark: Mark) -> None:
        name = f"{frame.pointer}/{escape(key)}"
        key_mark = frame.key_mark or mark
        if key in frame.value:
            self.fault(key_mark, f'"{key}" stands here twice; keep one', name)
        else:
            place = f"{mark.line + 1},{mark.column + 1},{key_mark.line + 1},{key_mark.column + 1}"
            self.rows.append(f"{place} {name}")
            frame.value[key] = value  # type: ignore[call-overload]
        frame.key = frame.key_mark = None


def compose(text: str) -> Iterator[Composed]:
    """Each document of a text that is not empty; raises Unreadable where the text cannot be read on."""
    parser = CParser(text)
    builder = _Builder()
    try:
        while (event := parser.get_event()) is not None:
            if isinstance(event, DocumentStartEvent):
                builder = _Builder(_mark(event).line + 1)
                _check_directives(builder, event)
            elif isinstance(event, DocumentEndEvent):
                if not builder.empty:
                    yield builder.composed()
            else:
                _take(builder, event)
    except yaml.YAMLError as error:
        key = builder.stack[-1].key if builder.stack else None
        raise Unreadable(syntax_fault(error, text, key)) from None
    except (ValueError, KeyError, RecursionError, OverflowError) as error:
        line = builder.stack[-1].mark.line + 1 if builder.stack else 1
        raise Unreadable(Fault(line, 1, f"cannot be read as YAML: {error}")) from None
    finally:
        parser.dispose()


def _take(builder: _Builder, event: Event) -> None:
    if isinstance(event, ScalarEvent):
        builder.scalar(event)
    elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
        builder.end()
    elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
        builder.start(event)
    elif isinstance(event, AliasEvent):
        builder.alias(event)


def _mark(event: Event) -> Mark:
    """Where an event begins; libyaml always says so."""
    return cast("Mark", event.start_mark)


def _check_directives(builder: _Builder, event: DocumentStartEvent) -> None:
    if event.version and tuple(event.version) != (1, 2):
        builder.fault(_mark(event), "specifications are YAML 1.2; leave the %YAML directive out", "")
    if event.tags:
        builder.fault(_mark(event), "tags are not allowed; leave the %TAG directive out", "")


def _unreadable(mark: Mark, message: str) -> Unreadable:
    return Unreadable(Fault(mark.line + 1, mark.column + 1, message))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
