"""Words that narrow lists: one that nothing is ever called by is a mistake, and not an empty list."""

from __future__ import annotations

from collections.abc import Iterable

from litestar.exceptions import ClientException

from specs.nearest import did_you_mean

_FEW = 16


def one_of(what: str, word: str | None, known: Iterable[str]) -> None:
    """400 with the words there are, or the nearest of many, where a word is given and is none of them."""
    words = list(known)
    if word is not None and word not in words:
        there = f"; there are {', '.join(words)}" if len(words) <= _FEW else did_you_mean(word, words)
        raise ClientException(detail=f"there is no {what} {word!r}{there}")
