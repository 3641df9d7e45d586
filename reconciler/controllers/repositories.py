"""What a Repository's specification means for who fetches it: by which transport, with which Secret, and whether
anything is done with what comes. And the conditions that its passes give it. Pure.

Called by the passes of Builds and Repositories, the webhook's door and `declared_only`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from reconciler.model.resource import Resource
from specs.references import secret_keys

UNREACHABLE = "RepositoryUnavailable"
CONFIGURATION = "ConfigurationInvalid"
MANIFEST = "ManifestInvalid"
CONDITIONS = frozenset({UNREACHABLE, CONFIGURATION, MANIFEST})
"""The types of conditions of a Repository whose new heads something is done with."""

_SHOWN = 3


def follows(resource: Resource | None) -> bool:
    """Is anything done with new heads of this Repository?"""
    if resource is None or resource.kind != "Repository":
        return False
    return keeps_history(resource) or bool((resource.spec or {}).get("srht"))


def keeps_history(resource: Resource | None) -> bool:
    """Are its commits known here, and do its project configurations make jobs?"""
    cider_ci = ((resource.spec if resource else None) or {}).get("cider_ci") or {}
    return bool(cider_ci.get("enabled"))


def troubled(resource: Resource) -> bool:
    """Has it a condition that only the passes of a followed Repository keep?"""
    return any(condition.type in CONDITIONS for condition in resource.conditions)


def by_interest(by_branch: Mapping[str, str], main: str | None, at: Mapping[str, datetime]) -> dict[str, str]:
    """What is wrong, by branch: of the main one first, then of others from the newest head to the oldest."""

    def place(name: str) -> tuple[bool, bool, float, str]:
        known = name in at
        return name != main, not known, -at[name].timestamp() if known else 0, name

    return {name: by_branch[name] for name in sorted(by_branch, key=place)}


def summary(by_branch: Mapping[str, str]) -> str:
    """What is wrong on several branches, the first ones for one condition."""
    told = list(dict.fromkeys(by_branch.values()))
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return "; ".join(told[:_SHOWN]) + more


def by_ssh(url: str) -> bool:
    """Is it fetched by ssh (ssh://…, git@host:path), so that a private key is of use?"""
    return url.startswith("ssh://") if "://" in url else not url.startswith("/")


def secret_of(project: str | None, name: str | None, declared: Container[Any]) -> str | None:
    """The KEY of the Secret that a Repository names: the nearest that is declared, or else where it should be."""
    if not name:
        return None
    keys = secret_keys(project, None, name)
    return next((key for key in keys if key in declared), keys[0])
