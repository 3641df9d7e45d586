"""What a stage needs of others: releases it depends on, and deployments that provide for it (escape-state, 9.3, 9.6).

Called by `build` and `deploy`. A dependency is a nested deployment of its own; a provider is another deployment of the
environment, whose package comes along only for its `activate_provider` and `deactivate_provider`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.controllers.wiring import Wired, consumed, wire
from reconciler.errors import SteersmanError
from reconciler.execution.packages import PackageError, Packed
from reconciler.execution.stages import values
from reconciler.execution.stages.journal import Failed, Found
from reconciler.execution.stages.stage import Provider, Stage, ordered
from reconciler.execution.stages.values import Variables
from reconciler.execution.stages.world import Run
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.job import Reason
from reconciler.model.release import Release
from reconciler.store import deployments, releases
from reconciler.store.database import Connection
from specs import versions

DEPENDENCIES = "deps"
_PROVIDERS = ".escape/providers"
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Dependency:
    """A release that another one depends on, unpacked in `folder` below the workspace, with its own dependencies."""

    alias: str
    label: str
    version: str
    plan: Mapping[str, Any]
    folder: str
    below: tuple[Dependency, ...] = ()


# -- dependencies


async def fetch(
    run: Run, name: str, plan: Mapping[str, Any], folder: str, bundled: Mapping[str, Packed] | None = None
) -> tuple[Dependency, ...]:
    """Every release that a plan depends on, unpacked in `deps/NAMESPACE/APPLICATION` of its folder. Failed.

    `bundled`: packages by release id that a fat one has brought along; they go before all others.
    """
    if not plan.get("depends"):
        return ()

    async def work() -> Found:
        found = await _found(run, plan, folder, (), bundled or {})
        return Found(found, [f"{each['label']} is in {each['folder']}" for each in found])

    done = await run.journal.act(name, work)
    if not done.passed:
        raise Failed(str(done.reason), (done.result or {}).get("error"))
    return tuple(_dependency(each) for each in done.result)


async def _found(
    run: Run, plan: Mapping[str, Any], folder: str, above: tuple[str, ...], bundled: Mapping[str, Packed]
) -> list[dict[str, Any]]:
    if len(above) > _DEEPEST:
        raise Failed(Reason.DEPENDENCY_FAILED, f"dependencies are nested too deeply: {' → '.join(above)}")
    found = []
    for text in plan.get("depends") or ():
        wanted, _, alias = text.partition(" as ")
        name, query = versions.split(wanted)
        label, digest, whole = await release_of(run, name, query, bundled)
        if name in above:
            raise Failed(Reason.DEPENDENCY_FAILED, f"{name} depends on itself: {' → '.join((*above, name))}")
        place = "/".join(part for part in (folder, DEPENDENCIES, name) if part)
        await asyncio.to_thread(unpack, run, digest, place)
        below = await _found(run, whole, place, (*above, name), bundled)
        version = label.rpartition("-v")[2]
        found.append(
            {
                "alias": alias or name,
                "label": label,
                "version": version,
                "plan": whole,
                "folder": place,
                "below": below,
            }
        )
    return found


async def release_of(
    run: Run, name: str, query: str, bundled: Mapping[str, Packed]
) -> tuple[str, str, Mapping[str, Any]]:
    """(label, digest, plan): of what is bundled, of the worker's own packages, else of the registry. Failed."""
    namespace, _, application = name.partition("/")
    packages = run.around.packages
    label = _bundled(name, query, bundled)
    packed = bundled.get(label) if label is not None else None
    if label is None or packed is None:
        release = await run.journal.read(lambda c: releases.resolve(c, name, query))
        if release is not None:
            return release.label, release.digest, release.plan
        label = versions.release_id(namespace, application, query)
        packed = await asyncio.to_thread(packages.cached, label)  # one that was not pushed
    if packed is None:
        raise Failed(Reason.NO_SUCH_RELEASE, f"there is no release {name} {query}, which it depends on")
    return label, packed.digest, await asyncio.to_thread(packages.plan_of, packed.digest)


