"""Receivers of Notifications as a commit declares them; inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.controllers.notifications import KINDS as KINDS
from reconciler.controllers.notifications import receivers
from reconciler.model.resource import Resource
from reconciler.store import notified
from reconciler.store.database import Write

ALL = "notifications"
"""The name of the pass that looks at all of them."""


def follow(write: Write, stored: Iterable[Resource], removed: Iterable[str]) -> None:
    """A new receiver is told of what comes after the commit that names it; one that is gone is forgotten."""
    gone = [key for key in removed if key.partition("/")[0] in KINDS]
    if gone:
        notified.drop(write, gone)
    for resource in stored:
        if resource.kind in KINDS:
            notified.follow(write, resource.key, receivers(resource.spec))
