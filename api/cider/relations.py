"""Where everything of this API is, written once (cider-ci, 4): paths for the router, addresses and templates for
answers, and what the documentation says of each.

Pure: values and text. It knows no request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from api.paths import CIDER

API = f"{CIDER}/api"
DOCS = f"{CIDER}/docs"
STORAGE = f"{CIDER}/storage"
DISPATCHER = f"{CIDER}/dispatcher"
PROJECTS = f"{CIDER}/repositories/projects"

_VARIABLE = re.compile(r"\{(\+?)(\w+)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One resource. `path` is an RFC 6570 template; `query`: the parameters that it takes; `told`: what it does.

    `of`: what its variable `id` identifies.
    """

    name: str
    path: str
    told: str
    of: str = "id"
    query: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("get",)

    @property
    def route(self) -> str:
        """As the router takes it: without the slash at the end, which makes no difference to it."""
        named = self.path.replace("{id}", f"{{{self.of}}}").rstrip("/")
        return _VARIABLE.sub(lambda found: f"{{{found[2]}:{'path' if found[1] else 'str'}}}", named)

    @property
    def anchor(self) -> str:
        """Its place on the page of documentation."""
        return self.name.lower().replace(" ", "-")


def address(endpoint: Endpoint, query: Mapping[str, Any] | None = None, **known: str) -> str:
    """The path, with the variables that are known in their places, and with a query."""

    def filled(found: re.Match[str]) -> str:
        value = known.get(found[2])
        return found[0] if value is None else quote(value, safe="/" if found[1] else "")

    path = _VARIABLE.sub(filled, endpoint.path)
    return f"{path}?{urlencode(query)}" if query else path


def template(endpoint: Endpoint, query: Mapping[str, Any] | None = None, **known: str) -> str:
    """The same, as a template of all further parameters (3.3.2)."""
    left = [name for name in endpoint.query if name not in (query or {})]
    more = f"{{{'&' if query else '?'}{','.join(left)}}}" if left else ""
    return address(endpoint, query, **known) + more


def relation(endpoint: Endpoint, query: Mapping[str, Any] | None = None, **known: str) -> dict[str, Any]:
    """A relation object (3.3.2), with the way to its documentation."""
    found: dict[str, Any] = {"name": endpoint.name, "href": template(endpoint, query, **known)}
    if endpoint.methods != ("get",):
        found["methods"] = {method: {} for method in endpoint.methods}
    documented = {"name": "API documentation", "href": f"{DOCS}#{endpoint.anchor}"}
    return found | {"relations": {"api-doc": documented}}


