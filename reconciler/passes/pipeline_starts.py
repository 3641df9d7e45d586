"""Starts one step of a pipeline's run: what it starts, and the step, in one transaction (escape-state, 10.2).

Called by `passes.pipeline_steps`, when the step may begin. What fails here ends the step; what has to wait leaves it
queued.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.apply import pipelines as apply
from reconciler.apply.pipelines import Order
from reconciler.controllers import pipelines as controller
from reconciler.errors import Conflict, Stalled, SteersmanError, Transient, Waiting
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.execution import ulid
from reconciler.model.job import Reason
from reconciler.model.pipeline import Place, Run, Status, Step, builds, planned, target
from reconciler.passes import executions, pipeline_calls, pipeline_versions
from reconciler.passes.deployments import RELEASES
from reconciler.store import pipelines as rows
from reconciler.store import releases
from reconciler.store.database import Write
from specs.versions import release_id

NET = timedelta(seconds=60)
_LATER = timedelta(seconds=10)
_REASONS: dict[str, Reason] = {
    "Disabled": Reason.DISABLED,
    "NotDeployed": Reason.NOT_DEPLOYED,
    "NoSuchRelease": Reason.NO_SUCH_RELEASE,
    "NoSuchProvider": Reason.NO_SUCH_PROVIDER,
    "MissingInput": Reason.MISSING_INPUT,
    "InvalidInput": Reason.INVALID_INPUT,
    "UnknownInput": Reason.INVALID_INPUT,
    "InvalidField": Reason.INVALID_INPUT,
    "DeclaredVersion": Reason.DECLARED_VERSION,
    "CommitGone": Reason.CHECKOUT_FAILED,
    "BranchMissing": Reason.CHECKOUT_FAILED,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a step fails, with a sentence for people."""

    reason: Reason
    message: str


def failed(step: Step, fault: Fault, now: datetime) -> Step:
    """A step that ends like this."""
    return controller.ended(step, Status.FAILED, now, fault.reason, fault.message)


async def one(installation: Installation, run: Run, place: Place) -> datetime | None:
    """Start one step; None: it has changed, else when to try again."""
    step = run.step(place)
    try:
        if step.type == "build":
            await _build(installation, run, place)
        elif step.type == "pipeline-trigger":
            await _pipeline(installation, run, place)
        elif step.type == "tag-release":
            await installation.database.write(lambda w: _tag(w, run, place), actor_of(run))
        elif step.type == "webhook-trigger":
            await _change(installation, run, place, Status.RUNNING)
            installation.wake(pipeline_calls.name_of(run, place))
        else:
            await _deployment(installation, run, place)
    except Conflict as error:
        if error.reason == "DeploymentBusy":
            await installation.database.write(lambda w: wait(w, run, place))
            return installation.now() + NET
        await fail(installation, run, place, _fault(error))
    except (Transient, Waiting) as error:
        await _put_off(installation, run, place, error.message)
        return installation.now() + _LATER
    except Stalled as error:
        reason = Reason.CHECKOUT_FAILED if step.type == "build" else Reason.DEPENDENCY_FAILED
        await fail(installation, run, place, Fault(reason, error.message))
    except SteersmanError as error:
        await fail(installation, run, place, _fault(error))
    return None


def _fault(error: SteersmanError) -> Fault:
    return Fault(_REASONS.get(error.reason, Reason.DEPENDENCY_FAILED), error.message)


def wait(write: Write, run: Run, place: Place) -> None:
    """Note since when a step has been waiting for its turn."""
    if run.step(place).waiting_since is None:
        apply.begin(write, run.id, place, lambda _, step: replace(step, waiting_since=write.now))


async def _put_off(installation: Installation, run: Run, place: Place, message: str) -> None:
    """It stays queued, and says why."""
    if run.step(place).message != message:
        await installation.database.write(
            lambda w: apply.begin(w, run.id, place, lambda _, step: replace(step, message=message))
        )


async def fail(installation: Installation, run: Run, place: Place, fault: Fault) -> None:
    """End a step that is due."""
    await installation.database.write(
        lambda w: apply.begin(w, run.id, place, lambda _, step: failed(step, fault, w.now))
    )


async def _change(installation: Installation, run: Run, place: Place, status: Status) -> None:
    def act(write: Write) -> bool:
        return apply.begin(
            write, run.id, place, lambda _, step: replace(step, status=status, started_at=write.now)
        )

    await installation.database.write(act)


def actor_of(run: Run) -> Actor:
    """Whom the event log names for what a run does."""
    return Actor(run.identity or run.actor)


def trigger_of(run: Run, place: Place) -> dict[str, Any]:
    """What the executions of a step say of where they come from."""
    phase = run.phases[place[0]]
    return {
        "type": "pipeline",
        "user": run.trigger.get("user", ""),
        "reason": "",
        "pipeline": run.id,
        "pipeline_name": run.name,
        "run_nr": run.number,
        "step": f"{phase.name}/{phase.steps[place[1]].name}",
    }


