"""The passes `notifications` and `notify/RECEIVER/KEY`: whoever a Notification names is told what happened.

One name for each receiver, so that none waits for another; each is told one thing after the other, in the order of the
log. How far it has been told is stored after it was: killed in between, the same is sent again, under the same id. A
mail that is put off for some of its addresses waits for these alone, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import structlog

from reconciler.apply import notifications as apply
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
GONE = 410
"""The status of a receiver that wants no more (Standard Webhooks)."""

_LOOKED, _AGAIN = 500, 50
_SHOWN = 200


class Gone(Refused):
    """The receiver wants no more."""


@dataclass(frozen=True, slots=True)
class Sent:
    """It was taken, and what was answered; of a mail the addresses that it was not taken for, each with why."""

    message: str
    put_off: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def heard(installation: Installation, _version: int, recorded: Recorded | None) -> None:
    """Something was recorded: those who are told of it are woken, and now and then all, to move on over what does not
    concern them. Called after each commit.
    """
    if recorded is None:
        return
    often = recorded.seq % _LOOKED == 0
    notice = controller.read(recorded)
    if notice is None and not often:
        return
    for resource in installation.snapshot.current.of_kinds(KINDS).values():
        if often or (notice is not None and _concerns(resource, notice)):
            for receiver in controller.receivers(resource.spec):
                installation.wake(name_of(resource.key, receiver))


def _concerns(resource: Resource, notice: Notice) -> bool:
    spec = resource.spec
    return spec is not None and controller.concerns(resource.key, [controller.chosen(spec)], notice)


def name_of(key: str, receiver: str) -> str:
    """The name of a receiver's pass."""
    return f"{PREFIX}{receiver}/{key}"


async def run_all(installation: Installation) -> None:
    """Look at every receiver: at a start, after a commit, and now and then."""
    declared = installation.snapshot.current.of_kinds(KINDS)
    wanted = {
        (key, receiver): (mark, controller.chosen(resource.spec))
        for key, resource in declared.items()
        if resource.spec is not None
        for receiver, mark in controller.receivers(resource.spec).items()
    }
    found = await installation.database.read(notified.load_all)
    known = {(each.key, each.receiver): (each.fingerprint, each.filters[-1]) for each in found}
    different = {at[0] for at in known.keys() | wanted.keys() if known.get(at) != wanted.get(at)}
    if different:
        await installation.database.write(partial(_follow, sorted(different)))
    await _tell(installation, list(declared))
    for key, receiver in wanted:
        installation.wake(name_of(key, receiver))


def _follow(keys: Sequence[str], write: Write) -> None:
    """As it is stored, which may be newer than what was seen."""
    stored = {key: resources.load(write.connection, key) for key in keys}
    there = [resource for resource in stored.values() if resource is not None]
    apply.follow(write, there, [key for key, resource in stored.items() if resource is None])


@dataclass(frozen=True, slots=True)
class _Next:
    """What comes after a cursor: the first notice, the last event looked at, how many were, and is there more?"""

    notice: Notice | None
    looked: int
    count: int
    more: bool


async def run(installation: Installation, name: str) -> datetime | None:
    """Tell one receiver all that waits for it; gives the time of the next try after one that failed."""
    receiver, _, key = name.removeprefix(PREFIX).partition("/")
    while True:
        resource = installation.snapshot.current.of_kinds(KINDS).get(key)
        if resource is None or (resource.spec or {}).get(receiver) is None:
            return None
        now = installation.now()
        cursor, following = await installation.database.read(partial(_read, key, receiver, now))
        if cursor is None or cursor.fingerprint != controller.receivers(resource.spec)[receiver]:
            return None  # a commit is being applied, which wakes all of them
        if cursor.stopped:
            await installation.database.write(partial(_give_up_old, cursor, now))
            return None
        due = [each for each in cursor.put_off if not controller.waits(_again(each), now)]
        if due:
            await _repeat(installation, resource, cursor, due[0])
            continue
        later = min((_again(each) for each in cursor.put_off), default=None)
        if cursor.again_at is not None and controller.waits(cursor.again_at, now):
            return cursor.again_at if later is None else min(cursor.again_at, later)
        if following.notice is None:
            if following.more or following.count >= _AGAIN:
                await installation.database.write(partial(_skip, cursor, following.looked))
            if not following.more:
                return later
            continue
        at = await _deliver(installation, resource, cursor, following.notice)
        if at is not None:
            return at if later is None else min(at, later)


