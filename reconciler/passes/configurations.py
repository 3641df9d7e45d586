"""The project configuration of a tree, read from the mirror of a Repository that has the tree (cider-ci, section 6).

Used by the passes of Repositories and by who makes a job by hand. What was read is kept, as a tree never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.errors import Stalled, UnknownCommit
from reconciler.installation import Installation
from reconciler.model.job import Checkout
from reconciler.model.resource import Resource
from reconciler.passes import builds
from reconciler.source.git import Mirror
from specs import configuration, configuration_work
from specs.configuration import Configuration, JobDeclaration
from specs.configuration_expansion import Files
from specs.configuration_faults import BadConfiguration

_KEPT = 64
_LARGEST_FILE = 8 << 20  # what is read at all; what is too large for a configuration is told by who reads it
ATTACHMENT_DAYS = {"trial": 10, "tree": 90}


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree where it was found: in the mirror of a Repository (a KEY), at one commit that has it."""

    repository: str
    mirror: Mirror
    checkout: Checkout

    @property
    def id(self) -> str:
        """Of the tree."""
        return self.checkout.tree or ""


async def tree_at(installation: Installation, resource: Resource, commit: str, branch: str | None) -> Tree:
    """The tree of a commit of a Repository; UnknownCommit, or Stalled for a Repository that was never valid."""
    repository = _declared(installation, resource)
    mirror = await installation.mirrors.get(repository.url, repository.secret)
    tree = await mirror.tree_of(commit)
    if tree is None:
        raise UnknownCommit("UnknownCommit", f"{repository.url} has no commit {commit}")
    checkout = Checkout(repository.url, commit, tree, branch, secret=repository.secret)
    return Tree(resource.key, mirror, checkout)


async def main_branch(installation: Installation, resource: Resource) -> str | None:
    """The branch that a Repository names, or else its default branch as it was fetched last."""
    repository = _declared(installation, resource)
    named: str | None = (resource.spec or {}).get("branch")
    return named or await (await installation.mirrors.get(repository.url, repository.secret)).default_branch()


def _declared(installation: Installation, resource: Resource) -> builds.Repository:
    repository = builds.declared(installation, resource)
    if repository is None:
        raise Stalled("Invalid", f"{resource.key} never had a good specification")
    return repository


async def read(installation: Installation, tree: Tree) -> Configuration:
    """What the tree declares; BadConfiguration."""
    kept = installation.configurations
    found: Configuration | None = kept.get(tree.id)
    if found is None:
        found = await _with_files(tree, configuration.read)
        kept[tree.id] = found
        while len(kept) > _KEPT:
            kept.pop(next(iter(kept)))
    return found


async def specification(
    tree: Tree, declared: JobDeclaration, attachment_days: Mapping[str, int]
) -> dict[str, Any]:
    """A job's specification; of a faulty one, what is wrong with it in the place of tasks."""
    try:
        paths = await _paths(tree) if _generates(declared.context) else ()
        data = await asyncio.to_thread(configuration_work.work, declared, paths)
        issues = [] if data["tasks"] else [_NO_TASKS]
    except BadConfiguration as bad:
        faults = [str(fault) for fault in bad.faults]
        data = {"tasks": [], "timeout_seconds": None, "faults": faults}
        data["configuration"] = configuration_work.described(declared)
        issues = [_issue("error", f"The job is faulty in {declared.file}", fault) for fault in faults]
    described = {**data["configuration"], "attachment_days": {**ATTACHMENT_DAYS, **attachment_days}}
    return {
        **data,
        "configuration": described,
        "concurrency": "allow",
        "priority": declared.priority,
        "issues": issues,
    }


def _issue(kind: str, title: str, description: str) -> dict[str, str]:
    return {"type": kind, "title": title, "description": description}


_NO_TASKS = _issue("warning", "No tasks", "nothing was to be done, so the job has passed")


async def _with_files(tree: Tree, work: Callable[[Files], Configuration]) -> Configuration:
    """Do something off the event loop that reads files of the tree when it wants them."""
    loop = asyncio.get_running_loop()
    entries = await tree.mirror.entries(tree.checkout.commit or "")
    blobs = {entry.path: entry.blob for entry in entries if entry.regular}

    def file(path: str) -> bytes | None:
        blob = blobs.get(path)
        if blob is None:
            return None
        reading = asyncio.run_coroutine_threadsafe(tree.mirror.read([blob], _LARGEST_FILE), loop)
        return reading.result().get(blob)

    return await asyncio.to_thread(work, file)


async def _paths(tree: Tree) -> Sequence[str]:
    entries = await tree.mirror.entries(tree.checkout.commit or "")
    return [entry.path for entry in entries if entry.regular and entry.readable]


def _generates(value: Any) -> bool:
    """Does anything in a context make tasks of files?"""
    if isinstance(value, Mapping):
        return "generate_tasks" in value or any(map(_generates, value.values()))
    return False
