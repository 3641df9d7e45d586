"""What a Notification tells of what was recorded, to whom, and when it is tried again (own-kinds, Notification).

Pure: reads recorded events, gives notices. The pass `notifications` sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from zlib import crc32

from reconciler.controllers import due
from reconciler.controllers.rights import parsed
from reconciler.model.event import Recorded
from reconciler.model.execution import Type
from reconciler.model.job import Reason, State
from reconciler.model.notice import Happening, Notice
from reconciler.model.resource import Resource
from specs.digest import digest
from specs.globs import any_match
from specs.notification import KINDS as OF

KINDS = frozenset({"Notification"})
EMAIL, WEBHOOK = "email", "webhook"
"""The fields of a Notification that name somebody to tell: its receivers."""

JOB_FINISHED, RUN_FINISHED = "job-finished", "pipeline-run-finished"

FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=10)
OLDEST = timedelta(days=3)
"""A notice that could not be delivered for so long is given up."""

_JITTER = 0.2
"""The part of a delay that may be missing, so that not all of them come at once to what was down."""

_FAILED = frozenset({State.FAILED.value, State.DEFECTIVE.value})
_NO_FAILURE = frozenset(reason.value for reason in (Reason.CANCELLED, Reason.SUPERSEDED, Reason.PRUNED))
_LOOKS = frozenset({Type.CHECK.value})
"""Executions that only look: what they find has an event of its own."""


def receivers(spec: Mapping[str, Any] | None) -> dict[str, str]:
    """Those that a specification names, each with a fingerprint of how it is declared."""
    found = spec or {}
    return {each: digest({"is": found[each]}) for each in (EMAIL, WEBHOOK) if found.get(each)}


def chosen(spec: Mapping[str, Any], upto: int | None = None) -> dict[str, Any]:
    """The filter of a specification: what is told of which KEYs, up to an event."""
    keys = spec["keys"]
    return {"upto": upto, "events": sorted(spec["events"]), "keys": None if keys is None else sorted(keys)}


def refiltered(
    filters: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], seq: int, last: int
) -> list[Mapping[str, Any]]:
    """The filters from now on: what is `last` in the log, and before, is judged as it was declared then.

    `seq`: up to where they are needed no more.
    """
    wanted = chosen(spec)
    *older, newest = filters
    if newest != wanted:
        older, newest = [*older, {**newest, "upto": last}], wanted
    return [*(each for each in older if each["upto"] > seq), newest]


def told(key: str, filters: Sequence[Mapping[str, Any]], recorded: Recorded) -> Notice | None:
    """What the Notification with this KEY has to tell of an event."""
    notice = read(recorded)
    return notice if notice is not None and concerns(key, filters, notice) else None


def concerns(key: str, filters: Sequence[Mapping[str, Any]], notice: Notice) -> bool:
    """Is this for the Notification with this KEY? Judged by the filter that was declared when it happened."""
    meant = parsed(key)
    asked = next((each for each in filters if each["upto"] is None or notice.seq <= each["upto"]), None)
    if meant is None or asked is None or notice.happening.value not in asked["events"]:
        return False
    if meant.project is not None and notice.project != meant.project:
        return False
    return asked["keys"] is None or any_match(asked["keys"], notice.key)


def read(recorded: Recorded) -> Notice | None:
    """What there is to tell of an event; nothing of what belongs to one person, as a job of a manifest does."""
    reader = READERS.get(recorded.event.kind)
    key = None if reader is None else parsed(recorded.event.key or "")
    if key is None or reader is None:
        return None
    try:
        seen = reader(recorded.event.body)
    except (KeyError, TypeError, ValueError):  # written by another version: nothing can be told of it
        return None
    if seen is None:
        return None
    name = recorded.event.key or ""
    body = recorded.event.body
    return Notice(
        id=f"{recorded.seq}-{recorded.hash[:24]}",
        seq=recorded.seq,
        at=recorded.at,
        happening=seen.happening,
        key=name,
        project=key.project,
        message=f"{name}: {seen.words}",
        path=seen.path or f"resources/{quote(name)}",
        number=seen.number,
        act=body.get("type"),
        version=body.get("version"),
        ref=body.get("ref"),
        unexpected=body.get("state") == State.DEFECTIVE.value,
        upgrade=bool(body.get("upgrade")),
        drift=recorded.event.kind in _OF_DRIFT,
    )


def verdict(key: str, body: Mapping[str, Any]) -> bool | None:
    """Has what ended here passed or failed? None: neither, it only looked, or there is nothing to tell of its KEY."""
    if key.partition("/")[0] not in OF or body.get("type") in _LOOKS:
        return None
    return _verdict(body)


def _verdict(body: Mapping[str, Any]) -> bool | None:
    """Has it passed or failed? None: neither, as it was taken back."""
    ended = body.get("state") or body.get("status")
    if ended in (State.PASSED.value, "ok"):
        return True
    return False if ended in _FAILED and body.get("reason") not in _NO_FAILURE else None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an event says: what happened, in words after the KEY, where more is told, and of which number."""

    happening: Happening
    words: str
    number: int | None = None
    path: str | None = None


