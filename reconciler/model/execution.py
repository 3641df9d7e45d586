"""Executions: jobs seen as runs of a Build or a Deployment (escape-state, 7.3, 7.6, 11.1), and how Escape words them.

`record` is what the run has found out so far, in the fields of the wire: of a Build {branch, commit, steps, releases};
of a Deployment {release, version, stages, errand_name, errand_inputs, deployment_job}. It changes only together with
the scripts whose ends it tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from reconciler.model.job import Job, Reason, State

HANDED, HANDED_ENTRIES, HANDED_BYTES, FINAL = "_handed", "_entries", "_bytes", "_final"
"""In the record of an execution that an external worker runs: when that has taken it, how many entries and bytes it has
sent, and {status, reason} once it has said the last word (escape-state, 12.4).
"""

LOCKED = "locked"
"""In the place of a sensitive value in a specification: its text, locked with the server's key."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Type(StrEnum):
    """What an execution does; `build` is a Build's, all others are a Deployment's. A `check` looks for drift."""

    BUILD = "build"
    DEPLOY = "deploy"
    SMOKE = "smoke"
    DESTROY = "destroy"
    ERRAND = "errand"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Execution:
    """One run. `worker`: the address of the one it was handed to; `heard_at`: when that last said something."""

    job: Job
    type: Type
    record: Mapping[str, Any]
    worker: str | None = None
    heard_at: datetime | None = None


def status(state: State) -> str:
    """The published status of an execution (escape-state, 11.1; design 13.8)."""
    if not state.finished:
        return "pending" if state is State.PENDING else "running"
    return "ok" if state is State.PASSED else "failed"


_WORDS: Mapping[str, str] = {
    Reason.EXIT_STATUS: "script-failed",
    Reason.LOST: "worker-lost",
    Reason.PRUNED: "cancelled",
    Reason.COMMIT_GONE: "checkout-failed",
    Reason.NOT_REACHED: "not-run",
}


def status_reason(job: Job) -> str:
    """The published reason; "" where there is none (escape-state, 11.6)."""
    reason = job.reason or next(
        (trial.reason for task in job.tasks for trial in reversed(task.trials) if trial.reason), None
    )
    return _WORDS.get(reason, str(reason)) if reason else ""


def ulid(job_id: str) -> str:
    """A job's identifier as Escape shows it: the same 128 bits, in the order of time (design 7.1)."""
    number = UUID(job_id).int
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def from_ulid(text: str) -> str | None:
    """The job's identifier; None for a text that is none."""
    if len(text) != 26 or not set(text.upper()) <= set(_CROCKFORD) or text[0] > "7":
        return None
    number = 0
    for letter in text.upper():
        number = number << 5 | _CROCKFORD.index(letter)
    return str(UUID(int=number))
