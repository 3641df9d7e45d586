"""Whatever is sent to the endpoints that write: the error of the contract, never a 500, and nothing starts (3.5)."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import structlog
from litestar import Request

from api.escape.errors import handle
from tests.api.escape.conftest import FILES, SHOP, World
from tests.escape_worker import worker
from tests.shop import Shop
from tests.support import eventually_now, process

BUILDS = f"{SHOP}/environments/dev/builds"
JOBS = "/api/v1/deployment-jobs/by-project/shop"
JOB = f"{JOBS}/by-environment/dev/by-name/shop%2Fweb"
PIPELINES = "/api/v1/pipelines/by-project/shop"
STATE = f"{SHOP}/environments/dev/deployments/"
IMPORT = f"{SHOP}/import-environments"
CODES = {
    400: {"invalid-json", "invalid-field", "name-mismatch", "invalid-reference", "invalid-order"},
    404: {"not-found"},
    409: {
        "already-exists",
        "already-finished",
        "commit-mismatch",
        "declared-version",
        "deployment-busy",
        "in-use",
        "not-deployed",
        "not-finished",
        "spec-invalid",
        "no-identity",
        "not-external",
        "already-decided",
        "disabled",
    },
    412: {"stale"},
    413: {"too-large"},
}
DEEP = "[" * 100_000
NESTED: dict[str, Any] = {}
for _ in range(300):
    NESTED = {"a": NESTED}
VALUES: tuple[Any, ...] = (
    True,
    -1,
    1.5,
    2**63,
    10**400,
    "\0",
    "a\nb",
    "--upload-pack=touch /tmp/x",
    "ext::sh -c id",
    "../../etc/passwd",
    "x" * 200_000,
    [],
    [None],
    {},
    {"": None, "\0": {}},
    NESTED,
)


class Ground:
    """A daemon with a release, a deployment that stands, a pipeline and an execution that is handed to a worker."""

    def __init__(self, world: World, handed: str, execution: str) -> None:
        self.world = world
        self.alice = world["alice"]
        self.handed = handed
        self.executions = execution

    def jobs(self) -> list[int]:
        """All there are, newest first."""
        answer = self.world.admin.get("/reconciler/jobs", params={"limit": 500}, headers=self.world.native)
        return [each["number"] for each in answer.json()["items"]]

    def runs(self) -> int:
        """Runs of pipelines there are."""
        return len(self.alice.get(f"{PIPELINES}/executions/", params={"page_size": 500}).json())

    def send(self, method: str, path: str, content: bytes, **headers: str) -> httpx.Response:
        """A request whose answer is the contract's."""
        path = path.replace("HANDED", self.handed).replace("EXECUTION", self.executions)
        answer = self.alice.request(method, path, content=content, headers=headers)
        good(answer, f"{method} {path} {content[:200]!r}")
        return answer

    def refused(self, method: str, path: str, body: Any, field: str | None = None) -> None:
        """400, and the field is named; nothing is committed and nothing starts."""
        before = self.jobs(), self.runs(), self.world.repo.head()
        answer = self.send(method, path, json.dumps(body).encode())
        assert answer.status_code in (400, 413), (body, answer.text)
        if field is not None:
            fields = answer.json().get("fields") or {}
            assert any(name == field or name.endswith(field) for name in fields), (field, answer.text)
        assert before == (self.jobs(), self.runs(), self.world.repo.head())


