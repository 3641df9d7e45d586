"""What is done to a Deployment: deploy, smoke, destroy, an errand, a check for drift (escape-state, 9.6).

Called by `execution.run` for a claim whose task says `stages: {type: …}` with one of these.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from reconciler.controllers.deployments import failure
from reconciler.execution import processes
from reconciler.execution.packages import PackageError, Packed
from reconciler.execution.stages import parts, values
from reconciler.execution.stages.journal import Failed, Found, Stopped
from reconciler.execution.stages.stage import Provider, Stage
from reconciler.execution.stages.values import ValueFault
from reconciler.execution.stages.world import Run, moment, skipped
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.execution import LOCKED
from reconciler.model.job import Reason, State
from reconciler.store import deployments
from reconciler.store.database import Write
from reconciler.store.jobs import Ending
from specs.plan import with_scripts

_FOLDER = "package"  # of the workspace


@dataclass(frozen=True, slots=True)
class _Package:
    plan: Mapping[str, Any]
    bundled: Mapping[str, Packed]


async def carry_out(run: Run) -> Ending:
    """What the task says."""
    run.journal.record.setdefault("stages", [])
    stage: Stage | None = None
    kind = str(run.wanted["type"])
    try:
        package = await _package(run)
        stage = await _stage(run, package.plan)
        found = await _providers(run, stage, kind)
        try:
            await parts.activate(run, "", stage.place, found)
            await _act(run, replace(stage, providers=found), package, kind)
        except (Failed, Stopped):  # a daemon that stops leaves its scripts at work, and what they use
            await parts.deactivate(run, "", stage.place, found)
            raise
        await parts.deactivate(run, "", stage.place, found)
    except Failed as error:
        await _failed(run, stage, kind, str(error))
        return Ending(error.state, error.reason, error.message)
    except Stopped:
        await _failed(run, stage, kind, "cancelled")
        return Ending(State.ABORTED, Reason.CANCELLED)
    return Ending(State.PASSED, None)


async def _act(run: Run, stage: Stage, package: _Package, kind: str) -> None:
    if kind == "deploy":
        await _deploy(run, stage, package)
    elif kind == "smoke":
        await _smoke(run, stage)
    elif kind == "destroy":
        await _destroy(run, stage, package)
    elif kind == "errand":
        await _errand(run, stage)
    else:
        await _check(run, stage)


async def _providers(run: Run, stage: Stage, kind: str) -> Mapping[str, Provider]:
    """Of a deploy those that it will be wired to; of all else those that it is wired to. Failed."""
    if kind != "deploy":
        return await parts.wired(run, stage)
    explicit = run.wanted.get("providers") or {}
    try:
        return await parts.providers(run, "providers", stage.place, "deploy", stage.plan, explicit)
    except Failed as error:
        await stage.refuse(error.reason, str(error))
        raise


async def _deploy(run: Run, stage: Stage, package: _Package) -> None:
    wanted = run.wanted
    try:
        needed = await parts.fetch(run, "dependencies", stage.plan, _FOLDER, package.bundled)
    except Failed as error:
        await stage.refuse(error.reason, str(error))
        raise
    await parts.deploy_nested(stage, needed)
    await stage.carry_out("deploy", tested="smoke" if wanted.get("run_smoke") else None)
    if not wanted.get("run_smoke"):
        await _left(run, stage, "smoke", "flag")
    elif not await stage.test("smoke", "smoke"):
        await _left(run, stage, "smoke", "no-script")
    outputs = (await stage.state())["calculated_outputs"]
    hidden = values.sensitive(stage.plan, "outputs")
    used = {each.name for each in stage.providers.values()}

    def done(write: Write) -> None:
        run.journal.record["outputs"] = {
            name: state_of.HIDDEN if name in hidden or state_of.looks_secret(name) else value
            for name, value in outputs.items()
        }
        stands(run, write, used)

    await run.journal.once("deployed", done)


def stands(run: Run, write: Write, used: Collection[str]) -> None:
    """What is wanted is deployed, with these providers."""
    place = _place(run)
    now = moment(write)
    deployed = dict(run.wanted.get("deployed") or {}) | {"at": now, "job": run.order.job.number}
    before = deployments.deployed_of(write.connection, place)
    same = before.get("gate") == deployed.get("gate")
    deployed["gate_since"] = before.get("gate_since", now) if same else now
    deployed["providers_used"] = sorted(used)
    deployed["upgrade"] = "at" in before and any(
        before.get(what) != deployed.get(what) for what in ("release", "version", "digest")
    )
    deployments.note(write, place, deployed=deployed, tried=0, again_at=None, checked_at=write.now)
    version = str(run.wanted.get("version") or "")
    body = {"deployment": str(place), "version": version, "number": run.order.job.number}
    write.record("deployed", run.order.job.key, body)
    if before.get("drifted"):
        _drift_resolved(run, write)
    write.wake(f"environment/{place.project}/{place.environment}")


def _drift_resolved(run: Run, write: Write) -> None:
    """It is again as it was deployed."""
    body = {"deployment": str(_place(run)), "number": run.order.job.number}
    write.record("drift-resolved", run.order.job.key, body)


async def _smoke(run: Run, stage: Stage) -> None:
    if not await stage.test("smoke", "smoke"):
        await _left(run, stage, "smoke", "no-script")


async def _destroy(run: Run, stage: Stage, package: _Package) -> None:
    needed = await parts.fetch(run, "dependencies", stage.plan, _FOLDER, package.bundled)
    await stage.destroy("destroy")
    await parts.destroy_nested(stage, needed)

    await run.journal.once("destroyed", partial(destroyed, run))


def destroyed(run: Run, write: Write) -> None:
    """What was deployed is no more."""
    place = _place(run)
    if run.wanted.get("drop"):
        deployments.drop(write, place)
    else:
        deployments.note(write, place, deployed=None, tried=0, again_at=None)
    write.record("destroyed", run.order.job.key, {"deployment": str(place), "number": run.order.job.number})
    write.wake(f"environment/{place.project}/{place.environment}")


async def _errand(run: Run, stage: Stage) -> None:
    name = run.wanted["errand_name"]
    errand = stage.plan["errands"].get(name)
    if errand is None:
        raise Failed(
            Reason.SCRIPT_MISSING, f"{stage.plan['application']} {stage.version} has no errand {name}"
        )
    try:
        inputs, _ = values.calculated(errand["inputs"], opened(run, run.wanted.get("errand_inputs") or {}))
    except ValueFault as fault:
        raise Failed(fault.reason, fault.message) from fault
    await stage.errand(name, errand["run"], inputs, {i["id"] for i in errand["inputs"] if i.get("sensitive")})


def opened(run: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of which the sensitive ones are locked: they stand in the specification of the job."""
    return {
        name: json.loads(run.around.keys.unlock(base64.b64decode(value[LOCKED]), run.order.job.key))
        if isinstance(value, Mapping) and LOCKED in value
        else value
        for name, value in given.items()
    }


