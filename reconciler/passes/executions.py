"""Executions that are to be started: what they will do is settled here, before the transaction that makes them.

Called by the passes of deployments and pipelines, and by the doors. What is settled stands in the job's specification:
version, package, inputs and scripts do not change any more when Git does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.apply import gate as gate_apply
from reconciler.apply import jobs as apply
from reconciler.controllers.builds import inputs_of
from reconciler.controllers.deployments import MOST_TRIES
from reconciler.errors import Conflict, NotFound, Refused, Waiting
from reconciler.execution.packages import PackageError
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.gate import Deploy
from reconciler.model.job import Checkout, Reason
from reconciler.model.release import Release
from reconciler.model.request import Subject
from reconciler.model.resource import Resource
from reconciler.passes import gate, wanted
from reconciler.passes.builds import Repository, branch_of, mirror_of, repository_of
from reconciler.passes.wanted import AS_DECLARED
from reconciler.passes.wanted import Asked as Asked
from reconciler.source.git import Mirror
from reconciler.store import deployments, releases
from reconciler.store import jobs as rows
from reconciler.store.database import Connection, Write
from reconciler.store.jobs import NewJob
from specs.build import work_digest
from specs.build_work import built_in
from specs.digest import digest
from specs.release import NO_NAMESPACE

_AS_TASK = ("traits", "image", "network", "load", "secrets")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An execution that can be made. `task`: the one of a Deployment; of a Build all comes from its specification.

    `deploy`: how the gate knows what is done to a Deployment, None for what is only looked at; `judgement`: whether it
    may go at once.
    """

    resource: Resource
    type: Type
    checkout: Checkout = field(default_factory=Checkout)
    inputs: Mapping[str, str] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    deploy: Deploy | None = None
    judgement: gate.Judgement = field(default_factory=gate.Judgement)


@dataclass(frozen=True, slots=True)
class Made:
    """A job's number, and its id."""

    number: int
    id: str


def make(
    write: Write, prepared: Prepared, trigger: Mapping[str, Any], actor: str, *, retry_of: int | None = None
) -> Made:
    """Make the job, in the caller's transaction. Conflict where a deployment is busy."""
    trigger = {**trigger, **prepared.more}
    resource = prepared.resource
    if prepared.type is Type.BUILD:
        spec = resource.spec or {}
        work = work_digest(spec, prepared.checkout.url)
        order = apply.Order(resource, work, prepared.checkout, trigger, prepared.inputs, actor)
        number = apply.create(write, order)
    else:
        deploy, held = prepared.deploy, not prepared.judgement.open
        by_hand = trigger["type"] not in ("reconcile", "check")
        task = dict(prepared.task)
        if deploy is not None:
            deploy = replace(deploy, by_hand=by_hand)
            deployed = {**(task["stages"].get("deployed") or {}), "gate": deploy.digest}
            task["stages"] = {**task["stages"], "gate": deploy.to_dict(), "deployed": deployed}
            if deploy.type is not Type.ERRAND:
                gate_apply.supersede(write, resource.key)
        specification = {
            "resource": resource.key,
            "generation": resource.generation,
            "revision": resource.revision,
            "timeout_seconds": (resource.spec or {}).get("timeout_seconds"),
            "concurrency": "allow",
            "priority": 0,
            "branch": None,
            "tasks": [task],
        }
        new = NewJob(
            key=resource.key,
            specification=specification,
            work_digest=str(prepared.task["stages"].get("signature") or ""),
            checkout=Checkout(),
            trigger=trigger,
            inputs={},
            actor=actor,
            retry_of=retry_of,
            held=held,
            reason=Reason.HELD if held else None,
        )
        number = apply.insert(write, new)
        if deploy is not None and held:
            gate_apply.hold(write, gate.hold_of(number, deploy, prepared.judgement, write.now))
        elif deploy is not None and prepared.judgement.register:
            _record(write, number, deploy, prepared.judgement)
    write.wake("dispatch")
    job = rows.load(write.connection, number, scripts=False)
    if job is None:
        raise RuntimeError(f"job {number} is gone")
    return Made(number, job.id)


def _record(write: Write, number: int, deploy: Deploy, judgement: gate.Judgement) -> None:
    """What only records, and what the time alone approves, holds nothing, and is asked all the same."""
    job = rows.load(write.connection, number, scripts=False)
    if job is not None:
        some = [(job, deploy, asked, (job.actor,)) for asked in judgement.register]
        gate_apply.ask(write, some, {}, judgement.zone)


