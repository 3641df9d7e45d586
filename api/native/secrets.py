"""`/reconciler/secrets/key`."""

from __future__ import annotations

from typing import Any

from litestar import get

from reconciler.installation import Installation
from reconciler.queries import secrets


@get("/reconciler/secrets/key", summary="The public key that secrets are sealed to")
async def public_key(installation: Installation) -> dict[str, Any]:
    """`recipient` is an age public key; what is sealed to it, this server alone can open."""
    return secrets.public_key(installation)
