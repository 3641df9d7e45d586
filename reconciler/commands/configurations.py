"""Jobs of project configurations, made by hand (cider-ci 4.3): of a tree that some Repository is known to have."""

from __future__ import annotations

import re

from reconciler.access import Caller, require
from reconciler.apply.configurations import ConfiguredOrder, make, report
from reconciler.commands.jobs import load
from reconciler.errors import Forbidden, Refused
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.model.resource import Resource
from reconciler.passes import configurations
from reconciler.passes.configurations import Tree
from reconciler.store import history
from reconciler.store.database import Write
from specs.configuration import JobDeclaration
from specs.configuration_faults import BadConfiguration

_LONGEST_SHOWN = 100
_TREE = re.compile(r"[0-9a-f]{40}", re.ASCII)


async def create(installation: Installation, caller: Caller, tree: str, key: str) -> Job:
    """Make the job `key` of a tree; whatever it depends on, it may start at once.

    Refused where there is no such tree, configuration or key; Conflict where the tree has the job; Forbidden.
    """
    if not _TREE.fullmatch(tree):
        raise Refused("NoTree", "tree_id must be the 40 hexadecimal digits of a Git tree")
    resource = await _repository(installation, caller, tree)
    found = await _found(installation, resource, tree)
    declared = await _declared(installation, caller, found, key)
    days = ((resource.spec or {}).get("cider_ci") or {}).get("attachment_days") or {}
    specification = await configurations.specification(found, declared, days)
    order = ConfiguredOrder(
        resource.key, resource.project or "", declared, specification, found.checkout, {"type": "api"}
    )

    def work(write: Write) -> Job:
        return load(write, make(write, order))

    job = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    installation.wake(resource.key)
    return job


async def _repository(installation: Installation, caller: Caller, tree: str) -> Resource:
    """A Repository that has the tree, where the caller may start jobs if there is one."""
    keys = await installation.database.read(lambda c: history.repositories_with(c, tree))
    known = installation.snapshot.current.resources
    seen = [known[key] for key in sorted(keys) if key in known and caller.sees(key)]
    if not seen:
        raise Refused(
            "NoTree", f"no repository that is known here has the tree {tree}; was it fetched since the push?"
        )
    refusal: Forbidden | None = None
    for resource in seen:
        try:
            require(installation, caller, "trigger", resource.key)
        except Forbidden as error:
            refusal = refusal or error
        else:
            return resource
    raise refusal or Forbidden("Forbidden", "you may start no jobs there")


async def _found(installation: Installation, resource: Resource, tree: str) -> Tree:
    """The tree at the newest commit that has it, with a branch that has it as its head."""
    commit, heads = await installation.database.read(
        lambda c: (
            history.newest_with(c, resource.key, tree),
            history.heads_with(c, resource.key, tree),
        )
    )
    if commit is None:
        raise Refused("NoTree", f"{resource.key} has the tree {tree} no more")
    return await configurations.tree_at(installation, resource, commit, next(iter(heads), None))


async def _declared(installation: Installation, caller: Caller, tree: Tree, key: str) -> JobDeclaration:
    """The job in the tree's configuration. What is wrong with that is noted, for others to see."""
    try:
        configuration = await configurations.read(installation, tree)
    except BadConfiguration as bad:
        faults = [str(fault) for fault in bad.faults]
        await installation.database.write(
            lambda write: report(write, tree.repository, tree.id, faults), caller.actor
        )
        told = "; ".join(faults)
        where = f"{bad.file}: " if bad.file and not told.startswith(bad.file) else ""
        raise Refused("ConfigurationInvalid", f"{where}{told}") from None
    declared = configuration.jobs.get(key)
    if declared is None:
        known = ", ".join(configuration.jobs) or "none"
        shown = repr(key if len(key) <= _LONGEST_SHOWN else f"{key[:_LONGEST_SHOWN]}…")
        raise Refused("NoSuchKey", f"{configuration.file} has no job {shown}; its jobs: {known}")
    return declared
