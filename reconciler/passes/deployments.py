"""The pass of an environment, `environment/PROJECT/NAME`: what stands is compared with what is declared (9.1).

Level-triggered: a commit, an execution that has ended, a new release, a time that has come all only wake the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from reconciler.apply import deployments as apply
from reconciler.apply import gate as gate_apply
from reconciler.apply.status import Change, change_statuses
from reconciler.controllers import deployments as controller
from reconciler.controllers.deployments import (
    HELD,
    Act,
    DeploymentView,
    EnvironmentDecision,
    Held,
    Shown,
    failure,
)
from reconciler.controllers.due import is_far_ahead
from reconciler.controllers.pipelines import keeps
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.event import SYSTEM
from reconciler.model.execution import Type
from reconciler.model.job import Reason, State
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, with_condition, without_condition
from reconciler.passes import gate, wanted
from reconciler.passes.executions import Asked, Prepared, make, prepare_deployment
from reconciler.passes.wanted import Wanted
from reconciler.store import deployments, holds, pipelines
from reconciler.store.database import Write
from reconciler.store.deployments import Row
from reconciler.store.holds import Hold

PREFIX = "environment/"
RELEASES = "releases/"
_KIND = frozenset({"Deployment"})
_FAILED = "CannotStart"
_TOGETHER = 50


def name_of(key: str) -> str:
    """The name of the pass that looks at a Deployment."""
    place = state_of.of(key)
    return f"{PREFIX}{place.project}/{place.environment}"


async def of_key(installation: Installation, key: str) -> None:
    """Something has happened to one Deployment."""
    installation.wake(name_of(key))


async def of_release(installation: Installation, name: str) -> None:
    """There is a new release: whoever follows its versions looks."""
    released = name.removeprefix(RELEASES)
    for resource in installation.snapshot.current.of_kinds(_KIND).values():
        spec = resource.spec or {}
        if (spec.get("release") or resource.name) == released:
            installation.wake(name_of(resource.key))


async def wake_all(installation: Installation) -> None:
    """Every environment that has deployments, or had."""
    known = await installation.database.read(deployments.environments)
    names = {f"{PREFIX}{project}/{environment}" for project, environment in known}
    names |= {name_of(key) for key in installation.snapshot.current.of_kinds(_KIND)}
    for name in names:
        installation.wake(name)


async def run(installation: Installation, name: str) -> datetime | None:
    """One look at one environment."""
    project, _, environment = name.removeprefix(PREFIX).partition("/")
    declared = {
        resource.name: resource
        for resource in installation.snapshot.current.of_kinds(_KIND).values()
        if resource.project == project and resource.environment == environment and resource.spec is not None
    }
    rows, busy, kept, held = await installation.database.read(
        lambda c: (
            {place.name: row for place, row in deployments.summaries(c, project, environment).items()},
            deployments.held(c, project, environment),
            keeps(pipelines.live(c)),
            _held(holds.of_keys(c, f"Deployment/{project}/{environment}/")),
        )
    )
    if not declared and not rows:
        return None
    await _mend(installation, project, environment, rows)
    seen = await wanted.look_at_all(installation, declared.values())
    now = installation.now()

    elsewhere = {
        name: until for name in declared if (until := _elsewhere(rows.get(name), declared[name], now))
    }
    await _adopt(installation, [seen[resource.key] for resource in declared.values()], rows)
    views = [
        _view(
            resource,
            rows.get(name),
            seen[resource.key],
            name in busy or resource.key in kept or name in elsewhere,
        )
        for name, resource in declared.items()
    ]
    buried = {name: row for name, row in rows.items() if name not in declared and _stone(row)}
    views += [_buried(name, row, name in busy) for name, row in buried.items()]
    views = [replace(view, held=held.get(view.name)) for view in views]
    # what stands without being declared may provide, and nobody changes it
    views += [
        _unmanaged(name, row) for name, row in rows.items() if name not in declared and name not in buried
    ]
    await _raise(installation, {name: row for name, row in rows.items() if name in declared and _stone(row)})
    decision = controller.decide(views, installation.now())
    by_name = {name: seen[resource.key] for name, resource in declared.items()}
    troubles = await _carry_out(installation, decision, by_name, buried)
    await _withdraw(installation, decision.withdrawn)
    if any(each.reason == gate_apply.BUSY for each in held.values()):
        installation.wake(gate.NAME)
    await _show(installation, decision, declared, troubles)
    for resource in installation.snapshot.current.of_kinds(_KIND).values():
        if resource.project == project and (resource.spec or {}).get("follow") == environment:
            installation.wake(name_of(resource.key))
    return min((at for at in (decision.wake_at, *elsewhere.values()) if at is not None), default=None)


def _view(resource: Resource, row: Row | None, seen: Wanted, busy: bool) -> DeploymentView:
    offers = tuple(seen.plan.get("provides") or ()) or (row.provides if row is not None else ())
    view = DeploymentView(
        resource.name,
        resource.spec,
        state_of.EMPTY if row is None else state_of.code(row.state),
        signature=seen.signature if seen.anything and seen.fault is None else "",
        plan=seen.plan,
        offers=offers,
        fault=seen.fault,
        busy=busy,
        generation=resource.generation,
    )
    if row is None:
        return view
    return replace(
        view,
        deployed=row.deployed or {},
        uses=tuple((row.deployed or {}).get("providers_used") or ()),
        tried=row.tried,
        again_at=row.again_at,
        checked_at=row.checked_at,
    )


def _held(found: Sequence[Hold]) -> dict[str, Held]:
    """The newest that waits of each deployment, by name."""
    return {
        state_of.of(hold.key).name: Held(
            job=hold.job,
            signature=hold.subject["signature"],
            generation=hold.subject["generation"],
            by_hand=hold.subject["by_hand"],
            destroys=hold.type == Type.DESTROY.value,
            reason=hold.causes[0]["reason"] if hold.causes else HELD,
            told=f"job {hold.job} waits: " + "; ".join(cause["message"] for cause in hold.causes),
        )
        for hold in found
        if hold.type != Type.ERRAND.value
    }


async def _withdraw(installation: Installation, numbers: Sequence[int]) -> None:
    def work(write: Write) -> None:
        for number in numbers:
            gate_apply.withdraw(write, number)

    if numbers:
        await installation.database.write(work)


def _buried(name: str, row: Row, busy: bool) -> DeploymentView:
    return DeploymentView(
        name,
        None,
        state_of.code(row.state),
        deployed=row.deployed or {},
        uses=tuple((row.deployed or {}).get("providers_used") or ()),
        busy=busy,
        tried=row.tried,
        again_at=row.again_at,
    )


def _unmanaged(name: str, row: Row) -> DeploymentView:
    spec = {"reconcile": "manual", "suspend": True}
    return DeploymentView(name, spec, state_of.code(row.state), offers=row.provides)


def _stone(row: Row) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (row.deployed or {}).get(apply.TOMBSTONE)
    return found


async def _adopt(installation: Installation, wanted_: Sequence[Wanted], rows: dict[str, Row]) -> None:
    """What somebody's own client has deployed just as it is declared need not be deployed again (9.1)."""
    new = [each for each in wanted_ if _as_deployed(each, rows.get(each.resource.name))]
    if not new:
        return

    def work(write: Write) -> list[Row]:
        adopted = []
        for each in new:
            place = rows[each.resource.name].place
            row = deployments.load(write.connection, installation.keys, place)
            if row is None or not _same_inputs(each, row):
                continue
            found = dict(row.deployed or {}) | each.stages()["deployed"]
            deployments.note(write, place, deployed=found, tried=0, again_at=None)
            adopted.append(replace(row, deployed=found, tried=0, again_at=None))
        return adopted

    for row in await installation.database.write(work):
        rows[row.place.name] = row


