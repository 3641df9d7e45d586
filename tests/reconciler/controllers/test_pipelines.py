"""What runs of pipelines do next: the sentences of the contract, and what holds whatever happens in whatever order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.controllers.pipelines import (
    FOLLOWS,
    Decision,
    Facts,
    Owing,
    Work,
    adopted,
    chain_fault,
    decide,
    due,
    ended,
    health,
    keeps,
)
from reconciler.model.pipeline import (
    Run,
    Status,
    Step,
    again,
    followed,
    phases_of,
    planned,
    settings_of,
    to_record,
)
from reconciler.model.status import Health
from reconciler.model.timer import Timer
from specs.pipeline import Pipeline

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
BUILD: dict[str, Any] = {"type": "build", "environment": "dev", "build": "web"}
DEPLOY: dict[str, Any] = {"type": "deploy", "environment": "dev", "deployment": "shop/web"}
ASK: dict[str, Any] = {"type": "confirmation", "team": "ops", "timeout_seconds": 100}
CALL: dict[str, Any] = {"type": "webhook-trigger", "webhook_url": "https://example.org/x"}
OTHER: dict[str, Any] = {"type": "pipeline-trigger", "pipeline": "next", "wait_for_pipeline": True}


def spec_of(*phases: list[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A specification as it is in force."""
    body = [{"name": f"p{number}", "steps": steps} for number, steps in enumerate(phases, 1)]
    return Pipeline.model_validate({"phases": body, **more}).model_dump(mode="json")


def run_of(*phases: list[Mapping[str, Any]], **more: Any) -> Run:
    """A new run."""
    spec = spec_of(*phases, **more)
    return Run(
        id="r1",
        key="Pipeline/shop/release",
        number=1,
        pipeline=settings_of(spec),
        phases=planned(spec),
        trigger={"type": "manual"},
        actor="User/alice",
        identity="User/alice",
        created_at=NOW,
    )


def started(run: Run, at: tuple[int, int], job: int, now: datetime = NOW) -> Run:
    """The run after one of its steps was handed over."""
    step = replace(run.step(at), status=Status.PENDING, job=job, started_at=now)
    return run.with_step(at, step)


def states(run: Run) -> list[list[str]]:
    """Of all steps, phase by phase."""
    return [[step.status.value for step in phase.steps] for phase in run.phases]


def phase_states(run: Run) -> list[str]:
    """Of all phases."""
    return [phase.status.value for phase in run.phases]


def look(run: Run, **facts: Any) -> Decision:
    """One look, now."""
    return decide(run, Facts(**facts), NOW)


def test_a_run_without_phases_is_right_at_once() -> None:
    """And takes no time."""
    decision = look(run_of())
    assert (decision.run.status, decision.run.started_at, decision.run.finished_at) == (Status.OK, NOW, NOW)
    assert look(run_of([], [])).run.status is Status.OK


def test_phases_go_one_after_the_other_and_their_steps_together() -> None:
    """All steps of the first are due; the second waits for all of them."""
    run = run_of([BUILD, DEPLOY], [BUILD])
    decision = look(run)
    assert decision.starts == ((0, 0), (0, 1))
    assert phase_states(decision.run) == ["pending", "new"]
    run = started(started(decision.run, (0, 0), 7), (0, 1), 8)
    working = {7: Work(Status.RUNNING, started_at=NOW), 8: Work(Status.OK, finished_at=NOW)}
    decision = look(run, jobs=working)
    assert decision.starts == ()
    assert (decision.run.status, phase_states(decision.run)) == (Status.RUNNING, ["running", "new"])
    assert states(decision.run) == [["running", "ok"], ["queued"]]
    decision = look(decision.run, jobs={7: Work(Status.OK, releases=("shop/web-v1.0.0",), finished_at=NOW)})
    assert decision.starts == ((1, 0),)
    assert decision.run.releases == ("shop/web-v1.0.0",)
    assert phase_states(decision.run) == ["ok", "pending"]
    decision = look(started(decision.run, (1, 0), 9), jobs={9: Work(Status.OK)})
    assert (decision.run.status, decision.run.finished_at) == (Status.OK, NOW)


