"""Requests for approval as one caller sees them: those of an application, one, what was said (sqedule, 4, 5.1).

A request of a served API is seen by whoever has any role; one for a deploy by those who see the Deployment.
"""

from __future__ import annotations

from functools import partial

from reconciler.access import Caller
from reconciler.apply import requests as apply
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.request import Decision as Decision
from reconciler.model.request import Outcome, Request
from reconciler.passes.authority import authority_of
from reconciler.store import requests as rows
from reconciler.store.database import Connection

_TOGETHER = 500


async def of_application(
    installation: Installation, caller: Caller, application: str | None, limit: int | None, offset: int
) -> list[Request]:
    """Newest first, of one application (in any case of letters) or of all; no limit: all that are left."""
    if caller.sees_all:
        return await installation.database.read(lambda c: rows.of_application(c, application, limit, offset))
    seen: list[Request] = []
    read = 0
    while limit is None or len(seen) < offset + limit:
        some = await installation.database.read(partial(_page, application, read))
        seen += [request for request in some if caller.sees(rows.key_of(request))]
        read += len(some)
        if len(some) < _TOGETHER:
            break
    return seen[offset:] if limit is None else seen[offset : offset + limit]


def _page(application: str | None, offset: int, connection: Connection) -> list[Request]:
    return rows.of_application(connection, application, _TOGETHER, offset)


async def get(installation: Installation, caller: Caller, id: int, application: str | None = None) -> Request:
    """One by its number, and only under its own application if one is given. NotFound."""
    request = await installation.database.read(lambda c: rows.find(c, id))
    if request is None or not caller.sees(rows.key_of(request)):
        raise NotFound("NoSuchRequest", f"there is no request {id}")
    if application is not None and request.application != application.lower():
        raise NotFound("NoSuchRequest", f"{application} has no request {id}")
    return request


async def events(installation: Installation, caller: Caller, id: int) -> tuple[Request, list[Outcome]]:
    """A request with how its rules were judged so far, in order. NotFound."""
    request = await get(installation, caller, id)
    return request, await installation.database.read(lambda c: rows.outcomes(c, id))


async def decisions(installation: Installation, caller: Caller, id: int) -> list[Decision]:
    """What people have said of its manual rules, in order of time. NotFound."""
    request = await get(installation, caller, id)
    return await installation.database.read(lambda c: apply.decisions_of(c, request))


async def waits(installation: Installation, caller: Caller, id: int) -> tuple[str, ...]:
    """What it still needs, of whom, and what goes wrong: sentences without an end. NotFound."""
    request = await get(installation, caller, id)
    authority = authority_of(installation)
    return await installation.database.read(lambda c: apply.waits_of(c, request, authority))
