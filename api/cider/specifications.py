"""`/cider-ci/api/{job,task}-specifications/…`: what jobs and tasks do (cider-ci, 4.16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response, get

from api.cider.answers import Asked, answer
from api.cider.negotiation import ROA
from api.cider.relations import JOB_SPECIFICATION, JOBS, TASK_SPECIFICATION, TASKS, address, relation
from api.cider.roa import Links
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import by_id

_KEPT_BACK = frozenset({"triggers", "secrets", "oauth"})
"""Of a manifest's job: whom it tells, and what it is given (builds-srht, 1.1)."""


def _open(data: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in data.items() if name != "checkout_secret"}
    if "manifest" in shown:
        facts = shown["manifest"]
        shown["manifest"] = {name: value for name, value in facts.items() if name not in _KEPT_BACK}
    return shown


@get(JOB_SPECIFICATION.route, media_type=ROA, summary="What a job does")
async def job_specification(
    installation: Installation, caller: Caller, request: Asked, specification: str
) -> Response[bytes]:
    """404 where no job that may be seen does it. Without what its submitter alone is to know."""
    data = _open(await by_id.job_specification(installation, caller, specification))
    relations = {"jobs": relation(JOBS, {"job_specification_id": specification})}
    links = Links(JOB_SPECIFICATION.name, address(JOB_SPECIFICATION, id=specification), relations)
    return answer(request, {"id": specification, "data": data}, links)


@get(TASK_SPECIFICATION.route, media_type=ROA, summary="What a task does")
async def task_specification(
    installation: Installation, caller: Caller, request: Asked, specification: str
) -> Response[bytes]:
    """404 where no task of a job that may be seen does it."""
    data = await by_id.task_specification(installation, caller, specification)
    relations = {"tasks": relation(TASKS, {"task_specification_id": specification})}
    links = Links(TASK_SPECIFICATION.name, address(TASK_SPECIFICATION, id=specification), relations)
    return answer(request, {"id": specification, "data": data}, links)
