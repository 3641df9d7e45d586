"""What this API must know of one sort of objects: a value, made in a module of its own and served by the same routes.

Pure; `reading` and `writing` do what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.pdc.errors import Failure, detail
from api.pdc.inputs import Input
from api.pdc.query import Query
from reconciler.commands.products import Draft
from reconciler.model.product import Catalogue

Row = Any
"""An object as a list has it."""

Handle = Any
"""The same object while a request changes it: a `Thing` or an `Entry` of a draft."""

Values = dict[str, Any]
Predicate = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class View:
    """What an answer is made of: one state, one day (in UTC), and where this API is."""

    catalogue: Catalogue
    today: str
    base: str


Filter = Callable[[tuple[str, ...], View], Predicate | None]
"""From the values of a query key to what passes; None: everything does."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an object, as OPTIONS tells it."""

    name: str
    type: str = "string"
    required: bool = False
    read_only: bool = False
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Writes:
    """How objects are changed: each function works on a draft, and raises Failure.

    `current`: the values of an object's keys now; `stored`: its row afterwards; `row`: now, for filters; `key`: the KEY
    that declares it. Without `remove`, such objects cannot be removed here.
    """

    inputs: tuple[Input, ...]
    find: Callable[[Draft, str], Handle | None]
    create: Callable[[Draft, Values], Handle]
    current: Callable[[Handle], Values]
    change: Callable[[Draft, Handle, Values], None]
    row: Callable[[Catalogue, Handle], Row | None]
    stored: Callable[[Catalogue, Handle], Row | None]
    key: Callable[[Handle], str]
    remove: Callable[[Draft, Handle], None] | None = None


@dataclass(frozen=True, slots=True)
class Noun:
    """`rows` are in the order of lists; `near`: fewer of them where a filter allows that; `modified`: the sorts of
    objects whose last change is that of the list; `instead`: why nothing is written.
    """

    path: str
    title: str
    about: str
    keys: tuple[Key, ...]
    rows: Callable[[Catalogue], Sequence[Row]]
    body: Callable[[Row, View], Mapping[str, Any]]
    filters: Mapping[str, Filter] = field(default_factory=dict)
    find: Callable[[Catalogue, str], Row | None] = lambda _catalogue, _id: None
    order: Callable[[str], Callable[[Row], Any] | None] = lambda _name: None
    writes: Writes | None = None
    near: Callable[[Catalogue, Query], Sequence[Row]] | None = None
    modified: tuple[str, ...] = ()
    instead: str = ""

    @property
    def names(self) -> list[str]:
        """Of its keys."""
        return [key.name for key in self.keys]

    @property
    def read_only(self) -> list[str]:
        """The keys that may not be in a body."""
        return [key.name for key in self.keys if key.read_only]


def any_of(value: Callable[[Row], Any]) -> Filter:
    """Equal to one of the values."""
    return lambda values, _view: lambda row: value(row) in values


def containing(value: Callable[[Row], str]) -> Filter:
    """Having the last value somewhere inside, whatever the case."""

    def made(values: tuple[str, ...], _view: View) -> Predicate | None:
        wanted = values[-1].lower()
        return (lambda row: wanted in value(row).lower()) if wanted else None

    return made


def single(value: Callable[[Row], Any]) -> Filter:
    """Equal to the last value; an empty one does not matter."""

    def made(values: tuple[str, ...], _view: View) -> Predicate | None:
        wanted = values[-1]
        return (lambda row: value(row) == wanted) if wanted else None

    return made


def or_null(value: Callable[[Row], str | None]) -> Filter:
    """Equal to the last value, where `null` means having none; an empty one does not matter."""

    def made(values: tuple[str, ...], _view: View) -> Predicate | None:
        wanted = None if values[-1] == "null" else values[-1]
        return (lambda row: value(row) == wanted) if wanted != "" else None

    return made


def truth(name: str, value: Callable[[Row], bool]) -> Filter:
    """True or false, in words of any case (pdc, 5)."""

    def made(values: tuple[str, ...], _view: View) -> Predicate | None:
        said = values[-1].lower()
        if not said:
            return None
        if said not in ("true", "t", "1", "false", "f", "0"):
            raise detail(400, f"Value [{values[-1]}] of {name} is not a boolean.")
        wanted = said in ("true", "t", "1")
        return lambda row: value(row) is wanted

    return made


def by_value(values: Mapping[str, Callable[[Row], Any]]) -> Callable[[str], Callable[[Row], Any] | None]:
    """What is ordered by: of these keys; what has no value comes first."""

    def order(name: str) -> Callable[[Row], Any] | None:
        value = values.get(name)
        return None if value is None else lambda row: _missing_first(value(row))

    return order


def _missing_first(value: Any) -> tuple[bool, Any]:
    return value is not None, "" if value is None else value


def taken(texts: str) -> Failure:
    """A rule over several keys is broken."""
    return detail(400, [texts])
