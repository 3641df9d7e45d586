"""What is stored of one trigger: the due times of a schedule, or since when the ends of jobs count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Timer:
    """`digest` names the trigger's definition: a changed one starts anew. Times are UTC.

    `since`: of what follows jobs, the version of the store from which on their ends count, whatever a clock says; an
    end in that very one counts too.
    """

    position: int
    digest: str
    last_due: datetime | None = None
    next_due: datetime | None = None
    since: int | None = None
