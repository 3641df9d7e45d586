"""The numbered edge cases about deployment jobs, and what the contract says of them (escape-state, 6.4, 7.5)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.sealing import seal
from tests.api.escape.conftest import FILES, SHOP, World, document, refused
from tests.support import SpecRepository, process

JOBS = "/api/v1/deployment-jobs"
OF_SHOP = f"{JOBS}/by-project/shop"
OF_DEV = f"{OF_SHOP}/by-environment/dev"
WEB = f"{OF_DEV}/by-name/shop%2Fweb"
STATES = f"{SHOP}/environments/dev/deployments/"
JOB = {
    "id", "name", "project", "environment", "release", "version", "inputs", "providers", "run_smoke", "reconcile",
    "on_delete", "suspend", "disabled", "service_account_name", "service_account_team", "remote_escape_worker_url",
    "timeout_seconds", "status", "sync", "deployed_version", "errands", "last_execution_id", "permission",
}  # fmt: skip
WEB_YAML = """\
# Where the storefront stands.
apiVersion: steersman/v1
kind: Deployment
metadata: {name: shop/web, project: shop, environment: dev}
spec:
  version: '1.4.12'      # by hand
  reconcile: manual

  inputs: {replicas: 4}
  providers: {kubernetes: infra/cluster}
"""
OWN = {
    "deployments.yaml": WEB_YAML,
    "more.yaml": "---\n".join(
        [
            document(
                "Deployment", "name: infra/cluster, project: shop, environment: dev", "{reconcile: manual}"
            ),
            document("Deployment", "name: shop/web, project: shop, environment: prod", "{reconcile: manual}"),
            document(
                "Deployment", "name: shop/spare, project: shop, environment: staging", "{reconcile: manual}"
            ),
        ]
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all of these."""
    folder = tmp_path_factory.mktemp("deployments")
    repo = SpecRepository(folder / "specs")
    repo.commit({**FILES, **OWN})
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
    settings |= {"STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
    with process(repo.path, folder / "data", **settings) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        world = World(running, repo)
        with contextlib.ExitStack() as stack:
            for client in (world.admin, *world.clients.values()):
                stack.callback(client.close)
            yield world


@pytest.fixture
def jobs(shared: World) -> World:
    """The same specs for every test."""
    shared.repo.git("reset", "-q", "--hard")
    wanted = {**FILES, **OWN}
    there = shared.repo.git("ls-files").split("\n")
    shared.commit({**{name: None for name in there if name and name not in wanted}, **wanted})
    return shared


def test_case_19_a_slash_in_a_name(jobs: World) -> None:
    """`%2F` and `%2f`: 200; unencoded: 404."""
    for name in ("shop%2Fweb", "shop%2fweb"):
        answer = jobs["rita"].get(f"{OF_DEV}/by-name/{name}/")
        assert answer.status_code == 200, answer.text
        assert answer.json()["name"] == "shop/web"
    refused(jobs["rita"].get(f"{OF_DEV}/by-name/shop/web/"), 404, "not-found")


def test_case_95_an_unknown_environment(jobs: World) -> None:
    """400 `invalid-reference`, no commit."""
    before = jobs.commits()
    body = {"name": "shop/api", "environment": "qa", "release": "shop/api"}
    found = refused(jobs["alice"].post(f"{OF_SHOP}/add", json=body), 400, "invalid-reference")
    assert found["fields"] == {"environment": "There is no environment 'qa' in shop."}
    refused(jobs["alice"].post(f"{OF_SHOP}/add", json=body | {"environment": ""}), 400, "invalid-reference")
    assert jobs.commits() == before


def test_a_job_is_added(jobs: World) -> None:
    """A commit, at the place of 13.4; the same again: 409; what is wrong is named."""
    before = jobs.commits()
    body = {"name": "shop/api", "environment": "dev", "release": "shop/api", "version": "1.4.@", "junk": 1}
    body |= {"inputs": {"a": [1, {"b": None}]}, "run_smoke": False, "id": "ignored", "sync": "ignored"}
    answer = jobs["wendy"].post(f"{OF_SHOP}/add", json=body | {"reconcile": "manual"})
    assert answer.status_code == 200, answer.text
    assert jobs.commits() == before + 1
    assert "projects/shop/environments/dev/deployments/shop--api.yaml" in jobs.files()
    found = answer.json()
    assert found.keys() == JOB
    assert found == jobs["wendy"].get(f"{OF_DEV}/by-name/shop%2Fapi/").json()
    assert (found["status"], found["deployed_version"], found["errands"]) == ("new", "", [])
    assert (found["run_smoke"], found["reconcile"], found["on_delete"]) == (False, "manual", "orphan")
    assert (found["timeout_seconds"], found["last_execution_id"]) == (3600, "")
    assert found["id"] not in ("", "ignored")
    refused(jobs["wendy"].post(f"{OF_SHOP}/add", json=body), 409, "already-exists")
    refused(jobs["rita"].post(f"{OF_SHOP}/add", json=body | {"name": "x"}), 403, "forbidden")
    refused(jobs["wendy"].post(f"{OF_SHOP}/add", json=body | {"environment": "prod"}), 403, "forbidden")
    refused(jobs["nobody"].post(f"{OF_SHOP}/add", json=body), 404, "not-found")
    for wrong, field in (
        ({"name": "1bad"}, "name"),
        ({"name": ""}, "name"),
        ({"release": ""}, "release"),
        ({"release": "nope"}, "release"),
        ({"version": 1.4}, "version"),
        ({"inputs": "x"}, "inputs"),
        ({"providers": {"k": "1bad"}}, "providers.k"),
        ({"reconcile": "never"}, "reconcile"),
        ({"on_delete": "keep"}, "on_delete"),
        ({"suspend": "true"}, "suspend"),
        ({"timeout_seconds": 1}, "timeout_seconds"),
        ({"remote_escape_worker_url": "ftp://x"}, "remote_escape_worker_url"),
    ):
        told = refused(
            jobs["wendy"].post(f"{OF_SHOP}/add", json=body | {"name": "y"} | wrong), 400, "invalid-field"
        )
        assert field in told["fields"], told
    assert jobs.commits() == before + 1


def test_jobs_are_listed(jobs: World) -> None:
    """As arrays, by project, order of environments, and name; only what the caller sees."""
    everything = [
        ("shop", "dev", "infra/cluster"),
        ("shop", "dev", "shop/web"),
        ("shop", "staging", "shop/spare"),
    ]
    everything.append(("shop", "prod", "shop/web"))

    def names(path: str, who: str = "rita") -> list[tuple[str, str, str]]:
        found = jobs[who].get(path).raise_for_status().json()
        assert all(each.keys() == JOB for each in found)
        return [(each["project"], each["environment"], each["name"]) for each in found]

    assert names(f"{JOBS}/") == names(f"{OF_SHOP}/") == names(f"{JOBS}/", "admin") == everything
    assert names(f"{OF_DEV}/") == everything[:2]
    assert names(f"{JOBS}/", "pia") == names(f"{OF_SHOP}/", "pia") == everything[3:]
    assert names(f"{JOBS}/", "nobody") == []
    assert names(f"{JOBS}/by-project/tools/", "admin") == []
    refused(jobs["nobody"].get(f"{OF_SHOP}/"), 404, "not-found")
    refused(jobs["pia"].get(f"{OF_DEV}/"), 404, "not-found")
    refused(jobs["rita"].get(f"{OF_DEV}/by-name/nope/"), 404, "not-found")


def test_a_job_is_changed(jobs: World) -> None:
    """An echo makes no commit; one field is one line; what a body leaves out is kept, null clears it."""
    before, body = jobs.commits(), jobs["wendy"].get(f"{WEB}/").json()
    tag = jobs["wendy"].get(f"{WEB}/").headers["etag"]
    same = jobs["wendy"].put(f"{WEB}/", json=body)
    assert (same.status_code, same.json()) == (200, body)
    assert jobs.commits() == before
    answer = jobs["wendy"].put(f"{WEB}/", json={"version": "1.4.13"}, headers={"If-Match": tag})
    assert answer.status_code == 200, answer.text
    assert jobs.commits() == before + 1
    assert jobs.diff() == ["-  version: '1.4.12'      # by hand", "+  version: '1.4.13'      # by hand"]
    assert answer.json() == body | {"version": "1.4.13"}
    refused(jobs["wendy"].put(f"{WEB}/", json={"version": "1"}, headers={"If-Match": tag}), 412, "stale")
    cleared = jobs["wendy"].put(f"{WEB}/", json={"inputs": None, "timeout_seconds": 60}).json()
    assert (cleared["inputs"], cleared["timeout_seconds"], cleared["version"]) == ({}, 60, "1.4.13")
    assert jobs["wendy"].put(f"{WEB}/", json={"timeout_seconds": None}).json()["timeout_seconds"] == 3600
    before = jobs.commits()
    refused(jobs["wendy"].put(f"{WEB}/", json={"name": "other"}), 400, "name-mismatch")
    refused(jobs["wendy"].put(f"{WEB}/", json={"environment": "prod"}), 400, "name-mismatch")
    refused(jobs["wendy"].put(f"{WEB}/", json={"release": "x"}), 400, "invalid-field")
    refused(jobs["wendy"].put(f"{OF_DEV}/by-name/nope/", json={"version": "1"}), 404, "not-found")
    refused(jobs["rita"].put(f"{WEB}/", json={"version": "1"}), 403, "forbidden")
    prod = f"{OF_SHOP}/by-environment/prod/by-name/shop%2Fweb/"
    refused(jobs["wendy"].put(prod, json={"version": "1"}), 403, "forbidden")
    borrowed = {"service_account_name": "deployer", "service_account_team": "platform"}
    refused(jobs["wendy"].put(f"{WEB}/", json=borrowed), 403, "forbidden")
    assert jobs.commits() == before
    assert jobs["alice"].put(f"{WEB}/", json=borrowed).status_code == 200


def test_one_of_several_environments(jobs: World) -> None:
    """A document for several environments is edited at its entry; a release that its name stands for is not written."""
    several = (
        "apiVersion: steersman/v1\nkind: Deployment\nmetadata: {name: shop/api, project: shop}\nspec:\n"
        "  reconcile: manual\n  environments:\n    dev: {version: '1'}\n    staging: {follow: dev}\n"
    )
    jobs.commit({"api.yaml": several})
    path = f"{OF_DEV}/by-name/shop%2Fapi/"
    body = jobs["wendy"].get(path).json()
    assert (body["release"], body["version"]) == ("shop/api", "1")
    staging = jobs["wendy"].get(path.replace("/dev/", "/staging/")).json()
    assert staging["follow"] == "dev"
    before = jobs.commits()
    assert jobs["wendy"].put(path, json=body | {"version": "2"}).status_code == 200
    assert jobs.commits() == before + 1
    assert jobs.text("api.yaml") == several.replace("version: '1'", "version: '2'")


def test_a_job_is_removed_and_its_state_stays(jobs: World) -> None:
    """A commit; the state is unmanaged then."""
    state = {"name": "shop/spare", "release": "shop/spare", "stages": {"deploy": {"version": "1.0"}}}
    staging = f"{SHOP}/environments/staging/deployments/"
    put = {"path": "shop/spare", "root_stage": "", "state": state}
    assert jobs["wendy"].put(staging, params={"deployment": "shop/spare"}, json=put).status_code == 200
    path, before = f"{OF_SHOP}/by-environment/staging/by-name/shop%2Fspare/", jobs.commits()
    assert jobs["wendy"].get(path).json()["deployed_version"] == "1.0"
    refused(jobs["rita"].delete(path), 403, "forbidden")
    answer = jobs["wendy"].delete(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert jobs.commits() == before + 1
    refused(jobs["wendy"].get(path), 404, "not-found")
    refused(jobs["wendy"].delete(path), 404, "not-found")
    left = jobs["wendy"].get(staging).json()["shop/spare"]
    assert (left["managed"], left["sync"]) == (False, "unknown")
    assert left["stages"]["deploy"] == {"version": "1.0", "status": {"status": "ok"}}


def test_a_job_that_others_need_stays(jobs: World) -> None:
    """A pipeline that names it, what is declared to consume it, what consumes it indeed: 409, also by force."""
    pipeline = document(
        "Pipeline",
        "name: release, project: shop",
        "{phases: [{name: a, steps: [{type: deploy, environment: dev, deployment: shop/web}]}]}",
    )
    jobs.commit({"pipe.yaml": pipeline})
    before = jobs.commits()
    for query in ("", "?force=true"):
        named = refused(jobs["alice"].delete(f"{WEB}/{query}"), 409, "in-use")
        assert "Pipeline/shop/release" in named["error"]
        cluster = refused(jobs["alice"].delete(f"{OF_DEV}/by-name/infra%2Fcluster/{query}"), 409, "in-use")
        assert "shop/web" in cluster["error"]
    jobs.commit(
        {
            "pipe.yaml": None,
            "deployments.yaml": WEB_YAML.replace("  providers: {kubernetes: infra/cluster}\n", ""),
        }
    )
    for name, stage in (
        ("infra/cluster", {"version": "1", "provides": ["kubernetes"]}),
        ("visitor", {"version": "1", "providers": {"kubernetes": "infra/cluster"}}),
    ):
        put = {"path": name, "root_stage": "", "state": {"stages": {"deploy": stage}}}
        assert jobs["wendy"].put(STATES, params={"deployment": name}, json=put).status_code == 200
    consumed = refused(jobs["alice"].delete(f"{OF_DEV}/by-name/infra%2Fcluster/"), 409, "in-use")
    assert "visitor" in consumed["error"]
    assert jobs["alice"].delete(f"{STATES}?deployment=visitor").status_code == 200
    assert jobs["alice"].delete(f"{OF_DEV}/by-name/infra%2Fcluster/").status_code == 200
    assert jobs.commits() == before + 2


def test_secret_inputs_are_kept_as_they_are(jobs: World) -> None:
    """A reference that is sent back stays one."""
    sealed: dict[str, Any] = {"pin": {"secret_ref": "pin"}}
    text = jobs.admin.get("/reconciler/secrets/key", headers=jobs.native).json()
    secret = document(
        "Secret",
        "name: pin, project: shop, environment: dev",
        "{type: value, sealed: '" + seal(b"1234", text["recipient"], "Secret/shop/dev/pin") + "'}",
    )
    jobs.commit({"secret.yaml": secret})
    answer = jobs["wendy"].put(f"{WEB}/", json={"inputs": sealed})
    assert answer.status_code == 200, answer.text
    assert answer.json()["inputs"] == sealed
    assert "1234" not in jobs["wendy"].get(f"{WEB}/").text