def test_a_failure_ends_the_run_but_lets_others_of_its_phase_end() -> None:
    """What has not begun is not run, and nobody is asked any more; the reason is that of the first that failed."""
    run = look(run_of([BUILD, DEPLOY, ASK, BUILD], [BUILD, ASK])).run
    run = started(started(run, (0, 0), 7), (0, 1), 8)
    jobs = {7: Work(Status.FAILED, "script-failed", finished_at=NOW), 8: Work(Status.RUNNING)}
    decision = look(run, jobs=jobs)
    assert decision.starts == ()
    assert states(decision.run) == [["failed", "running", "failed", "queued"], ["queued", "queued"]]
    assert decision.run.phases[0].steps[3].reason == "not-run"
    assert decision.run.status is Status.RUNNING
    later = NOW + timedelta(seconds=9)
    decision = decide(decision.run, Facts(jobs={8: Work(Status.OK, finished_at=later)}), later)
    assert (decision.run.status, decision.run.reason) == (Status.FAILED, "script-failed")
    assert phase_states(decision.run) == ["failed", "new"]
    assert {step.reason for step in decision.run.phases[1].steps} == {"not-run"}


def test_107_a_failure_may_be_ignored() -> None:
    """The step stays failed; phase and run are ok."""
    run = started(look(run_of([{**BUILD, "ignore_failure": True}])).run, (0, 0), 7)
    decision = look(run, jobs={7: Work(Status.FAILED, "script-failed")})
    assert (decision.run.status, phase_states(decision.run), states(decision.run)) == (
        Status.OK,
        ["ok"],
        [["failed"]],
    )


def test_113_a_no_is_never_ignored() -> None:
    """Also where a snapshot says so, which no specification can."""
    run = look(run_of([ASK])).run
    step = run.step((0, 0))
    forced = replace(step, declared={**step.declared, "ignore_failure": True})
    run = run.with_step((0, 0), ended(forced, Status.FAILED, NOW, "disapproved"))
    decision = look(run)
    assert (decision.run.status, decision.run.reason) == (Status.FAILED, "disapproved")


def test_people_are_asked_for_so_long() -> None:
    """A run that waits for people only is pending; then their time is over."""
    decision = look(run_of([ASK]))
    step = decision.run.step((0, 0))
    assert (decision.run.status, step.status, phase_states(decision.run)) == (
        Status.PENDING,
        Status.PENDING,
        ["pending"],
    )
    assert step.confirmation == {
        "requested_at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(seconds=100)).isoformat(),
    }
    assert decision.wake_at == NOW + timedelta(seconds=100)
    assert decide(decision.run, Facts(), NOW + timedelta(seconds=99)).run == decision.run
    late = decide(decision.run, Facts(), NOW + timedelta(seconds=100)).run
    assert (late.status, late.reason) == (Status.FAILED, "confirmation-timeout")
    week = look(run_of([{"type": "confirmation"}])).run.step((0, 0)).confirmation or {}
    assert week["expires_at"] == (NOW + timedelta(days=7)).isoformat()


def test_a_cancel_ends_what_has_begun_and_nothing_else_begins() -> None:
    """Queued steps fail as cancelled, confirmations are withdrawn, executions and runs waited for are cancelled."""
    run = look(run_of([BUILD, ASK, OTHER], [DEPLOY])).run
    run = started(run, (0, 0), 7)
    run = run.with_step((0, 2), replace(run.step((0, 2)), status=Status.PENDING, run="r2", started_at=NOW))
    facts: dict[str, Any] = {"jobs": {7: Work(Status.RUNNING)}, "runs": {"r2": Work(Status.PENDING)}}
    decision = look(replace(run, cancel_requested=True), **facts)
    assert (decision.cancel_jobs, decision.cancel_runs, decision.starts) == ((7,), ("r2",), ())
    assert states(decision.run) == [["running", "failed", "pending"], ["failed"]]
    assert not decision.run.ended
    facts = {"jobs": {7: Work(Status.OK)}, "runs": {"r2": Work(Status.FAILED, "cancelled")}}
    decision = look(decision.run, **facts)
    assert (decision.run.status, decision.run.reason) == (Status.FAILED, "cancelled")
    assert states(decision.run) == [["ok", "failed", "failed"], ["failed"]]
    assert {step.reason for _, step in decision.run.steps() if step.status is Status.FAILED} == {"cancelled"}


