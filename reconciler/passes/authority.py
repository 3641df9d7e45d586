"""Who may do what by the state that is in force: for the doors, by `reconciler.access`, and for what runs by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.controllers.rights import KINDS, Authority, authority, need
from reconciler.installation import Installation
from reconciler.model.rights import INSTALLATION, Level, Scope, scope_of
from specs.meta import Key


def authority_of(installation: Installation) -> Authority:
    """All grants of the state that is in force, made once for each change of them."""
    resources = installation.snapshot.current.of_kinds(KINDS)
    if installation.authority is None or installation.authority[0] is not resources:
        installation.authority = resources, authority(resources.values())
    return installation.authority[1]


def is_protected(installation: Installation, key: Key) -> bool:
    """Is it in an environment in which people need to be owners?"""
    scope = scope_of(key)
    if scope.environment is None:
        return False
    resource = installation.snapshot.current.resources.get(f"Environment/{scope.project}/{scope.environment}")
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    return bool(spec.get("protected"))


def refusal(
    installation: Installation,
    subject: str,
    verb: str,
    key: Key,
    limits: tuple[Level, Scope] = (Level.OWNER, INSTALLATION),
) -> str | None:
    """Why a subject may not do this to a thing, in a sentence; None where it may.

    For what runs as somebody: a service account needs no more than `write` where people would (escape-state, 5), and
    `limits` are those of the token that it was started with.
    """
    runs = subject.startswith("ServiceAccount/")
    wanted = need(verb, key, protected=is_protected(installation, key), running=runs)
    held = authority_of(installation).of(subject).narrowed(*limits).at(wanted.scope)
    if held is not None and held >= wanted.level:
        return None
    has = held.word if held else "none"
    return f"{subject} has the role {has} on {wanted.scope}; to {verb} {key} takes {wanted.level.word}"
