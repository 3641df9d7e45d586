"""Jobs, tasks, trials and scripts by their ids, specifications by theirs; and ids of what is declared (cider-ci, 2).

An id of what the caller does not see is the id of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job, Script, Task, Trial
from reconciler.queries import jobs
from reconciler.queries.jobs import sight
from reconciler.store import by_id as rows
from reconciler.store.jobs import result_of

_NIL = UUID(int=0)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class _Named(Protocol):
    @property
    def id(self) -> str: ...


N = TypeVar("N", bound=_Named)


@dataclass(frozen=True, slots=True)
class TaskFound:
    """A task and its job."""

    job: Job
    task: Task


@dataclass(frozen=True, slots=True)
class TrialFound:
    """A trial, its task, its job."""

    job: Job
    task: Task
    trial: Trial


@dataclass(frozen=True, slots=True)
class ScriptFound:
    """A script and all that it is a part of."""

    job: Job
    task: Task
    trial: Trial
    script: Script


def is_uuid(text: str) -> bool:
    """In its canonical form."""
    return _UUID.fullmatch(text) is not None


async def job(installation: Installation, caller: Caller, row_id: str) -> Job:
    """The job with this id, whole."""
    return await _whole(installation, caller, "job", row_id)


async def task(installation: Installation, caller: Caller, row_id: str) -> TaskFound:
    """The task with this id."""
    whole = await _whole(installation, caller, "task", row_id)
    return TaskFound(whole, _among(whole.tasks, "task", row_id))


async def trial(installation: Installation, caller: Caller, row_id: str) -> TrialFound:
    """The trial with this id."""
    whole = await _whole(installation, caller, "trial", row_id)
    found = _among((trial for task in whole.tasks for trial in task.trials), "trial", row_id)
    return TrialFound(whole, _among(whole.tasks, "task", found.task), found)


async def script(installation: Installation, caller: Caller, row_id: str) -> ScriptFound:
    """The script with this id."""
    whole = await _whole(installation, caller, "script", row_id)
    trials = {trial.id: trial for task in whole.tasks for trial in task.trials}
    found = _among((script for trial in trials.values() for script in trial.scripts), "script", row_id)
    around = trials[found.trial]
    return ScriptFound(whole, _among(whole.tasks, "task", around.task), around, found)


async def result(installation: Installation, trial: Trial | None) -> Any:
    """What a trial that the caller is known to see left as its result; None: nothing, or there is no trial."""
    if trial is None:
        return None
    return await installation.database.read(lambda c: result_of(c, trial.id))


async def job_specification(installation: Installation, caller: Caller, uuid: str) -> Mapping[str, Any]:
    """What a job does, of which the caller sees one."""
    return _told(
        await installation.database.read(lambda c: rows.job_specification(c, uuid, sight(caller))), uuid
    )


async def task_specification(installation: Installation, caller: Caller, uuid: str) -> Mapping[str, Any]:
    """What a task does, of which the caller sees one."""
    return _told(
        await installation.database.read(lambda c: rows.task_specification(c, uuid, sight(caller))), uuid
    )


def uuid_of(installation: Installation, key: str) -> str:
    """The id of a user, an executor or anything else declared; a made-up one, always the same, for what is not."""
    resource = installation.snapshot.current.resources.get(key)
    return str(uuid5(_NIL, key)) if resource is None else resource.uuid


async def _whole(installation: Installation, caller: Caller, noun: str, row_id: str) -> Job:
    number = None
    if is_uuid(row_id):
        number = await installation.database.read(lambda c: rows.job_of(c, noun, row_id))
    if number is None:
        raise _missing(noun, row_id)
    try:
        return await jobs.load(installation, caller, number)
    except NotFound:
        raise _missing(noun, row_id) from None


def _among(items: Iterable[N], noun: str, row_id: str) -> N:
    found = next((item for item in items if item.id == row_id), None)
    if found is None:
        raise _missing(noun, row_id)
    return found


def _told(data: Mapping[str, Any] | None, uuid: str) -> Mapping[str, Any]:
    if data is None:
        raise _missing("specification", uuid)
    return data


def _missing(noun: str, row_id: str) -> NotFound:
    return NotFound("NoSuchId", f"there is no {noun} with the id {row_id[:100]}")
