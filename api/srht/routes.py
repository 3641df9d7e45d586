"""The routes of the builds.sr.ht API, as `api.app` takes them in."""

from __future__ import annotations

from typing import Any

from litestar import Router

from api.paths import tell_all_methods
from api.srht import jobs, logs
from api.srht.errors import DECLARED
from api.srht.requests import LARGEST_BODY, scoped

_HANDLERS: list[Any] = [
    jobs.job_list,
    jobs.job_add,
    jobs.job_get,
    jobs.artifact_list,
    jobs.artifact,
    jobs.manifest,
    jobs.start,
    jobs.cancel,
    logs.setup_log,
    logs.task_log,
]
for _handler in _HANDLERS:
    _handler.responses = DECLARED | (_handler.responses or {})

ROUTER = Router(
    path="/",
    route_handlers=_HANDLERS,
    guards=[scoped],
    request_max_body_size=LARGEST_BODY,
    tags=["builds.sr.ht"],
)
tell_all_methods(ROUTER)
