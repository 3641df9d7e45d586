"""A log as an answer: whole and compressed when the client takes that, in part, or not again (RFC 9110).

Used by every served API that gives logs out; the text comes from `reconciler.queries.logs`, streamed in pieces or sent
as it is kept. It knows no route and no error body.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Stream
from zstandard import COMPRESSOBJ_FLUSH_BLOCK, ZstdCompressor

from api.negotiation import IDENTITY, UnsatisfiableError, byte_range, encoding, matches
from api.paths import asked_for_head
from reconciler.queries import logs
from reconciler.queries.logs import Text

MEDIA_TYPE = "text/plain"  # Litestar adds the charset
_ENCODINGS = ("zstd", "gzip")
_SUFFIXES = ("", *(f"-{coding}" for coding in _ENCODINGS))  # of entity tags
_WORTH = 1024


class OutsideError(HTTPException):
    """A range of which nothing is there (yet); `headers` tell how much is."""

    status_code = 416


async def answer(
    request: Request[Any, Any, Any], text: Text, start: int = 0, headers: dict[str, str] | None = None
) -> Response[Any]:
    """The text from an offset on, with further headers. OutsideError.

    A range counts from there, and its total is not known while what was selected still runs.
    """
    left = max(0, text.size - start)
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "Vary": "Accept-Encoding",
    } | (headers or {})
    tag = f"{text.tag}-{start}"
    if text.final and matches(request.headers.get("if-none-match"), [f'"{tag}{s}"' for s in _SUFFIXES]):
        return Response(None, status_code=304, headers=headers | {"ETag": f'"{tag}"'})
    try:
        asked = _range(request, text, tag, left)
    except UnsatisfiableError:
        detail = f"the log has {left:,} bytes here so far; ask for some of these"
        raise OutsideError(detail=detail, headers=headers | {"Content-Range": f"bytes */{left}"}) from None
    head = asked_for_head(request.scope)
    if asked is not None:
        return _partial(text, start, asked, headers | _tagged(text, tag, IDENTITY), head=head)
    coding = encoding(request.headers.get("accept-encoding"), _ENCODINGS)
    coding = coding if left >= _WORTH else IDENTITY
    return await _whole(text, start, coding, headers | _tagged(text, tag, coding), head=head)


def _range(request: Request[Any, Any, Any], text: Text, tag: str, size: int) -> tuple[int, int] | None:
    """The part that is asked for; a part of another version of the text is not."""
    condition = request.headers.get("if-range")
    if condition is not None and not (text.final and condition.strip() == f'"{tag}"'):
        return None
    return byte_range(request.headers.get("range"), size)


def _partial(
    text: Text, start: int, asked: tuple[int, int], headers: dict[str, str], *, head: bool
) -> Stream:
    first, end = asked
    total = str(text.size - start) if text.final else "*"
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
    headers["Content-Length"] = str(end - first)
    content = _nothing() if head else logs.pieces(text, start + first, start + end)
    return Stream(content, status_code=206, media_type=MEDIA_TYPE, headers=headers)


async def _whole(text: Text, start: int, coding: str, headers: dict[str, str], *, head: bool) -> Stream:
    content = _nothing() if head else logs.pieces(text, start, text.size)
    if coding == IDENTITY:
        headers["Content-Length"] = str(max(0, text.size - start))
        return Stream(content, media_type=MEDIA_TYPE, headers=headers)
    headers["Content-Encoding"] = coding
    packed = await logs.packed(text) if coding == "zstd" and start == 0 else None
    if packed is None:
        return Stream(
            content if head else _compressed(content, coding), media_type=MEDIA_TYPE, headers=headers
        )
    headers["Content-Length"] = str(packed[0])
    return Stream(_nothing() if head else packed[1], media_type=MEDIA_TYPE, headers=headers)


async def _nothing() -> AsyncGenerator[bytes, None]:
    """What a HEAD is answered with."""
    none: tuple[bytes, ...] = ()
    for chunk in none:
        yield chunk


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
