"""Answers to requests with an idempotency key: remembered for a day, and given again (escape-state, 3.8).

They are sealed, as some hold what is shown once.
"""

from __future__ import annotations

from datetime import timedelta

from reconciler.access import Caller
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.sealing import LARGEST, SealingError, seal
from reconciler.store import answers
from reconciler.store.answers import Answered

_KEPT = timedelta(days=1)


async def find(installation: Installation, caller: Caller, key: str, request: str) -> bytes | None:
    """The answer to the same request before; None: there is none. `request` is the digest of all that is asked.

    Refused: the key was used for something else. What cannot be opened, since the server has another key, is none.
    """
    now = installation.now()
    found = await installation.database.read(lambda c: answers.find(c, caller.subject, key, now))
    if found is None:
        return None
    if found.request != request:
        raise Refused(
            "KeyUsedBefore", f"the Idempotency-Key {key!r} was used for another request; take a new one"
        )
    try:
        return installation.keys.open(found.sealed, _bound(caller, key))
    except SealingError:
        return None


async def remember(installation: Installation, caller: Caller, key: str, request: str, answer: bytes) -> bool:
    """Give this answer again when the same request comes again; False if it is too large for that."""
    if len(answer) > LARGEST:
        return False
    sealed = seal(answer, installation.keys.recipient, _bound(caller, key))
    row = Answered(caller.subject, key, request, sealed, installation.now() + _KEPT)
    await installation.database.write(lambda w: answers.save(w.connection, row), caller.actor)
    return True


def _bound(caller: Caller, key: str) -> str:
    return f"answer {caller.subject} {key!r}"
