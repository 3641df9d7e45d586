"""One daemon in which every endpoint has something to answer about, and the situations that its errors need.

A situation is a function of the ground which makes something so, if it is not yet, and gives the parameters of a path
that it is about. What it commits is taken back before the next test; what runs stays, and is found again.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.api.escape.conftest import World, binding, document
from tests.escape_worker import worker
from tests.support import Process, SpecRepository, eventually_now, process

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(24)
JOBS = "/api/v1/deployment-jobs/by-project/shop/by-environment/dev/by-name"
BUILDS = "/api/v1/state/shop/environments/dev/builds/by-name"
PIPELINES = "/api/v1/pipelines/by-project/shop/by-name"
ENDED = ("ok", "failed")
SECONDS = 30.0
SETTINGS = {
    "STEERSMAN_ALLOW_UNSANDBOXED": "1",
    "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
    "STEERSMAN_STOP_GRACE_SECONDS": "0.5",
    "STEERSMAN_PRIVATE_ADDRESSES": "1",
}

Parameters = dict[str, str]
Situation = Callable[["Ground"], Parameters]

_WEB = {
    "release": {
        "namespace": "shop",
        "application": "web",
        "version": "1.0.@",
        "inputs": [{"id": "wait", "default": ""}],
        "outputs": [{"id": "url", "default": ""}],
        "provides": ["web"],
    },
    "scripts": {
        "build": {"inline": "echo built"},
        "deploy": {"inline": '[ -z "$INPUT_wait" ] || exec sleep 600; echo \'{"url": "http://web"}\' > $1'},
        "smoke": {"inline": "true"},
        "destroy": {"inline": "true"},
        "errands": {
            "backup": {
                "run": {"inline": "true"},
                "inputs": [{"id": "bucket", "type": "string", "default": "b"}],
            }
        },
    },
    "steps": [{"run_deploy": False, "run_destroy_build": False}],
}
_ROLES = {"alice": "owner", "wendy": "write", "rita": "read"}
_ASK = {"name": "ask", "steps": [{"type": "confirmation", "user": "rita"}]}
_HOOK = [{"type": "webhook", "name": "ci"}]
_AS = {"service_account_name": "deployer", "service_account_team": "platform"}


def _pipelines() -> dict[str, dict[str, Any]]:
    build = {"type": "build", "environment": "dev", "build": "web"}
    start = {"type": "pipeline-trigger", "pipeline": "release"}
    return {
        "release": {"phases": [_ASK], "triggers": _HOOK, "concurrency": "allow", **_AS},
        "off": {"phases": [_ASK], "triggers": _HOOK, "disabled": True, **_AS},
        "nobody": {"triggers": _HOOK},
        "spare": {"phases": []},
        "names": {"phases": [{"name": "p", "steps": [build, start]}]},
    }


def _deployments() -> dict[str, dict[str, Any]]:
    web = {"release": "shop/web", "version": "1.0.0", "reconcile": "manual"}
    return {
        "shop/web": web,
        "shop/never": web,
        "shop/standing": web,
        "shop/slow": {**web, "inputs": {"wait": "yes"}},
        "shop/off": {**web, "disabled": True},
        "shop/user": {**web, "providers": {"web": "shop/web"}},
    }


def _builds() -> dict[str, dict[str, Any]]:
    quick = {
        "repo": "web",
        "steps": [{"run_deploy": False}],
        "release": {"namespace": "shop", "version": "0.1.@"},
    }
    return {
        "web": {"repo": "web", **_WEB},
        "spare": {**quick, "scripts": {"build": {"inline": "true"}}},
        "slow": {**quick, "scripts": {"build": {"inline": "exec sleep 600"}}},
        "off": {**quick, "scripts": {"build": {"inline": "true"}}, "disabled": True},
    }


def _many(kind: str, scope: str, specs: dict[str, dict[str, Any]]) -> str:
    return "---\n".join(
        document(kind, f"name: {name}, {scope}", json.dumps(spec)) for name, spec in specs.items()
    )


def files(code: Path, worker_url: str) -> dict[str, str]:
    """The specs: alice owns, wendy writes, rita reads, pia writes in `dev` only; nobody has no role at all."""
    logo = base64.b64encode(IMAGE).decode()
    shop = {"environment_order": ["dev", "staging"], "namespaces": [{"name": "shop"}], "logo": logo}
    handed = {"remote_escape_worker_url": worker_url}
    builds = _builds() | {"remote": {"repo": "web", **_WEB, **handed}}
    deployments = _deployments()
    deployments["shop/remote"] = {**deployments["shop/web"], **handed}
    people = [
        *(document("User", f"name: {name}") for name in (*_ROLES, "pia", "nobody")),
        document("Team", "name: platform", "{members: [alice]}"),
        document("Team", "name: ops", "{members: [rita]}"),
        *(
            document("ServiceAccount", f"name: {name}, team: platform")
            for name in ("deployer", "builder", "helper")
        ),
        *(
            binding(f"{role}-of-{project}", role, f"project: {project}", f"{{kind: User, name: {name}}}")
            for project in ("shop", "docs")
            for name, role in _ROLES.items()
        ),
        binding("ops", "read", "project: shop", "{kind: Team, name: ops}"),
        binding("dev", "write", "project: shop, environment: dev", "{kind: User, name: pia}"),
        *(
            binding(name, "write", "project: shop", f"{{kind: ServiceAccount, team: platform, name: {name}}}")
            for name in ("deployer", "builder")
        ),
    ]
    executor = {"images": {"host": {"type": "host"}}, "default_image": "host", "max_load": 16}
    return {
        "executor.yaml": document("Executor", "name: local", json.dumps(executor)),
        "shop.yaml": document("Project", "name: shop", json.dumps(shop)),
        "docs.yaml": document("Project", "name: docs", "{namespaces: [{name: docs}]}"),
        "environments.yaml": _many("Environment", "project: shop", {"dev": {}, "staging": {}}),
        "repositories.yaml": _many(
            "Repository", "project: shop", {"web": {"url": str(code)}, "spare": {"url": str(code)}}
        ),
        "builds.yaml": _many("Build", "project: shop, environment: dev", builds),
        "nightly.yaml": document(
            "Build",
            "name: nightly, project: shop, environment: staging",
            "{tasks: [{name: main, run: 'true'}]}",
        ),
        "deployments.yaml": _many("Deployment", "project: shop, environment: dev", deployments),
        "pipelines.yaml": _many("Pipeline", "project: shop", _pipelines()),
        "people.yaml": "---\n".join(people),
    }


class Ground(World):
    """The daemon, its specs as they are at rest, and what has been run in it."""

    def __init__(self, running: Process, repo: SpecRepository, specs: dict[str, str]) -> None:
        super().__init__(running, repo)
        self.specs = specs
        self.rest = repo.head()
        self.released = self.ended_build("web", self.start_build("web"))["id"]
        self.deployed = self.ended_job("shop/web", self.start_job("shop/web"))["id"]

    def reset(self) -> None:
        """The specs as they were, if anybody has changed them."""
        self.repo.git("reset", "-q", "--hard")
        self.repo.git("clean", "-qfd")
        if self.repo.head() != self.rest:
            there = [
                name for name in self.repo.git("ls-files").split("\n") if name and name not in self.specs
            ]
            self.commit({**dict.fromkeys(there), **self.specs})
            self.rest = self.repo.head()

    def change(self, kind: str, name: str, **fields: Any) -> None:
        """A declared resource with other fields, as a person commits it, until the next test."""
        scope, specs = {
            "Build": ("project: shop, environment: dev", _builds()),
            "Deployment": ("project: shop, environment: dev", _deployments()),
            "Pipeline": ("project: shop", _pipelines()),
        }[kind]
        path = f"{kind.lower()}s.yaml"
        old, new = ({name: specs[name] | more} for more in ({}, fields))
        text = self.specs[path].replace(_many(kind, scope, old), _many(kind, scope, new))
        assert text != self.specs[path]
        self.commit({path: text})

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """By the administrator, who must succeed."""
        answer = self.admin.request(method, path, **more)
        assert answer.status_code == 200, f"{answer.text}\n{self.running.log()}"
        return answer.json() if answer.content else None

    def start_build(self, name: str) -> str:
        """A new execution."""
        return str(self.ask("POST", f"{BUILDS}/{name}/trigger-build")["id"])

    def start_job(self, name: str) -> str:
        """A new execution."""
        return str(self.ask("POST", f"{JOBS}/{quote(name, safe='')}/trigger")["id"])

    def ended_build(self, name: str, execution: str) -> dict[str, Any]:
        """An execution once it is ok."""
        return self._good(f"{BUILDS}/{name}/executions/{execution}/")

    def ended_job(self, name: str, execution: str) -> dict[str, Any]:
        """An execution once it is ok."""
        return self._good(f"{JOBS}/{quote(name, safe='')}/executions/{execution}/")

    def active(self, path: str, start: Callable[[], str]) -> str:
        """An execution that runs: the one there is, or a new one."""
        known = [each["id"] for each in self.ask("GET", f"{path}?status=running")]
        execution = known[0] if known else start()
        self.until(f"{path}{execution}/", lambda found: found["status"] == "running")
        return execution

    def until(self, path: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """An answer once it is so."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.ask("GET", path)
            return found if check(found) else None

        found: dict[str, Any] = eventually_now(look, SECONDS)
        return found

    def _good(self, path: str) -> dict[str, Any]:
        found = self.until(path, lambda found: found["status"] in ENDED)
        assert found["status"] == "ok", f"{found}\n{self.ask('GET', path + 'logs')}"
        return found


