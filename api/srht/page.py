"""The page of a job: what mails and notices link to (builds-srht, 6). It renews itself until the job has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Response, get

from api import pages
from api.auth import PUBLIC
from api.srht import answers
from api.srht.jobs import DIALECT
from api.srht.requests import number
from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.queries import jobs, manifests

_MARKS = {"success": "✓", "failed": "✗", "running": "…"}


@get(
    "/{owner:str}/job/{job:str}",
    opt={PUBLIC: DIALECT},
    media_type=pages.MEDIA_TYPE,
    summary="The page of a job",
)
async def job_page(installation: Installation, caller: Caller, owner: str, job: str) -> Response[bytes]:
    """Status, tasks with their logs, artifacts, and to its owner what was sent. `owner` is `~NAME`."""
    found = await jobs.load(installation, caller, number(job))
    shown = answers.job(found, installation.url)
    if owner != shown["owner"]["canonical_name"]:
        raise NotFound("NoSuchJob", f"{owner} has no job {job}")
    kept = await manifests.artifacts(installation, caller, found.number)
    values: dict[str, Any] = {
        "job": shown,
        "live": not found.state.finished,
        "when": _when(found),
        "issues": list(_issues(found)),
        "set_up": shown["setup_log"] is not None,
        "marks": _MARKS,
        "artifacts": [answers.artifact(item, found.number, installation.url) for item in kept],
        "notices": await manifests.notices(installation, caller, found),
        "manifest": f"{installation.url}/api/jobs/{found.number}/manifest",
    }
    content, headers = pages.render("srht-job", **values)
    return Response(content, media_type=pages.MEDIA_TYPE, headers=headers)


def _issues(job: Job) -> Iterator[str]:
    """What was found wrong when it was made, and what kept the newest trials from being judged."""
    for issue in job.specification.get("issues") or ():
        yield f"{issue['title']}: {issue['description']}"
    for task in job.tasks:
        if task.trials and task.trials[-1].error:
            yield f"{task.name}: {task.trials[-1].error}"


def _when(job: Job) -> str:
    """When it was made, and how long it took, or takes by now."""
    made = f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if job.started_at is None or job.finished_at is None:
        return made
    return f"{made}, took {(job.finished_at - job.started_at).total_seconds():.0f}\N{NO-BREAK SPACE}s"
