"""Signed push webhooks: at most, they cause a fetch (design 5.2, 14.6).

A Repository that names a secret of its own listens to hooks signed with that one; all else listens to those signed
with the server's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from reconciler.errors import BadSignature, Refused, Stalled
from reconciler.installation import Installation
from reconciler.passes.builds import Repository, declared, repository_of, wake_followers, webhook_secret
from reconciler.passes.source import source_url
from reconciler.source.webhook import WRONG, PushEvent, normalise_url, verify

_REMEMBERED = 1000


def receive(installation: Installation, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Check the signature, then wake the source, and what listens to it of the repository that was pushed to."""
    if installation.settings.webhook_secret is None and next(_with_own(installation), None) is None:
        raise Refused(
            "WebhooksOff",
            "set webhook_secret (STEERSMAN_WEBHOOK_SECRET), or a Repository's webhook_secret_ref, to accept webhooks",
        )
    event, signers = verify(headers, body, partial(_secrets, installation))
    listening = _listening(installation, event.repositories)
    if listening and not listening & signers:
        raise BadSignature("BadSignature", WRONG)
    if not _first_time(installation, event.delivery, signers):
        return {"woken": [], "repeated": True}
    return {"woken": _wake(installation, event, signers), "repeated": False}


def _with_own(installation: Installation) -> Iterator[Repository]:
    """Repositories that name a webhook secret of their own."""
    for resource in installation.snapshot.current.resources.values():
        if resource.kind == "Repository" and (resource.spec or {}).get("webhook_secret_ref"):
            repository = declared(installation, resource)
            if repository is not None:
                yield repository


def _secrets(installation: Installation, pushed: frozenset[str]) -> dict[str | None, bytes]:
    """What may sign a push to one of these; a Secret that cannot be opened signs nothing (its Builds say so)."""
    found: dict[str | None, bytes] = {}
    if (own := installation.settings.webhook_secret) is not None:
        found[None] = own.get_secret_value().encode()
    for repository in _with_own(installation):
        key = repository.webhook_secret
        if key is not None and key not in found and normalise_url(repository.url) in pushed:
            with suppress(Stalled):
                found[key] = webhook_secret(installation, key)
    return found


def _listening(installation: Installation, pushed: frozenset[str]) -> set[str | None]:
    """The KEYs of the Secrets that what is declared for these repositories listens to; None: the server's."""
    found: set[str | None] = {None} if source_url(installation) in pushed else set()
    for resource in installation.snapshot.current.resources.values():
        if resource.kind == "Repository":
            repository = declared(installation, resource)
        else:
            repository = repository_of(installation, resource) if resource.kind == "Build" else None
        if repository is not None and normalise_url(repository.url) in pushed:
            found.add(repository.webhook_secret)
    return found


def _wake(installation: Installation, event: PushEvent, signers: Collection[str | None]) -> list[str]:
    woken = []
    if None in signers and source_url(installation) in event.repositories:
        installation.wake("source")
        woken.append("source")
    return woken + wake_followers(installation, event.repositories, signers)


def _first_time(installation: Installation, delivery: str, signers: Collection[str | None]) -> bool:
    """Each delivery id counts once for each who signs: several hooks of one push may share it."""
    seen = installation.deliveries
    marks = [f"{delivery} {signer or ''}" for signer in signers]
    fresh = [mark for mark in marks if mark not in seen]
    for mark in fresh:
        seen[mark] = None
    while len(seen) > _REMEMBERED:
        seen.popitem(last=False)
    return bool(fresh)