@contextlib.contextmanager
def ground_in(folder: Path) -> Iterator[Ground]:
    """Started once for all rows of the table."""
    code = SpecRepository(folder / "code")
    code.commit({"README.md": "# Code\n"})
    with worker() as hands:
        specs = files(code.path, hands.url)
        repo = SpecRepository(folder / "specs")
        repo.commit(dict(specs))
        with process(repo.path, folder / "data", **SETTINGS) as running, contextlib.ExitStack() as stack:
            running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
            found = Ground(running, repo, specs)
            for client in (found.admin, *found.clients.values()):
                stack.callback(client.close)
            yield found


# -- builds


def built(ground: Ground) -> Parameters:
    """An execution of a build that has ended."""
    return {"build_execution_id": ground.released}


def building(ground: Ground) -> Parameters:
    """One that runs here, and goes on."""
    execution = ground.active(f"{BUILDS}/slow/executions/", lambda: ground.start_build("slow"))
    return {"build": "slow", "build_execution_id": execution}


def queued(ground: Ground) -> Parameters:
    """One that waits for another."""
    building(ground)
    return {"build": "slow", "build_execution_id": ground.start_build("slow")}


def handed(ground: Ground) -> Parameters:
    """One that an external worker runs, which has said nothing yet."""
    path = f"{BUILDS}/remote/executions/"
    for each in ground.ask("GET", path):
        if each["status"] not in ENDED:
            over(ground, f"{path}{each['id']}/logs")
            ground.until(f"{path}{each['id']}/", lambda found: found["status"] in ENDED)
    execution = ground.active(path, lambda: ground.start_build("remote"))
    return {"build": "remote", "build_execution_id": execution}


