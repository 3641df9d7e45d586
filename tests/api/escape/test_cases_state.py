"""The numbered edge cases about states and providers, and what the real client needs (escape-state, 16)."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.escape.conftest import FILES, SHOP, World, document, refused
from tests.api.escape.state_client import Failed, StateClient, Unauthorized
from tests.support import SpecRepository, holding, process

DEV = f"{SHOP}/environments/dev"
STATES = f"{DEV}/deployments/"
PROVIDERS = f"{DEV}/providers/"
TIME = "2030-01-02T03:04:05.123456789Z"


def deployment(name: str, spec: str = "{}") -> str:
    """One that nothing starts by itself."""
    return document("Deployment", f"name: {name}, project: shop, environment: dev", spec)


OWN = {
    "deployments.yaml": "---\n".join(
        [
            deployment(
                "shop/web",
                "{version: '1.4.12', inputs: {replicas: 4}, providers: {kubernetes: infra/cluster}, reconcile: manual}",
            ),
            deployment("infra/cluster", "{reconcile: manual}"),
            deployment("shop/declared", "{version: '1.0.0', reconcile: manual}"),
            deployment("shop/kept", "{reconcile: manual}"),
        ]
    )
}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all of these; each test has deployments of its own."""
    folder = tmp_path_factory.mktemp("states")
    repo = SpecRepository(folder / "specs")
    repo.commit({**FILES, **OWN})
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
    with process(repo.path, folder / "data", **settings) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        world = World(running, repo)
        with contextlib.ExitStack() as stack:
            for client in (world.admin, *world.clients.values()):
                stack.callback(client.close)
            yield world


def stage(code: str, **more: Any) -> dict[str, Any]:
    """A stage in this status."""
    return {"version": "1.4.12", "status": {"status": code, "updated_at": TIME}} | more


def update(name: str, *, path: str = "", root_stage: str = "", **stages: Any) -> dict[str, Any]:
    """A DeploymentUpdate."""
    last = (path or name).rpartition(":")[2]
    return {
        "path": path or name,
        "root_stage": root_stage,
        "state": {"name": last, "release": "shop/web", "stages": stages},
    }


def put(world: World, name: str, body: dict[str, Any], who: str = "wendy", **query: Any) -> Any:
    """One PUT of a state."""
    return world[who].put(STATES, params={"deployment": name, **query}, json=body)


