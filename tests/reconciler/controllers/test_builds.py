"""Which jobs a Build is owed: heads, specifications, due times; with a fake clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.controllers.builds import BuildView, Head, SetTimer, decide, passes_filters
from reconciler.controllers.follows import trigger_digest
from reconciler.model.follow import Follow, Pass
from reconciler.model.job import Checkout
from reconciler.model.timer import Timer
from specs.digest import digest

NOW = datetime(2030, 6, 3, 12, 0, 30, tzinfo=UTC)
CRM, ERP = "Build/shop/_/load-crm", "Build/shop/_/load-erp"
AFTER = {"type": "build", "builds": ["load-crm", "load-erp"]}
HOURLY = {"type": "schedule", "cron": "0 * * * *", "timezone": "UTC", "missed": "once"}


def view(*triggers: dict[str, Any], **more: Any) -> BuildView:
    spec = {"triggers": list(triggers), "concurrency": "queue"} | more.pop("spec", {})
    fields: dict[str, Any] = {
        "key": "Build/shop/_/b", "spec": spec, "work_digest": "w", "heads": None, "timers": {},
        "trigger_digests": {i: digest(t) for i, t in enumerate(triggers)}, "latest": None,
        "has_job_for_spec": False,
    }  # fmt: skip
    return BuildView(**(fields | more))


def head(branch: str = "main", *, owed: bool = True, changed: tuple[str, ...] | None = None) -> Head:
    return Head(Checkout("https://example.org/r.git", "c" * 40, "t" * 40, branch), owed, changed)


def timer(next_due: datetime, trigger: dict[str, Any] = HOURLY) -> dict[int, Timer]:
    return {0: Timer(0, digest(trigger), None, next_due)}


def test_a_build_without_triggers_is_owed_nothing() -> None:
    """It starts by hand only."""
    decision = decide(view(heads=[head()]), NOW)
    assert decision.jobs == ()
    assert decision.wake_at is None


def test_a_new_head_is_owed_one_job() -> None:
    """Each matching head that has none; those that have one are left alone."""
    decision = decide(
        view({"type": "poll", "interval_seconds": 60}, heads=[head(), head("dev", owed=False)]), NOW
    )
    assert [job.checkout.branch for job in decision.jobs] == ["main"]
    assert decision.jobs[0].once == "head"
    assert decision.wake_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("wanted", "ignored", "changed", "owed"),
    [
        ([], [], ("a.md",), True),
        (["src/**"], [], ("src/x/y.py",), True),
        (["src/**"], [], ("docs/x.md",), False),
        ([], ["**/*.md"], ("docs/x.md", "README.md"), False),
        ([], ["**/*.md"], ("docs/x.md", "a.py"), True),
        (["src/**"], ["**/*.md"], ("src/README.md",), False),
        (["src/**"], [], None, True),
    ],
)
def test_file_filters(
    wanted: list[str], ignored: list[str], changed: tuple[str, ...] | None, owed: bool
) -> None:
    """Ignored files are taken away first; unknown changes count as a match."""
    spec = {"build_on_file_changes": wanted, "ignore_file_changes": ignored}
    assert passes_filters(spec, changed) is owed


def test_a_changed_specification_is_owed_one_job() -> None:
    """`change`: one for each version of the work, an empty workspace where there is no repo."""
    change = {"type": "change"}
    assert [job.once for job in decide(view(change), NOW).jobs] == ["spec"]
    assert decide(view(change, has_job_for_spec=True), NOW).jobs == ()


def test_a_new_schedule_gets_its_first_due_time_and_no_job() -> None:
    """The time is stored; the daemon looks again then."""
    decision = decide(view(HOURLY), NOW)
    due = datetime(2030, 6, 3, 13, tzinfo=UTC)
    assert decision.timers == (SetTimer(Timer(0, digest(HOURLY), None, due)),)
    assert decision.jobs == ()
    assert decision.wake_at == due


def test_a_due_time_makes_a_job_and_moves_on() -> None:
    """The firing carries its due time and moves the timer in the same transaction."""
    due = datetime(2030, 6, 3, 12, tzinfo=UTC)
    decision = decide(view(HOURLY, timers=timer(due)), NOW)
    assert [job.trigger["due"] for job in decision.jobs] == [due.isoformat()]
    assert decision.jobs[0].timer == Timer(0, digest(HOURLY), due, due + timedelta(hours=1))


@pytest.mark.parametrize(("missed", "jobs"), [("once", 1), ("skip", 0)])
def test_missed_firings_run_once_or_not_at_all(missed: str, jobs: int) -> None:
    """Three days down: the newest due time counts, the ones before are gone (design 6)."""
    trigger = HOURLY | {"missed": missed}
    now = datetime(2030, 6, 3, 12, 30, tzinfo=UTC)
    decision = decide(view(trigger, timers=timer(now - timedelta(days=3, minutes=30), trigger)), now)
    assert len(decision.jobs) == jobs
    moved = decision.jobs[0].timer if jobs else decision.timers[0].timer
    assert moved is not None
    assert moved.last_due == datetime(2030, 6, 3, 12, tzinfo=UTC)
    assert moved.next_due == datetime(2030, 6, 3, 13, tzinfo=UTC)


def test_a_firing_noticed_within_a_minute_was_not_missed() -> None:
    """`skip` skips what was missed while down, not what came a moment late."""
    trigger = HOURLY | {"missed": "skip"}
    decision = decide(view(trigger, timers=timer(datetime(2030, 6, 3, 12, tzinfo=UTC), trigger)), NOW)
    assert len(decision.jobs) == 1


def test_years_down_are_decided_at_once() -> None:
    """An interval of a second, ten years missed: bounded work, one job."""
    trigger = {"type": "schedule", "interval_seconds": 1, "missed": "once"}
    decision = decide(view(trigger, timers=timer(NOW - timedelta(days=3650), trigger)), NOW)
    assert len(decision.jobs) == 1
    assert decision.jobs[0].timer is not None
    assert decision.jobs[0].timer.next_due > NOW  # type: ignore[operator]


def test_a_changed_schedule_starts_anew() -> None:
    """What was due under the old definition is not run under the new one."""
    stored = timer(NOW - timedelta(hours=2), HOURLY | {"cron": "5 * * * *"})
    decision = decide(view(HOURLY, timers=stored), NOW)
    assert decision.jobs == ()
    assert len(decision.timers) == 1


INTERVAL = {"type": "schedule", "interval_seconds": 10, "missed": "once"}


@pytest.mark.parametrize(
    ("trigger", "last_ahead", "next_ahead", "anew"),
    [
        (HOURLY, timedelta(minutes=59, seconds=30), timedelta(minutes=119, seconds=30), False),
        (HOURLY, timedelta(hours=3), timedelta(hours=4), False),
        (HOURLY, timedelta(days=365), timedelta(days=365, hours=1), True),
        (HOURLY, None, timedelta(minutes=59, seconds=30), False),
        (HOURLY, None, timedelta(hours=2), True),
        (HOURLY, timedelta(seconds=-30), timedelta(minutes=59, seconds=30), False),
        (INTERVAL, timedelta(milliseconds=10), timedelta(seconds=10), False),
        (INTERVAL, timedelta(seconds=10), timedelta(seconds=20), False),
        (INTERVAL, timedelta(hours=1), timedelta(hours=1, seconds=10), True),
        (INTERVAL, None, timedelta(hours=1), True),
    ],
)
def test_a_clock_that_was_set_back_runs_nothing_twice_and_holds_up_nothing_for_long(
    trigger: dict[str, Any], last_ahead: timedelta | None, next_ahead: timedelta, anew: bool
) -> None:
    """Cron times of the last three hours are not due again; with a clock that was far ahead they begin anew."""
    last = None if last_ahead is None else NOW + last_ahead
    stored = Timer(0, digest(trigger), last, NOW + next_ahead)
    decision = decide(view(trigger, timers={0: stored}), NOW)
    assert decision.jobs == ()
    assert bool(decision.timers) == anew
    if anew:
        assert decision.wake_at is not None
        assert decision.timers == (SetTimer(Timer(0, digest(trigger), None, decision.wake_at)),)
        assert NOW < decision.wake_at <= NOW + timedelta(hours=1)
    else:
        assert decision.wake_at == stored.next_due


def test_a_due_time_waits_while_the_repository_cannot_be_read() -> None:
    """It stays owed, and the status says why."""
    due = timer(NOW - timedelta(seconds=1))
    trouble = ("GitUnavailable", "no answer")
    decision = decide(view(HOURLY, timers=due, spec={"repo": "web"}, trouble=trouble), NOW)
    assert (decision.jobs, decision.timers) == ((), ())
    assert decision.trouble == trouble
    assert decision.wake_at is not None
    assert decision.wake_at > NOW, "what stays owed is looked at again later, not at once"


def test_a_disabled_build_is_owed_nothing() -> None:
    """Not even what is due."""
    decision = decide(view(HOURLY, {"type": "change"}, timers=timer(NOW), spec={"disabled": True}), NOW)
    assert decision.jobs == ()
    assert decision.wake_at is None


def test_inputs_come_from_the_trigger_over_the_defaults() -> None:
    """Declared default, then the trigger's value."""
    spec = {"inputs": [{"id": "suite", "default": "fast"}, {"id": "level", "default": "1"}]}
    decision = decide(view({"type": "change", "inputs": {"suite": "slow"}}, spec=spec), NOW)
    assert decision.jobs[0].inputs == {"suite": "slow", "level": "1"}


