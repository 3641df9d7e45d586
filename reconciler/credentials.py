"""Token secrets: how they are hashed. The one place that the daemon, the doors and the API share."""

from __future__ import annotations

import hashlib

PREFIX = "stm_"


def token_hash(secret: str) -> str:
    """What is stored of a token. Tokens are long and random, so that one round is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