def shown(world: World, name: str, who: str = "wendy", **query: Any) -> dict[str, Any]:
    """The deployment as it is read back."""
    answer = world[who].get(STATES, params={"deployment": name, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def client(world: World, who: str = "wendy") -> StateClient:
    """The real client, as somebody."""
    return StateClient(world.url, world.secrets[who], "shop", "dev")


# -- the numbered cases


@pytest.mark.parametrize("name", ["told/anew", "shop/kept"])
def test_a_state_without_stages_is_what_was_put(states: World, name: str) -> None:
    """Its release and its inputs, whether the deployment is declared or not; the stage is empty."""
    body = {"path": name, "state": {"name": name, "release": "x/z", "inputs": {"a": 2}}}
    assert put(states, name, body).status_code == 200
    for found in (shown(states, name), shown(states, name, path=name)):
        assert (found["name"], found["release"], found["inputs"]) == (name, "x/z", {"a": 2})
    assert shown(states, name)["stages"]["deploy"]["status"] == {"status": "empty"}
    around = states["wendy"].get(STATES).json()[name]
    assert (around["release"], around["stages"]["deploy"]["status"]) == ("x/z", {"status": "empty"})


def test_a_state_that_is_taken_can_be_shown(states: World) -> None:
    """What is nested too deeply to be shown again is refused, and no list that would hold it is lost."""
    for levels in (100, 955, 100_000):
        deep = b'{"a":' * levels + b"1" + b"}" * levels
        body = json.dumps(update("deep", deploy=stage("ok", inputs=None))).encode().replace(b"null", deep)
        refused(states["wendy"].put(STATES, params={"deployment": "deep"}, content=body), 400, "invalid-json")
    assert (
        put(states, "shallow", update("shallow", deploy=stage("ok", inputs={"a": [[[1]]]}))).status_code
        == 200
    )
    answer = states["wendy"].get(STATES)
    assert answer.status_code == 200, answer.text
    assert "shallow" in answer.json()


def test_case_15_a_state_that_is_too_large(states: World) -> None:
    """1 MiB + 1 byte: 413; to the byte: 200."""
    body = json.dumps(update("limits", deploy=stage("ok"))).encode()
    headers = {"Content-Type": "application/json"}
    fits = body + b" " * ((1 << 20) - len(body))
    query = {"deployment": "limits"}
    assert states["wendy"].put(STATES, params=query, content=fits, headers=headers).status_code == 200
    refused(states["wendy"].put(STATES, params=query, content=fits + b" ", headers=headers), 413, "too-large")


def test_case_80_without_and_with_full(states: World) -> None:
    """Stages hold only version and status; then everything. Never a null in a map."""
    name = "eighty"
    nested = {"cache": {"stages": {"deploy": stage("ok"), "build": None}}, "gone": None}
    body = update(
        name,
        deploy=stage(
            "failure",
            inputs={"a": 1, "none": None},
            provides=["http"],
            deployments=nested,
            calculated_inputs=None,
        ),
        build=None,
    )
    body["state"]["stages"]["deploy"]["status"] |= {"data": "exit status 3", "try_again_at": None, "tried": 1}
    assert put(states, name, body).status_code == 200
    short = states["rita"].get(f"{DEV}/").json()["deployments"][name]
    status = {"status": "failure", "updated_at": TIME, "tried": 1}
    assert short == {
        "name": name,
        "release": "shop/web",
        "managed": False,
        "sync": "unknown",
        "stages": {"deploy": {"version": "1.4.12", "status": status}},
    }
    full = states["wendy"].get(f"{DEV}/?full=true").json()["deployments"][name]
    found = full["stages"]["deploy"]
    assert found["inputs"] == {"a": 1}
    assert found["status"] == status | {"data": "exit status 3"}
    assert found["provides"] == ["http"]
    assert (found["providers"], found["calculated_outputs"]) == ({}, {})
    cache = found["deployments"]["cache"]
    assert list(found["deployments"]) == ["cache"]
    assert (cache["name"], cache["release"]) == ("cache", "cache")
    assert cache["stages"]["deploy"]["status"] == {"status": "ok", "updated_at": TIME}
    assert "build" not in full["stages"]


def test_case_82_a_state_is_put(states: World) -> None:
    """200, empty body, no commit; `tests.bench states` says in how many milliseconds."""
    before = states.commits()
    body = update("shop/web", deploy=stage("ok", inputs={"level": "info"}))
    answer = put(states, "shop/web", body)
    assert (answer.status_code, answer.content) == (200, b"")
    for encoded in ("shop%2Fweb", "shop/web"):
        again = states["wendy"].put(f"{STATES}?deployment={encoded}", json=body)
        assert (again.status_code, again.content) == (200, b"")
    assert states.commits() == before
    found = shown(states, "shop/web")
    assert found["managed"] is True
    assert found["stages"]["deploy"]["inputs"] == {"level": "info"}
    assert found["stages"]["deploy"]["status"] == {"status": "ok", "updated_at": TIME}
    assert found["declared"] == {
        "release": "shop/web",
        "version": "1.4.12",
        "inputs": {"replicas": 4},
        "providers": {"kubernetes": "infra/cluster"},
    }


def test_case_83_only_the_nested_one_is_replaced(states: World) -> None:
    """With path and root stage; another root is a 400."""
    name = "nesting"
    other = {"name": "other", "release": "other", "stages": {"deploy": stage("ok")}}
    put(states, name, update(name, deploy=stage("ok", inputs={"a": 1}, deployments={"other": other})))
    body = update(name, path=f"{name}:cache", root_stage="deploy", deploy=stage("running_main_step"))
    assert put(states, name, body).status_code == 200
    found = shown(states, name)["stages"]["deploy"]
    assert found["inputs"] == {"a": 1}
    assert found["status"]["status"] == "ok"
    assert found["deployments"]["other"]["stages"]["deploy"]["status"]["status"] == "ok"
    assert found["deployments"]["cache"]["stages"]["deploy"]["status"]["status"] == "running_main_step"
    nested = shown(states, name, path=f"{name}:cache", stage="deploy")
    assert nested == found["deployments"]["cache"]
    missing = states["wendy"].get(
        STATES, params={"deployment": name, "path": f"{name}:cache", "stage": "build"}
    )
    refused(missing, 404, "not-found")
    wrong = refused(put(states, name, body | {"path": "other:cache"}), 400, "invalid-field")
    assert "path" in wrong["fields"]
    refused(put(states, name, body | {"root_stage": ""}), 400, "invalid-field")
    deep = update(name, path=f"{name}:cache:disk", root_stage="build", deploy=stage("ok"))
    assert put(states, name, deep).status_code == 200
    made = shown(states, name)["stages"]["build"]["deployments"]["cache"]
    assert made["release"] == "cache"
    assert list(made["stages"]["deploy"]["deployments"]) == ["disk"]


def test_case_84_moves_are_not_policed(states: World) -> None:
    """`empty` → `running_pre_step`, any other jump, repeated and unknown codes: 200."""
    codes = ["empty", "running_pre_step", "ok", "running_pre_step", "running_main_destroy_step", "ok"]
    for code in [*codes, "ok", "destroy_and_delete_pending", "pending", "something_new", "test_failure"]:
        assert put(states, "jumping", update("jumping", deploy=stage(code))).status_code == 200
        assert shown(states, "jumping")["stages"]["deploy"]["status"]["status"] == code


def test_case_86_a_deployment_that_is_not_declared(states: World) -> None:
    """200; listed with `managed: false`; `declare=true` also commits it, and starts nothing."""
    name = "shop/undeclared"
    body = update(name, deploy=stage("ok", inputs={"db_password": "hunter2", "replicas": 2}))
    before = states.commits()
    assert put(states, name, body).status_code == 200
    assert states.commits() == before
    assert shown(states, name)["managed"] is False
    assert states["rita"].get(f"{DEV}/").json()["deployments"][name]["managed"] is False
    assert states["rita"].get(STATES).json()[name]["managed"] is False
    answer = put(states, name, body, declare="true")
    assert (answer.status_code, answer.content) == (200, b"")
    assert states.commits() == before + 1
    found = shown(states, name)
    assert found["managed"] is True
    assert found["stages"]["deploy"]["inputs"]["db_password"] == "hunter2"
    assert found["declared"]["version"] == "1.4.12"
    assert found["declared"]["inputs"]["replicas"] == 2
    assert found["declared"]["inputs"]["db_password"].keys() == {"secret_ref"}
    assert "hunter2" not in states.git("log", "-p", "--all")
    assert "reconcile: manual" in states.text(
        "projects/shop/environments/dev/deployments/shop--undeclared.yaml"
    )
    again = put(states, name, body, declare="true")
    assert again.status_code == 200
    assert states.commits() == before + 1


def test_case_87_a_state_is_deleted(states: World) -> None:
    """404 for an unknown name; 200 for an undeclared one; 200 and a commit for a declared one in `empty`."""
    url = f"{STATES}?deployment="
    found = refused(states["wendy"].delete(f"{url}nowhere"), 404, "not-found")
    assert found["error"] == "There is no deployment 'nowhere' in shop/dev."
    put(states, "fleeting", update("fleeting", deploy=stage("ok")))
    before = states.commits()
    answer = states["wendy"].delete(f"{url}fleeting")
    assert (answer.status_code, answer.content) == (200, b"")
    assert states.commits() == before
    refused(states["wendy"].get(STATES, params={"deployment": "fleeting"}), 404, "not-found")
    put(states, "shop/declared", update("shop/declared", deploy=stage("empty")))
    answer = states["wendy"].delete(f"{url}shop%2Fdeclared")
    assert (answer.status_code, answer.content) == (200, b"")
    assert states.commits() == before + 1
    assert "shop/declared" not in states.text("deployments.yaml")
    assert "shop/declared" not in states["rita"].get(STATES).json()


def test_case_89_providers_after_a_destroy(states: World) -> None:
    """`{}` of what only a destroyed one provided, although its state still says so."""
    name = "infra/gke"
    put(states, name, update(name, deploy=stage("ok", provides=["gke", "network"])))
    put(states, "infra/net", update("infra/net", deploy=stage("ok", provides=["network"])))
    every = states["rita"].get(PROVIDERS).json()
    assert (every["gke"], every["network"]) == ([name], [name, "infra/net"])
    assert states["rita"].get(PROVIDERS, params={"type": "gke"}).json() == {"gke": [name]}
    for code in ("running_pre_step", "running_main_destroy_step"):
        put(states, name, update(name, deploy=stage(code, provides=["gke", "network"])))
        assert states["rita"].get(PROVIDERS, params={"type": "gke"}).json() == {"gke": [name]}
    put(states, name, update(name, deploy=stage("empty", provides=["gke", "network"])))
    assert shown(states, name)["stages"]["deploy"]["provides"] == ["gke", "network"]
    assert states["rita"].get(PROVIDERS, params={"type": "gke"}).json() == {}
    assert states["rita"].get(PROVIDERS, params={"type": "network"}).json() == {"network": ["infra/net"]}


# -- the rest of the contract


def test_a_provider_that_is_consumed_is_not_deleted(states: World) -> None:
    """409 `in-use`, until its consumer is destroyed."""
    put(states, "the/db", update("the/db", deploy=stage("ok", provides=["sql"])))
    put(states, "the/app", update("the/app", deploy=stage("ok", providers={"sql": "the/db"})))
    url = f"{STATES}?deployment=the/db"
    found = refused(states["wendy"].delete(url), 409, "in-use")
    assert "the/app" in found["error"]
    put(states, "the/app", update("the/app", deploy=stage("empty", providers={"sql": "the/db"})))
    assert states["wendy"].delete(url).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"state": None}, "state"),
        ({"state": []}, "state"),
        ({"state": {"stages": {"test": {}}}}, "state.stages.test"),
        ({"state": {"stages": []}}, "state.stages"),
        ({"state": {"stages": {"deploy": {"version": 1.1}}}}, "state.stages.deploy.version"),
        ({"state": {"stages": {"deploy": {"provides": "http"}}}}, "state.stages.deploy.provides"),
        ({"state": {"stages": {"deploy": {"providers": {"a": 1}}}}}, "state.stages.deploy.providers.a"),
        (
            {"state": {"stages": {"deploy": {"status": {"updated_at": "yesterday"}}}}},
            "state.stages.deploy.status.updated_at",
        ),
        ({"state": {"stages": {"deploy": {"status": {"tried": -1}}}}}, "state.stages.deploy.status.tried"),
        ({"state": {"stages": {"deploy": {"status": "ok"}}}}, "state.stages.deploy.status"),
        (
            {"state": {"stages": {"deploy": {"deployments": {"1bad": {}}}}}},
            "state.stages.deploy.deployments.1bad",
        ),
        ({"path": 7}, "path"),
        ({"path": "bad:", "root_stage": "deploy"}, "path"),
        ({"path": "bad:1x", "root_stage": "deploy"}, "path"),
        ({"path": ":".join(["bad", *"abcdefghijklmnopqrstuvwxyz"]), "root_stage": "deploy"}, "path"),
    ],
)
def test_what_no_client_could_read_again_is_refused(
    states: World, change: dict[str, Any], field: str
) -> None:
    """400 naming the field, and nothing is stored."""
    found = refused(put(states, "bad", update("bad", deploy=stage("ok")) | change), 400, "invalid-field")
    assert field in found["fields"], found
    refused(states["wendy"].get(STATES, params={"deployment": "bad"}), 404, "not-found")


