"""Secrets after a change of the server's key: sealed anew, all in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.access import Caller, require_level
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.installation import Installation
from reconciler.model.rights import Level
from reconciler.sealing import SealingError
from specs.meta import parse_key
from specs.tree import Tree
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Resealed:
    """`keys`: the Secrets that are sealed anew; `failed`: those that cannot be opened, with why, by KEY."""

    written: Written
    keys: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)


async def reseal(installation: Installation, caller: Caller, terms: Terms) -> Resealed:
    """Seal all Secrets to the first identity of the key file; those that are already stay as they are."""
    require_level(caller, Level.OWNER, "sealing all secrets anew")
    done: list[str] = []
    failed: dict[str, str] = {}

    def intent(tree: Tree) -> list[Wish]:
        done.clear()
        failed.clear()
        wishes = list(_wishes(installation, tree, failed))
        done.extend(str(wish.key) for wish in wishes)
        return wishes

    written = await declare.write(installation, caller, intent, terms)
    return Resealed(written, tuple(sorted(done)), dict(failed))


def _wishes(installation: Installation, tree: Tree, failed: dict[str, str]) -> Iterator[Wish]:
    for key, declared in tree.declared.items():
        if not key.startswith("Secret/") or not declared.spec:
            continue
        try:
            sealed = installation.keys.anew(declared.spec["sealed"], key)
        except SealingError as error:
            failed[key] = str(error)
            continue
        if sealed is not None:
            yield Wish(parse_key(key), {**declared.spec, "sealed": sealed})
