"""Answers given again while nothing has changed: never to somebody else, never after a change, never a stream."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import Message, Receive, Scope, Send

from api.unchanged import STEADY, around


class Counting:
    """An app that counts its answers; `opt` is that of its route."""

    def __init__(self, opt: dict[str, Any] | None = None, status: int = 200, parts: int = 1) -> None:
        self.count, self.opt, self.status, self.parts = 0, STEADY if opt is None else opt, status, parts
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        scope["route_handler"] = type("Route", (), {"opt": self.opt})()  # type: ignore[typeddict-item]
        await self.open.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x", b"1")]})
        for part in range(self.parts):
            more = part + 1 < self.parts
            await send({"type": "http.response.body", "body": b"%d" % self.count, "more_body": more})


async def ask(app: Any, path: bytes = b"/", method: str = "GET", **headers: str) -> bytes:
    """The body of an answer; what is sent is changed on its way, as wrappers do."""
    bodies = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            message["body"] = b"gone"
        elif message["type"] == "http.response.start":
            assert list(message["headers"]) == [(b"x", b"1")]
            message["headers"] = [*message["headers"], (b"y", b"2")]

    given = [(name.encode().replace(b"_", b"-"), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "http", "method": method, "raw_path": path, "query_string": b"", "headers": given}
    await app(scope, None, send)
    return b"".join(bodies)


def test_the_same_again_until_something_changes() -> None:
    async def run() -> None:
        counting, version = Counting(), [1]
        app = around(counting, lambda: version[0])
        assert [await ask(app) for _ in range(3)] == [b"1"] * 3
        version[0] += 1
        assert [await ask(app) for _ in range(2)] == [b"2"] * 2

    asyncio.run(run())


def test_only_what_is_asked_for_in_the_same_words() -> None:
    async def run() -> None:
        counting = Counting()
        app = around(counting, lambda: 1)
        asked = [
            {},
            {"authorization": "token a"},
            {"authorization": "token b"},
            {"accept": "application/json"},
            {"origin": "https://x.example"},
            {"accept_encoding": "gzip"},
        ]
        first = [await ask(app, **headers) for headers in asked]
        assert len(set(first)) == len(asked)
        assert [await ask(app, **headers) for headers in asked] == first
        assert await ask(app, b"/other") not in first

    asyncio.run(run())


def test_what_may_depend_on_more_is_made_anew() -> None:
    """Cookies, conditions, ranges, other methods; answers that are no good ones, and streams."""

    async def run() -> None:
        counting = Counting()
        app = around(counting, lambda: 1)
        for more in (
            {"cookie": "a"},
            {"if_none_match": "a"},
            {"range": "bytes=0-1"},
            {"x_escape_token": "a"},
        ):
            assert await ask(app, **more) != await ask(app, **more)
        assert await ask(app, method="POST") != await ask(app, method="POST")
        for other in (Counting(opt={}), Counting(status=404), Counting(parts=2)):
            app = around(other, lambda: 1)
            assert await ask(app) != await ask(app)

    asyncio.run(run())


def test_many_who_ask_at_once_wait_for_one() -> None:
    """Also when the one who asked first goes away."""

    async def run() -> None:
        counting, version = Counting(), [1]
        app = around(counting, lambda: version[0])
        await ask(app)
        version[0] = 2
        counting.open.clear()
        asking = [asyncio.create_task(ask(app)) for _ in range(5)]
        await asyncio.sleep(0)
        counting.open.set()
        assert await asyncio.gather(*asking) == [b"2"] * 5
        version[0] = 3
        counting.open.clear()
        asking = [asyncio.create_task(ask(app)) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        counting.open.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(isinstance(body, bytes) and int(body) > 2 for body in found[1:])

    asyncio.run(run())
