"""What the pages of jobs show of a job, its tasks and trials: values for their templates.

Called by `api.dashboard.jobs`. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from api.dashboard.shell import between
from reconciler.model.job import Job, Reason, Script, State, Task, Trial, configured_as, owner_of
from reconciler.queries import jobs
from reconciler.queries.logs import Selection, Text

TASKS = 50
"""Tasks on one page."""
_TRIALS = 20
_BAD = (State.FAILED, State.DEFECTIVE)


def facts(job: Job) -> dict[str, Any]:
    """What stands at the top of the page."""
    stages: Mapping[str, Any] = next((t.policy["stages"] for t in job.tasks if "stages" in t.policy), {})
    configured, owner = configured_as(job.key), owner_of(job.key)
    return jobs.summary(job) | {
        "seconds": between(_iso(job.started_at), _iso(job.finished_at), datetime.now(UTC)),
        "by": by(job.actor),
        "why": why(job.trigger),
        "does": stages.get("type") or "",
        "deploys": stages.get("version") or "",
        "url": job.checkout.url,
        "name": job.name,
        "project": job.project,
        "owner": owner,
        "configured": None if configured is None else configured[1],
        "declared": configured is None and owner is None,
        "note": str(job.specification.get("note") or ""),
        "tags": [str(tag) for tag in job.specification.get("tags") or ()],
        "issues": list(job.specification.get("issues") or ()),
        "aborted_by": by(job.aborted_by or ""),
        "aborted_at": job.aborted_at,
        "resumed_by": by(job.resumed_by or ""),
        "resumed_at": job.resumed_at,
    }


def task_of(number: int, task: Task, waits: Mapping[str, str]) -> dict[str, Any]:
    """A task with its newest trials; `waits`: for what those wait, by trial."""
    trials = [_trial(number, task, trial, waits) for trial in task.trials]
    return {
        "name": task.name,
        "state": task.state.value,
        "reason": "" if any(trial.reason == task.reason for trial in task.trials) else _plain(task.reason),
        "needs": tuple(task.policy.get("needs") or ()),
        "when": task.policy.get("when") or "passed",
        "ignored": bool(task.policy.get("ignore_failure")),
        "href": _log_path(number, task.name),
        "earlier": max(0, len(trials) - _TRIALS),
        "trials": trials[-_TRIALS:],
    }


def _trial(number: int, task: Task, trial: Trial, waits: Mapping[str, str]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "number": trial.number,
        "state": trial.state.value,
        "reason": _reason(trial),
        "error": trial.error or "",
        "executor": (trial.executor or "").removeprefix("Executor/"),
        "waits_for": waits.get(trial.id, ""),
        "seconds": between(_iso(trial.started_at), _iso(trial.finished_at), now),
        "by": by(trial.actor or ""),
        "outputs": dict(trial.outputs),
        "scripts": [
            {
                "name": script.name,
                "state": script.state.value,
                "told": _end_of(script),
                "seconds": between(_iso(script.started_at), _iso(script.finished_at), now),
                "href": _log_path(number, task.name, trial.number, script.name),
            }
            for script in trial.scripts
        ],
    }


def _reason(trial: Trial) -> str:
    """Why it ended so: of what a script said with its exit status, that."""
    bad = [script for script in trial.scripts if script.exit_status]
    return _end_of(bad[0]) if trial.reason == Reason.EXIT_STATUS and bad else _plain(trial.reason)


def _end_of(script: Script) -> str:
    if script.exit_status:
        return f"exit {script.exit_status}"
    return _plain(script.reason)


def boxes(job: Job) -> list[dict[str, str]]:
    """What the boxes of the picture say, in the order of the tasks."""
    return [
        {
            "name": task.name,
            "short": task.name if len(task.name) <= 24 else f"{task.name[:23]}…",
            "state": task.state.value,
            "told": "ignored" if _is_ignored(task) else _short(task.reason) or _tries(task),
            "href": _log_path(job.number, task.name),
        }
        for task in job.tasks
    ]


def _is_ignored(task: Task) -> bool:
    """Did it fail, and does the job not care?"""
    return task.state in _BAD and bool(task.policy.get("ignore_failure"))


def _tries(task: Task) -> str:
    return f"try {len(task.trials)}" if len(task.trials) > 1 else ""


def failed_ones(job: Job) -> list[dict[str, Any]]:
    """The tasks that a failed job failed by: first the one to look at, with its newest trial that went wrong."""
    failed = [task for task in job.tasks if task.state in _BAD and not task.policy.get("ignore_failure")]
    return [_failed(job, task) for task in failed] if job.state in _BAD else []


def _failed(job: Job, task: Task) -> dict[str, Any]:
    trial = next((each for each in reversed(task.trials) if each.state in _BAD), None)
    if trial is None:
        return {"task": task.name, "told": _plain(task.reason), "href": _log_path(job.number, task.name)}
    script = next((each for each in trial.scripts if each.state in _BAD), None)
    told = ": ".join(part for part in (_reason(trial), trial.error) if part)
    href = _log_path(job.number, task.name, trial.number, script.name if script is not None else None)
    return {"task": task.name, "told": told, "href": href}


def choices(number: int, job: Job, tasks: Sequence[Task], part: int) -> list[dict[str, str]]:
    """Scripts whose log can be chosen: of the tasks that the page shows."""
    found = [
        {
            "value": urlencode({"task": task.name, "trial": trial.number, "script": script.name}),
            "text": f"{task.name} #{trial.number} {script.name}",
        }
        for task in tasks[(part - 1) * TASKS : part * TASKS]
        for trial in task.trials[-_TRIALS:]
        for script in trial.scripts
    ]
    only = len(job.tasks) == 1 and len(found) == 1
    return [] if only else found


def named(selection: Selection) -> dict[str, Any]:
    """A selection as parameters of an address."""
    given = {"task": selection.task, "trial": selection.trial, "script": selection.script}
    return {name: value for name, value in given.items() if value is not None}


def log_of(number: int, selection: Selection, text: Text) -> dict[str, Any]:
    """Where a log is, and how much of it there is."""
    chosen = urlencode(named(selection))
    return {
        "query": chosen,
        "path": f"/reconciler/jobs/{number}/log" + (f"?{chosen}" if chosen else ""),
        "size": text.size,
        "final": text.final,
    }


def _log_path(number: int, task: str, trial: int | None = None, script: str | None = None) -> str:
    return f"/ui/jobs/{number}?{urlencode(named(Selection(task, trial, script)))}#log"


def why(trigger: Mapping[str, Any]) -> str:
    """What started it, in a few words."""
    type_ = str(trigger.get("type", ""))
    told = {
        "manual": "by hand",
        "poll": f"new head of {trigger.get('ref', '')}",
        "retry": f"retry of #{trigger.get('of', '')}",
        "change": "its specification has changed",
        "reconcile": "brings about what is declared",
        "check": "looks for drift",
        "pipeline": f"pipeline {trigger.get('pipeline_name', '')}, run {trigger.get('run_nr', '')}",
        "branch": f"new head of {trigger.get('branch', '')}",
        "job": f"job {trigger.get('job', '')} of the same tree",
        "build": "builds it follows have passed",
        "api": "asked for over the API",
    }.get(type_, type_)
    return f"{told} ({trigger['reason']})" if trigger.get("reason") else told


def by(subject: str) -> str:
    """Whom people know; nobody for what the server does by itself."""
    kind, _, name = subject.partition("/")
    return "" if kind == "System" else name or kind


_SKIPPED: Mapping[str, str] = {
    Reason.NEEDS: "what it needs did not pass",
    Reason.WHEN: "its condition `when` is not met",
    Reason.OTHER_REF: "it is kept to other branches or tags",
}


_FEW_WORDS: Mapping[str, str] = {
    Reason.NEEDS: "needs not passed",
    Reason.WHEN: "by its when",
    Reason.OTHER_REF: "other branch",
}
"""The same for a box of the picture."""


def _short(reason: str | None) -> str:
    return _FEW_WORDS.get(reason or "") or _plain(reason)


def _plain(reason: str | None) -> str:
    return _SKIPPED.get(reason or "", (reason or "").replace("-", " "))


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
