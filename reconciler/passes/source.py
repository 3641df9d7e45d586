"""The pass of the name `source`: fetch, read the revision, plan, apply, and check that it settles (design 5, 14.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from reconciler.apply.resources import carry_out
from reconciler.controllers import planner
from reconciler.controllers.planner import Outcome
from reconciler.errors import SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.model import product as products
from reconciler.model.event import SYSTEM, Actor
from reconciler.model.status import Condition, Sync, with_condition
from reconciler.model.told import Told
from reconciler.passes import builds, commits
from reconciler.source.desired import Desired, Reader
from reconciler.source.watch import local_path
from reconciler.source.webhook import normalise_url
from reconciler.store import resources, sources
from reconciler.store.ownership import LEAD_LOST
from reconciler.store.sources import Source
from specs.errors import SpecError
from specs.loader import LOADER_VERSION
from specs.tree import Tree

log = structlog.get_logger(__name__)
_MUCH = 200
_SOME = 5
_NOTED = products.KINDS | {"Application", "ApprovalRuleset"}
"""Kinds of which a history is kept that says who changed them, and what they were called before."""


async def run(installation: Installation, actor: Actor = SYSTEM) -> datetime | None:
    """One look at the spec repository; gives the time of the next poll."""
    settings = installation.settings
    remote = local_path(settings.repo) is None
    poll = settings.poll_seconds if remote else max(settings.poll_seconds, 5.0)
    try:
        if remote:
            await installation.source.fetch()
        head = await installation.source.head(settings.branch)
    except SteersmanError as error:
        await _note(installation, (error.reason, error.message))
        raise
    if head is None:
        await _note(installation, await _no_branch(installation))
    elif settings.path not in (".", "") and await installation.source.tree_of(head, settings.path) is None:
        trouble = (
            "PathMissing",
            f"{settings.repo} has no folder {settings.path} at {head[:12]}; what was applied stays",
        )
        await _note(installation, trouble)
    else:
        await _note(installation, None)
        try:
            await apply_revision(installation, head, actor)
        except Exception as error:
            lost = isinstance(error, Transient) and error.reason == LEAD_LOST
            if not lost:  # which is no trouble of the source
                await _note(installation, _fact(error), attempted=head)
            raise
    return installation.now() + timedelta(seconds=poll)


async def apply_revision(installation: Installation, head: str, actor: Actor = SYSTEM) -> Outcome | None:
    """Bring the store to one commit; None if it is there already and nothing waits to be confirmed."""
    before = installation.desired
    held_confirmed = bool(installation.confirmed)
    if before is not None and before.commit == head and not held_confirmed:
        return None
    desired = await read(installation, head, before)
    confirmed = frozenset(installation.confirmed)
    view = installation.snapshot.current
    keys = desired.tree.changed | (view.resources.keys() if before is None else frozenset())
    keys |= {key for key, resource in view.resources.items() if resource.sync is Sync.OUT_OF_SYNC}
    outcome = await decide(installation, desired, keys)
    source = Source(
        url=installation.settings.repo,
        branch=installation.settings.branch,
        path=installation.settings.path,
        attempted=head,
        applied=head,
        errors=tuple(located(error) for error in desired.tree.errors),
        held=tuple(held.to_dict() for held in outcome.plan.held),
    )
    if _nothing(installation, outcome, source):
        installation.desired = replace(desired, parsed={})
        return outcome
    told = await _told(installation, outcome, head)
    await carry_out(installation, desired, outcome, source, actor, told)
    installation.followers = None  # found again from the specifications now in force
    builds.wake_followers(installation, frozenset({source_url(installation)}))
    installation.confirmed -= confirmed  # what came meanwhile is for the next pass
    installation.last_plan = outcome.plan
    installation.plans_applied += 1
    installation.desired = replace(desired, parsed={})
    log.info(
        "revision-applied",
        revision=head[:12],
        actions=len(outcome.plan.actions),
        errors=len(desired.tree.errors),
    )
    await _settled(installation, installation.desired, desired.tree.changed)
    return outcome


async def read(installation: Installation, commit: str, before: Desired | None) -> Desired:
    """Desired state at a commit, from the cache of parsed files where possible."""
    settings = installation.settings
    reader = Reader(installation.source, settings.path, settings.file_bytes)

    async def cache(blobs: list[str]) -> dict[str, bytes]:
        if not blobs:
            return {}
        return await installation.database.read(lambda c: resources.load_blobs(c, blobs, LOADER_VERSION))

    return await reader.read(commit, before, cache, in_force(installation))


async def overlay(installation: Installation, desired: Desired, files: Mapping[str, str | None]) -> Tree:
    """The tree as it would be with these specification files (None: removed) on top of a commit."""
    reader = Reader(installation.source, installation.settings.path, installation.settings.file_bytes)
    contents = {path: None if text is None else text.encode() for path, text in files.items()}
    return await reader.overlay(desired, contents, in_force(installation))


async def decide(installation: Installation, desired: Desired, keys: frozenset[str] | set[str]) -> Outcome:
    """The plan for a desired state; a large one is made in a thread."""
    work = partial(
        planner.decide,
        desired.tree,
        installation.snapshot.current.resources,
        keys,
        revision=desired.commit,
        now=installation.now(),
        confirmed=frozenset(installation.confirmed),
    )
    return await asyncio.to_thread(work) if len(keys) > _MUCH else work()


def in_force(installation: Installation) -> dict[str, Mapping[str, Any]]:
    """KEY → specification in force."""
    return {key: r.spec for key, r in installation.snapshot.current.resources.items() if r.spec is not None}


def located(error: SpecError) -> dict[str, object]:
    """An error as the native API shows it."""
    return {
        "location": f"{error.path}:{error.line}:{error.column}",
        "message": error.message,
        "key": error.key,
    }


def source_url(installation: Installation) -> str:
    """The spec repository's normalised URL; code may live in it, too."""
    path = local_path(installation.settings.repo)
    return normalise_url(str(path.absolute()) if path is not None else installation.settings.repo)


