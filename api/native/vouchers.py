"""Vouchers: what a browser or a command line carries for a while, and only this server can have made.

Stateless, so that they hold across a restart and with several daemons: fields, an end, and a mark over both. Whoever
holds a voucher can read it; nobody can change it, or use it for another purpose. Called by the routes of sign-in.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from reconciler.sealing import Keys


def issue(keys: Keys, purpose: str, fields: Mapping[str, Any], until: datetime) -> str:
    """A voucher for JSON-able fields: characters that a cookie and an address take as they are."""
    text = _encoded(msgspec.json.encode((until.timestamp(), dict(fields))))
    return f"{text}.{keys.mac(purpose, text)}"


def read(keys: Keys, purpose: str, voucher: str, now: datetime) -> dict[str, Any] | None:
    """Its fields; None for what this server did not issue for this purpose, and for what is over."""
    text, _, mark = voucher.partition(".")
    if not voucher.isascii() or not keys.is_mac(purpose, text, mark):
        return None
    until, fields = msgspec.json.decode(_decoded(text), type=tuple[float, dict[str, Any]])
    return fields if now.timestamp() < until else None


def challenge_of(verifier: str) -> str:
    """What is shown of a verifier before it is told (RFC 7636, S256)."""
    return _encoded(hashlib.sha256(verifier.encode()).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