def test_a_run_that_has_not_begun_is_cancelled_at_once() -> None:
    """Nothing of it ever starts."""
    waiting = decide(run_of([BUILD]), Facts(first=False), NOW).run
    assert (waiting.status, waiting.started_at) == (Status.PENDING, None)
    decision = decide(replace(waiting, cancel_requested=True), Facts(first=False), NOW)
    assert (decision.run.status, decision.run.reason, decision.starts) == (Status.FAILED, "cancelled", ())


@pytest.mark.parametrize(
    ("facts", "begins"),
    [
        (Facts(), True),
        (Facts(first=False), False),
        (Facts(disabled=True), False),
    ],
)
def test_a_run_begins_when_it_may(facts: Facts, begins: bool) -> None:
    """Not while an earlier one is there, not while the pipeline is disabled."""
    decision = decide(run_of([BUILD]), facts, NOW)
    assert (bool(decision.starts), decision.run.started_at is not None) == (begins, begins)


def test_a_run_of_nothing_never_begins_but_one_at_work_ends_by_itself() -> None:
    """The declaration went away."""
    assert decide(run_of([BUILD]), Facts(declared=False), NOW).run.reason == "cancelled"
    begun = started(look(run_of([BUILD])).run, (0, 0), 7)
    facts = Facts(declared=False, disabled=True, jobs={7: Work(Status.RUNNING)})
    assert decide(begun, facts, NOW).run.status is Status.RUNNING


def test_a_newer_run_takes_the_place_of_pending_ones() -> None:
    """Those that wait for people as well; not of one at work."""
    facts = Facts(replaced=True)
    assert decide(run_of([BUILD]), replace(facts, first=False), NOW).run.reason == "superseded"
    assert decide(look(run_of([ASK])).run, facts, NOW).run.reason == "superseded"
    begun = started(look(run_of([BUILD])).run, (0, 0), 7)
    begun = decide(begun, Facts(jobs={7: Work(Status.RUNNING)}), NOW).run
    assert decide(begun, Facts(replaced=True, jobs={7: Work(Status.RUNNING)}), NOW).run == begun


def test_a_step_whose_time_is_up_is_cancelled_and_says_timeout() -> None:
    """What ended well before that stays well."""
    run = started(look(run_of([{**BUILD, "timeout_seconds": 10}])).run, (0, 0), 7)
    late = NOW + timedelta(seconds=10)
    working = Facts(jobs={7: Work(Status.RUNNING)})
    assert decide(run, working, NOW).wake_at == late
    decision = decide(run, working, late)
    assert (decision.cancel_jobs, decision.run.step((0, 0)).timed_out) == ((7,), True)
    over = decide(decision.run, Facts(jobs={7: Work(Status.FAILED, "cancelled")}), late).run
    assert (over.reason, over.step((0, 0)).reason) == ("timeout", "timeout")
    assert decide(decision.run, Facts(jobs={7: Work(Status.OK)}), late).run.status is Status.OK


def test_a_run_whose_time_is_up_ends() -> None:
    """As cancelled, with another reason."""
    run = started(look(run_of([BUILD], [BUILD], timeout_seconds=10)).run, (0, 0), 7)
    late = NOW + timedelta(seconds=10)
    assert decide(run, Facts(jobs={7: Work(Status.RUNNING)}), NOW).wake_at == late
    decision = decide(run, Facts(jobs={7: Work(Status.RUNNING)}), late)
    assert decision.cancel_jobs == (7,)
    over = decide(decision.run, Facts(jobs={7: Work(Status.FAILED, "cancelled")}), late).run
    assert (over.status, over.reason) == (Status.FAILED, "timeout")