def good(answer: httpx.Response, asked: str) -> None:
    """200, or an error of the contract."""
    if answer.status_code == 200:
        return
    assert answer.status_code in CODES, f"{asked}: {answer.status_code} {answer.text[:500]}"
    body = answer.json()
    assert body["code"] in CODES[answer.status_code], (asked, body)
    assert body.keys() <= {"error", "code", "fields"}
    assert body["error"]
    assert len(answer.text) < 20_000, (asked, len(answer.text))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One daemon for all of these."""
    folder = tmp_path_factory.mktemp("hostile")
    shop = Shop(folder)
    shop.push({"escape.yml": shop.plan(provides=["web"])})
    shop.build({"run_deploy": False, "run_destroy_build": False})
    shop.deployment("shop/web", {"version": "1.0.0", "reconcile": "manual"}, "dev")
    ask = {"name": "ask", "steps": [{"type": "confirmation", "user": "alice"}]}
    shop.declare("Pipeline", "release", {"phases": [ask]}, project="shop")
    with worker(None) as remote:
        shop.build({"run_deploy": False}, name="remote", remote_escape_worker_url=remote.url)
        shop.commit({"people.yaml": FILES["people.yaml"]})
        settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
        settings |= {"STEERSMAN_STOP_GRACE_SECONDS": "0.5", "STEERSMAN_PRIVATE_ADDRESSES": "1"}
        with process(shop.specs.path, folder / "data", **settings) as running:
            running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
            world = World(running, shop.specs)
            with contextlib.ExitStack() as stack:
                for client in (world.admin, *world.clients.values()):
                    stack.callback(client.close)
                yield _prepared(world, remote.told)
            assert "request-crashed" not in running.log()


def _prepared(world: World, told: list[dict[str, Any]]) -> Ground:
    alice = world["alice"]
    handed = alice.post(f"{BUILDS}/by-name/remote/trigger-build").raise_for_status().json()["id"]
    built = alice.post(f"{BUILDS}/by-name/web/trigger-build").raise_for_status().json()["id"]
    _ended(alice, f"{BUILDS}/by-name/web/executions/{built}/")
    deployed = alice.post(f"{JOB}/trigger").raise_for_status().json()["id"]
    _ended(alice, f"{JOB}/executions/{deployed}/")
    eventually_now(lambda: told)
    return Ground(world, handed, deployed)


def _ended(client: httpx.Client, path: str) -> None:
    found = eventually_now(lambda: (b := client.get(path).json())["status"] in ("ok", "failed") and b)
    assert found["status"] == "ok", found


@dataclass(frozen=True)
class Endpoint:
    """One that writes, with a body of which each field is made hostile in turn; `wraps`: where those lie in it."""

    method: str
    path: str
    body: Mapping[str, Any]
    wraps: tuple[str | int, ...] = ()

    def bodies(self) -> Iterator[dict[str, Any]]:
        """With one field at a time as it must not be."""
        for field, value in itertools.product(self._inner(self.body), VALUES):
            whole = json.loads(json.dumps(self.body))
            self._inner(whole)[field] = value
            yield whole

    def _inner(self, body: Any) -> Any:
        for part in self.wraps:
            body = body[part]
        return body


_STEP = {
    "plan_location": "escape.yml",
    "override_namespace": "",
    "run_tests": True,
    "build_on_file_changes": [],
}
_STEP |= {"providers": {}, "variables": {}, "scripts": None}
_BUILD = {
    "name": "web",
    "repo": "https://git.example.org/web.git",
    "branch": "main",
    "triggers": [],
    "service_account_name": "",
    "remote_escape_worker_url": "",
    "release": None,
    "scripts": None,
    "private_key": "",
    "escape_auth_token": "",
    "webhook_rotation": 0,
    "steps": [_STEP],
}
_PHASE = {"name": "p", "steps": [{"type": "build", "environment": "dev", "build": "web"}]}
_PIPELINE = {"name": "release", "phases": [_PHASE], "triggers": [], "schedules": [], "concurrency": "queue"}
_DEPLOYED = {
    "name": "shop/web",
    "environment": "dev",
    "release": "shop/web",
    "version": "1.0.0",
    "inputs": {},
    "providers": {},
    "remote_escape_worker_url": "",
}
_STAGE = {
    "inputs": {},
    "calculated_outputs": {},
    "deployments": {},
    "providers": {},
    "provides": [],
    "version": "1.0.0",
    "status": {"status": "ok"},
}
_FILE = {
    "environments": {"dev": {"inputs": {}, "deployments": {"a": {"name": "a", "stages": {"deploy": _STAGE}}}}}
}
_PUSHED = {
    "entries": [],
    "offset": 0,
    "step": 0,
    "step_status": "",
    "status": "",
    "status_reason": "",
    "releases": [],
}
_ENTRY = {
    "message": "m",
    "level": "info",
    "stream": "stdout",
    "timestamp": "",
    "step": 0,
    "stage": "build",
    "log_sections": [],
}
_COMMIT = {
    "git_revision": "zz",
    "branch": "main",
    "repository": "",
    "revision_message": "",
    "committed_at": "",
}
ENDPOINTS = [
    Endpoint("PUT", f"{BUILDS}/by-name/web/", _BUILD),
    Endpoint("PUT", f"{BUILDS}/by-name/web/", _BUILD, ("steps", 0)),
    Endpoint("POST", f"{BUILDS}/", {"name": "web", "repo": "x", "steps": [{}]}),
    Endpoint(
        "POST",
        f"{BUILDS}/by-name/web/trigger-build",
        {
            "branch": "none",
            "commit": "none",
            "variables": {},
            "steps": [99],
            "only_changed": True,
            "reason": "",
        },
    ),
    Endpoint("PUT", f"{BUILDS}/by-name/remote/executions/HANDED/commit", _COMMIT),
    Endpoint("POST", f"{BUILDS}/by-name/remote/executions/HANDED/logs", _PUSHED),
    Endpoint(
        "POST", f"{BUILDS}/by-name/remote/executions/HANDED/logs", {"entries": [_ENTRY]}, ("entries", 0)
    ),
    Endpoint("POST", f"{BUILDS}/by-name/remote/executions/HANDED/retry", {"head": False}),
    Endpoint("POST", f"{JOB}/executions/EXECUTION/cancel", {"reason": ""}),
    Endpoint("POST", f"{JOB}/executions/EXECUTION/logs", _PUSHED),
    Endpoint("POST", f"{JOBS}/add", _DEPLOYED),
    Endpoint("PUT", f"{JOB}/", _DEPLOYED),
    Endpoint(
        "POST",
        f"{JOB}/trigger",
        {
            "version": "9.9",
            "inputs": {"a": 1},
            "providers": {},
            "commit": False,
            "override": False,
            "reason": "",
        },
    ),
    Endpoint("POST", f"{JOB}/trigger/destroy", {"suspend": 7, "delete": 7, "reason": 7}),
    Endpoint(
        "POST",
        f"{JOB}/trigger/errand",
        {"errand_name": "none", "errand_inputs": {}, "name": "", "inputs": {}},
    ),
    Endpoint("PUT", f"{PIPELINES}/by-name/release/", _PIPELINE),
    Endpoint("PUT", f"{PIPELINES}/by-name/release/", _PIPELINE, ("phases", 0)),
    Endpoint("PUT", f"{PIPELINES}/by-name/release/", _PIPELINE, ("phases", 0, "steps", 0)),
    Endpoint("POST", f"{PIPELINES}/add", {"name": "release", "phases": []}),
    Endpoint("POST", f"{PIPELINES}/by-name/release/trigger", {"reason": 7}),
    Endpoint(
        "POST",
        STATE,
        {"name": "shop/web", "release": "shop/web", "version": "", "inputs": {}, "providers": {}},
    ),
    Endpoint("PUT", f"{STATE}?deployment=h%2Fx", {"path": "h/x", "root_stage": "", "state": {}}),
    Endpoint(
        "PUT",
        f"{STATE}?deployment=h%2Fx",
        {"state": {"name": "h/x", "release": "h/x", "inputs": {}, "stages": {}}},
        ("state",),
    ),
    Endpoint(
        "PUT",
        f"{STATE}?deployment=h%2Fx",
        {"state": {"stages": {"deploy": _STAGE}}},
        ("state", "stages", "deploy"),
    ),
    Endpoint(
        "PUT",
        f"{STATE}?deployment=h%2Fx",
        {
            "state": {
                "stages": {"deploy": {"status": {"status": "ok", "tried": 0, "data": "", "updated_at": ""}}}
            }
        },
        ("state", "stages", "deploy", "status"),
    ),
    Endpoint("POST", IMPORT, {"environments": {}, "name": "x"}),
    Endpoint(
        "POST",
        f"{IMPORT}?dry_run=true&on_conflict=overwrite",
        _FILE,
        ("environments", "dev", "deployments", "a"),
    ),
    Endpoint(
        "POST",
        IMPORT,
        {
            "state": _FILE,
            "options": {"environments": [], "on_conflict": "", "dry_run": True, "sensitive": []},
        },
        ("options",),
    ),
    Endpoint(
        "POST",
        f"{SHOP}/repositories/add-repository",
        {"name": "h", "url": "7", "branch": "main", "private_key": ""},
    ),
    Endpoint(
        "PUT",
        f"{SHOP}/environments/dev/",
        {"name": "dev", "description": "", "inputs": {}, "protected": False},
    ),
    Endpoint("POST", f"{SHOP}/change-environment-order", {"order": []}),
]
PLACES = sorted({(each.method, each.path) for each in ENDPOINTS})


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path} {each.wraps}")
def test_no_value_of_a_field_crashes_it(ground: Ground, endpoint: Endpoint) -> None:
    """Of every field: wrong types, huge numbers, NULs, newlines, options, transports, paths, lengths, depths."""
    before = ground.jobs(), ground.runs()
    started = 0
    for body in endpoint.bodies():
        answer = ground.send(endpoint.method, endpoint.path, json.dumps(body).encode())
        started += answer.status_code == 200 and "trigger" in endpoint.path
    assert (ground.jobs(), ground.runs()) == (before[0], before[1] + started)


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_no_body_crashes_it(ground: Ground, method: str, path: str) -> None:
    """What is no JSON, no object, no text, or no end of it."""
    before = ground.jobs(), ground.runs(), ground.world.repo.head()
    bodies = [
        b"{",
        b"null",
        b"7",
        b'"text"',
        b'[{"message": 7}]',
        b"\xff\xfe",
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": ' + b"9" * 100_000 + b"}",
        DEEP.encode(),
        b'{"a":' * 50_000,
        b'{"state":' + DEEP.encode() + b"]" * 100_000 + b"}",
    ]
    for body in bodies:
        answer = ground.send(method, path, body)
        assert answer.status_code != 200, (body[:60], answer.text)
    limit = 4 << 20 if path.endswith("logs") or "import" in path else 1 << 20
    large = ground.send(method, path, b'{"name": "' + b"x" * limit + b'"}')
    assert (large.status_code, large.json()["code"]) == (413, "too-large")
    assert before == (ground.jobs(), ground.runs(), ground.world.repo.head())


BRANCHES = (
    "--upload-pack=x",
    "-x",
    "a..b",
    "a b",
    "a\nb",
    "a\0b",
    "a~1",
    "x" * 5000,
    "refs/../x",
    "a.lock",
    "@{-1}",
)
URLS = (
    "ext::sh -c 'touch /tmp/x'",
    "--upload-pack=x",
    "-oProxyCommand=x",
    "file::x",
    "fd::7",
    "https://user:secret@git.example.org/x.git",
    "https://git.example.org/\nx",
    "https://git.example.org/\0x",
    "ssh://-oProxyCommand=x/y",
    "git@-oProxyCommand=x:y",
    "https://" + "x" * 5000,
)
VERSIONS = ("--force", "1.0\n", "1.0\0", "../1.0", "1.0/0", "@", "-1", "1.0;id", "x" * 5000)
LOCATIONS = ("../../etc/passwd", "/etc/passwd", "a/../../b", "a\0b", "x" * 5000)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_is_no_option_and_no_expression(ground: Ground, branch: str) -> None:
    """Of a build, a repository, a trigger."""
    ground.refused("PUT", f"{BUILDS}/by-name/web/", {**_BUILD, "branch": branch}, "branch")
    ground.refused("POST", f"{BUILDS}/by-name/web/trigger-build", {"branch": branch}, "branch")
    repository = {"name": "h", "url": "https://git.example.org/x.git", "branch": branch}
    ground.refused("POST", f"{SHOP}/repositories/add-repository", repository, "branch")


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_no_transport_and_no_option(ground: Ground, url: str) -> None:
    """Of a build, a repository, a worker, a step's webhook."""
    ground.refused("POST", f"{BUILDS}/", {"name": "h", "repo": url, "steps": [{}]}, "repo")
    ground.refused("POST", f"{SHOP}/repositories/add-repository", {"name": "h", "url": url}, "url")
    ground.refused(
        "PUT", f"{JOB}/", {**_DEPLOYED, "remote_escape_worker_url": url}, "remote_escape_worker_url"
    )
    step = {"type": "webhook-trigger", "webhook_url": url}
    body = {"name": "h", "phases": [{"name": "p", "steps": [step]}]}
    ground.refused("POST", f"{PIPELINES}/add", body, "webhook_url")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_a_version(ground: Ground, version: str) -> None:
    """Of a deployment, a trigger, a release, a tag."""
    ground.refused("PUT", f"{JOB}/", {**_DEPLOYED, "version": version}, "version")
    ground.refused("POST", f"{JOB}/trigger", {"version": version}, "version")
    ground.refused("POST", f"{JOB}/trigger", {"version": version, "commit": True}, "version")
    release = {"namespace": "shop", "application": "web", "version": version}
    ground.refused("PUT", f"{BUILDS}/by-name/web/", {**_BUILD, "release": release}, "version")
    step = {"type": "tag-release", "namespace": "shop", "application": "web", "tag": version}
    ground.refused(
        "POST", f"{PIPELINES}/add", {"name": "h", "phases": [{"name": "p", "steps": [step]}]}, "tag"
    )


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_plan_lies_in_the_repository(ground: Ground, location: str) -> None:
    """39: neither above it nor anywhere else."""
    body = {**_BUILD, "steps": [{"plan_location": location}]}
    ground.refused("PUT", f"{BUILDS}/by-name/web/", body, "plan_location")


