"""Deployments and pipelines by hand, over HTTP and on the command line: trigger, why, status, get, plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import FINISHED, Api
from tests.api.test_access import is_problem
from tests.api.test_cli import sentence
from tests.shop import Shop
from tests.support import eventually_now, process

WEB = "Deployment/shop/prod/web"
AUTO = "Deployment/shop/dev/auto"
OWN = "Deployment/shop/dev/own"
PIPELINE = "Pipeline/shop/release"
ERRAND = {
    "description": "Dump",
    "inline": "echo $INPUT_bucket $INPUT_times $INPUT_all >> {marks}/errands",
    "inputs": [
        {"id": "bucket"},
        {"id": "times", "type": "integer", "default": 1},
        {"id": "all", "type": "bool", "default": False},
        {"id": "tables", "type": "list", "default": []},
    ],
}


class Yard(Api):
    """A shop with two releases, deployed to `dev` by itself and to `prod` by hand."""

    shop: Shop

    def made(self, key: str, **body: Any) -> dict[str, Any]:
        """What a trigger answers."""
        answer = self.client.post("/reconciler/trigger", json={"key": key} | body)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def act(self, key: str, **body: Any) -> dict[str, Any]:
        """The finished job of a trigger."""
        return self.running.job(self.made(key, **body)["number"], *FINISHED)

    def refused(self, status: int, title: str, *words: str, **body: Any) -> None:
        """A trigger that is told why not, and starts nothing."""
        before = self.get("/reconciler/jobs", limit=1)["items"]
        answer = self.client.post("/reconciler/trigger", json=body)
        problem = is_problem(answer)
        assert (answer.status_code, problem["title"]) == (status, title), problem
        for word in words:
            assert word in problem["detail"]
        assert self.get("/reconciler/jobs", limit=1)["items"] == before

    def standing(self, key: str) -> dict[str, Any]:
        """What stands of a deployment."""
        found: dict[str, Any] = self.get(f"/reconciler/resources/{key}")["deployed"]
        return found

    def apply(self) -> None:
        """Commit what is declared, and wait for it."""
        self.shop.commit()
        assert self.client.post("/reconciler/sync", json={}).status_code == 200


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    shop = Shop(folder)
    inline = ERRAND | {"inline": str(ERRAND["inline"]).format(marks=shop.marks)}
    shop.push({"escape.yml": shop.plan(errands={"backup": inline})})
    shop.build({"run_deploy": False, "run_destroy_build": False})
    shop.deployment("web", {"release": "shop/web", "version": "1.0.0", "reconcile": "manual"})
    shop.deployment("auto", {"release": "shop/web", "version": "1.0.@"}, "dev")
    shop.deployment("none", {"release": "shop/web"})
    shop.deployment("off", {"release": "shop/web", "version": "1.0.0", "disabled": True})
    shop.deployment("rest", {"release": "shop/web", "version": "1.0.0", "suspend": True})
    own = {"deploy": {"script": "bin/up.sh"}, "destroy": {"inline": "true"}}
    shop.deployment("own", {"scripts": own, "includes": ["bin/**"], "on_delete": "destroy"}, "dev")
    ask = {"name": "ask", "steps": [{"type": "confirmation", "user": "admin"}]}
    shop.declare("Pipeline", "release", {"phases": [ask]}, project="shop")
    shop.declare("Pipeline", "off", {"phases": [], "disabled": True}, project="shop")
    shop.commit({"bin/up.sh": "#!/bin/sh\necho up\n"})
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
    with process(shop.specs.path, folder / "data", **settings) as running, running.client() as client:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        yard = Yard(running, shop.specs, client)
        yard.shop = shop
        for _ in ("1.0.0", "1.0.1"):
            assert yard.act("Build/shop/dev/web")["state"] == "passed"
        assert yard.act(WEB)["state"] == "passed"
        for key, version in ((AUTO, "1.0.1"), (OWN, "")):
            eventually_now(lambda k=key, v=version: _is_up(yard.standing(k), v))
        yield yard


def _is_up(standing: dict[str, Any] | None, version: str) -> bool:
    return standing is not None and standing["status"] == "ok" and version in (standing["version"] or "")


def test_a_deployment_is_deployed_as_it_is_declared(yard: Yard) -> None:
    """A job with number and id, which says who wanted it."""
    made = yard.made(WEB)
    assert made.keys() == {"number", "id"}
    job = yard.running.job(made["number"], *FINISHED)
    assert (job["state"], job["key"], job["tasks"][0]["name"]) == ("passed", WEB, "deploy")
    assert (job["trigger"]["type"], job["trigger"]["user"]) == ("manual", "admin")
    standing = yard.standing(WEB)
    assert (standing["release"], standing["version"], standing["status"]) == ("shop/web", "1.0.0", "ok")


def test_smoke_errand_and_another_version(yard: Yard) -> None:
    """By hand; an errand's inputs arrive as what they are; another version only where nothing puts it back."""
    assert yard.act(WEB, action="smoke")["tasks"][0]["name"] == "smoke"
    given = {"bucket": "b 1", "times": "3", "all": "true"}
    assert yard.act(WEB, errand="backup", inputs=given)["state"] == "passed"
    assert (yard.shop.marks / "errands").read_text().split("\n")[-2].startswith("b 1 3 ")
    assert yard.act(WEB, version="1.0.1")["state"] == "passed"
    assert yard.standing(WEB)["version"] == "1.0.1"
    eventually_now(lambda: yard.get(f"/reconciler/resources/{WEB}")["sync"] == "OutOfSync")
    why = yard.get(f"/reconciler/why/{WEB}")["causes"]
    assert [cause["reason"] for cause in why] == ["Manual"]
    assert f"steersman trigger {WEB}" in why[0]["message"]
    assert yard.act(WEB)["state"] == "passed"
    assert yard.standing(WEB)["version"] == "1.0.0"
    assert yard.act(AUTO, version="1.0.@")["state"] == "passed"  # just what is declared


