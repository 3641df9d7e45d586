"""A notice that somebody has sent to see whether it arrives (own-kinds, Notification)."""

from __future__ import annotations

import asyncio
from typing import Any

from reconciler.access import Caller, missing, require
from reconciler.controllers import notifications as controller
from reconciler.errors import Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.passes import notifications as passes
from reconciler.store import notified
from reconciler.store.database import Write
from reconciler.store.rows import new_id


async def send_test(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """Send one to each receiver, past what waits for it, and tell what came of it. Who takes it, gets the rest too.

    NotFound, Forbidden; Refused: not a Notification, or none that was ever valid.
    """
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or not caller.sees(key):
        raise missing(key)
    require(installation, caller, "trigger", key)
    if resource.kind not in controller.KINDS:
        raise Refused(
            "NotANotification", f"{key} is a {resource.kind}; `steersman notifications` lists those there are"
        )
    if resource.spec is None:
        raise Refused(
            "NeverValid", f"{key} was never valid; `steersman why {key}` says what is wrong with it"
        )
    notice = controller.for_test(resource, installation.now(), f"test-{new_id()}")

    async def one(receiver: str) -> dict[str, Any]:
        try:
            told = await passes.send(installation, resource, receiver, notice)
        except SteersmanError as error:
            return {"receiver": receiver, "taken": False, "message": error.message}
        return {"receiver": receiver, "taken": True, "message": told.message}

    found = await asyncio.gather(*map(one, controller.receivers(resource.spec)))
    taken = [each["receiver"] for each in found if each["taken"]]

    def work(write: Write) -> None:
        write.record("notification-tested", key, {"id": notice.id, "taken": taken})
        notified.hurry(write, key, taken)
        for receiver in taken:
            write.wake(passes.name_of(key, receiver))

    await installation.database.write(work, caller.actor)
    return {"key": key, "id": notice.id, "receivers": found}
