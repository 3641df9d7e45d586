"""The 87 endpoints as the contract tells of them: one row each, in the order of the published page (escape-state, 6).

A row says who may, what succeeds, the shape of its answer, how many commits it makes, and each error of its own. What
is refused of all of them alike (401, 403, 404 of what the path names, 405) follows from the row, in `test_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.api.escape import ground as given
from tests.api.escape import shapes
from tests.api.escape.ground import Situation
from tests.api.escape.shapes import Keyed

NO_BODY = object()
MEBI = 1 << 20


@dataclass(frozen=True, slots=True)
class Wrong:
    """An error of an endpoint; what is None is as in its success. `body` may be bytes, which are sent as they are."""

    status: int
    code: str
    given: Situation | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`needs`: who may, a key of `CALLERS`. `shape`: of the answer; "": it is empty; None: see `test_table`."""

    name: str
    method: str
    path: str
    needs: str
    shape: Any = ""
    given: Situation | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: Any = NO_BODY
    commits: int = 0
    wrong: tuple[Wrong, ...] = ()


@dataclass(frozen=True, slots=True)
class Callers:
    """Who succeeds, the least there is, and who is refused how; "" shows no token."""

    able: str
    refused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    token: bool = True


CALLERS = {
    "none": Callers("", token=False),
    "code": Callers("", token=False),
    "any": Callers("rita"),
    "read": Callers("rita", {"nobody": (404,)}),
    "write": Callers("pia", {"nobody": (404,), "rita": (403,)}),  # on the environment
    "write on the project": Callers("wendy", {"nobody": (404,), "rita": (403,), "pia": (403, 404)}),
    "owner": Callers("alice", {"nobody": (404,), "rita": (403,), "wendy": (403,)}),
    "administrator": Callers("admin", dict.fromkeys(("nobody", "rita", "wendy", "alice"), (403,))),
    "member": Callers("rita", {"nobody": (404,), "wendy": (404,)}),
    "asked": Callers("rita", {"nobody": (404,), "wendy": (403,)}),
}
PARAMETERS = {
    "project": "shop",
    "environment": "dev",
    "build": "web",
    "deployment": "shop/web",
    "pipeline": "release",
    "name": "web",
}
"""What a path names, where neither the row nor its situation says otherwise."""

PAGES = (Wrong(400, "invalid-page", query="page_size=0"), Wrong(400, "invalid-page", query="page_from=x"))
LOG_PARTS = (
    Wrong(400, "invalid-field", query="from_seq=x"),
    Wrong(400, "invalid-field", query="limit=0"),
    Wrong(400, "invalid-field", query="level=loud"),
)
NO_JSON = Wrong(400, "invalid-json", body=b"{")
NO_OBJECT = Wrong(400, "invalid-json", body=[])
LARGE = Wrong(413, "too-large", body=b" " * (MEBI + 1))
LARGER = Wrong(413, "too-large", body=b" " * (4 * MEBI + 1))
STALE = Wrong(412, "stale", headers={"If-Match": '"old"'})
MISMATCH = Wrong(400, "name-mismatch", body={"name": "other"})
WRITTEN = (NO_JSON, LARGE)


def finished(situation: Situation) -> Wrong:
    """It is too late."""
    return Wrong(409, "already-finished", given=situation)


def disabled(situation: Situation | None = None, **parameters: str) -> Wrong:
    """It may not start."""
    return Wrong(409, "disabled", given=situation, parameters=parameters)


def busy(situation: Situation = given.deploying) -> Wrong:
    """One execution per deployment at a time."""
    return Wrong(409, "deployment-busy", given=situation)


def exists(**body: Any) -> Wrong:
    """The name is taken."""
    return Wrong(409, "already-exists", body=body)


_V1 = "/api/v1"
_STATE = f"{_V1}/state/{{project}}"
_ENV = f"{_STATE}/environments/{{environment}}"
_BUILD = f"{_ENV}/builds/by-name/{{build}}"
_BX = f"{_BUILD}/executions"
_BX1 = f"{_BX}/{{build_execution_id}}"
_LOG = {"entries": [{"message": "hello"}]}
_FAULTY_LOG = Wrong(400, "invalid-field", body={"entries": 3})
_COMMIT = {"git_revision": "a" * 40}
_NEW_BUILD = {"name": "new", "repo": "web", "steps": [{}]}
_PUT_BUILD = {"repo": "web", "steps": [{}]}

