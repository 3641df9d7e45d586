"""Why something does not run, in words (design 8.4)."""

from __future__ import annotations

from typing import Any

from reconciler.controllers.why import Question, causes
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.store import jobs
from reconciler.store.database import Connection


async def why(installation: Installation, key: str) -> dict[str, Any]:
    """The causes for one KEY; none means that nothing stands in the way."""
    view = installation.snapshot.current
    resource = view.resources.get(key)
    if resource is None:
        raise NotFound("NoSuchResource", f"there is no resource {key}")
    live, latest = await installation.database.read(lambda c: _jobs(c, key))
    question = Question(
        resource=resource,
        source_trouble=view.source.trouble if view.source else None,
        trouble=installation.troubles.get(key),
        live=live,
        latest=latest,
        waits=installation.waits,
    )
    items = [{"reason": c.reason, "message": c.message, "where": c.where} for c in causes(question)]
    return {"key": key, "sync": resource.sync.value, "health": resource.health.value, "causes": items}


def _jobs(connection: Connection, key: str) -> tuple[list[Job], Job | None]:
    live = [jobs.load(connection, job.number) for job in jobs.live(connection, key)[:20]]
    return [job for job in live if job is not None], jobs.latest(connection, key)
