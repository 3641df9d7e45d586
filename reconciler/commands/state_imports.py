"""States of whole environments, taken over from a file: all or nothing, together with a commit (escape-state, 15.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from reconciler.access import Caller
from reconciler.commands.deployments import refuse_held
from reconciler.installation import Installation
from reconciler.model.deployment import Place, State
from reconciler.store import deployments
from reconciler.store.database import Write
from reconciler.store.deployments import Row

Before = Mapping[Place, Row | None]


@asynccontextmanager
async def taken_over(
    installation: Installation, caller: Caller, states: Mapping[Place, State]
) -> AsyncIterator[None]:
    """These states are kept in one transaction, and taken back if the commit inside of this fails.

    Until the commit is applied, they are states of what nobody has declared. Conflict while an execution has one.
    """
    before = await installation.database.write(lambda w: _put(w, installation, caller, states), caller.actor)
    version = installation.database.version
    try:
        yield
    except Exception:
        await installation.database.write(
            lambda w: _take_back(w, installation, before, version), caller.actor
        )
        raise


def _put(write: Write, installation: Installation, caller: Caller, states: Mapping[Place, State]) -> Before:
    before: dict[Place, Row | None] = {}
    for place, state in states.items():
        row = deployments.load(write.connection, installation.keys, place)
        refuse_held(installation, write.connection, caller, place, row)
        if row is None or row.state != state:
            before[place] = row
            deployments.save(write, installation.keys, place, state)
    if before:
        write.record("states-imported", None, {"keys": sorted(place.key for place in before)})
    return before


def _take_back(write: Write, installation: Installation, before: Before, version: int) -> None:
    """As it was, but for what somebody has said since."""
    for place, row in before.items():
        now = deployments.load(write.connection, installation.keys, place)
        if now is None or now.version > version:
            continue
        if row is None:
            deployments.drop(write, place)
        else:
            deployments.save(write, installation.keys, place, row.state)
    if before:
        write.record("states-taken-back", None, {"keys": sorted(place.key for place in before)})