# -- builds


async def prepare_build(
    installation: Installation,
    resource: Resource,
    *,
    branch: str | None = None,
    commit: str | None = None,
    variables: Mapping[str, str] | None = None,
    steps: list[int] | None = None,
    only_changed: bool = False,
) -> Prepared:
    """A run of a Build: its head, or the commit that is asked for. Conflict, Refused."""
    spec = _ready(resource)
    repository = repository_of(installation, resource)
    checkout = await checkout_of(installation, resource, repository, branch, commit)
    more: dict[str, Any] = {}
    if steps is not None:
        count = len(spec.get("steps") or ())
        if not spec.get("steps_from_yml") and any(not 0 <= number < count for number in steps):
            raise Refused("InvalidField", f"steps: {resource.key} has steps 0 to {count - 1}")
        more["steps"] = sorted(set(steps))
    if only_changed:
        more["only_changed"] = True
    return Prepared(resource, Type.BUILD, checkout, inputs_of(spec, variables or {}), more=more)


async def checkout_of(
    installation: Installation,
    resource: Resource,
    repository: Repository | None,
    branch: str | None,
    commit: str | None,
) -> Checkout:
    """The commit that a start by hand means; with both, one that is on that branch. Refused."""
    if repository is None:
        if branch or commit:
            raise Refused("NoRepository", f"{resource.key} has no repo, so branch and commit mean nothing")
        return Checkout()
    age = 5 if commit is not None and branch is None else 0
    mirror = await mirror_of(installation, repository.url, age, repository.secret)
    if commit is not None:
        found = await mirror.resolve(commit)
        if found is None:
            raise Refused("CommitGone", f"{repository.url} has no commit {commit}")
        if branch is not None:
            await _check_on_branch(mirror, repository, found, branch)
        return Checkout(repository.url, found, await mirror.tree_of(found), branch, secret=repository.secret)
    name = branch or branch_of(resource.spec or {}, repository) or await mirror.default_branch()
    if not name:
        raise Refused("BranchMissing", f"{repository.url} is empty")
    head = await _head(mirror, repository, name)
    return Checkout(repository.url, head, await mirror.tree_of(head), name, secret=repository.secret)


async def _check_on_branch(mirror: Mirror, repository: Repository, commit: str, branch: str) -> None:
    """Tasks kept to a branch must not run what has not come to it. Refused."""
    if not await mirror.is_ancestor(commit, await _head(mirror, repository, branch)):
        raise Refused("NotOnBranch", f"commit {commit[:10]} is not on {branch}; leave the branch out")


async def _head(mirror: Mirror, repository: Repository, branch: str) -> str:
    head = await mirror.head(branch)
    if head is None:
        raise Refused("BranchMissing", f"{repository.url} has no branch {branch}")
    return head


# -- deployments


