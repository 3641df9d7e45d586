"""Runs of pipelines: a run, its phases and steps, and what they have come to (escape-state, 7.13, 10, 11.2 to 11.4).

A run is the snapshot of its pipeline with what became of each step. Values only: `controllers.pipelines` decides,
`store.pipelines` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

CONFIRMATION = "confirmation"
APPROVE, DISAPPROVE = "approve", "disapprove"


class Status(StrEnum):
    """The published states; only steps are ever `queued`."""

    QUEUED = "queued"
    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """A final state."""
        return self in (Status.OK, Status.FAILED)


Place = tuple[int, int]
"""Which step: the number of its phase and its own there, from 0."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run. `declared` is what the snapshot says of it.

    `job` with `execution_id`: the execution that it started or adopted; `run`: the run of another pipeline;
    `version`: what it chose to deploy; `tagged`: the release that it tagged; `waiting_since`: since when it could
    start but for another execution of the same deployment; `confirmation`: {requested_at, expires_at} and, once
    decided, {decision, by, at, comment}; `withdrawn`: its phase failed before it could start.
    """

    declared: Mapping[str, Any]
    status: Status = Status.QUEUED
    reason: str = ""
    message: str = ""
    job: int | None = None
    execution_id: str = ""
    run: str | None = None
    version: str = ""
    tagged: str = ""
    releases: tuple[str, ...] = ()
    adopted: bool = False
    carried_over: bool = False
    timed_out: bool = False
    confirmation: Mapping[str, Any] | None = None
    waiting_since: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def type(self) -> str:
        """One of the nine types."""
        return str(self.declared["type"])

    @property
    def name(self) -> str:
        """Unique in its phase."""
        return str(self.declared.get("name") or self.type)

    @property
    def waits_for_people(self) -> bool:
        """Is it a confirmation that nobody has decided yet?"""
        return self.type == CONFIRMATION and self.status is Status.PENDING

    @property
    def not_run(self) -> bool:
        """Queued for ever: the phase failed without it."""
        return self.status is Status.QUEUED and bool(self.reason)

    @property
    def over(self) -> bool:
        """Nothing will become of it any more."""
        return self.status.ended or self.not_run

    @property
    def good(self) -> bool:
        """Can its phase be right with it? A `no` of a person is no failure that could be ignored (10.2)."""
        ignored = bool(self.declared.get("ignore_failure")) and self.type != CONFIRMATION
        return self.status is Status.OK or (self.status is Status.FAILED and ignored)


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps that run beside each other."""

    name: str
    steps: tuple[Step, ...] = ()
    status: Status = Status.NEW

    @property
    def over(self) -> bool:
        """Has every step ended?"""
        return all(step.over for step in self.steps)

    @property
    def good(self) -> bool:
        """Has every step ended well, or as it may?"""
        return all(step.good for step in self.steps)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline. `pipeline` is the snapshot's specification without its phases.

    `identity`: the subject that its steps act as; `cause`: the execution whose end started it; `chain`: the KEYs of
    the pipelines that led to it, the first one first; `ending`: why it is being ended before its time.
    """

    id: str
    key: str
    number: int
    pipeline: Mapping[str, Any]
    phases: tuple[Phase, ...]
    trigger: Mapping[str, Any]
    actor: str
    identity: str | None
    created_at: datetime
    payload: Any = None
    cause: int | None = None
    retry_of: str | None = None
    status: Status = Status.PENDING
    reason: str = ""
    cancel_requested: bool = False
    ending: str = ""
    releases: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    version: int = field(default=0, compare=False)

    @property
    def project(self) -> str:
        """The project of its pipeline."""
        return self.key.split("/", 2)[1]

    @property
    def name(self) -> str:
        """The name of its pipeline."""
        return self.key.split("/", 2)[2]

    def moved(self, by: timedelta, since: datetime, until: datetime) -> Run:
        """By a clock that was set: all times are so much later, but for those in between, which knew of it."""

        def at(moment: datetime | None) -> datetime | None:
            return moment if moment is None or since <= moment <= until else moment + by

        def step(each: Step) -> Step:
            if each.carried_over:
                return each
            asked = dict(each.confirmation or {}) if each.waits_for_people else {}
            if asked and not since <= datetime.fromisoformat(asked["requested_at"]) <= until:
                for name in ("requested_at", "expires_at"):
                    asked[name] = (datetime.fromisoformat(asked[name]) + by).isoformat()
            return replace(
                each,
                confirmation=asked or each.confirmation,
                waiting_since=at(each.waiting_since),
                started_at=at(each.started_at),
                finished_at=at(each.finished_at),
            )

        phases = tuple(replace(phase, steps=tuple(map(step, phase.steps))) for phase in self.phases)
        return replace(self, phases=phases, started_at=at(self.started_at))

    @property
    def ended(self) -> bool:
        """Is it final?"""
        return self.status.ended

    @property
    def chain(self) -> tuple[str, ...]:
        """The KEYs of the pipelines that led to it, and its own."""
        return (*self.trigger.get("chain", ()), self.key)

    def steps(self) -> Iterator[tuple[Place, Step]]:
        """All steps with their places, in order."""
        for at, phase in enumerate(self.phases):
            for index, step in enumerate(phase.steps):
                yield (at, index), step

    def step(self, place: Place) -> Step:
        """The one at a place."""
        return self.phases[place[0]].steps[place[1]]

    def path_of(self, place: Place) -> str:
        """How people name a step: PHASE/NAME."""
        return f"{self.phases[place[0]].name}/{self.step(place).name}"

    def with_step(self, place: Place, step: Step) -> Run:
        """The run with another step at a place."""
        phase = self.phases[place[0]]
        steps = (*phase.steps[: place[1]], step, *phase.steps[place[1] + 1 :])
        return self.with_phase(place[0], replace(phase, steps=steps))

    def with_phase(self, at: int, phase: Phase) -> Run:
        """The run with another phase."""
        return replace(self, phases=(*self.phases[:at], phase, *self.phases[at + 1 :]))

    def jobs(self) -> tuple[int, ...]:
        """The executions that belong to it, adopted and carried over ones too."""
        return tuple(step.job for _, step in self.steps() if step.job is not None)


def subject(run: Run, place: Place) -> str:
    """What an Approval of a step is about."""
    phase = run.phases[place[0]]
    return f"PipelineRun/{run.id}/{phase.name}/{phase.steps[place[1]].name}"


def target(step: Mapping[str, Any], project: str) -> str | None:
    """The KEY of the Deployment that a step acts on; None for those that act on none."""
    if step["type"] not in ("deploy", "run-smoke", "run-destroy", "run-errand"):
        return None
    return f"Deployment/{step.get('project') or project}/{step['environment']}/{step['deployment']}"


def builds(step: Mapping[str, Any], project: str) -> tuple[str, ...]:
    """The KEYs of the Build that a step runs: of its environment, or else without one."""
    if step["type"] != "build":
        return ()
    place = step.get("project") or project
    return f"Build/{place}/{step['environment']}/{step['build']}", f"Build/{place}/_/{step['build']}"


def followed(step: Mapping[str, Any], project: str) -> tuple[str, ...]:
    """The KEYs whose executions start the step's pipeline when they end well (10.3)."""
    if step["type"] == "build" and step.get("trigger_pipeline_on_build"):
        return builds(step, project)
    key = target(step, project) if step.get("trigger_pipeline_on_deploy") else None
    return (key,) if key is not None and step["type"] == "deploy" else ()


