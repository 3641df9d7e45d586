"""Keys and tokens that a body carries: sealed to the server, as documents of their own in the same commit (13.5).

The value never stands in a commit, an answer or an error; the resource names its Secret by `…_ref`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from api.escape.requests import wrong
from reconciler.installation import Installation
from reconciler.sealing import SealingError, seal
from specs.meta import Key
from specs.tree import Tree
from specs.write import Wish

_LONGEST = 200
TYPES: Mapping[str, str] = {"private_key": "ssh_key", "escape_auth_token": "value"}
"""Fields of bodies that are secret, with the type of their Secret."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one secret field: a new value, or (None) nothing more."""

    field: str
    value: str | None


def secret_key(owner: Key, field: str) -> Key:
    """The Secret that a field of a resource is kept in."""
    parts = (owner.kind.lower(), owner.project, owner.environment, owner.name, field.replace("_", "-"))
    name = "--".join(part for part in parts if part)
    return Key("Secret", owner.project, owner.environment, fitting(name))


def secret_keys(owner: Key) -> list[Key]:
    """All Secrets that the fields of a resource may be kept in."""
    return [secret_key(owner, field) for field in TYPES]


def wishes(
    installation: Installation, tree: Tree, owner: Key, spec: dict[str, object], changes: list[Change]
) -> list[Wish]:
    """The Secrets of a resource after these changes; its `…_ref` fields are set, in `spec` itself."""
    found = []
    for change in changes:
        key, reference = secret_key(owner, change.field), f"{change.field}_ref"
        if change.value is None:
            spec.pop(reference, None)
            found += gone(tree, [key])
            continue
        spec[reference] = key.name
        sealed = sealed_anew(installation, tree, key, change.field, change.value)
        if sealed is not None:
            found.append(Wish(key, {"type": TYPES[change.field], "sealed": sealed}))
    return found


def gone(tree: Tree, keys: list[Key]) -> list[Wish]:
    """Without these Secrets, as far as they are declared."""
    return [Wish(key, None) for key in keys if str(key) in tree.declared]


def allowed(owner: Key) -> Callable[[str], bool]:
    """Whoever may write a resource may write what it keeps secret, and nothing else that is secret."""
    return frozenset(str(key) for key in secret_keys(owner)).__contains__


def sealed_anew(installation: Installation, tree: Tree, key: Key, field: str, text: str) -> str | None:
    """The value of a field, sealed for its Secret; None where the very same one is there already."""
    value = text.encode()
    declared = tree.declared.get(str(key))
    now = (declared.spec if declared else None) or {}
    with suppress(SealingError):
        if now and installation.keys.open(now["sealed"], str(key)) == value:
            return None
    try:
        return seal(value, installation.keys.recipient, str(key))
    except SealingError as error:
        raise wrong(field, str(error)) from error


def fitting(name: str) -> str:
    """A name that a Secret may have; of a long one, the end stands for the rest."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
