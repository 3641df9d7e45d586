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
from urllib.parse import quote, unquote

from reconciler.model.resource import Resource


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
    HELD = "held"
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
    CONFIGURATION = "configuration"
    TREE_GONE = "tree-gone"
    DISABLED = "disabled"
    WORKER_LOST = "worker-lost"
    PLAN_MISSING = "plan-missing"
    PLAN_INVALID = "plan-invalid"
    PLAN_OUTSIDE_CHECKOUT = "plan-outside-checkout"
    SCRIPT_FAILED = "script-failed"
    MISSING_INPUT = "missing-input"
    INVALID_INPUT = "invalid-input"
    INVALID_OUTPUT = "invalid-output"
    ESCAPEKIT_INVALID = "escapekit-invalid"
    VERSION_EXISTS = "version-exists"
    DECLARED_VERSION = "declared-version"
    NO_SUCH_RELEASE = "no-such-release"
    NO_SUCH_PROVIDER = "no-such-provider"
    PERMISSION_DENIED = "permission-denied"
    NO_IDENTITY = "no-identity"
    TAG_PUSH_FAILED = "tag-push-failed"
    VERSION_COMMIT_FAILED = "version-commit-failed"
    DISAPPROVED = "disapproved"
    CONFIRMATION_TIMEOUT = "confirmation-timeout"
    PIPELINE_CYCLE = "pipeline-cycle"
    CHAIN_TOO_LONG = "chain-too-long"
    WEBHOOK_FAILED = "webhook-failed"
    DEPENDENCY_FAILED = "dependency-failed"
    EXISTS = "exists"
    NO_MATCHING_CHANGES = "no-matching-changes"
    NOTHING_TO_DO = "nothing-to-do"
    NOT_RUN = "not-run"
    NOT_DEPLOYED = "not-deployed"


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
    S.DISPATCHING: frozenset(
        {S.PENDING, S.DISPATCHING, S.EXECUTING, S.ABORTING, S.ABORTED, S.DEFECTIVE, S.FAILED}
    ),
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
class Of:
    """What the jobs of a list are of; None asks for nothing."""

    project: str | None = None
    branch: str | None = None


ANYTHING = Of()


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
    """One process with one log. `exit_status` is 128 + N where signal N ended it; `run`: its folder below DATA/runs.

    `result`: what an act of this server found out, in the place of a process (of stages of a release).
    """

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
    result: Any = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt at a task. `epoch` counts its claims: who holds an older one may write nothing.

    `outputs`: what its script wrote to $STEERSMAN_OUTPUTS, by name; `actor`: who asked for it by hand; `worker`: who
    was given it, as claims are signed.
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
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A named part of a job. `policy` is its entry of the job's specification, `specification` the uuid of that."""

    id: str
    job: int
    position: int
    name: str
    state: State
    reason: str | None
    policy: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()
    specification: str | None = None


class Origin(StrEnum):
    """What a job is a run of. Of a project configuration a tree has one job of each key (cider-ci 2.1)."""

    DECLARED = "declared"
    CONFIGURATION = "configuration"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `trigger` says what made it: {type, …}; `inputs` are the INPUT_* of its scripts.

    `aborted_*` and `resumed_*`: who asked for that last, and when; `group`: the number of its job group.
    """

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
    origin: Origin = Origin.DECLARED
    project: str | None = None
    name: str | None = None
    group: int | None = None
    aborted_by: str | None = None
    aborted_at: datetime | None = None
    resumed_by: str | None = None
    resumed_at: datetime | None = None
    specification_id: str | None = None

    @property
    def configured(self) -> bool:
        """Is it the tree's job of its key?"""
        return self.origin is Origin.CONFIGURATION

    @property
    def ref(self) -> str | None:
        """The branch or tag it was made for."""
        return self.checkout.branch or self.checkout.tag


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs of manifests that belong together: one `owner` (a subject), one notice when all have ended."""

    number: int
    owner: str
    note: str | None
    triggers: tuple[Mapping[str, Any], ...]
    jobs: tuple[Job, ...]


CONFIGURATION = "Configuration"
"""The kind in KEYs of jobs of project configurations."""

_MANIFEST = "Manifest/~"


def manifest_key(owner: str) -> str:
    """In the place of a KEY: jobs of manifests are runs of nothing declared, they belong to whom submitted them."""
    return f"{_MANIFEST}{owner}/_/build"


@dataclass(frozen=True, slots=True)
class OfRef:
    """The newest job of a branch or tag."""

    branch: str | None
    tag: str | None
    number: int
    state: State
    reason: str | None


def outdated(job: Job, resource: Resource) -> bool:
    """Was it made from another specification than the one in force? Only jobs of what is declared know."""
    made = job.specification.get("generation"), job.specification.get("revision")
    return made[0] is not None and made != (resource.generation, resource.revision)


def owner_of(key: str) -> str | None:
    """Whose manifest it is; None for runs of what is declared."""
    return key.removeprefix(_MANIFEST).removesuffix("/_/build") if key.startswith(_MANIFEST) else None


def configuration_key(project: str, key: str) -> str:
    """In the place of a KEY: a job of a project configuration belongs to the Project of its Repository."""
    return f"{CONFIGURATION}/{project}/_/{quote(key, safe='')}"


def configured_as(key: str) -> tuple[str, str] | None:
    """(project, key in the configuration) of such a KEY; None for all others."""
    kind, *rest = key.split("/", 3)
    if kind != CONFIGURATION or len(rest) != 3:
        return None
    return rest[0], unquote(rest[2])


def shown_key(job: Job) -> str:
    """The key of a job where keys are unique within a tree (cider-ci 2.1, 8.3; design 13.2)."""
    if owner_of(job.key) is not None:
        return f"srht-{job.number}"
    configured = configured_as(job.key)
    if configured is None:
        return f"{job.key}#{job.number}"
    return configured[1] if job.configured else f"{configured[1]}#{job.number}"


def shown_name(job: Job) -> str:
    """Its name for people there."""
    return job.name if job.configured and job.name else shown_key(job)