def test_a_retry_carries_over_what_was_right() -> None:
    """Phases before the first that failed whole, in that one the steps that were right, nothing after it."""
    ask = {**ASK, "name": "sure"}
    run = look(run_of([{**BUILD, "ignore_failure": True}], [BUILD, ask], [DEPLOY])).run
    run = decide(started(run, (0, 0), 7), Facts(jobs={7: Work(Status.FAILED, "x", ("a-v1",))}), NOW).run
    run = started(run, (1, 0), 8)
    decided = {**(run.step((1, 1)).confirmation or {}), "decision": "approve"}
    run = run.with_step((1, 1), ended(replace(run.step((1, 1)), confirmation=decided), Status.OK, NOW))
    run = decide(run, Facts(jobs={8: Work(Status.FAILED, "script-failed")}), NOW).run
    assert run.status is Status.FAILED
    new = replace(run_of([BUILD]), phases=again(run))
    assert states(new) == [["failed"], ["queued", "ok"], ["queued"]]
    assert [step.carried_over for _, step in new.steps()] == [True, False, True, False]
    assert new.step((1, 1)).confirmation == decided
    decision = look(new)
    assert (decision.starts, decision.run.releases) == (((1, 0),), ("a-v1",))
    well = replace(look(run_of([BUILD])).run, phases=again(look(run_of([])).run))
    assert look(well).run.status is Status.OK


def test_an_execution_is_adopted_by_every_step_that_follows_it() -> None:
    """They are right at once; others of the phase begin."""
    follows = {**BUILD, "trigger_pipeline_on_build": True}
    spec = spec_of([follows, DEPLOY], [{**follows, "name": "again"}])
    work = Work(Status.OK, "", ("shop/web-v1.0.0",), NOW, NOW)
    phases = adopted(planned(spec), "shop", "Build/shop/dev/web", (7, "01J"), work)
    run = replace(run_of([BUILD]), phases=phases)
    decision = look(run)
    assert (decision.starts, decision.run.releases) == (((0, 1),), ("shop/web-v1.0.0",))
    assert [step.adopted for _, step in decision.run.steps()] == [True, False, True]
    assert phase_states(decision.run) == ["pending", "new"]
    done = look(started(decision.run, (0, 1), 8), jobs={8: Work(Status.OK)})
    assert done.run.status is Status.OK
    assert followed(follows, "shop") == ("Build/shop/dev/web", "Build/shop/_/web")
    assert followed(BUILD, "shop") == ()


def test_115_a_pipeline_never_waits_for_itself() -> None:
    """Nor goes on for more than ten."""
    run = replace(run_of([OTHER]), trigger={"type": "pipeline", "chain": ["Pipeline/shop/a"]})
    assert chain_fault(run, "Pipeline/shop/a", waits=True) == "pipeline-cycle"
    assert chain_fault(run, "Pipeline/shop/release", waits=True) == "pipeline-cycle"
    assert chain_fault(run, "Pipeline/shop/a", waits=False) is None
    assert chain_fault(run, "Pipeline/shop/b", waits=True) is None
    long = replace(run, trigger={"type": "pipeline", "chain": [f"Pipeline/shop/{n}" for n in range(9)]})
    assert chain_fault(long, "Pipeline/shop/b", waits=False) == "chain-too-long"


def owing(spec: Mapping[str, Any], timers: Mapping[int, Timer], ends: Any = ()) -> Owing:
    """What is looked at."""
    return Owing("Pipeline/shop/release", spec, timers, ends, 7, "UTC")


def test_schedules_owe_a_run_for_each_due_time_and_one_for_those_missed() -> None:
    """The first look owes nothing."""
    spec = spec_of([BUILD], schedules=[{"cron": "0 * * * *"}])
    first = due(owing(spec, {}), NOW)
    (timer,) = first.timers
    assert (first.runs, timer.next_due) == ((), datetime(2030, 1, 2, 4, tzinfo=UTC))
    assert first.wake_at == timer.next_due
    assert due(owing(spec, {0: timer}), NOW) == due(owing(spec, {0: timer}), NOW)
    assert due(owing(spec, {0: timer}), NOW).timers == ()
    late = datetime(2030, 1, 2, 9, 30, tzinfo=UTC)
    (run,) = due(owing(spec, {0: timer}), late).runs
    assert run[1] is None
    assert (run[0].last_due, run[0].next_due) == (
        datetime(2030, 1, 2, 9, tzinfo=UTC),
        datetime(2030, 1, 2, 10, tzinfo=UTC),
    )
    off = due(owing({**spec, "disabled": True}, {0: timer}), late)
    assert (off.runs, [timer.digest for timer in off.timers]) == ((), [""])
    assert due(owing(spec, {0: off.timers[0]}), late).runs == ()


