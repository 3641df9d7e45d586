"""What would happen: the plan of the followed branch, of any ref, or of files that are not committed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from reconciler.access import Caller
from reconciler.errors import NotFound, SteersmanError
from reconciler.installation import Installation
from reconciler.passes import source
from reconciler.queries import foreseen
from reconciler.source.desired import Desired, from_texts
from reconciler.source.watch import local_path


async def of_branch(installation: Installation, caller: Caller) -> dict[str, Any]:
    """The plan of the followed branch: empty, unless something is held or new."""
    return await of_ref(installation, caller, installation.settings.branch)


async def of_ref(installation: Installation, caller: Caller, ref: str) -> dict[str, Any]:
    """What would change if all was as a branch, tag or commit has it.

    `behind`: how many commits of the followed branch it has not; what they brought is shown as taken back, which a
    merge would not do. 0 for what the followed branch holds already: that is the way back to it.
    """
    mirror = installation.source
    if local_path(installation.settings.repo) is None:
        await mirror.fetch()
    commit = await mirror.resolve(ref)
    if commit is None:
        raise NotFound("NoSuchRef", f"{installation.settings.repo} has no branch, tag or commit {ref!r}")
    desired = await source.read(installation, commit, installation.desired)
    behind = await _behind(installation, commit)
    return {"revision": commit, "behind": behind} | await _plan(installation, caller, desired, commit)


async def _behind(installation: Installation, commit: str) -> int:
    """Commits that the followed branch has and the other side lacks; where each has some of its own."""
    mirror = installation.source
    head = await mirror.head(installation.settings.branch)
    if head is None or await mirror.is_ancestor(commit, head):
        return 0
    async with aclosing(mirror.history((head,), (commit,))) as lacking:
        return sum([len(portion) async for portion in lacking])


async def of_files(installation: Installation, caller: Caller, files: Mapping[str, str]) -> dict[str, Any]:
    """What these files, as the whole of the specs, would do."""
    contents = {path: text.encode("utf-8", "surrogatepass") for path, text in files.items()}
    desired = await asyncio.to_thread(from_texts, contents, installation.settings.file_bytes)
    return {"revision": None} | await _plan(installation, caller, desired, None)


async def branches(installation: Installation, caller: Caller) -> list[str]:
    """Branches of the spec repository, at most 200, for who sees anything; none while it is out of reach."""
    if not caller.rights.roles:
        return []
    try:
        return sorted(await installation.source.heads())[:200]
    except SteersmanError:
        return []


async def _plan(
    installation: Installation, caller: Caller, desired: Desired, commit: str | None
) -> dict[str, Any]:
    """What of it the caller may see; the digest is of the whole."""
    keys = frozenset(desired.tree.declared) | installation.snapshot.current.resources.keys()
    outcome = await source.decide(installation, desired, keys)
    deploys = await foreseen.deploys(installation, outcome, commit)
    shown = outcome.plan.to_dict() | {
        "deploys": [each.to_dict() for each in deploys if caller.sees_all or caller.sees(each.key)]
    }
    if caller.sees_all:
        return shown
    return shown | {
        "actions": [action for action in outcome.plan.actions if caller.sees(action.key)],
        "held": [held for held in outcome.plan.held if all(caller.sees(key) for key in held.keys)],
        "errors": [error for error in shown["errors"] if error["key"] and caller.sees(error["key"])],
    }
