"""Token secrets: how they are hashed, and those of trials. The one place that the daemon, the doors and the API share.

An execution token is what a script shows for itself. It is not stored: it names its job and trial, and carries a mark
that only this server can make. Whether the trial still runs is asked of the store.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from reconciler.sealing import Keys

PREFIX = "stm_"
_PURPOSE = "execution-token"
_EXECUTION = re.compile(PREFIX + r"run_([1-9][0-9]{0,17})\.([0-9a-f-]{36})\.([0-9a-f]{64})")


def token_hash(secret: str) -> str:
    """What is stored of a token. Tokens are long and random, so that one round is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Execution:
    """The trial that a script belongs to, and the number of its job."""

    job: int
    trial: str


def execution_token(keys: Keys, execution: Execution) -> str:
    """What the scripts of a trial show to this server."""
    named = f"{execution.job}.{execution.trial}"
    return f"{PREFIX}run_{named}.{keys.mac(_PURPOSE, named)}"


def execution_of(keys: Keys, secret: str) -> Execution | None:
    """Whose token it is; None if it is none, or not from here."""
    found = _EXECUTION.fullmatch(secret)
    if found is None:
        return None
    execution = Execution(int(found[1]), found[2])
    return execution if keys.is_mac(_PURPOSE, f"{execution.job}.{execution.trial}", found[3]) else None
