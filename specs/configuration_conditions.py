"""Conditions of a project configuration: what triggers a job (`run_when`) and what it waits for
(`depends_on`), as the cider-ci contract, section 6, has them.

Called when a configuration is read, and by whoever decides about a branch that moved, a job that changed its
state, or a minute that passed. Decides only: what exists and what time it is comes as arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from specs.configuration_matches import Match, branch_matches
from specs.schedule import check_cron, next_due

JOB_STATES = ("pending", "executing", "aborting", "passed", "failed", "aborted", "defective")

CRON_WINDOW = timedelta(minutes=3)
"""How long a due time of a cron condition counts, and how old a finished job must be for `rerun`."""

_CRON_FIELDS = 5
_ALWAYS = ("*", "?")


@dataclass(frozen=True, slots=True)
class JobCondition:
    """Another job of the same tree is in one of the states."""

    name: str
    job_key: str
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BranchCondition:
    """The head of a branch that fits has the tree."""

    name: str
    include_match: Match
    exclude_match: Match


@dataclass(frozen=True, slots=True)
class CronCondition:
    """A minute that is due, for heads of branches that fit; `rerun` removes a finished job first."""

    name: str
    value: str
    branch_include_match: Match
    branch_exclude_match: Match
    rerun: bool


Condition = JobCondition | BranchCondition | CronCondition


@dataclass(frozen=True, slots=True)
class Due:
    """A cron condition's due time that counts now."""

    condition: CronCondition
    at: datetime


def condition(name: str, value: Mapping[str, Any]) -> Condition:
    """A condition that the checks found valid."""
    if value["type"] == "job":
        return JobCondition(name, value["job_key"], tuple(dict.fromkeys(value["states"])))
    if value["type"] == "branch":
        return BranchCondition(name, value.get("include_match"), value.get("exclude_match"))
    return CronCondition(
        name,
        value["value"],
        value.get("branch_include_match"),
        value.get("branch_exclude_match"),
        value.get("rerun", False),
    )


def cron_fault(text: str) -> str | None:
    """What is wrong with a condition's cron text, as a sentence after the key's name, or None."""
    fields = text.split()
    if len(fields) != _CRON_FIELDS:
        return f'must be five fields (minute hour day month weekday) such as "0 3 * * 1-5", not {len(fields)}'
    if fields[2] not in _ALWAYS or fields[3] not in _ALWAYS:
        return "must have * or ? as day of month and as month"
    return check_cron(_standard(text))


def triggered_by_branch(run_when: Iterable[Condition], branch: str) -> bool:
    """Whether a job is to be made for the new head of a branch."""
    return any(isinstance(of, BranchCondition) and _fits(of, branch) for of in run_when)


def triggered_by_job(run_when: Iterable[Condition], key: str, state: str) -> bool:
    """Whether a job is to be made because the job `key` of the same tree has reached a state."""
    return any(isinstance(of, JobCondition) and of.job_key == key and state in of.states for of in run_when)


def due_by_cron(
    run_when: Iterable[Condition], branch: str, now: datetime, timezone: str = "UTC"
) -> Due | None:
    """The newest due time that counts now for the head of a branch, or None; of two at once, that with
    `rerun`.
    """
    dues = [
        Due(of, at)
        for of in run_when
        if isinstance(of, CronCondition)
        and branch_matches(of.branch_include_match, of.branch_exclude_match, branch)
        and (at := _last_due(of.value, now, timezone)) is not None
    ]
    return max(dues, key=lambda due: (due.at, due.condition.rerun), default=None)


def next_by_cron(
    run_when: Iterable[Condition], branch: str, now: datetime, timezone: str = "UTC"
) -> datetime | None:
    """The first due time to come for the head of a branch, or None."""
    dues = [
        next_due({"cron": _standard(of.value), "timezone": timezone}, now)
        for of in run_when
        if isinstance(of, CronCondition)
        and branch_matches(of.branch_include_match, of.branch_exclude_match, branch)
    ]
    return min((due for due in dues if due is not None), default=None)


def may_rerun(finished_at: datetime | None, now: datetime) -> bool:
    """Whether `rerun` removes a job: it is finished, and has been for longer than a due time counts."""
    return finished_at is not None and now - finished_at > CRON_WINDOW


def unfulfilled(
    depends_on: Iterable[Condition], branches: Collection[str], jobs: Mapping[str, str]
) -> tuple[str, ...]:
    """What a job still waits for, a sentence each; empty where its dependencies are fulfilled.

    `branches` are those whose head has the tree, `jobs` the states of the tree's jobs by key.
    """
    return tuple(sentence for of in depends_on if (sentence := _missing(of, branches, jobs)) is not None)


def _missing(of: Condition, branches: Collection[str], jobs: Mapping[str, str]) -> str | None:
    if isinstance(of, JobCondition):
        state = jobs.get(of.job_key)
        if state in of.states:
            return None
        present = "there is none yet" if state is None else f"it is {state}"
        return f"{of.name}: the job {of.job_key} must be {' or '.join(of.states)}; {present}"
    if isinstance(of, BranchCondition) and not any(_fits(of, branch) for branch in branches):
        return f"{of.name}: no branch that fits has this tree at its head"
    return None


def _fits(of: BranchCondition, branch: str) -> bool:
    return branch_matches(of.include_match, of.exclude_match, branch)


def _standard(text: str) -> str:
    """The text as cron has it, which knows no `?`."""
    fields = text.split()
    return " ".join([*fields[:2], *("*" if field == "?" else field for field in fields[2:])])


def _last_due(text: str, now: datetime, timezone: str) -> datetime | None:
    """The last due time up to now, if it lies at most the window back."""
    trigger = {"cron": _standard(text), "timezone": timezone}
    last, at = None, next_due(trigger, now - CRON_WINDOW - timedelta(microseconds=1))
    while at is not None and at <= now:
        last, at = at, next_due(trigger, at)
    return last