async def prepare_deployment(
    installation: Installation,
    resource: Resource,
    type: Type,
    asked: Asked = AS_DECLARED,
    seen: wanted.Wanted | None = None,
) -> Prepared:
    """Something to be done to a Deployment. `seen`: what it wants, if that is known. Conflict, NotFound, Refused."""
    spec = _ready(resource)
    if seen is None:
        seen = await wanted.look(installation, resource, asked, need_release=type is Type.DEPLOY)
    if type is Type.DEPLOY:
        if seen.fault is not None:
            raise Refused(*seen.fault)
        if asked.patient:
            await _provided(installation, resource, seen)
        if seen.version == "" and seen.own is None:
            raise Refused(
                "InvalidReference", f"{resource.key} wants no version yet; declare one, or name one"
            )
        stages = seen.stages()
    else:
        state = await _free(installation, resource)
        code = state_of.code(state)
        standing = state_of.is_deployed(state) or (type is Type.DESTROY and code != state_of.EMPTY)
        if not standing or (type is Type.ERRAND and code != state_of.OK):
            told = f"{resource.key} is not deployed: its status is {code}"
            if type is not Type.DESTROY:
                told += f"; deploy it first: `steersman trigger {resource.key}`"
            raise Conflict("NotDeployed", told)
        stages = await _deployed(installation, resource, seen, state)
    stages |= {"type": type.value, "run_smoke": bool(spec.get("run_smoke", True))}
    stages["worker"] = spec.get("remote_escape_worker_url") or None
    if type is Type.DESTROY:
        await _unused(installation, resource)
        stages["drop"] = asked.drop
    if type is Type.CHECK:
        stages["check"] = (spec.get("check") or {}).get("run") or "check"
    record: dict[str, Any] = {
        "release": stages.get("release") or "",
        "version": stages.get("version") or "",
        "stages": [],
        "declared": {name: spec.get(name) for name in ("version", "reconcile", "suspend", "run_smoke")},
    }
    if type is Type.ERRAND:
        errand = await _errand(installation, stages, asked.errand_name, asked.errand_inputs)
        hidden = {item["id"] for item in errand["inputs"] if item.get("sensitive")}
        locked = {
            k: wanted.locked_value(installation, resource.key, v) if k in hidden else v
            for k, v in asked.errand_inputs.items()
        }
        stages |= {"errand_name": asked.errand_name, "errand_inputs": locked}
        shown = {k: state_of.HIDDEN if k in hidden else v for k, v in asked.errand_inputs.items()}
        record |= {"errand_name": asked.errand_name, "errand_inputs": shown}
    stages["record"] = record
    own = {name: (spec.get("run_on") or {}).get(name) for name in _AS_TASK}
    task = {
        **built_in(spec),
        **{name: value for name, value in own.items() if value is not None},
        "name": type.value,
        "task": type.value,
        "lost_retries": 0,
        "timeout_seconds": spec.get("timeout_seconds"),
        "stages": stages,
    }
    deploy = deploy_of(resource, type, seen, stages) if type in gate.GATED else None
    judgement = (await gate.look(installation, [deploy]))[0] if deploy is not None else gate.Judgement()
    return Prepared(resource, type, task=task, deploy=deploy, judgement=judgement)


def deploy_of(
    resource: Resource,
    type: Type,
    seen: wanted.Wanted,
    stages: Mapping[str, Any],
) -> Deploy:
    """The parts of what is done, each by its digest (design 8.2)."""
    spec, own = resource.spec or {}, stages.get("own")
    given = {name: stages.get(name) or {} for name in ("inputs", "environment_inputs", "providers")}
    if type is Type.ERRAND:
        given |= {"errand": stages["errand_name"], "errand_inputs": stages["errand_inputs"]}
    signature = str(stages.get("signature") or "")
    release = str(stages.get("release") or spec.get("release") or resource.name)
    subject = Subject(
        target=resource.key,
        package=str(stages.get("digest") or "") if own is None else digest(dict(seen.files)),
        inputs=digest(given),
        scripts=digest([own["scripts"] if own is not None else spec.get("scripts"), stages.get("run_smoke")]),
        version=str(stages.get("version") or ""),
        run_on=digest(
            [spec.get("run_on"), stages.get("identity"), spec.get("remote_escape_worker_url") or None]
        ),
    )
    return Deploy(
        type=type,
        subject=subject,
        release=release if "/" in release else f"{NO_NAMESPACE}/{release}",
        generation=resource.generation,
        signature=signature,
    )


async def _free(installation: Installation, resource: Resource) -> Mapping[str, Any]:
    """The state of a deployment that no execution has. Conflict."""
    place = state_of.of(resource.key)

    def look(connection: Connection) -> tuple[int | None, deployments.Row | None]:
        busy = deployments.busy_with(connection, place)
        return busy, deployments.load(connection, installation.keys, place)

    busy, row = await installation.database.read(look)
    if busy is not None:
        raise Conflict(
            "DeploymentBusy", f"{resource.key} is busy with execution {busy}; wait, or cancel that one"
        )
    return row.state if row is not None else state_of.empty(resource.name)


async def _provided(installation: Installation, resource: Resource, seen: wanted.Wanted) -> None:
    """Providers that it names and that see to themselves stand without failure. Waiting."""
    found = await installation.database.read(
        lambda c: deployments.summaries(c, resource.project, resource.environment)
    )
    for name in seen.providers.values():
        place = state_of.Place(resource.project or "", resource.environment or "", name)
        declared = installation.snapshot.current.resources.get(place.key)
        spec = (declared.spec if declared is not None else None) or {}
        by_hand = spec.get("reconcile") == "manual" or spec.get("suspend") or spec.get("disabled")
        if not spec or by_hand:
            continue
        row = found.get(place)
        if row is None or (state_of.code(row.state) != state_of.OK and row.tried < MOST_TRIES):
            raise Waiting("Providers", f"{resource.key} waits for {place.key}, which it consumes")


