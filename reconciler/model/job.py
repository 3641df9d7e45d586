"""Job → Task → Trial → Script: the run-time model, its states and the moves allowed between them.

Canonical states are those of the cider-ci contract, section 8.1, with `held` and `reason`; each served API maps
them in its own table. Nothing assigns a state that these tables do not allow: the store checks every move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """States of jobs, tasks, trials and scripts; each of the four uses some of them."""

    PENDING = "pending"
    WAITING = "waiting"
    DISPATCHING = "dispatching"
    EXECUTING = "executing"
    ABORTING = "aborting"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    DEFECTIVE = "defective"
    SKIPPED = "skipped"

    @property
    def finished(self) -> bool:
        """A final state."""
        return self in FINISHED


class Reason(StrEnum):
    """Why something is in its state; enumerated once (design 13.8)."""

    EXIT_STATUS = "exit-status"
    TIMEOUT = "timeout"
    LOST = "lost"
    LOG_LIMIT = "log-limit"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    PRUNED = "pruned"
    NEEDS = "needs"
    WHEN = "when"
    OTHER_REF = "other-ref"
    CHECKOUT_FAILED = "checkout-failed"
    COMMIT_GONE = "commit-gone"
    SCRIPT_MISSING = "script-missing"
    SANDBOX_UNAVAILABLE = "sandbox-unavailable"
    EXECUTOR_ERROR = "executor-error"
    SERVICE = "service"
    INSTALL = "install"
    MEMORY_LIMIT = "memory-limit"
    DISK_LIMIT = "disk-limit"
    ATTACHMENT = "attachment"
    DISPATCH_TIMEOUT = "dispatch-timeout"
    SECRET = "secret"  # noqa: S105  (a word)
    COMPLETED = "completed"
    UNSATISFIABLE = "unsatisfiable"
    NOT_REACHED = "not-reached"


S = State
FINISHED = frozenset({S.PASSED, S.FAILED, S.ABORTED, S.DEFECTIVE, S.SKIPPED})
LIVE = frozenset(S) - FINISHED
_ENDS = frozenset({S.PASSED, S.FAILED, S.ABORTED, S.DEFECTIVE})

JOB_MOVES: Mapping[State, frozenset[State]] = {
    S.PENDING: frozenset({S.EXECUTING, S.ABORTING}) | _ENDS,
    S.EXECUTING: frozenset({S.ABORTING}) | _ENDS,
    S.ABORTING: _ENDS,
}
TASK_MOVES: Mapping[State, frozenset[State]] = {
    S.PENDING: frozenset({S.EXECUTING, S.ABORTING, S.SKIPPED}) | _ENDS,
    S.EXECUTING: frozenset({S.PENDING, S.ABORTING}) | _ENDS,
    S.ABORTING: _ENDS,
}
TRIAL_MOVES: Mapping[State, frozenset[State]] = {
    S.PENDING: frozenset({S.DISPATCHING, S.ABORTED}),
    S.DISPATCHING: frozenset({S.DISPATCHING, S.EXECUTING, S.ABORTING, S.ABORTED, S.DEFECTIVE, S.FAILED}),
    S.EXECUTING: frozenset({S.DISPATCHING, S.ABORTING}) | _ENDS,
    S.ABORTING: frozenset({S.ABORTED, S.PASSED}),
}
SCRIPT_MOVES: Mapping[State, frozenset[State]] = {
    S.PENDING: frozenset({S.WAITING, S.EXECUTING, S.SKIPPED, S.ABORTED, S.DEFECTIVE}),
    S.WAITING: frozenset({S.EXECUTING, S.SKIPPED, S.ABORTED, S.DEFECTIVE}),
    S.EXECUTING: frozenset({S.PENDING}) | _ENDS,
}


def origins(moves: Mapping[State, frozenset[State]], target: State) -> frozenset[State]:
    """The states from which `target` may be reached."""
    return frozenset(state for state, targets in moves.items() if target in targets)


@dataclass(frozen=True, slots=True)
class Checkout:
    """What a job's workspace holds: one commit of one repository, or nothing (`url` None).

    `secret` is the KEY of the Secret with the SSH key that the repository is fetched with, if one is declared.
    """

    url: str | None = None
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None
    tag: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """One process with one log. `exit_status` is 128 + N where signal N ended it; `run`: its folder below DATA/runs."""

    id: str
    trial: str
    name: str
    state: State
    reason: str | None
    exit_status: int | None
    log_size: int | None
    started_at: datetime | None
    finished_at: datetime | None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt at a task. `epoch` counts its claims: who holds an older one may write nothing.

    `outputs`: what its script wrote to $STEERSMAN_OUTPUTS, by name; `actor`: who asked for it by hand.
    """

    id: str
    task: str
    number: int
    state: State
    reason: str | None
    error: str | None
    executor: str | None
    epoch: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    scripts: tuple[Script, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A named part of a job. `policy` is its entry of the job's specification."""

    id: str
    job: int
    position: int
    name: str
    state: State
    reason: str | None
    policy: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `trigger` says what made it: {type, …}; `inputs` are the INPUT_* of its scripts."""

    number: int
    id: str
    key: str
    state: State
    reason: str | None
    held: bool
    specification: Mapping[str, Any]
    work_digest: str
    checkout: Checkout
    trigger: Mapping[str, Any]
    inputs: Mapping[str, str]
    actor: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    retry_of: int | None = None
    tasks: tuple[Task, ...] = ()

    @property
    def ref(self) -> str | None:
        """The branch or tag it was made for."""
        return self.checkout.branch or self.checkout.tag


_MANIFEST = "Manifest/~"


def manifest_key(owner: str) -> str:
    """In the place of a KEY: jobs of manifests are runs of nothing declared, they belong to whom submitted them."""
    return f"{_MANIFEST}{owner}/_/build"


def owner_of(key: str) -> str | None:
    """Whose manifest it is; None for runs of what is declared."""
    return key.removeprefix(_MANIFEST).removesuffix("/_/build") if key.startswith(_MANIFEST) else None
