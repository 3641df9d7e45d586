"""Our states as the words of Cider-CI, in one table (cider-ci, 2.9, 8.1; design 13.4), and back for filters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.job import State

S = State
Words = Mapping[State, str]


def _same(*states: State) -> dict[State, str]:
    return {state: state.value for state in states}


_ENDED = (S.PASSED, S.FAILED, S.ABORTED, S.DEFECTIVE)
JOB: Words = _same(S.PENDING, S.EXECUTING, S.ABORTING, *_ENDED)
TASK: Words = {**JOB, S.SKIPPED: "aborted"}  # no task is skipped there
TRIAL: Words = _same(S.PENDING, S.DISPATCHING, S.EXECUTING, S.ABORTING, *_ENDED)
SCRIPT: Words = _same(S.PENDING, S.WAITING, S.EXECUTING, *_ENDED, S.SKIPPED)

_ALIASES = {"success": "passed"}


def meant(words: Words, word: str) -> tuple[State, ...]:
    """The states that a filter's word stands for; none for a word that is no state there."""
    named = _ALIASES.get(word, word)
    return tuple(state for state, shown in words.items() if shown == named)


def counted(states: Iterable[State]) -> dict[str, int]:
    """How many tasks are in each state, in the words for tasks; all words are there (4.5)."""
    found = dict.fromkeys(TASK.values(), 0)
    for state in states:
        found[TASK[state]] += 1
    return found