async def _deliver(
    installation: Installation, resource: Resource, cursor: Cursor, notice: Notice
) -> datetime | None:
    """One try, and what comes of it; the time of the next one, if it has failed."""
    try:
        sent = await send(installation, resource, cursor.receiver, notice)
    except SteersmanError as error:
        now = installation.now()
        log.warning("not-notified", key=resource.key, receiver=cursor.receiver, reason=error.reason)
        at = now + _delay(cursor, notice.seq, cursor.tries + 1)
        stop = isinstance(error, Gone)
        why = _plain(error.message) + ("; it is told again once its declaration has changed" if stop else "")
        changed = {"tries": cursor.tries + 1, "again_at": None if stop else at, "stopped": stop}
        await installation.database.write(partial(_failed, cursor, changed, why, now))
        await _tell(installation, [resource.key])
        return None if stop else at
    await installation.database.write(partial(_delivered, cursor, notice, sent, installation.now()))
    await _tell(installation, [resource.key])
    return None


def _delay(cursor: Cursor, seq: int, tries: int) -> timedelta:
    return controller.delay(tries, f"{name_of(cursor.key, cursor.receiver)} {seq}")


def _delivered(cursor: Cursor, notice: Notice, sent: Sent, now: datetime, write: Write) -> None:
    fresh: dict[str, Any] = {
        "tries": 0,
        "again_at": None,
        "error": None,
        "failing_since": None,
        "refused": sent.refused,
    }
    if sent.put_off:
        fresh["put_off"] = [*cursor.put_off, _entry(cursor, notice.seq, sent.put_off, 1, now)]
    counted = {"delivered": cursor.delivered + 1, "delivered_at": now}
    if notified.move(write, cursor, seq=notice.seq, **counted, **fresh):
        _refused(write, cursor, notice.seq, sent.refused)


def _refused(write: Write, cursor: Cursor, seq: int, refused: Mapping[str, str]) -> None:
    """Record who is refused for good, unless that is known."""
    if refused.keys() - cursor.refused.keys():
        body = {"receiver": cursor.receiver, "event": seq, "addresses": dict(refused)}
        write.record("notification-refused", cursor.key, body)


def _entry(cursor: Cursor, seq: int, to: Mapping[str, str], tries: int, now: datetime) -> dict[str, Any]:
    """A mail that some addresses have yet to get."""
    again_at = now + _delay(cursor, seq, tries)
    return {"seq": seq, "to": dict(to), "tries": tries, "again_at": again_at.isoformat()}


def _again(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["again_at"])


async def _repeat(
    installation: Installation, resource: Resource, cursor: Cursor, entry: Mapping[str, Any]
) -> None:
    """Send a mail that was put off, under its id, to those alone who have not got it."""
    found = await installation.database.read(lambda c: events.after(c, entry["seq"] - 1, 1))
    notice = controller.read(found[0]) if found and found[0].seq == entry["seq"] else None
    now, left, tries = installation.now(), dict(entry["to"]), entry["tries"] + 1
    refused: dict[str, str] = {}
    if notice is not None:
        try:
            sent = await send(installation, resource, cursor.receiver, notice, tuple(left))
            left, refused = dict(sent.put_off), dict(sent.refused)
        except Refused as error:
            left, refused = {}, dict.fromkeys(left, _plain(error.message))
        except SteersmanError as error:
            left = dict.fromkeys(left, _plain(error.message))
    old = notice is None or now - notice.at > controller.OLDEST

    def work(write: Write) -> None:
        others = [each for each in cursor.put_off if each["seq"] != entry["seq"]]
        if left and not old:
            others.append(_entry(cursor, entry["seq"], left, tries, now))
        if notified.move(write, cursor, put_off=others, refused={**cursor.refused, **refused}):
            _refused(write, cursor, entry["seq"], refused)
            if left and old:
                apply.give_up(write, replace(cursor, error=_addresses(left)), [entry["seq"]], _TOO_OLD)

    await installation.database.write(work)
    await _tell(installation, [resource.key])


def _skip(cursor: Cursor, seq: int, write: Write) -> None:
    notified.move(write, cursor, seq=seq)


_TOO_OLD = "it could not be delivered for three days"


def _failed(cursor: Cursor, changed: Mapping[str, Any], error: str, now: datetime, write: Write) -> None:
    """Keep why; what has waited for days is given up, and that is recorded."""
    since = {"failing_since": cursor.failing_since or now}
    if notified.move(write, cursor, error=error, **since, **changed):
        _give_up_old(replace(cursor, error=error), now, write)


