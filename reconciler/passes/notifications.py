"""The passes `notifications` and `notify/RECEIVER/KEY`: whoever a Notification names is told what happened.

One name for each receiver, so that none waits for another; each is told one thing after the other, in the order of the
log. How far it has been told is stored after it was: killed in between, the same is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import structlog

from reconciler.apply import status
from reconciler.apply.notifications import ALL as ALL
from reconciler.controllers import cdevents
from reconciler.controllers import notifications as controller
from reconciler.controllers.notifications import EMAIL, KINDS, READERS
from reconciler.controllers.repositories import secret_of
from reconciler.errors import Refused, SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.model.event import Recorded
from reconciler.model.notice import Notice
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, with_condition, without_condition
from reconciler.source.secrets import VALUE, opened
from reconciler.store import events, notified, resources
from reconciler.store.database import Connection, Write
from reconciler.store.notified import Cursor

log = structlog.get_logger(__name__)
PREFIX = "notify/"
DELIVERED, FAILING = "Delivered", "Failing"
_LOOKED, _COUNTED = 200, 500
_EARLIER = 50
_SHOWN = 200


def heard(installation: Installation, _version: int, recorded: Recorded | None) -> None:
    """Something was recorded: those who are told of it are woken. Called after each commit."""
    if recorded is None or recorded.event.kind not in READERS:
        return
    for resource in installation.snapshot.current.of_kinds(KINDS).values():
        if controller.told(resource, recorded) is not None:
            for receiver in controller.receivers(resource.spec):
                installation.wake(name_of(resource.key, receiver))


def name_of(key: str, receiver: str) -> str:
    """The name of a receiver's pass."""
    return f"{PREFIX}{receiver}/{key}"


async def run_all(installation: Installation) -> None:
    """Look at every receiver: at a start, after a commit, and now and then."""
    declared = installation.snapshot.current.of_kinds(KINDS)
    wanted = {key: controller.receivers(resource.spec) for key, resource in declared.items()}
    found = await installation.database.read(notified.load_all)
    known: dict[str, dict[str, str]] = {}
    for cursor in found:
        known.setdefault(cursor.key, {})[cursor.receiver] = cursor.fingerprint
    different = [key for key in known.keys() | wanted.keys() if known.get(key, {}) != wanted.get(key, {})]
    if different:
        await installation.database.write(partial(_follow, different))
    await _tell(installation, list(declared))
    for key, names in wanted.items():
        for receiver in names:
            installation.wake(name_of(key, receiver))


def _follow(keys: Sequence[str], write: Write) -> None:
    """As it is stored, which may be newer than what was seen."""
    for key in keys:
        resource = resources.load(write.connection, key)
        notified.follow(write, key, controller.receivers(None if resource is None else resource.spec))


@dataclass(frozen=True, slots=True)
class _Next:
    """What comes after a cursor: the first notice, the number of the last event looked at, is there more?"""

    notice: Notice | None
    looked: int
    more: bool


async def run(installation: Installation, name: str) -> datetime | None:
    """Tell one receiver all that waits for it; gives the time of the next try after one that failed."""
    receiver, _, key = name.removeprefix(PREFIX).partition("/")
    while True:
        resource = installation.snapshot.current.of_kinds(KINDS).get(key)
        if resource is None or (resource.spec or {}).get(receiver) is None:
            return None
        cursor, following = await installation.database.read(partial(_read, resource, receiver))
        if cursor is None or cursor.fingerprint != controller.receivers(resource.spec)[receiver]:
            return None  # a commit is being applied, which wakes all of them
        if following.notice is None:
            if not following.more:
                return None
            await installation.database.write(partial(_skip, cursor, following.looked))
            continue
        if controller.waits(cursor.again_at, installation.now()):
            return cursor.again_at
        at = await _deliver(installation, resource, cursor, following.notice)
        if at is not None:
            return at


async def _deliver(
    installation: Installation, resource: Resource, cursor: Cursor, notice: Notice
) -> datetime | None:
    """One try, and what comes of it; the time of the next one, if it has failed."""
    try:
        await send(installation, resource, cursor.receiver, notice)
    except SteersmanError as error:
        now = installation.now()
        log.warning("not-notified", key=resource.key, receiver=cursor.receiver, reason=error.reason)
        at = now + controller.delay(cursor.tries + 1)
        await installation.database.write(partial(_failed, resource, cursor, _plain(error.message), now, at))
        await _tell(installation, [resource.key])
        return at
    await installation.database.write(partial(_delivered, cursor, notice.seq, installation.now()))
    await _tell(installation, [resource.key])
    return None


def _delivered(cursor: Cursor, seq: int, now: datetime, write: Write) -> None:
    fresh = {"tries": 0, "again_at": None, "error": None, "failing_since": None}
    notified.move(write, cursor, seq=seq, delivered=cursor.delivered + 1, delivered_at=now, **fresh)


def _skip(cursor: Cursor, seq: int, write: Write) -> None:
    notified.move(write, cursor, seq=seq)


def _failed(
    resource: Resource, cursor: Cursor, error: str, now: datetime, at: datetime, write: Write
) -> None:
    """Keep why; what has waited for days is given up, and that is recorded."""
    found = events.of_kinds(write.connection, cursor.seq, READERS, _LOOKED)
    upto = controller.stale(found, now)
    changed: dict[str, Any] = {"tries": cursor.tries + 1, "again_at": at, "error": error}
    changed["failing_since"] = cursor.failing_since or now
    if not notified.move(write, cursor, **changed, **({} if upto is None else {"seq": upto})):
        return
    if upto is not None:
        gone = [
            notice.seq
            for each in found
            if each.seq <= upto and (notice := _notice(write.connection, resource, each)) is not None
        ]
        body = {"receiver": cursor.receiver, "count": len(gone), "events": gone, "error": error}
        write.record("notification-given-up", resource.key, body)


