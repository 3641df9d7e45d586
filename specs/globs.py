"""Globs: `*`, `?`, `[…]` within a path segment, `**` for any number of segments, as wcmatch's
GLOBSTAR|DOTGLOB has them.

Called by specs (checks) and controllers (file filters, branches, attachments). Matching is by hand and
takes time in proportion to pattern times path: patterns and paths come from repositories, and a regular
expression of eight wildcards against a name of 200 letters would take years.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

LONGEST = 200
MOST_WILDCARDS = 8

_WILDCARD = re.compile(r"\\.|(\*+|\?|\[)", re.DOTALL)

Piece = Callable[[str], bool] | None
"""One character's test; None stands for `*`."""


def check_glob(pattern: str) -> str | None:
    """What is wrong with a glob, as a sentence after the field's name, or None."""
    if not pattern:
        return "must not be empty"
    if len(pattern) > LONGEST:
        return f"must have at most {LONGEST} characters"
    if any(ord(c) < 32 or ord(c) == 127 for c in pattern):
        return "must not hold control characters"
    if sum(1 for found in _WILDCARD.finditer(pattern) if found[1]) > MOST_WILDCARDS:
        return f"must have at most {MOST_WILDCARDS} wildcards"
    if pattern.startswith("/"):
        return "must be relative; leave the leading / out"
    if ".." in pattern.split("/"):
        return "must not hold .. as a part"
    return None


def matches(pattern: str, path: str) -> bool:
    """Whether the whole path fits the pattern."""
    segments = path.split("/")
    if "**" not in pattern:
        tests = _segments(pattern)
        return len(tests) == len(segments) and all(
            test is not None and test(segment) for test, segment in zip(tests, segments, strict=True)
        )
    return _fits(_segments(pattern), segments)


def any_match(patterns: Iterable[str], path: str) -> bool:
    """Whether the path fits one of the patterns."""
    return any(matches(pattern, path) for pattern in patterns)


def any_url_match(patterns: Sequence[str], url: str) -> bool:
    """Does any pattern match a whole URL? Here `*` crosses slashes."""
    return any_match([pattern.replace("/", "\x1f") for pattern in patterns], url.replace("/", "\x1f"))


def branch_matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a branch or tag fits one of the patterns; `*` crosses no slash, `**` does."""
    return any_match(patterns, name)


@lru_cache(maxsize=4096)
def _segments(pattern: str) -> tuple[Piece, ...]:
    """A test for each segment of a pattern; None stands for `**`."""
    tests: list[Piece] = []
    for segment in pattern.split("/"):
        if segment == "**":
            if not tests or tests[-1] is not None:
                tests.append(None)
        else:
            tests.append(_segment_test(segment))
    # `a/**` is what is inside a, not a itself.
    return (*tests, _anything) if tests[-1] is None else tuple(tests)


def _segment_test(segment: str) -> Callable[[str], bool]:
    if not _WILDCARD.search(segment):
        return segment.__eq__
    pieces = tuple(_pieces(segment))
    return lambda text: _fits(pieces, text)


def _fits(tests: Sequence[Piece], items: Sequence[str]) -> bool:
    """Whether the items fit the tests one by one, where None takes any number: greedy, back to the last
    None only.
    """
    at = item = 0
    last = mark = -1
    while item < len(items):
        test = tests[at] if at < len(tests) else None
        if at < len(tests) and test is None:
            last, mark = at, item
            at += 1
        elif test is not None and test(items[item]):
            at, item = at + 1, item + 1
        elif last >= 0:
            mark += 1
            at, item = last + 1, mark
        else:
            return False
    return all(test is None for test in tests[at:])


def _pieces(segment: str) -> Iterable[Piece]:
    at = 0
    while at < len(segment):
        character = segment[at]
        at += 1
        if character == "*":
            while segment[at : at + 1] == "*":
                at += 1
            yield None
        elif character == "?":
            yield _anything
        elif character == "[" and (end := _class_end(segment, at)):
            yield _class_test(segment[at:end])
            at = end + 1
        elif character == "\\" and at < len(segment):
            yield segment[at].__eq__
            at += 1
        else:
            yield character.__eq__


def _anything(_item: str) -> bool:
    return True


def _class_end(segment: str, start: int) -> int:
    """Where the class that begins at `start` closes, or 0; a ] right after the opening stands for itself."""
    first = start + 1 if segment[start : start + 1] in ("!", "^") else start
    return segment.find("]", first + 1) if segment.find("]", first + 1) > 0 else 0


def _class_test(body: str) -> Callable[[str], bool]:
    negated = body[:1] in ("!", "^")
    body = body[1:] if negated else body
    singles: set[str] = set()
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            ranges.append((body[at], body[at + 2]))
            at += 3
        else:
            singles.add(body[at])
            at += 1

    def test(character: str) -> bool:
        inside = character in singles or any(low <= character <= high for low, high in ranges)
        return inside is not negated

    return test
