"""Versions that a pipeline's deploy and tag steps choose (escape-state, 10.4), and their commits.

Called by `passes.pipeline_steps`. What was chosen is kept with the step before anything is committed, so that after a
kill the same version is found to be in Git already. Versions of one run that are due together are one commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import Moved, PushRefused, Stalled, SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.event import Actor
from reconciler.model.pipeline import Run, Step
from reconciler.model.resource import Resource
from reconciler.passes import edits
from reconciler.passes.edits import Edit
from reconciler.store import deployments, releases
from reconciler.store.database import Connection
from specs.meta import parse_key
from specs.release import is_version
from specs.versions import is_pattern, ordinal
from specs.write import Wish

TRAILER = "Steersman-Pipeline-Run"
"""Marks the commits of pipelines; what they cause starts none (10.3)."""

_TRIES = 5
_PAUSE_SECONDS = 0.5


def chosen(
    connection: Connection, installation: Installation, run: Run, step: Step, resource: Resource
) -> str | None:
    """The version that a deploy step's policy means for its Deployment; None: there is none."""
    release = (resource.spec or {}).get("release")
    policy = step.declared["update_version"]
    if not release:
        return None
    if policy == "last-version-in-pipeline":
        return next(reversed(_published(connection, run, release)), None)
    if policy == "version-from-deployment-job":
        return _deployed(connection, installation, run, step)
    wanted = "latest" if policy == "latest-version" else step.declared["tag"]
    found = releases.resolve(connection, release, wanted)
    return found.version if found is not None else None


def to_tag(connection: Connection, run: Run, step: Step) -> str | None:
    """The version that a tag-release step means; None: there is none."""
    namespace, application = step.declared["namespace"], step.declared["application"]
    policy = step.declared["tag_version"]
    if policy == "tagged-version":
        return releases.tagged(connection, namespace, application, step.declared["tag_tagged_version"])
    published = _published(connection, run, f"{namespace}/{application}")
    if policy == "highest-version-in-pipeline":
        return max(published, key=ordinal, default=None)
    return next(reversed(published), None)


def _published(connection: Connection, run: Run, release: str) -> list[str]:
    """Versions of a release that executions of this run have published, in the order of time."""
    found = releases.published_by(connection, run.jobs())
    return [each.version for each in found if each.name == release]


def _deployed(connection: Connection, installation: Installation, run: Run, step: Step) -> str | None:
    declared = step.declared
    place = deployment.Place(
        declared.get("project") or run.project,
        declared["update_version_environment"],
        declared["update_version_deployment"],
    )
    row = deployments.load(connection, installation.keys, place)
    if row is None or deployment.code(row.state) != deployment.OK:
        return None
    return str(deployment.stage(row.state, deployment.DEPLOY)["version"]) or None


def follows_others(spec: Mapping[str, Any]) -> bool:
    """Is a Deployment's version a moving one, which nobody edits: `latest`, a prefix, a tag?"""
    version = spec.get("version") or ""
    return bool(version) and (not is_version(version) or is_pattern(version))


async def declare(installation: Installation, run: Run, wanted: Mapping[str, str]) -> str | None:
    """Commit versions, KEY → version, where Git says otherwise; None once they are in force, or why they are not."""
    missing = f"the new version of {', '.join(sorted(wanted))} is not in force: "
    for attempt in range(_TRIES):
        try:
            async with installation.writing:
                fault = await _commit(installation, run, wanted)
            if fault is not None:
                return missing + fault
            await installation.run_now("source")
            if not (late := _late(installation, wanted)):
                return None
            told = f"{', '.join(late)} was changed in Git, but that is not applied"
        except Moved as error:
            told = error.message
            continue
        except PushRefused as error:
            return missing + error.message
        except (Transient, Stalled) as error:
            told = error.message
        except SteersmanError as error:
            return missing + error.message
        await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
    return missing + told


async def _commit(installation: Installation, run: Run, wanted: Mapping[str, str]) -> str | None:
    """One attempt on the newest commit; None if Git says so now, or said so before."""
    with edits.reachable():
        desired = await edits.newest(installation)
    wishes: list[Wish] = []
    for key, version in wanted.items():
        declared = desired.tree.declared.get(key)
        if declared is None or declared.spec is None:
            return f"{key} is not declared, or invalid"
        if declared.spec.get("version") != version:
            wishes.append(Wish(parse_key(key), {**declared.spec, "version": version}))
    if not wishes:
        return None
    if (mode := edits.mode_of(installation, wishes)) != "direct":
        return f"write_mode is {mode}"
    rewritten = await edits.rewritten(installation, desired, wishes)
    if not rewritten.files:
        return None
    await edits.judge(installation, desired, rewritten)
    identity = run.identity or run.actor
    trailer = (TRAILER, f"{run.project}/{run.name}#{run.number}")
    edit = Edit(identity, "pipeline", (trailer,))
    await edits.commit(installation, desired, rewritten, edit, Actor(identity))
    return None


def _late(installation: Installation, wanted: Mapping[str, str]) -> list[str]:
    """What Git says, but is not in force yet."""
    known = installation.snapshot.current.resources
    return [
        key
        for key, version in wanted.items()
        if (resource := known.get(key)) is None or (resource.spec or {}).get("version") != version
    ]


async def is_of_pipeline(installation: Installation, commits: Sequence[str]) -> bool:
    """Was one of these commits of the spec repository made by a pipeline?"""
    for commit in commits:
        facts = await installation.source.facts(commit)
        if facts is not None and f"{TRAILER}: " in facts.body:
            return True
    return False