def _read(resource: Resource, receiver: str, connection: Connection) -> tuple[Cursor | None, _Next]:
    """How far it has been told, and what comes next."""
    cursor = notified.load(connection, resource.key, receiver)
    seq = 0 if cursor is None else cursor.seq
    found = events.of_kinds(connection, seq, READERS, _LOOKED)
    notice = next(_notices(connection, resource, found), None)
    return cursor, _Next(notice, found[-1].seq if found else seq, len(found) == _LOOKED)


def waiting(connection: Connection, resource: Resource, seq: int) -> tuple[int, bool]:
    """How many notices come after an event, and whether there may be more than were counted."""
    found = events.of_kinds(connection, seq, READERS, _COUNTED)
    return sum(1 for _ in _notices(connection, resource, found)), len(found) == _COUNTED


def _notices(connection: Connection, resource: Resource, found: Sequence[Recorded]) -> Iterator[Notice]:
    for recorded in found:
        notice = _notice(connection, resource, recorded)
        if notice is not None:
            yield notice


def _notice(connection: Connection, resource: Resource, recorded: Recorded) -> Notice | None:
    notice = controller.told(resource, recorded)
    if notice is None or not notice.first:
        return notice
    earlier = events.before(connection, recorded.seq, _EARLIER, notice.key, recorded.event.kind)
    return controller.confirmed(notice, earlier)


async def send(installation: Installation, resource: Resource, receiver: str, notice: Notice) -> str:
    """Send it once; what was answered. Refused, Stalled, Transient: it was not taken, and why."""
    spec = (resource.spec or {})[receiver]
    if receiver == EMAIL:
        return await _mail(installation, spec, notice)
    return await _post(installation, resource, spec, notice)


async def _mail(installation: Installation, spec: Mapping[str, Any], notice: Notice) -> str:
    from reconciler.sending import mail  # only who sends something pays for it

    server = installation.settings.smtp
    if server is None:
        raise Refused(
            "NoMailServer", "this server has no mail server; an operator sets one by the setting `smtp`"
        )
    subject, text = controller.letter(notice, installation.url)
    to = ", ".join(spec["to"])
    async with installation.mailing:
        refused = await asyncio.to_thread(mail.send, server, mail.Mail(subject, text, to, id=notice.id))
    return f"{server.host} has taken it" + (f", but not for {', '.join(refused)}" if refused else "")


async def _post(
    installation: Installation, resource: Resource, spec: Mapping[str, Any], notice: Notice
) -> str:
    from reconciler.sending import webhook

    if spec["format"] == "cdevents":
        kind, shown = cdevents.CONTENT_TYPE, cdevents.cloud_event(notice, installation.url)
    else:
        kind, shown = "application/json", controller.body(notice, installation.url)
    body = msgspec.json.encode(shown)
    known = installation.snapshot.current.resources
    secret = secret_of(resource.project, spec["secret_ref"], known)
    value = None if secret is None else opened(installation.keys, known.get, secret, VALUE)
    more = webhook.standard(notice.id, installation.now(), body, value)
    private = installation.settings.private_addresses
    code, answer = await webhook.post(
        installation.keys, spec["url"], body, private=private, more=more, kind=kind
    )
    told = f"{spec['url']} answered {code}: {_plain(answer.decode(errors='replace'))}"
    if not 200 <= code < 300:
        raise Transient("NotTaken", told)
    return told


def _plain(text: str) -> str:
    """One line of what others wrote."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN * 2 else line[: _SHOWN * 2] + "…"


async def _tell(installation: Installation, keys: Sequence[str]) -> None:
    """The conditions of Notifications, from what is stored of their receivers."""
    found = await installation.database.read(lambda c: notified.load_all(c, keys))
    of: dict[str, list[Cursor]] = {key: [] for key in keys}
    for cursor in found:
        of[cursor.key].append(cursor)
    now = installation.now()
    await status.change_statuses(installation, {key: partial(_seen, of[key], now) for key in keys})


def _seen(cursors: Sequence[Cursor], now: datetime, resource: Resource) -> Resource:
    conditions = without_condition(resource.conditions, *({DELIVERED, FAILING} - {_now(cursors)}))
    if _now(cursors) == FAILING:
        told = "; ".join(_trouble(cursor) for cursor in cursors if cursor.error is not None)
        conditions = with_condition(conditions, Condition(FAILING, True, "NotDelivered", told, now))
    elif _now(cursors) == DELIVERED:
        told = "all receivers took what was sent to them last"
        conditions = with_condition(conditions, Condition(DELIVERED, True, DELIVERED, told, now))
    health = Health.DEGRADED if _now(cursors) == FAILING else Health.HEALTHY
    return replace(resource, conditions=conditions, health=health)


def _now(cursors: Sequence[Cursor]) -> str:
    """The type of the one condition that holds, "" for none."""
    if any(cursor.error is not None for cursor in cursors):
        return FAILING
    return DELIVERED if any(cursor.delivered for cursor in cursors) else ""


def _trouble(cursor: Cursor) -> str:
    again = "" if cursor.again_at is None else f", again at {cursor.again_at.isoformat(timespec='seconds')}"
    return f"{cursor.receiver}, try {cursor.tries}{again}: {cursor.error}"
