"""What a daemon knows that follows another one: a snapshot brought on with each commit, and what the leader tells.

The leader decides and changes what is declared; a follower reads the rows that are newer than its snapshot (design 15,
"Caches"). What only the leader's memory holds, and others ask for, it tells with its heart-beat (`facts`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.passes import source as source_pass
from reconciler.source.desired import Desired
from reconciler.source.watch import local_path
from reconciler.store import chain, events, resources, sources
from reconciler.store.database import Connection
from reconciler.store.snapshot import View
from reconciler.store.workers import Worker

_MOST = 100
"""Troubles that are told."""

_ALIVE = 10.0


async def load(installation: Installation) -> None:
    """The whole snapshot: at a start, and before this daemon leads."""

    def read(connection: Connection) -> tuple[View, int]:
        known, source = resources.load_all(connection), sources.load(connection)
        return View(chain.version(connection), known, source), events.last(connection)

    standing = installation.standing
    async with standing.refreshing:
        view, standing.seen = await installation.database.read(read)
        installation.snapshot.swap(view)


async def refresh(installation: Installation) -> None:
    """Bring a follower's snapshot to what is committed now; the leader's is so by itself."""
    standing = installation.standing
    async with standing.refreshing:
        if standing.leads:
            return
        view, seen = installation.snapshot.current, standing.seen
        found, last, source = await installation.database.read(
            lambda c: (
                resources.changed_since(
                    c, view.version, view.resources.keys() if events.last(c) > seen else None
                ),
                events.last(c),
                sources.load(c),
            )
        )
        standing.seen = last
        if found.version == view.version:
            return
        same = None if source == view.source else source
        installation.snapshot.swap(view.with_changes(found.version, found.upserts, found.removals, same))
        if found.upserts or found.removals:
            installation.followers = None


async def desired(installation: Installation) -> Desired | None:
    """What the applied commit declares; a follower reads it when somebody asks. None: it cannot be had now."""
    found, applied = installation.desired, installation.snapshot.current.source
    if installation.standing.leads or applied is None or applied.applied is None:
        return found
    if found is None or found.commit != applied.applied:
        try:
            await fetch(installation)
            found = await source_pass.read(installation, applied.applied, found)
        except SteersmanError:
            return None
        if not installation.standing.leads:
            installation.desired = replace(found, parsed={})
    return found


async def fetch(installation: Installation) -> None:
    """Have the applied commit in this daemon's own copy of the spec repository, for who looks at its history."""
    applied = installation.snapshot.current.source
    commit = applied.applied if applied is not None else None
    if commit is None or commit == installation.standing.fetched or installation.standing.leads:
        return
    remote = local_path(installation.settings.repo) is None
    if remote and await installation.source.resolve(commit) is None:
        await installation.source.fetch()
    installation.standing.fetched = commit


async def reach(installation: Installation, version: int) -> None:
    """Until a follower shows what was committed with this version."""
    if installation.snapshot.current.version < version:
        await refresh(installation)


def facts(installation: Installation) -> dict[str, Any]:
    """What the leader tells with its heart-beat."""
    runs = installation.runs
    known = {"disk": runs.closed, "trials": runs.unstored}
    told = dict(sorted(installation.troubles.items())[:_MOST])
    return {"troubles": told | {name: fact for name, fact in known.items() if fact is not None}}


def take(installation: Installation, leader: Worker | None) -> None:
    """What is known of the leader, and what it told, on a follower."""
    standing = installation.standing
    if standing.leads:
        return
    standing.leader_seen = leader is not None and leader.age < _ALIVE
    found = leader.facts.get("troubles") or {} if leader is not None else {}
    installation.troubles = {name: (str(fact[0]), str(fact[1])) for name, fact in found.items()}


async def begin(installation: Installation) -> None:
    """This daemon led: passes that were ended may have stored what its snapshot does not hold, so it is read whole."""
    async with installation.standing.refreshing:  # one that is at it would put back what it has begun with
        installation.standing.seen = -1
        installation.snapshot.swap(replace(installation.snapshot.current, version=0))
    installation.troubles = {}


def forget(installation: Installation) -> None:
    """Before this daemon leads: all that another one may have changed meanwhile is found anew."""
    installation.queue.forget()
    installation.queue.dispatched = None
    installation.desired = None
    installation.followers = None
    installation.unserved.clear()
    installation.catalogue = None
    installation.listed = None
    installation.numbering = ()
    known: tuple[Any, ...] = (
        installation.confirmed,
        installation.dropping,
        installation.troubles,
        installation.fetch_failures,
        installation.looked,
        installation.shown,
    )
    for each in known:
        each.clear()
