"""`/cider-ci/api/tasks…`: tasks of a job and of all jobs, and one more trial of one (cider-ci, 4.6, 4.7, 4.9)."""

from __future__ import annotations

from litestar import Response, get, post

from api.cider import properties, results, states, trials
from api.cider.answers import Asked, answer
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import (
    JOB,
    RETRY,
    TASK,
    TASK_SPECIFICATION,
    TASKS,
    TASKS_OF_JOB,
    TRIALS,
    address,
    relation,
)
from api.cider.requests import PER_PAGE, WRITE, Listing, listing
from api.cider.roa import Links
from reconciler.access import Caller
from reconciler.commands import jobs as commands
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.queries import by_id, listings
from reconciler.queries.by_id import TrialFound
from reconciler.queries.listings import Filters


@get(
    TASKS_OF_JOB.route,
    operation_class=documented(TASKS_OF_JOB),
    media_type=ROA,
    summary="Tasks of a job, by name",
)
async def task_list_of_job(
    installation: Installation, caller: Caller, request: Asked, job: str
) -> Response[bytes]:
    """404 for a job that may not be seen."""
    found = await by_id.job(installation, caller, job)
    return await _listed(installation, request, listing(request, TASKS_OF_JOB, id=found.id), found)


@get(TASKS.route, operation_class=documented(TASKS), media_type=ROA, summary="Tasks, by name")
async def task_list(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """Of all jobs, or of `job_id`."""
    asked = listing(request, TASKS)
    if "job_id" not in asked.filters:
        return await _listed(installation, request, asked, None)
    try:
        found = await by_id.job(installation, caller, asked.filters["job_id"])
    except NotFound:
        return answer(request, {"tasks": []}, asked.links([], TASK, more=False))
    return await _listed(installation, request, asked, found)


@get(TASK.route, media_type=ROA, summary="A task")
async def task_get(installation: Installation, caller: Caller, request: Asked, task: str) -> Response[bytes]:
    """One part of a job."""
    found = await by_id.task(installation, caller, task)
    relations = {
        "job": relation(JOB, id=found.job.id),
        "task-specification": relation(TASK_SPECIFICATION, id=found.task.specification or ""),
        "trials": relation(TRIALS, id=found.task.id),
        "retry": relation(RETRY, id=found.task.id),
    }
    links = Links(TASK.name, address(TASK, id=found.task.id), relations)
    result = await by_id.result(installation, results.best_of_task(found.task))
    return answer(request, properties.task(found.job, found.task, result), links)


@post(RETRY.route, opt=WRITE, status_code=200, media_type=ROA, summary="One more trial of a task")
async def task_retry(
    installation: Installation, caller: Caller, request: Asked, task: str
) -> Response[bytes]:
    """In any state of the task, and above `max_trials`."""
    asked = await by_id.task(installation, caller, task)
    job, made = await commands.try_again(installation, caller, asked.job.number, asked.task.id)
    of = next(each for each in job.tasks if each.id == asked.task.id)
    trial = next(each for each in of.trials if each.id == made)
    return await trials.shown(installation, request, TrialFound(job, of, trial))


async def _listed(
    installation: Installation, request: Asked, asked: Listing, job: Job | None
) -> Response[bytes]:
    given = asked.filters
    filters = Filters(
        states=states.meant(states.TASK, given["state"]) if "state" in given else None,
        specification=given.get("task_specification_id"),
    )
    number = None if job is None else job.number
    found = await listings.tasks(installation, request.user, filters, asked.span, number)
    shown = found[:PER_PAGE]
    relations = {} if job is None else {"job": relation(JOB, id=job.id)}
    links = asked.links(shown, TASK, relations, more=len(found) > PER_PAGE)
    return answer(request, {"tasks": [{"id": each} for each in shown]}, links)