def test_a_schedule_that_a_wrong_clock_has_put_off_begins_anew() -> None:
    """One that ran in the last three hours by that clock does not."""
    spec = spec_of([BUILD], schedules=[{"cron": "0 * * * *"}])
    (timer,) = due(owing(spec, {}), NOW).timers
    ahead = {0: replace(timer, last_due=NOW + timedelta(days=30), next_due=NOW + timedelta(days=31))}
    assert due(owing(spec, ahead), NOW).timers == (timer,)
    near = {0: replace(timer, last_due=NOW + timedelta(hours=1), next_due=NOW + timedelta(hours=2))}
    assert due(owing(spec, near), NOW).timers == ()


def test_a_run_goes_with_the_clock() -> None:
    """The times of what is under way are as long ago as before; what was written since knows of it."""
    run = started(look(run_of([{**BUILD, "timeout_seconds": 10}, ASK])).run, (0, 0), 7)
    back = timedelta(hours=-1)
    after = NOW + back
    moved = run.moved(back, after - timedelta(seconds=1), after)
    assert moved.started_at == after
    assert [step.started_at for _, step in moved.steps()] == [after, after]
    working = Facts(jobs={7: Work(Status.RUNNING)})
    assert decide(moved, working, after).wake_at == after + timedelta(seconds=10)
    asked = moved.step((0, 1)).confirmation
    assert asked is not None
    assert asked["expires_at"] == (after + timedelta(seconds=100)).isoformat()
    assert moved.moved(back, after - timedelta(seconds=1), after) == moved


def test_ends_count_from_when_the_pipeline_was_first_seen() -> None:
    """And start one run each."""
    spec = spec_of([{**BUILD, "trigger_pipeline_on_build": True}])
    (timer,) = due(owing(spec, {}, [(5, 3)]), NOW).timers
    assert (timer.position, timer.since) == (FOLLOWS, 8)
    (run,) = due(owing(spec, {FOLLOWS: timer}, [(9, 4)]), NOW - timedelta(hours=1)).runs
    assert (run[1], run[0].since) == (4, 9)
    assert due(owing(spec_of([BUILD]), {}, []), NOW).timers == ()


def test_health_is_that_of_the_newest_run() -> None:
    """Design 13.15."""
    assert health(None) is Health.UNKNOWN
    assert health(look(run_of([ASK])).run) is Health.PROGRESSING
    assert health(look(run_of()).run) is Health.HEALTHY
    failed = replace(look(run_of()).run, status=Status.FAILED, reason="script-failed")
    assert health(failed) is Health.DEGRADED
    assert health(replace(failed, reason="cancelled")) is Health.UNKNOWN


def test_a_run_keeps_deployments_from_being_reconciled() -> None:
    """From when a version is chosen until it is deployed; what is destroyed until the run ends."""
    destroy = {**DEPLOY, "type": "run-destroy"}
    run = look(run_of([DEPLOY, {**destroy, "deployment": "shop/old"}])).run
    assert keeps([run]) == {}
    run = run.with_step((0, 0), replace(run.step((0, 0)), version="1.0.0"))
    assert keeps([run]).keys() == {"Deployment/shop/dev/shop/web"}
    run = run.with_step((0, 0), ended(run.step((0, 0)), Status.OK, NOW))
    run = run.with_step((0, 1), ended(run.step((0, 1)), Status.OK, NOW))
    assert keeps([run]).keys() == {"Deployment/shop/dev/shop/old"}
    assert keeps([look(run).run]) == {}


STEPS = st.sampled_from([BUILD, DEPLOY, ASK, CALL, OTHER, {**BUILD, "timeout_seconds": 3}]).flatmap(
    lambda step: st.booleans().map(
        lambda ignore: {**step, "ignore_failure": True} if ignore and step is not ASK else step
    )
)
RUNS = st.builds(
    lambda phases, seconds: run_of(*phases, timeout_seconds=seconds),
    st.lists(st.lists(STEPS, max_size=3), max_size=3),
    st.sampled_from([0, 0, 20]),
)


