"""What a Repository's specification means for who fetches it: by which transport, and with which Secret. Pure.

Called by the Builds' passes, the webhook's door and `declared_only`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from specs.references import secret_keys


def by_ssh(url: str) -> bool:
    """Is it fetched by ssh (ssh://…, git@host:path), so that a private key is of use?"""
    return url.startswith("ssh://") if "://" in url else not url.startswith("/")


def secret_of(project: str | None, name: str | None, declared: Container[Any]) -> str | None:
    """The KEY of the Secret that a Repository names: the nearest that is declared, or else where it should be."""
    if not name:
        return None
    keys = secret_keys(project, None, name)
    return next((key for key in keys if key in declared), keys[0])
