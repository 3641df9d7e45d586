"""The YAML 1.2 core schema: what an unquoted text means.

Called by the composer for plain scalars only. Dates, `on`, `yes` and `1_000` are text here, as the core
schema has it.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)

_LARGEST = 2**63
_LONGEST_INT = 70


class BadScalar(ValueError):
    """A number that no specification can hold."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar; BadScalar for numbers that are endless or do not fit 64 bits."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if _INT.fullmatch(text):
        return _whole(text, 10)
    if _OCTAL.fullmatch(text):
        return _whole(text[2:], 8)
    if _HEX.fullmatch(text):
        return _whole(text[2:], 16)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise BadScalar("the number is too large; if it is text, quote it")
        return value
    if _ENDLESS.fullmatch(text):
        raise BadScalar(f"{text} is not a number that a specification can hold; if it is text, quote it")
    return text


def _whole(digits: str, base: int) -> int:
    value = int(digits, base) if len(digits) <= _LONGEST_INT else _LARGEST
    if not -_LARGEST <= value < _LARGEST:
        raise BadScalar("the number is too large; if it is text, quote it")
    return value
