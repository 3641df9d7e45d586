"""The registry of releases as the native API shows it; each belongs to the project whose build made it."""

from __future__ import annotations

from typing import Any

from reconciler.access import Caller
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.model.release import Release
from reconciler.queries import declared
from reconciler.store import releases
from reconciler.store.database import Connection
from reconciler.store.releases import Wanted
from specs.release import NO_NAMESPACE, release_fault

Tags = dict[tuple[str, str, str], list[str]]


async def page(
    installation: Installation, caller: Caller, *, application: str | None, limit: int, after: str | None
) -> dict[str, Any]:
    """Newest first; `next` is the id to give as `after`. `application`: with its namespace, or without one. Refused."""
    namespace, name = _named(application)
    projects = (
        None if caller.sees_all else [project.name for project in declared.projects(installation, caller)]
    )
    wanted = Wanted(namespace, name, projects, after, limit + 1)

    def read(connection: Connection) -> tuple[list[Release], Tags]:
        found = releases.page(connection, wanted)
        names = sorted({(each.namespace, each.application) for each in found})
        return found, releases.tags_of(connection, names)

    found, tags = await installation.database.read(read)
    items = found[:limit]
    return {
        "items": [_shown(each, tags) for each in items],
        "next": items[-1].id if len(found) > limit else None,
    }


def _named(application: str | None) -> tuple[str | None, str | None]:
    if application is None:
        return None, None
    namespace, slash, name = application.rpartition("/")
    if message := release_fault(application if slash else f"{NO_NAMESPACE}/{application}"):
        raise Refused("InvalidApplication", f"application: {message}")
    return (namespace, name) if slash else (None, name)


def _shown(release: Release, tags: Tags) -> dict[str, Any]:
    """A release without its plan."""
    return {
        "id": release.id,
        "label": release.label,
        "namespace": release.namespace,
        "application": release.application,
        "version": release.version,
        "project": release.project,
        "tags": tags.get((release.namespace, release.application, release.version), []),
        "commit": release.commit.get("git_revision"),
        "branch": release.commit.get("branch"),
        "digest": f"sha256:{release.digest}",
        "size": release.size,
        "fat": release.fat,
        "job": release.job,
        "execution": release.execution,
        "created_at": None if release.created_at is None else release.created_at.isoformat(),
    }
