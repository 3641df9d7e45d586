"""Logs of executions: BX7 to BX9, DX4 to DX6 (escape-state, 6.1, 6.3, 12): read, appended to, followed."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Response, WebSocket, get, post, websocket
from litestar.exceptions import HTTPException
from litestar.params import Parameter

from api.auth import AFTERWARDS
from api.escape import live_logs
from api.escape.execution_bodies import key_of
from api.escape.log_bodies import LARGEST_PUSH, push_of
from api.escape.requests import Asked, wrong
from api.paths import plain
from reconciler.access import Caller
from reconciler.commands import execution_logs as commands
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.model.execution import status
from reconciler.queries import executions as queries
from reconciler.queries import log_entries
from reconciler.queries.log_entries import LEVELS, MOST, Filter

BUILD = (
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{name:str}"
    "/executions/{execution:str}"
)
JOB = (
    "/api/v1/deployment-jobs/by-project/{project:str}/by-environment/{environment:str}/by-name/{name:str}"
    "/executions/{execution:str}"
)
LIMIT = 1000
FromSeq = Annotated[str | None, Parameter(description="The first entry; -100: the last hundred")]
Limit = Annotated[str | None, Parameter(description=f"How many at most; {MOST} are")]
Tail = Annotated[str | None, Parameter(description="Only so many of the last ones")]
Step = Annotated[str | None, Parameter(description="Only of this step")]
_DIGITS = 9


class TooLarge(HTTPException):
    """More than may be kept."""

    status_code = 413


class UpgradeRequired(HTTPException):
    """A plain request where a WebSocket is meant."""

    status_code = 426


@get(f"{BUILD}/logs", summary="The log of an execution of a build")
async def build_logs(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    name: str,
    execution: str,
    from_seq: FromSeq = None,
    limit: Limit = None,
    step: Step = None,
    stage: str | None = None,
    tail: Tail = None,
    level: str | None = None,
) -> Response[Any]:
    """Entries, or with `Accept: text/plain` one message a line."""
    key = key_of("Build", project, environment, plain(name))
    return await _page(
        installation, caller, request, key, execution, (from_seq, limit, tail), (step, stage, level)
    )


@get(f"{JOB}/logs", summary="The log of an execution of a deployment job")
async def deployment_logs(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    name: str,
    execution: str,
    from_seq: FromSeq = None,
    limit: Limit = None,
    step: Step = None,
    stage: str | None = None,
    tail: Tail = None,
    level: str | None = None,
) -> Response[Any]:
    """Entries, or with `Accept: text/plain` one message a line."""
    key = key_of("Deployment", project, environment, plain(name))
    return await _page(
        installation, caller, request, key, execution, (from_seq, limit, tail), (step, stage, level)
    )


@post(
    f"{BUILD}/logs",
    opt=AFTERWARDS,
    status_code=200,
    request_max_body_size=LARGEST_PUSH,
    summary="Append to the log of an execution of a build, and say how it goes",
)
async def build_logs_push(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    name: str,
    execution: str,
) -> dict[str, Any]:
    """For an external worker. A final `status` closes the log."""
    key = key_of("Build", project, environment, plain(name))
    return await _push(installation, caller, request, key, execution)


@post(
    f"{JOB}/logs",
    opt=AFTERWARDS,
    status_code=200,
    request_max_body_size=LARGEST_PUSH,
    summary="Append to the log of an execution of a deployment job, and say how it goes",
)
async def deployment_logs_push(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    name: str,
    execution: str,
) -> dict[str, Any]:
    """For an external worker. A final `status` closes the log."""
    key = key_of("Deployment", project, environment, plain(name))
    return await _push(installation, caller, request, key, execution)


@get(f"{BUILD}/logs_ws", summary="Refused: a WebSocket is meant")
async def build_logs_plain(
    installation: Installation, caller: Caller, project: str, environment: str, name: str, execution: str
) -> None:
    """426."""
    await _upgrade(installation, caller, key_of("Build", project, environment, plain(name)), execution)


@get(f"{JOB}/logs_ws", summary="Refused: a WebSocket is meant")
async def deployment_logs_plain(
    installation: Installation, caller: Caller, project: str, environment: str, name: str, execution: str
) -> None:
    """426."""
    await _upgrade(installation, caller, key_of("Deployment", project, environment, plain(name)), execution)


@websocket(f"{BUILD}/logs_ws", opt={"open": True})
async def build_logs_live(
    socket: WebSocket[Any, Any, Any],
    installation: Installation,
    project: str,
    environment: str,
    name: str,
    execution: str,
) -> None:
    """Frames of 12.3. Who asks is found out here, as a refusal is told by a close code."""
    await live_logs.serve(socket, installation, key_of("Build", project, environment, plain(name)), execution)


@websocket(f"{JOB}/logs_ws", opt={"open": True})
async def deployment_logs_live(
    socket: WebSocket[Any, Any, Any],
    installation: Installation,
    project: str,
    environment: str,
    name: str,
    execution: str,
) -> None:
    """Frames of 12.3. Who asks is found out here, as a refusal is told by a close code."""
    key = key_of("Deployment", project, environment, plain(name))
    await live_logs.serve(socket, installation, key, execution)


async def _page(
    installation: Installation,
    caller: Caller,
    request: Asked,
    key: str,
    execution: str,
    part: tuple[str | None, str | None, str | None],
    chosen: tuple[str | None, str | None, str | None],
) -> Response[Any]:
    from_seq, limit, tail = part
    step, stage, level = chosen
    if level is not None and level not in LEVELS:
        raise wrong("level", f"must be one of {', '.join(LEVELS)}")
    first = number(from_seq, "from_seq", below_zero=True)
    most = min(MOST, number(limit, "limit") or LIMIT)
    last = number(tail, "tail")
    wanted = Filter(number(step, "step", least=0), stage, level)
    found = await queries.one(installation, caller, key, execution)
    log = await log_entries.now(installation, found)
    if last is not None:
        entries, following = await log_entries.tail(installation, log, min(last, MOST), wanted)
    else:
        start = 1 if first is None else max(1, log.last + 1 + first) if first < 0 else max(1, first)
        entries, following = await log_entries.read(installation, log, start, most, wanted)
    if _wants_text(request):
        text = "".join(f"{entry['message']}\n" for entry in entries)
        headers = {"X-Content-Type-Options": "nosniff"}
        return Response(text.encode("utf-8", "replace"), media_type=MediaType.TEXT, headers=headers)
    return Response(
        {
            "entries": entries,
            "next_seq": following,
            "complete": log.final and following > log.last,
            "status": status(found.job.state),
        }
    )


async def _push(
    installation: Installation, caller: Caller, request: Asked, key: str, execution: str
) -> dict[str, Any]:
    found = await commands.writable(installation, caller, key, execution)
    try:
        return await commands.push(installation, caller, found, await push_of(request))
    except Refused as error:
        if error.reason == "TooLarge":
            raise TooLarge(detail=error.message) from error
        raise


async def _upgrade(installation: Installation, caller: Caller, key: str, execution: str) -> None:
    await queries.one(installation, caller, key, execution)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    raise UpgradeRequired(detail="Open a WebSocket here.", headers=headers)


def number(given: str | None, name: str, *, least: int = 1, below_zero: bool = False) -> int | None:
    """A whole number of a query."""
    if given is None:
        return None
    digits = given.removeprefix("-") if below_zero else given
    if not digits.isascii() or not digits.isdecimal() or len(digits) > _DIGITS:
        raise wrong(name, "must be a whole number")
    found = int(given)
    if found < least and not below_zero:
        raise wrong(name, f"must be {least} or more")
    return found


def _wants_text(request: Asked) -> bool:
    if not request.headers.get("accept", "").strip():
        return False
    return request.accept.best_match([MediaType.JSON, MediaType.TEXT]) == MediaType.TEXT
