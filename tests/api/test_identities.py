"""Every route and every sort of caller: the status is the one of the table, and a route that is not in it fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from reconciler.credentials import token_hash
from reconciler.model.rights import INSTALLATION, Level
from reconciler.store import tokens
from reconciler.store.database import connect
from reconciler.store.tokens import NewToken
from tests import databases
from tests.api.conftest import build
from tests.api.test_access import OPEN, every_route
from tests.support import PROJECT, Process, SpecRepository, holding, process

# none: no token; script: an execution token of another job; foreign: owner of another project; the next three: roles on
# the project; admin: owner of everything.
IDENTITIES = ("none", "wrong", "expired", "script", "foreign", "read", "write", "owner", "admin")
CLOSED = "401 401 401"
TABLE = {
    "GET /metrics": f"{CLOSED} 403 403 403 403 403 200",
    "GET /reconciler/audit": f"{CLOSED} 403 403 403 403 403 200",
    "GET /reconciler/can/{verb:str}/{key:path}": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/events": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/events/stream": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/jobs": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/jobs/{number:int}": f"{CLOSED} 404 404 200 200 200 200",
    "POST /reconciler/jobs/{number:int}/cancel": f"{CLOSED} 404 404 403 409 409 409",
    "POST /reconciler/jobs/{number:int}/retry": f"{CLOSED} 404 404 403 202 202 202",
    "GET /reconciler/jobs/{number:int}/attachments": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/jobs/{number:int}/attachments/{path:path}": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/jobs/{number:int}/log": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/jobs/{number:int}/log/stream": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/jobs/{number:int}/log/search": f"{CLOSED} 404 404 200 200 200 200",
    "GET /reconciler/plan": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/plan": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/resources": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/resources/{key:path}": f"{CLOSED} 404 404 200 200 200 200",
    "PUT /reconciler/resources/{key:path}": f"{CLOSED} 404 404 403 200 200 200",
    "DELETE /reconciler/resources/{key:path}": f"{CLOSED} 404 404 403 200 200 200",
    "GET /reconciler/secrets/key": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/secrets/reseal": f"{CLOSED} 403 403 403 403 403 200",
    "GET /reconciler/calendar": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/calendar.ics": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/executors": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/schedules": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/status": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/sign-out": f"{CLOSED} 409 409 409 409 409 409",
    "POST /reconciler/sync": f"{CLOSED} 403 200 403 200 200 200",
    "POST /reconciler/trigger": f"{CLOSED} 404 404 403 202 202 202",
    "GET /reconciler/tokens": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/tokens": f"{CLOSED} 403 201 201 201 201 201",
    "DELETE /reconciler/tokens/{token:str}": f"{CLOSED} 404 404 404 404 404 404",
    "GET /reconciler/whoami": f"{CLOSED} 200 200 200 200 200 200",
    "GET /reconciler/approvals": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/approvals": f"{CLOSED} 404 404 409 409 409 409",
    "GET /reconciler/freezes": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/freezes": f"{CLOSED} 404 404 403 403 201 409",
    "GET /reconciler/pass": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/pass": f"{CLOSED} 404 404 409 409 409 409",
    "GET /reconciler/notifications": f"{CLOSED} 200 200 200 200 200 200",
    "POST /reconciler/notifications/test/{key:path}": f"{CLOSED} 404 404 403 422 422 422",
    "GET /reconciler/when/{key:path}": f"{CLOSED} 404 404 422 422 422 422",
    "GET /reconciler/why/{key:path}": f"{CLOSED} 404 404 200 200 200 200",
}
# Bodies are missing, and `If-Match` names what was never there, so that nothing of it changes anything.
TABLE |= {
    "GET /api/v1/builds": CLOSED + " 200 200 200 200 200 200",
    "GET /api/v1/state/{project:str}/builds": CLOSED + " 404 404 200 200 200 200",
    "GET /api/v1/state/{project:str}/environments/{environment:str}/builds": CLOSED
    + " 404 404 200 200 200 200",
    "POST /api/v1/state/{project:str}/environments/{environment:str}/builds": CLOSED
    + " 404 404 403 400 400 400",
    "GET /api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}": CLOSED
    + " 404 404 200 200 200 200",
    "PUT /api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}": CLOSED
    + " 404 404 403 400 400 400",
    "DELETE /api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}": CLOSED
    + " 404 404 403 412 412 412",
    "POST /api/v1/state/{project:str}/change-environment-order": CLOSED + " 404 404 403 400 400 400",
    "POST /api/v1/state/{project:str}/environments": CLOSED + " 404 404 403 400 400 400",
    "GET /api/v1/state/{project:str}/environments/{environment:str}": CLOSED + " 404 404 200 200 200 200",
    "PUT /api/v1/state/{project:str}/environments/{environment:str}": CLOSED + " 404 404 403 400 400 400",
    "DELETE /api/v1/state/{project:str}/environments/{environment:str}": CLOSED + " 404 404 403 403 412 412",
    "GET /api/v1/state/namespaces": CLOSED + " 200 200 200 200 200 200",
    "GET /api/v1/state/{project:str}/namespaces": CLOSED + " 404 404 200 200 200 200",
    "POST /api/v1/state/{project:str}/add-namespace": CLOSED + " 404 404 403 403 400 400",
    "GET /api/v1/state": CLOSED + " 200 200 200 200 200 200",
    "GET /api/v1/state/__get_projects_by_group": CLOSED + " 400 400 400 400 400 400",
    "GET /api/v1/state/{project:str}": CLOSED + " 404 404 200 200 200 200",
    "PUT /api/v1/state/{project:str}": CLOSED + " 404 404 403 403 400 400",
    "DELETE /api/v1/state/{project:str}": CLOSED + " 404 404 403 403 409 409",  # while a script runs there
    "POST /api/v1/state/{project:str}/add-project": CLOSED + " 403 403 403 403 403 409",
    "POST /api/v1/state/namespaces/add-project": CLOSED + " 403 403 403 403 403 400",
    "POST /api/v1/state/__get_projects_by_group/add-project": CLOSED + " 403 403 403 403 403 400",
    "GET /api/v1/state/{project:str}/service-accounts": CLOSED + " 404 404 200 200 200 200",
    "POST /api/v1/state/{project:str}/service-accounts/{name:str}": CLOSED + " 404 404 403 403 400 400",
    "DELETE /api/v1/state/{project:str}/service-accounts/{name:str}": CLOSED + " 404 404 403 403 404 404",
    "GET /api/v1/state/{project:str}/repositories": CLOSED + " 404 404 200 200 200 200",
    "POST /api/v1/state/{project:str}/repositories/add-repository": CLOSED + " 404 404 403 403 400 400",
    "PUT /api/v1/state/{project:str}/repositories/{name:str}": CLOSED + " 404 404 403 403 400 400",
    "DELETE /api/v1/state/{project:str}/repositories/{name:str}": CLOSED + " 404 404 403 403 404 404",
}
TABLE |= (
    {
        "GET /api/v1/state/{project:str}/can-manage-subscriptions": CLOSED + " 404 404 200 200 200 200",
        "GET /api/v1/state/{project:str}/rbac/valid-roles": CLOSED + " 404 404 200 200 200 200",
        "GET /api/v1/state/{project:str}/logo": CLOSED + " 404 404 404 404 404 404",  # there is none
        "POST /api/v1/state/{project:str}/import-environments": CLOSED + " 404 404 403 400 400 400",
        "GET /api/v1/deployment-jobs": CLOSED + " 200 200 200 200 200 200",
        "GET /api/v1/deployment-jobs/by-project/{project:str}": CLOSED + " 404 404 200 200 200 200",
        "POST /api/v1/deployment-jobs/by-project/{project:str}/add": CLOSED + " 404 404 403 400 400 400",
        "GET /api/v1/deployment-jobs/executions": CLOSED + " 200 200 200 200 200 200",
        "GET /api/v1/deployment-jobs/by-project/{project:str}/executions": CLOSED
        + " 404 404 200 200 200 200",
    }
    | {
        f"{method} /api/v1/{root}{path}": f"{CLOSED} {seen}"
        for root, rows in {
            "deployment-jobs/by-project/{project:str}/by-environment/{environment:str}": {
                "GET ": "404 404 200 200 200 200",
                "GET /by-name/{deployment:str}": "404 404 200 200 200 200",
                "PUT /by-name/{deployment:str}": "404 404 403 400 400 400",
                "DELETE /by-name/{deployment:str}": "404 404 403 412 412 412",
                "POST /by-name/{deployment:str}/trigger": "404 404 403 400 400 400",  # no version is declared
                "POST /by-name/{deployment:str}/trigger/destroy": "404 404 403 409 409 409",
                "POST /by-name/{deployment:str}/trigger/errand": "404 404 403 400 400 400",
                "POST /by-name/{deployment:str}/trigger/smoke": "404 404 403 409 409 409",
                "GET /by-name/{deployment:str}/executions": "404 404 200 200 200 200",
                "GET /by-name/{deployment:str}/executions/{execution:str}": "404 404 404 404 404 404",  # there is none
                "POST /by-name/{deployment:str}/executions/{execution:str}/cancel": "404 404 404 404 404 404",
                "POST /by-name/{deployment:str}/executions/{execution:str}/retry": "404 404 404 404 404 404",
            },
            "state/{project:str}/environments/{environment:str}": {
                "GET /deployments": "404 404 200 200 200 200",
                "POST /deployments": "404 404 403 400 400 400",
                "PUT /deployments": "404 404 403 400 400 400",
                "DELETE /deployments": "404 404 403 404 404 404",  # there is none of that name
                "GET /providers": "404 404 200 200 200 200",
            },
        }.items()
        for route, seen in rows.items()
        for method, path in [route.split(" ")]
    }
)
# Job 1 is of a Build: whoever may read its project sees it, and nobody starts it. A body is missing.
TABLE |= {
    "POST /api/jobs": f"{CLOSED} 403 400 400 400 400 400",
    "GET /api/jobs": f"{CLOSED} 200 200 200 200 200 200",
    "GET /api/jobs/{job:str}": f"{CLOSED} 404 404 200 200 200 200",
    "GET /api/jobs/{job:str}/artifacts": f"{CLOSED} 404 404 200 200 200 200",
    "GET /api/jobs/{job:str}/manifest": f"{CLOSED} 404 404 200 200 200 200",
    "POST /api/jobs/{job:str}/start": f"{CLOSED} 403 404 401 400 400 400",
    "POST /api/jobs/{job:str}/cancel": f"{CLOSED} 403 404 401 200 200 200",
    "POST /api/job-group": f"{CLOSED} 403 400 400 400 400 400",
    "GET /api/job-group/{group:str}": f"{CLOSED} 404 404 404 404 404 404",  # there is none
    "POST /api/job-group/{group:str}/start": f"{CLOSED} 403 404 404 404 404 404",
    "POST /api/job-group/{group:str}/cancel": f"{CLOSED} 403 404 404 404 404 404",
    "GET /{owner:str}/job/{job:str}": f"{CLOSED} 404 404 200 200 200 200",
    "GET /logs/{job:str}/log": f"{CLOSED} 404 404 404 404 404 404",  # it has no set-up …
    "GET /logs/{job:str}/log/log": f"{CLOSED} 404 404 404 404 404 404",  # … and no script called log
    "GET /logs/{job:str}/{task:str}/log": f"{CLOSED} 404 404 200 200 200 200",
}
# The same job with its ids; a body is missing, and a file is neither there nor removed.
TABLE |= {
    f"GET /cider-ci/api{path}": f"{CLOSED} {seen}"
    for seen, paths in {
        "200 200 200 200 200 200": ("/jobs", "/tasks", "/commits"),
        "302 302 302 302 302 302": ("",),
        "404 404 200 200 200 200": (
            "/jobs/{job:str}",
            "/jobs/{job:str}/stats",
            "/job/{job:str}/stats",
            "/jobs/{job:str}/tasks",
            "/jobs/{job:str}/attachments",
            "/jobs/{job:str}/tree-attachments",
            "/tasks/{task:str}",
            "/tasks/{task:str}/trials",
            "/trials/{trial:str}",
            "/trials/{trial:str}/scripts",
            "/trials/{trial:str}/trial-attachments",
            "/scripts/{script:str}",
            "/trial-attachments/{attachment:str}",
            "/job-specifications/{specification:str}",
        ),
        "404 404 404 404 404 404": (
            "/tree-attachments/{attachment:str}",
            "/task-specifications/{specification:str}",
            "/commits/{commit:str}",
        ),
    }.items()
    for path in paths
}
TABLE |= {
    "POST /cider-ci/api/jobs/create": f"{CLOSED} 403 422 422 422 422 422",
    "POST /cider-ci/api/jobs/{job:str}/abort": f"{CLOSED} 403 404 403 202 202 202",
    "POST /cider-ci/api/jobs/{job:str}/retry-and-resume": f"{CLOSED} 403 404 403 202 202 202",
    "POST /cider-ci/dispatcher/jobs/{job:str}/abort": f"{CLOSED} 403 404 403 202 202 202",
    "POST /cider-ci/dispatcher/jobs/{job:str}/retry-and-resume": f"{CLOSED} 403 404 403 202 202 202",
    "POST /cider-ci/api/tasks/{task:str}/trials/retry": f"{CLOSED} 403 404 403 200 200 200",
    "GET /cider-ci/repositories/projects": f"{CLOSED} 200 200 200 200 200 200",
    "POST /cider-ci/repositories/projects": f"{CLOSED} 403 403 403 403 403 403",
    "GET /cider-ci/repositories/projects/{repository:str}": f"{CLOSED} 404 404 404 404 404 404",
    "PATCH /cider-ci/repositories/projects/{repository:str}": f"{CLOSED} 403 403 403 403 403 403",
    "DELETE /cider-ci/repositories/projects/{repository:str}": f"{CLOSED} 403 403 403 403 403 403",
    "GET /cider-ci/storage/tree-attachments/{tree_id:str}/{path:path}": f"{CLOSED} 404 404 404 404 404 404",
    "DELETE /cider-ci/storage/tree-attachments/{tree_id:str}/{path:path}": CLOSED
    + " 403 404 404 404 404 404",
    "PUT /cider-ci/storage/tree-attachments/{tree_id:str}/{path:path}": f"{CLOSED} 403 403 403 204 204 204",
    "GET /cider-ci/storage/trial-attachments/{trial_id:str}/{path:path}": f"{CLOSED} 404 404 200 200 200 200",
    "PUT /cider-ci/storage/trial-attachments/{trial_id:str}/{path:path}": f"{CLOSED} 403 404 403 204 204 204",
    "DELETE /cider-ci/storage/trial-attachments/{trial_id:str}/{path:path}": CLOSED
    + " 403 404 403 204 404 404",
}
# Of the executions none has this id.
TABLE |= {"GET /reconciler/releases": CLOSED + " 200 200 200 200 200 200"}
TABLE |= {
    f"{method} /api/v1/{path}": f"{CLOSED} {seen}"
    for path, rows in {
        "builds/executions": {"GET": "200 200 200 200 200 200"},
        "state/{project:str}/builds/executions": {"GET": "404 404 200 200 200 200"},
        "state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}/executions": {
            "GET": "404 404 200 200 200 200"
        },
        "state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}/trigger-build": {
            "POST": "404 404 403 200 200 200"
        },
    }.items()
    for method, seen in rows.items()
}
TABLE |= {
    f"{method} /api/v1/{root}/executions/{{execution:str}}{path}": CLOSED + " 404 404 404 404 404 404"
    for root, rows in {
        "state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}": (
            "GET ",
            "POST /cancel",
            "PUT /commit",
            "POST /retry",
        ),
        "state/{project:str}/environments/{environment:str}/builds/by-name/{name:str}": (
            "GET /logs",
            "POST /logs",
            "GET /logs_ws",
        ),
        "deployment-jobs/by-project/{project:str}/by-environment/{environment:str}/by-name/{name:str}": (
            "GET /logs",
            "POST /logs",
            "GET /logs_ws",
        ),
    }.items()
    for method, path in (row.split(" ") for row in rows)
}
# A pipeline without phases; of its runs none has this id.
ONE_PIPELINE = "/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}"
TABLE |= {
    "GET /api/v1/pipelines": CLOSED + " 200 200 200 200 200 200",
    "GET /api/v1/pipelines/executions": CLOSED + " 200 200 200 200 200 200",
    "GET /api/v1/pipelines/by-project/{project:str}": CLOSED + " 404 404 200 200 200 200",
    "GET /api/v1/pipelines/by-project/{project:str}/executions": CLOSED + " 404 404 200 200 200 200",
    "POST /api/v1/pipelines/by-project/{project:str}/add": CLOSED + " 404 404 403 400 400 400",
    f"GET {ONE_PIPELINE}": CLOSED + " 404 404 200 200 200 200",
    f"PUT {ONE_PIPELINE}": CLOSED + " 404 404 403 400 400 400",
    f"DELETE {ONE_PIPELINE}": CLOSED + " 404 404 403 412 412 412",
    f"POST {ONE_PIPELINE}/trigger": CLOSED + " 404 404 403 200 200 200",
    f"GET {ONE_PIPELINE}/executions": CLOSED + " 404 404 200 200 200 200",
    f"GET {ONE_PIPELINE}/executions/{{execution:str}}": CLOSED + " 404 404 404 404 404 404",
    f"POST {ONE_PIPELINE}/executions/{{execution:str}}/cancel": CLOSED + " 404 404 404 404 404 404",
    f"POST {ONE_PIPELINE}/executions/{{execution:str}}/retry": CLOSED + " 404 404 404 404 404 404",
} | {
    f"{method} {ONE_PIPELINE}/executions/{{execution:str}}/confirmation/{{code:str}}/{verb}": CLOSED
    + " 404 404 404 404 404 404"
    for method in ("GET", "POST")
    for verb in ("approve", "disapprove")
}
# There are none of these; a body is missing. Releases are registered by whoever may write anything, the rest is for
# those who may write everything. What is not allowed is 401, and it is told before what is not there.
TABLE |= {
    f"{route}": f"{CLOSED} {seen}"
    for seen, routes in {
        "401 200 200 200 200 200": (
            "GET /v1/applications",
            "GET /v1/approval-rulesets",
            "GET /v1/application-approval-ruleset-bindings",
            "GET /v1/releases",
            "GET /v1/organization",
        ),
        "401 404 404 404 404 404": (
            "GET /v1/applications/{application:str}/approval-ruleset-bindings",
            "GET /v1/applications/{application:str}/releases",
            "GET /v1/applications/{application:str}/releases/{id:str}",
            "PATCH /v1/applications/{application:str}/releases/{id:str}",
            "GET /v1/applications/{application:str}/releases/{id:str}/events",
            "GET /v1/applications/{application:str}/releases/{id:str}/manual-approvals",
            "POST /v1/applications/{application:str}/releases/{id:str}/manual-approvals",
        ),
        "400 400 400 400 400 400": ("POST /v1/applications/{application:str}/releases",),
        "401 401 401 401 401 400": (
            "POST /v1/applications",
            "POST /v1/approval-rulesets",
            "PATCH /v1/organization",
        ),
        "401 401 401 401 401 401": ("GET /v1/organizations/{id:str}", "PATCH /v1/organizations/{id:str}"),
        "401 401 401 401 401 404": (
            "POST /v1/application-approval-ruleset-bindings/{application:str}/{ruleset:str}",
        ),
    }.items()
    for route in routes
} | {
    f"{method} /v1/{one}{path}": f"{CLOSED} {seen}"
    for one in (
        "applications/{application:str}",
        "approval-rulesets/{ruleset:str}",
        "application-approval-ruleset-bindings/{application:str}/{ruleset:str}",
    )
    for path, seen, methods in (
        ("", "401 404 404 404 404 404", ("GET",)),
        ("", "401 401 401 401 401 404", ("PATCH",)),
        ("/versions", "401 404 404 404 404 404", ("GET",)),
        ("/versions/{version_number:str}", "401 404 404 404 404 404", ("GET",)),
        ("/proposals", "401 404 404 404 404 404", ("GET",)),
        ("/proposals/{version_id:str}", "401 404 404 404 404 404", ("GET",)),
        ("/proposals/{version_id:str}", "401 401 401 401 401 404", ("PATCH", "DELETE")),
        ("/proposals/{version_id:str}/state", "401 401 401 401 401 404", ("PUT",)),
    )
    for method in methods
}
PDC = "/rest_api/v1"


def _of_pdc(paths: list[str], *answers: str, scripts: bool = False) -> dict[str, str]:
    """What GET, POST, PUT, PATCH and DELETE say to who has the right; who may not write hears that before a 405.

    `scripts`: whoever is somebody has it.
    """
    methods = zip(("GET", "POST", "PUT", "PATCH", "DELETE"), answers, strict=True)
    rows = {
        method: [said] * 6 if scripts else ["403", *([said] * 5 if method == "GET" else ["403"] * 4 + [said])]
        for method, said in methods
    }
    return {
        f"{method} {PDC}{path}": f"{CLOSED} {' '.join(row)}" for path in paths for method, row in rows.items()
    }


TABLE |= (
    _of_pdc(["/release-schedules", "/component-sla-types"], "200", "400", "200", "400", "400")
    | _of_pdc(["/releases", "/product-versions", "/products"], "200", "400", "200", "400", "405")
    | _of_pdc(["/base-products"], "200", "400", "400", "400", "405")
    | _of_pdc([f"/{name}/{{ident:str}}" for name in ("release-schedules", "component-sla-types")],
              "404", "405", "404", "400", "404")
    | _of_pdc([f"/{name}/{{ident:str}}" for name in ("releases", "product-versions", "products")],
              "404", "405", "404", "400", "405")
    | _of_pdc(["/base-products/{ident:str}"], "404", "405", "404", "404", "405")
    | _of_pdc(["", "/changesets", "/release-types", "/release-variants"], "200", "405", "405", "405", "405")
    | _of_pdc(["/changesets/{ident:str}"], "404", "405", "405", "405", "405")
    | _of_pdc(["/rpc/release/clone"], "405", "400", "405", "405", "405")
    | _of_pdc(["/auth/current-user", "/auth/resource-permissions"], "200", "405", "405", "405", "405", scripts=True)
    | _of_pdc(["/auth/token/obtain"], "200", "200", "405", "405", "405", scripts=True)
    | _of_pdc(["/auth/token/refresh"], "406", "405", "406", "405", "405", scripts=True)
)  # fmt: skip
SPEC = {"tasks": [{"name": "main", "run": "echo data >a.txt", "attachments": ["a.txt"]}]}
BODIES = {
    "POST /reconciler/plan": {"files": {}},
    "POST /reconciler/tokens": {"name": "more"},
    "POST /reconciler/trigger": {"key": "Build/shop/_/ok"},
    "PUT /reconciler/resources/{key:path}": {"spec": SPEC},
    "POST /reconciler/approvals": {"key": "Deployment/shop/dev/main", "decision": "approved"},
    "POST /reconciler/freezes": {"name": "f", "reason": "r", "project": "shop", "seconds": 60},
    "POST /reconciler/pass": {"key": "Deployment/shop/dev/main", "comment": "c"},
}


def person(name: str, role: str, project: str | None) -> str:
    """A user with one role."""
    scope = f", project: {project}" if project else ""
    return (
        f"---\napiVersion: steersman/v1\nkind: User\nmetadata: {{name: {name}}}\nspec: {{}}\n"
        f"---\napiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {{name: {name}{scope}}}\n"
        f"spec: {{role: {role}, subjects: [{{kind: User, name: {name}}}]}}\n"
    )


PEOPLE = "".join(
    person(name, role, project)
    for name, role, project in (
        ("foreign", "owner", "tools"),
        ("read", "read", "shop"),
        ("write", "write", "shop"),
        ("owner", "owner", "shop"),
        ("admin2", "owner", None),
    )
)
SPEAKS = """[{name: main, run: 'echo "$STEERSMAN_SERVER $STEERSMAN_TOKEN" >told; sleep 600'}]"""
TASKS = "[{name: main, run: 'echo data >a.txt', attachments: [a.txt]}]"


class World:
    """A daemon with a job, and a client for each identity."""

    def __init__(self, running: Process, secrets: dict[str, str]) -> None:
        self.running = running
        self._secrets = secrets

    def secret(self, identity: str) -> str | None:
        """The token of an identity."""
        return self._secrets.get(identity)

    @cached_property
    def ids(self) -> dict[str, str]:
        """Of job 1 and what is below it, as Cider-CI shows them."""
        api = "/cider-ci/api"
        with self.running.client() as client:

            def first(path: str, key: str) -> str:
                return str(client.get(f"{api}{path}").raise_for_status().json()[key][0]["id"])

            job = client.get("/reconciler/jobs/1").raise_for_status().json()["id"]
            found = client.get(f"{api}/jobs/{job}").raise_for_status().json()
            task = first(f"/jobs/{job}/tasks/", "tasks")
            trial = first(f"/tasks/{task}/trials/", "trials")
            return {
                "job:str": job,
                "task:str": task,
                "trial:str": trial,
                "trial_id:str": trial,
                "tree_id:str": found["tree_id"],
                "specification:str": found["job_specification_id"],
                "script:str": first(f"/trials/{trial}/scripts/", "scripts"),
                "attachment:str": first(f"/trials/{trial}/trial-attachments/", "trial_attachments"),
                "commit:str": "0" * 40,
                "repository:str": "x",
            }

    def ask(self, identity: str, route: str) -> httpx.Response:
        """One request; streams are left after their first bytes."""
        method, path = route.split(" ")
        key = f"Build/shop/_/gone-{identity}" if method == "DELETE" else "Build/shop/_/ok"
        samples = {
            "number:int": "1",
            "path:path": "a.txt",
            "key:path": key,
            "token:str": "x",
            "verb:str": "edit",
            "project:str": "shop",
            "environment:str": "dev",
            "build:str": "main",
            "deployment:str": "main",
            "pipeline:str": "main",
            "execution:str": "0" * 26,
            "code:str": "x" * 43,
            "name:str": "nobody",
            "job:str": "1",
            "task:str": "run",
            "group:str": "1",
            "owner:str": "~admin",
            "ident:str": "0",
            "application:str": "x",
            "ruleset:str": "x",
            "id:str": "1",
            "version_number:str": "1",
            "version_id:str": "1",
        }
        if path.startswith("/cider-ci"):
            samples |= self.ids
        path += "/" if path.startswith(PDC) else ""
        address = re.sub(r"\{([^}]+)\}", lambda found: samples[found[1]], path)
        secret = self._secrets.get(identity)
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        headers |= {"If-Match": "never"} if address.startswith("/api/v1") else {}
        headers |= (
            {"Accept": "text/none"} if path.endswith("/token/refresh/") else {}
        )  # else it would be no more
        body = {"json": BODIES[route]} if route in BODIES else {}
        params = {"q": "data"} if address.endswith("search") else {}
        params |= (
            {"deployment": "nothing"} if method in ("PUT", "DELETE") and "/deployments" in address else {}
        )
        with (
            httpx.Client(base_url=self.running.url, headers=headers, timeout=60) as client,
            client.stream(method, address, params=params, **body) as answer,
        ):
            if not address.endswith("stream"):
                answer.read()
            return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """People of every sort, one finished job, and a build to delete for each of them."""
    folder = tmp_path_factory.mktemp("identities")
    repo = SpecRepository(folder / "specs")
    gone = "---\n".join(build(f"gone-{identity}", TASKS) for identity in IDENTITIES)
    other = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: tools}\nspec: {}\n"
    inside = (
        "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\nspec: {}\n---\n"
        + build("main", TASKS).replace("project: shop", "project: shop, environment: dev")
        + "---\napiVersion: steersman/v1\nkind: Deployment\nmetadata: {name: main, project: shop, environment: dev}\n"
        "spec: {release: shop/main, reconcile: manual}\n"
        "---\napiVersion: steersman/v1\nkind: Pipeline\nmetadata: {name: main, project: shop}\nspec: {}\n"
    )
    files = {
        "i.yaml": inside,
        "p.yaml": PROJECT,
        "o.yaml": other,
        "b.yaml": build("ok", TASKS),
        "g.yaml": gone,
        "s.yaml": build("speaks", SPEAKS),
    }
    repo.commit({**files, "people.yaml": PEOPLE})
    allowed = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
    with process(repo.path, folder / "data", **allowed) as running, running.client() as client:
        head = repo.head()
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )
        assert client.post("/reconciler/trigger", json={"key": "Build/shop/_/ok"}).status_code == 202
        running.job(1, "passed")
        secrets = {"wrong": "stm_wrong", "expired": "stm_expired"}
        for name in ("foreign", "read", "write", "owner", "admin2"):
            wish = {"name": "t", "level": "owner", "subject": f"User/{name}"}
            made = client.post("/reconciler/tokens", json=wish)
            assert made.status_code == 201, made.text
            secrets[name.removesuffix("2")] = made.json()["token"]
        assert client.post("/reconciler/trigger", json={"key": "Build/shop/_/speaks"}).status_code == 202
        server, secrets["script"] = _told(folder / "data")
        assert server == running.url
        asyncio.run(_expired(folder / "data", secrets["expired"]))
        yield World(running, secrets)


def _told(data: Path) -> tuple[str, str]:
    """Address and token that a running script found in its environment."""
    until = monotonic() + 60
    while monotonic() < until:
        for path in data.glob("workspaces/*/workspace/told"):
            if len(words := path.read_text().split()) == 2:
                return words[0], words[1]
        sleep(0.05)
    raise AssertionError("the script told nothing")


async def _expired(data: Path, secret: str) -> None:
    """A token whose time is over, as the daemon would have stored it."""
    database = connect(databases.url_of(data))
    try:
        now = datetime.now(UTC)
        token = NewToken("User/owner", "old", Level.OWNER, INSTALLATION, now, now - timedelta(seconds=1))
        await database.write(lambda w: tokens.add(w.connection, token_hash(secret), token))
    finally:
        await database.close()


def test_every_closed_route_is_in_the_table() -> None:
    """And nothing else is; pages have a table of their own."""
    closed = {
        (method, path) for method, path in every_route() if path != "/ui" and not path.startswith("/ui/")
    } - OPEN.keys()
    assert {f"{method} {path}" for method, path in closed} == TABLE.keys()


@pytest.mark.parametrize("route", TABLE)
def test_the_answer_is_the_one_of_the_table(world: World, route: str) -> None:
    """For every identity."""
    found = [world.ask(identity, route).status_code for identity in IDENTITIES]
    assert " ".join(map(str, found)) == TABLE[route]


def test_a_script_sees_its_own_job_while_it_runs_and_nothing_else(world: World) -> None:
    """And it changes nothing, not even that; its end is the end of its token, which none but the server can make."""
    secret = world.secret("script")
    assert secret is not None
    with httpx.Client(base_url=world.running.url, headers={"Authorization": f"Bearer {secret}"}) as script:
        assert script.get("/reconciler/whoami").json()["job"] == 2
        assert [job["number"] for job in script.get("/reconciler/jobs").json()["items"]] == [2]
        assert script.get("/reconciler/jobs/2").json()["state"] == "executing"
        assert script.get("/reconciler/jobs/2/log").status_code == 200
        assert script.get("/reconciler/resources").json()["items"] == []
        assert script.get("/reconciler/events").json()["items"] == []
        assert script.post("/reconciler/jobs/2/cancel").status_code == 404
        for wrong in (secret[:-1] + ("1" if secret[-1] == "0" else "0"), secret.replace("run_2.", "run_1.")):
            answer = script.get("/reconciler/whoami", headers={"Authorization": f"Bearer {wrong}"})
            assert answer.status_code == 401
        with world.running.client() as client:
            assert client.post("/reconciler/jobs/2/cancel").status_code == 202
            world.running.job(2, "aborted")
        assert script.get("/reconciler/whoami").status_code == 401


def test_what_is_followed_ends_with_the_token(world: World) -> None:
    """A stream that began before is no way around a revocation."""
    with world.running.client() as client:

        def make(name: str) -> dict[str, str]:
            body = {"name": name, "level": "read", "subject": "User/admin2"}
            found: dict[str, str] = client.post("/reconciler/tokens", json=body).raise_for_status().json()
            return found

        made = make("followed")
        headers = {"Authorization": f"Bearer {made['token']}"}
        with (
            httpx.Client(base_url=world.running.url, headers=headers, timeout=60) as reader,
            reader.stream("GET", "/reconciler/events/stream") as live,
        ):
            pieces = live.iter_text()
            seen = next(pieces)
            while "followed" not in seen:
                seen += next(pieces)
            assert client.delete(f"/reconciler/tokens/{made['id']}").status_code == 204
            make("after-the-end")
            seen += "".join(pieces)
    assert "after-the-end" not in seen


@pytest.fixture
def asks(world: World) -> Iterator[dict[str, httpx.Client]]:
    """A client of each who is somebody."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                httpx.Client(
                    base_url=world.running.url,
                    headers={"Authorization": f"Bearer {world.secret(name)}"},
                    timeout=60,
                )
            )
            for name in ("read", "write", "owner", "admin")
        }


