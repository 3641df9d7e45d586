"""`/cider-ci/api/scripts…`: scripts of a trial, with what they print: here are its logs (cider-ci, 4.11)."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, get
from litestar.response import Stream

from api.cider import negotiation, properties
from api.cider.answers import Asked, answer, encoded, sent
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import SCRIPT, SCRIPTS, TRIAL, address, relation
from api.cider.requests import cut, listing
from api.cider.roa import Links
from api.paths import asked_for_head
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.job import Script
from reconciler.queries import by_id, logs
from reconciler.queries.by_id import ScriptFound
from reconciler.queries.logs import Selection, Text

LONGEST_OUTPUT = 10 << 20
"""Bytes of a log that are shown; its end is to be had elsewhere."""

_AT_ONCE = 64 << 10  # bytes of a log that are escaped together: each may become six
_NEVER = datetime.max.replace(tzinfo=UTC)


@get(
    SCRIPTS.route,
    operation_class=documented(SCRIPTS),
    media_type=ROA,
    summary="Scripts of a trial, as they started",
)
async def script_list(
    installation: Installation, caller: Caller, request: Asked, trial: str
) -> Response[bytes]:
    """Those that have not started come last."""
    found = await by_id.trial(installation, caller, trial)
    asked = listing(request, SCRIPTS, id=found.trial.id)
    items, more = cut(sorted(found.trial.scripts, key=_place), asked, lambda script: script.id)
    relations = {"trial": relation(TRIAL, id=found.trial.id)}
    links = asked.links([script.id for script in items], SCRIPT, relations, more=more)
    return answer(request, {"scripts": [{"id": script.id} for script in items]}, links)


@get(SCRIPT.route, media_type=ROA, summary="A script with what it printed")
async def script_get(
    installation: Installation, caller: Caller, request: Asked, script: str
) -> Response[bytes] | Stream:
    """`stdout` holds both streams, in the order in which they came."""
    found = await by_id.script(installation, caller, script)
    selection = Selection(found.task.name, found.trial.number, found.script.name)
    text = await logs.now(installation, caller, found.job.number, selection)
    size = min(text.size, LONGEST_OUTPUT)
    kind = negotiation.chosen(request.headers.get("accept"))
    if size > _AT_ONCE:
        content = iter(()) if asked_for_head(request.scope) else _streamed(found, text, size, kind)
        headers = {"content-type": f"{kind}; charset=utf-8", "vary": "Accept"}
        return Stream(content, media_type=kind, headers=headers)
    async with aclosing(logs.pieces(text, 0, size)) as pieces:
        output = b"".join([piece async for piece in pieces])
    return sent(encoded(*_shown(found, _decoder().decode(output)), kind), kind)


async def _streamed(found: ScriptFound, text: Text, size: int, kind: str) -> AsyncGenerator[bytes, None]:
    """The same answer, of which only a small part is ever in memory: `stdout` comes first, escaped piece by piece."""
    body, links = _shown(found, "")
    del body["stdout"]
    decoder = _decoder()
    yield b'{"stdout":"'
    async with aclosing(logs.pieces(text, 0, size)) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), _AT_ONCE):
                yield msgspec.json.encode(decoder.decode(piece[start : start + _AT_ONCE]))[1:-1]
    yield b'",' + encoded(body, links, kind)[1:]


def _shown(found: ScriptFound, printed: str) -> tuple[dict[str, Any], Links]:
    body = properties.script(found.trial, found.script, found.task.policy, printed)
    relations = {"trial": relation(TRIAL, id=found.trial.id)}
    return body, Links(SCRIPT.name, address(SCRIPT, id=found.script.id), relations)


def _decoder() -> codecs.IncrementalDecoder:
    """What is no UTF-8 is replaced; a character that the end has cut is left out."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def _place(script: Script) -> tuple[datetime, str, str]:
    return script.started_at or _NEVER, script.name, script.id
