"""Executions: jobs seen as runs of Builds and Deployments, listed and found by their Escape id (escape-state, 3.6).

Rights are those on what an execution is a run of. It stays readable when that is no longer declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.execution import Execution, Type, from_ulid, status
from reconciler.model.job import State
from reconciler.queries.jobs import sight
from reconciler.store import executions, jobs
from reconciler.store.database import Connection
from reconciler.store.executions import Wanted

BUILDS = (Type.BUILD,)
DEPLOYMENTS = tuple(each for each in Type if each is not Type.BUILD)
MOST = 500
_PORTION = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """Which executions: of a kind (`Build`, `Deployment`), a project, an environment and a name, as far as given.

    `status`: as published; `before`: an id of Escape, only what is lower than it.
    """

    kind: str
    project: str | None = None
    environment: str | None = None
    name: str | None = None
    status: str | None = None
    before: str | None = None
    limit: int = 50


async def page(
    installation: Installation, caller: Caller, listing: Listing
) -> tuple[list[Execution], str | None]:
    """Those that the caller sees, newest first; and the id to give as `before` for more, if there are."""
    wanted = _wanted(listing)
    if wanted is None:
        return [], None
    found: list[Execution] = []
    seen = sight(caller)
    while len(found) <= listing.limit:
        query = replace(wanted, limit=min(_PORTION, listing.limit + 1))
        some = await installation.database.read(lambda c, query=query: executions.page(c, query, seen))  # type: ignore[misc]
        found += [each for each in some if _fits(listing, each)]
        if len(some) < query.limit:
            break
        wanted = replace(wanted, before=some[-1].job.id)
    shown = found[: listing.limit]
    return shown, shown[-1].job.id if len(found) > listing.limit else None


async def one(installation: Installation, caller: Caller, key: str, execution: str) -> Execution:
    """The execution of a KEY that has this id of Escape. NotFound."""
    missing = NotFound("NoSuchExecution", f"there is no execution {execution[:64]!r} of {key}")
    job = from_ulid(execution)
    if job is None:
        raise missing

    def find(connection: Connection) -> Execution | None:
        number = jobs.by_id(connection, job)
        return None if number is None else executions.load(connection, number)

    found = await installation.database.read(find)
    if found is None or found.job.key != key or not caller.sees_job(found.job.number, key, None):
        raise missing
    return found


async def ids(installation: Installation, found: Sequence[Execution]) -> dict[int, str]:
    """Number → id of the jobs that these are retries of."""
    numbers = [each.job.retry_of for each in found if each.job.retry_of is not None]
    return await installation.database.read(lambda c: executions.ids(c, numbers)) if numbers else {}


def _wanted(listing: Listing) -> Wanted | None:
    """What is asked of the store; None: there can be nothing."""
    prefix = f"{listing.kind}/"
    parts = (listing.project, listing.environment, listing.name)
    for place, part in enumerate(parts):
        if part is None:
            break
        prefix += part if place == len(parts) - 1 else f"{part}/"
    states = tuple(each for each in State if listing.status is not None and status(each) == listing.status)
    if listing.status is not None and not states:
        return None
    types = BUILDS if listing.kind == "Build" else DEPLOYMENTS
    return Wanted(prefix, types, states, listing.before)


def _fits(listing: Listing, execution: Execution) -> bool:
    """What a prefix alone does not say."""
    own = execution.job.key.split("/", 3)[1:]
    wanted = (listing.project, listing.environment, listing.name)
    return all(part in (None, has) for part, has in zip(wanted, own, strict=True))
