"""The push hook of a build, known by its code: BD9 (escape-state, 6.2, 6.13)."""

from __future__ import annotations

import hmac
from typing import Any

from litestar import Request, post
from litestar.exceptions import NotFoundException

from api.escape.builds import code_of
from api.escape.errors import BadRequest
from api.paths import plain
from reconciler.commands import build_hooks as commands
from reconciler.errors import BadSignature, Refused
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.model.resource import Resource
from reconciler.queries import declared

_NOTHING = "There is nothing to start under this code."


@post(
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/webhook/{code:str}",
    opt={"open": True},
    status_code=200,
    summary="Start a build from outside",
)
async def build_webhook(
    installation: Installation, request: Request[Any, Any, Any], project: str, environment: str, code: str
) -> dict[str, str]:
    """A push event of GitHub, GitLab, Gitea or Forgejo, any other JSON, or nothing.

    Who guesses codes is slowed down.
    """
    address = request.client.host if request.client else None
    attempts = request.app.state.credentials.attempts
    attempts.check((address, None))
    raw = await request.body()
    found = _build(installation, project, environment, plain(code))
    try:
        if found is None:
            raise BadSignature("NoSuchCode", _NOTHING)
        answer = await commands.receive(installation, found, request.headers, raw, address)
    except BadSignature:
        attempts.wrong((address, None))
        raise NotFoundException(_NOTHING) from None
    except Refused as error:
        if error.reason == "InvalidJson":
            raise BadRequest("invalid-json", error.message) from error
        raise
    return {"id": ulid(answer.id)} if answer.id else {"id": "", "skipped": answer.skipped or ""}


def _build(installation: Installation, project: str, environment: str, code: str) -> Resource | None:
    """The build of this very environment that has the code; all are compared, in the same time."""
    found = None
    for each in declared.of_kind(installation, "Build").values():
        if (each.project, each.environment) == (project, environment):
            own = code_of(installation, each.uuid, each.spec or {})
            if hmac.compare_digest(own.encode(), code.encode("utf-8", "surrogateescape")):
                found = each
    return found
