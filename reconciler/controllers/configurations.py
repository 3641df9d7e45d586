"""Which jobs of project configurations branches, other jobs and the clock ask for (cider-ci, section 6, "Triggers").

Pure: `decide` is handed trees with what they declare and the jobs that they have. Nothing that happened is needed, only
what is: a head that was not judged yet, the states that a tree's jobs have been in, the minute that it is. So whoever
was killed, or came late, finds the same again; and a job that is there is not made twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.controllers.due import is_far_ahead
from reconciler.controllers.jobs import Move
from reconciler.model.history import Branch, Heads
from reconciler.model.job import Job, Reason, State
from specs.configuration import JobDeclaration
from specs.configuration_conditions import (
    CRON_WINDOW,
    due_by_cron,
    may_rerun,
    next_by_cron,
    triggered_by_branch,
    triggered_by_job,
    unfulfilled,
)
from specs.configuration_matches import branch_matches

TRIGGERS = frozenset({"branch", "job", "cron"})
"""The types of triggers of jobs that nobody asked for."""

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class TreeView:
    """A tree. `heads`: the branches whose head has it; `declared`: the jobs of its configuration, none where that is
    bad; `jobs`: those there are, by their key in the configuration.
    """

    id: str
    heads: Sequence[Branch]
    declared: Mapping[str, JobDeclaration]
    jobs: Mapping[str, Job]


@dataclass(frozen=True, slots=True)
class MakeJob:
    """Make a tree's job of a key. `branch`: the one whose head asks for it; `replaces`: the finished job it is made in
    the place of.
    """

    tree: str
    key: str
    trigger: Mapping[str, Any]
    branch: str | None = None
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationDecision:
    """What to make; the heads that need not be judged again, by branch; when a cron condition is due next."""

    jobs: tuple[MakeJob, ...] = ()
    judged: Mapping[str, str] = field(default_factory=dict)
    cron_at: datetime | None = None


def awaited(branch: Branch) -> bool:
    """Is the head one for which triggers are still to be decided?"""
    return branch.judged != branch.commit


def allows(cider_ci: Mapping[str, Any], branch: Branch) -> bool:
    """Do the Repository's patterns allow jobs for heads of this branch?"""
    include, exclude = cider_ci["branch_include_match"], cider_ci.get("branch_exclude_match")
    return branch_matches(include, exclude, branch.name)


def counts(cider_ci: Mapping[str, Any], branch: Branch) -> bool:
    """May the head trigger jobs: is its branch allowed, and was it young when it came?"""
    limit = timedelta(seconds=float(cider_ci["max_head_age_seconds"]))
    return allows(cider_ci, branch) and branch.moved_at - branch.committed_at <= limit


def heads_by_tree(branches: Iterable[Branch]) -> dict[str, Heads]:
    """The branches of each tree, with their heads."""
    found: dict[str, set[tuple[str, str]]] = {}
    for branch in branches:
        found.setdefault(branch.tree, set()).add((branch.name, branch.commit))
    return {tree: frozenset(heads) for tree, heads in found.items()}


def decide(
    cider_ci: Mapping[str, Any], trees: Sequence[TreeView], now: datetime, timezone: str
) -> ConfigurationDecision:
    """One look at some trees of a Repository; `cider_ci` is what that says of its configurations."""
    jobs: list[MakeJob] = []
    judged: dict[str, str] = {}
    looks: list[datetime] = []
    for tree in trees:
        fresh = [head for head in tree.heads if awaited(head) and counts(cider_ci, head)]
        waiting: set[str] = set()
        for declared in tree.declared.values():
            branch = next((b for b in fresh if triggered_by_branch(declared.run_when, b.name)), None)
            wanted = _wanted(tree, declared, branch) or _due(cider_ci, tree, declared, now, timezone)
            if wanted is None:
                continue
            if _unfulfilled(tree, declared):
                waiting |= {b.name for b in fresh if triggered_by_branch(declared.run_when, b.name)}
            else:
                jobs.append(wanted)
        judged |= {b.name: b.commit for b in tree.heads if awaited(b) and b.name not in waiting}
        looks += _cron_looks(cider_ci, tree, now, timezone)
    return ConfigurationDecision(tuple(jobs), judged, min(looks, default=None))