@pytest.mark.parametrize(
    ("body", "status", "title", "words"),
    [
        ({"key": WEB, "inputs": {"a": "b"}}, 422, "InputsAreDeclared", "--errand"),
        ({"key": WEB, "branch": "main"}, 422, "NoUse", "releases"),
        ({"key": WEB, "commit": "a" * 40}, 422, "NoUse", "releases"),
        ({"key": WEB, "version": "9.9"}, 422, "NoSuchRelease", "steersman releases"),
        ({"key": WEB, "version": "--upload-pack=x"}, 422, "InvalidVersion", "1.4.12"),
        ({"key": WEB, "version": "1.0\n"}, 422, "InvalidVersion", "1.4.12"),
        ({"key": WEB, "version": "1.0.1", "action": "smoke"}, 422, "NoUse", "deploy"),
        ({"key": WEB, "errand": "nope"}, 404, "NoSuchErrand", "backup"),
        ({"key": WEB, "errand": "backup"}, 422, "InvalidField", "bucket"),
        ({"key": WEB, "errand": "backup", "inputs": {"bucket": "b", "x": "1"}}, 422, "InvalidField", "x"),
        (
            {"key": WEB, "errand": "backup", "inputs": {"bucket": "b", "times": "many"}},
            422,
            "InvalidField",
            "integer",
        ),
        (
            {"key": WEB, "errand": "backup", "inputs": {"bucket": "b", "tables": "[" * 700 + "]" * 700}},
            422,
            "InvalidField",
            "tables",
        ),
        ({"key": WEB, "errand": "backup", "action": "smoke"}, 400, "BadRequest", "errand"),
        ({"key": WEB, "action": "errand"}, 400, "BadRequest", "action"),
        ({"key": AUTO, "version": "1.0.0.0"}, 409, "DeclaredVersion", "put back at once"),
        ({"key": AUTO, "action": "destroy"}, 409, "StillDeclared", "suspend: true"),
        ({"key": OWN, "version": "1.0.0"}, 422, "NoUse", "own scripts"),
        ({"key": "Deployment/shop/prod/none"}, 422, "InvalidReference", "no version"),
        ({"key": "Deployment/shop/prod/off"}, 409, "Disabled", "disabled: true"),
        ({"key": "Deployment/shop/prod/rest", "action": "smoke"}, 409, "NotDeployed", "deploy it first"),
        ({"key": "Deployment/shop/prod/rest", "action": "destroy"}, 409, "NotDeployed", "empty"),
        ({"key": "Deployment/shop/prod/nothing"}, 404, "NoSuchResource", "nothing"),
        ({"key": "Build/shop/dev/web", "version": "1.0.0"}, 422, "NoUse", "Build"),
        ({"key": "Build/shop/dev/web", "action": "destroy"}, 422, "NoUse", "action"),
        ({"key": PIPELINE, "branch": "main"}, 422, "NoUse", "Pipeline"),
        ({"key": "Pipeline/shop/off"}, 409, "Disabled", "disabled: true"),
        ({"key": "Project/shop"}, 422, "NotRunnable", "a Build, a Deployment or a Pipeline"),
    ],
)
def test_what_cannot_be_is_told(
    yard: Yard, body: dict[str, Any], status: int, title: str, words: str
) -> None:
    """With the next step, and nothing starts."""
    yard.refused(status, title, words, **body)


