"""Why something does not run, in words (design 8.4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.access import Caller, missing
from reconciler.controllers.deployment_causes import causes_of_deployment
from reconciler.controllers.follows import awaited
from reconciler.controllers.pipeline_causes import causes_of_runs
from reconciler.controllers.why import Question, causes
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.job import Job
from reconciler.passes import builds
from reconciler.queries.jobs import waits_of
from reconciler.store import deployments, holds, jobs, pipelines, timers
from reconciler.store.database import Connection

_NEVER = datetime.max.replace(tzinfo=UTC)  # a trigger that was not seen yet: nothing has passed since


async def why(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """The causes for one KEY; none means that nothing stands in the way."""
    view = installation.snapshot.current
    resource = view.resources.get(key)
    if resource is None or not caller.sees(key):
        raise missing(key)
    leaders = builds.leaders(installation, resource)
    live, latest, awaits = await installation.database.read(lambda c: _facts(c, key, leaders))
    question = Question(
        resource=resource,
        source_trouble=view.source.trouble if view.source else None,
        trouble=installation.troubles.get(key),
        live=live,
        latest=latest,
        waits=await waits_of(installation, live),
        awaits=awaits,
    )
    found = list(causes(question))
    if resource.kind == "Pipeline":
        runs, newest = await installation.database.read(
            lambda c: (pipelines.live(c, key), pipelines.latest(c, key))
        )
        found += causes_of_runs(resource, runs, newest)
    elif resource.kind == "Deployment":
        place = state_of.of(key)
        row, held = await installation.database.read(
            lambda c: (deployments.load(c, installation.keys, place), holds.of_key(c, key))
        )
        state = row.state if row is not None else state_of.empty(resource.name)
        found += causes_of_deployment(resource, state, live, latest, held)
    items = [{"reason": c.reason, "message": c.message, "where": c.where} for c in found]
    return {"key": key, "sync": resource.sync.value, "health": resource.health.value, "causes": items}


def _facts(
    connection: Connection, key: str, leaders: Mapping[int, tuple[str, ...]]
) -> tuple[list[Job], Job | None, dict[int, tuple[str, ...]]]:
    live = [jobs.load(connection, job.number) for job in jobs.live(connection, key)[:20]]
    since = {position: timer.last_due for position, timer in timers.load(connection, key).items()}
    awaits = {
        position: awaited(follow, since.get(position) or _NEVER)
        for position, follow in builds.follows_of(connection, key, leaders).items()
    }
    return [job for job in live if job is not None], jobs.latest(connection, key), awaits