async def _told(installation: Installation, outcome: Outcome, head: str) -> tuple[Told, ...]:
    """What the commits up to this one say, where that is noted."""
    changed = {resource.kind for resource in outcome.upserts}
    changed |= {key.partition("/")[0] for key in outcome.removals}
    if not changed & _NOTED:
        return ()
    last = installation.snapshot.current.source
    return await commits.told(installation, last.applied if last else None, head)


def _nothing(installation: Installation, outcome: Outcome, source: Source) -> bool:
    """A restart at the same revision writes nothing."""
    same = installation.snapshot.current.source == source
    return same and not (outcome.upserts or outcome.removals)


async def _settled(installation: Installation, desired: Desired, changed: frozenset[str]) -> None:
    """Plan again: a plan that is not empty after apply is a bug of ours, reported, not repeated (design 5.4)."""
    again = await decide(installation, desired, changed)
    if again.plan.empty:
        return
    current = installation.snapshot.current.resources
    fields = [(a.key, c.field) for a in again.plan.actions for c in (a.changes or ())]
    log.error("unsettled", actions=[a.key for a in again.plan.actions], fields=fields[:10])
    troubled = []
    for action in again.plan.actions:
        if action.key in current:
            text = "; ".join(f"{c.field}: {c.old!r} → {c.new!r}" for c in action.changes[:5])
            fact = Condition(
                "Unsettled", True, "Unsettled", f"planned again after apply: {text}", installation.now()
            )
            resource = current[action.key]
            troubled.append(replace(resource, conditions=with_condition(resource.conditions, fact)))
    stored = await installation.database.write(lambda w: resources.save(w.connection, troubled, w.version))
    view = installation.snapshot.current
    installation.snapshot.swap(view.with_changes(installation.database.version, stored))


def _fact(error: Exception) -> tuple[str, str]:
    if isinstance(error, SteersmanError):
        return error.reason, error.message
    return "InternalError", f"the revision cannot be applied: {type(error).__name__}, see the daemon's log"


async def _no_branch(installation: Installation) -> tuple[str, str]:
    """With the branches there are, as that is most often a matter of main and master."""
    settings = installation.settings
    there = sorted(await installation.source.heads())
    names = ", ".join(there[:_SOME]) + (", …" if len(there) > _SOME else "")
    has = f"it has {names}: name one by --branch" if there else "it has none yet: commit something"
    missing = f"{settings.repo} has no branch {settings.branch}; what was applied stays in force"
    return "BranchMissing", f"{missing}; {has}"


async def _note(
    installation: Installation, trouble: tuple[str, str] | None, *, attempted: str | None = None
) -> None:
    """Store why the source cannot be read or applied, once, and that it can again."""
    source = installation.snapshot.current.source
    if source is not None and attempted is not None:
        source = replace(source, attempted=attempted)
    if (source.trouble if source else None) == trouble:
        return
    if trouble is not None:
        log.warning("source-trouble", reason=trouble[0], message=trouble[1])
    settings = installation.settings
    new = (
        replace(source, trouble=trouble)
        if source
        else Source(settings.repo, settings.branch, settings.path, trouble=trouble)
    )
    await installation.database.write(lambda w: sources.save(w.connection, new))
    view = installation.snapshot.current
    installation.snapshot.swap(view.with_changes(installation.database.version, (), (), new))
