"""May I, and why not."""

from __future__ import annotations

from typing import Any

from reconciler.access import Caller, ask, missing, refusal
from reconciler.controllers.rights import VERBS
from reconciler.errors import Refused
from reconciler.installation import Installation


def can(installation: Installation, caller: Caller, verb: str, key: str) -> dict[str, Any]:
    """Whether the caller may do a thing to a KEY, which role that takes, and which it has; also before it exists."""
    if verb not in VERBS:
        raise Refused("NoSuchVerb", f"{verb!r} is not a verb; ask about one of {', '.join(VERBS)}")
    wanted, held = ask(installation, caller, verb, key)
    if wanted is None:
        raise missing(key)
    allowed = held is not None and held >= wanted.level
    return {
        "allowed": allowed,
        "verb": verb,
        "key": key,
        "needs": {
            "role": wanted.level.word,
            "project": wanted.scope.project,
            "environment": wanted.scope.environment,
        },
        "has": held.word if held else None,
        "why": None if allowed else refusal(verb, key, wanted, held),
    }


def whoami(caller: Caller) -> dict[str, Any]:
    """The caller, and its roles as its token leaves them."""
    roles = sorted(caller.rights.roles.items(), key=lambda each: str(each[0]))
    return {
        "subject": caller.subject,
        "token": caller.token,
        "job": caller.job,
        "administrator": caller.administrator,
        "roles": [
            {"role": level.word, "project": scope.project, "environment": scope.environment}
            for scope, level in roles
        ],
    }
