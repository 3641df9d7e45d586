"""Jobs, artifacts and pages as builds.sr.ht shows them (builds-srht, 1 and 2.5). Pure: what is shown is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from api.srht import states
from api.srht.parts import Part, view
from api.srht.requests import PER_PAGE
from reconciler.model.job import Job, JobGroup, configured_as, owner_of
from reconciler.model.owners import owner_name
from reconciler.queries.manifests import Artifact
from specs.manifest import last_segment

_OTHERS = re.compile(r"[^a-z0-9_.:-]+")
"""What no tag may have."""


def job(found: Job, url: str) -> dict[str, Any]:
    """A whole job; `url` is the server's."""
    seen = view(found)
    setup = seen.set_up
    facts = found.specification.get("configuration") or {}
    return {
        "id": found.number,
        "status": states.of_job(found),
        "setup_log": f"{url}/logs/{found.number}/log" if setup is not None and setup.taken else None,
        "tasks": [_task(found, part, url) for part in seen.tasks],
        "note": found.specification.get("note") or facts.get("description"),
        "runner": seen.runner,
        "tags": "/".join(_tags(found)) or None,
        "owner": _owner(found),
    }


def artifact(item: Artifact, number: int, url: str) -> dict[str, Any]:
    """A kept file, with the address that whoever knows it may load it from."""
    name = last_segment(item.path)
    return {
        "id": item.number,
        "created": _time(item.created),
        "path": item.path,
        "name": name,
        "url": f"{url}/api/jobs/{number}/artifacts/{item.mark}/{quote(name, safe='')}",
        "size": item.size,
    }


def group(found: JobGroup) -> dict[str, Any]:
    """A group with its jobs in short (1.6)."""
    return {
        "id": found.number,
        "note": found.note,
        "owner": _user(owner_name(found.owner)),
        "jobs": [{"id": each.number, "status": states.of_job(each)} for each in found.jobs],
    }


def group_told(found: JobGroup) -> dict[str, Any]:
    """The same with how it ended, for who is told that."""
    return {**group(found), "status": states.of_group(found)}


def page(results: Sequence[dict[str, Any]], following: int | None, total: int) -> dict[str, Any]:
    """Some of a list; `following` is the id to go on from."""
    return {
        "next": None if following is None else str(following),
        "results": list(results),
        "total": total,
        "results_per_page": PER_PAGE,
    }


def _task(found: Job, part: Part, url: str) -> dict[str, Any]:
    log = f"{url}/logs/{found.number}/{part.name}/log" if part.taken else None
    return {"name": part.name, "status": states.of_task(part.state, part.reason), "log": log}


def _tags(found: Job) -> Sequence[str]:
    """Those that were submitted; of a job of a project configuration, its project and key (cider-ci, 8.2)."""
    configured = configured_as(found.key)
    if configured is None:
        return found.specification.get("tags") or ()
    return [_OTHERS.sub("_", each.lower()) for each in configured]


def _owner(found: Job) -> dict[str, str]:
    """Whose it is: who submitted or triggered it, else its project."""
    name = owner_of(found.key)
    if name is None:
        kind, _, rest = found.actor.partition("/")
        name = rest if kind == "User" else found.key.split("/", 2)[1]
    return _user(name)


def _user(name: str) -> dict[str, str]:
    return {"canonical_name": f"~{name}", "name": name}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