def committed(ground: Ground) -> Parameters:
    """The same, whose commit is known."""
    found = handed(ground)
    path = f"{BUILDS}/remote/executions/{found['build_execution_id']}/commit"
    ground.ask("PUT", path, json={"git_revision": "a" * 40})
    return found


def closed(ground: Ground) -> Parameters:
    """The same, after the last word."""
    found = handed(ground)
    over(ground, f"{BUILDS}/remote/executions/{found['build_execution_id']}/logs")
    return found


def over(ground: Ground, path: str) -> None:
    """What a worker says at last."""
    ground.ask("POST", path, json={"entries": [], "status": "ok"})


def build_disabled(ground: Ground) -> Parameters:
    """It has run, and may not any more."""
    ground.change("Build", "web", disabled=True)
    return built(ground)


def build_invalid(ground: Ground) -> Parameters:
    """Its newest declaration is none."""
    ground.change("Build", "spare", timeout_seconds="long")
    return {"build": "spare"}


def code_of(name: str) -> Situation:
    """The webhook's code of a build."""

    def situation(ground: Ground) -> Parameters:
        return {"code": ground.ask("GET", f"{BUILDS}/{name}/")["webhook_token"]}

    return situation


# -- deployments


def settled(ground: Ground) -> Parameters:
    """Nothing is done to what stands."""
    _quiet(ground, "shop/web")
    return {"execution_id": ground.deployed}


def standing(ground: Ground) -> Parameters:
    """Another one, which stands and which nobody uses."""
    _quiet(ground, "shop/standing")
    if not ground.ask("GET", f"{JOBS}/shop%2Fstanding/")["deployed_version"]:
        ground.ended_job("shop/standing", ground.start_job("shop/standing"))
    return {"deployment": "shop/standing"}


def _quiet(ground: Ground, name: str) -> None:
    for each in ground.ask("GET", f"{JOBS}/{quote(name, safe='')}/executions/"):
        if each["status"] not in ENDED:
            ground.ended_job(name, each["id"])


def consumed(ground: Ground) -> Parameters:
    """Another deployment has the outputs of what stands."""
    settled(ground)
    stage = {"version": "1", "providers": {"web": "shop/web"}, "status": {"status": "ok"}}
    update = {"path": "shop/reader", "root_stage": "", "state": {"stages": {"deploy": stage}}}
    path = "/api/v1/state/shop/environments/dev/deployments/"
    ground.ask("PUT", f"{path}?deployment=shop/reader", json=update)
    return {"deployment": "shop/web"}


