"""`/cider-ci/api/jobs…`: jobs listed, made, shown, counted, ended and gone on with (cider-ci, 4.2–4.5, 4.18)."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from litestar import Response, get, post

from api.cider import properties, results, states
from api.cider.answers import Asked, answer, time
from api.cider.errors import Unusable
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import (
    ABORT,
    CREATE_JOB,
    DISPATCHER_ABORT,
    DISPATCHER_RESUME,
    JOB,
    JOB_SPECIFICATION,
    JOBS,
    RESUME,
    STATS,
    STATS_OF_JOB,
    TASKS_OF_JOB,
    TREE_ATTACHMENTS,
    address,
    relation,
)
from api.cider.requests import PER_PAGE, WRITE, body, listing
from api.cider.roa import Links
from api.unchanged import STEADY
from reconciler.access import Caller
from reconciler.commands import configurations
from reconciler.commands import jobs as commands
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.queries import by_id, listings
from reconciler.queries.listings import Filters, OfGit

ALIASES = {"branch": "branch_head", "branch-name": "branch_head", "repository-name": "repository-name"}
"""Names of parameters that the published examples use instead."""

_TREE = re.compile(r"[0-9A-Fa-f]{40}", re.ASCII)
_CREATED = frozenset({"tree_id", "key"})


@get(JOBS.route, opt=STEADY, operation_class=documented(JOBS), media_type=ROA, summary="Jobs, newest first")
async def job_list(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """Ten a page; only those that may be seen."""
    asked = listing(request, JOBS, ALIASES)
    given = asked.filters
    filters = Filters(
        key=given.get("key"),
        states=states.meant(states.JOB, given["state"]) if "state" in given else None,
        tree=given.get("tree_id"),
        specification=given.get("job_specification_id"),
        git=git_of(given),
    )
    found = await listings.jobs(installation, caller, filters, asked.span)
    shown = found[:PER_PAGE]
    items = [{"id": each.id, "created_at": time(each.created_at)} for each in shown]
    links = asked.links([each.id for each in shown], JOB, more=len(found) > PER_PAGE)
    return answer(request, {"jobs": items}, links)


@post(CREATE_JOB.route, opt=WRITE, media_type=ROA, summary="Make a job of a tree")
async def job_create(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """422 where the tree has it already."""
    given = await body(request)
    if not isinstance(given, dict) or given.keys() != _CREATED:
        raise Unusable(detail="the body must be an object with exactly the keys tree_id and key")
    tree, key = given["tree_id"], given["key"]
    if not (isinstance(tree, str) and isinstance(key, str) and tree and key):
        raise Unusable(detail="tree_id and key must be texts that are not empty")
    if not _TREE.fullmatch(tree):
        raise Unusable(detail="tree_id must be the 40 hexadecimal digits of a Git tree")
    made = await configurations.create(installation, caller, tree.lower(), key)
    return await _shown(installation, request, made, 201)


@get(JOB.route, media_type=ROA, summary="A job")
async def job_get(installation: Installation, caller: Caller, request: Asked, job: str) -> Response[bytes]:
    """404 for one that may not be seen."""
    return await _shown(installation, request, await by_id.job(installation, caller, job))


@get([STATS.route, STATS_OF_JOB.route], media_type=ROA, summary="How many tasks of a job are in each state")
async def job_stats(installation: Installation, caller: Caller, request: Asked, job: str) -> Response[bytes]:
    """All states are there, also those of no task."""
    found = await by_id.job(installation, caller, job)
    links = Links(STATS.name, address(STATS, id=found.id), {"job": relation(JOB, id=found.id)})
    return answer(request, properties.stats(found), links)


@post([ABORT.route, DISPATCHER_ABORT.route], opt=WRITE, status_code=202, summary="End a job")
async def job_abort(installation: Installation, caller: Caller, job: str) -> Response[bytes]:
    """One that has ended stays as it is."""
    found = await by_id.job(installation, caller, job)
    await commands.abort(installation, caller, found.number)
    return Response(b"", status_code=202)


@post(
    [RESUME.route, DISPATCHER_RESUME.route],
    opt=WRITE,
    status_code=202,
    summary="Try again what of a job ended without passing",
)
async def job_resume(installation: Installation, caller: Caller, job: str) -> Response[bytes]:
    """One whose tasks have all passed stays as it is."""
    found = await by_id.job(installation, caller, job)
    await commands.resume(installation, caller, found.number)
    return Response(b"", status_code=202)


def git_of(given: Any) -> OfGit:
    """The filters of a query that one and the same commit must meet."""
    return OfGit(
        url=given.get("repository_url"),
        name=given.get("repository-name"),
        branch_head=given.get("branch_head"),
        branch_descendants=given.get("branch_descendants"),
    )


async def _shown(
    installation: Installation, request: Asked, found: Job, status: int = 200
) -> Response[bytes]:
    relations = {
        "jobs": relation(JOBS),
        "job-specification": relation(JOB_SPECIFICATION, id=found.specification_id or ""),
        "tasks": relation(TASKS_OF_JOB, id=found.id),
        "tree-attachments": relation(TREE_ATTACHMENTS, id=found.id),
        "stats": relation(STATS, id=found.id),
        "abort": relation(ABORT, id=found.id),
        "retry-and-resume": relation(RESUME, id=found.id),
    }
    links = Links(JOB.name, address(JOB, id=found.id), relations)
    result = await by_id.result(installation, results.best_of_job(found))
    body = properties.job(found, partial(by_id.uuid_of, installation), result)
    return answer(request, body, links, status)
