"""After a change of the server's key: Secrets are sealed anew, all in one commit, and stored states locked anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.access import Caller, require_level
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.installation import Installation
from reconciler.model.rights import Level
from reconciler.passes import edits
from reconciler.sealing import SealingError
from reconciler.store import deployments
from reconciler.store.database import Write
from specs.meta import parse_key
from specs.tree import Tree
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Resealed:
    """`keys`: the Secrets that are sealed anew; `states`: how many states of deployments are locked anew.

    `failed`: what cannot be opened, with why, by KEY.
    """

    written: Written
    keys: tuple[str, ...]
    states: int = 0
    failed: dict[str, str] = field(default_factory=dict)


async def reseal(installation: Installation, caller: Caller, terms: Terms) -> Resealed:
    """Seal all Secrets to the first identity of the key file; those that are already stay as they are."""
    require_level(caller, Level.OWNER, "sealing all secrets anew")
    done: list[str] = []
    failed: dict[str, str] = {}
    anew: dict[str, str | None] = {}
    if installation.desired is not None:  # opening and sealing take a while, which nobody else shall wait for
        await asyncio.to_thread(
            lambda tree: list(_wishes(installation, tree, {}, anew)), installation.desired.tree
        )

    def intent(tree: Tree) -> list[Wish]:
        done.clear()
        failed.clear()
        wishes = list(_wishes(installation, tree, failed, anew))
        done.extend(str(wish.key) for wish in wishes)
        return wishes

    written = await declare.write(installation, caller, intent, terms)

    def lock(write: Write) -> tuple[int, dict[str, str]]:
        states, unopened = deployments.lock_anew(write, installation.keys)
        if states:
            write.record("states-locked-anew", None, {"count": states})
        return states, unopened

    states, unopened = await installation.database.write(lock, caller.actor)
    return Resealed(written, tuple(sorted(done)), states, failed | unopened)


def _wishes(
    installation: Installation, tree: Tree, failed: dict[str, str], anew: dict[str, str | None]
) -> Iterator[Wish]:
    """`anew`: what was sealed before, by what it was sealed from."""
    for key, declared in tree.declared.items():
        if not key.startswith("Secret/"):
            continue
        if not declared.spec:
            failed[key] = f"{key} is not valid, so it was left as it is; `steersman get {key}` says why"
            continue
        old = declared.spec["sealed"]
        try:
            sealed = anew[old] if old in anew else installation.keys.anew(old, key)
        except SealingError as error:
            failed[key] = str(error)
            continue
        anew[old] = sealed
        if sealed is None:
            continue
        wish = Wish(parse_key(key), {**declared.spec, "sealed": sealed})
        if edits.mode_of(installation, [wish]) == "read-only":
            failed[key] = "this server does not write to Git there; seal it anew by hand"
            continue
        yield wish
