"""Due times of schedules that were missed: the last one counts (design 6).

Pure; called by the controllers of Builds and Pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from specs.schedule import next_due


def latest_due(
    trigger: Mapping[str, Any], due: datetime, now: datetime, seed: str
) -> tuple[datetime, datetime | None]:
    """The last due time not after now (missed ones run once), and the one to come."""
    candidate, following = due, next_due(trigger, due, seed)
    if following is not None and following <= now:
        probe = now - timedelta(minutes=1)
        while probe > due:
            found = next_due(trigger, probe, seed)
            if found is not None and found <= now:
                candidate = found
                break
            probe -= now - probe
        following = next_due(trigger, candidate, seed)
        while following is not None and following <= now:
            candidate, following = following, next_due(trigger, following, seed)
    return candidate, following