async def _deployed(
    installation: Installation, resource: Resource, seen: wanted.Wanted, state: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands there is what something is done to: not what is declared by now, and not what a version that was
    overwritten since means.
    """
    if seen.own is not None:
        return seen.stages()
    version = state_of.stage(state, state_of.DEPLOY)["version"]
    namespace, _, application = str(state["release"]).partition("/")

    def find(connection: Connection) -> tuple[Release | None, dict[str, Any]]:
        deployed = deployments.deployed_of(connection, state_of.of(resource.key))
        return releases.find(connection, namespace, application, version), deployed

    release, deployed = await installation.database.read(find)
    same = (deployed.get("release"), deployed.get("version")) == (state["release"], version)
    digest = deployed.get("digest") if same else None
    digest = digest or (release.digest if release is not None else None)
    if digest is None:
        told = f"there is no release {state['release']}-v{version}, which is deployed as {resource.key}"
        raise Conflict("NoSuchRelease", told)
    return seen.stages() | {"release": state["release"], "version": version, "digest": digest}


async def _errand(
    installation: Installation, stages: Mapping[str, Any], name: str, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The errand of what is deployed, its inputs known. NotFound, Refused."""
    if stages.get("own") is not None:
        errands: Mapping[str, Any] = (stages["own"]["scripts"] or {}).get("errands") or {}
    else:
        plan = await asyncio.to_thread(_plan_of, installation, stages["digest"])
        errands = plan.get("errands") or {}
    errand = errands.get(name)
    if errand is None:
        known = ", ".join(sorted(errands)) or "none"
        raise NotFound(
            "NoSuchErrand", f"there is no errand {name!r} in what is deployed; its errands: {known}"
        )
    errand = {**errand, "inputs": errand.get("inputs") or []}
    ids = {item["id"]: item for item in errand["inputs"]}
    for each, value in given.items():
        if each not in ids:
            raise Refused("InvalidField", f"errand_inputs.{each}: the errand {name} has no such input")
        if fault := _misfit(ids[each], value):
            raise Refused("InvalidField", f"errand_inputs.{each}: {fault}")
    for each, item in ids.items():
        if each not in given and item.get("default") is None:
            raise Refused("InvalidField", f"errand_inputs.{each}: the errand {name} needs it")
    found: Mapping[str, Any] = errand
    return found


def _plan_of(installation: Installation, digest: str) -> Mapping[str, Any]:
    """The plan in a package; nothing where that cannot be read any more. Blocks."""
    around = installation.runs.around
    try:
        return around.packages.plan_of(digest) if around is not None else {}
    except (PackageError, NotFound):
        return {}


def _misfit(item: Mapping[str, Any], value: Any) -> str | None:
    kinds = {"string": str, "list": list, "integer": int, "bool": bool}
    if isinstance(value, Mapping) and "secret_ref" in value:
        return None
    wanted_type = kinds[item.get("type") or "string"]
    if not isinstance(value, wanted_type) or (wanted_type is int and isinstance(value, bool)):
        return f"must be a {item.get('type') or 'string'}"
    if item.get("items") and value not in item["items"]:
        return f"must be one of {', '.join(map(str, item['items']))}"
    return None


async def _unused(installation: Installation, resource: Resource) -> None:
    """Nothing that stands consumes it. Conflict."""
    found = await installation.database.read(
        lambda c: deployments.of_environment(
            c, installation.keys, resource.project or "", resource.environment or ""
        )
    )
    users = state_of.consumers({name: row.state for name, row in found.items()}, resource.name)
    if users:
        raise Conflict("InUse", f"{', '.join(users)} consume {resource.key}; destroy what needs it first")


def _ready(resource: Resource) -> Mapping[str, Any]:
    spec = resource.spec
    if spec is None:
        raise Conflict(
            "SpecInvalid",
            f"{resource.key} never had a good specification; see `steersman why {resource.key}`",
        )
    if spec.get("disabled"):
        raise Conflict("Disabled", f"{resource.key} says `disabled: true` at {resource.location}")
    return spec