def test_a_request_with_a_key_is_carried_out_once(asks: dict[str, httpx.Client]) -> None:
    """The first answer is given again, also to those that come meanwhile; failures and other callers have their own."""
    body, headers = {"key": "Build/shop/_/ok"}, {"Idempotency-Key": "order-1"}

    def post(name: str, **more: Any) -> httpx.Response:
        return asks[name].post("/reconciler/trigger", json=body | more, headers=headers)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, ["write"] * 4))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["content-type"] for answer in answers}) == 1
    assert post("owner").json()["number"] != answers[0].json()["number"]
    clash = post("write", branch="main")
    assert (clash.status_code, "another request" in clash.text) == (422, True)
    assert post("read").status_code == 403
    assert post("read").status_code == 403
    for wrong in ("", "x" * 256, "a\tb"):
        answer = asks["write"].post("/reconciler/trigger", json=body, headers={"Idempotency-Key": wrong})
        assert answer.status_code == 400
    path = "/api/v1/state/shop/environments/dev/builds/by-name/main"
    assert asks["write"].get(path, headers=headers).status_code == 200


def test_a_remembered_secret_is_not_readable_in_the_store(
    world: World, asks: dict[str, httpx.Client]
) -> None:
    """A token is shown again to who asked for it, and its secret is in no file of the data directory."""
    headers = {"Idempotency-Key": "a-token"}
    made = [asks["owner"].post("/reconciler/tokens", json={"name": "t"}, headers=headers) for _ in range(2)]
    assert made[0].json() == made[1].json()
    secret = made[0].json()["token"].encode()
    assert holding(world.running.data, secret) == []


def test_a_narrower_token_is_given_no_answer_of_a_wider_one(
    world: World, asks: dict[str, httpx.Client]
) -> None:
    """Though it is of the same person, who asks the same under the same key."""
    headers = {"Idempotency-Key": "shared"}
    body = {"name": "wide", "level": "owner"}
    assert asks["owner"].post("/reconciler/tokens", json=body, headers=headers).status_code == 201
    narrow = (
        asks["owner"].post("/reconciler/tokens", json={"name": "narrow", "level": "read"}).json()["token"]
    )
    with httpx.Client(
        base_url=world.running.url, headers={"Authorization": f"Bearer {narrow}"}, timeout=60
    ) as client:
        answer = client.post("/reconciler/tokens", json=body, headers=headers)
    assert answer.status_code == 422
    assert "token" not in answer.json()
