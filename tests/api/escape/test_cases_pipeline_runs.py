"""The numbered edge cases of the contract about pipelines that build and deploy (escape-state, 17)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.escape.conftest import World, document, refused
from tests.api.escape.pipelining import (
    ENDED,
    SECONDS,
    add,
    asking,
    of,
    phases,
    resource,
    run_of,
    step_of,
    trigger,
    unique,
    until,
)
from tests.api.escape.releasing import Works, works
from tests.support import eventually_now, start, stop

JOBS = "/api/v1/deployment-jobs/by-project/shop"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """One daemon for all cases that need none of their own."""
    with works(tmp_path_factory.mktemp("pipelines")) as found:
        yield found


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A pipeline's name for each test."""
    return unique(request.node.name)


def build_step(build: str, **more: Any) -> dict[str, Any]:
    """A step that builds it in dev."""
    return {"type": "build", "environment": "dev", "build": build, **more}


def deploy_step(environment: str, app: str, **more: Any) -> dict[str, Any]:
    """A step that deploys shop/APP."""
    return {"type": "deploy", "environment": environment, "deployment": f"shop/{app}", **more}


def declare(shop: Works, app: str, **versions: str) -> None:
    """Deployments of shop/APP, by environment; only people and pipelines deploy them."""
    for environment, version in versions.items():
        metadata = f"name: shop/{app}, project: shop, environment: {environment}"
        spec = {"release": f"shop/{app}", "version": version, "reconcile": "manual"}
        shop.commit(
            {f"deployments/{environment}-{app}.yaml": document("Deployment", metadata, json.dumps(spec))}
        )


