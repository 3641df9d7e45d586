"""What there is to tell: receivers of Notifications as a commit declares them, and what follows from what has ended.

Called inside the transaction of the commit, and of the end of a job or of a pipeline's run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.controllers import notifications as controller
from reconciler.controllers.notifications import EMAIL, READERS
from reconciler.controllers.notifications import KINDS as KINDS
from reconciler.model import deployment
from reconciler.model.event import Recorded
from reconciler.model.execution import Type
from reconciler.model.notice import Notice
from reconciler.model.resource import Resource
from reconciler.store import deployments, events, failing, notified
from reconciler.store.database import Connection, Write
from reconciler.store.notified import Cursor

ALL = "notifications"
"""The name of the pass that looks at all of them."""

GIVEN_UP = "notification-given-up"
COUNTED = 500
"""So many events are looked at to count what waits."""


def ended(write: Write, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the event of an end says beside `body`: `recovered`, where it is the first pass after a failure of the same
    KEY, act and ref; and then `upgrade`, where a deploy has replaced another version. Cancelled ones and checks for
    drift are neither pass nor failure.
    """
    verdict = controller.verdict(key, body)
    if verdict is None:
        return {}
    act = body.get("type")
    same = key, act or "", body.get("ref") or ""
    if not verdict:
        failing.failed(write, *same)
        return {}
    if not failing.passed(write, *same):
        return {}
    if act != Type.DEPLOY.value:
        return {"recovered": True}
    stands = deployments.deployed_of(write.connection, deployment.of(key))
    return {"recovered": True, "upgrade": stands.get("job") == body["number"] and bool(stands.get("upgrade"))}


def follow(write: Write, stored: Iterable[Resource], removed: Iterable[str]) -> None:
    """A new receiver is told of what comes after the commit that names it, one that is declared anew of what waited for
    it too; of one that is gone it is recorded what waited.
    """
    gone = list(removed)
    if gone:
        failing.drop(write, gone)
    changed: dict[str, Mapping[str, Any] | None] = {
        key: None for key in gone if key.partition("/")[0] in KINDS
    }
    changed |= {each.key: each.spec for each in stored if each.kind in KINDS}
    if not changed:
        return
    last = events.last(write.connection)
    known: dict[str, list[Cursor]] = {}
    for cursor in notified.load_all(write.connection, changed):
        known.setdefault(cursor.key, []).append(cursor)
    for key, spec in changed.items():
        _follow(write, key, spec, known.get(key, ()), last)


def _follow(
    write: Write, key: str, spec: Mapping[str, Any] | None, known: Sequence[Cursor], last: int
) -> None:
    wanted = controller.receivers(spec)
    for cursor in known:
        if spec is None or cursor.receiver not in wanted:
            _forget(write, cursor)
            continue
        changed: dict[str, Any] = {"again_at": None}
        changed["filters"] = controller.refiltered(cursor.filters, spec, cursor.seq, last)
        if cursor.fingerprint != wanted[cursor.receiver]:
            fresh: dict[str, Any] = {
                "tries": 0,
                "error": None,
                "failing_since": None,
                "stopped": False,
                "refused": {},
            }
            changed |= {"fingerprint": wanted[cursor.receiver], **fresh}
            if cursor.receiver == EMAIL:
                changed["put_off"] = _still(write, cursor, spec[EMAIL]["to"])
        notified.change(write, cursor, **changed)
    if spec is not None:
        for receiver in wanted.keys() - {cursor.receiver for cursor in known}:
            filters = [controller.chosen(spec)]
            notified.begin(write, Cursor(key, receiver, wanted[receiver], last, filters))


def _still(write: Write, cursor: Cursor, to: Sequence[str]) -> list[dict[str, Any]]:
    """The mails that some have yet to get, without the addresses that are gone."""
    left = [
        {**each, "to": {address: why for address, why in each["to"].items() if address in to}}
        for each in cursor.put_off
    ]
    gone = [each["seq"] for each in left if not each["to"]]
    if gone:
        give_up(write, cursor, gone, "the addresses are declared no more")
    return [each for each in left if each["to"]]


def _forget(write: Write, cursor: Cursor) -> None:
    found = events.of_kinds(write.connection, cursor.seq, READERS, COUNTED)
    waited = [*(each["seq"] for each in cursor.put_off), *(each.seq for each in notices(cursor, found))]
    if waited:
        give_up(write, cursor, waited, "it is declared no more", more=len(found) == COUNTED)
    notified.drop(write, cursor)


def give_up(write: Write, cursor: Cursor, waited: Sequence[int], cause: str, *, more: bool = False) -> None:
    """Record that these events are not told to a receiver, and why; `more`: so were others, not counted."""
    body = {"receiver": cursor.receiver, "count": len(waited), "events": list(waited), "cause": cause}
    write.record(GIVEN_UP, cursor.key, body | {"error": cursor.error, "more": more})


def notices(cursor: Cursor, found: Iterable[Recorded]) -> Iterator[Notice]:
    """What of these events is for a receiver."""
    for recorded in found:
        notice = controller.told(cursor.key, cursor.filters, recorded)
        if notice is not None:
            yield notice


def waiting(connection: Connection, cursor: Cursor) -> tuple[int, bool]:
    """How many notices a receiver has not had, and whether there may be more than were counted."""
    found = events.of_kinds(connection, cursor.seq, READERS, COUNTED)
    return sum(1 for _ in notices(cursor, found)) + len(cursor.put_off), len(found) == COUNTED