@pytest.mark.parametrize(
    "commit", ["--help", "HEAD", "main", "abc", "g" * 40, "a" * 41, "a" * 40 + "\n", "\0" * 40]
)
def test_a_commit_is_hexadecimal(ground: Ground, commit: str) -> None:
    """Of a trigger, and as a worker tells it."""
    ground.refused("POST", f"{BUILDS}/by-name/web/trigger-build", {"commit": commit}, "commit")
    body = {"git_revision": commit}
    ground.refused("PUT", f"{BUILDS}/by-name/remote/executions/HANDED/commit", body, "git_revision")


NAMES = (
    "..",
    "%2e%2e",
    "a%00b",
    "a%0ab",
    "%ff",
    "x" * 3000,
    "-x",
    "a%252Fb",
    "%F0%9F%92%A9",
    "*",
    "'--",
    "a:b",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_path_crashes_it(ground: Ground, name: str) -> None:
    """Of projects, environments, builds, deployments, pipelines, executions: there is no such thing or name."""
    before = ground.jobs(), ground.runs(), ground.world.repo.head()
    paths = [
        ("POST", f"/api/v1/state/{name}/import-environments"),
        ("POST", f"{SHOP}/environments/{name}/builds/by-name/web/trigger-build"),
        ("POST", f"{BUILDS}/by-name/{name}/trigger-build"),
        ("PUT", f"{BUILDS}/by-name/{name}/"),
        ("POST", f"{BUILDS}/by-name/web/executions/{name}/cancel"),
        ("POST", f"{BUILDS}/by-name/web/executions/{name}/logs"),
        ("PUT", f"{BUILDS}/by-name/web/executions/{name}/commit"),
        ("POST", f"{JOBS}/by-environment/dev/by-name/{name}/trigger"),
        ("POST", f"{JOB}/executions/{name}/retry"),
        ("PUT", f"{STATE}?deployment={name}"),
        ("DELETE", f"{STATE}?deployment={name}"),
        ("POST", f"{PIPELINES}/by-name/{name}/trigger"),
        ("POST", f"{PIPELINES}/by-name/release/executions/{name}/cancel"),
        ("GET", f"{PIPELINES}/by-name/release/executions/{name}/confirmation/x/approve"),
        ("GET", f"{PIPELINES}/by-name/release/executions/x/confirmation/{name}/approve"),
        ("POST", f"{PIPELINES}/pipelines/webhook/{name}"),
        ("POST", f"{BUILDS}/webhook/{name}"),
    ]
    for method, path in paths:
        answer = ground.alice.request(method, httpx.URL(ground.world.url + path), content=b"{}")
        assert answer.status_code in (400, 404, 405), (method, path, answer.status_code, answer.text)
        assert answer.json()["code"] in ("not-found", "invalid-field", "invalid-json", "method-not-allowed")
    assert before == (ground.jobs(), ground.runs(), ground.world.repo.head())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"If-Match", b"\xff\xfe"),
        (b"If-Match", b"x" * 5000),
        (b"Idempotency-Key", b"\xff"),
        (b"Idempotency-Key", b"x" * 5000),
        (b"Content-Type", b"\xff/;;=\x01"),
        (b"Accept", b"\xff;q=x,,/;"),
        (b"X-GitHub-Event", b"\xff"),
        (b"X-Hub-Signature-256", b"sha256=\xff"),
    ],
)
def test_no_header_crashes_it(ground: Ground, name: bytes, value: bytes) -> None:
    """Whatever the bytes."""
    for method, path in (
        ("PUT", f"{BUILDS}/by-name/web/"),
        ("POST", f"{JOB}/trigger"),
        ("POST", f"{BUILDS}/webhook/x"),
    ):
        answer = ground.alice.request(method, path, content=b'{"version": 7}', headers=[(name, value)])
        assert answer.status_code in (400, 404, 412), (name, value, answer.status_code, answer.text)


