"""Project configurations of a Repository's trees: what its branches, its jobs and the clock ask for is made.

Called by the pass of a Repository, once its history is known. A tree is looked at when the head of a branch has it and
is not judged yet, when a job of it has changed since the last look, and when a cron condition of a head is due. One
with a job that waits is looked at again only when a job of it has changed or other heads have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from reconciler.apply import repositories as apply
from reconciler.apply.configurations import ConfiguredOrder
from reconciler.controllers import configurations as controller
from reconciler.controllers.configurations import ConfigurationDecision, MakeJob, TreeView
from reconciler.controllers.repositories import CONFIGURATION, by_interest, keeps_history, summary
from reconciler.errors import Conflict, SteersmanError, Transient, UnknownCommit, Waiting
from reconciler.installation import Installation
from reconciler.model.history import Branch, Heads, Looked
from reconciler.model.job import Job, configured_as
from reconciler.model.resource import Resource
from reconciler.passes import configurations
from reconciler.passes.configurations import Tree
from reconciler.store import chain, history, jobs
from reconciler.store.database import Connection, Write
from specs.configuration import JobDeclaration
from specs.configuration_faults import BadConfiguration, ConfigurationFault, NoConfiguration

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows at one moment: the branches, the trees whose jobs changed, those trees of heads that are
    not judged yet that have jobs, and the version of that moment. `first`: nothing was judged here before.
    """

    branches: Mapping[str, Branch]
    changed: Sequence[str]
    with_jobs: Set[str]
    version: int
    first: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A tree with what it declares; `file` and `faults`: where that is bad."""

    view: TreeView
    tree: Tree
    file: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look came to: the numbers of the jobs made, what is wrong by branch, when a cron condition is due, and
    the trees with a job that waits, with the heads that have them. `at`: the time of the look.
    """

    made: tuple[int, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    cron_at: datetime | None = None
    at: datetime | None = None
    waiting: Mapping[str, Heads] = field(default_factory=dict)


async def look(installation: Installation, resource: Resource, before: Looked | None) -> Outcome:
    """One look; `before`: what the last one found, None at the first one since the start or a new specification."""
    cider_ci: Mapping[str, Any] = (resource.spec or {})["cider_ci"]
    now = installation.now()
    waited = before.waiting if before is not None else {}
    known = await installation.database.read(
        partial(_known, resource, _others(installation, resource), waited)
    )
    heads = list(known.branches.values())
    at = controller.heads_by_tree(heads)
    counted = {head.name for head in heads if controller.counts(cider_ci, head)}
    moved = {
        head.name for head in heads if controller.awaited(head) and waited.get(head.tree) != at[head.tree]
    }
    by_clock = bool(cider_ci.get("cron")) and _is_due(before, now)
    again = counted if before is None and _was_bad(resource) else set()
    named = {
        name for name in moved if name in counted or known.branches[name].tree in known.with_jobs
    } | again
    wanted = {
        head.tree for head in heads if head.name in named or (by_clock and controller.allows(cider_ci, head))
    }
    found = [
        tree
        for each in sorted(wanted | set(known.changed))
        if (tree := await _found(installation, resource, each, known.branches)) is not None
    ]
    decision = controller.decide(cider_ci, [each.view for each in found], now, installation.settings.timezone)
    made, refused = await _make(installation, resource, found, decision)
    found = [replace(each, faults=(*each.faults, *refused.get(each.view.id, ()))) for each in found]
    judged = {name: known.branches[name].commit for name in moved - named} | dict(decision.judged)
    issues = {
        each.view.id: each.faults
        for each in found
        if each.faults and (each.view.id in refused or _of(each, moved & counted))
    }
    told = before.configurations if before is not None else {}
    faults = _faults(told, [head for head in heads if head.name in counted], moved, found)
    if len(faults) > 1:
        main = await configurations.main_branch(installation, resource)
        faults = by_interest(faults, main, {head.name: head.committed_at for head in heads})
    if issues:  # before the heads are judged: who is killed in between would not look at them again
        await apply.set_status(installation, resource.key, {CONFIGURATION: (CONFIGURATION, summary(faults))})
    if judged or issues or known.changed or known.first:
        await installation.database.write(partial(_judge, resource.key, judged, issues, known.version))
    if made:
        installation.wake("dispatch")
    coming = [decision.cron_at, None if by_clock or before is None else before.cron_at]
    looked = {each.view.id for each in found}
    unjudged = {head.tree for head in heads if controller.awaited(head) and head.name not in judged}
    still = {tree for tree in unjudged - set(known.changed) if waited.get(tree) == at[tree]}
    waiting = {tree: at[tree] for tree in unjudged & looked | still}
    cron_at = min((due for due in coming if due is not None), default=None)
    return Outcome(made, faults, cron_at, now, waiting)


def _is_due(before: Looked | None, now: datetime) -> bool:
    """Has the time of a cron condition come, or was the clock set back since that was reckoned?"""
    if before is None or (before.at is not None and now < before.at):
        return True
    return before.cron_at is not None and before.cron_at <= now


def _others(installation: Installation, resource: Resource) -> list[str]:
    """KEYs of the project's other Repositories: a job that one of them makes is there for this one too."""
    return [
        other.key
        for other in installation.snapshot.current.resources.values()
        if other.kind == "Repository"
        and other.project == resource.project
        and other.key != resource.key
        and keeps_history(other)
    ]


def _known(
    resource: Resource, others: Sequence[str], waited: Mapping[str, Heads], connection: Connection
) -> Known:
    """Of a Repository that is looked at for the first time, no earlier change of a job counts."""
    version = chain.version(connection)
    since = history.judged_until(connection, resource.key)
    changed: list[str] = []
    if since is not None:
        changed = history.changed_trees(connection, resource.key, since)
        for other in others if waited else ():
            changed += [tree for tree in history.changed_trees(connection, other, since) if tree in waited]
    branches = history.of_repository(connection, resource.key)
    trees = {branch.tree for branch in branches.values() if controller.awaited(branch)}
    with_jobs = history.trees_with_jobs(connection, resource.project or "", trees)
    return Known(branches, changed, with_jobs, version, since is None)


def _was_bad(resource: Resource) -> bool:
    return any(condition.type == CONFIGURATION for condition in resource.conditions)


async def _found(
    installation: Installation, resource: Resource, tree: str, branches: Mapping[str, Branch]
) -> Found | None:
    """A tree, read from the mirror; None for one that no commit has any more."""
    heads = sorted((head for head in branches.values() if head.tree == tree), key=lambda head: head.name)
    commit, there = await installation.database.read(
        lambda c: (
            history.newest_with(c, resource.key, tree),
            jobs.configured_of(c, resource.project or "", tree),
        )
    )
    if commit is None:
        return None
    try:
        at = await configurations.tree_at(
            installation, resource, heads[0].commit if heads else commit, heads[0].name if heads else None
        )
        declared, file, faults = await _declared(installation, at)
    except UnknownCommit:  # the mirror was made anew meanwhile, and the next fetch tells what there is
        log.warning("tree-unreadable", repository=resource.key, tree=tree)
        return None
    return Found(TreeView(tree, heads, declared, _by_key(there)), at, file, faults)


async def _declared(
    installation: Installation, tree: Tree
) -> tuple[Mapping[str, JobDeclaration], str, tuple[str, ...]]:
    """The jobs of a tree; of a bad configuration its file and what is wrong. A tree may have none at all."""
    try:
        configuration = await configurations.read(installation, tree)
    except NoConfiguration:
        return {}, "", ()
    except BadConfiguration as bad:
        return {}, bad.file, tuple(str(fault) for fault in bad.faults)
    return configuration.jobs, configuration.file, ()


def _by_key(found: Sequence[Job]) -> dict[str, Job]:
    """Jobs by their key in the configuration."""
    return {configured[1]: job for job in found if (configured := configured_as(job.key)) is not None}


async def _make(
    installation: Installation, resource: Resource, found: Sequence[Found], decision: ConfigurationDecision
) -> tuple[tuple[int, ...], dict[str, list[str]]]:
    """The numbers of the jobs made, and by tree what is wrong with those that never can be.

    One transaction a job, so that each is in the event log. What is there by now is not made again.
    """
    trees = {each.view.id: each for each in found}
    made = []
    refused: dict[str, list[str]] = {}
    for wanted in decision.jobs:
        try:
            order = await _order(resource, trees[wanted.tree], wanted)
            number = await installation.database.write(partial(_write, order, wanted.replaces))
        except Conflict as conflict:
            log.info("job-not-made", repository=resource.key, key=wanted.key, message=conflict.message)
            continue
        except (Transient, Waiting, UnknownCommit):  # the next look may do it
            raise
        except SteersmanError as error:
            log.warning("job-refused", repository=resource.key, key=wanted.key, message=error.message)
            fault = ConfigurationFault(("jobs", wanted.key), f"cannot be made: {error.message}")
            refused.setdefault(wanted.tree, []).append(str(fault))
            continue
        made += [number] if number is not None else []
    return tuple(made), refused


async def _order(resource: Resource, found: Found, wanted: MakeJob) -> ConfiguredOrder:
    declared = found.view.declared[wanted.key]
    days = (resource.spec or {})["cider_ci"].get("attachment_days") or {}
    specification = await configurations.specification(found.tree, declared, days)
    checkout = replace(found.tree.checkout, branch=wanted.branch)
    return ConfiguredOrder(
        resource.key, resource.project or "", declared, specification, checkout, wanted.trigger
    )


def _write(order: ConfiguredOrder, replaces: int | None, write: Write) -> int | None:
    return apply.make(write, order, replaces)


def _of(found: Found, branches: Set[str]) -> bool:
    return any(head.name in branches for head in found.view.heads)


def _faults(
    before: Mapping[str, str], counted: Sequence[Branch], moved: Set[str], found: Sequence[Found]
) -> dict[str, str]:
    """What is wrong, by branch: as it was, where the head has not been judged anew."""
    trees = {each.view.id: each for each in found}
    told: dict[str, str] = {}
    for head in counted:
        looked = trees.get(head.tree)
        if looked is not None and looked.faults:
            told[head.name] = f"{looked.file} on {head.name} ({head.commit[:12]}): {'; '.join(looked.faults)}"
        elif head.name not in before or head.name in moved:
            continue
        elif looked is None or not controller.awaited(head):
            told[head.name] = before[head.name]
    return told


def _judge(
    repository: str,
    judged: Mapping[str, str],
    issues: Mapping[str, Sequence[str]],
    version: int,
    write: Write,
) -> None:
    apply.report(write, repository, issues)
    history.judge(write.connection, repository, judged)
    history.judge_until(write.connection, repository, version)
