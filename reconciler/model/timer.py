"""A stored due time of one schedule trigger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Timer:
    """`digest` names the trigger's definition: a changed one starts anew. Times are UTC."""

    position: int
    digest: str
    last_due: datetime | None
    next_due: datetime | None
