"""What a run of a release is about, and what it sees beside its own folder.

Made by `execution.run` for each claim; the parts of a run (`stage`, `build`, `deploy`) share it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.execution.command import Order
from reconciler.execution.packages import Packages
from reconciler.execution.stages.journal import Done, Journal
from reconciler.model.execution import ulid
from reconciler.model.resource import Resource
from reconciler.sealing import Keys
from reconciler.source.mirrors import Mirrors
from reconciler.store.database import Write


@dataclass(frozen=True, slots=True)
class Around:
    """What all runs see: keys, packages, repositories, what is declared, who may do what.

    `may(subject, verb, KEY)`: has it the role for that? `files(revision, globs)`: of the specification repository, by
    path from the source's root, with whether they are executable; it blocks. `shut(KEY, release, version)`: why a
    deploy there may not begin now; None: it may. `private_addresses`: may workers lie at such?
    """

    keys: Keys
    packages: Packages
    mirrors: Mirrors
    declared: Callable[[str], Resource | None]
    may: Callable[[str, str, str], bool]
    files: Callable[[str, Sequence[str]], Awaitable[Mapping[str, tuple[bytes, bool]]]]
    shut: Callable[[str, str, str], Awaitable[str | None]]
    private_addresses: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its order and its policy under `stages`, what it has done, and what is around it."""

    order: Order
    journal: Journal
    around: Around
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What is to be done: the task's `stages`."""
        found: Mapping[str, Any] = self.order.policy["stages"]
        return found

    @property
    def project(self) -> str:
        """The project it belongs to."""
        return self.order.job.key.split("/")[1]

    @property
    def environment(self) -> str:
        """The environment it belongs to; "" where a Build has none."""
        found = self.order.job.key.split("/")[2]
        return "" if found == "_" else found

    @property
    def environment_inputs(self) -> Mapping[str, Any]:
        """What every deployment of the environment is given; as it was when the run was asked for, if that is known."""
        if "environment_inputs" in self.wanted:
            return dict(self.wanted["environment_inputs"])
        found = self.around.declared(f"Environment/{self.project}/{self.environment}")
        return dict(((found.spec if found else None) or {}).get("inputs") or {})

    @property
    def identity(self) -> str:
        """Whom it acts as: its service account, or who started it."""
        return str(self.wanted.get("identity") or self.order.job.actor)

    def tell(self, stages: list[dict[str, Any]], name: str, **fields: Any) -> None:
        """Fields of a stage in the record, which is stored with the next thing that is."""
        entry = next((each for each in stages if each["name"] == name), None)
        if entry is None:
            entry = {"name": name, "status": "running", "reason": ""}
            stages.append(entry)
        entry.update({key: value for key, value in fields.items() if value is not None})

    def told(self, stages: list[dict[str, Any]], name: str, write: Write, done: Done, *, last: bool) -> None:
        """The end of one script of a stage; `last`: the stage ends with it."""
        if last or not done.passed:
            status = "ok" if done.passed else "failed"
            reason = "" if done.passed else str(done.reason or "")
            self.tell(
                stages,
                name,
                status=status,
                reason=reason,
                finished_at=moment(write),
                exit_code=done.exit_status,
            )

    def variables(self, **more: str) -> dict[str, str]:
        """What every script of it is told (escape-state, 8.3)."""
        job = self.order.job
        trigger = job.trigger
        return {
            **self.facts,
            "STEERSMAN_EXECUTION_ID": ulid(job.id),
            "STEERSMAN_PIPELINE": str(trigger.get("pipeline_name") or ""),
            "STEERSMAN_RUN_NR": str(trigger.get("run_nr") or ""),
            **more,
        }


def moment(write: Write) -> str:
    """The time of a transaction, as answers have it."""
    return write.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def skipped(run: Run, stages: list[dict[str, Any]], names: Collection[str], reason: str) -> None:
    """Stages that do not run."""
    for name in names:
        run.tell(stages, name, status="skipped", reason=reason)