def _give_up_old(cursor: Cursor, now: datetime, write: Write) -> None:
    first = events.of_kinds(write.connection, cursor.seq, READERS, 1)
    if controller.stale(first, now) is None:
        return
    found = events.of_kinds(write.connection, cursor.seq, READERS, _LOOKED)
    upto = controller.stale(found, now)
    if upto is not None and notified.move(write, cursor, seq=upto):
        gone = [notice.seq for notice in apply.notices(cursor, found) if notice.seq <= upto]
        if gone:
            apply.give_up(write, cursor, gone, _TOO_OLD)


def _read(key: str, receiver: str, now: datetime, connection: Connection) -> tuple[Cursor | None, _Next]:
    """How far it has been told, and what comes next, unless it is too early for that."""
    cursor = notified.load(connection, key, receiver)
    if cursor is None or cursor.stopped or controller.waits(cursor.again_at, now):
        return cursor, _Next(None, 0, 0, False)
    found = events.of_kinds(connection, cursor.seq, READERS, _LOOKED)
    notice = next(apply.notices(cursor, found), None)
    looked = found[-1].seq if found else cursor.seq
    return cursor, _Next(notice, looked, len(found), len(found) == _LOOKED)


async def send(
    installation: Installation, resource: Resource, receiver: str, notice: Notice, only: tuple[str, ...] = ()
) -> Sent:
    """Send it once, a mail maybe to some addresses `only`. Refused, Stalled, Transient: it was not taken, and why."""
    spec = (resource.spec or {})[receiver]
    if receiver == EMAIL:
        return await _mail(installation, spec, notice, only)
    return await _post(installation, resource, spec, notice)


async def _mail(
    installation: Installation, spec: Mapping[str, Any], notice: Notice, only: tuple[str, ...]
) -> Sent:
    from reconciler.sending import mail  # only who sends something pays for it

    server = installation.settings.smtp
    if server is None:
        raise Refused(
            "NoMailServer", "this server has no mail server; an operator sets one by the setting `smtp`"
        )
    subject, text = controller.letter(notice, installation.url)
    written = mail.Mail(subject, text, ", ".join(spec["to"]), id=notice.id, only=only)
    async with installation.mailing:
        taken = await asyncio.to_thread(mail.send, server, written)
    put_off, refused = (
        {to: _plain(why) for to, why in each.items()} for each in (taken.put_off, taken.refused)
    )
    told = f"{server.host} has taken it"
    if put_off or refused:
        told += f", but not for {_addresses({**put_off, **refused})}"
    return Sent(told, put_off, refused)


def _addresses(found: Mapping[str, str]) -> str:
    return ", ".join(f"{address} ({why})" for address, why in found.items())


async def _post(
    installation: Installation, resource: Resource, spec: Mapping[str, Any], notice: Notice
) -> Sent:
    from reconciler.sending import webhook  # likewise

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
    answer = await webhook.ask(installation.keys, spec["url"], body, private=private, more=more, kind=kind)
    told = f"{spec['url']} answered {answer.status} {answer.reason}".rstrip()
    if answer.status == GONE:
        raise Gone("Gone", f"{told}: it wants no more")
    if not answer.success:
        raise Transient("NotTaken", told)
    return Sent(told)


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
    told = [each for cursor in cursors for each in _troubles(cursor)]
    type = FAILING if told else DELIVERED if any(cursor.delivered for cursor in cursors) else ""
    conditions = without_condition(resource.conditions, *({DELIVERED, FAILING} - {type}))
    if type == FAILING:
        conditions = with_condition(
            conditions, Condition(FAILING, True, "NotDelivered", "; ".join(told), now)
        )
    elif type == DELIVERED:
        words = "all receivers took what was sent to them last"
        conditions = with_condition(conditions, Condition(DELIVERED, True, DELIVERED, words, now))
    return replace(resource, conditions=conditions, health=Health.DEGRADED if told else Health.HEALTHY)


def _troubles(cursor: Cursor) -> Iterator[str]:
    """What keeps a receiver from being told."""
    if cursor.error is not None:
        again = "" if cursor.again_at is None else f", again at {_moment(cursor.again_at)}"
        yield f"{cursor.receiver}, try {cursor.tries}{again}: {cursor.error}"
    if cursor.put_off:
        again = _moment(min(map(_again, cursor.put_off)))
        waits = _addresses({to: why for each in cursor.put_off for to, why in each["to"].items()})
        yield f"{cursor.receiver}, put off, again at {again}: {waits}"
    if cursor.refused:
        yield f"{cursor.receiver}, refused for good: {_addresses(cursor.refused)}"


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
