"""Stores the status of a resource, which no commit says: sync, health, conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.store import resources as rows
from reconciler.store.database import Write

Change = Callable[[Resource], Resource]


async def change_status(installation: Installation, key: str, change: Change) -> None:
    """Store what `change` makes of a resource's status, if it makes a difference; all else belongs to its commits."""
    await change_statuses(installation, {key: change})


async def change_statuses(installation: Installation, changes: Mapping[str, Change]) -> None:
    """The same of many, in one transaction."""
    resources = installation.snapshot.current.resources
    wanted = {
        key: change
        for key, change in changes.items()
        if key in resources and change(resources[key]) != resources[key]
    }
    if not wanted:
        return

    def store(write: Write) -> list[Resource]:
        found = ((change, rows.load(write.connection, key)) for key, change in wanted.items())
        return [
            rows.save_status(write.connection, change(resource), write.version)
            for change, resource in found
            if resource is not None
        ]

    stored = await installation.database.write(store)
    view = installation.snapshot.current
    fresh = [
        resource
        for resource in stored
        if (current := view.resources.get(resource.key)) is not None and current.version <= resource.version
    ]
    if fresh:
        installation.snapshot.swap(view.with_changes(installation.database.version, fresh))
