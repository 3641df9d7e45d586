"""Tokens: made, listed, revoked. The secret is shown once; only its hash is stored (design 9)."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from reconciler.credentials import token_hash
from reconciler.errors import NotFound, Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.store import tokens
from reconciler.store.database import Write
from reconciler.store.tokens import Token

SCOPES = ("read", "write", "admin")
_LONGEST_DAYS = 365


async def create(
    installation: Installation, name: str, scope: str, days: int, actor: Actor
) -> dict[str, Any]:
    """A new token of the caller, with its secret."""
    if scope not in SCOPES:
        raise Refused("InvalidScope", f"scope must be one of {', '.join(SCOPES)}, not {scope!r}")
    if not 1 <= days <= _LONGEST_DAYS:
        raise Refused("InvalidExpiry", f"a token is good for 1 to {_LONGEST_DAYS} days")
    secret = f"stm_{secrets.token_urlsafe(32)}"

    def work(write: Write) -> Token:
        token = Token(
            "", actor.subject, name, scope, None, write.now, write.now + timedelta(days=days), None, None
        )
        stored = tokens.add(write.connection, token_hash(secret), token)
        write.record("token-created", None, {"id": stored.id, "name": name, "scope": scope})
        return stored

    return (await installation.database.write(work, actor)).to_dict() | {"token": secret}


async def revoke(installation: Installation, token: str, actor: Actor) -> None:
    """End a token at once."""

    def work(write: Write) -> None:
        if not tokens.revoke(write.connection, token, write.now):
            raise NotFound("NoSuchToken", f"there is no valid token {token}")
        write.record("token-revoked", None, {"id": token})

    await installation.database.write(work, actor)


async def note_use(installation: Installation, token: str, at: datetime) -> None:
    """Store a token's last use; what the database does not take now is noted at the next use."""
    with suppress(SteersmanError):
        await installation.database.write(lambda w: tokens.used(w.connection, {token: at}))
