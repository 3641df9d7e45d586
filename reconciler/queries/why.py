"""Why something does not run, in words (design 8.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.access import Caller, missing
from reconciler.controllers.deployment_causes import causes_of_deployment
from reconciler.controllers.follows import awaited
from reconciler.controllers.pipeline_causes import causes_of_runs
from reconciler.controllers.why import Question, causes
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.job import Checkout, Job, OfRef
from reconciler.model.resource import Resource
from reconciler.passes import builds
from reconciler.queries.jobs import waits_of
from reconciler.store import deployments, holds, jobs, pipelines, timers
from reconciler.store.database import Connection


async def why(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """The causes for one KEY; none means that nothing stands in the way."""
    view = installation.snapshot.current
    resource = view.resources.get(key)
    if resource is None or not caller.sees(key):
        raise missing(key)
    leaders = builds.leaders(installation, resource)
    main, refs = await _refs(installation, resource)
    live, latest, awaits, newest_of_refs = await installation.database.read(
        lambda c: _facts(c, resource, leaders, main)
    )
    question = Question(
        resource=resource,
        source_trouble=view.source.trouble if view.source else None,
        trouble=installation.troubles.get(key),
        live=live,
        latest=latest,
        waits=await waits_of(installation, live),
        awaits=awaits,
        others=_others(newest_of_refs, main, refs),
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


async def _refs(
    installation: Installation, resource: Resource
) -> tuple[Checkout | None, tuple[set[str], set[str]]]:
    """Of a Build: the branch that its health is of, and the branches and tags that there are; nothing while these are
    not known.
    """
    nothing: tuple[set[str], set[str]] = (set(), set())
    if resource.kind != "Build":
        return None, nothing
    try:
        main = await builds.main_of(installation, resource)
        return main, nothing if main is None else await builds.refs_of(installation, resource)
    except SteersmanError:
        return None, nothing


def _others(
    found: Sequence[OfRef], main: Checkout | None, refs: tuple[set[str], set[str]]
) -> tuple[OfRef, ...]:
    """Those of branches and tags that still are there; without a main branch health tells of all."""
    if main is None:
        return ()
    branches, tags = refs
    return tuple(
        job for job in found if job.branch != main.branch and (job.branch in branches or job.tag in tags)
    )


def _facts(
    connection: Connection,
    resource: Resource,
    leaders: Mapping[int, tuple[str, ...]],
    main: Checkout | None,
) -> tuple[list[Job], Job | None, dict[int, tuple[str, ...]], list[OfRef]]:
    key = resource.key
    live = [jobs.load(connection, job.number) for job in jobs.live(connection, key)[:20]]
    since = {position: timer.since for position, timer in timers.load(connection, key).items()}
    awaits = {
        position: awaited(follow, since.get(position))
        for position, follow in builds.follows_of(connection, leaders).items()
    }
    known = [job for job in live if job is not None]
    if main is None:
        return known, jobs.latest(connection, key), awaits, []
    latest = builds.latest_of_main(connection, resource, main, None)
    return known, latest, awaits, jobs.newest_by_ref(connection, key)