def job_of(shop: World, environment: str, app: str) -> dict[str, Any]:
    """A deployment job as it is now."""
    answer = shop["rita"].get(f"{JOBS}/by-environment/{environment}/by-name/shop%2F{app}/")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def statuses(run: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Of phases and their steps."""
    return [(p["status"], [step["status"] for step in p["steps"]]) for p in run["pipeline"]["phases"]]


def test_case_107_a_failure_that_is_ignored(shop: Works, name: str) -> None:
    """The step failed, phase and run ok."""
    shop.declare("c107", **shop.released("c107", build="exit 3"))
    add(shop, name, [build_step("c107", ignore_failure=True)])
    over = until(shop, name, trigger(shop, name), *ENDED)
    assert (over["status"], statuses(over)) == ("ok", [("ok", ["failed"])])
    step = step_of(over)
    assert step["status_reason"] == "script-failed"
    assert (step["execution_id"] != "", "started_at" in step, "finished_at" in step) == (True, True, True)


def failing(shop: Works, name: str, app: str) -> tuple[str, dict[str, Any]]:
    """A pipeline whose second phase fails until a file `APP-ok` is there, and its first run."""
    shop.declare(f"{app}a", **shop.released(f"{app}a", build="true"))
    shop.declare(f"{app}b", **shop.released(f"{app}b", build=f"test -e {app}-ok"))
    add(shop, name, [build_step(f"{app}a")], [build_step(f"{app}b")], [build_step(f"{app}a")])
    execution = trigger(shop, name)
    return execution, until(shop, name, execution, *ENDED)


def test_case_108_a_failure_in_phase_2_of_3(shop: Works, name: str) -> None:
    """Phase 3 is new, its steps queued, the run failed."""
    execution, over = failing(shop, name, "c108")
    assert (over["status"], over["status_reason"]) == ("failed", "script-failed")
    assert statuses(over) == [("ok", ["ok"]), ("failed", ["failed"]), ("new", ["queued"])]
    assert step_of(over, 2)["status_reason"] == "not-run"
    assert over["releases"] == ["shop/c108a-v1.0.0"]
    path = "/api/v1/state/shop/environments/dev/builds/by-name/c108a/executions"
    built = shop["rita"].get(f"{path}/{step_of(over)['execution_id']}/").json()
    assert built["trigger"]["type"] == "pipeline"
    assert built["trigger"]["pipeline_execution_id"] == execution
    shown = shop["rita"].get(f"{of(name)}/").json()
    assert (shown["status"], [phase["status"] for phase in shown["phases"]]) == (
        "failed",
        ["ok", "failed", "new"],
    )


def test_case_109_the_retry_of_that_run(shop: Works, name: str) -> None:
    """The next run_nr; phase 1 carried over, its build not repeated."""
    execution, over = failing(shop, name, "c109")
    shop.code.commit({"c109-ok": "yes\n"})
    refused(shop["rita"].post(f"{of(name)}/executions/{execution}/retry"), 403, "forbidden")
    made = shop["wendy"].post(f"{of(name)}/executions/{execution}/retry").json()["id"]
    again = until(shop, name, made, *ENDED)
    assert (again["run_nr"], again["trigger"]["retry_of"]) == (2, execution)
    assert (again["status"], statuses(again)) == ("ok", [("ok", ["ok"])] * 3)
    assert step_of(again)["carried_over"] is True
    assert step_of(again)["execution_id"] == step_of(over)["execution_id"]
    assert "carried_over" not in step_of(again, 1)
    assert again["releases"] == ["shop/c109a-v1.0.0", "shop/c109b-v1.0.0", "shop/c109a-v1.0.1"]
    path = "/api/v1/state/shop/environments/dev/builds/by-name/c109a/executions/"
    assert len(shop["rita"].get(path).json()) == 2
    anew = (
        shop["wendy"].post(f"{of(name)}/executions/{execution}/retry", json={"from_start": True}).json()["id"]
    )
    assert "carried_over" not in step_of(until(shop, name, anew, "ok"))


def test_case_116_a_build_by_hand_starts_the_pipeline(shop: Works, name: str) -> None:
    """One run, the step adopted; the same build inside of that pipeline starts none; nor does one that failed."""
    build = shop.declare("c116", **shop.released("c116", build="test ! -e broken"))
    step = build_step("c116", trigger_pipeline_on_build=True)
    add(shop, name, [step, {**step, "name": "same"}], [{"type": "confirmation", "user": "rita"}])
    time.sleep(0.5)
    built = build.run()
    assert built["status"] == "ok"
    (run,) = eventually_now(lambda: shop["rita"].get(f"{of(name)}/executions/").json(), SECONDS)
    assert run["trigger"] == {"type": "build", "user": "wendy", "execution_id": built["id"]}
    steps = run["pipeline"]["phases"][0]["steps"]
    assert [(each["status"], each["adopted"], each["execution_id"]) for each in steps] == [
        ("ok", True, built["id"])
    ] * 2
    assert run["releases"] == ["shop/c116-v1.0.0"]
    assert shop["rita"].post(f"{asking(shop, name, run['id'], phase=1)}/approve").json()["status"] == "ok"
    inside = trigger(shop, name)
    shop["rita"].post(f"{asking(shop, name, inside, phase=1)}/approve").raise_for_status()
    assert "adopted" not in step_of(until(shop, name, inside, "ok"))
    shop.code.commit({"broken": "\n"})
    assert build.run()["status"] == "failed"
    shop.code.commit({"broken": None})
    time.sleep(1)
    assert [run["run_nr"] for run in shop["rita"].get(f"{of(name)}/executions/").json()] == [2, 1]


def test_case_117_no_release_to_deploy(shop: Works, name: str) -> None:
    """failed/no-such-release, nothing committed."""
    declare(shop, "c117", staging="1.0.0")
    add(shop, name, [deploy_step("staging", "c117", update_version="last-version-in-pipeline")])
    before = shop.commits()
    over = until(shop, name, trigger(shop, name), *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "no-such-release")
    assert "last-version-in-pipeline" in step_of(over)["message"]
    assert shop.commits() == before


def test_case_118_promotion(shop: Works, name: str) -> None:
    """prod gets what staging has deployed, not what it declares; the commit names the run, and starts no pipeline."""
    build = shop.declare("c118", **shop.released("c118", deploy="true", smoke="true"))
    declare(shop, "c118", staging="0.1.0", prod="0.1.0")
    account = {"service_account_name": "deployer", "service_account_team": "platform"}
    binding = document(
        "RoleBinding",
        "name: deployers, project: shop",
        "{role: write, subjects: [{kind: ServiceAccount, team: platform, name: deployer}]}",
    )
    shop.commit({"deployers.yaml": binding})
    last = {"update_version": "last-version-in-pipeline"}
    body = {"name": name, "phases": phases([build_step("c118")], [deploy_step("staging", "c118", **last)])}
    assert (
        shop["alice"].post("/api/v1/pipelines/by-project/shop/add", json={**body, **account}).status_code
        == 200
    )
    execution = trigger(shop, name)
    over = until(shop, name, execution, *ENDED)
    assert over["status"] == "ok", over
    assert step_of(over, 1)["version"] == "1.0.0"
    assert job_of(shop, "staging", "c118")["deployed_version"] == "1.0.0"
    assert shop.git("log", "-1", "--format=%an", "main").strip() == "deployer (platform)"
    assert f"Steersman-Pipeline-Run: shop/{name}#1\n" in shop.git("log", "-1", "--format=%b", "main")
    (one,) = shop.git("show", "--format=", "--name-only", "main").split()
    assert one == "deployments/staging-c118.yaml"
    assert build.run()["releases"] == ["shop/c118-v1.0.1"]
    declare(shop, "c118", staging="1.0.1")
    promote, other = f"{name}-promote", f"{name}-other"
    source = {
        "update_version": "version-from-deployment-job",
        "update_version_environment": "staging",
        "update_version_deployment": "shop/c118",
    }
    body = {"name": promote, "phases": phases([deploy_step("prod", "c118", **source)])}
    assert (
        shop["alice"].post("/api/v1/pipelines/by-project/shop/add", json={**body, **account}).status_code
        == 200
    )
    add(shop, other, [deploy_step("prod", "c118", trigger_pipeline_on_deploy=True)])
    eventually_now(lambda: resource(shop, f"Pipeline/shop/{other}")["health"] == "Unknown", SECONDS)
    over = until(shop, promote, trigger(shop, promote), *ENDED)
    assert over["status"] == "ok", over
    job = job_of(shop, "prod", "c118")
    assert (job["version"], job["deployed_version"]) == ("1.0.0", "1.0.0")
    assert f"Steersman-Pipeline-Run: shop/{promote}#1\n" in shop.git("log", "-1", "--format=%b", "main")
    assert shop["rita"].get(f"{of(other)}/executions/").json() == []
    assert job_of(shop, "staging", "c118")["deployed_version"] == "1.0.0"
    by_hand = shop["alice"].post(f"{JOBS}/by-environment/prod/by-name/shop%2Fc118/trigger")
    assert by_hand.status_code == 200, by_hand.text
    (run,) = eventually_now(lambda: shop["rita"].get(f"{of(other)}/executions/").json(), SECONDS)
    assert (run["trigger"]["type"], step_of(run)["adopted"]) == ("deploy", True)


def test_versions_that_are_due_together_are_one_commit(shop: Works, name: str) -> None:
    """And a moving version is not edited: what it means is deployed, and recorded."""
    shop.declare("c118b", **shop.released("c118b", deploy="true"))
    declare(shop, "c118b", dev="0.1.0", staging="latest")
    metadata = "name: shop/c118b-too, project: shop, environment: dev"
    spec = {"release": "shop/c118b", "version": "0.1.0", "reconcile": "manual"}
    shop.commit({"too.yaml": document("Deployment", metadata, json.dumps(spec))})
    latest = {"update_version": "latest-version"}
    steps = [deploy_step("dev", "c118b", **latest), deploy_step("dev", "c118b-too", **latest)]
    add(shop, name, [build_step("c118b")], [*steps, deploy_step("staging", "c118b", **latest)])
    before = shop.commits()
    over = until(shop, name, trigger(shop, name), *ENDED)
    assert over["status"] == "ok", over
    assert {step["version"] for step in over["pipeline"]["phases"][1]["steps"]} == {"1.0.0"}
    assert shop.commits() == before + 1
    files = shop.git("show", "--format=", "--name-only", "main").split()
    assert sorted(files) == ["deployments/dev-c118b.yaml", "too.yaml"]
    job = job_of(shop, "staging", "c118b")
    assert (job["version"], job["deployed_version"]) == ("latest", "1.0.0")


def test_releases_are_tagged_and_deployed_by_tag(shop: Works, name: str) -> None:
    """The tag moves to what the run has published; an errand and a smoke test run on what is deployed."""
    scripts = {"deploy": "true", "smoke": "true", "destroy": "true"}
    fields = shop.released("c119", **scripts)
    fields["scripts"]["errands"] = {
        "hello": {"run": {"inline": "test $INPUT_who = you"}, "inputs": [{"id": "who"}]}
    }
    shop.declare("c119", **fields)
    declare(shop, "c119", dev="0.1.0")
    tag = {"type": "tag-release", "namespace": "shop", "application": "c119", "tag": "fresh"}
    target = {"environment": "dev", "deployment": "shop/c119"}
    errand = {"type": "run-errand", "errand_name": "hello", "errand_inputs": {"who": "you"}, **target}
    add(
        shop,
        name,
        [build_step("c119")],
        [tag],
        [deploy_step("dev", "c119", update_version="tagged-version", tag="fresh")],
        [errand],
        [{**errand, "errand_name": "no-such", "errand_inputs": {}, "ignore_failure": True}],
        [{"type": "run-smoke", **target}],
        [{"type": "run-destroy", **target}],
        [{"type": "run-smoke", **target}],
    )
    over = until(shop, name, trigger(shop, name), *ENDED)
    assert [phase for phase, _ in statuses(over)] == [*["ok"] * 7, "failed"]
    assert statuses(over)[4] == ("ok", ["failed"])
    assert step_of(over, 1)["tagged"] == "shop/c119-v1.0.0"
    assert step_of(over, 2)["version"] == "1.0.0"
    assert (over["status"], over["status_reason"]) == ("failed", "not-deployed")


def test_a_tag_that_a_run_moves_is_deployed_where_it_is_followed(shop: Works, name: str) -> None:
    """At once, with nothing else happening."""
    shop.declare("moved", **shop.released("moved", deploy="true"))
    metadata = "name: shop/moved, project: shop, environment: staging"
    spec = {"release": "shop/moved", "version": "beta"}
    shop.commit({"deployments/moved.yaml": document("Deployment", metadata, json.dumps(spec))})
    eventually_now(lambda: resource(shop, "Deployment/shop/staging/shop/moved")["conditions"], SECONDS)
    tag = {"type": "tag-release", "namespace": "shop", "application": "moved", "tag": "beta"}
    add(shop, name, [build_step("moved")], [{"type": "confirmation", "user": "rita"}], [tag])
    run = trigger(shop, name)
    ask = asking(shop, name, run, phase=1)
    time.sleep(1)
    assert job_of(shop, "staging", "moved")["deployed_version"] == ""
    shop["rita"].post(f"{ask}/approve").raise_for_status()
    assert until(shop, name, run, *ENDED)["status"] == "ok"
    eventually_now(lambda: job_of(shop, "staging", "moved")["deployed_version"] == "1.0.0", SECONDS)


def test_steps_wait_for_their_turn_at_a_deployment(shop: Works, name: str) -> None:
    """By arrival: a second run stays queued while the first deploys, and says why; a cancel ends what it started."""
    shop.declare("busy", steps=[{"run_deploy": False}], **shop.released("busy", deploy="sleep 600"))
    declare(shop, "busy", dev="1.0.0")
    add(shop, f"{name}-build", [build_step("busy", name="b")])
    until(shop, f"{name}-build", trigger(shop, f"{name}-build"), "ok", "failed")
    add(shop, name, [deploy_step("dev", "busy")], concurrency="allow")
    first = trigger(shop, name)
    eventually_now(lambda: step_of(run_of(shop, name, first))["status"] == "running", SECONDS)
    second, third = trigger(shop, name), trigger(shop, name)

    def waits() -> Any:
        causes = shop.admin.get(f"/reconciler/why/Pipeline/shop/{name}", headers=shop.native).json()["causes"]
        return [cause["message"] for cause in causes if cause["reason"] == "DeploymentBusy"]

    told = eventually_now(lambda: len(found := waits()) == 2 and found, SECONDS)
    assert "Deployment/shop/dev/shop/busy" in told[0]
    assert step_of(run_of(shop, name, second))["status"] == "queued"
    shop["wendy"].post(f"{of(name)}/executions/{first}/cancel").raise_for_status()
    over = until(shop, name, first, *ENDED)
    assert (over["status_reason"], step_of(over)["status_reason"]) == ("cancelled", "cancelled")
    eventually_now(lambda: step_of(run_of(shop, name, second))["status"] == "running", SECONDS)
    assert step_of(run_of(shop, name, third))["status"] == "queued"
    for each in (third, second):
        shop["wendy"].post(f"{of(name)}/executions/{each}/cancel").raise_for_status()
        assert until(shop, name, each, *ENDED)["status_reason"] == "cancelled"


def test_what_a_run_destroys_stays_so_until_it_ends(shop: Works, name: str) -> None:
    """Then what is declared is put back."""
    shop.declare(
        "gone", steps=[{"run_deploy": False}], **shop.released("gone", deploy="true", destroy="true")
    )
    metadata = "name: shop/gone, project: shop, environment: dev"
    shop.commit({"gone.yaml": document("Deployment", metadata, "{release: shop/gone, version: latest}")})
    target = {"environment": "dev", "deployment": "shop/gone"}
    add(shop, name, [build_step("gone")], [{"type": "confirmation", "user": "rita"}],
        [{"type": "run-destroy", **target}], [{"type": "confirmation", "user": "rita"}])  # fmt: skip
    execution = trigger(shop, name)
    first = asking(shop, name, execution, phase=1)

    def code() -> str:
        path = "/api/v1/state/shop/environments/dev/deployments/?deployment=shop%2Fgone"
        found: str = shop["rita"].get(path).json()["stages"]["deploy"]["status"]["status"]
        return found

    eventually_now(lambda: job_of(shop, "dev", "gone")["deployed_version"] == "1.0.0", SECONDS)
    eventually_now(lambda: code() == "ok", SECONDS)
    shop["rita"].post(f"{first}/approve").raise_for_status()
    last = asking(shop, name, execution, phase=3)
    assert code() == "empty"
    time.sleep(1)
    assert code() == "empty"
    shop["rita"].post(f"{last}/approve").raise_for_status()
    eventually_now(lambda: code() == "ok", SECONDS)


def test_a_kill_starts_nothing_twice(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Killed again and again while phases go on: one execution a step, one commit a version."""
    folder = tmp_path_factory.mktemp("killed")
    with works(folder) as shop:
        build = shop.declare("web", **shop.released("web", build="sleep 0.3", deploy="sleep 0.3"))
        declare(shop, "web", dev="0.1.0", staging="0.1.0")
        last = {"update_version": "last-version-in-pipeline"}
        add(
            shop,
            name,
            [build_step("web")],
            [deploy_step("dev", "web", **last)],
            [deploy_step("staging", "web", **last)],
        )
        before = shop.commits()
        execution = trigger(shop, name)
        for pause in (0.2, 0.7, 0.9, 1.1):
            time.sleep(pause)
            shop.running.kill()
            again = start(shop.repo.path, folder / "data", **ALLOWED)
            shop.running.popen, shop.running.url = again.popen, again.url
            shop.url = again.url
            for client in (shop.admin, *shop.clients.values()):
                client.base_url = again.url
            again.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        over = until(shop, name, execution, *ENDED)
        made = shop["rita"].get(f"{build.path}/executions/").json()
        assert len(made) == 1
        if over["status"] == "ok":
            assert shop.commits() == before + 2
            for environment in ("dev", "staging"):
                path = f"{JOBS}/by-environment/{environment}/by-name/shop%2Fweb/executions/"
                assert len(shop["rita"].get(path).json()) == 1
        else:
            assert over["status_reason"] == "worker-lost", over
        stop(shop.running)


ALLOWED = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
