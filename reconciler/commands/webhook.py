"""Signed push webhooks: at most, they cause a fetch (design 5.2, 14.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.passes.builds import wake_followers
from reconciler.passes.source import source_url
from reconciler.source.webhook import PushEvent, verify

_REMEMBERED = 1000


def receive(installation: Installation, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Check the signature, then wake the source and the Builds whose repository was pushed to."""
    secret = installation.settings.webhook_secret
    if secret is None:
        raise Refused("WebhooksOff", "set webhook_secret (STEERSMAN_WEBHOOK_SECRET) to accept webhooks")
    event = verify(headers, body, secret.get_secret_value())
    if event.delivery and not _first_time(installation, event.delivery):
        return {"woken": [], "repeated": True}
    woken = _wake(installation, event)
    return {"woken": woken, "repeated": False}


def _wake(installation: Installation, event: PushEvent) -> list[str]:
    woken = []
    if source_url(installation) in event.repositories:
        installation.wake("source")
        woken.append("source")
    return woken + wake_followers(installation, event.repositories)


def _first_time(installation: Installation, delivery: str) -> bool:
    """Each delivery id counts once."""
    seen = installation.deliveries
    if delivery in seen:
        return False
    seen[delivery] = None
    while len(seen) > _REMEMBERED:
        seen.popitem(last=False)
    return True
