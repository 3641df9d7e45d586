"""The routes of the builds.sr.ht API, as `api.app` takes them in."""

from __future__ import annotations

from typing import Any

from api.paths import routes_of
from api.srht import groups, jobs, logs
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
    groups.group_add,
    groups.group_get,
    groups.group_start,
    groups.group_cancel,
    logs.setup_log,
    logs.task_log,
]

ROUTER = routes_of(_HANDLERS, DECLARED, scoped, LARGEST_BODY, "builds.sr.ht")