def _bundled(name: str, query: str, bundled: Mapping[str, Packed]) -> str | None:
    """The highest version among them that a query may mean."""
    found = [versions.split(label) for label in bundled]
    fits = [version for other, version in found if other == name and versions.matches(query, version)]
    if not fits:
        return None
    namespace, _, application = name.partition("/")
    return versions.release_id(namespace, application, max(fits, key=versions.ordinal))


def _dependency(found: Mapping[str, Any]) -> Dependency:
    below = tuple(_dependency(each) for each in found["below"])
    return Dependency(found["alias"], found["label"], found["version"], found["plan"], found["folder"], below)


async def deploy_nested(stage: Stage, wanted: Sequence[Dependency]) -> None:
    """Deploy what a stage depends on, deepest first, as nested deployments of it. Failed."""
    for each in wanted:
        nested = _nested(stage, each)
        await deploy_nested(nested, each.below)
        try:
            await nested.carry_out("deploy")
        except Failed as error:
            raise Failed(Reason.DEPENDENCY_FAILED, f"{each.alias}: {error}") from error


async def destroy_nested(stage: Stage, wanted: Sequence[Dependency]) -> None:
    """The other way round, after what depended on them. Failed."""
    for each in reversed(wanted):
        nested = _nested(stage, each)
        if state_of.code({"stages": {"deploy": await nested.state()}}) != state_of.EMPTY:
            await nested.destroy("destroy")
        await destroy_nested(nested, each.below)


def _nested(stage: Stage, each: Dependency) -> Stage:
    name = each.alias.replace("/", "_")
    root = stage.which if ":" not in stage.path else stage.root_stage
    return replace(
        stage,
        path=f"{stage.path}:{each.alias}",
        root_stage=root,
        which="deploy",
        plan=each.plan,
        version=each.version,
        folder=each.folder,
        prefix=f"{stage.prefix}{name}-",
        stages=[],
        inputs=stage.inputs[:1],
        providers=_inherited(stage, each),
    )


def _inherited(stage: Stage, each: Dependency) -> dict[str, Provider]:
    """What the deployment around it is wired to, by variable or by interface (9.3, 2). Failed."""
    found: dict[str, Provider] = {}
    around = dict(consumed(stage.plan, "deploy"))
    for interface, variable in consumed(each.plan, "deploy"):
        provider = stage.providers.get(variable) or stage.providers.get(around.get(interface, ""))
        if provider is None:
            told = f"{each.label} needs a provider of {interface}, which {stage.path} does not consume"
            raise Failed(Reason.NO_SUCH_PROVIDER, told)
        found[variable] = provider
    return found


# -- providers


async def providers(
    run: Run,
    name: str,
    place: Place,
    stage: str,
    plan: Mapping[str, Any],
    explicit: Mapping[str, str],
) -> dict[str, Provider]:
    """Who provides what a stage of this deployment consumes. Failed."""
    wanted = consumed(plan, stage)
    if not wanted and not explicit:
        return {}

    async def work() -> Found:
        wired = await run.journal.read(lambda c: _wired(c, run, place, stage, wanted, explicit))
        if wired.faults:
            raise Failed(Reason.NO_SUCH_PROVIDER, "; ".join(wired.faults))
        return Found(dict(wired.providers), [f"{v} is provided by {n}" for v, n in wired.providers.items()])

    done = await run.journal.act(name, work)
    if not done.passed:
        raise Failed(str(done.reason), (done.result or {}).get("error"))
    chosen: Mapping[str, str] = done.result
    return await run.journal.read(
        lambda c: {variable: _provider(c, run, place, other)[0] for variable, other in chosen.items()}
    )