def test_a_pipeline_is_started_with_a_payload(yard: Yard) -> None:
    """Its run's number and id; why tells what it waits for, status which run it is."""
    made = yard.made(PIPELINE, inputs={"why": "by hand"})
    assert made.keys() == {"number", "id"}
    why = yard.get(f"/reconciler/why/{PIPELINE}")["causes"]
    assert why[0]["reason"] == "AwaitsConfirmation"
    assert yard.get(f"/reconciler/resources/{PIPELINE}")["newest"]["number"] == made["number"]
    runs = yard.get("/api/v1/pipelines/by-project/shop/by-name/release/executions/")
    assert (runs[0]["run_nr"], runs[0]["payload"]) == (made["number"], {"why": "by hand"})


def test_the_last_good_version_runs_where_git_is_wrong(yard: Yard) -> None:
    """Of a Deployment and of a Pipeline, as of a Build (design 14.8)."""
    good, phases = yard.shop.documents["Deployment/shop/prod/web"], yard.shop.documents[PIPELINE]
    bad = good | {"spec": good["spec"] | {"colour": "red"}}
    wrong = phases | {"spec": phases["spec"] | {"colour": "red"}}
    yard.shop.documents |= {"Deployment/shop/prod/web": bad, PIPELINE: wrong}
    yard.apply()
    try:
        assert yard.get(f"/reconciler/resources/{WEB}")["conditions"][0]["type"] == "Invalid"
        assert yard.act(WEB)["state"] == "passed"
        assert yard.made(PIPELINE)["number"] > 0
    finally:
        yard.shop.documents |= {"Deployment/shop/prod/web": good, PIPELINE: phases}
        yard.apply()


def test_on_the_command_line(yard: Yard) -> None:
    """The same, with what to do next."""
    done = yard.cli("trigger", WEB, "--smoke", "-f")
    assert (done.returncode, "passed" in done.stderr) == (0, True)
    told = yard.cli("trigger", WEB, "--errand", "backup", "-i", "bucket=c", "--output", "json")
    assert json.loads(told.stdout).keys() == {"number", "id"}
    yard.running.job(json.loads(told.stdout)["number"], *FINISHED)
    assert yard.cli("trigger", PIPELINE).stdout.startswith("run ")
    assert "log of its own" in sentence(yard.cli("trigger", PIPELINE, "-f"))
    assert "one of" in sentence(yard.cli("trigger", WEB, "--smoke", "--destroy"))
    assert "DeclaredVersion" in sentence(yard.cli("trigger", AUTO, "--version", "1.0.0"))
    listed = yard.cli("get", "Deployment").stdout
    assert "STANDS" in listed
    row = next(line for line in listed.splitlines() if line.startswith(WEB))
    assert "shop/web-v1.0.0" in row
    assert "nothing" in next(line for line in listed.splitlines() if "/none" in line)
    assert "shop/web-v1.0.0" in yard.cli("status", WEB).stdout
    assert "run " in yard.cli("status", PIPELINE).stdout
    assert "job 1 passed" not in yard.cli("status", WEB).stdout


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("prod/none", "NothingWanted", "no version"),
        ("prod/off", "Disabled", "disabled: true"),
        ("prod/rest", "Suspended", "suspend: true"),
    ],
)
def test_why_nothing_is_deployed(yard: Yard, name: str, reason: str, words: str) -> None:
    """With the line that says so."""
    causes = yard.get(f"/reconciler/why/Deployment/shop/{name}")["causes"]
    assert [cause["reason"] for cause in causes] == [reason]
    assert words in causes[0]["message"]
    assert causes[0]["where"].startswith("shop.yaml:")


