"""Signed push webhooks: at most, they cause a fetch (design 5.2, 14.6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.passes.builds import repository_of
from reconciler.source.webhook import PushEvent, normalise_url, verify

_REMEMBERED = 1000
_seen: OrderedDict[str, None] = OrderedDict()


def receive(installation: Installation, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Check the signature, then wake the source and the Builds whose repository was pushed to."""
    secret = installation.settings.webhook_secret
    if secret is None:
        raise Refused("WebhooksOff", "set webhook_secret (STEERSMAN_WEBHOOK_SECRET) to accept webhooks")
    event = verify(headers, body, secret.get_secret_value())
    if event.delivery and not _first_time(event.delivery):
        return {"woken": [], "repeated": True}
    woken = _wake(installation, event)
    return {"woken": woken, "repeated": False}


def _wake(installation: Installation, event: PushEvent) -> list[str]:
    pushed = event.repositories
    woken = []
    if normalise_url(installation.settings.repo) in pushed:
        installation.wake("source")
        woken.append("source")
    for key, resource in installation.snapshot.current.resources.items():
        if resource.kind != "Build":
            continue
        repository = repository_of(installation, resource)
        if repository is not None and normalise_url(repository.url) in pushed:
            installation.mirrors.poke(repository.url)
            installation.wake(key)
            woken.append(key)
    return woken


def _first_time(delivery: str) -> bool:
    """Each delivery id counts once."""
    if delivery in _seen:
        return False
    _seen[delivery] = None
    while len(_seen) > _REMEMBERED:
        _seen.popitem(last=False)
    return True