def _as_deployed(seen: Wanted, row: Row | None) -> bool:
    if row is None or seen.release is None or (row.deployed or {}).get("signature"):
        return False
    stage = state_of.stage(row.state, state_of.DEPLOY)
    same = row.release == seen.release.name and stage["version"] == seen.release.version
    return same and stage["status"]["status"] == state_of.OK


def _same_inputs(seen: Wanted, row: Row) -> bool:
    """Every input that is declared has had its value; those that name secrets cannot be compared."""
    stage = state_of.stage(row.state, state_of.DEPLOY)
    used = {**row.state.get("inputs", {}), **stage["inputs"], **stage["calculated_inputs"]}
    wanted_ = {**seen.environment_inputs, **seen.inputs}
    plain = {name: value for name, value in wanted_.items() if not isinstance(value, Mapping)}
    wired = all(stage["providers"].get(name) == other for name, other in seen.providers.items())
    return wired and all(used.get(name) == value for name, value in plain.items())


def _elsewhere(row: Row | None, resource: Resource, now: datetime) -> datetime | None:
    """Until when somebody's own client is believed to be at it; None: it is not.

    It says so by the status; what it left too long ago, or by a clock that was far ahead, it will not finish.
    """
    if row is None or row.holder is not None or not state_of.is_running(state_of.code(row.state)):
        return None
    limit = timedelta(seconds=float((resource.spec or {}).get("timeout_seconds") or 3600))
    until = row.updated_at + limit
    return until if until > now and not is_far_ahead(row.updated_at, now) else None


async def _raise(installation: Installation, rows: Mapping[str, Row]) -> None:
    def work(write: Write) -> None:
        for row in rows.values():
            apply.raise_(write, row.place, row.deployed or {})

    if rows:
        await installation.database.write(work)


