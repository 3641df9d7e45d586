"""The nearest known word to a misspelt one, for messages. Called wherever an unknown name is reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "tasks"?` where something near is known; else which words there are, or nothing."""
    choices = list(known)
    near = difflib.get_close_matches(word[:_LONGEST], choices, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known here: {', '.join(choices)}" if choices and len(choices) <= 8 else ""
