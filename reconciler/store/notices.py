"""What processes on one PostgreSQL tell each other: that something was committed, and which names it wakes.

Every transaction of `Database.write` ends with a notice, and `Database.listen` hears those of the others on a
connection of its own (traps, "PostgreSQL": at most 7,999 bytes, equal ones are folded). A notice carries names, never
content: who hears it reads. On SQLite there is one process and no notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection, Engine, bindparam, func, select

from reconciler.errors import Transient
from reconciler.store.engine import lively
from reconciler.store.prepared import Prepared

log = structlog.get_logger(__name__)
_CHANNEL = "steersman"
_MOST = 7_900  # bytes
_QUIET = 5.0  # seconds without a notice after which the connection is asked whether it is alive
_PATIENCE = 5.0
_FIRST_DELAY, _MAX_DELAY = 0.1, 2.0
_NOTIFY = Prepared(select(func.pg_notify(_CHANNEL, bindparam("payload")).label("done")))


class Notice(msgspec.Struct, frozen=True):
    """`sender`: the database object that wrote; `event`: number of the last one; `wake`: None for everything."""

    sender: str = msgspec.field(name="from")
    version: int = msgspec.field(name="v")
    event: int = msgspec.field(name="e")
    wake: tuple[str, ...] | None = ()


_decode = msgspec.json.Decoder(Notice).decode


def send(connection: Connection, notice: Notice) -> None:
    """Tell it to all when this transaction is committed; too many names are told as all there are."""
    payload = msgspec.json.encode(notice)
    if len(payload) > _MOST:
        payload = msgspec.json.encode(msgspec.structs.replace(notice, wake=None))
    _NOTIFY.all(connection, payload=payload.decode())


class Listening:
    """A connection that hears notices until `close`, made anew where it is lost.

    `heard(notices)` is called with those of others, `missed()` each time that it was deaf for a while.
    """

    def __init__(
        self,
        engine: Engine,
        sender: str,
        heard: Callable[[Sequence[Notice]], Awaitable[None]],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        own = engine.dialect.create_connect_args(engine.url)[1]
        self._arguments = {**own, **lively(engine.url.render_as_string(hide_password=False))}
        self._sender = sender
        self._heard = heard
        self._missed = missed
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> Any:
        """A connection for `start`, from which on none is missed. `Transient`."""
        try:
            return await self._connect()
        except _errors() as error:
            raise Transient("DatabaseUnavailable", f"the database does not answer: {error}") from error

    def start(self, connection: Any) -> None:
        """Tell what this one has heard and hears."""
        self._task = asyncio.create_task(self._go_on(connection), name="notices")

    async def close(self) -> None:
        """Hear no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _connect(self) -> Any:
        from psycopg import AsyncConnection  # an extra: SQLite does without it

        connecting = AsyncConnection.connect(**self._arguments, autocommit=True)
        connection = await asyncio.wait_for(connecting, _PATIENCE)
        try:
            await asyncio.wait_for(connection.execute(f"LISTEN {_CHANNEL}"), _PATIENCE)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _go_on(self, connection: Any) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                if connection is None:
                    connection = await self._connect()
                    await self._missed()
                    log.info("notices-heard-again")
                    delay = _FIRST_DELAY
                await self._hear(connection)
            except Exception as error:  # whatever it was: a deaf process is worse
                log.warning("notices-lost", error=f"{type(error).__name__}: {error}")
            finally:
                if connection is not None:
                    with suppress(*_errors()):
                        await connection.close()
            connection = None
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_DELAY)

    async def _hear(self, connection: Any) -> None:
        """Until the connection is lost. What comes while others are told is kept by the driver."""
        while True:
            found = [item.payload async for item in connection.notifies(timeout=_QUIET, stop_after=1)]
            if not found:
                await asyncio.wait_for(connection.execute("SELECT 1"), _PATIENCE)
            notices = [_decode(payload) for payload in found]
            others = [notice for notice in notices if notice.sender != self._sender]
            if others:
                await self._heard(others)


def _errors() -> tuple[type[Exception], ...]:
    from psycopg import Error

    return Error, OSError, TimeoutError