async def _check(run: Run, stage: Stage) -> None:
    """Look for drift: the state stays as it is, but for what was found."""
    sub = str(run.wanted["check"])
    script = (stage.plan.get("scripts") or {}).get(sub)
    drifted = False
    told = ""
    if script:
        try:
            await stage.errand(sub, script, {}, ())
        except Failed as error:
            drifted, told = True, str(error)

    def done(write: Write) -> None:
        row = deployments.load(write.connection, run.around.keys, stage.place)
        found = dict((row.deployed if row else None) or {})
        if drifted:
            again = bool(found.get("drifted"))
            found["drifted"] = told
            body = {"deployment": str(stage.place), "message": told, "again": again}
            write.record("drifted", run.order.job.key, body)
        elif found.pop("drifted", None):
            _drift_resolved(run, write)
        deployments.note(write, stage.place, checked_at=write.now, deployed=found or None)

    await run.journal.once("checked", done)
    if drifted:
        raise Failed(Reason.SCRIPT_FAILED, told)


async def _left(run: Run, stage: Stage, name: str, reason: str) -> None:
    await run.journal.once(f"{name}-left", lambda _: skipped(run, stage.stages, (name,), reason))


async def _failed(run: Run, stage: Stage | None, kind: str, why: str) -> None:
    """The state says what happened, and when the next try may be (9.4)."""
    if stage is not None and kind in ("deploy", "smoke", "destroy"):
        await stage.interrupted(why)

    def fail(write: Write) -> None:
        for each in run.journal.record["stages"]:
            if each["status"] == "running":
                each.update(status="failed", finished_at=moment(write))
        in_vain(run, write, why)

    await run.journal.once("failed", fail, stopping=True)


