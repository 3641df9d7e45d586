"""Who is told of what happens, how far they have been told, and what keeps them (own-kinds, Notification)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.access import Caller
from reconciler.apply.notifications import waiting
from reconciler.controllers import notifications as controller
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.store import notified
from reconciler.store.database import Connection
from reconciler.store.notified import Cursor

_TROUBLED = frozenset({"stopped", "failing", "refused"})


async def receivers(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """One entry for each receiver of the Notifications that a caller sees, those that fail first.

    `state`: `stopped`, it wants no more; `failing`; `refused`, some addresses of its last mail are for good; `waiting`;
    `delivered`; `idle`, nothing was ever sent. `refused`, `put_off`: {address: why}, of mails.
    `waiting`: notices that have not been delivered; `waiting_more`: there may be more of them than were counted.
    """
    found = installation.snapshot.current.of_kinds(controller.KINDS)
    seen = {key: resource for key, resource in found.items() if caller.sees(key)}
    shown = await installation.database.read(lambda c: list(_all(c, seen)))
    return sorted(shown, key=lambda each: (each["state"] not in _TROUBLED, each["key"], each["receiver"]))


def _all(connection: Connection, seen: Mapping[str, Resource]) -> Iterator[dict[str, Any]]:
    cursors = {(each.key, each.receiver): each for each in notified.load_all(connection, seen)}
    for key, resource in seen.items():
        for receiver in controller.receivers(resource.spec):
            cursor = cursors.get((key, receiver))
            if cursor is not None:
                yield _receiver(connection, resource, cursor)


def _receiver(connection: Connection, resource: Resource, cursor: Cursor) -> dict[str, Any]:
    count, more = waiting(connection, cursor)
    spec = (resource.spec or {})[cursor.receiver]
    return {
        "key": cursor.key,
        "receiver": cursor.receiver,
        "to": spec["to"] if cursor.receiver == controller.EMAIL else [spec["url"]],
        "where": resource.location,
        "state": _state(cursor, count),
        "delivered": cursor.delivered,
        "last_delivery": _moment(cursor.delivered_at),
        "waiting": count,
        "waiting_more": more,
        "error": cursor.error,
        "tries": cursor.tries,
        "failing_since": _moment(cursor.failing_since),
        "next_try": _moment(min(_tries(cursor), default=None)),
        "refused": dict(cursor.refused),
        "put_off": {to: why for each in cursor.put_off for to, why in each["to"].items()},
    }


def _state(cursor: Cursor, waiting: int) -> str:
    told = "delivered" if cursor.delivered else "idle"
    states = {
        "stopped": cursor.stopped,
        "failing": cursor.error is not None or cursor.put_off,
        "refused": cursor.refused,
        "waiting": waiting,
    }
    return next((state for state, holds in states.items() if holds), told)


def _tries(cursor: Cursor) -> Iterator[datetime]:
    if cursor.again_at is not None:
        yield cursor.again_at
    yield from (datetime.fromisoformat(each["again_at"]) for each in cursor.put_off)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
