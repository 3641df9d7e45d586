"""Declared writes of the Escape State Service API: one commit each, and the answer with its headers (13.2, 3.8).

An intent says what shall be on the newest commit; what it finds there, it may refuse. Never touches the store or Git
itself: that is the door's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import MediaType, Response

from reconciler.access import Caller
from reconciler.commands import declare
from reconciler.commands.declare import Intent, Terms, Written
from reconciler.errors import BrokenBefore, Conflict, NotFound
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from specs.kinds import KINDS
from specs.layers import without_nulls
from specs.meta import Key
from specs.tree import Tree
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Done:
    """A write, and what was wished for at last."""

    written: Written
    wishes: Sequence[Wish]

    def spec(self, installation: Installation, key: Key) -> tuple[Mapping[str, Any], Resource | None]:
        """What a resource is now: as it is in force, or as it was wished for where that is not applied yet."""
        resource = installation.snapshot.current.resources.get(str(key))
        if self.written.applied and resource is not None and resource.spec is not None:
            return resource.spec, resource
        wished = next((wish.spec for wish in self.wishes if wish.key == key), None)
        if wished is None:
            return (resource.spec if resource else None) or {}, resource
        model = KINDS[key.kind].model
        return model.model_validate(without_nulls(dict(wished))).model_dump(mode="json"), resource


async def commit(installation: Installation, caller: Caller, intent: Intent, terms: Terms) -> Done:
    """Make it so."""
    last: list[Sequence[Wish]] = [()]

    def wished(tree: Tree) -> Sequence[Wish]:
        last[0] = intent(tree)
        return last[0]

    written = await declare.write(installation, caller, wished, terms)
    return Done(written, last[0])


def answer(done: Done, content: Any, tag: str | None = None) -> Response[Any]:
    """200 with what a GET would show (None: nothing); 202 where the commit waits to be merged."""
    written = done.written
    headers = {"X-Steersman-Reconciled": str(written.applied).lower()}
    if written.commit is not None:
        headers["X-Steersman-Commit"] = written.commit
    if written.branch is not None:
        waits = {"branch": written.branch, "commit": written.commit}
        return Response(waits, status_code=202, headers=headers, media_type=MediaType.JSON)
    if tag is not None and written.applied:
        headers["ETag"] = f'"{tag}"'
    if content is None:
        return Response("", status_code=200, headers=headers, media_type=MediaType.TEXT)
    return Response(content, status_code=200, headers=headers, media_type=MediaType.JSON)


def before(installation: Installation, tree: Tree, key: Key, words: str) -> Mapping[str, Any]:
    """What a resource is before it is changed: on the newest commit, or its last good version while it is invalid.

    NotFound if Git does not declare it (any more).
    """
    there(installation, tree, key, words)
    spec = tree.declared[str(key)].spec
    if spec is not None:
        return spec
    resource = installation.snapshot.current.resources.get(str(key))
    return (resource.spec if resource else None) or {}


def there(installation: Installation, tree: Tree, key: Key, words: str) -> None:
    """NotFound if Git does not declare a resource; BrokenBefore if a file that cannot be read still may."""
    if str(key) in tree.declared:
        return
    resource = installation.snapshot.current.resources.get(str(key))
    if resource is not None and resource.path in tree.opaque:
        raise BrokenBefore(
            "SpecInvalid", f"{resource.path}, which declares {key}, cannot be read; correct it first."
        )
    raise NotFound("NotDeclared", words)


def absent(installation: Installation, tree: Tree, key: Key, words: str) -> None:
    """Conflict if something of this KEY is there already, also where its file cannot be read just now."""
    resource = installation.snapshot.current.resources.get(str(key))
    if str(key) in tree.declared or (resource is not None and resource.path in tree.opaque):
        raise Conflict("AlreadyExists", words)


def unused(caller: Caller, tree: Tree, gone: Iterable[str], besides: Iterable[str] = ()) -> None:
    """Conflict if what stays refers to what shall go; `besides` are changed in the same commit."""
    leaving, spared = set(gone), set(besides)
    for key, found in tree.declared.items():
        used = found.references & leaving
        if used and key not in leaving and key not in spared:
            who = key if caller.sees(key) else "something that you have no role on"
            raise Conflict("InUse", f"{who} refers to {min(used)}; change that first.")


def all_of(installation: Installation, tree: Tree, project: str, environment: str | None) -> list[Key]:
    """The KEYs of everything in a project or an environment, itself left out; BrokenBefore if not all can be read."""
    for key, resource in installation.snapshot.current.resources.items():
        inside = resource.project == project and environment in (None, resource.environment)
        if inside and key not in tree.declared and resource.path in tree.opaque:
            raise BrokenBefore(
                "SpecInvalid", f"{resource.path}, which declares {key}, cannot be read; correct it first."
            )
    return [
        Key(d.kind, d.project, d.environment, d.name)
        for d in tree.declared.values()
        if d.project == project and environment in (None, d.environment)
    ]
