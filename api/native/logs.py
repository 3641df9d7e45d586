"""`/reconciler/jobs/N/log…`: the log of a job as text, as a live stream, and searched.

The text is streamed in pieces, compressed on the way when the client takes that, or sent as it is kept. It is the same
for all three routes, and so are its byte offsets.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Protocol

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import ClientException
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream
from zstandard import COMPRESSOBJ_FLUSH_BLOCK, ZstdCompressor

from api.auth import still
from api.native.live import kept_alive
from api.negotiation import IDENTITY, UnsatisfiableError, byte_range, encoding, matches
from api.problems import problem
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import logs
from reconciler.queries.log_search import LONGEST_ANY_CASE, Query, search
from reconciler.queries.logs import Selection, Text

Number = Annotated[int, Parameter(ge=1, le=2**62)]
Offset = Annotated[int, Parameter(ge=0, le=2**62)]
Word = Annotated[str, Parameter(min_length=1, max_length=200)]
Limit = Annotated[int, Parameter(ge=1, le=500)]
_TEXT = "text/plain"  # Litestar adds the charset
_ENCODINGS = ("zstd", "gzip")
_SUFFIXES = ("", *(f"-{coding}" for coding in _ENCODINGS))  # of entity tags
_WORTH = 1024


@get("/reconciler/jobs/{number:int}/log", media_type=_TEXT, summary="The log so far, from a byte offset")
async def log(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    number: Number,
    offset: Offset = 0,
    since: datetime | None = None,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> Response[Any]:
    """One script's log; several follow each other under headings.

    `since` begins with what was printed at that time, or up to a second before; `X-Log-Offset` says where that is.
    `Range` counts from there, and its total is not known while what was selected still runs.
    """
    text = await logs.now(installation, caller, number, Selection(task, trial, script))
    start = await _start(text, offset, since)
    left = max(0, text.size - start)
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Log-Offset": str(start),
        "Accept-Ranges": "bytes",
        "Vary": "Accept-Encoding",
    }
    tag = f"{text.tag}-{start}"
    if text.final and matches(request.headers.get("if-none-match"), [f'"{tag}{s}"' for s in _SUFFIXES]):
        return Response(None, status_code=304, headers=headers | {"ETag": f'"{tag}"'})
    try:
        asked = _range(request, text, tag, left)
    except UnsatisfiableError:
        detail = f"the log has {left:,} bytes here so far; ask for some of these"
        size = {"Content-Range": f"bytes */{left}"}
        return problem(416, "RangeNotSatisfiable", detail, headers | size)
    if asked is not None:
        return _partial(text, start, asked, headers | _tagged(text, tag, IDENTITY))
    coding = encoding(request.headers.get("accept-encoding"), _ENCODINGS)
    coding = coding if left >= _WORTH else IDENTITY
    return await _whole(text, start, coding, headers | _tagged(text, tag, coding))


@get("/reconciler/jobs/{number:int}/log/stream", summary="The log live, as server-sent events")
async def log_stream(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    number: Number,
    offset: Offset = 0,
    since: datetime | None = None,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> ServerSentEvent:
    """Each message's id is the offset after it, its data `{text}`; `end` carries the state of what was selected."""
    selection = Selection(task, trial, script)
    text = await logs.now(installation, caller, number, selection)
    resumed = request.headers.get("last-event-id", "")
    known = resumed.isdecimal() and len(resumed) < 19
    start = int(resumed) if known else await _start(text, offset, since)
    messages = _messages(installation, number, selection, start)
    return ServerSentEvent(kept_alive(messages, partial(still, request)))


