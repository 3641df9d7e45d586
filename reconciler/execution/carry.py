"""Carries claimed trials to the workers they were claimed for, and the wish to end them, by Procrastinate (design 7.5).

The daemon that leads calls `Carrier.send` inside the transaction of the claim, so that what is claimed is on its way.
`Carrier.work` runs where trials are executed. What is carried is an id: everything else is in the store, which alone
decides, by the epoch of the claim, whether anything starts. So a message may come twice, late, or for nothing, and it
is done when the worker has taken the trial up: one that lasted as long as its script would stay behind, after an
outage, as work that nobody does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from reconciler.errors import Stalled, Transient
from reconciler.store.database import Connection
from reconciler.store.engine import conninfo

if TYPE_CHECKING:  # it is only there where PostgreSQL is
    from procrastinate import App

log = structlog.get_logger(__name__)
Take = Callable[[str], Awaitable[None]]
_AT_ONCE = 16
_POLL = 2.0  # seconds: what was sent while nobody listened is found so late at most
_BEAT, _STALLED = 5.0, 60.0
_LEAVE = 5.0
_AGAIN, _LONGEST = 0.2, 5.0
_RUN, _STOP = "run", "stop"


class Carrier:
    """Between the processes on one PostgreSQL, by its URL as the store takes it."""

    def __init__(self, url: str) -> None:
        from procrastinate import App, SyncPsycopgConnector

        self._url = url
        self._sending = App(connector=SyncPsycopgConnector(conninfo=conninfo(url)))
        self._tasks = {name: _task(self._sending, name, _nothing) for name in (_RUN, _STOP)}
        self._listening: asyncio.Task[None] | None = None

    def send(self, connection: Connection, worker: str, trials: Sequence[str], *, stop: bool = False) -> None:
        """In a transaction: these trials are to be run by the worker with this id, or to be stopped there.

        `Transient` where the database goes away meanwhile, `Stalled` where it refuses.
        """
        from procrastinate.exceptions import ConnectorException
        from psycopg import OperationalError

        if not trials:
            return
        task = self._tasks[_STOP if stop else _RUN]
        raw = connection.connection.driver_connection
        try:
            task.configure(queue=worker, connection=raw).batch_defer(*({"trial": trial} for trial in trials))
        except ConnectorException as error:
            if isinstance(error.__cause__, OperationalError):
                told = f"the database does not answer: {_told(error)}"
                raise Transient("DatabaseUnavailable", told) from error
            raise Stalled("DatabaseRights", f"nothing can be carried to workers: {_told(error)}") from error

    async def check(self, worker: str) -> None:
        """May the worker with this id take what comes for it? `Stalled` where the tables or the rights are missing,
        `Transient` where the database goes away meanwhile.
        """
        from psycopg import OperationalError

        app = self._open(most=1)
        try:
            async with _opened(app):
                await app.job_manager.list_jobs_async(queue=worker)
                made = await app.job_manager.register_worker()
                await app.job_manager.unregister_worker(made)
        except Exception as error:
            if isinstance(_first(error), OperationalError):
                told = f"the database does not answer: {_told(error)}"
                raise Transient("DatabaseUnavailable", told) from error
            told = f"nothing can be carried to this worker by the tables of Procrastinate: {_told(error)}"
            raise Stalled("DatabaseRights", told) from error

    async def work(self, worker: str, run: Take, stop: Take) -> None:
        """Take what comes for the worker with this id, until cancelled; an outage is waited out."""
        delay = _AGAIN
        while True:
            app = self._open(most=4)
            _task(app, _RUN, run)
            _task(app, _STOP, stop)
            begun = time.monotonic()
            self._listening = asyncio.create_task(_listen(app, worker), name="carrier")
            try:
                await asyncio.wait({self._listening})
                error = None if self._listening.cancelled() else self._listening.exception()
                log.warning("carrier-interrupted", error=None if error is None else _told(error))
            finally:
                self._listening.cancel()
                await asyncio.wait({self._listening}, timeout=_LEAVE)
            delay = _AGAIN if time.monotonic() - begun > _LONGEST else min(delay * 2, _LONGEST)
            await asyncio.sleep(delay)

    def reconnect(self) -> None:
        """What listens is deaf: its connections are dead, and nobody has told it. It is left behind for another one."""
        if self._listening is not None:
            self._listening.cancel()

    async def drop(self, workers: Sequence[str]) -> None:
        """What was meant for workers that will not come back."""
        if not workers:
            return
        app = self._open(most=1)
        async with _opened(app):
            for worker in workers:
                await _clear(app, queue=worker)

    def _open(self, most: int) -> App:
        from procrastinate import App, PsycopgConnector

        return App(connector=PsycopgConnector(conninfo=conninfo(self._url), min_size=1, max_size=most))


@asynccontextmanager
async def _opened(app: App) -> AsyncIterator[None]:
    """Closed whatever happens, also when it was cancelled before it was open: a task of its pool may take that for a
    connection that failed, and live on.
    """
    try:
        await app.open_async()
        yield
    finally:
        await app.close_async()


async def _listen(app: App, worker: str) -> None:
    """Until it is cancelled or fails."""
    async with _opened(app):
        # taken when this one was killed: `execution.taking` looks at all claims by itself
        await _clear(app, queue=worker, status="doing")
        await app.run_worker_async(
            queues=[worker],
            name=worker,
            concurrency=_AT_ONCE,
            fetch_job_polling_interval=_POLL,
            abort_job_polling_interval=3600.0,
            update_heartbeat_interval=_BEAT,
            stalled_worker_timeout=_STALLED,
            shutdown_graceful_timeout=_LEAVE,
            delete_jobs="always",
            install_signal_handlers=False,
        )


async def _clear(app: App, **which: Any) -> None:
    """What nobody will do: whether it matters is the store's to say."""
    from procrastinate.jobs import Status

    for job in await app.job_manager.list_jobs_async(**which):
        await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)


def _task(app: App, name: str, work: Take) -> Any:
    async def carried(trial: str) -> None:
        await work(trial)

    return app.task(name=f"steersman.{name}")(carried)


def _first(error: BaseException) -> BaseException:
    """What is behind it, where Procrastinate says only that there is something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _told(error: BaseException) -> str:
    """On one line."""
    first = _first(error)
    return " ".join(f"{type(first).__name__}: {first}".split())


async def _nothing(_trial: str) -> None:
    """Where it is only sent."""