def _handed(step: Step, number: int, job_id: str, now: datetime) -> Step:
    handed = replace(step, status=Status.PENDING, message="", started_at=now)
    return replace(handed, job=number, execution_id=ulid(job_id))


async def _build(installation: Installation, run: Run, place: Place) -> None:
    keys = builds(run.step(place).declared, run.project)
    known = installation.snapshot.current.resources
    resource = next((known[key] for key in keys if key in known), None)
    if resource is None or resource.spec is None:
        raise Conflict("NotThere", f"there is no {keys[0]}")
    filtered = bool(run.trigger.get("filtered"))
    prepared = await executions.prepare_build(installation, resource, only_changed=filtered)
    await _make(installation, run, place, prepared)


async def _deployment(installation: Installation, run: Run, place: Place) -> None:
    step = run.step(place)
    key = str(target(step.declared, run.project))
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or resource.spec is None:
        raise Conflict("NotThere", f"there is no {key}")
    now = await installation.database.read(lambda c: rows.load(c, run.id))
    version = now.step(place).version if now is not None else ""
    asked = executions.Asked(version=version or None, patient=True)
    if step.type == "run-errand":
        given = step.declared.get("errand_inputs") or {}
        asked = executions.Asked(errand_name=step.declared["errand_name"], errand_inputs=given)
    prepared = await executions.prepare_deployment(installation, resource, controller.TYPES[step.type], asked)
    await _make(installation, run, place, prepared)


async def _make(installation: Installation, run: Run, place: Place, prepared: executions.Prepared) -> None:
    """The execution and the step in one transaction."""
    trigger = trigger_of(run, place)

    def act(write: Write) -> bool:
        def made(_: Run, step: Step) -> Step:
            job = executions.make(write, prepared, trigger, run.identity or run.actor)
            return _handed(step, job.number, job.id, write.now)

        return apply.begin(write, run.id, place, made)

    await installation.database.write(act, actor_of(run))
    installation.wake("dispatch")
    installation.wake(prepared.resource.key)


async def _pipeline(installation: Installation, run: Run, place: Place) -> None:
    step = run.step(place)
    key = f"Pipeline/{step.declared.get('project') or run.project}/{step.declared['pipeline']}"
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or resource.spec is None:
        raise Conflict("NotThere", f"there is no {key}")
    if resource.spec["disabled"]:
        raise Conflict("Disabled", f"{key} says `disabled: true` at {resource.location}")
    waits = bool(step.declared.get("wait_for_pipeline"))
    reason = controller.chain_fault(run, key, waits=waits)
    if reason is not None:
        led = " → ".join((*run.chain, key))
        await fail(installation, run, place, Fault(reason, f"one started the other: {led}"))
        return
    spec = resource.spec

    def act(write: Write) -> bool:
        def made(now: Run, step: Step) -> Step:
            child = apply.create(write, _child(installation, now, key, spec))
            begun = replace(step, run=child.id, started_at=write.now)
            if waits:
                return replace(begun, status=Status.PENDING)
            return controller.ended(begun, Status.OK, write.now)

        return apply.begin(write, run.id, place, made)

    await installation.database.write(act, actor_of(run))


def _child(installation: Installation, run: Run, key: str, spec: Any) -> Order:
    trigger = {
        "type": "pipeline",
        "user": run.trigger.get("user", ""),
        "pipeline": run.id,
        "chain": list(run.chain),
    }
    own = identity_of(installation, spec)
    kept = ("filtered",) if own else ("filtered", "limits")  # which are those of who started the first one
    trigger |= {name: run.trigger[name] for name in kept if name in run.trigger}
    return Order(
        key=key,
        spec=spec,
        phases=planned(spec),
        trigger=trigger,
        actor=run.actor,
        identity=own or run.identity,
        payload=run.payload,
    )


def identity_of(installation: Installation, spec: Any) -> str | None:
    """The service account that runs of a pipeline act as, by its subject; None where it names none."""
    name, team = spec.get("service_account_name"), spec.get("service_account_team")
    if not name:
        return None
    if team:
        return f"ServiceAccount/{team}/{name}"
    known = installation.snapshot.current.of_kinds(frozenset({"ServiceAccount"}))
    meant = [key for key, account in known.items() if account.name == name]
    return meant[0] if len(meant) == 1 else f"ServiceAccount/_/{name}"


def _tag(write: Write, run: Run, place: Place) -> bool:
    def act(run: Run, step: Step) -> Step:
        namespace, application = step.declared["namespace"], step.declared["application"]
        version = pipeline_versions.to_tag(write.connection, run, step)
        if version is None or releases.find(write.connection, namespace, application, version) is None:
            told = f"{step.declared['tag_version']} means no release of {namespace}/{application}"
            return failed(step, Fault(Reason.NO_SUCH_RELEASE, told), write.now)
        if releases.move_tag(write, namespace, application, step.declared["tag"], version):
            write.wake(f"{RELEASES}{namespace}/{application}")
        tagged = replace(step, tagged=release_id(namespace, application, version), started_at=write.now)
        return controller.ended(tagged, Status.OK, write.now)

    return apply.begin(write, run.id, place, act)