@dataclass
class World:
    """Whatever a run may meet: what it starts ends somehow, sometime, or is cancelled."""

    run: Run
    now: datetime = NOW
    count: int = 0
    jobs: dict[int, Work] = field(default_factory=dict)
    runs: dict[str, Work] = field(default_factory=dict)
    begun: dict[tuple[int, int], int] = field(default_factory=dict)

    def facts(self, *, first: bool = True) -> Facts:
        """All there is to know now."""
        return Facts(dict(self.jobs), dict(self.runs), first)

    def start(self, place: tuple[int, int]) -> None:
        """What the passes do with a step that is due."""
        self.begun[place] = self.begun.get(place, 0) + 1
        self.count += 1
        step = replace(self.run.step(place), status=Status.PENDING, started_at=self.now)
        if step.type == "pipeline-trigger":
            step = replace(step, run=f"r{self.count}")
            self.runs[f"r{self.count}"] = Work(Status.PENDING)
        elif step.type == "webhook-trigger":
            step = replace(step, status=Status.RUNNING)
        else:
            step = replace(step, job=self.count)
            self.jobs[self.count] = Work(Status.PENDING)
        self.run = self.run.with_step(place, step)

    def end(self, well: bool) -> None:
        """Something that waits for an answer gets one."""
        work = Work(Status.OK if well else Status.FAILED, "" if well else "script-failed")
        for known in (self.jobs, self.runs):
            for key, found in list(known.items()):
                if not found.status.ended:
                    known[key] = work  # type: ignore[index]
                    return
        for place, step in self.run.steps():
            if step.waits_for_people or (step.type == "webhook-trigger" and step.status is Status.RUNNING):
                status, reason = (Status.OK, "") if well else (Status.FAILED, "no")
                self.run = self.run.with_step(place, ended(step, status, self.now, reason))
                return

    def look(self, *, first: bool = True) -> Decision:
        """One look; its cancels are carried out."""
        before = self.run
        decision = decide(self.run, self.facts(first=first), self.now)
        assert decide(decision.run, self.facts(first=first), self.now).run == decision.run
        assert decision.wake_at is None or decision.wake_at > self.now
        self.run = decision.run
        for place, step in before.steps():
            if step.over:
                assert self.run.step(place).status is step.status or step.not_run
        for number in decision.cancel_jobs:
            self.jobs[number] = Work(Status.FAILED, "cancelled")
        for run in decision.cancel_runs:
            self.runs[run] = Work(Status.FAILED, "cancelled")
        return decision


EVENTS = st.lists(
    st.sampled_from(["look", "start", "start", "well", "well", "badly", "later", "cancel", "waits"]),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(RUNS, EVENTS)
def test_nothing_starts_twice_and_every_run_ends(run: Run, events: list[str]) -> None:
    """Whatever the order of facts; what is final stays so; what is stored is what was meant."""
    world = World(run)
    for event in events:
        if event == "start":
            for place in world.look().starts:
                world.start(place)
        elif event in ("well", "badly"):
            world.end(event == "well")
        elif event == "later":
            world.now += timedelta(seconds=2)
        elif event == "cancel":
            world.run = replace(world.run, cancel_requested=not world.run.ended)
        world.look(first=event != "waits")
        record = to_record(world.run)
        assert phases_of(record) == world.run.phases
    for _ in range(60):
        for place in world.look().starts:
            world.start(place)
        world.end(True)
        world.look()
        world.now += timedelta(seconds=10)
    assert world.run.ended
    assert all(count == 1 for count in world.begun.values())
    assert world.run.finished_at is not None
    if world.run.status is Status.OK:
        assert all(step.good for _, step in world.run.steps())
    else:
        assert world.run.reason
    at_work = [step for _, step in world.run.steps() if step.status in (Status.PENDING, Status.RUNNING)]
    assert at_work == []


def test_a_step_tells_what_it_is() -> None:
    """Names are those of the snapshot."""
    assert Step({"type": "confirmation"}).name == "confirmation"