def test_bad_names_and_bodies(states: World) -> None:
    """400 each."""
    for name in ("1bad", "a//b", "a/", "ä", "x" * 201, ""):
        refused(put(states, name, update(name or "x", deploy=stage("ok"))), 400, "invalid-field")
    refused(states["wendy"].put(STATES, json=update("a")), 400, "invalid-field")
    refused(states["wendy"].put(STATES, params={"deployment": "a"}, content=b"{"), 400, "invalid-json")
    refused(states["wendy"].put(STATES, params={"deployment": "a"}, content=b"[]"), 400, "invalid-json")
    deep = b'{"path":"a","state":' + b'{"stages":' * 5000 + b"1" + b"}" * 5000 + b"}"
    refused(states["wendy"].put(STATES, params={"deployment": "a"}, content=deep), 400, "invalid-json")


def test_secret_values_are_for_those_who_may_write(states: World) -> None:
    """Readers see `***` for what looks secret, also nested; they lie encrypted in the data folder."""
    name, value = "masked", "correct-horse-battery"
    nested = {"cache": {"stages": {"deploy": stage("ok", inputs={"token": value})}}}
    found = stage(
        "ok", inputs={"db_password": value, "level": "info"}, calculated_outputs={"api_key": value},
        deployments=nested,
    )  # fmt: skip
    put(states, name, update(name, deploy=found))
    for query in (f"{DEV}/?full=true", f"{STATES}?deployment={name}"):
        for who, hidden in (("wendy", False), ("alice", False), ("rita", True)):
            text = states[who].get(query).text
            assert (value not in text) is hidden, (who, query)
    whole = shown(states, name, "rita")["stages"]["deploy"]
    assert whole["inputs"] == {"db_password": "***", "level": "info"}
    assert whole["calculated_outputs"] == {"api_key": "***"}
    assert whole["deployments"]["cache"]["stages"]["deploy"]["inputs"] == {"token": "***"}
    assert holding(states.running.data, value.encode()) == []


