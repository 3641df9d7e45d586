"""A network that fails, for tests: a TCP port of loopback that carries bytes to a database, or does not.

`Link` runs in a thread of its own and is asked from tests, synchronous or not. The PostgreSQL of the tests listens on a
Unix socket alone; with `to_database` its clients come by TCP, as from another machine. What a proxy cannot show is the
kernels' own part: keep-alives and the time-outs of retransmission are answered on loopback, however dead the link is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy.engine import make_url

T = TypeVar("T")
_CHUNK = 1 << 16
_QUEUE = 256  # chunks on their way in one direction; with more of them the sender has to wait
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset
Target = str | tuple[str, int]


class Link:
    """Between a port of 127.0.0.1 and `target`, a Unix socket or (host, port). `with` ends it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.delays = (0.0, 0.0)
        self.dropping = False
        self.flowing = asyncio.Event()
        self.connections: set[_Connection] = set()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-link")
        self._thread.start()
        self._socket = self._bound()
        self._server: asyncio.Server | None = None
        self._ask(self._heal())
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def open(self) -> int:
        """How many connections there are, also those that nothing goes through any more."""
        return len(self.connections)

    def delay(self, there: float, back: float) -> None:
        """From now on bytes are so many seconds on their way to the target, and back; their order stays."""
        self.delays = (there, back)

    def drop(self) -> None:
        """Bytes vanish both ways and nobody is told, as by a firewall; new connections are taken and left alone.

        A connection that has lost something, be it the word that it was closed, stays dead after `heal` too.
        """
        self._do(lambda: setattr(self, "dropping", True))

    def hold(self) -> None:
        """Nothing arrives until `heal`, and then all of it, as with a cable that was out for a moment."""
        self._do(self.flowing.clear)

    def cut(self) -> None:
        """All connections are reset, new ones refused."""
        self._ask(self._cut())

    def heal(self) -> None:
        """A sound network, without delays."""
        self._ask(self._heal())

    def _do(self, work: Callable[[], object]) -> None:
        async def done() -> None:
            work()

        self._ask(done())

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _bound(self) -> socket.socket:
        """A socket that has the port, and refuses as long as nobody listens on it."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", self.port))
        return made

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server, self._socket = None, self._bound()
        for connection in tuple(self.connections):
            connection.reset()

    async def _heal(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=self._socket)
        self.delays, self.dropping = (0.0, 0.0), False
        self.flowing.set()

    async def _close(self) -> None:
        await self._cut()
        self._socket.close()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self.connections.add(connection)
        try:
            await connection.carry(reader)
        finally:
            self.connections.discard(connection)


class _Connection:
    """One client's, with that to the target once there is one."""

    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link = link
        self._writers = [client]
        self._dead = False

    async def carry(self, client: asyncio.StreamReader) -> None:
        """Both ways, until both ends have closed, or one of them was reset."""
        try:
            if self._lost():  # nobody will ever answer
                while await client.read(_CHUNK):
                    pass
                return
            await self._link.flowing.wait()
            server, writer = await self._connected()
            self._writers.append(writer)
            await asyncio.gather(self._one_way(client, writer, 0), self._one_way(server, self._writers[0], 1))
        except OSError:
            self.reset()
        finally:
            for each in self._writers:
                each.close()

    def reset(self) -> None:
        """Both ends see it at once."""
        self._dead = True
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw.family == socket.AF_INET:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._link.target, str):
            return await asyncio.open_unix_connection(self._link.target)
        return await asyncio.open_connection(*self._link.target)

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._read(reader, queue, way))
            both.create_task(self._write(writer, queue))

    async def _read(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], way: int
    ) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(_CHUNK)
            except OSError:
                chunk = b""
            await queue.put((asyncio.get_running_loop().time() + self._link.delays[way], chunk))

    async def _write(self, writer: asyncio.StreamWriter, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        chunk = b"-"
        while chunk:
            due, chunk = await queue.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._link.flowing.wait()
            if self._lost():
                continue
            with suppress(OSError, RuntimeError):  # who would have read it has closed
                if chunk:
                    writer.write(chunk)
                    await writer.drain()
                else:
                    writer.write_eof()

    def _lost(self) -> bool:
        self._dead = self._dead or self._link.dropping
        return self._dead


def to_database(url: str) -> tuple[Link, str]:
    """A link to a database of `tests.databases`, and the URL of this database by way of it."""
    by_socket = make_url(url)
    link = Link(f"{by_socket.query['host']}/.s.PGSQL.5432")
    by_link = by_socket.set(host="127.0.0.1", port=link.port, query={})
    return link, by_link.render_as_string(hide_password=False)