def _job_finished(body: Mapping[str, Any]) -> _Seen | None:
    verdict, number = _verdict(body), int(body["number"])
    if verdict is None or body.get("type") in _LOOKS:
        return None
    what = f"job {number}" + (
        f" ({body['type']})" if body.get("type") not in (None, Type.BUILD.value) else ""
    )
    where = f" on {body['ref']}" if body.get("ref") else ""
    if verdict:
        words = f"{what} has passed{where}, after a failure"
        return _Seen(Happening.RECOVERED, words, number, f"jobs/{number}") if body.get("recovered") else None
    why = f" ({body['reason']})" if body.get("reason") else ""
    words = f"{what} {'could not be run' if body['state'] == State.DEFECTIVE else 'has failed'}{where}{why}"
    return _Seen(Happening.FAILED, words, number, f"jobs/{number}")


def _run_finished(body: Mapping[str, Any]) -> _Seen | None:
    verdict, number = _verdict(body), int(body["number"])
    if verdict is None:
        return None
    if verdict:
        words = f"run {number} has passed, after a failure"
        return _Seen(Happening.RECOVERED, words, number) if body.get("recovered") else None
    why = f" ({body['reason']})" if body.get("reason") else ""
    return _Seen(Happening.FAILED, f"run {number} has failed{why}", number)


def _held(body: Mapping[str, Any]) -> _Seen:
    number = int(body["number"])
    causes = ", ".join(map(str, body["causes"]))
    return _Seen(Happening.HELD, f"job {number} is held: {causes}", number, f"jobs/{number}")


def _drifted(body: Mapping[str, Any]) -> _Seen | None:
    """Told once, not at each check."""
    if body.get("again"):
        return None
    return _Seen(Happening.DRIFTED, f"it is not as it was deployed: {body['message']}")


def _drift_resolved(_body: Mapping[str, Any]) -> _Seen:
    return _Seen(Happening.RECOVERED, "it is again as it was deployed")


def _confirmation(body: Mapping[str, Any]) -> _Seen:
    number = int(body["number"])
    words = f"run {number} waits for somebody to confirm {body['step']} in {body['phase']}"
    return _Seen(Happening.APPROVAL_WANTED, words, number)


def _requested(body: Mapping[str, Any]) -> _Seen | None:
    if not body.get("people"):
        return None
    number = int(body["request"])
    words = f"request {number} waits for approval, in the name of {body['application']}"
    return _Seen(Happening.APPROVAL_WANTED, words, number, "approvals")


READERS: Mapping[str, Callable[[Mapping[str, Any]], _Seen | None]] = {
    JOB_FINISHED: _job_finished,
    RUN_FINISHED: _run_finished,
    "deploy-held": _held,
    "drifted": _drifted,
    "drift-resolved": _drift_resolved,
    "pipeline-confirmation-requested": _confirmation,
    "release-requested": _requested,
}
"""By the kind of an event, what there may be to tell of it."""

_OF_DRIFT = frozenset({"drifted", "drift-resolved"})


def for_test(notification: Resource, now: datetime, id: str) -> Notice:
    """What somebody sends to see whether it arrives."""
    told = f"{notification.key}: this is a test, sent by hand"
    path = f"resources/{quote(notification.key)}"
    return Notice(id, 0, now, Happening.TEST, notification.key, notification.project, told, path)


def delay(tries: int, of: str = "") -> timedelta:
    """Before the next try, after so many that have failed; `of`: what is tried, by which some have a little less."""
    whole = min(FIRST_DELAY * (1 << min(tries - 1, 20)), LONGEST_DELAY)
    return whole * (1 - _JITTER * crc32(f"{of} {tries}".encode()) / (1 << 32))


def waits(again_at: datetime | None, now: datetime) -> bool:
    """Is it too early for the next try?"""
    return due.waits(again_at, now, LONGEST_DELAY)


def body(notice: Notice, url: str) -> dict[str, Any]:
    """As JSON, in the form that Standard Webhooks recommends: type, timestamp, data. `url`: this server's address."""
    return {
        "type": notice.happening.value,
        "timestamp": notice.at.isoformat(),
        "data": {
            "key": notice.key,
            "project": notice.project,
            "message": notice.message,
            "number": notice.number,
            "version": notice.version,
            "ref": notice.ref,
            "url": link(notice, url),
            "event": notice.seq or None,
        },
    }


def link(notice: Notice, url: str) -> str:
    """The page of the dashboard that tells more."""
    return f"{url}/ui/{notice.path}"


def letter(notice: Notice, url: str) -> tuple[str, str]:
    """Subject and text of a mail."""
    at = notice.at.isoformat(timespec="seconds")
    subject = f"[steersman] {notice.happening.value}: {notice.key}"
    return subject, f"{notice.message}\n\nat {at}\n{link(notice, url)}\n"


def stale(found: Sequence[Recorded], now: datetime) -> int | None:
    """The number of the last of these events that is too old to be tried any longer."""
    return max((each.seq for each in found if now - each.at > OLDEST), default=None)
