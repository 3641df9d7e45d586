"""States of deployments, written from outside: one small transaction each, never waiting for Git (escape-state, 6.12).

What is declared of a deployment is a commit, and the served API's matter; the state of what such a commit removes for
good goes when it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.access import Caller, require, runs_in
from reconciler.errors import Conflict, NotFound
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.deployment import Place
from reconciler.model.execution import Type
from reconciler.model.resource import Resource
from reconciler.passes.deployments import name_of
from reconciler.passes.executions import Made, make, prepare_deployment
from reconciler.passes.wanted import AS_DECLARED, Asked
from reconciler.store import deployments, jobs
from reconciler.store.database import Connection, Write
from reconciler.store.deployments import Row

_KIND = frozenset({"Deployment"})


async def put_state(
    installation: Installation,
    caller: Caller,
    place: Place,
    path: str,
    root_stage: str,
    state: Mapping[str, Any],
) -> None:
    """Replace the state at a path of a deployment, of which nothing need be known before (ST3).

    Conflict while an execution has the deployment, unless that execution itself says so, or its service account.
    """
    await require_put(installation, caller, place)

    def work(write: Write) -> None:
        row = deployments.load(write.connection, installation.keys, place)
        refuse_held(installation, write.connection, caller, place, row)
        before = row.state if row else deployment.empty(place.name)
        after = deployment.put_at(before, path, root_stage, state)
        ended = _ended(before, after)
        columns = _changed_from_outside(row, after) if ended else {}
        deployments.save(write, installation.keys, place, after, **columns)
        codes = {name: deployment.code(state, name) for name in state.get("stages") or {}}
        write.record("state-put", place.key, {"path": path, "status": codes})
        if ended:
            write.wake(place.key)

    await installation.database.write(work, caller.actor)


async def require_put(installation: Installation, caller: Caller, place: Place) -> None:
    """States are put by whoever may write in the environment, and by what runs there."""
    if not await runs_in(installation, caller, place.project, place.environment):
        require(installation, caller, "edit", place.key)


async def drop_state(installation: Installation, caller: Caller, place: Place) -> None:
    """Forget a deployment that is not declared; no script runs (ST4). NotFound if there is nothing to forget."""
    require(installation, caller, "delete", place.key)

    def work(write: Write) -> None:
        row = deployments.load(write.connection, installation.keys, place)
        refuse_held(installation, write.connection, caller, place, row)
        _refuse_consumed(installation, write.connection, place)
        if not deployments.drop(write, place):
            raise NotFound("NoSuchDeployment", absence(place))
        write.record("state-dropped", place.key, {})

    await installation.database.write(work, caller.actor)


async def drop_undeclared(
    installation: Installation, caller: Caller, project: str, environment: str | None
) -> int:
    """Forget what is deployed in an environment or project that is no more, as far as no declaration goes with it."""
    known = installation.snapshot.current.of_kinds(_KIND)

    def work(write: Write) -> int:
        gone = [
            place
            for place in deployments.summaries(write.connection, project, environment)
            if place.key not in known
        ]
        for place in gone:
            deployments.drop(write, place)
        if gone:
            write.record("state-dropped", None, {"keys": [place.key for place in gone]})
        return len(gone)

    return await installation.database.write(work, caller.actor)


async def refuse_busy(installation: Installation, place: Place) -> None:
    """Conflict while an execution has a deployment."""
    holder = await installation.database.read(lambda c: deployments.busy_with(c, place))
    if holder is not None:
        raise _busy(place, holder)


async def refuse_consumed(installation: Installation, place: Place) -> None:
    """Conflict while others that stand there consume what a deployment provides."""
    await installation.database.read(lambda c: _refuse_consumed(installation, c, place))


async def look(installation: Installation, place: Place) -> None:
    """Compare what stands with what is declared, now: who has just changed that is told how it is by now."""
    await installation.run_now(name_of(place.key))


async def may_start(
    installation: Installation, resource: Resource, kind: Type, asked: Asked = AS_DECLARED
) -> None:
    """Whether it could be started now, asked before something is committed for it. Conflict, NotFound, Refused."""
    await prepare_deployment(installation, resource, kind, asked)


async def destroy_removed(
    installation: Installation, caller: Caller, resource: Resource, trigger: Mapping[str, Any]
) -> Made:
    """Destroy what is not declared any more, and forget it; `resource` is as it was. Conflict."""
    prepared = await prepare_deployment(installation, resource, Type.DESTROY, Asked(drop=True))
    whole = {"type": "manual", "user": caller.subject.rpartition("/")[2]} | dict(trigger)

    def work(write: Write) -> Made:
        return make(write, prepared, whole, caller.subject)

    return await installation.database.write(work, caller.actor)


def absence(place: Place) -> str:
    """There is no such deployment, in a sentence."""
    return f"There is no deployment {place.name!r} in {place.project}/{place.environment}."


def refuse_held(
    installation: Installation, connection: Connection, caller: Caller, place: Place, row: Row | None
) -> None:
    """Conflict while an execution has a deployment, unless the caller is that, or acts for it."""
    if row is None or row.holder is None or row.holder == caller.job:
        return
    holder = deployments.busy_with(connection, place)
    if holder is not None and not _acts_for(installation, connection, caller, holder):
        raise _busy(place, holder)


def _ended(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Has something come to its end with this? Clients say what they will do before they say that they do it."""
    old, new = (deployment.stage(state, deployment.DEPLOY)["status"] for state in (before, after))
    return bool(new != old) and not deployment.is_running(new["status"])


def _changed_from_outside(row: Row | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """Another release stands there than was last deployed from here: it is no longer as it was wanted."""
    known = (row.deployed if row is not None else None) or {}
    if not known.get("digest"):
        return {}
    found = after["release"], deployment.stage(after, deployment.DEPLOY)["version"]
    if found == (known.get("release"), known.get("version")):
        return {}
    return {"deployed": {**known, "signature": ""}}


def _busy(place: Place, holder: int) -> Conflict:
    return Conflict(
        "DeploymentBusy", f"Execution {holder} is at the deployment {place.name!r}; wait until it has ended."
    )


def _acts_for(installation: Installation, connection: Connection, caller: Caller, job: int) -> bool:
    """Is the caller the service account that the execution runs as?"""
    if not caller.subject.startswith("ServiceAccount/"):
        return False
    found = jobs.load(connection, job)
    if found is None:
        return False
    resource = installation.snapshot.current.resources.get(found.key)
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    own = f"ServiceAccount/{spec.get('service_account_team')}/{spec.get('service_account_name')}"
    return caller.subject in (found.actor, own)


def _refuse_consumed(installation: Installation, connection: Connection, place: Place) -> None:
    around = deployments.of_environment(connection, installation.keys, place.project, place.environment)
    states = {name: row.state for name, row in around.items()}
    if others := deployment.consumers(states, place.name):
        raise Conflict("InUse", f"{', '.join(others)} in {place.environment} consume {place.name!r}.")