ROOT = Endpoint("Root", f"{API}/", "The entry point: from here links lead to everything else.")
JOBS = Endpoint(
    "Jobs",
    f"{API}/jobs/",
    "Jobs, newest first. All conditions on branches and repositories are met by one and the same commit of a job's "
    "tree; names of branches are compared without regard to case. `after` is the id of the job shown last: the page "
    "begins behind it, whatever came meanwhile.",
    query=(
        "repository_url",
        "branch_head",
        "branch_descendants",
        "key",
        "state",
        "tree_id",
        "job_specification_id",
        "page",
        "after",
    ),
)
CREATE_JOB = Endpoint(
    "Create Job",
    f"{API}/jobs/create",
    'Makes the job `key` of a tree: {"tree_id": …, "key": …}. A tree has one job of each key.',
    methods=("post",),
)
JOB = Endpoint("Job", f"{API}/jobs/{{id}}", "One job of a tree.", of="job")
STATS = Endpoint(
    "Job Stats", f"{API}/jobs/{{id}}/stats", "How many tasks of a job are in each state.", of="job"
)
STATS_OF_JOB = Endpoint("Job Stats", f"{API}/job/{{id}}/stats", STATS.told, of="job")
ABORT = Endpoint(
    "Abort",
    f"{API}/jobs/{{id}}/abort",
    "Ends a job; one that has ended stays as it is. 202 without a body.",
    of="job",
    methods=("post",),
)
RESUME = Endpoint(
    "Retry and Resume",
    f"{API}/jobs/{{id}}/retry-and-resume",
    "One more trial of each task of a job that ended without passing. 202 without a body.",
    of="job",
    methods=("post",),
)
TASKS_OF_JOB = Endpoint(
    "Tasks of a Job",
    f"{API}/jobs/{{id}}/tasks/",
    "Tasks of one job by their names.",
    of="job",
    query=("state", "page", "after"),
)
TASKS = Endpoint(
    "Tasks",
    f"{API}/tasks/",
    "Tasks of all jobs by their names.",
    query=("job_id", "state", "task_specification_id", "page", "after"),
)
TASK = Endpoint("Task", f"{API}/tasks/{{id}}", "A part of a job, which is attempted in trials.", of="task")
TRIALS = Endpoint(
    "Trials",
    f"{API}/tasks/{{id}}/trials/",
    "Trials of one task: those come first that changed last.",
    of="task",
    query=("state", "page", "after"),
)
RETRY = Endpoint(
    "Retry",
    f"{API}/tasks/{{id}}/trials/retry",
    "Makes one more trial of a task, in any state of it.",
    of="task",
    methods=("post",),
)
TRIAL = Endpoint("Trial", f"{API}/trials/{{id}}", "One attempt at a task.", of="trial")
SCRIPTS = Endpoint(
    "Scripts",
    f"{API}/trials/{{id}}/scripts/",
    "Scripts of one trial in the order in which they started.",
    of="trial",
    query=("page", "after"),
)
SCRIPT = Endpoint(
    "Script", f"{API}/scripts/{{id}}", "One process of a trial with all that it printed.", of="script"
)
TREE_ATTACHMENTS = Endpoint(
    "Tree Attachments",
    f"{API}/jobs/{{id}}/attachments/",
    "Files that are kept for the tree of a job, by path. All jobs of the tree share them.",
    of="job",
    query=("pathsegment", "page"),
)
TREE_ATTACHMENTS_TOO = Endpoint(
    TREE_ATTACHMENTS.name,
    f"{API}/jobs/{{id}}/tree-attachments/",
    TREE_ATTACHMENTS.told,
    of="job",
    query=TREE_ATTACHMENTS.query,
)
TREE_ATTACHMENT = Endpoint(
    "Tree Attachment", f"{API}/tree-attachments/{{id}}", "What is known of one such file.", of="attachment"
)
TRIAL_ATTACHMENTS = Endpoint(
    "Trial Attachments",
    f"{API}/trials/{{id}}/trial-attachments/",
    "Files that one trial left, by path.",
    of="trial",
    query=("pathsegment", "page"),
)
TRIAL_ATTACHMENT = Endpoint(
    "Trial Attachment", f"{API}/trial-attachments/{{id}}", "What is known of one such file.", of="attachment"
)
JOB_SPECIFICATION = Endpoint(
    "Job Specification",
    f"{API}/job-specifications/{{id}}",
    "What a job does; jobs that do the same share it.",
    of="specification",
)
TASK_SPECIFICATION = Endpoint(
    "Task Specification",
    f"{API}/task-specifications/{{id}}",
    "What a task does; tasks that do the same share it.",
    of="specification",
)
COMMITS = Endpoint(
    "Commits",
    f"{API}/commits/",
    "Commits of all repositories, newest first: whoever wants to know the id of a tree begins here.",
    query=("repository_url", "branch_head", "branch_descendants", "tree_id", "page"),
)
COMMIT = Endpoint("Commit", f"{API}/commits/{{id}}", "One commit.", of="commit")
TREE_DATA = Endpoint(
    "Data of a Tree Attachment",
    f"{STORAGE}/tree-attachments/{{tree_id}}/{{+path}}",
    "The bytes, with the type that they were stored with. PUT stores or replaces them, DELETE removes them. Several "
    "projects may have the tree, and keep different files at one path: `?owner=` names the one that is meant, and 409 "
    "asks for it.",
    methods=("get", "put", "delete"),
)
TRIAL_DATA = Endpoint(
    "Data of a Trial Attachment",
    f"{STORAGE}/trial-attachments/{{trial_id}}/{{+path}}",
    "The bytes, with the type that they were stored with. PUT stores or replaces them, DELETE removes them.",
    methods=("get", "put", "delete"),
)
PROJECT_LIST = Endpoint(
    "Projects",
    f"{PROJECTS}/",
    "Repositories whose trees have jobs. They are declared in Git, and changed there alone.",
    query=("page", "after"),
)
PROJECT = Endpoint("Project", f"{PROJECTS}/{{id}}", "One such repository.", of="repository")
DISPATCHER_ABORT = Endpoint(
    ABORT.name, f"{DISPATCHER}/jobs/{{id}}/abort", ABORT.told, of="job", methods=("post",)
)
DISPATCHER_RESUME = Endpoint(
    RESUME.name, f"{DISPATCHER}/jobs/{{id}}/retry-and-resume", RESUME.told, of="job", methods=("post",)
)

ALL: tuple[Endpoint, ...] = (
    ROOT, JOBS, CREATE_JOB, JOB, STATS, STATS_OF_JOB, ABORT, RESUME, TASKS_OF_JOB, TASKS, TASK, TRIALS, RETRY, TRIAL,
    SCRIPTS, SCRIPT, TREE_ATTACHMENTS, TREE_ATTACHMENTS_TOO, TREE_ATTACHMENT, TRIAL_ATTACHMENTS, TRIAL_ATTACHMENT,
    JOB_SPECIFICATION, TASK_SPECIFICATION, COMMITS, COMMIT, TREE_DATA, TRIAL_DATA, PROJECT_LIST, PROJECT,
    DISPATCHER_ABORT, DISPATCHER_RESUME,
)  # fmt: skip
"""Every endpoint, in the order of the documentation."""

FROM_ROOT: Mapping[str, Endpoint] = {
    "jobs": JOBS,
    "job": JOB,
    "create_job": CREATE_JOB,
    "job-specification": JOB_SPECIFICATION,
    "tasks": TASKS,
    "task": TASK,
    "task-specification": TASK_SPECIFICATION,
    "trial": TRIAL,
    "script": SCRIPT,
    "commits": COMMITS,
    "tree-attachment-data-stream": TREE_DATA,
    "projects": PROJECT_LIST,
}
"""The relations of the root (4.1)."""
