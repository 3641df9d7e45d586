"""A notice: something that happened, as a Notification tells it (own-kinds). Read from the event log, never stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Happening(StrEnum):
    """What is told. `test` is sent by hand only."""

    FAILED = "failed"
    RECOVERED = "recovered"
    HELD = "held"
    DRIFTED = "drifted"
    APPROVAL_WANTED = "approval-wanted"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notice:
    """`id`: the same at each try, and no other's anywhere; `path`: where more is told, below the server's address.

    `seq`: the number of its event, 0 for a test; `number`: of the job, of the pipeline's run, or of the request for
    approval; `act`: what an execution does (`model.execution.Type`), with its `version`; `unexpected`: it ended without
    a verdict (`defective`); `upgrade`: there was another version before; `drift`: it is about drift.
    """

    id: str
    seq: int
    at: datetime
    happening: Happening
    key: str
    project: str | None
    message: str
    path: str
    number: int | None = None
    act: str | None = None
    version: str | None = None
    ref: str | None = None
    unexpected: bool = False
    upgrade: bool = False
    drift: bool = False
