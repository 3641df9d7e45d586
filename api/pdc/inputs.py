"""The keys of bodies: what each takes, and the text for what it does not take (pdc, 3.7).

Pure but for what a key names, which is looked up in the draft that the request changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from api.pdc.errors import Failure, detail
from reconciler.commands.products import Draft

REQUIRED = "This field is required."
NOT_NULL = "This field may not be null."
NOT_BLANK = "This field may not be blank."
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TRUE = ("t", "T", "true", "True", "TRUE", "1")
_FALSE = ("f", "F", "false", "False", "FALSE", "0")


class Wrong(ValueError):
    """A value that a key does not take, with the text for it."""


Parse = Callable[[Any, Draft], Any]
"""From what was sent, which is not null, to what is meant; Wrong."""


@dataclass(frozen=True, slots=True)
class Input:
    """A key of a body. `nullable`: null may be sent, and means none; `default`: what it is where it is missing."""

    name: str
    parse: Parse
    required: bool = False
    nullable: bool = False
    default: Any = None


def taken(body: Any, inputs: Iterable[Input], read_only: Iterable[str], draft: Draft, *, whole: bool) -> Any:
    """The values of a body by key: of all keys if it is to be `whole`, else of those that are in it.

    The first sort of fault that there is answers alone: no object, unknown keys, read-only keys, wrong values.
    """
    if not isinstance(body, dict):
        raise detail(400, f"Invalid data. Expected a dictionary, but got {_word(body)}.")
    known = {each.name: each for each in inputs}
    closed = set(read_only)
    unknown = sorted(key for key in body if key not in known and key not in closed)
    if unknown:
        raise detail(400, f"Unknown fields: {', '.join(map(repr, unknown))}.")
    untouchable = sorted(closed & body.keys())
    if untouchable:
        raise detail(400, f"Read-only fields: {', '.join(untouchable)}.")
    values: dict[str, Any] = {}
    faults: dict[str, list[str]] = {}
    for name, each in known.items():
        try:
            if name in body:
                values[name] = _value(each, body[name], draft)
            elif whole:
                values[name] = _missing(each)
        except Wrong as wrong:
            faults[name] = [str(wrong)]
    if faults:
        raise Failure(400, faults)
    return values


def _value(each: Input, given: Any, draft: Draft) -> Any:
    if given is None:
        if each.nullable:
            return None
        raise Wrong(NOT_NULL)
    return each.parse(given, draft)


def _missing(each: Input) -> Any:
    if each.required:
        raise Wrong(REQUIRED)
    return each.default


def words(given: Any) -> str:
    """A text, without blanks at its ends; numbers count as texts."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise Wrong("Not a valid string.")
    found = str(given).strip()
    if _CONTROL.search(found):
        raise Wrong("Control characters are not allowed.")
    return found


def text(most: int = 300, *, blank: bool = False, fault: Callable[[str], str | None] | None = None) -> Parse:
    """A text of at most so many characters; `fault` says what else is wrong with it."""

    def parse(given: Any, _draft: Draft) -> str:
        found = words(given)
        if not found and not blank:
            raise Wrong(NOT_BLANK)
        if len(found) > most:
            raise Wrong(f"Ensure this field has no more than {most} characters.")
        told = fault(found) if fault is not None and found else None
        if told:
            raise Wrong(told)
        return found

    return parse


def boolean(given: Any, _draft: Draft) -> bool:
    """True or false, or a word for it."""
    if isinstance(given, bool):
        return given
    said = str(given) if isinstance(given, str | int) else ""
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    raise Wrong(f"{_word(given)} is not a valid boolean.")


def day(given: Any, _draft: Draft) -> str:
    """A day of the calendar, with two digits for month and day."""
    found = _DATE.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise Wrong("Date has wrong format. Use one of these formats instead: YYYY-MM-DD.")
    try:
        return date(*map(int, found.groups())).isoformat()
    except ValueError:
        raise Wrong("This is no day of the calendar. Use this format: YYYY-MM-DD.") from None


def read_day(value: str) -> str | None:
    """The day that a filter means; None: none."""
    found = _DATE.fullmatch(value)
    try:
        return None if found is None else date(*map(int, found.groups())).isoformat()
    except ValueError:
        return None


def named(kind: str, key: str) -> Parse:
    """The name of an object that there is; an empty one counts as null."""

    def parse(given: Any, draft: Draft) -> str:
        found = words(given)
        if not found:
            raise Wrong(NOT_NULL)
        if draft.find(kind, found) is None:
            raise Wrong(f"Object with {key}={found} does not exist.")
        return found

    return parse


def sla(given: Any, draft: Draft) -> str:
    """The name of an SLA; the text for any other tells them all. An empty one counts as null."""
    found = words(given)
    if not found:
        raise Wrong(NOT_NULL)
    if draft.find("SLA", found) is None:
        raise Wrong(_not_allowed(found, draft.names("SLA")))
    return found


def one_of(names: Collection[str]) -> Parse:
    """One of these names; an empty one counts as null."""

    def parse(given: Any, _draft: Draft) -> str:
        found = words(given)
        if not found:
            raise Wrong(NOT_NULL)
        if found not in names:
            raise Wrong(_not_allowed(found, names))
        return found

    return parse


def _not_allowed(found: str, names: Iterable[str]) -> str:
    told = ", ".join(f"'{name}'" for name in names)
    return f"'{found}' is not an allowed value. Allowed values are: {told}."


def nothing(what: str) -> Parse:
    """A key of which nothing is kept here: null only."""

    def parse(_given: Any, _draft: Draft) -> None:
        raise Wrong(f"This server keeps no {what}: only null is accepted.")

    return parse


def empty(what: str) -> Parse:
    """A list that stays empty here."""

    def parse(given: Any, _draft: Draft) -> list[Any]:
        if given != []:
            raise Wrong(f"This server keeps no {what}: only [] is accepted.")
        return []

    return parse


def holder(key: str) -> Parse:
    """An object with just one key, which has a text."""
    inner = text()

    def parse(given: Any, draft: Draft) -> dict[str, str]:
        if not isinstance(given, Mapping) or set(given) != {key}:
            raise Wrong(f'Expected an object with the key "{key}" only.')
        return {key: inner(given[key], draft) if given[key] is not None else _raise(NOT_NULL)}

    return parse


def _raise(told: str) -> str:
    raise Wrong(told)


def _word(value: Any) -> str:
    names = {
        str: "str",
        int: "int",
        float: "float",
        bool: "bool",
        list: "list",
        dict: "dict",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