@get("/reconciler/jobs/{number:int}/log/search", summary="Lines of the log that have a text")
async def log_search(
    installation: Installation,
    caller: Caller,
    number: Number,
    q: Word,
    ignore_case: bool = False,
    offset: Offset = 0,
    limit: Limit = 50,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> dict[str, Any]:
    """`line` counts in the script's log, `offset` in the job's; `next` is the number to give as `offset`.

    `q` is literal. There may be a `next` without items: one answer goes through 128 MiB at most.
    """
    if ignore_case and not q.isascii() and len(q) > LONGEST_ANY_CASE:
        longest = f"at most {LONGEST_ANY_CASE} characters"
        raise ClientException(detail=f"q: with letters beyond ASCII and without regard to case, {longest}")
    if "\n" in q or "\r" in q:
        raise ClientException(detail="q: lines are searched one by one, so it must not have a line end")
    text = await logs.now(installation, caller, number, Selection(task, trial, script))
    return await search(text, Query(q, ignore_case), offset, limit)


async def _start(text: Text, offset: int, since: datetime | None) -> int:
    """Where an answer begins; both count."""
    if since is None:
        return offset
    if since.tzinfo is None:
        raise ClientException(detail="since: give it with its zone, such as 2026-07-01T12:00:00Z")
    return max(offset, await logs.since(text, since))


def _range(request: Request[Caller, Any, Any], text: Text, tag: str, size: int) -> tuple[int, int] | None:
    """The part that is asked for; a part of another version of the text is not."""
    condition = request.headers.get("if-range")
    if condition is not None and not (text.final and condition.strip() == f'"{tag}"'):
        return None
    return byte_range(request.headers.get("range"), size)


def _partial(text: Text, start: int, asked: tuple[int, int], headers: dict[str, str]) -> Stream:
    first, end = asked
    total = str(text.size - start) if text.final else "*"
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
    headers["Content-Length"] = str(end - first)
    content = logs.pieces(text, start + first, start + end)
    return Stream(content, status_code=206, media_type=_TEXT, headers=headers)


async def _whole(text: Text, start: int, coding: str, headers: dict[str, str]) -> Stream:
    if coding == IDENTITY:
        headers["Content-Length"] = str(max(0, text.size - start))
        return Stream(logs.pieces(text, start, text.size), media_type=_TEXT, headers=headers)
    headers["Content-Encoding"] = coding
    packed = await logs.packed(text) if coding == "zstd" and start == 0 else None
    if packed is None:
        return Stream(
            _compressed(logs.pieces(text, start, text.size), coding), media_type=_TEXT, headers=headers
        )
    headers["Content-Length"] = str(packed[0])
    return Stream(packed[1], media_type=_TEXT, headers=headers)


def _tagged(text: Text, tag: str, coding: str) -> dict[str, str]:
    """The entity tag of an answer that does not change any more; each coding has its own."""
    suffix = "" if coding == IDENTITY else f"-{coding}"
    return {"ETag": f'"{tag}{suffix}"'} if text.final else {}


class _Coder(Protocol):
    """A compressor of either library, for one answer."""

    def add(self, chunk: bytes) -> bytes:
        """Compressed, and so that all of it can be read."""
        ...

    def end(self) -> bytes:
        """What is still missing."""
        ...


class _Zstd:
    def __init__(self) -> None:
        self._coder = ZstdCompressor(level=3).compressobj()

    def add(self, chunk: bytes) -> bytes:
        return self._coder.compress(chunk) + self._coder.flush(COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._coder.flush()


class _Gzip:
    def __init__(self) -> None:
        self._coder = zlib.compressobj(level=5, wbits=31)

    def add(self, chunk: bytes) -> bytes:
        return self._coder.compress(chunk) + self._coder.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._coder.flush()


async def _compressed(chunks: AsyncGenerator[bytes, None], coding: str) -> AsyncGenerator[bytes, None]:
    """Piece by piece, in a thread: compressing takes longer than reading."""
    coder: _Coder = _Zstd() if coding == "zstd" else _Gzip()
    async with aclosing(chunks):
        async for chunk in chunks:
            yield await asyncio.to_thread(coder.add, chunk)
    yield coder.end()


async def _messages(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncGenerator[ServerSentEventMessage, None]:
    async with aclosing(logs.follow(installation, number, selection, offset)) as live:
        async for position, chunk in live:
            text = chunk.decode("utf-8", "replace")
            yield ServerSentEventMessage(data=msgspec.json.encode({"text": text}).decode(), id=str(position))
    found = await logs.look(installation, number, selection)
    body = {"state": found.state.value, "reason": found.reason}
    yield ServerSentEventMessage(data=msgspec.json.encode(body).decode(), event="end")
