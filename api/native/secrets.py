"""`/reconciler/secrets/…`: the key that secrets are sealed to, and all of them sealed anew to a new one."""

from __future__ import annotations

from typing import Any

from litestar import get, post

from reconciler.access import Caller
from reconciler.commands.declare import Terms
from reconciler.commands.secrets import reseal
from reconciler.installation import Installation
from reconciler.queries import secrets


@get("/reconciler/secrets/key", summary="The public key that secrets are sealed to")
async def public_key(installation: Installation) -> dict[str, Any]:
    """`recipient` is an age public key; what is sealed to it, this server alone can open."""
    return secrets.public_key(installation)


@post(
    "/reconciler/secrets/reseal",
    status_code=200,
    summary="Seal all secrets to the key in force, in one commit",
)
async def reseal_all(installation: Installation, caller: Caller) -> dict[str, Any]:
    """After a change of the server's key; also the stored states. `failed`: what cannot be opened, with why."""
    done = await reseal(installation, caller, Terms("POST reseal"))
    written = done.written
    return {
        "commit": written.commit,
        "branch": written.branch,
        "applied": written.applied,
        "resealed": list(done.keys),
        "states": done.states,
        "failed": done.failed,
    }