def following(passes: dict[str, int], since: int = 100) -> dict[str, Any]:
    """What a Build that follows two others looks at: N versions of the store after `since` job N passed."""
    found = {key: Pass(number, since + number) for key, number in passes.items()}
    return {
        "version": 200,
        "timers": {0: Timer(0, trigger_digest(AFTER), since=since)},
        "trigger_digests": {0: trigger_digest(AFTER)},
        "follows": {0: Follow((CRM, ERP), found)},
    }


def test_a_follower_is_owed_a_job_when_each_has_passed() -> None:
    """The start says which passes it came after, and moves the trigger's timer so that it is not made twice."""
    (made,) = decide(view(AFTER | {"inputs": {"suite": "slow"}}, **following({CRM: 3, ERP: 5})), NOW).jobs
    assert made.trigger == {"type": "build", "position": 0, "after": {CRM: 3, ERP: 5}}
    assert made.inputs == {"suite": "slow"}
    assert made.timer == Timer(0, trigger_digest(AFTER), since=106)


@pytest.mark.parametrize("passes", [{}, {CRM: 3}, {CRM: 9, ERP: -1}, {CRM: -3, ERP: 5}, {CRM: -3, ERP: -1}])
def test_a_follower_waits_for_each_to_pass_anew(passes: dict[str, int]) -> None:
    """None, one of two, one anew, one from before the trigger was first seen or last started a job, both."""
    decision = decide(view(AFTER, **following(passes)), NOW)
    assert (decision.jobs, decision.timers, decision.wake_at) == ((), (), None)


