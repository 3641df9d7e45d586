"""Jobs, tasks, trials, scripts, attachments and commits as JSON (cider-ci, 2). Pure: what is shown is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from api.cider import states
from api.cider.answers import time, time_or_none
from reconciler.model.job import Job, Reason, Script, State, Task, Trial, shown_key, shown_name
from reconciler.queries.kept import StoredFile
from reconciler.queries.listings import Commit

Uuid = Callable[[str], str]
"""The id of what has a KEY: of a user, of an executor."""

_PEOPLE = ("User/", "ServiceAccount/")
_ERROR = "error"
_TIMEOUT = ("Timeout", "The script was ended because it ran for longer than its timeout.")
_ISSUES: Mapping[str, tuple[str, str]] = {
    Reason.TIMEOUT: _TIMEOUT,
    Reason.LOST: ("Lost", "The process or its machine was lost, and with it how the script ended."),
    Reason.LOG_LIMIT: ("Too much output", "The script was ended because it printed more than may be kept."),
    Reason.MEMORY_LIMIT: ("Out of memory", "The script was ended because it took more memory than it may."),
    Reason.DISK_LIMIT: ("Out of disk", "The script was ended because it took more disk than there is."),
    Reason.UNSATISFIABLE: ("Not startable", "A condition of `start_when` can no longer be met."),
}
"""Title and description by reason."""


def job(found: Job, uuid: Uuid, result: Any) -> dict[str, Any]:
    """2.1. `created_by` is null and `trigger_event` says why where nobody asked for it; `issues` are an addition."""
    facts = found.specification.get("configuration") or {}
    by_hand = _person(found.actor, uuid)
    return {
        "id": found.id,
        "state": states.JOB[found.state],
        "key": shown_key(found),
        "name": shown_name(found),
        "description": facts.get("description") or found.specification.get("note"),
        "tree_id": found.checkout.tree,
        "job_specification_id": found.specification_id,
        "priority": facts.get("priority") or found.specification.get("priority") or 0,
        "result": result,
        "created_at": time(found.created_at),
        "updated_at": time(changed(found)),
        "created_by": by_hand,
        "aborted_by": _person(found.aborted_by, uuid),
        "aborted_at": time_or_none(found.aborted_at),
        "resumed_by": _person(found.resumed_by, uuid),
        "resumed_at": time_or_none(found.resumed_at),
        "trigger_event": dict(found.trigger) if by_hand is None else None,
        "issues": _issues_of_job(found),
    }


def stats(found: Job) -> dict[str, Any]:
    """4.5."""
    counts = states.counted(task.state for task in found.tasks)
    return {"job_id": found.id, "total": sum(counts.values()), **counts}


def task(of: Job, found: Task, result: Any) -> dict[str, Any]:
    """2.2."""
    policy = found.policy
    return {
        "id": found.id,
        "job_id": of.id,
        "state": states.TASK[found.state],
        "name": found.name,
        "result": result,
        "task_specification_id": found.specification,
        "priority": policy.get("priority") or 0,
        "traits": list(policy.get("traits") or ()),
        "exclusive_global_resources": list(policy.get("exclusive") or ()),
        "entity_errors": [],
        "dispatch_storm_delay_seconds": math.ceil(policy.get("dispatch_storm_delay_seconds") or 0),
        "load": float(policy.get("load") or 1),
        "created_at": time(of.created_at),
        "updated_at": time(task_changed(of, found)),
    }


def trial(of: Job, found: Trial, uuid: Uuid, result: Any) -> dict[str, Any]:
    """2.3."""
    aborted = found.state is State.ABORTED and of.aborted_at is not None
    return {
        "id": found.id,
        "task_id": found.task,
        "state": states.TRIAL[found.state],
        "executor_id": None if found.executor is None else uuid(found.executor),
        "error": found.error,
        "result": result,
        "started_at": time_or_none(found.started_at),
        "finished_at": time_or_none(found.finished_at),
        "dispatched_at": time_or_none(found.started_at),
        "created_at": time(found.created_at),
        "updated_at": time(trial_changed(found)),
        "created_by": _person(found.actor, uuid),
        "aborted_by": _person(of.aborted_by, uuid) if aborted else None,
        "aborted_at": time_or_none(of.aborted_at) if aborted else None,
    }


def script(of: Trial, found: Script, policy: Mapping[str, Any], printed: str) -> dict[str, Any]:
    """2.4. `policy` is its task's; `printed`: what it wrote, of which the streams are not told apart."""
    among = (*(policy.get("scripts") or ()), *(policy.get("services") or ()))
    own: Mapping[str, Any] = next((each for each in among if each["name"] == found.name), policy)
    seconds = own.get("timeout_seconds")
    return {
        "id": found.id,
        "trial_id": of.id,
        "key": found.name,
        "name": found.name if own is policy else own.get("title") or found.name,
        "state": states.SCRIPT[found.state],
        "body": str(own.get("run") or own.get("script") or ""),
        "stdout": printed,
        "stderr": "",
        "exit_status": found.exit_status,
        "timeout": None if seconds is None else f"{seconds:g} seconds",
        "exclusive_executor_resource": None if own is policy else own.get("exclusive"),
        "start_when": _conditions(own.get("start_when")),
        "terminate_when": _conditions(own.get("terminate_when")),
        "environment_variables": {**_variables(policy), **_variables(own)},
        "ignore_abort": bool(own.get("ignore_abort")),
        "ignore_state": bool(own.get("ignore_state")),
        "template_environment_variables": bool(own.get("template_environment_variables")),
        "command": None,
        "working_dir": None,
        "script_file": None,
        "wrapper_file": None,
        "issues": _issues(of, found),
        "started_at": time_or_none(found.started_at),
        "finished_at": time_or_none(found.finished_at),
        "created_at": time(of.created_at),
        "updated_at": time(_latest(of.created_at, found.started_at, found.finished_at)),
    }


