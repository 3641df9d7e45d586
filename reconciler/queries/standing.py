"""What has become of what runs: what stands of a Deployment, the newest job or run of a KEY.

Called with answers of `queries.resources`, whose callers have been asked for their rights there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.status import Sync
from reconciler.passes.wanted import Wanted, look_at_all
from reconciler.store import deployments, jobs, pipelines
from reconciler.store.database import Connection
from reconciler.store.deployments import Row


async def of_deployments(installation: Installation, page: dict[str, Any]) -> dict[str, Any]:
    """A page of Deployments, each with `deployed`: release, version, status and time; null: nothing ever was.

    `own`: scripts of its own stand there, which have no version; `revision`: the commit that declared what stands.
    """
    projects = {item["project"] for item in page["items"]}
    if not projects:
        return page
    only = projects.pop() if len(projects) == 1 else None
    rows = await installation.database.read(lambda c: deployments.summaries(c, only))
    items = [item | {"deployed": _deployed(rows.get(state_of.of(item["key"])))} for item in page["items"]]
    return page | {"items": items}


async def with_wanted(installation: Installation, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Deployments with `wanted`: the version that should stand there, or why there is none; "" for scripts of its own;
    null where what stands is what is wanted.
    """
    current = installation.snapshot.current.resources
    differing = [item["key"] for item in items if item["sync"] == Sync.OUT_OF_SYNC]
    seen = await look_at_all(
        installation, [found for key in differing if (found := current.get(key)) and found.spec is not None]
    )
    return [item | {"wanted": _wanted(seen.get(item["key"]))} for item in items]


def _wanted(seen: Wanted | None) -> str | None:
    if seen is None or not seen.anything:
        return None
    return seen.fault[1] if seen.fault is not None else seen.version


async def of_one(installation: Installation, found: dict[str, Any]) -> dict[str, Any]:
    """A Build, Deployment or Pipeline with its `newest` job or run, a Deployment with `deployed` too."""
    key, kind = found["key"], found["kind"]
    if kind not in ("Build", "Deployment", "Pipeline"):
        return found

    def look(connection: Connection) -> dict[str, Any]:
        if kind == "Pipeline":
            run = pipelines.latest(connection, key)
            told = (
                None
                if run is None
                else {"number": run.number, "state": run.status.value, "reason": run.reason}
            )
            return {"newest": told}
        job = jobs.latest(connection, key)
        newest = (
            None if job is None else {"number": job.number, "state": job.state.value, "reason": job.reason}
        )
        if kind == "Build":
            return {"newest": newest}
        place = state_of.of(key)
        rows = deployments.summaries(connection, place.project, place.environment)
        return {"newest": newest, "deployed": _deployed(rows.get(place))}

    return found | await installation.database.read(look)


def _deployed(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    stage = state_of.stage(row.state, state_of.DEPLOY)
    return {
        "release": row.release,
        "version": stage["version"],
        "own": state_of.is_deployed(row.state) and not stage["version"],
        "revision": (row.deployed or {}).get("revision"),
        "status": stage["status"]["status"],
        "at": row.updated_at.isoformat(),
    }