def test_what_a_start_came_after_counts_no_more() -> None:
    """Each has to pass again, whichever of them was the first."""
    facts = following({CRM: 3, ERP: 5})
    (made,) = decide(view(AFTER, **facts), NOW).jobs
    facts["timers"] = {0: made.timer}
    assert decide(view(AFTER, **facts), NOW).jobs == ()
    for again in ({CRM: 6, ERP: 5}, {CRM: 3, ERP: 6}):
        facts["follows"] = following(again)["follows"]
        assert decide(view(AFTER, **facts), NOW).jobs == ()
    facts["follows"] = following({CRM: 6, ERP: 6})["follows"]
    assert len(decide(view(AFTER, **facts), NOW).jobs) == 1


def test_what_passed_before_a_trigger_was_first_seen_does_not_count() -> None:
    """The first look notes the moment; another list of names is another trigger."""
    seen = SetTimer(Timer(0, trigger_digest(AFTER), since=201))
    facts = following({CRM: 3, ERP: 5})
    assert decide(view(AFTER, **(facts | {"timers": {}})), NOW).timers == (seen,)
    other = {0: Timer(0, "another", NOW - timedelta(days=1), None)}
    changed = decide(view(AFTER, **(facts | {"timers": other})), NOW)
    assert (changed.jobs, changed.timers) == ((), (seen,))
    assert trigger_digest(AFTER) == trigger_digest(
        AFTER | {"inputs": {"a": "b"}, "builds": AFTER["builds"][::-1]}
    )


def test_a_disabled_follower_starts_nothing_and_is_owed_nothing_later() -> None:
    """What passes meanwhile does not count: the trigger is seen for the first time again."""
    facts = following({CRM: 3, ERP: 5})
    decision = decide(view(AFTER, spec={"disabled": True}, **facts), NOW)
    off = Timer(0, "", None, None)
    assert (decision.jobs, decision.timers) == ((), (SetTimer(off),))
    facts["timers"] = {0: off}
    assert decide(view(AFTER, spec={"disabled": True}, **facts), NOW).timers == ()
    assert decide(view(AFTER, **facts), NOW).jobs == ()


def test_a_follower_waits_while_its_repository_cannot_be_read() -> None:
    """The start stays owed and is looked at again."""
    decision = decide(view(AFTER, spec={"repo": "web"}, **following({CRM: 3, ERP: 5})), NOW)
    assert (decision.jobs, decision.timers) == ((), ())
    assert decision.wake_at is not None
    assert decision.wake_at > NOW


def test_the_same_view_gives_the_same_decision() -> None:
    """No clock, no chance."""
    seen = view(HOURLY, {"type": "poll", "interval_seconds": 5}, heads=[head()], timers=timer(NOW))
    assert decide(seen, NOW) == decide(replace(seen), NOW)
