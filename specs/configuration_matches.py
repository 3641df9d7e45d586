"""Matches of a project configuration: regular expressions searched anywhere in a text (cider-ci, section 6).

Called by the checks, the conditions, the generated tasks, and whoever decides about branches and attachments.
The expressions come from repositories, so they run on the linear-time engine that pydantic brings: it refuses
look-around and back-references, and no expression makes it wait. What an expression may repeat is limited
too, since its size is the other factor.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST = 500
MOST_REPEATED = 256
"""The product of all counts `{n}` of an expression."""

MOST_CLASSES = 60
"""That product times the number of `\\w`, `\\W`, `\\p` and `\\P`, which stand for hundreds of ranges each."""

_CLASS = re.compile(r"\\[wWpP]")
_COUNT = re.compile(r"\{\s*([0-9]*)\s*(?:,\s*([0-9]*)\s*)?\}", re.ASCII)

Match = str | bool | None
"""An expression; for branches also true (all), or nothing at all (none)."""


@lru_cache(maxsize=1024)
def expression_fault(pattern: str) -> str | None:
    """What is wrong with a regular expression, as a sentence after the key's name, or None."""
    if not pattern:
        return "must not be empty"
    if len(pattern) > LONGEST:
        return f"must have at most {LONGEST} characters"
    repeated = _repeated(pattern)
    if repeated * len(_CLASS.findall(pattern)) > MOST_CLASSES:
        return f"must have at most {MOST_CLASSES} of \\w and \\p, multiplied by all counts {{n}}; write [a-z0-9_]"
    if repeated > MOST_REPEATED:
        return f"must not repeat more than {MOST_REPEATED} times, all counts {{n}} multiplied"
    try:
        _compiled(pattern)
    except SchemaError as error:
        return f"must be a regular expression: {_reason(str(error))}"
    return None


def weight(pattern: str) -> int:
    """How much there is to prepare: the parts of an expression as often as they are repeated, classes above
    all. Of any text.
    """
    repeated = min(_repeated(pattern[:LONGEST]), MOST_REPEATED)
    return 1 + repeated // 20 + repeated * min(len(_CLASS.findall(pattern[:LONGEST])), MOST_CLASSES)


def found(pattern: str, text: str) -> bool:
    """Whether a valid expression fits anywhere in a text."""
    return _compiled(pattern).isinstance_python(text)


def matches(include: str, exclude: str | None, text: str) -> bool:
    """Whether a text is included and not excluded."""
    return found(include, text) and not (exclude and found(exclude, text))


def branch_matches(include: Match, exclude: Match, branch: str) -> bool:
    """The same for branches: blank or false fits none, true fits all."""
    return _branch(include, branch) and not _branch(exclude, branch)


def _branch(match: Match, branch: str) -> bool:
    if isinstance(match, str):
        return bool(match.strip()) and found(match, branch)
    return match is True


def _repeated(pattern: str) -> int:
    product = 1
    for low, high in _COUNT.findall(pattern):
        counts = [int(digits[:9]) for digits in (low, high) if digits]
        product *= max([1, *counts])
    return product


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _reason(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip().startswith("error:")), "")
    reason = line.strip().removeprefix("error:").strip() or "it is too large"
    if "look-around" in reason:
        return "look-ahead and look-behind are not supported; use `exclude_match`"
    return reason
