"""Scripts that wait for each other: what follows from their states."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.controllers.scripts import Step, parts, step, verdict
from reconciler.model.job import Reason, State

P, W, E, OK, F, A, D, S = (
    State.PENDING,
    State.WAITING,
    State.EXECUTING,
    State.PASSED,
    State.FAILED,
    State.ABORTED,
    State.DEFECTIVE,
    State.SKIPPED,
)


def script(name: str, *after: str, states: tuple[str, ...] = ("passed",), **more: Any) -> dict[str, Any]:
    """One that starts when others are in some states."""
    return {"name": name, "start_when": [{"script": each, "states": list(states)} for each in after], **more}


def look(
    scripts: list[dict[str, Any]], *states: State, stopping: bool = False, completed: bool = False
) -> Step:
    """What is to be done when they are in these states."""
    known = parts({"scripts": scripts})
    found = {part.name: (state, None) for part, state in zip(known, states, strict=True)}
    return step(known, found, stopping=stopping, completed=completed)


CHAIN = [script("a"), script("b", "a"), script("c", "b")]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((P, P, P), Step(start=("a",))),
        ((E, P, P), Step()),
        ((OK, P, P), Step(start=("b",))),
        ((F, P, P), Step(skip=(("b", Reason.UNSATISFIABLE),))),
        ((F, S, P), Step(skip=(("c", Reason.UNSATISFIABLE),))),
        ((F, S, S), Step(over=True)),
        ((OK, OK, OK), Step(over=True)),
    ],
)
def test_one_after_the_other(states: tuple[State, ...], expected: Step) -> None:
    assert look(CHAIN, *states) == expected


def test_without_order_all_start_at_once() -> None:
    assert look([script("a"), script("b")], P, P) == Step(start=("a", "b"))


def test_a_script_may_wait_for_any_of_some_states() -> None:
    """It starts in the first of them, and is skipped only when none can come any more."""
    scripts = [script("server"), script("client", "server", states=("executing", "passed"))]
    assert look(scripts, P, P).start == ("server",)
    assert look(scripts, E, P).start == ("client",)
    assert look(scripts, W, P) == Step(start=("server",))
    assert look(scripts, D, P).skip == (("client", Reason.UNSATISFIABLE),)


def test_what_waits_for_what_is_not_there_is_skipped_when_nothing_runs() -> None:
    scripts = [script("a"), script("b", "nobody"), script("c", "d"), script("d", "c")]
    assert look(scripts, E, P, P, P) == Step()
    skipped = look(scripts, OK, P, P, P).skip
    assert skipped == tuple((name, Reason.UNSATISFIABLE) for name in "bcd")


def test_a_script_is_ended_when_all_conditions_hold() -> None:
    until = [{"script": "x", "states": ["passed", "failed"]}, {"script": "y", "states": ["passed"]}]
    scripts = [script("server", terminate_when=until), script("x"), script("y")]
    assert look(scripts, E, F, E).end == ()
    assert look(scripts, E, F, OK).end == ("server",)
    assert look(scripts, OK, F, OK).end == ()


def test_a_stop_skips_what_has_not_begun() -> None:
    """But for what ignores it."""
    scripts = [
        script("a"),
        script("b"),
        script("clean", "a", states=("aborted", "passed"), ignore_abort=True),
    ]
    assert look(scripts, E, P, P, stopping=True) == Step(skip=(("b", Reason.NOT_REACHED),))
    assert look(scripts, A, S, P, stopping=True) == Step(start=("clean",))


def test_what_is_completed_need_not_go_on() -> None:
    assert look(CHAIN, OK, P, P, completed=True).skip == (("b", Reason.COMPLETED), ("c", Reason.COMPLETED))


def test_in_a_sequence_what_comes_after_a_failure_is_not_reached() -> None:
    known = parts({"scripts": CHAIN, "completed_by": ".done"})
    found = {"a": (F, None), "b": (P, None), "c": (P, None)}
    assert step(known, found, stopping=False, completed=False).skip == (("b", Reason.NOT_REACHED),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((OK, OK), OK),
        ((OK, F), F),
        ((F, D), D),
        ((A, A), A),
        ((A, F), F),
        ((OK, S), D),
        ((OK, A), D),
    ],
)
def test_the_verdict(states: tuple[State, State], expected: State) -> None:
    """Cider-CI 5.4."""
    known = parts({"scripts": [script("a"), script("b")]})
    found = {part.name: (state, "why") for part, state in zip(known, states, strict=True)}
    assert verdict(known, found)[0] is expected


def test_what_is_ignored_and_what_was_not_needed_do_not_count() -> None:
    known = parts({"scripts": [script("a"), script("b", ignore_state=True), script("c")]})
    found = {"a": (OK, None), "b": (F, None), "c": (S, Reason.COMPLETED)}
    assert verdict(known, found) == (OK, None)
    alone = parts({"scripts": [script("b", ignore_state=True)]})
    assert verdict(alone, {"b": (OK, None)})[0] is D


def test_who_was_chosen_starts_though_its_conditions_hold_no_more() -> None:
    """It only waits for its turn; a stop still keeps it from starting."""
    scripts = [script("a"), script("b", "a", states=("executing",))]
    assert look(scripts, OK, W) == Step(start=("b",))
    assert look(scripts, OK, P) == Step(skip=(("b", Reason.UNSATISFIABLE),))
    assert look(scripts, OK, W, stopping=True) == Step(skip=(("b", Reason.NOT_REACHED),))
