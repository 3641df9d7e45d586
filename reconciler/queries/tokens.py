"""Tokens: found by their secret, and listed without it."""

from __future__ import annotations

from typing import Any

from reconciler.credentials import token_hash
from reconciler.installation import Installation
from reconciler.store import tokens
from reconciler.store.tokens import Token as Token


async def find(installation: Installation, secret: str) -> Token | None:
    """The token with this secret, valid or not."""
    mark = token_hash(secret)
    return await installation.database.read(lambda c: tokens.find(c, mark))


async def find_all(installation: Installation) -> dict[str, Any]:
    """All tokens."""
    return {"items": [token.to_dict() for token in await installation.database.read(tokens.list_all)]}