def test_who_may_do_what(states: World) -> None:
    """Readers read; on a protected environment people need to own; who has no role sees nothing."""
    body = update("rights", deploy=stage("ok"))
    refused(put(states, "rights", body, "rita"), 403, "forbidden")
    refused(put(states, "rights", body, "nobody"), 404, "not-found")
    refused(put(states, "rights", body, "pia"), 404, "not-found")
    prod = f"{SHOP}/environments/prod/deployments/?deployment=rights"
    refused(states["wendy"].put(prod, json=body), 403, "forbidden")
    assert states["alice"].put(prod, json=body).status_code == 200
    refused(states["wendy"].delete(prod), 403, "forbidden")
    assert states["alice"].delete(prod).status_code == 200
    for who, status in (("rita", 403), ("nobody", 404)):
        assert states[who].delete(f"{STATES}?deployment=shop/web").status_code == status
        assert states[who].post(STATES, json={"name": "x", "release": "shop/web"}).status_code == status
    refused(states["nobody"].get(STATES), 404, "not-found")
    refused(states["nobody"].get(PROVIDERS), 404, "not-found")
    with states.client("nonsense") as nobody:
        refused(nobody.get(f"{DEV}/?full=true"), 401, "unauthorized")


def test_a_deployment_is_added(states: World) -> None:
    """A commit: it is declared, and never ran. The same again: 409."""
    before = states.commits()
    body = {"name": "shop/new", "release": "shop/web", "version": "1.4.@", "inputs": {"replicas": 2}}
    answer = states["wendy"].post(
        STATES, json=body | {"providers": {"kubernetes": "infra/cluster"}, "junk": 1}
    )
    assert answer.status_code == 200, answer.text
    assert states.commits() == before + 1
    assert answer.headers["x-steersman-commit"] == states.git("rev-parse", "main").strip()
    assert "projects/shop/environments/dev/deployments/shop--new.yaml" in states.files()
    found = answer.json()
    assert found == shown(states, "shop/new")
    assert found["managed"] is True
    assert found["inputs"] == {"replicas": 2}
    assert found["declared"]["version"] == "1.4.@"
    assert found["stages"]["deploy"]["status"] == {"status": "empty"}
    refused(states["wendy"].post(STATES, json=body), 409, "already-exists")
    for wrong, field in (
        ({"name": "1bad"}, "name"),
        ({"release": ""}, "release"),
        ({"release": "web"}, "release"),
        ({"version": 1.4}, "version"),
        ({"inputs": []}, "inputs"),
        ({"providers": {"kubernetes": "1bad"}}, "providers.kubernetes"),
    ):
        told = refused(
            states["wendy"].post(STATES, json=body | {"name": "other"} | wrong), 400, "invalid-field"
        )
        assert field in told["fields"], told
    assert states.commits() == before + 1


