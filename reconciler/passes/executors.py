"""The pass of the name `executors`: the health of each Executor is its last contact (design 13.15).

One that nobody serves, or only those that take nothing, is Degraded and says why. A process that is started anew is no
news: it is waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from reconciler.apply.status import change_statuses
from reconciler.controllers.places import Place as Offer
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, with_condition, without_condition
from reconciler.passes.dispatch import EXECUTORS, offers

NAME = "executors"
UNSERVED = "Unserved"
"""The condition of an Executor whose scripts would have to wait."""
_PATIENCE = timedelta(seconds=30)
_NAMED = 3


async def run(installation: Installation) -> datetime | None:
    """Look at all of them; gives when one has been without for long enough to be told."""
    now, since = installation.now(), installation.unserved
    troubles = _troubles(installation)
    for key in since.keys() - troubles.keys():
        del since[key]
    told: dict[str, tuple[str, str] | None] = {}
    due: list[datetime] = []
    for key, resource in installation.snapshot.current.of_kinds(EXECUTORS).items():
        trouble = troubles.get(key)
        if trouble is not None:  # a clock that was set back counts from now
            since[key] = min(since.get(key, now), now)
        at = since[key] + _PATIENCE if trouble is not None else now
        if at <= now or any(each.type == UNSERVED for each in resource.conditions):
            told[key] = trouble
        else:
            due.append(at)
    await change_statuses(
        installation, {key: partial(_changed, trouble=trouble, now=now) for key, trouble in told.items()}
    )
    return min(due, default=None)


def _troubles(installation: Installation) -> Mapping[str, tuple[str, str]]:
    """By KEY, (reason, sentence) of those on which nothing can start."""
    found: defaultdict[str, list[Offer]] = defaultdict(list)
    for offer in offers(installation):
        found[offer.executor].append(offer)
    return {
        key: _told(some) for key, some in found.items() if all(offer.closed is not None for offer in some)
    }


def _told(some: list[Offer]) -> tuple[str, str]:
    closed = [(offer.name, offer.closed) for offer in some if offer.closed is not None]
    sentences = [f"{name}: {fact[1]}" if name else fact[1] for name, fact in closed[:_NAMED]]
    if len(closed) > _NAMED:
        sentences.append(f"and {len(closed) - _NAMED} more")
    return closed[0][1][0], "; ".join(sentences)


def _changed(resource: Resource, trouble: tuple[str, str] | None, now: datetime) -> Resource:
    if trouble is None:
        conditions = without_condition(resource.conditions, UNSERVED)
        return replace(resource, health=Health.HEALTHY, conditions=conditions)
    conditions, (reason, message) = resource.conditions, trouble
    # figures in the sentence change all the time: it is told anew with another reason only
    if not any(each.type == UNSERVED and each.reason == reason for each in conditions):
        conditions = with_condition(conditions, Condition(UNSERVED, True, reason, message, now))
    return replace(resource, health=Health.DEGRADED, conditions=conditions)
