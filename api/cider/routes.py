"""The routes of the Cider-CI API, as `api.app` takes them in."""

from __future__ import annotations

from typing import Any

from api.cider import (
    attachments,
    commits,
    docs,
    jobs,
    projects,
    root,
    scripts,
    specifications,
    storage,
    tasks,
    trials,
)
from api.cider.errors import DECLARED
from api.cider.requests import LARGEST_BODY, scoped
from api.paths import routes_of

_HANDLERS: list[Any] = [
    root.root,
    jobs.job_list,
    jobs.job_create,
    jobs.job_get,
    jobs.job_stats,
    jobs.job_abort,
    jobs.job_resume,
    tasks.task_list_of_job,
    tasks.task_list,
    tasks.task_get,
    tasks.task_retry,
    trials.trial_list,
    trials.trial_get,
    scripts.script_list,
    scripts.script_get,
    attachments.tree_attachment_list,
    attachments.tree_attachment_get,
    attachments.trial_attachment_list,
    attachments.trial_attachment_get,
    specifications.job_specification,
    specifications.task_specification,
    commits.commit_list,
    commits.commit_get,
    storage.data_get,
    storage.data_put,
    storage.data_delete,
    projects.project_list,
    projects.project_get,
    projects.project_create,
    projects.project_change,
    projects.project_delete,
    docs.docs,
]

ROUTER = routes_of(_HANDLERS, DECLARED, scoped, LARGEST_BODY, "Cider-CI")