def test_a_state_outlives_its_declaration(states: World) -> None:
    """Taken out of Git by hand, it stays as an unmanaged one (13.7)."""
    put(states, "shop/kept", update("shop/kept", deploy=stage("ok")))
    lines = states.text("deployments.yaml").split("---\n")
    states.commit({"deployments.yaml": "---\n".join(each for each in lines if "shop/kept" not in each)})
    found = shown(states, "shop/kept")
    assert (found["managed"], found["stages"]["deploy"]["status"]["status"]) == (False, "ok")


def test_an_environment_goes_with_all_its_states(states: World) -> None:
    """Declared or not; made anew, it is empty."""
    add = {"name": "brief"}
    assert states["alice"].post(f"{SHOP}/environments/", json=add).status_code == 200
    brief = f"{SHOP}/environments/brief/"
    for name in ("one", "two"):
        body = update(name, deploy=stage("ok"))
        assert states["wendy"].put(f"{brief}deployments/?deployment={name}", json=body).status_code == 200
    made = states["wendy"].post(f"{brief}deployments/", json={"name": "two", "release": "shop/two"})
    assert made.status_code == 200, made.text
    before = states.commits()
    answer = states["alice"].delete(brief)
    assert (answer.status_code, answer.json()) == (200, {"deleted": {"builds": 0, "deployments": 2}})
    assert states.commits() == before + 1
    assert states["alice"].post(f"{SHOP}/environments/", json=add).status_code == 200
    assert states["alice"].get(f"{brief}deployments/").json() == {}


