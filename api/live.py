"""Server-sent events that stay alive: what the live routes of the native API wrap their messages in.

Proxies and clients end a connection that is quiet for long, and a dead one is noticed by writing to it. It knows
nothing of what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from litestar.response import ServerSentEventMessage

EVERY = 15.0


class _Comment(ServerSentEventMessage):
    """A comment alone. Litestar sends data with every message, and clients would take an empty one for news."""

    def encode(self) -> bytes:
        """As it goes over the wire."""
        return b": keep-alive\r\n\r\n"


_COMMENT = _Comment()


async def kept_alive(
    messages: AsyncGenerator[ServerSentEventMessage, None],
    allowed: Callable[[], Awaitable[bool]],
    leaving: asyncio.Event,
    *,
    every: float = EVERY,
) -> AsyncGenerator[ServerSentEventMessage, None]:
    """The messages, and a comment after each time of so many seconds without one.

    No more when they are not allowed, or when the server is `leaving`.
    """
    gone = asyncio.ensure_future(leaving.wait())
    try:
        async with aclosing(messages):
            while True:
                coming = asyncio.ensure_future(anext(messages, None))
                try:
                    while not await _first(coming, gone, every):
                        if gone.done() or not await allowed():
                            return
                        yield _COMMENT
                finally:
                    if not coming.done():
                        coming.cancel()
                        await asyncio.wait({coming})
                message = coming.result()
                if message is None or not await allowed():
                    return
                yield message
    finally:
        gone.cancel()


async def _first(coming: asyncio.Future[Any], gone: asyncio.Future[Any], seconds: float) -> bool:
    """Has the message come, of what happens first?"""
    await asyncio.wait({coming, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return coming.done()