async def _mend(installation: Installation, project: str, environment: str, rows: dict[str, Row]) -> None:
    """What an execution was at that has ended without a word, as its process was lost or could not begin at all, nobody
    will ever finish: it has failed, like any other.
    """
    over = await installation.database.read(lambda c: deployments.ended(c, project, environment))
    left = [
        (rows[name], number, state, reason)
        for name, (number, state, reason) in over.items()
        if name in rows and state is not State.PASSED and not _accounted(rows[name], number)
    ]

    def mend(place: Place, number: int, why: str, stopped: bool, write: Write) -> Row | None:
        row = deployments.load(write.connection, installation.keys, place)
        if row is None or _accounted(row, number):
            return row
        found = failure(row.state, row.tried, why, write.now)
        deployed = dict(row.deployed or {}) | {"settled": number}
        if stopped:
            deployed["stopped"] = deployed.get("attempt")
        columns: dict[str, Any] = {"tried": found.tried, "again_at": found.again_at, "deployed": deployed}
        deployments.save(write, installation.keys, place, found.state, **columns)
        return replace(row, state=found.state, **columns)

    for row, number, state, reason in left:
        told = f"execution {number} has ended: {reason or 'failed'}"
        stopped = state is State.ABORTED and reason == Reason.CANCELLED
        fresh = await installation.database.write(partial(mend, row.place, number, told, stopped))
        if fresh is not None:
            rows[row.place.name] = fresh


def _accounted(row: Row, number: int) -> bool:
    """Has the end of its last execution been noted, by that itself or here? Only those that change it are."""
    found = row.deployed or {}
    code = state_of.code(row.state)
    changing = state_of.is_running(code) or code == state_of.PENDING or found.get("trying") == number
    return found.get("settled") == number or not changing


async def _carry_out(
    installation: Installation,
    decision: EnvironmentDecision,
    seen: Mapping[str, Wanted],
    buried: Mapping[str, Row],
) -> dict[str, tuple[str, str, str]]:
    """Start what is due, many in a transaction; why what could not be started was not, by name."""
    troubles: dict[str, tuple[str, str, str]] = {}
    ready: list[Prepared] = []
    for act in decision.acts:
        try:
            ready.append(await _prepared(installation, act, seen.get(act.name), buried.get(act.name)))
        except SteersmanError as error:
            troubles[act.name] = (controller.FAULT, error.reason or _FAILED, error.message)
    for start in range(0, len(ready), _TOGETHER):
        some = ready[start : start + _TOGETHER]
        try:
            await installation.database.write(partial(_make, some))
        except SteersmanError:  # one of them, and with it all: so each by itself
            for each in some:
                try:
                    await installation.database.write(partial(_make, [each]))
                except SteersmanError as error:
                    troubles[each.resource.name] = (controller.FAULT, error.reason or _FAILED, error.message)
    if ready:
        installation.wake("dispatch")
    return troubles


async def _prepared(
    installation: Installation, act: Act, seen: Wanted | None, buried: Row | None
) -> Prepared:
    if seen is not None:
        known = seen if act.type is Type.DEPLOY else None
        return await prepare_deployment(installation, seen.resource, act.type, Asked(drop=act.drop), known)
    stone = (_stone(buried) if buried is not None else None) or {}
    place = buried.place if buried is not None else Place("", "", act.name)
    asked = Asked(drop=act.drop, environment_inputs=stone.get("environment_inputs") or {})
    return await prepare_deployment(installation, apply.resource_of(place, stone), act.type, asked)


def _make(prepared: Sequence[Prepared], write: Write) -> None:
    for each in prepared:
        trigger = {"type": "check" if each.type is Type.CHECK else "reconcile", "user": ""}
        make(write, each, trigger, SYSTEM.subject)


async def _show(
    installation: Installation,
    decision: EnvironmentDecision,
    declared: Mapping[str, Resource],
    troubles: Mapping[str, tuple[str, str, str]],
) -> None:
    now = installation.now()
    changes: dict[str, Change] = {}
    for name, resource in declared.items():
        shown = decision.shown[name]
        if name in troubles:
            shown = replace(shown, condition=troubles[name])
        changes[resource.key] = _changer(shown, now)
    await change_statuses(installation, changes)


def _changer(shown: Shown, now: datetime) -> Change:
    def change(resource: Resource) -> Resource:
        conditions = without_condition(
            resource.conditions, *(controller.CONDITIONS - {shown.condition[0] if shown.condition else ""})
        )
        if shown.condition is not None:
            type_, reason, message = shown.condition
            conditions = with_condition(conditions, Condition(type_, True, reason, message, now))
        invalid = resource.invalid
        sync = resource.sync if invalid else shown.sync
        return replace(resource, sync=sync, health=shown.health, conditions=conditions)

    return change
