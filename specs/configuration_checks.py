"""Checks of plain values of a project configuration: what may stand at a key, as small functions that are
put together to tables.

Called by the tables in specs.configuration_shape. A check yields the faults of a value and everything in it;
it never changes anything and never raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specs.configuration_durations import BadDuration, seconds
from specs.configuration_faults import NOT_YET, Chain, ConfigurationFault, Faults
from specs.configuration_matches import expression_fault
from specs.nearest import did_you_mean

Check = Callable[[Chain, Any], Faults]

LONGEST_NAME = 500
MOST_KEY_BYTES = 600
_SHOWN = 100


def fault(where: Chain, message: str) -> Faults:
    """One fault."""
    yield ConfigurationFault(where, message)


def text(where: Chain, value: Any) -> Faults:
    """Any text that a process can be given."""
    if not isinstance(value, str):
        yield from fault(where, f"must be a text, not {kind_of(value)}{_quotes(value)}")
    elif "\x00" in value:
        yield from fault(where, "must not hold a NUL character")


def name(where: Chain, value: Any) -> Faults:
    """A key or a name: one line of text."""
    if isinstance(value, str) and not (0 < len(value) <= LONGEST_NAME and value.isprintable()):
        yield from fault(where, f"must be one line of 1 to {LONGEST_NAME} characters")
    else:
        yield from text(where, value)


def job_key(where: Chain, value: Any) -> Faults:
    """A key by which a job can be kept and found again."""
    faults = list(name(where, value))
    if not faults and len(value.encode()) > MOST_KEY_BYTES:
        yield from fault(where, f"must have at most {MOST_KEY_BYTES} bytes in UTF-8")
    yield from faults


def text_up_to(longest: int) -> Check:
    """A text that is not empty, of so many characters at most."""

    def check(where: Chain, value: Any) -> Faults:
        if isinstance(value, str) and not value.strip():
            yield from fault(where, "must not be empty")
        elif isinstance(value, str) and len(value) > longest:
            yield from fault(where, f"must have at most {longest} characters; this one has {len(value)}")
        else:
            yield from text(where, value)

    return check


def flag(where: Chain, value: Any) -> Faults:
    """True or false."""
    if not isinstance(value, bool):
        yield from fault(where, f"must be true or false, not {kind_of(value)}")


def whole(low: int, high: int) -> Check:
    """A whole number."""

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, int) or isinstance(value, bool):
            yield from fault(where, f"must be a whole number, not {kind_of(value)}")
        elif not low <= value <= high:
            yield from fault(where, f"must be between {low} and {high}")

    return check


def number_above_zero(most: float) -> Check:
    """A number above 0."""

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            yield from fault(where, f"must be a number, not {kind_of(value)}")
        elif not 0 < value <= most:
            yield from fault(where, f"must be greater than 0 and at most {most:g}")

    return check


def choice(words: Sequence[str]) -> Check:
    """One of some words."""

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, str):
            yield from fault(where, f"must be one of {', '.join(words)}, not {kind_of(value)}")
        elif value not in words:
            yield from fault(where, f'"{value[:_SHOWN]}" is not known here{did_you_mean(value, words)}')

    return check


def duration(where: Chain, value: Any) -> Faults:
    """A duration with units."""
    if not isinstance(value, str):
        yield from fault(where, f'must be a text with a unit such as "3 minutes", not {kind_of(value)}')
        return
    try:
        seconds(value)
    except BadDuration as bad:
        yield from fault(where, str(bad))


def duration_up_to(most: int) -> Check:
    """A duration of so many seconds at most."""

    def check(where: Chain, value: Any) -> Faults:
        faults = list(duration(where, value))
        if not faults and seconds(value) > most:
            yield from fault(where, f"must be at most {most} seconds")
        yield from faults

    return check


def expression(where: Chain, value: Any) -> Faults:
    """A regular expression."""
    if not isinstance(value, str):
        yield from fault(where, f"must be a regular expression as a text, not {kind_of(value)}")
    elif message := expression_fault(value):
        yield from fault(where, message)


def branch_expression(where: Chain, value: Any) -> Faults:
    """A regular expression, or true or false, or blank."""
    if not isinstance(value, bool) and not (isinstance(value, str) and not value.strip()):
        yield from expression(where, value)


def list_of(check_item: Check, at_least: int = 0) -> Check:
    """A list."""

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, list):
            yield from fault(where, f"must be a list, not {kind_of(value)}")
            return
        if len(value) < at_least:
            yield from fault(where, "must not be empty")
        for at, item in enumerate(value):
            yield from check_item((*where, str(at)), item)

    return check


def map_of(check_value: Check, check_key: Check = name) -> Check:
    """A map whose keys are free."""

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, dict):
            yield from fault(where, f"must be a map, not {kind_of(value)}")
            return
        for key, item in value.items():
            yield from check_key((*where, key), key)
            yield from check_value((*where, key), item)

    return check


def keys(
    known: Mapping[str, Check],
    required: Sequence[str] = (),
    left_out: Sequence[str] = (),
    hints: Mapping[str, str] | None = None,
) -> Check:
    """A map of known keys. `left_out`: known ones that are not carried out; `hints`: what to write in place
    of keys that people look for here.
    """

    def check(where: Chain, value: Any) -> Faults:
        if not isinstance(value, dict):
            yield from fault(where, f"must be a map, not {kind_of(value)}")
            return
        for key, item in value.items():
            if key in left_out:
                yield from fault(where, NOT_YET.format(key=key))
            elif key in known:
                yield from known[key]((*where, key), item)
            else:
                hint = f"; {hints[key]}" if hints and key in hints else did_you_mean(key, known)
                yield from fault(where, f'unknown key "{key[:_SHOWN]}"{hint}')
        for key in required:
            if key not in value:
                yield from fault(where, f"`{key}` is missing")

    return check


def either(*checks: tuple[type, Check], otherwise: str) -> Check:
    """The check of the value's type."""

    def check(where: Chain, value: Any) -> Faults:
        for of, inner in checks:
            if isinstance(value, of):
                yield from inner(where, value)
                return
        yield from fault(where, f"must be {otherwise}, not {kind_of(value)}")

    return check


def both(*checks: Check) -> Check:
    """All of some checks."""

    def check(where: Chain, value: Any) -> Faults:
        for inner in checks:
            yield from inner(where, value)

    return check


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", str: "a text", dict: "a map", list: "a list"}
    return names.get(type(value), "a number")


def _quotes(value: Any) -> str:
    return "; put it in quotes" if isinstance(value, bool | int | float) else ""