def test_all_stands_as_before(ground: Ground) -> None:
    """Nothing that was taken has made any specification invalid, and the daemon is well."""
    status = ground.world.admin.get("/reconciler/status", headers=ground.world.native).json()
    assert status["resources"]["invalid"] == 0
    assert status["source"]["errors"] == []
    assert ground.world.admin.get("/health").json()["status"] == "ok"
    assert "request-crashed" not in ground.world.running.log()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/state/shop/environments/dev/builds/webhook/THE-CODE",
        "/api/v1/state/shop/environments/dev/builds/webhook/THE-CODE/",
        "/api/v1/pipelines/by-project/shop/pipelines/webhook/THE-CODE",
        "/api/v1/pipelines/by-project/shop/by-name/release/executions/01J/confirmation/THE-CODE/approve",
        "/api/v1/pipelines/by-project/shop/by-name/release/executions/01J/confirmation/THE-CODE/disapprove/",
        "/api/v1/state/shop/environments/webhook/builds/webhook/THE-CODE",
        "/api/v1/pipelines/by-project/shop/by-name/confirmation/executions/01J/confirmation/THE-CODE/approve",
        "/api/v1/state/shop/environments/dev/builds/webhook/%2FTHE-CODE",
    ],
)
def test_a_crash_is_logged_without_codes(path: str) -> None:
    """The path is told, but for the code of a webhook or a confirmation, wherever those words stand besides."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "query_string": b"",
        "server": ("h", 1),
    }
    scope |= {"scheme": "http", "root_path": "", "client": None}
    with structlog.testing.capture_logs() as logs:
        answer = handle(Request(scope), ZeroDivisionError())  # type: ignore[arg-type]
    assert answer.status_code == 500
    assert [each["event"] for each in logs] == ["request-crashed"]
    assert "THE-CODE" not in str(logs)
    assert "***" in logs[0]["path"]
