"""What was applied when: revisions of the spec repository with their plans, and what they did to one resource."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from reconciler.access import Caller, missing
from reconciler.errors import NotFound, SteersmanError
from reconciler.installation import Installation
from reconciler.store import events
from reconciler.store.events import Applied, Brief

_LOOKED = 200
_TURNS = 10  # pages are looked through for one of them, at most
_MOST_ACTIONS = 200


async def applied(
    installation: Installation, caller: Caller, before: int | None, limit: int
) -> dict[str, Any]:
    """Revisions that were applied, newest first, each with the commit's facts and how much it did.

    `next` is the number to give as `before` while there may be more. Who sees a part sees the revisions that
    did something to that.
    """
    items: list[dict[str, Any]] = []
    at = before
    for _ in range(_TURNS):
        found = await installation.database.read(lambda c, at=at: events.applied(c, at, limit + 1))  # type: ignore[misc]
        for event in found[:limit]:
            actions = await asyncio.to_thread(_seen, caller, event)
            at = event.seq
            if actions or caller.sees_all:
                items.append(await _told(installation, event) | {"counts": _counts(actions)})
            if len(items) == limit:
                return {"items": items, "next": at}
        if len(found) <= limit:
            return {"items": items, "next": None}
    return {"items": items, "next": at}


async def of_revision(installation: Installation, caller: Caller, revision: str) -> dict[str, Any]:
    """One commit: its facts, and the plans with which it was applied, as far as the caller sees them.

    At most 200 actions; `total` says how many there are. NotFound for what is no commit of the repository.
    """
    commit = await installation.source.resolve(revision)
    found = await installation.database.read(lambda c: events.applied(c, None, _LOOKED, commit or revision))
    if not found and (commit is None or not caller.sees_all):
        raise NotFound("NoSuchRevision", f"the spec repository has no commit {revision!r}")
    actions = [action for event in found for action in _seen(caller, event)]
    if not actions and not caller.sees_all:
        raise NotFound("NoSuchRevision", f"the spec repository has no commit {revision!r}")
    facts = await _facts(installation, commit or revision)
    return facts | {
        "revision": commit or revision,
        "applied": [event.at.isoformat() for event in found],
        "actions": [action.to_dict() for action in actions[:_MOST_ACTIONS]],
        "total": len(actions),
        "errors": [
            error
            for error in (found[0].errors if found else ())
            if caller.sees_all or (error.get("key") and caller.sees(error["key"]))
        ],
        "counts": _counts(actions),
    }


async def of_key(installation: Installation, caller: Caller, key: str, most: int) -> list[dict[str, Any]]:
    """The newest revisions that did something to a resource, and what; of the 200 that were applied last."""
    if not caller.sees(key):
        raise missing(key)
    found = await installation.database.read(lambda c: events.applied(c, None, _LOOKED))
    items: list[dict[str, Any]] = []
    for event in found:
        done = [action for action in event.actions if action.key == key]
        if done:
            items.append(await _told(installation, event) | {"action": done[0].to_dict()})
        if len(items) >= most:
            break
    return items


async def _told(installation: Installation, event: Applied) -> dict[str, Any]:
    facts = await _facts(installation, event.revision)
    return facts | {"seq": event.seq, "at": event.at.isoformat(), "revision": event.revision}


async def _facts(installation: Installation, commit: str) -> dict[str, Any]:
    """What Git says of a commit; nothing of one that is gone from the repository."""
    try:
        facts = await installation.source.facts(commit)
    except SteersmanError:  # the repository is out of reach; what was applied is known all the same
        facts = None
    if facts is None:
        return {"subject": "", "author": "", "committed_at": None}
    return {
        "subject": facts.subject,
        "author": facts.author_name,
        "committed_at": facts.committer_date.isoformat(),
    }


def _seen(caller: Caller, event: Applied) -> Sequence[Brief]:
    return event.actions if caller.sees_all else [each for each in event.actions if caller.sees(each.key)]


def _counts(actions: Sequence[Brief]) -> dict[str, int]:
    return dict(Counter(action.action for action in actions))
