"""Tokens: made, revoked. The secret is shown once; only its hash is stored (design 9).

A token is good for its subject's rights, up to its level and inside of its scope. People make their own; an
administrator makes anybody's, and the members of a team those of its service accounts.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.access import Caller, may_hold
from reconciler.controllers.rights import ADMINISTRATOR
from reconciler.credentials import PREFIX, token_hash
from reconciler.errors import Forbidden, NotFound, Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.model.rights import INSTALLATION, LEVELS, Level, Scope
from reconciler.store import tokens
from reconciler.store.database import Write
from reconciler.store.tokens import NewToken, Token

_LONGEST_DAYS = 365


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `subject` None: the caller's own."""

    name: str
    level: str
    days: int
    subject: str | None = None
    scope: Scope = INSTALLATION


async def create(installation: Installation, caller: Caller, wish: Wish) -> dict[str, Any]:
    """A new token, with its secret."""
    level = LEVELS.get(wish.level)
    if level is None:
        raise Refused("InvalidLevel", f"level must be one of {', '.join(LEVELS)}, not {wish.level!r}")
    if wish.scope.environment is not None and wish.scope.project is None:
        raise Refused("InvalidScope", "an environment is inside of a project: give the project too")
    subject = wish.subject or caller.subject
    longest = _longest(installation, subject)
    if not 1 <= wish.days <= longest:
        raise Refused("InvalidExpiry", f"a token of {subject} is good for 1 to {longest} days")
    _check(installation, caller, subject, level, wish.scope)
    secret = f"{PREFIX}{secrets.token_urlsafe(32)}"

    def work(write: Write) -> Token:
        expires = write.now + timedelta(days=wish.days)
        own = tokens.load(write.connection, caller.token) if caller.token else None
        if own is not None and own.subject == subject and own.expires is not None:
            expires = min(expires, own.expires)  # a token cannot outlive itself
        token = NewToken(subject, wish.name, level, wish.scope, write.now, expires)
        stored = tokens.add(write.connection, token_hash(secret), token)
        told = {
            k: v for k, v in stored.to_dict().items() if k in ("id", "subject", "name", "level", "project")
        }
        write.record("token-created", None, told)
        return stored

    return (await installation.database.write(work, caller.actor)).to_dict() | {"token": secret}


async def revoke(installation: Installation, caller: Caller, token: str) -> None:
    """End a token at once."""

    def work(write: Write) -> None:
        found = tokens.load(write.connection, token)
        visible = found is not None and may_hold(installation, caller, found.subject)
        if visible and found is not None and not caller.covers(found.level, found.scope):
            raise Forbidden(
                "Forbidden", "that token may more than your own; revoke it with one that may as much"
            )
        if not visible or not tokens.revoke(write.connection, token, write.now):
            raise NotFound("NoSuchToken", f"there is no valid token {token}")
        write.record("token-revoked", None, {"id": token})

    await installation.database.write(work, caller.actor)


async def replace(installation: Installation, caller: Caller, days: int) -> str:
    """A new token in place of the caller's own, which ends at once; the secret. It may as much, for no longer.

    Never of the first start's, which is also in a file.
    """
    own = await installation.database.read(lambda c: tokens.load(c, caller.token or ""))
    if own is None:
        raise NotFound("NoSuchToken", "there is no token to replace")
    if own.expires is None:
        raise Refused(
            "FirstToken",
            "the administrator's token of the first start, admin.token, is not replaced here; "
            "make others with `steersman token create`",
        )
    longest = min(days, _longest(installation, own.subject))
    wish = Wish(own.name, own.level.word, longest, own.subject, own.scope)
    made = await create(installation, caller, wish)
    await revoke(installation, caller, own.id)
    return str(made["token"])


async def revoke_within(
    installation: Installation, caller: Caller, project: str, environment: str | None
) -> None:
    """End all tokens that are good only inside of a project or environment that is no more."""

    def work(write: Write) -> None:
        count = tokens.revoke_within(write.connection, project, environment, write.now)
        if count:
            write.record(
                "tokens-revoked", None, {"project": project, "environment": environment, "count": count}
            )

    await installation.database.write(work, caller.actor)


async def note_use(installation: Installation, token: str, at: datetime) -> None:
    """Store a token's last use; what the database does not take now is noted at the next use."""
    with suppress(SteersmanError):
        await installation.database.write(lambda w: tokens.used(w.connection, {token: at}))


def _check(installation: Installation, caller: Caller, subject: str, level: Level, scope: Scope) -> None:
    if not may_hold(installation, caller, subject):
        raise Forbidden(
            "Forbidden",
            f"tokens of {subject} are made by itself, by the members of its team, or by an administrator",
        )
    resource = installation.snapshot.current.resources.get(subject)
    if subject != ADMINISTRATOR and (resource is None or resource.kind not in ("User", "ServiceAccount")):
        raise Refused(
            "NoSuchSubject", f"{subject} is not declared; a token is a User's or a ServiceAccount's"
        )
    if not caller.covers(level, scope):
        raise Forbidden(
            "Forbidden",
            f"your own token has level {caller.most.word} on {caller.within}; it cannot make one that may more",
        )


def _longest(installation: Installation, subject: str) -> int:
    resource = installation.snapshot.current.resources.get(subject)
    spec = (resource.spec if resource else None) or {}
    return min(_LONGEST_DAYS, int(spec.get("token_lifetime_days") or _LONGEST_DAYS))