def test_why_a_deploy_failed_and_what_runs(yard: Yard) -> None:
    """The job whose log shows it; while one runs, that one."""
    gate = yard.shop.marks / "gate"
    script = {"deploy": {"inline": f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 3"}}
    yard.shop.deployment("bad", {"scripts": script, "reconcile": "manual"})
    yard.apply()
    key = "Deployment/shop/prod/bad"
    number = yard.made(key)["number"]
    yard.running.job(number, "executing")
    causes = yard.get(f"/reconciler/why/{key}")["causes"]
    assert [(cause["reason"], cause["where"]) for cause in causes] == [("AwaitsExecution", f"job/{number}")]
    yard.refused(409, "DeploymentBusy", str(number), key=key)
    gate.touch()
    yard.running.job(number, *FINISHED)
    causes = eventually_now(
        lambda: [
            cause
            for cause in yard.get(f"/reconciler/why/{key}")["causes"]
            if cause["reason"] == "LastDeployFailed"
        ]
    )
    assert f"steersman logs {number}" in causes[0]["message"]
    yard.shop.deployment("bad", None)
    yard.apply()


def foreseen(yard: Yard, **files: str | None) -> dict[str, dict[str, Any]]:
    """The deploys of a branch with what is declared by now, by KEY."""
    yard.shop.specs.git("checkout", "-q", "-B", "proposal", "main")
    try:
        yard.shop.commit({path.replace("__", "/").replace("_", "."): text for path, text in files.items()})
    finally:
        yard.shop.specs.git("checkout", "-q", "main")
    answer = yard.client.post("/reconciler/plan", json={"ref": "proposal"})
    assert answer.status_code == 200, answer.text
    return {each["key"]: each for each in answer.json()["deploys"]}


def test_a_plan_shows_what_is_deployed(yard: Yard) -> None:
    """Version old and new, digest and scripts of the release; nothing for what stands, or is deployed by hand."""
    before = {key: dict(value) for key, value in yard.shop.documents.items()}
    release = yard.get("/reconciler/releases", limit=100)["items"]
    digests = {each["version"]: each["digest"] for each in release}
    standing = yard.standing(AUTO)["version"]
    try:
        assert foreseen(yard) == {}
        yard.shop.deployment("web", {"release": "shop/web", "version": "1.0.1", "reconcile": "manual"})
        yard.shop.deployment("auto", {"release": "shop/web", "version": "1.0.0", "run_smoke": False}, "dev")
        yard.shop.deployment("new", {"release": "shop/web", "version": "latest"})
        yard.shop.deployment("lost", {"release": "shop/web", "version": "7.@"})
        found = foreseen(yard)
        assert found.keys() == {AUTO, "Deployment/shop/prod/new", "Deployment/shop/prod/lost"}
        auto = found[AUTO]
        assert auto["version"] == {"old": standing, "new": "1.0.0", "wanted": "1.0.0"}
        assert (auto["release"], auto["digest"]) == ("shop/web", digests["1.0.0"])
        assert auto["scripts"] == [{"stage": "deploy", "runs": "inline"}]
        new = found["Deployment/shop/prod/new"]
        assert (new["version"]["old"], new["version"]["wanted"]) == ("", "latest")
        assert [each["stage"] for each in new["scripts"]] == ["deploy", "smoke"]
        lost = found["Deployment/shop/prod/lost"]
        assert lost["digest"] is None
        assert "there is no release shop/web 7.@" in lost["trouble"]
        shown = yard.cli("plan", "--ref", "proposal").stdout
        assert f"deploy {AUTO}  {standing} → 1.0.0, digest {digests['1.0.0'][7:19]}; runs deploy\n" in shown
        assert f"nothing → {new['version']['new']} (latest as of now)" in shown
        assert "nothing → 7.@: there is no release" in shown
    finally:
        yard.shop.documents = before


def test_a_plan_looks_at_environments_own_files_and_removals(yard: Yard) -> None:
    """Inputs of an environment, and files that a deployment brings, are deployed too; what leaves is destroyed."""
    before = {key: dict(value) for key, value in yard.shop.documents.items()}
    try:
        found = foreseen(yard, bin__up_sh="#!/bin/sh\necho higher\n")
        assert found.keys() == {OWN}
        assert found[OWN]["scripts"] == [{"stage": "deploy", "runs": "bin/up.sh"}]
        assert (found[OWN]["release"], found[OWN]["version"]["new"]) == (None, "")
        yard.shop.declare("Environment", "dev", {"inputs": {"region": "eu"}}, project="shop")
        assert foreseen(yard).keys() == {AUTO, OWN}
        yard.shop.documents = before | {}
        yard.shop.deployment("own", None, "dev")
        found = foreseen(yard)
        assert found.keys() == {OWN}
        assert found[OWN]["action"] == "destroy"
        assert found[OWN]["scripts"] == [{"stage": "destroy", "runs": "inline"}]
        assert (
            f"destroy {OWN}  its own scripts → nothing; runs destroy"
            in yard.cli("plan", "--ref", "proposal").stdout
        )
    finally:
        yard.shop.documents = before


def test_a_plan_shows_what_it_sets_free(yard: Yard) -> None:
    """What a Freeze holds by now, deploys and errands by hand too, goes once it is taken away."""
    long = {"from": "2020-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}
    yard.shop.declare("Freeze", "peak", {"reason": "Peak", "holds": ["repair", "errand"], **long})
    yard.apply()
    number = yard.made(AUTO)["number"]
    other = yard.made(WEB, errand="backup", inputs={"bucket": "b"})["number"]
    assert foreseen(yard) == {}
    yard.shop.declare("Freeze", "peak", None)
    found = foreseen(yard)
    assert {key: (each["action"], each["gate"]["open"]) for key, each in found.items()} == {
        AUTO: ("deploy", True),
        WEB: ("errand", True),
    }
    stands = yard.standing(AUTO)["version"]
    told = yard.cli("plan", "--ref", "proposal").stdout
    assert f"deploy {AUTO}  {stands} → {stands}, digest" in told
    assert f"errand {WEB}  on {yard.standing(WEB)['version']}, digest" in told
    assert "; runs errand" in told
    yard.apply()
    for each in (number, other):
        assert yard.running.job(each, *FINISHED)["state"] == "passed"


def test_a_plan_of_files_shows_it_too(yard: Yard) -> None:
    """Without a commit; and somebody without a role on it is not shown it."""
    text = "\n---\n".join(json.dumps(document) for document in yard.shop.documents.values())
    changed = text.replace('"version": "1.0.@"', '"version": "1.0.0"')
    answer = yard.client.post("/reconciler/plan", json={"files": {"shop.yaml": changed}})
    assert [each["key"] for each in answer.json()["deploys"]] == [AUTO]


def test_destroyed_by_hand(yard: Yard) -> None:
    """What is deployed by hand is destroyed by hand, once; a test of it is refused then."""
    assert yard.act(WEB, action="destroy")["state"] == "passed"
    assert yard.standing(WEB)["status"] == "empty"
    yard.refused(409, "NotDeployed", key=WEB, action="destroy")
    yard.refused(409, "NotDeployed", "steersman trigger", key=WEB, action="smoke")
    assert yard.act(WEB)["state"] == "passed"
