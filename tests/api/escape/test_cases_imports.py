"""The numbered edge cases about importing environments out of a state file (escape-state, 15.2)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.api.escape.conftest import World, refused
from tests.api.escape.state_client import StateClient
from tests.support import holding

_numbers = itertools.count(1)
TIME = "2030-01-02T03:04:05.6Z"
FILE: dict[str, Any] = {
    "name": "local-state-project",
    "environments": {
        "staging": {
            "name": "staging",
            "inputs": {"region": "eu"},
            "deployments": {
                "shop/web": {
                    "name": "shop/web",
                    "release": "shop/web",
                    "inputs": {"replicas": 2},
                    "stages": {
                        "build": {"version": "1.4.11", "status": {"status": "empty", "updated_at": TIME}},
                        "deploy": {
                            "inputs": {"log_level": "info"},
                            "calculated_inputs": {"log_level": "info", "region": "eu", "replicas": 2},
                            "calculated_outputs": {"url": "http://web.staging"},
                            "providers": {"kubernetes": "infra/cluster"},
                            "provides": ["http"],
                            "version": "1.4.11",
                            "deployments": {
                                "cache": {
                                    "name": "cache",
                                    "release": "shop/cache",
                                    "stages": {
                                        "deploy": {
                                            "version": "0.3.0",
                                            "status": {"status": "ok", "updated_at": TIME},
                                        }
                                    },
                                }
                            },
                            "status": {
                                "status": "failure",
                                "updated_at": TIME,
                                "updated_by": "",
                                "data": "exit status 3",
                                "try_again_at": "2030-01-02T03:04:06.6Z",
                                "tried": 1,
                            },
                        },
                    },
                }
            },
        },
        "empty-one": {},
    },
}


@pytest.fixture
def target(world: World) -> Iterator[str]:
    """A new project of which alice is the owner, where it is imported into."""
    name = f"target{next(_numbers)}"
    world.admin.post(f"/api/v1/state/{name}/add-project").raise_for_status()
    body = {"spec": {"role": "owner", "subjects": [{"kind": "User", "name": "alice"}]}}
    made = world.admin.put(
        f"/reconciler/resources/RoleBinding/{name}/_/alice", json=body, headers=world.native
    )
    assert made.status_code == 200, made.text
    yield name
    world.admin.delete(f"/api/v1/state/{name}/?force=true").raise_for_status()


def changed(**environments: Any) -> dict[str, Any]:
    """The file, with other environments."""
    return {**deepcopy(FILE), "environments": environments}


def one(**fields: Any) -> dict[str, Any]:
    """A file with one deployment, `app`, in one environment, `dev`."""
    stage = {"version": "1.0", "status": {"status": "ok", "updated_at": TIME}}
    return changed(dev={"deployments": {"app": {"stages": {"deploy": stage}} | fields}})


def test_case_91_the_file_of_the_contract(world: World, target: str) -> None:
    """One commit, two environments, nested ones only in the state, nothing started."""
    root = f"/api/v1/state/{target}"
    before = world.commits()
    answer = world["alice"].post(f"{root}/import-environments", json=FILE)
    assert answer.status_code == 200, answer.text
    assert world.commits() == before + 1
    assert answer.json() == {
        "imported": {"environments": ["staging", "empty-one"], "deployments": ["staging:shop/web"]},
        "skipped": [],
        "secrets": [],
        "warnings": [],
        "commit": world.git("rev-parse", "main").strip(),
    }
    found = world["alice"].get(f"{root}/").json()
    assert found["environment_order"] == ["staging", "empty-one"]
    assert found["environments"]["staging"]["inputs"] == {"region": "eu"}
    assert found["environments"]["empty-one"]["deployments"] == {}
    text = world.text(f"projects/{target}/environments/staging/deployments/shop--web.yaml")
    for line in (
        "version: 1.4.11",
        "reconcile: manual",
        "replicas: 2",
        "log_level: info",
        "kubernetes: infra/cluster",
    ):
        assert line in text.replace("'", "").replace('"', ""), text
    every = world.git("log", "-p", "--all", "--", f"projects/{target}")
    assert "http://web.staging" not in every
    assert "shop/cache" not in every
    state = world["alice"].get(f"{root}/environments/staging/deployments/?deployment=shop/web").json()
    assert state["managed"] is True
    stage = state["stages"]["deploy"]
    assert (
        stage["status"]
        == FILE["environments"]["staging"]["deployments"]["shop/web"]["stages"]["deploy"]["status"]
        | {"updated_by": ""}
        or "updated_by" not in stage["status"]
    )
    assert (stage["status"]["updated_at"], stage["status"]["try_again_at"]) == (
        TIME,
        "2030-01-02T03:04:06.6Z",
    )
    assert stage["calculated_outputs"] == {"url": "http://web.staging"}
    assert stage["deployments"]["cache"]["stages"]["deploy"]["version"] == "0.3.0"
    listed = world["alice"].get(f"/api/v1/deployment-jobs/by-project/{target}/").json()
    assert [(each["name"], each["reconcile"], each["status"]) for each in listed] == [
        ("shop/web", "manual", "new")
    ]
    found = world.admin.get("/reconciler/jobs?limit=200", headers=world.native).json()["items"]
    assert [job["key"] for job in found if f"/{target}/" in job["key"]] == []
    client = StateClient(world.url, world.secrets["alice"], target, "staging")
    assert client.load()["deployments"]["shop/web"]["stages"]["deploy"]["version"] == "1.4.11"


def test_case_92_the_same_import_again(world: World, target: str) -> None:
    """409; `on_conflict=overwrite`: 200 without a commit; `skip`: likewise, and it says so."""
    root = f"/api/v1/state/{target}"
    world["alice"].post(f"{root}/import-environments", json=FILE).raise_for_status()
    before = world.commits()
    refused(world["alice"].post(f"{root}/import-environments", json=FILE), 409, "already-exists")
    again = world["alice"].post(f"{root}/import-environments?on_conflict=overwrite", json=FILE)
    assert again.status_code == 200, again.text
    assert again.json()["commit"] == ""
    assert again.json()["imported"]["deployments"] == ["staging:shop/web"]
    assert "x-steersman-commit" not in again.headers
    skipped = world["alice"].post(
        f"{root}/import-environments", json={"state": FILE, "options": {"on_conflict": "skip"}}
    )
    assert skipped.json()["skipped"] == ["staging", "staging:shop/web", "empty-one"]
    assert skipped.json()["imported"] == {"environments": [], "deployments": []}
    assert world.commits() == before
    other = deepcopy(FILE)
    other["environments"]["staging"]["deployments"]["shop/web"]["stages"]["deploy"]["version"] = "1.4.12"
    other["environments"]["staging"]["deployments"]["more"] = {}
    body = {"state": other, "options": {"on_conflict": "skip"}}
    partly = world["alice"].post(f"{root}/import-environments", json=body).json()
    assert partly["imported"] == {"environments": [], "deployments": ["staging:more"]}
    assert (
        world["alice"]
        .get(f"{root}/environments/staging/")
        .json()["deployments"]["shop/web"]["stages"]["deploy"]["version"]
        == "1.4.11"
    )
    whole = world["alice"].post(f"{root}/import-environments?on_conflict=overwrite", json=other).json()
    assert whole["commit"] == world.git("rev-parse", "main").strip()
    assert len(world.diff()) == 2
    state = world["alice"].get(f"{root}/environments/staging/").json()["deployments"]["shop/web"]
    assert state["stages"]["deploy"]["version"] == "1.4.12"


def test_case_93_a_bad_name(world: World, target: str) -> None:
    """400, nothing imported."""
    root = f"/api/v1/state/{target}"
    before = world.commits()
    bad = deepcopy(FILE)
    bad["environments"]["staging"]["deployments"]["1bad"] = {}
    found = refused(world["alice"].post(f"{root}/import-environments", json=bad), 400, "invalid-field")
    assert list(found["fields"]) == ["environments.staging.deployments.1bad"]
    assert world.commits() == before
    assert world["alice"].get(f"{root}/").json()["environments"] == {}


def test_case_94_an_input_that_is_secret(world: World, target: str) -> None:
    """Its value is only in a Secret; what is named in `sensitive` as well."""
    root = f"/api/v1/state/{target}"
    secret = one(inputs={"db_password": "hunter2", "pin": "4711", "replicas": 2})
    secret["environments"]["dev"]["inputs"] = {"api_token": "t0ken-value"}
    body = {"state": secret, "options": {"sensitive": ["pin"]}}
    before = world.commits()
    answer = world["alice"].post(f"{root}/import-environments", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["secrets"] == [
        f"{target}/dev/{name}" for name in ("api_token", "app/db_password", "app/pin")
    ]
    assert world.commits() == before + 1
    every = world.git("log", "-p", "--all", "--", f"projects/{target}")
    for value in ("hunter2", "4711", "t0ken-value"):
        assert value not in every
        assert value not in answer.text
    inputs = (
        world["alice"]
        .get(f"{root}/environments/dev/deployments/?deployment=app")
        .json()["declared"]["inputs"]
    )
    assert inputs["replicas"] == 2
    assert inputs["db_password"].keys() == inputs["pin"].keys() == {"secret_ref"}
    sealed = [path for path in world.files() if path.startswith(f"projects/{target}/secrets/")]
    assert len(sealed) == 3
    assert holding(world.running.data, b"hunter2") == []
    again = world["alice"].post(
        f"{root}/import-environments?on_conflict=overwrite&sensitive=pin", json=secret
    )
    assert again.status_code == 200, again.text
    assert again.json()["commit"] == ""


def test_what_was_running_has_failed(world: World, target: str) -> None:
    """Nobody will ever finish it; pending codes are kept; what was never deployed is suspended."""
    root = f"/api/v1/state/{target}"
    nested = {"cache": {"stages": {"deploy": {"version": "1", "status": {"status": "running_test_step"}}}}}
    deploy = {
        "version": "1.0",
        "status": {"status": "running_main_step", "updated_at": TIME},
        "deployments": nested,
    }
    file = one(stages={"deploy": deploy})
    file["environments"]["dev"]["deployments"]["waits"] = {
        "stages": {"deploy": {"version": "1.0", "status": {"status": "destroy_and_delete_pending"}}}
    }
    file["environments"]["dev"]["deployments"]["never"] = {}
    answer = world["alice"].post(f"{root}/import-environments", json=file)
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == [
        "dev:app was running when the file was written; it is taken over as failed",
        "dev:never was never deployed; it is suspended",
    ]
    found = world["alice"].get(f"{root}/environments/dev/?full=true").json()["deployments"]
    stage = found["app"]["stages"]["deploy"]
    interrupted = {"status": "failure", "data": "imported while running"}
    assert stage["status"] == interrupted | {"updated_at": TIME}
    assert stage["deployments"]["cache"]["stages"]["deploy"]["status"] == interrupted
    assert found["waits"]["stages"]["deploy"]["status"]["status"] == "destroy_and_delete_pending"
    assert "suspend: true" in world.text(f"projects/{target}/environments/dev/deployments/never.yaml")


def test_some_environments_and_a_dry_run(world: World, target: str) -> None:
    """`environments` chooses; `dry_run` tells what would be, and changes nothing."""
    root = f"/api/v1/state/{target}"
    before = world.commits()
    told = world["alice"].post(f"{root}/import-environments?dry_run=true", json=FILE)
    assert told.status_code == 200, told.text
    assert told.json()["imported"]["deployments"] == ["staging:shop/web"]
    assert told.json()["commit"] == ""
    assert world.commits() == before
    assert world["alice"].get(f"{root}/").json()["environments"] == {}
    some = {"state": FILE, "options": {"environments": ["empty-one"], "reconcile": "auto"}}
    made = world["alice"].post(f"{root}/import-environments", json=some).json()
    assert made["imported"] == {"environments": ["empty-one"], "deployments": []}
    rest = world["alice"].post(f"{root}/import-environments?environments=staging&reconcile=manual", json=FILE)
    assert rest.json()["imported"]["environments"] == ["staging"]
    assert world["alice"].get(f"{root}/").json()["environment_order"] == ["empty-one", "staging"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ({"environments": []}, "environments"),
        ({"environments": {"Prod": {}}}, "environments.Prod"),
        ({"environments": {"dev": {"inputs": [1]}}}, "environments.dev.inputs"),
        ({"state": FILE, "options": {"environments": ["nope"]}}, "environments"),
        ({"state": FILE, "options": {"on_conflict": "merge"}}, "options.on_conflict"),
        ({"state": FILE, "options": {"dry_run": "yes"}}, "options.dry_run"),
        ({"state": FILE, "options": {"sensitive": "pin"}}, "options.sensitive"),
        ({"state": FILE, "options": {"reconcile": "never"}}, "options.reconcile"),
        ({"state": FILE, "options": []}, "options"),
        (one(stages={"other": {}}), "environments.dev.deployments.app.stages.other"),
    ],
)
def test_bad_files_and_options(world: World, body: Any, field: str | None) -> None:
    """400 naming what is wrong; nothing is imported."""
    before = world.commits()
    answer = world["alice"].post("/api/v1/state/shop/import-environments", json=body)
    found = refused(answer, 400, "invalid-json" if field is None else "invalid-field")
    assert field is None or field in found["fields"], found
    assert world.commits() == before


def test_who_may_and_how_much(world: World, target: str) -> None:
    """Writers of the project; a protected environment is for its owners; 4 MiB, where other bodies have 1."""
    path = "/api/v1/state/shop/import-environments"
    refused(world["rita"].post(path, json=FILE), 403, "forbidden")
    refused(world["pia"].post(path, json=FILE), 403, "forbidden")
    refused(world["nobody"].post(path, json=FILE), 404, "not-found")
    protected = changed(prod={"deployments": {"app": {}}})
    before = world.commits()
    refused(world["wendy"].post(f"{path}?on_conflict=skip", json=protected), 403, "forbidden")
    assert world.commits() == before
    assert "app" not in world["alice"].get("/api/v1/state/shop/environments/prod/").json()["deployments"]
    large = json.dumps(one(inputs={"text": "x" * (2 << 20)})).encode()
    root = f"/api/v1/state/{target}"
    assert world["alice"].post(f"{root}/import-environments", content=large).status_code in (200, 400)
    refused(world["alice"].post(path, content=b" " * ((4 << 20) + 1)), 413, "too-large")


def test_a_refused_commit_takes_the_states_back(world: World, target: str) -> None:
    """What is no specification is found when it is written, and then nothing is kept."""
    root = f"/api/v1/state/{target}"
    before = world.commits()
    bad = one(stages={"deploy": {"version": "not a version!"}})
    refused(world["alice"].post(f"{root}/import-environments", json=bad), 400, "invalid-field")
    assert world.commits() == before
    made = world["alice"].post(f"{root}/environments/", json={"name": "dev"})
    assert made.status_code == 200, made.text
    assert made.json()["deployments"] == {}
    kept = {"path": "app", "root_stage": "", "state": {"stages": {"deploy": {"version": "0.9"}}}}
    states = f"{root}/environments/dev/deployments/?deployment=app"
    assert world["alice"].put(states, json=kept).status_code == 200
    refused(
        world["alice"].post(f"{root}/import-environments?on_conflict=overwrite", json=bad),
        400,
        "invalid-field",
    )
    assert world["alice"].get(states).json()["stages"]["deploy"]["version"] == "0.9"
    unknown = refused(world["alice"].post(f"{root}/import-environments", json=one()), 409, "already-exists")
    assert "dev" in unknown["error"]
