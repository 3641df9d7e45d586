"""`/ui/projects…`: the projects, and of each what stands in which environment."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from api.dashboard.shell import PAGE, page
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.status import worst
from reconciler.queries import declared, resources, standing

_MOST = 500
_PAGE = 100


@get("/ui/projects", **PAGE)
async def project_list(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], after: str = ""
) -> Response[bytes]:
    """Each with the worst that is in it."""
    inside = resources.by_project(installation, caller)
    names = [each.name for each in declared.projects(installation, caller) if not after or each.name > after]
    items = []
    for name in names[:_PAGE]:
        seen = inside.get(name, [])
        items.append(
            {
                "name": name,
                "resources": len(seen),
                "health": worst(each.health for each in seen).value,
                "unsynced": sum(each.sync.value != "Synced" for each in seen),
                "builds": sum(each.kind == "Build" for each in seen),
                "deployments": sum(each.kind == "Deployment" for each in seen),
                "pipelines": sum(each.kind == "Pipeline" for each in seen),
            }
        )
    following = names[_PAGE - 1] if len(names) > _PAGE else None
    return page(request, "projects", items=items, following=following)


@get("/ui/projects/{name:str}", **PAGE)
async def project_page(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    name: str,
    q: str = "",
) -> Response[bytes]:
    """Applications × environments, with versions, health and drift; then the builds and pipelines."""
    project = declared.project(installation, caller, name)
    environments = list(declared.environments(installation, caller, project))
    found = resources.find(installation, caller, _of(name, "Deployment"), 10_000, None)
    names = sorted({item["name"] for item in found["items"] if q.casefold() in item["name"].casefold()})
    wide = max(1, len(environments))
    most = max(10, _MOST // wide)
    seen = set(names[:most])
    shown = (await standing.of_deployments(installation, found))["items"]
    inside = await standing.with_wanted(installation, [item for item in shown if item["name"] in seen])
    cells = {(item["name"], item["environment"]): item for item in inside}
    others = [
        item
        for kind in ("Build", "Pipeline", "Repository", "Freeze")
        for item in resources.find(installation, caller, _of(name, kind), _PAGE, None)["items"]
    ]
    return page(
        request,
        "project",
        project=resources.summary(project),
        spec=project.spec or {},
        environments=environments,
        names=names[:most],
        left=len(names) - most,
        cells=cells,
        others=others[:_PAGE],
        q=q,
    )


def _of(project: str, kind: str) -> resources.Filter:
    return resources.Filter(kind, project)