# -- the real client; what it does, call by call, is in test_client_facts


def test_the_client_is_told_plainly(states: World) -> None:
    """No environment: 404; no token: 401; too small a role: a sentence in brackets."""
    with pytest.raises(Failed, match=r"404 Not Found \[There is no environment 'qa' in shop\.\]"):
        StateClient(states.url, states.secrets["wendy"], "shop", "qa").load()
    with pytest.raises(Unauthorized):
        StateClient(states.url, "nonsense", "shop", "dev").load()
    reader = client(states, "rita")
    reader.load()
    with pytest.raises(Failed, match=r"403 Forbidden \[to edit Deployment/shop/dev/x takes the role write"):
        reader.deploy("x", "1.0.0")


def test_many_clients_at_once(states: World) -> None:
    """No put is lost, whoever else writes."""

    def run(number: int) -> None:
        one = client(states)
        one.load()
        one.deploy(f"crowd/n{number}", f"0.0.{number}")

    def letter(number: int) -> str:
        return f"crowd/n{number}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(16)))
    found = client(states).load()["deployments"]
    assert [found[letter(n)]["stages"]["deploy"]["version"] for n in range(16)] == [
        f"0.0.{n}" for n in range(16)
    ]
    assert {found[letter(n)]["stages"]["deploy"]["status"]["status"] for n in range(16)} == {"ok"}


def test_a_client_that_stops_in_the_middle_changes_nothing(states: World) -> None:
    """Half a body is no state."""
    address = urlsplit(states.url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=10) as connection:
        head = f"PUT {STATES}?deployment=half HTTP/1.1\r\nHost: x\r\nX-Escape-Token: {states.secrets['wendy']}\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    refused(states["wendy"].get(STATES, params={"deployment": "half"}), 404, "not-found")


def test_states_are_there_after_a_kill(states: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was answered by 200 is on the disk."""
    folder = tmp_path_factory.mktemp("killed")
    repo = SpecRepository(folder / "specs")
    repo.commit({**FILES, **OWN})
    with process(repo.path, folder / "data") as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        one = StateClient(running.url, running.token, "shop", "dev")
        one.load()
        one.deploy("client/killed", "1.0.0")
        running.kill()
    with process(repo.path, folder / "data") as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        found = StateClient(running.url, running.token, "shop", "dev").load()["deployments"]["client/killed"]
        assert found["stages"]["deploy"]["status"]["status"] == "ok"
