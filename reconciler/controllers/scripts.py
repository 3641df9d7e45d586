"""Scripts of one trial that wait for each other: which start, which never will, how it ends (cider-ci 5.4, 5.5).

Pure. `step` says what is to be done now; `execution.several` does it, notes what came of it, and asks again. A trial
whose task has a script of its own has nothing to do with this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.model.job import Reason, State

Outcome = tuple[State, str | None]
Found = Mapping[str, Outcome]
"""State and reason of each script by name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds while the script of this name is in one of these states."""

    script: str
    states: frozenset[State]


@dataclass(frozen=True, slots=True)
class Part:
    """One script. `unmet`: why it is skipped when a condition of its start can hold no more."""

    name: str
    start_when: tuple[Condition, ...]
    terminate_when: tuple[Condition, ...]
    ignore_abort: bool
    ignore_state: bool
    unmet: Reason


@dataclass(frozen=True, slots=True)
class Step:
    """Scripts to start, to skip and why, and to end now; `over`: nothing runs, and nothing will."""

    start: tuple[str, ...] = ()
    skip: tuple[tuple[str, Reason], ...] = ()
    end: tuple[str, ...] = ()
    over: bool = False


def parts(policy: Mapping[str, Any]) -> tuple[Part, ...]:
    """The scripts of a task in their order; none where it has one of its own."""
    unmet = Reason.NOT_REACHED if policy.get("completed_by") else Reason.UNSATISFIABLE
    return tuple(
        Part(
            script["name"],
            _conditions(script.get("start_when") or ()),
            _conditions(script.get("terminate_when") or ()),
            bool(script.get("ignore_abort")),
            bool(script.get("ignore_state")),
            unmet,
        )
        for script in policy.get("scripts") or ()
    )


def _conditions(wanted: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    return tuple(Condition(each["script"], frozenset(map(State, each["states"]))) for each in wanted)


def step(known: Iterable[Part], found: Found, *, stopping: bool, completed: bool) -> Step:
    """What follows from the states. `stopping`: the trial is ended; `completed`: what is left need not run."""
    known = tuple(known)
    waiting = [part for part in known if found[part.name][0] in (State.PENDING, State.WAITING)]
    skip: list[tuple[str, Reason]] = []
    start: list[str] = []
    for part in waiting:
        reason = _never(part, found, stopping=stopping, completed=completed)
        if reason is not None:
            skip.append((part.name, reason))
        elif found[part.name][0] is State.WAITING or _hold(part.start_when, found):
            start.append(part.name)
    running = [part for part in known if found[part.name][0] is State.EXECUTING]
    end = [part.name for part in running if part.terminate_when and _hold(part.terminate_when, found)]
    if (
        not running and not start and not skip
    ):  # what still waits, waits for what is not there, or for each other
        skip = [(part.name, part.unmet) for part in waiting]
    return Step(tuple(start), tuple(skip), tuple(end), over=not running and not start and not skip)


def _never(part: Part, found: Found, *, stopping: bool, completed: bool) -> Reason | None:
    if stopping and not part.ignore_abort:
        return Reason.NOT_REACHED
    if found[part.name][0] is State.WAITING:
        return None  # it has been chosen, whatever its conditions are by now
    if completed:
        return Reason.COMPLETED
    ended = (found.get(each.script, (State.PENDING, None))[0] for each in part.start_when)
    if any(s.finished and s not in each.states for s, each in zip(ended, part.start_when, strict=True)):
        return part.unmet
    return None


def _hold(conditions: Iterable[Condition], found: Found) -> bool:
    return all(each.script in found and found[each.script][0] in each.states for each in conditions)


def verdict(known: Iterable[Part], found: Found) -> Outcome:
    """State and reason of a trial whose scripts have all ended."""
    counted = [found[part.name] for part in known if not part.ignore_state]
    counted = [each for each in counted if each != (State.SKIPPED, Reason.COMPLETED)]
    states = {state for state, _ in counted}
    if not counted:
        return State.DEFECTIVE, Reason.UNSATISFIABLE
    if states == {State.PASSED}:
        return State.PASSED, None
    if states == {State.ABORTED}:
        return State.ABORTED, counted[0][1]
    for state in (State.DEFECTIVE, State.FAILED):
        if state in states:
            return state, next(reason for each, reason in counted if each is state)
    return State.DEFECTIVE, next((reason for each, reason in counted if each is State.SKIPPED), None)