def known(ground: Ground) -> Parameters:
    """A state that a client has put, of what nobody declares."""
    path = "/api/v1/state/shop/environments/dev/deployments/"
    update = {"path": "shop/put", "root_stage": "", "state": {"stages": {}}}
    ground.ask("PUT", f"{path}?deployment=shop/put", json=update)
    return {}


def deploying(ground: Ground) -> Parameters:
    """A deploy that goes on."""
    execution = ground.active(f"{JOBS}/shop%2Fslow/executions/", lambda: ground.start_job("shop/slow"))
    return {"deployment": "shop/slow", "execution_id": execution}


def beside_deploying(ground: Ground) -> Parameters:
    """One that has ended, of a deployment at which something runs again."""
    deploying(ground)
    ended = ground.ask("GET", f"{JOBS}/shop%2Fslow/executions/?status=failed")
    if ended:
        return {"deployment": "shop/slow", "execution_id": ended[0]["id"]}
    first = deploying(ground)
    ground.ask("POST", f"{JOBS}/shop%2Fslow/executions/{first['execution_id']}/cancel")
    ground.until(f"{JOBS}/shop%2Fslow/executions/{first['execution_id']}/", lambda e: e["status"] in ENDED)
    deploying(ground)
    return first


def job_handed(ground: Ground) -> Parameters:
    """A deploy that an external worker does."""
    execution = ground.active(f"{JOBS}/shop%2Fremote/executions/", lambda: ground.start_job("shop/remote"))
    return {"deployment": "shop/remote", "execution_id": execution}


def job_closed(ground: Ground) -> Parameters:
    """The same, after the last word."""
    found = job_handed(ground)
    over(ground, f"{JOBS}/shop%2Fremote/executions/{found['execution_id']}/logs")
    return found


def job_disabled(ground: Ground) -> Parameters:
    """It stands, and nothing may be done to it any more."""
    found = settled(ground)
    ground.change("Deployment", "shop/web", disabled=True)
    return found


# -- pipelines


def asking(ground: Ground) -> Parameters:
    """A run that waits for rita, and the code that she is given."""
    run = str(ground.ask("POST", f"{PIPELINES}/release/trigger")["id"])
    path = f"{PIPELINES}/release/executions/{run}/"

    def code() -> str | None:
        found = ground["rita"].get(path).json()["pipeline"]["phases"][0]["steps"][0]
        return found.get("confirmation", {}).get("code")

    return {"pipeline_execution_id": run, "code": str(eventually_now(code, SECONDS))}


def approved(ground: Ground) -> Parameters:
    """The same, decided."""
    return _said(ground, "approve")


def disapproved(ground: Ground) -> Parameters:
    """The same, decided the other way."""
    return _said(ground, "disapprove")


def _said(ground: Ground, verb: str) -> Parameters:
    found = asking(ground)
    path = f"{PIPELINES}/release/executions/{found['pipeline_execution_id']}/"
    answer = ground["rita"].get(f"{path}confirmation/{found['code']}/{verb}")
    assert answer.status_code == 200, answer.text
    ground.until(path, lambda run: run["status"] in ENDED)
    return found


def cancelled(ground: Ground) -> Parameters:
    """A run that was called off while it waited."""
    found = asking(ground)
    path = f"{PIPELINES}/release/executions/{found['pipeline_execution_id']}/"
    ground.ask("POST", f"{path}cancel")
    ground.until(path, lambda run: run["status"] in ENDED)
    return found


def asking_spare(ground: Ground) -> Parameters:
    """A run that waits, of a pipeline that no other one starts."""
    ground.change("Pipeline", "spare", phases=[_ASK])
    run = str(ground.ask("POST", f"{PIPELINES}/spare/trigger")["id"])
    return {"pipeline": "spare", "pipeline_execution_id": run}


def pipeline_disabled(ground: Ground) -> Parameters:
    """A run that failed, of a pipeline that may not run any more."""
    found = cancelled(ground)
    ground.change("Pipeline", "release", disabled=True)
    return found


def pipeline_invalid(ground: Ground) -> Parameters:
    """Its newest declaration is none."""
    ground.change("Pipeline", "spare", timeout_seconds="long")
    return {"pipeline": "spare"}


def pipeline_code(name: str) -> Situation:
    """The code of a pipeline's trigger."""

    def situation(ground: Ground) -> Parameters:
        (trigger,) = ground.ask("GET", f"{PIPELINES}/{name}/")["triggers"]
        return {"code": trigger["webhooktoken"]}

    return situation