def in_vain(run: Run, write: Write, why: str) -> None:
    """What is tried again by itself has failed; when the next try may be stands in the state."""
    kind, place = str(run.wanted["type"]), _place(run)
    if kind != "deploy" and not (kind == "destroy" and run.wanted.get("drop")):
        return
    row = deployments.load(write.connection, run.around.keys, place)
    if row is None:
        return
    found = failure(row.state, row.tried, why, write.now)
    deployed = dict(row.deployed or {}) | {"settled": run.order.job.number}
    if run.journal.cancelled:
        deployed["stopped"] = run.wanted.get("signature")  # it is not tried again before somebody says so
    columns = {"tried": found.tried, "again_at": found.again_at, "deployed": deployed}
    deployments.save(write, run.around.keys, place, found.state, only_there=True, **columns)


def _place(run: Run) -> Place:
    return state_of.of(run.order.job.key)


async def _stage(run: Run, plan: Mapping[str, Any]) -> Stage:
    place = _place(run)
    return Stage(
        run=run,
        place=place,
        path=place.name,
        root_stage="",
        which="deploy",
        plan=plan,
        version=str(run.wanted.get("version") or ""),
        folder=_FOLDER,
        prefix="",
        stages=run.journal.record["stages"],
        inputs=(run.environment_inputs, opened(run, run.wanted.get("inputs") or {})),
    )


# -- what is deployed


async def _package(run: Run) -> _Package:
    """The release's package, or the deployment's own files, unpacked in the workspace. Failed."""

    async def work() -> Found:
        if run.wanted.get("own") is not None:
            await _own(run)
            return Found({"plan": _own_plan(run)}, ["the files of the specification repository are there"])
        digest = run.wanted["digest"]
        await asyncio.to_thread(parts.unpack, run, digest, _FOLDER)
        try:
            plan = await asyncio.to_thread(run.around.packages.plan_of, digest)
        except PackageError as error:
            raise Failed(Reason.NO_SUCH_RELEASE, str(error)) from error
        extra = run.wanted.get("scripts")
        plan = with_scripts(plan, extra) if extra else plan
        return Found({"plan": plan}, [f"the package {digest} is there"])

    done = await run.journal.act("package", work)
    if not done.passed:
        run.journal.go_on()
        raise Failed(str(done.reason), (done.result or {}).get("error"))
    bundled: Mapping[str, Packed] = {}
    if run.wanted.get("fat"):
        bundled = await asyncio.to_thread(run.around.packages.bundled, run.order.folder.workspace / _FOLDER)
    return _Package(done.result["plan"], bundled)


def _own_plan(run: Run) -> dict[str, Any]:
    """A deployment with its own scripts has no plan but these."""
    name = _place(run).name
    empty: dict[str, Any] = {
        "namespace": "_",
        "application": name.rpartition("/")[2],
        "version": "",
        "metadata": {},
        "depends": [],
        "provides": [],
        "consumes": [],
        "inputs": [],
        "outputs": [],
        "scripts": {},
        "errands": {},
    }
    return with_scripts(empty, run.wanted["own"]["scripts"])


async def _own(run: Run) -> None:
    own = run.wanted["own"]
    files = await run.around.files(own["revision"], own["includes"]) if own["includes"] else {}
    await asyncio.to_thread(_lay_out, run, files)


def _lay_out(run: Run, files: Mapping[str, tuple[bytes, bool]]) -> None:
    base = run.order.folder.workspace / _FOLDER
    base.mkdir(exist_ok=True)
    for path, (content, executable) in files.items():
        target = base / PurePosixPath(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(handle, 0o755 if executable else 0o644)
        if executable:
            processes.await_copies(target)
