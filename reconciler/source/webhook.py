"""Push webhooks: the signature checked over the raw body, and the repositories a payload names.

Called by the API's webhook route with headers and body. Pure: it changes nothing, and what it returns can at
most cause a fetch. GitHub, Gitea, Forgejo and GitLab, each by its own headers; a body without a good
signature is never parsed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
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


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> PushEvent:
    """The event of a signed body; BadSignature when it has no good signature.

    Header names in any case. A body that is signed but not understood is an event without URLs. Forges that
    send no delivery id get the digest of the body.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    _check(lower, body, secret)
    payload = _payload(body)
    return PushEvent(
        delivery=(_first(lower, _DELIVERIES) or hashlib.sha256(body).hexdigest())[:200],
        kind=_KINDS.get((_first(lower, _EVENTS) or "").lower(), "other"),
        urls=tuple(dict.fromkeys(_urls(payload))),
        ref=_text(payload.get("ref")),
    )


def _check(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """Compare every signature that is there, in constant time: one is needed and none may be wrong."""
    given = [(headers[name], signs) for name, signs in _SIGNATURES if name in headers]
    if not secret or not given:
        raise BadSignature("BadSignature", "the webhook carries no signature that can be checked")
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    good = [
        hmac.compare_digest(value.removeprefix("sha256=").lower().encode(), digest.encode())
        if signs
        else hmac.compare_digest(value.encode(), secret.encode())
        for value, signs in given
    ]
    if not all(good):
        raise BadSignature("BadSignature", "the signature of the webhook is wrong")


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
