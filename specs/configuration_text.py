"""The bytes of one file of a project configuration to a plain value: YAML 1.2 or JSON, within limits.

Called by the expansion for every file that it takes. Never looks into what it has read; raises UnreadableFile
only.
"""

from __future__ import annotations

import json
import re
from typing import Any

from specs.compose import DEEPEST, Unreadable, compose
from specs.errors import Fault
from specs.loader import LARGEST_FILE

_LONGEST_NUMBER = 30
_LARGEST = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableFile(Exception):
    """A file that is not text, not YAML or not JSON; the sentence says where."""


def plain_text(path: str, data: bytes) -> str:
    """The text of a file, without a byte order mark."""
    if len(data) > LARGEST_FILE:
        raise UnreadableFile(f"{path}: the file has {len(data)} bytes; the limit is {LARGEST_FILE}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableFile(f"{path}: not UTF-8; save the file as UTF-8") from None
    if "\x00" in text:
        raise UnreadableFile(f"{path}: holds a NUL character; is this a text file?")
    return text.removeprefix("\ufeff")


def document(path: str, data: bytes) -> Any:
    """The value of a file: JSON where its name ends in `.json`, else YAML with one document."""
    text = plain_text(path, data)
    return _json(path, text) if path.endswith(".json") else _yaml(path, text)


def _yaml(path: str, text: str) -> Any:
    try:
        found = list(compose(text))
    except Unreadable as unreadable:
        raise UnreadableFile(_located(path, unreadable.fault)) from None
    faults = [fault for composed in found for fault in composed.faults]
    if faults:
        raise UnreadableFile("; ".join(_located(path, fault) for fault in faults[:10]))
    if len(found) > 1:
        raise UnreadableFile(f"{path}:{found[1].line}:1: a second document begins here; keep one")
    if not found:
        raise UnreadableFile(f"{path}: the file is empty")
    return found[0].value


def _located(path: str, fault: Fault) -> str:
    return f"{path}:{fault.line}:{fault.column}: {fault.message}"


def _json(path: str, text: str) -> Any:
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_int=_whole,
            parse_float=_fraction,
        )
    except json.JSONDecodeError as error:
        raise UnreadableFile(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise UnreadableFile(f"{path}: not valid JSON: {error}") from None
    except RecursionError:
        raise UnreadableFile(f"{path}: nested deeper than {DEEPEST} levels") from None
    _check(path, value)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{json.dumps(key[:_LONGEST_NUMBER])} stands in an object twice; keep one")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER or abs(int(digits)) >= _LARGEST:
        raise ValueError(f"the number {digits[:_LONGEST_NUMBER]} does not fit 64 bits")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if abs(number) == float("inf"):
        raise ValueError(f"the number {digits[:_LONGEST_NUMBER]} is too large")
    return number


def _check(path: str, value: Any) -> None:
    """Refuses what YAML's reader refuses by itself: deep nesting, and halves of characters."""
    left: list[tuple[Any, int]] = [(value, 0)]
    while left:
        found, depth = left.pop()
        if isinstance(found, str) and _SURROGATE.search(found):
            raise UnreadableFile(f"{path}: a text holds half of a character (\\ud800 to \\udfff alone)")
        if isinstance(found, dict | list):
            if depth >= DEEPEST:
                raise UnreadableFile(f"{path}: nested deeper than {DEEPEST} levels")
            inside = [*found, *found.values()] if isinstance(found, dict) else found
            left += ((item, depth + 1) for item in inside)