_BUILD_EXECUTIONS = [
    Endpoint("BX1", "GET", f"{_V1}/builds/executions/", "any", [shapes.BUILD_EXECUTION], wrong=PAGES),
    Endpoint("BX2", "GET", f"{_STATE}/builds/executions/", "read", [shapes.BUILD_EXECUTION], wrong=PAGES),
    Endpoint("BX3", "GET", f"{_BX}/", "read", [shapes.BUILD_EXECUTION], wrong=PAGES),
    Endpoint("BX4", "GET", f"{_BX1}/", "read", shapes.BUILD_EXECUTION, given.built),
    Endpoint("BX5", "POST", f"{_BX1}/cancel", "write", "", given.queued, wrong=(finished(given.built),)),
    Endpoint("BX6", "PUT", f"{_BX1}/commit", "write", "", given.handed, body=_COMMIT, wrong=(
        NO_JSON,
        Wrong(400, "invalid-field", body={"git_revision": "a" * 39}),
        Wrong(409, "commit-mismatch", given.committed, body={"git_revision": "b" * 40}),
        finished(given.closed),
    )),
    Endpoint("BX7", "GET", f"{_BX1}/logs", "read", shapes.LOG_PAGE, given.built, wrong=LOG_PARTS),
    Endpoint("BX8", "POST", f"{_BX1}/logs", "write", shapes.LOG_TAKEN, given.handed, body=_LOG, wrong=(
        NO_JSON, _FAULTY_LOG, finished(given.closed), LARGER,
    )),
    Endpoint("BX9", "GET", f"{_BX1}/logs_ws", "read", None, given.built, wrong=(Wrong(426, "upgrade-required"),)),
    Endpoint("BX10", "POST", f"{_BX1}/retry", "write", shapes.EXECUTION_ID, given.built, wrong=(
        Wrong(409, "not-finished", given.building), disabled(given.build_disabled),
    )),
]  # fmt: skip
_BUILDS = [
    Endpoint("BD1", "GET", f"{_V1}/builds/", "any", Keyed(Keyed(Keyed(shapes.BUILD)), ("shop", "docs"))),
    Endpoint("BD2", "GET", f"{_STATE}/builds/", "read", Keyed(Keyed(shapes.BUILD), ("dev", "staging"))),
    Endpoint("BD3", "GET", f"{_ENV}/builds/", "read", Keyed(shapes.BUILD, ("web", "off"))),
    Endpoint("BD4", "POST", f"{_ENV}/builds/", "write", shapes.BUILD, body=_NEW_BUILD, commits=1, wrong=(
        *WRITTEN, Wrong(400, "invalid-field", body=_NEW_BUILD | {"steps": []}), exists(**_NEW_BUILD | {"name": "web"}),
    )),
    Endpoint("BD5", "GET", f"{_BUILD}/", "read", shapes.BUILD),
    Endpoint("BD6", "PUT", f"{_BUILD}/", "write", shapes.BUILD, body=_PUT_BUILD, commits=1, wrong=(
        *WRITTEN, Wrong(400, "invalid-field", body=_PUT_BUILD | {"steps": "all"}), MISMATCH, STALE,
    )),
    Endpoint("BD7", "DELETE", f"{_BUILD}/", "write", "", parameters={"build": "spare"}, commits=1, wrong=(
        Wrong(409, "in-use", parameters={"build": "web"}),
        Wrong(409, "in-use", parameters={"build": "web"}, query="force=true"),
        Wrong(409, "in-use", given.building),
    )),
    Endpoint("BD8", "POST", f"{_BUILD}/trigger-build", "write", shapes.EXECUTION_ID, parameters={"build": "spare"},
        wrong=(
            NO_JSON, Wrong(400, "invalid-field", body={"commit": "abc"}), disabled(build="off"),
            Wrong(409, "spec-invalid", given.build_invalid),
        ),
    ),
    Endpoint("BD9", "POST", f"{_ENV}/builds/webhook/{{code}}", "code", shapes.EXECUTION_ID, given.code_of("spare"),
        wrong=(NO_JSON, LARGE, disabled(given.code_of("off"))),
    ),
]  # fmt: skip
_JOBS = f"{_V1}/deployment-jobs"
_OF = f"{_JOBS}/by-project/{{project}}"
_IN = f"{_OF}/by-environment/{{environment}}"
_JOB = f"{_IN}/by-name/{{deployment}}"
_DX = f"{_JOB}/executions"
_DX1 = f"{_DX}/{{execution_id}}"
_NEW_JOB = {"name": "shop/new", "environment": "dev", "release": "shop/web", "reconcile": "manual"}
_JOB_EXECUTIONS = [
    Endpoint("DX1", "GET", f"{_DX}/", "read", [shapes.JOB_EXECUTION], wrong=PAGES),
    Endpoint("DX2", "GET", f"{_DX1}/", "read", shapes.JOB_EXECUTION, given.settled),
    Endpoint("DX3", "POST", f"{_DX1}/cancel", "write", "", given.deploying, wrong=(finished(given.settled),)),
    Endpoint("DX4", "GET", f"{_DX1}/logs", "read", shapes.LOG_PAGE, given.settled, wrong=LOG_PARTS),
    Endpoint("DX5", "POST", f"{_DX1}/logs", "write", shapes.LOG_TAKEN, given.job_handed, body=_LOG, wrong=(
        NO_JSON, _FAULTY_LOG, finished(given.job_closed), LARGER,
    )),
    Endpoint("DX6", "GET", f"{_DX1}/logs_ws", "read", None, given.settled, wrong=(Wrong(426, "upgrade-required"),)),
    Endpoint("DX7", "POST", f"{_DX1}/retry", "write", shapes.EXECUTION_ID, given.settled, wrong=(
        Wrong(409, "not-finished", given.deploying), disabled(given.job_disabled), busy(given.beside_deploying),
    )),
    Endpoint("DX8", "GET", f"{_OF}/executions/", "read", [shapes.JOB_EXECUTION], wrong=PAGES),
    Endpoint("DX9", "GET", f"{_JOBS}/executions/", "any", [shapes.JOB_EXECUTION], wrong=PAGES),
]  # fmt: skip
_DEPLOYMENT_JOBS = [
    Endpoint("DJ1", "GET", f"{_JOBS}/", "any", [shapes.JOB]),
    Endpoint("DJ2", "GET", f"{_OF}/", "read", [shapes.JOB]),
    Endpoint("DJ3", "POST", f"{_OF}/add", "write", shapes.JOB, body=_NEW_JOB, commits=1, wrong=(
        *WRITTEN,
        Wrong(400, "invalid-reference", body=_NEW_JOB | {"environment": "nope"}),
        Wrong(400, "invalid-field", body=_NEW_JOB | {"name": "1bad"}),
        exists(**_NEW_JOB | {"name": "shop/web"}),
    )),
    Endpoint("DJ4", "GET", f"{_IN}/", "read", [shapes.JOB]),
    Endpoint("DJ5", "GET", f"{_JOB}/", "read", shapes.JOB),
    Endpoint("DJ6", "PUT", f"{_JOB}/", "write", shapes.JOB, body={"suspend": True}, commits=1, wrong=(
        *WRITTEN, Wrong(400, "invalid-field", body={"suspend": "yes"}), MISMATCH, STALE,
    )),
    Endpoint("DJ7", "DELETE", f"{_JOB}/", "write", "", parameters={"deployment": "shop/never"}, commits=1, wrong=(
        Wrong(409, "in-use", given.settled, parameters={"deployment": "shop/web"}),
        Wrong(409, "in-use", given.deploying),
    )),
    Endpoint("DJ8", "POST", f"{_JOB}/trigger", "write", shapes.EXECUTION_ID, given.settled, wrong=(
        NO_JSON, disabled(deployment="shop/off"), busy(), Wrong(400, "invalid-reference", body={"version": "7.7.7"}),
        Wrong(409, "declared-version", given.settled, body={"inputs": {"wait": "no"}}),
    )),
    Endpoint("DJ9", "POST", f"{_JOB}/trigger/destroy", "write", shapes.EXECUTION_ID, given.standing, commits=1, wrong=(
        Wrong(400, "invalid-field", body={"suspend": "no"}),
        Wrong(409, "not-deployed", parameters={"deployment": "shop/never"}),
        busy(),
        Wrong(409, "in-use", given.consumed),
    )),
    Endpoint("DJ10", "POST", f"{_JOB}/trigger/errand", "write", shapes.EXECUTION_ID, given.settled,
        body={"errand_name": "backup", "errand_inputs": {"bucket": "b"}}, wrong=(
            Wrong(404, "not-found", body={"errand_name": "nope"}),
            Wrong(400, "invalid-field", body={"errand_name": "backup", "errand_inputs": {"nope": "x"}}),
            Wrong(400, "invalid-field", body={"errand_name": "backup", "errand_inputs": {"bucket": 7}}),
            Wrong(409, "not-deployed", parameters={"deployment": "shop/never"}),
            disabled(deployment="shop/off"),
        ),
    ),
    Endpoint("DJ11", "POST", f"{_JOB}/trigger/smoke", "write", shapes.EXECUTION_ID, given.settled, wrong=(
        Wrong(409, "not-deployed", parameters={"deployment": "shop/never"}), disabled(given.job_disabled), busy(),
    )),
]  # fmt: skip
_ORDER = Wrong(400, "invalid-order", body={"order": ["dev"]})
_ENVIRONMENTS = [
    Endpoint("EN1", "POST", f"{_STATE}/change-environment-order", "write on the project",
        {"order": [str]}, body={"order": ["staging", "dev"]}, commits=1, wrong=(
            *WRITTEN, _ORDER,
            Wrong(400, "invalid-order", body={"order": ["dev", "dev"]}),
            Wrong(400, "invalid-order", body={"order": ["dev", "staging", "nope"]}),
        ),
    ),
    Endpoint("EN2", "POST", f"{_STATE}/environments/", "write on the project", shapes.ENVIRONMENT,
        body={"name": "qa"}, commits=1, wrong=(
            *WRITTEN, Wrong(400, "invalid-field", body={"name": "Prod"}), exists(name="dev"),
        ),
    ),
    Endpoint("EN3", "GET", f"{_ENV}/", "read", shapes.ENVIRONMENT),
    Endpoint("EN4", "PUT", f"{_ENV}/", "write", shapes.ENVIRONMENT, body={"description": "x"}, commits=1, wrong=(
        *WRITTEN, MISMATCH, Wrong(400, "invalid-field", body={"description": 3}), STALE,
    )),
    Endpoint("EN5", "DELETE", f"{_ENV}/", "owner", {"deleted": {"builds": int, "deployments": int}},
        parameters={"environment": "staging"}, commits=1, wrong=(
            Wrong(409, "in-use", given.building, parameters={"environment": "dev"}),
            Wrong(409, "in-use", parameters={"environment": "dev"}, query="force=true"),
        ),
    ),
    Endpoint("EN6", "GET", f"{_ENV}/providers/", "read", Keyed([str], ("web",)), given.settled),
]  # fmt: skip
_INTERNAL = [
    Endpoint("IN1", "GET", "/", "none", None),
    Endpoint("IN2", "GET", "/health", "none", Keyed(object, ("status", "revision", "checks"))),
]
_PIPELINES = f"{_V1}/pipelines"
_PROJECT = f"{_PIPELINES}/by-project/{{project}}"
_PIPELINE = f"{_PROJECT}/by-name/{{pipeline}}"
_PX = f"{_PIPELINE}/executions"
_PX1 = f"{_PX}/{{pipeline_execution_id}}"
_RUNS = [shapes.PIPELINE_EXECUTION]
_NEW_PIPELINE = {
    "name": "new",
    "phases": [{"name": "p", "steps": [{"type": "confirmation", "user": "rita"}]}],
}
_BAD_PHASES = [{"name": "p", "steps": [{"type": "deploy", "deployment": "shop/web"}]}]
_PIPELINE_EXECUTIONS = [
    Endpoint("PX1", "GET", f"{_PX}/", "read", _RUNS, given.asking, wrong=PAGES),
    Endpoint("PX2", "GET", f"{_PX1}/", "read", shapes.PIPELINE_EXECUTION, given.asking),
    Endpoint("PX3", "POST", f"{_PX1}/cancel", "write on the project", "", given.asking, wrong=(
        NO_JSON, finished(given.approved),
    )),
    Endpoint("PX4", "GET", f"{_PX1}/confirmation/{{code}}/approve", "asked", shapes.PIPELINE_EXECUTION, given.asking,
        wrong=(Wrong(409, "already-decided", given.disapproved), finished(given.cancelled)),
    ),
    Endpoint("PX5", "GET", f"{_PX1}/confirmation/{{code}}/disapprove", "asked", shapes.PIPELINE_EXECUTION, given.asking,
        wrong=(Wrong(409, "already-decided", given.approved), finished(given.cancelled)),
    ),
    Endpoint("PX6", "POST", f"{_PX1}/retry", "write on the project", shapes.EXECUTION_ID, given.cancelled, wrong=(
        NO_JSON, Wrong(409, "not-finished", given.asking), disabled(given.pipeline_disabled),
    )),
    Endpoint("PX7", "GET", f"{_PROJECT}/executions/", "read", _RUNS, given.asking, wrong=PAGES),
]  # fmt: skip
_PIPELINES_ = [
    Endpoint("PL1", "GET", f"{_PIPELINES}/", "any", [shapes.PIPELINE]),
    Endpoint("PL2", "GET", f"{_PROJECT}/", "read", [shapes.PIPELINE]),
    Endpoint("PL3", "POST", f"{_PROJECT}/add", "write on the project", shapes.PIPELINE, body=_NEW_PIPELINE, commits=1,
        wrong=(
            *WRITTEN, Wrong(400, "invalid-field", body={"name": "new", "phases": _BAD_PHASES}), exists(name="release"),
        ),
    ),
    Endpoint("PL4", "GET", f"{_PIPELINE}/", "read", shapes.PIPELINE),
    Endpoint("PL5", "PUT", f"{_PIPELINE}/", "write on the project", shapes.PIPELINE, body={"phases": []}, commits=1,
        wrong=(*WRITTEN, Wrong(400, "invalid-field", body={"phases": _BAD_PHASES}), MISMATCH, STALE),
    ),
    Endpoint("PL6", "DELETE", f"{_PIPELINE}/", "write on the project", "", parameters={"pipeline": "spare"}, commits=1,
        wrong=(
            Wrong(409, "in-use", parameters={"pipeline": "release"}, query="force=true"),
            Wrong(409, "in-use", given.asking_spare),
        ),
    ),
    Endpoint("PL7", "POST", f"{_PIPELINE}/trigger", "write on the project", shapes.EXECUTION_ID, wrong=(
        NO_JSON, disabled(pipeline="off"), Wrong(409, "spec-invalid", given.pipeline_invalid),
    )),
    Endpoint("PL8", "POST", f"{_PROJECT}/pipelines/webhook/{{code}}", "code", shapes.EXECUTION_ID,
        given.pipeline_code("release"), wrong=(
            NO_JSON,
            disabled(given.pipeline_code("off")),
            Wrong(409, "no-identity", given.pipeline_code("nobody")),
            Wrong(413, "too-large", body=b" " * ((64 << 10) + 1)),
        ),
    ),
    Endpoint("PL9", "GET", f"{_PIPELINES}/executions/", "any", _RUNS, given.asking, wrong=PAGES),
]  # fmt: skip
_NAMESPACES = [
    Endpoint("NS1", "GET", f"{_V1}/state/namespaces", "any",
        {"namespaces": Keyed({"permission": shapes.LEVEL, "project": str}, ("shop",))}),
    Endpoint("NS2", "POST", f"{_STATE}/add-namespace", "owner", shapes.NAMESPACE, body={"name": "site"}, commits=1,
        wrong=(
            *WRITTEN, Wrong(400, "invalid-field", body={"name": "int eger"}), exists(name="shop"), exists(name="docs"),
        ),
    ),
    Endpoint("NS3", "GET", f"{_STATE}/namespaces/", "read", Keyed(shapes.NAMESPACE, ("shop",))),
]  # fmt: skip
_DELETED = dict.fromkeys(("environments", "builds", "deployments", "pipelines", "repositories"), int)
_GIVE = {"team": "platform", "permission": "read"}
_ACCOUNT = f"{_STATE}/service-accounts/{{name}}/"
_STATE_FILE = {"environments": {"imported": {}}}  # no deployments, which ask for a role of their own
_PROJECTS = [
    Endpoint("PR1", "GET", f"{_V1}/state/", "any", Keyed(shapes.PROJECT, ("shop", "docs"))),
    Endpoint("PR2", "GET", f"{_V1}/state/__get_projects_by_group", "member", Keyed(shapes.PROJECT, ("shop",)),
        query="group=ops", wrong=(Wrong(400, "invalid-field", query=""),)),
    Endpoint("PR3", "GET", f"{_STATE}/", "read", shapes.WHOLE_PROJECT),
    Endpoint("PR4", "PUT", f"{_STATE}/", "owner", shapes.WHOLE_PROJECT, body={"description": "x"}, commits=1, wrong=(
        *WRITTEN, Wrong(400, "invalid-field", body={"is_public": "no"}), MISMATCH, STALE,
    )),
    Endpoint("PR5", "DELETE", f"{_STATE}/", "owner", {"deleted": _DELETED}, parameters={"project": "docs"}, commits=1,
        wrong=(Wrong(409, "in-use", given.building, parameters={"project": "shop"}),),
    ),
    Endpoint("PR6", "POST", f"{_STATE}/add-project", "administrator", shapes.WHOLE_PROJECT,
        parameters={"project": "made"}, commits=1, wrong=(
            NO_JSON, LARGE, MISMATCH,
            Wrong(400, "invalid-field", parameters={"project": "p"}),
            Wrong(409, "already-exists", parameters={"project": "shop"}),
        ),
    ),
    Endpoint("PR7", "GET", f"{_STATE}/can-manage-subscriptions", "read", {"can_manage_subscriptions": bool}),
    Endpoint("PR8", "POST", f"{_STATE}/import-environments", "write on the project", shapes.IMPORTED, body=_STATE_FILE,
        commits=1, wrong=(
            NO_JSON,
            Wrong(400, "invalid-field", body={"environments": {"qa": {"deployments": {"1bad": {}}}}}),
            Wrong(409, "already-exists", body={"environments": {"dev": {}}}),
            LARGER,
        ),
    ),
    Endpoint("PR9", "GET", f"{_STATE}/logo", "read", None, wrong=(
        Wrong(404, "not-found", parameters={"project": "docs"}),
    )),
    Endpoint("PR10", "GET", f"{_STATE}/rbac/valid-roles", "read", [shapes.ROLE]),
    Endpoint("PR11", "GET", f"{_STATE}/service-accounts/", "read", [shapes.ACCOUNT]),
    Endpoint("PR12", "POST", _ACCOUNT, "owner", shapes.ACCOUNT, parameters={"name": "helper"},
        body=_GIVE | {"issue_token": True}, commits=1, wrong=(
            *WRITTEN,
            Wrong(400, "invalid-field", body={"team": "nope", "permission": "read"}),
            Wrong(400, "invalid-field", body={"team": "platform", "permission": "most"}),
            Wrong(404, "not-found", parameters={"name": "nope"}),
            Wrong(409, "already-exists", parameters={"name": "builder"}, body=_GIVE | {"permission": "write"}),
        ),
    ),
    Endpoint("PR13", "DELETE", _ACCOUNT, "owner", "", parameters={"name": "builder"}, commits=1, wrong=(
        Wrong(409, "in-use", parameters={"name": "deployer"}),
    )),
]  # fmt: skip
_REPOSITORIES = f"{_STATE}/repositories"
_NEW_REPOSITORY = {"name": "new", "url": "https://git.example.org/new.git"}
_REPOSITORIES_ = [
    Endpoint("RE1", "GET", f"{_REPOSITORIES}/", "read", [shapes.REPOSITORY]),
    Endpoint("RE2", "POST", f"{_REPOSITORIES}/add-repository", "owner", shapes.REPOSITORY, body=_NEW_REPOSITORY,
        commits=1, wrong=(
            *WRITTEN,
            Wrong(400, "invalid-field", body={"name": "new", "url": "ext::sh"}),
            Wrong(400, "invalid-field", body={"name": "new"}),
            exists(**_NEW_REPOSITORY | {"name": "web"}),
        ),
    ),
    Endpoint("RE3", "PUT", f"{_REPOSITORIES}/{{name}}/", "owner", shapes.REPOSITORY, body={"branch": "next"}, commits=1,
        wrong=(*WRITTEN, MISMATCH, Wrong(400, "invalid-field", body={"branch": "--x"}), STALE),
    ),
    Endpoint("RE4", "DELETE", f"{_REPOSITORIES}/{{name}}/", "owner", "", parameters={"name": "spare"}, commits=1,
        wrong=(Wrong(409, "in-use", parameters={"name": "web"}),),
    ),
]  # fmt: skip
_DEPLOYMENTS = f"{_ENV}/deployments/"
_UPDATE = {"path": "shop/put", "root_stage": "", "state": {"stages": {}}}
_AT = "deployment=shop%2F"
_STATES = [
    Endpoint("ST1", "GET", _DEPLOYMENTS, "read", shapes.DEPLOYMENT, given.settled, query=f"{_AT}web", wrong=(
        Wrong(404, "not-found", query=f"{_AT}nope"),
    )),
    Endpoint("ST2", "POST", _DEPLOYMENTS, "write", shapes.DEPLOYMENT, body={"name": "shop/new", "release": "shop/web"},
        commits=1, wrong=(
            *WRITTEN, Wrong(400, "invalid-field", body={"name": "1bad", "release": "shop/web"}),
            exists(name="shop/web", release="shop/web"),
        ),
    ),
    Endpoint("ST3", "PUT", _DEPLOYMENTS, "write", "", query=f"{_AT}put", body=_UPDATE, wrong=(
        *WRITTEN,
        Wrong(400, "invalid-field", body=_UPDATE | {"path": "other:cache"}),
        Wrong(400, "invalid-field", body=_UPDATE | {"state": {"stages": {"test": {}}}}),
        Wrong(409, "deployment-busy", given.deploying, query=f"{_AT}slow", body=_UPDATE | {"path": "shop/slow"}),
    )),
    Endpoint("ST4", "DELETE", _DEPLOYMENTS, "write", "", given.known, query=f"{_AT}never", commits=1, wrong=(
        Wrong(404, "not-found", query=f"{_AT}nope"),
        Wrong(409, "in-use", given.consumed, query=f"{_AT}web"),
        Wrong(409, "deployment-busy", given.deploying, query=f"{_AT}slow"),
    )),
]  # fmt: skip

ENDPOINTS = [
    *_BUILD_EXECUTIONS, *_BUILDS, *_JOB_EXECUTIONS, *_DEPLOYMENT_JOBS, *_ENVIRONMENTS, *_INTERNAL,
    *_PIPELINE_EXECUTIONS, *_PIPELINES_, *_NAMESPACES, *_PROJECTS, *_REPOSITORIES_, *_STATES,
]  # fmt: skip
"""All of them."""

ADDED = {
    ("GET", f"{_V1}/auth/login-methods"),  # for the client's `login` (16)
    ("POST", f"{_V1}/auth/login"),
    ("POST", f"{_PX1}/confirmation/{{code}}/approve"),  # what our own page sends (6.13)
    ("POST", f"{_PX1}/confirmation/{{code}}/disapprove"),
    ("POST", f"{_V1}/state/namespaces/add-project"),  # PR6 for names that are reserved, which are other paths
    ("POST", f"{_V1}/state/__get_projects_by_group/add-project"),
}
"""Routes that the page does not have, as the contract documents them."""