def undispatched(job: Job, now: datetime, limit: timedelta) -> tuple[tuple[Move, ...], datetime | None]:
    """Trials of a triggered job that have waited too long for an executor (5.4; design 13.5), and when to look again.

    They are aborted, and so no others follow them. Those that somebody asked for have nobody's time to keep.
    """
    if not is_triggered(job) or job.held or job.state.finished:
        return (), None
    pending = [
        trial
        for task in job.tasks
        for trial in task.trials
        if trial.state is State.PENDING and trial.actor is None
    ]
    late = [trial for trial in pending if trial.created_at + limit <= now]
    moves = tuple(Move("trial", trial.id, State.ABORTED, Reason.DISPATCH_TIMEOUT) for trial in late)
    others = (trial.created_at + limit for trial in pending if trial not in late)
    return moves, min(others, default=None)


def is_triggered(job: Job) -> bool:
    """Was it made by a trigger of a project configuration, and not by somebody?"""
    return job.configured and job.trigger.get("type") in TRIGGERS


def reached(job: Job) -> frozenset[str]:
    """The states that a job has been in, as far as it tells."""
    found = {State.PENDING, job.state}
    found |= {State.EXECUTING} if job.started_at is not None else set()
    found |= {State.ABORTING} if job.aborted_at is not None else set()
    return frozenset(state.value for state in found)


def _wanted(tree: TreeView, declared: JobDeclaration, branch: Branch | None) -> MakeJob | None:
    """The job, where a branch or another job asks for one that is not there."""
    if declared.key in tree.jobs:
        return None
    if branch is not None:
        trigger = {"type": "branch", "branch": branch.name}
        return MakeJob(tree.id, declared.key, trigger, branch.name)
    for key, job in tree.jobs.items():
        if any(triggered_by_job(declared.run_when, key, state) for state in reached(job)):
            return MakeJob(tree.id, declared.key, {"type": "job", "job": key}, _first(tree))
    return None


def _due(
    cider_ci: Mapping[str, Any], tree: TreeView, declared: JobDeclaration, now: datetime, timezone: str
) -> MakeJob | None:
    """The job, where the time asks for it: one that is not there, or again."""
    there = tree.jobs.get(declared.key)
    for head in _by_clock(cider_ci, tree):
        due = due_by_cron(declared.run_when, head.name, now, timezone)
        again = there is not None and due is not None and due.condition.rerun
        if due is None or (there is not None and not (again and _has_made_room(there, now))):
            continue
        trigger = {"type": "cron", "branch": head.name, "due": due.at.isoformat()}
        return MakeJob(tree.id, declared.key, trigger, head.name, there.number if there else None)
    return None


def _has_made_room(job: Job, now: datetime) -> bool:
    """May another one take its place?"""
    ended = job.finished_at
    return may_rerun(ended, now) or (ended is not None and is_far_ahead(ended, now))


def _unfulfilled(tree: TreeView, declared: JobDeclaration) -> bool:
    states = {key: job.state.value for key, job in tree.jobs.items()}
    return bool(unfulfilled(declared.depends_on, [head.name for head in tree.heads], states))


def _by_clock(cider_ci: Mapping[str, Any], tree: TreeView) -> list[Branch]:
    """The heads, of any age, for which cron conditions count."""
    return [head for head in tree.heads if cider_ci.get("cron") and allows(cider_ci, head)]


def _cron_looks(
    cider_ci: Mapping[str, Any], tree: TreeView, now: datetime, timezone: str
) -> Iterator[datetime]:
    """When a condition is due next, and when a job that is to be replaced has been finished for long enough."""
    for declared in tree.declared.values():
        for head in _by_clock(cider_ci, tree):
            coming = next_by_cron(declared.run_when, head.name, now, timezone)
            if coming is not None:
                yield coming
            due = due_by_cron(declared.run_when, head.name, now, timezone)
            there = tree.jobs.get(declared.key)
            ended = there.finished_at if there is not None else None
            if due is not None and due.condition.rerun and ended is not None:
                free = ended + CRON_WINDOW + _SECOND
                if now < free <= due.at + CRON_WINDOW:
                    yield free


def _first(tree: TreeView) -> str | None:
    return min((head.name for head in tree.heads), default=None)
