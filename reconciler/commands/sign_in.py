"""Sign-in of people: whose User somebody is who has proved an identity elsewhere, and the token that this is worth.

Called by the routes of sign-in, which know the identity provider. The token is one like all others, of the User's own
rights, but for hours; people's rights and who is a User come from Git alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from reconciler.access import Caller, is_active
from reconciler.credentials import PREFIX, token_hash
from reconciler.errors import Conflict, Forbidden
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.rights import INSTALLATION, Level
from reconciler.store import tokens
from reconciler.store.database import Write
from reconciler.store.tokens import NewToken, Token

NAME = "sign-in"
_USERS = frozenset({"User"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is to the identity provider; `email` only where the provider has verified it."""

    subject: str
    email: str | None = None


def user_of(installation: Installation, identity: Identity) -> str | None:
    """The User (`User/alice`) with this identity; None where none is declared, several are, or it is disabled.

    By `oidc_subject`; where the operator wants it, else by the address of a User that has no `oidc_subject`.
    """
    users = installation.snapshot.current.of_kinds(_USERS)
    specs = {key: user.spec or {} for key, user in users.items()}
    found = [key for key, spec in specs.items() if spec.get("oidc_subject") == identity.subject]
    settings = installation.settings.oidc
    if not found and identity.email and settings is not None and settings.match_email:
        address = identity.email.casefold()
        found = [
            key
            for key, spec in specs.items()
            if not spec.get("oidc_subject") and str(spec.get("email") or "").casefold() == address
        ]
    if len(found) != 1 or specs[found[0]].get("disabled"):
        return None
    return found[0]


async def sign_in(installation: Installation, user: str, address: str | None) -> dict[str, Any]:
    """A new token of a User, with its secret, good for `sign_in_hours`. Forbidden for who is none (any more)."""
    if user not in installation.snapshot.current.of_kinds(_USERS) or not is_active(installation, user):
        raise Forbidden("NotDeclared", f"{user} is not declared any more, or disabled")
    secret = f"{PREFIX}{secrets.token_urlsafe(32)}"

    def work(write: Write) -> Token:
        expires = write.now + timedelta(hours=installation.settings.sign_in_hours)
        token = NewToken(user, NAME, Level.OWNER, INSTALLATION, write.now, expires)
        stored = tokens.add(write.connection, token_hash(secret), token)
        told = {
            k: v for k, v in stored.to_dict().items() if k in ("id", "subject", "name", "level", "project")
        }
        write.record("token-created", None, told)
        return stored

    return (await installation.database.write(work, Actor(user, None, address))).to_dict() | {"token": secret}


async def sign_out(installation: Installation, caller: Caller) -> None:
    """End the token that the caller was given by a sign-in, at once and everywhere. Conflict for any other."""

    def work(write: Write) -> None:
        found = tokens.load(write.connection, caller.token) if caller.token else None
        if found is None or found.name != NAME or found.subject != caller.subject:
            raise Conflict(
                "NotSignedIn",
                "this token is not from a sign-in; to end it, use `steersman token revoke`",
            )
        if tokens.revoke(write.connection, found.id, write.now):
            write.record("token-revoked", None, {"id": found.id})

    await installation.database.write(work, caller.actor)
