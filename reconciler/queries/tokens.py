"""Tokens: found by their secret, and listed without it; those of trials."""

from __future__ import annotations

from typing import Any

from reconciler.access import Caller, may_hold
from reconciler.credentials import Execution, token_hash
from reconciler.installation import Installation
from reconciler.store import jobs, tokens
from reconciler.store.tokens import Token as Token


async def find(installation: Installation, secret: str) -> Token | None:
    """The token with this secret, valid or not."""
    mark = token_hash(secret)
    return await installation.database.read(lambda c: tokens.find(c, mark))


async def is_live(installation: Installation, execution: Execution) -> bool:
    """Is the trial, whose token was shown, not over?"""
    return await installation.database.read(lambda c: jobs.is_live(c, execution.trial, execution.job))


async def find_all(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Those of the caller, and of whom it makes tokens for; `may_revoke`: not with a token that may less itself."""
    subjects = None if caller.administrator else _holders(installation, caller)
    found = await installation.database.read(lambda c: tokens.list_all(c, subjects))
    items = [token.to_dict() | {"may_revoke": caller.covers(token.level, token.scope)} for token in found]
    return {"items": items}


def _holders(installation: Installation, caller: Caller) -> list[str]:
    accounts = (k for k, r in installation.snapshot.current.resources.items() if r.kind == "ServiceAccount")
    return [caller.subject, *(key for key in accounts if may_hold(installation, caller, key))]
