"""Push webhooks: the signature checked over the raw body, and the repositories a payload names.

Called by the webhook's door with headers and body. Pure: it changes nothing, and what it returns can at most cause a
fetch. GitHub, Gitea, Forgejo and GitLab, each by its own headers. The repositories that a body names say which
secrets may have signed it; nothing else of it is believed, or told, before one of them has.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from reconciler.errors import BadSignature
from reconciler.source.names import normalise_url

__all__ = ["BadSignature", "PushEvent", "normalise_url", "verify"]

# (header, whether it is a signature of the body rather than the secret itself)
_SIGNATURES = (
    ("x-hub-signature-256", True),
    ("x-forgejo-signature", True),
    ("x-gitea-signature", True),
    ("x-gogs-signature", True),
    ("x-gitlab-token", False),
)
SIGNED_BY = frozenset(name for name, _ in _SIGNATURES)
"""Headers, in lower case, of which one is there where a body is signed."""

_DELIVERIES = (
    "x-github-delivery",
    "x-forgejo-delivery",
    "x-gitea-delivery",
    "x-gogs-delivery",
    "x-gitlab-event-uuid",
    "idempotency-key",
)
_EVENTS = ("x-github-event", "x-forgejo-event", "x-gitea-event", "x-gogs-event", "x-gitlab-event")
_KINDS = {
    "push": "push",
    "create": "push",
    "delete": "push",
    "push hook": "push",
    "tag push hook": "push",
    "ping": "ping",
}
_URLS = (
    "clone_url",
    "ssh_url",
    "git_url",
    "html_url",
    "git_http_url",
    "git_ssh_url",
    "url",
    "homepage",
    "web_url",
)
_LONGEST = 2_000
WRONG = "the signature of the webhook is wrong"

# Normalised URLs -> the secrets that may sign a push to one of them, by the KEY of their Secret; None: the server's.
Secrets = Callable[[frozenset[str]], Mapping[str | None, bytes]]


@dataclass(frozen=True, slots=True)
class PushEvent:
    """A verified webhook: `kind` is push, ping or other; `urls` are as the forge wrote them."""

    delivery: str
    kind: str
    urls: tuple[str, ...]
    ref: str | None

    @property
    def repositories(self) -> frozenset[str]:
        """The URLs in the form of `normalise_url`, for comparing."""
        return frozenset(normalise_url(url) for url in self.urls)


def verify(
    headers: Mapping[str, str], body: bytes, secrets: Secrets
) -> tuple[PushEvent, frozenset[str | None]]:
    """The event of a signed body, and whose secrets have signed it; BadSignature when none has.

    Header names in any case. A body that is signed but not understood is an event without URLs. Forges that
    send no delivery id get the digest of the body.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    given = [(lower[name], signs) for name, signs in _SIGNATURES if name in lower]
    if not given:
        raise BadSignature("BadSignature", "the webhook carries no signature that can be checked")
    event = _event(lower, body)
    candidates = secrets(event.repositories)
    signers = frozenset(owner for owner, secret in candidates.items() if _signed(given, body, secret))
    if not signers:
        raise BadSignature("BadSignature", WRONG)
    return event, signers


def _event(lower: Mapping[str, str], body: bytes) -> PushEvent:
    payload = _payload(body)
    return PushEvent(
        delivery=(_first(lower, _DELIVERIES) or hashlib.sha256(body).hexdigest())[:200],
        kind=_KINDS.get((_first(lower, _EVENTS) or "").lower(), "other"),
        urls=tuple(dict.fromkeys(_urls(payload))),
        ref=_text(payload.get("ref")),
    )


def _signed(given: Sequence[tuple[str, bool]], body: bytes, secret: bytes) -> bool:
    """Compare every signature that is there, in constant time: none may be wrong. An empty secret signs nothing."""
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
    good = [
        hmac.compare_digest(value.removeprefix("sha256=").lower().encode(), digest.encode())
        if signs
        else hmac.compare_digest(value.encode(), secret)
        for value, signs in given
    ]
    return bool(secret) and all(good)


def _payload(body: bytes) -> dict[str, Any]:
    """The JSON object, also from a form field `payload`; empty for anything else."""
    try:
        if body.startswith(b"payload="):
            body = parse_qs(body.decode(), max_num_fields=10)["payload"][0].encode()
        payload = json.loads(body)
    except (ValueError, KeyError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _urls(payload: Mapping[str, Any]) -> Iterator[str]:
    for part in ("repository", "project"):
        about = payload.get(part)
        if isinstance(about, dict):
            for name in _URLS:
                if url := _text(about.get(name)):
                    yield url


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST else None


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if headers.get(name)), None)