def planned(spec: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The phases of a specification before anything has run."""
    return tuple(
        Phase(phase["name"], tuple(Step(step) for step in phase["steps"])) for phase in spec["phases"]
    )


def settings_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps of a specification beside its phases."""
    return {name: value for name, value in spec.items() if name != "phases"}


def again(old: Run) -> tuple[Phase, ...]:
    """The phases of a retry: those before the first that failed are carried over, in that one what is right (11.5)."""
    found: list[Phase] = []
    failed = False
    for phase in old.phases:
        if failed:
            found.append(Phase(phase.name, tuple(Step(step.declared) for step in phase.steps)))
            continue
        failed = phase.status is not Status.OK
        kept = (step.status is Status.OK if failed else True for step in phase.steps)
        steps = tuple(
            replace(step, carried_over=True) if keep else Step(step.declared)
            for step, keep in zip(phase.steps, kept, strict=True)
        )
        found.append(replace(phase, steps=steps, status=Status.NEW if failed else phase.status))
    if not failed:  # it was right: all of it runs anew
        return tuple(Phase(phase.name, tuple(Step(s.declared) for s in phase.steps)) for phase in old.phases)
    return tuple(found)


def to_record(run: Run) -> dict[str, Any]:
    """What the store keeps of a run beside its columns."""
    phases = [
        {"name": p.name, "status": p.status.value, "steps": [_step_record(s) for s in p.steps]}
        for p in run.phases
    ]
    return {
        "pipeline": dict(run.pipeline),
        "phases": phases,
        "ending": run.ending,
        "releases": list(run.releases),
    }


def phases_of(record: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The phases that a record holds."""
    return tuple(
        Phase(phase["name"], tuple(_step(each) for each in phase["steps"]), Status(phase["status"]))
        for phase in record["phases"]
    )


_TIMES = ("waiting_since", "started_at", "finished_at")
_PLAIN = (
    "reason", "message", "job", "execution_id", "run", "version", "tagged", "adopted", "carried_over", "timed_out",
    "confirmation",
)  # fmt: skip


def _step_record(step: Step) -> dict[str, Any]:
    record: dict[str, Any] = {"declared": dict(step.declared), "status": step.status.value}
    record |= {name: value for name in _PLAIN if (value := getattr(step, name))}
    record |= {name: value.isoformat() for name in _TIMES if (value := getattr(step, name)) is not None}
    return record | ({"releases": list(step.releases)} if step.releases else {})


def _step(record: Mapping[str, Any]) -> Step:
    known: dict[str, Any] = {name: record[name] for name in _PLAIN if name in record}
    known |= {name: datetime.fromisoformat(record[name]) for name in _TIMES if name in record}
    releases = tuple(record.get("releases", ()))
    return Step(record["declared"], Status(record["status"]), releases=releases, **known)
