"""The numbered edge cases about deployments that run, over HTTP against a daemon of their own (escape-state, 9, 17)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests import databases
from tests.api.escape.conftest import FILES, SHOP, World, refused
from tests.api.escape.state_client import Failed, StateClient
from tests.shop import Shop
from tests.support import eventually_now, process

JOBS = "/api/v1/deployment-jobs"
OF_SHOP = f"{JOBS}/by-project/shop"
_names = (f"app/n{number}" for number in itertools.count(1))


class Site:
    """A daemon whose build `web` makes releases, and which deploys them to `dev`."""

    def __init__(self, shop: Shop, world: World) -> None:
        self.shop, self.world = shop, world
        self.marks = shop.marks
        self.alice = world["alice"]

    def apply(self) -> None:
        """What is declared by now, as a person commits it."""
        self.shop.commit({"people.yaml": FILES["people.yaml"]})
        self.world.applied()

    def release(self) -> str:
        """A new version of shop/web."""
        made = self.alice.post(f"{SHOP}/environments/dev/builds/by-name/web/trigger-build")
        assert made.status_code == 200, made.text
        path = f"{SHOP}/environments/dev/builds/by-name/web/executions/{made.json()['id']}/"
        found = eventually_now(lambda: _final(self.alice.get(path)), 60)
        assert found["status"] == "ok", found
        return str(found["releases"][0].rpartition("-v")[2])

    def add(self, name: str, environment: str = "dev", **fields: Any) -> str:
        """A new deployment job, which nothing starts by itself unless it is `auto`; its path."""
        body = {
            "name": name,
            "environment": environment,
            "release": "shop/web",
            "reconcile": "manual",
        } | fields
        made = self.alice.post(f"{OF_SHOP}/add", json=body)
        assert made.status_code == 200, made.text
        return f"{OF_SHOP}/by-environment/{environment}/by-name/{name.replace('/', '%2F')}/"

    def start(self, path: str, what: str = "", **body: Any) -> str:
        """The id of a new execution."""
        made = self.alice.post(f"{path}trigger{what}", json=body)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])

    def ended(self, path: str, execution: str) -> dict[str, Any]:
        """An execution once it is over."""
        found: dict[str, Any] = eventually_now(
            lambda: _final(self.alice.get(f"{path}executions/{execution}/")), 60
        )
        return found

    def deployed(self, name: str, version: str, **fields: Any) -> str:
        """A deployment that stands; its path."""
        path = self.add(name, version=version, **fields)
        found = self.ended(path, self.start(path))
        assert (found["status"], found["version"]) == ("ok", version), found
        return path

    def running(self, name: str, version: str, **fields: Any) -> tuple[str, str]:
        """A deploy that goes on until `gate` is opened: path and execution."""
        gate = name.replace("/", "-")
        path = self.add(name, version=version, inputs={"gate": gate}, **fields)
        execution = self.start(path)
        eventually_now(lambda: (self.marks / f"{gate}.waits").exists())
        return path, execution

    def open(self, name: str) -> None:
        """Let it go on."""
        (self.marks / name.replace("/", "-")).touch()

    def state(self, name: str, environment: str = "dev") -> dict[str, Any]:
        """The deploy stage."""
        url = f"{SHOP}/environments/{environment}/deployments/"
        found: dict[str, Any] = self.alice.get(url, params={"deployment": name}).raise_for_status().json()
        return dict(found["stages"]["deploy"])

    def executions(self, path: str) -> list[dict[str, Any]]:
        """All of a job, oldest first."""
        found: list[dict[str, Any]] = self.alice.get(f"{path}executions/").raise_for_status().json()
        return found[::-1]


def _final(answer: httpx.Response) -> dict[str, Any] | None:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found if found["status"] in ("ok", "failed") else None


def plan(shop: Shop) -> dict[str, Any]:
    """A plan whose deploy waits for a gate, or fails, as its inputs say."""
    marks = shop.marks
    deploy = (
        f'echo "$ESCAPE_API_SERVER $ESCAPE_AUTH_TOKEN" > {marks}/token; '
        f'if [ -n "$INPUT_gate" ]; then touch {marks}/$INPUT_gate.waits; '
        f"while [ ! -e {marks}/$INPUT_gate ]; do sleep 0.05; done; fi; "
        f'[ "$INPUT_fail" = no ] || exit 3; echo \'{{"url": "http://web"}}\' > $1'
    )
    return shop.plan(
        deploy={"inline": deploy},
        inputs=[
            {"id": "gate", "default": ""},
            {"id": "fail", "default": "no"},
            {"id": "password", "default": "", "sensitive": True},
        ],
        errands={
            "backup": {
                "description": "Dump the database",
                "inline": f'echo "backup to $INPUT_bucket of $OUTPUT_url" >> {marks}/errands',
                "inputs": [
                    {"id": "bucket", "type": "string"},
                    {"id": "times", "type": "integer", "default": 1},
                ],
            }
        },
        provides=["web"],
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One daemon for all of these; each test has deployments of its own."""
    folder = tmp_path_factory.mktemp("deploying")
    shop = Shop(folder)
    shop.push({"escape.yml": plan(shop)})
    shop.build({"run_deploy": False, "run_destroy_build": False})
    shop.commit({"people.yaml": FILES["people.yaml"]})
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
    settings |= {"STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
    with process(shop.specs.path, folder / "data", **settings) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        world = World(running, shop.specs)
        with contextlib.ExitStack() as stack:
            for client in (world.admin, *world.clients.values()):
                stack.callback(client.close)
            yield Site(shop, world)


@pytest.fixture(scope="module")
def version(site: Site) -> str:
    """A release of shop/web."""
    return site.release()


@pytest.fixture
def name() -> str:
    """A deployment that nobody else has."""
    return next(_names)


def put(name: str, code: str = "ok") -> dict[str, Any]:
    """A DeploymentUpdate."""
    stage = {"version": "1.0", "status": {"status": code}}
    return {"path": name, "root_stage": "", "state": {"release": "shop/web", "stages": {"deploy": stage}}}


# -- states, while something runs


def test_case_85_a_state_while_the_job_runs(site: Site, name: str, version: str) -> None:
    """409 `deployment-busy` from outside, and the client shows the sentence; the execution itself, and the service
    account that it runs as, may go on.
    """
    own = {"service_account_name": "deployer", "service_account_team": "platform"}
    give = {"team": "platform", "permission": "write"}
    site.alice.post(f"{SHOP}/service-accounts/deployer/", json=give)
    path, execution = site.running(name, version, **own)
    url = f"{SHOP}/environments/dev/deployments/"
    found = refused(site.alice.put(url, params={"deployment": name}, json=put(name)), 409, "deployment-busy")
    outside = StateClient(site.world.url, site.world.secrets["wendy"], "shop", "dev")
    outside.load()
    with pytest.raises(Failed) as told:
        outside.deploy(name, "9.9.9")
    assert str(told.value) == f"409 Conflict [{found['error']}]"
    refused(site.alice.delete(url, params={"deployment": name}), 409, "deployment-busy")
    server, token = (site.marks / "token").read_text().split()
    script = StateClient(server, token, "shop", "dev")
    assert name in script.load()["deployments"]
    script.put(name, "", "deploy", script.deployment(name, "shop/web"))
    script.deploy("by/script", "0.0.1")
    account = StateClient(server, site.world.token("ServiceAccount/platform/deployer"), "shop", "dev")
    account.load()
    account.put(name, "", "deploy", account.deployment(name, "shop/web"))
    other = StateClient(server, site.world.token("ServiceAccount/platform/builder"), "shop", "dev")
    with pytest.raises(Failed, match="404"):
        other.load()
    with pytest.raises(Failed, match="404 Not Found"):
        StateClient(server, token, "shop", "prod").load()
    site.open(name)
    assert site.ended(path, execution)["status"] == "ok"
    assert site.alice.put(url, params={"deployment": name}, json=put(name)).status_code == 200


def test_case_88_an_environment_with_a_running_deploy(site: Site, name: str, version: str) -> None:
    """409; by force 200, the execution cancelled, one commit, and no state is left."""
    made = site.alice.post(f"{SHOP}/environments/", json={"name": "brief"})
    assert made.status_code == 200, made.text
    path, execution = site.running(name, version, environment="brief")
    brief = f"{SHOP}/environments/brief/"
    site.alice.put(f"{brief}deployments/", params={"deployment": "beside"}, json=put("beside"))
    before = site.world.commits()
    refused(site.alice.delete(brief), 409, "in-use")
    assert site.world.commits() == before
    answer = site.alice.delete(brief, params={"force": "true"})
    assert (answer.status_code, answer.json()) == (200, {"deleted": {"builds": 0, "deployments": 2}})
    assert site.world.commits() == before + 1
    refused(site.alice.get(brief), 404, "not-found")
    found = site.ended(path, execution)
    assert (found["status"], found["status_reason"], found["cancel_requested"]) == (
        "failed",
        "cancelled",
        True,
    )
    assert site.alice.post(f"{SHOP}/environments/", json={"name": "brief"}).status_code == 200
    assert "beside" not in site.alice.get(f"{brief}deployments/").json()
    site.alice.delete(brief).raise_for_status()


def test_case_90_providers_in_a_circle(site: Site, name: str, version: str) -> None:
    """Both `unknown`, the error names the circle, nothing is started."""
    other = f"{name}-other"
    one = site.add(name, version=version, reconcile="auto", providers={"web": other}, suspend=True)
    two = site.add(other, version=version, reconcile="auto", providers={"web": name}, suspend=True)
    for path in (one, two):
        assert site.alice.put(path, json={"suspend": False}).status_code == 200
    for path in (one, two):
        eventually_now(lambda path=path: site.alice.get(path).json()["sync"] == "unknown")
        assert site.executions(path) == []
    key = f"Deployment/shop/dev/{name}"
    told = site.world.admin.get(f"/reconciler/resources/{key}", headers=site.world.native).text
    assert "circle" in told
    assert f"{name} → {other} → {name}" in told


# -- triggers


def test_case_96_another_version(site: Site, name: str, version: str) -> None:
    """409 `declared-version`; with `commit` 200 and a commit; with `override` 409 on an `auto` job, else 200."""
    newer = site.release()
    path = site.deployed(name, version)
    before = site.world.commits()
    refused(site.alice.post(f"{path}trigger", json={"version": newer}), 409, "declared-version")
    none = refused(site.alice.post(f"{path}trigger", json={"version": "9.9.9"}), 400, "invalid-reference")
    assert "version" in none["fields"]
    refused(
        site.alice.post(f"{path}trigger", json={"version": "9.9.9", "commit": True}), 400, "invalid-reference"
    )
    refused(site.alice.post(f"{path}trigger", json={"version": "not one!"}), 400, "invalid-field")
    assert site.world.commits() == before
    same = site.ended(path, site.start(path, version=version, reason="again"))
    assert (same["version"], same["trigger"]["type"], same["trigger"]["user"]) == (version, "manual", "alice")
    assert same["trigger"]["reason"] == "again"
    deviation = site.ended(path, site.start(path, version=newer, override=True))
    assert (deviation["status"], deviation["version"]) == ("ok", newer)
    assert site.world.commits() == before
    job = eventually_now(lambda: _with(site.alice.get(path).json(), sync="out-of-sync"))
    assert (job["version"], job["deployed_version"], job["last_execution_id"]) == (
        version,
        newer,
        deviation["id"],
    )
    committed = site.ended(path, site.start(path, version=newer, commit=True))
    assert (committed["status"], committed["version"]) == ("ok", newer)
    assert site.world.commits() == before + 1
    job = eventually_now(lambda: _with(site.alice.get(path).json(), sync="in-sync"))
    assert job["version"] == newer
    assert site.alice.put(path, json={"reconcile": "auto"}).status_code == 200
    refused(
        site.alice.post(f"{path}trigger", json={"version": version, "override": True}),
        409,
        "declared-version",
    )
    back = site.start(path, version=version, inputs={"fail": "no"}, commit=True)
    assert site.ended(path, back)["version"] == version
    assert site.world.commits() == before + 3


def test_case_97_a_trigger_while_one_runs(site: Site, name: str, version: str) -> None:
    """409 `deployment-busy`, of whatever is asked for."""
    path, execution = site.running(name, version)
    found = refused(site.alice.post(f"{path}trigger"), 409, "deployment-busy")
    assert "busy" in found["error"]
    for what in ("smoke", "destroy"):
        refused(site.alice.post(f"{path}trigger/{what}"), 409, "deployment-busy")
    site.open(name)
    assert site.ended(path, execution)["status"] == "ok"
    assert site.ended(path, site.start(path, "/smoke"))["type"] == "smoke"


def test_case_98_destroy_without_a_body(site: Site, name: str, version: str) -> None:
    """A commit with `suspend: true`, then the destroy; the reconciler does not deploy again."""
    path = site.deployed(name, version, reconcile="manual")
    assert site.alice.put(path, json={"reconcile": "auto"}).status_code == 200
    before = site.world.commits()
    made = site.alice.post(f"{path}trigger/destroy")
    assert made.status_code == 200, made.text
    assert made.headers["x-steersman-commit"] == site.world.git("rev-parse", "main").strip()
    assert site.world.commits() == before + 1
    assert [line for line in site.world.diff() if "suspend" in line]
    found = site.ended(path, made.json()["id"])
    assert (found["type"], found["status"]) == ("destroy", "ok")
    stage = site.state(name)
    assert (stage["status"]["status"], stage["version"], stage["calculated_outputs"]) == (
        "empty",
        version,
        {},
    )
    site.world.admin.post("/reconciler/sync", json={}, headers=site.world.native)
    assert [each["type"] for each in site.executions(path)].count("deploy") == 1
    job = site.alice.get(path).json()
    assert (job["suspend"], job["deployed_version"]) == (True, "")
    refused(site.alice.post(f"{path}trigger/destroy"), 409, "not-deployed")
    assert site.world.commits() == before + 1


@pytest.mark.parametrize("on_delete", ["orphan", "destroy"])
def test_destroy_and_remove_what_is_declared(site: Site, name: str, version: str, on_delete: str) -> None:
    """With `delete`: one commit that removes the document; destroyed, its state is forgotten."""
    path = site.deployed(name, version, on_delete=on_delete)
    before = site.world.commits()
    execution = site.start(path, "/destroy", delete=True)
    assert site.world.commits() == before + 1
    assert site.ended(path, execution)["status"] == "ok"
    refused(site.alice.get(path), 404, "not-found")
    url = f"{SHOP}/environments/dev/deployments/"
    eventually_now(lambda: site.alice.get(url, params={"deployment": name}).status_code == 404)


def test_destroy_without_suspending(site: Site, name: str, version: str) -> None:
    """With `suspend: false`: no commit."""
    path = site.deployed(name, version)
    before = site.world.commits()
    assert site.ended(path, site.start(path, "/destroy", suspend=False))["status"] == "ok"
    assert site.world.commits() == before


def test_case_99_destroy_of_a_provider_that_others_use(site: Site, name: str, version: str) -> None:
    """409 `in-use`, and no commit."""
    path = site.deployed(name, version)
    url = f"{SHOP}/environments/dev/deployments/"
    user = put(f"{name}-user")
    user["state"]["stages"]["deploy"]["providers"] = {"web": name}
    assert site.alice.put(url, params={"deployment": f"{name}-user"}, json=user).status_code == 200
    before = site.world.commits()
    found = refused(site.alice.post(f"{path}trigger/destroy"), 409, "in-use")
    assert f"{name}-user" in found["error"]
    assert site.world.commits() == before
    assert site.alice.delete(url, params={"deployment": f"{name}-user"}).status_code == 200
    assert site.ended(path, site.start(path, "/destroy"))["status"] == "ok"


def test_case_100_smoke_before_the_first_deploy(site: Site, name: str, version: str) -> None:
    """409 `not-deployed`; as an errand, and a destroy."""
    path = site.add(name, version=version)
    refused(site.alice.post(f"{path}trigger/smoke"), 409, "not-deployed")
    refused(site.alice.post(f"{path}trigger/destroy"), 409, "not-deployed")
    refused(site.alice.post(f"{path}trigger/errand", json={"errand_name": "backup"}), 409, "not-deployed")
    assert site.executions(path) == []


def test_case_101_errands(site: Site, name: str, version: str) -> None:
    """Unknown: 404; an unknown or badly typed input: 400; else 200 and `type: errand`."""
    path = site.deployed(name, version)
    url = f"{path}trigger/errand"
    refused(site.alice.post(url, json={"errand_name": "nope"}), 404, "not-found")
    for wrong in (
        {"errand_inputs": {"bucket": "b", "nope": "x"}},
        {"errand_inputs": {"bucket": 7}},
        {"errand_inputs": {"bucket": "b", "times": "many"}},
        {"errand_inputs": {}},
        {"errand_inputs": ["b"]},
        {"errand_name": ""},
        {"errand_name": 7},
    ):
        refused(site.alice.post(url, json={"errand_name": "backup"} | wrong), 400, "invalid-field")
    before = site.state(name)
    for body in (
        {"errand_name": "backup", "errand_inputs": {"bucket": "b-1"}},
        {"name": "backup", "inputs": {"bucket": "b-1"}},
    ):
        made = site.alice.post(url, json=body)
        assert made.status_code == 200, made.text
        found = site.ended(path, made.json()["id"])
        assert (found["type"], found["status"], found["errand_name"]) == ("errand", "ok", "backup")
        assert found["errand_inputs"] == {"bucket": "b-1"}
    assert (site.marks / "errands").read_text() == "backup to b-1 of http://web\n" * 2
    assert site.state(name) == before
    (errand,) = site.alice.get(path).json()["errands"]
    assert (errand["name"], errand["description"]) == ("backup", "Dump the database")
    assert [item["id"] for item in errand["inputs"]] == ["bucket", "times"]


# -- what happens by itself


def test_case_102_a_new_version_is_committed(site: Site, name: str, version: str) -> None:
    """Exactly one `deploy`, with the trigger `reconcile`."""
    path = site.add(name, version=version, reconcile="auto")
    eventually_now(lambda: site.alice.get(path).json()["deployed_version"] == version, 60)
    newer = site.release()
    assert site.alice.put(path, json={"version": newer}).status_code == 200
    eventually_now(lambda: site.alice.get(path).json()["deployed_version"] == newer, 60)
    site.world.admin.post("/reconciler/sync", json={}, headers=site.world.native)
    found = site.executions(path)
    assert [(each["type"], each["version"]) for each in found] == [("deploy", version), ("deploy", newer)]
    assert {each["trigger"]["type"] for each in found} == {"reconcile"}
    assert eventually_now(lambda: site.alice.get(path).json()["sync"] == "in-sync")


def test_case_103_a_deploy_that_fails_again_and_again(site: Site, name: str, version: str) -> None:
    """Attempts come after 1 s, then about 2.7 s; after eight of them nothing more is tried."""
    path = site.add(name, version=version, reconcile="auto", inputs={"fail": "yes"})
    eventually_now(
        lambda: len(site.executions(path)) >= 3 and site.executions(path)[2]["status"] == "failed", 60
    )
    first, second, third = site.executions(path)[:3]
    assert (first["status"], first["status_reason"]) == ("failed", "script-failed")
    gaps = [
        (_time(after["created_at"]) - _time(before["finished_at"])).total_seconds()
        for before, after in ((first, second), (second, third))
    ]
    assert 0.9 < gaps[0] < 2.5
    assert 2.5 < gaps[1] < 5
    status = site.state(name)["status"]
    assert (status["status"], status["data"]) == ("failure", "Exit status 3")
    assert status["tried"] == 3
    assert status["try_again_at"].endswith("Z")
    databases.execute(
        site.world.running.data, "UPDATE deployments SET tried = 7 WHERE name = :name", name=name
    )
    key = f"/reconciler/resources/Deployment/shop/dev/{name}"
    eventually_now(
        lambda: "8 deploys have failed" in site.world.admin.get(key, headers=site.world.native).text, 60
    )
    assert len(site.executions(path)) == 4
    site.world.admin.post("/reconciler/sync", json={}, headers=site.world.native)
    assert len(site.executions(path)) == 4
    assert site.alice.get(path).json()["sync"] == "out-of-sync"
    assert site.alice.put(path, json={"inputs": {"fail": "no"}}).status_code == 200
    eventually_now(lambda: site.alice.get(path).json()["deployed_version"] == version, 60)


def test_what_is_changed_from_outside_is_put_back(site: Site, name: str, version: str) -> None:
    """Somebody's client has deployed another version: Git says otherwise."""
    path = site.add(name, version=version, reconcile="auto")
    eventually_now(lambda: _with(site.alice.get(path).json(), sync="in-sync", status="ok"), 60)
    outside = StateClient(site.world.url, site.world.secrets["wendy"], "shop", "dev")
    outside.load()
    found = outside.deployment(name, "shop/web")
    outside.tell(name, "", "deploy", found, found["stages"]["deploy"], "ok")
    site.world.admin.post("/reconciler/sync", json={}, headers=site.world.native)
    assert len(site.executions(path)) == 1
    found["stages"]["deploy"]["version"] = "9.9.9"
    outside.tell(name, "", "deploy", found, found["stages"]["deploy"], "ok")
    eventually_now(lambda: len(site.executions(path)) == 2, 60)
    eventually_now(lambda: _with(site.alice.get(path).json(), sync="in-sync", status="ok"), 60)
    assert site.alice.get(path).json()["deployed_version"] == version


# -- the rest


def test_executions_of_deployments_in_pages(site: Site, name: str, version: str) -> None:
    """Newest first, by page, filtered; retry and cancel; one that is not there, and rights."""
    path = site.deployed(name, version)
    ids = [site.executions(path)[0]["id"]]
    for _ in range(2):
        ids.append(site.start(path, "/smoke"))
        site.ended(path, ids[-1])
    pages = site.alice.get(f"{path}executions/", params={"page_size": 2})
    assert [each["id"] for each in pages.json()] == [ids[2], ids[1]]
    assert pages.headers["x-next-page-from"] == ids[1]
    rest = site.alice.get(f"{path}executions/", params={"page_size": 2, "page_from": ids[1]})
    assert [each["id"] for each in rest.json()] == [ids[0]]
    assert "x-next-page-from" not in rest.headers
    for wrong in ("0", "x", "-1"):
        refused(site.alice.get(f"{path}executions/", params={"page_size": wrong}), 400, "invalid-page")
    for url in (f"{JOBS}/executions/", f"{OF_SHOP}/executions/"):
        found = site.alice.get(url, params={"name": name}).json()
        assert [each["id"] for each in found] == ids[::-1]
        assert site.alice.get(url, params={"name": name, "status": "failed"}).json() == []
    assert site.world["nobody"].get(f"{JOBS}/executions/").json() == []
    refused(site.world["nobody"].get(f"{OF_SHOP}/executions/"), 404, "not-found")
    one = site.world["rita"].get(f"{path}executions/{ids[0]}/").json()
    assert (one["type"], one["release"], one["version"]) == ("deploy", "shop/web", version)
    assert one["deployment_job"]["name"] == name
    stages = {each["name"]: each["status"] for each in one["stages"]}
    assert (stages["deploy"], stages["smoke"]) == ("ok", "ok")
    refused(site.alice.get(f"{path}executions/{'0' * 26}/"), 404, "not-found")
    refused(site.alice.post(f"{path}executions/{ids[0]}/cancel"), 409, "already-finished")
    refused(site.world["rita"].post(f"{path}executions/{ids[0]}/retry"), 403, "forbidden")
    again = site.alice.post(f"{path}executions/{ids[0]}/retry").json()["id"]
    found = site.ended(path, again)
    assert (found["type"], found["version"], found["trigger"]["retry_of"]) == ("deploy", version, ids[0])


def test_cancelling_a_deploy(site: Site, name: str, version: str) -> None:
    """200, twice; it has failed, and so has the stage; a retry while it runs is refused."""
    path, execution = site.running(name, version)
    refused(site.alice.post(f"{path}executions/{execution}/retry"), 409, "not-finished")
    refused(site.world["rita"].post(f"{path}executions/{execution}/cancel"), 403, "forbidden")
    for _ in range(2):
        answer = site.alice.post(f"{path}executions/{execution}/cancel", json={"reason": "wrong one"})
        assert (answer.status_code, answer.content) == (200, b"")
    found = site.ended(path, execution)
    assert (found["status"], found["status_reason"]) == ("failed", "cancelled")
    status = site.state(name)["status"]
    assert (status["status"], status["data"]) == ("failure", "cancelled")


def test_disabled_jobs_refuse_every_trigger(site: Site, name: str, version: str) -> None:
    """409 `disabled`."""
    path = site.deployed(name, version)
    assert site.alice.put(path, json={"disabled": True}).status_code == 200
    for what, body in (("", {}), ("/smoke", {}), ("/destroy", {}), ("/errand", {"errand_name": "backup"})):
        refused(site.alice.post(f"{path}trigger{what}", json=body), 409, "disabled")
    execution = site.executions(path)[0]["id"]
    refused(site.alice.post(f"{path}executions/{execution}/retry"), 409, "disabled")
    refused(site.world["rita"].post(f"{path}trigger"), 403, "forbidden")
    refused(site.world["nobody"].post(f"{path}trigger"), 404, "not-found")


def test_inputs_that_the_release_calls_sensitive(site: Site, name: str, version: str) -> None:
    """Sealed when they are declared, given to the script, and not shown to readers."""
    path = site.add(name, version=version, inputs={"password": "hunter22", "fail": "no"})
    assert "hunter22" not in site.world.git("log", "-p", "--all", "--", "projects")
    shown = site.alice.get(path).json()["inputs"]
    assert shown["password"].keys() == {"secret_ref"}
    found = site.ended(path, site.start(path))
    assert found["status"] == "ok"
    url = f"{SHOP}/environments/dev/deployments/"
    hidden = site.world["rita"].get(url, params={"deployment": name})
    assert "hunter22" not in hidden.text
    assert hidden.json()["stages"]["deploy"]["calculated_inputs"]["password"] == "***"
    gone = site.alice.put(path, json={"inputs": {}})
    assert gone.status_code == 200, gone.text
    assert not [each for each in site.world.files() if "secrets" in each and name.rpartition("/")[2] in each]


def test_inputs_that_a_body_does_not_speak_of_stay_as_they_are(site: Site, name: str, version: str) -> None:
    """Also one in clear that ought to be sealed: another field is one line."""
    path = site.add(name, version=version)
    key = f"/reconciler/resources/Deployment/shop/dev/{name}"
    spec = {
        "release": "shop/web",
        "version": version,
        "reconcile": "manual",
        "inputs": {"password": "in-clear"},
    }
    site.world.admin.put(key, json={"spec": spec}, headers=site.world.native).raise_for_status()
    assert site.alice.put(path, json={"suspend": True}).status_code == 200
    assert site.world.diff() == ["+  suspend: true"]
    assert site.alice.get(path).json()["inputs"] == {"password": "in-clear"}


def _with(found: dict[str, Any], **fields: Any) -> dict[str, Any] | None:
    return found if all(found[key] == value for key, value in fields.items()) else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