def attachment(found: StoredFile, owner: str, owner_id: str) -> dict[str, Any]:
    """2.5. `owner` is `tree_id` or `trial_id`."""
    return {
        "id": found.id,
        owner: owner_id,
        "path": found.path,
        "content_length": str(found.size),
        "content_type": found.content_type or "application/octet-stream",
        "created_at": time(found.created_at),
        "updated_at": time(found.created_at),
    }


def commit(found: Commit) -> dict[str, Any]:
    """2.6. What only the commit itself says is null where its repository has lost it."""
    facts = found.facts
    return {
        "id": found.row.id,
        "tree_id": found.row.tree,
        "depth": None,
        "author_name": facts and facts.author_name,
        "author_email": facts and facts.author_email,
        "author_date": facts and time(facts.author_date),
        "committer_name": facts and facts.committer_name,
        "committer_email": facts and facts.committer_email,
        "committer_date": time(found.row.committed_at),
        "subject": facts and facts.subject,
        "body": facts and facts.body,
        "created_at": time(found.row.seen_at),
        "updated_at": time(found.row.seen_at),
    }


def changed(found: Job) -> datetime:
    """The latest time known of a job and of all below it."""
    below = (task_changed(found, task) for task in found.tasks)
    own = (found.started_at, found.finished_at, found.aborted_at, found.resumed_at)
    return _latest(found.created_at, *own, *below)


def task_changed(of: Job, found: Task) -> datetime:
    """The same of a task, which is made with its job."""
    return _latest(of.created_at, *(trial_changed(trial) for trial in found.trials))


def trial_changed(found: Trial) -> datetime:
    """The same of a trial."""
    below = (moment for script in found.scripts for moment in (script.started_at, script.finished_at))
    return _latest(found.created_at, found.started_at, found.finished_at, *below)


def _latest(first: datetime, *others: datetime | None) -> datetime:
    return max(first, *(moment for moment in others if moment is not None)) if any(others) else first


def _person(subject: str | None, uuid: Uuid) -> str | None:
    return uuid(subject) if subject is not None and subject.startswith(_PEOPLE) else None


def _conditions(found: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    return [{"script_key": each["script"], "states": list(each["states"])} for each in found or ()]


def _variables(of: Mapping[str, Any]) -> dict[str, str]:
    """Those whose values are no secrets."""
    given = (of.get("environment_variables") or {}).items()
    return {name: str(value) for name, value in given if not isinstance(value, Mapping)}


def _issues_of_job(found: Job) -> dict[str, Any]:
    """What was found wrong when it was made, in the form that scripts have (2.4)."""
    at = {"created_at": time(found.created_at)}
    issues = found.specification.get("issues") or ()
    return {str(uuid5(UUID(found.id), str(place))): {**each, **at} for place, each in enumerate(issues)}


def _issues(of: Trial, found: Script) -> dict[str, Any]:
    """What is wrong beside an exit status."""
    known = None if found.reason is None else _ISSUES.get(found.reason)
    if known is None and found.state is State.DEFECTIVE:
        known = (
            "Defective",
            of.error or (found.reason or "The script could not be judged.").replace("-", " "),
        )
    if known is None:
        return {}
    title, description = known
    at = time(found.finished_at or of.created_at)
    issue = {"title": title, "description": description, "type": _ERROR, "created_at": at}
    return {str(uuid5(UUID(found.id), title)): issue}