def _wired(
    connection: Connection,
    run: Run,
    place: Place,
    stage: str,
    wanted: Sequence[tuple[str, str]],
    explicit: Mapping[str, str],
) -> Wired:
    rows = deployments.summaries(connection, place.project, place.environment)
    offered: dict[str, list[str]] = {}
    for where, row in rows.items():
        for interface in row.provides:
            offered.setdefault(interface, []).append(where.name)
    unknown = [
        name for name in explicit.values() if Place(place.project, place.environment, name) not in rows
    ]
    if unknown:
        return Wired({}, tuple(f"there is no deployment {name} in {place.environment}" for name in unknown))
    own = deployments.load(connection, run.around.keys, place)
    earlier = state_of.stage(own.state, stage)["providers"] if own is not None else {}
    return wire(wanted, explicit, earlier, offered, place.name)


def _provider(connection: Connection, run: Run, place: Place, name: str) -> tuple[Provider, Release | None]:
    row = deployments.load(connection, run.around.keys, Place(place.project, place.environment, name))
    if row is None:
        return Provider(name, {}, {}, {}), None
    stage = state_of.stage(row.state, "deploy")
    namespace, _, application = row.release.partition("/")
    release = releases.find(connection, namespace, application, stage["version"])
    plan = release.plan if release is not None else {}
    return Provider(name, plan, stage["calculated_inputs"], stage["calculated_outputs"]), release


async def wired(run: Run, stage: Stage) -> dict[str, Provider]:
    """Who provides what this deployment consumes by now, as far as it is known."""
    chosen: Mapping[str, str] = (await stage.state())["providers"]
    place = stage.place
    return await run.journal.read(
        lambda c: {variable: _provider(c, run, place, other)[0] for variable, other in chosen.items()}
    )


async def activate(run: Run, prefix: str, place: Place, found: Mapping[str, Provider]) -> None:
    """Run `activate_provider` of each. Failed."""
    for variable, provider in found.items():
        await _provider_script(run, f"{prefix}activate-{variable}", place, variable, provider, final=False)


async def deactivate(run: Run, prefix: str, place: Place, found: Mapping[str, Provider]) -> None:
    """Run `deactivate_provider` of each that was activated, whatever has happened since."""
    for variable, provider in reversed(list(found.items())):
        begun = f"{prefix}activate-{variable}" in run.journal.known
        if begun or not (provider.plan.get("scripts") or {}).get("activate_provider"):
            name = f"{prefix}deactivate-{variable}"
            await _provider_script(run, name, place, variable, provider, final=True)


async def _provider_script(
    run: Run, name: str, place: Place, variable: str, provider: Provider, *, final: bool
) -> None:
    which = "deactivate_provider" if final else "activate_provider"
    script = (provider.plan.get("scripts") or {}).get(which)
    if not script:
        return
    release = (await run.journal.read(lambda c: _provider(c, run, place, provider.name)))[1]
    folder = f"{_PROVIDERS}/{variable}"
    if release is not None:
        await asyncio.to_thread(unpack, run, release.digest, folder)
    variables = Variables()
    values.add(variables, "INPUT_", provider.inputs, values.sensitive(provider.plan, "inputs"))
    values.add(variables, "OUTPUT_", provider.outputs, values.sensitive(provider.plan, "outputs"))
    facts = run.variables(STEERSMAN_STAGE="deploy", STEERSMAN_DEPLOYMENT=provider.name)
    order = ordered(run.order, script, folder, variables, facts)
    done = await run.journal.script(name, order, final=final)
    if not done.passed and not final:
        run.journal.go_on()
        raise Failed(Reason.SCRIPT_FAILED, f"{which} of {provider.name} failed")


# -- packages


def unpack(run: Run, digest: str, folder: str) -> None:
    """A package in a folder of the workspace, which no link leads out of. Blocks."""
    workspace = run.order.folder.workspace
    target = workspace
    for part in Path(folder).parts:
        target = target / part
        if target.is_symlink() or target.is_file():
            target.unlink()
        target.mkdir(exist_ok=True)
    if not target.resolve().is_relative_to(workspace.resolve()):
        raise SteersmanError("PackageOutside", f"{folder} is not within the workspace")
    try:
        run.around.packages.unpack(digest, target)
    except PackageError as error:
        raise Failed(Reason.DEPENDENCY_FAILED, str(error)) from error
