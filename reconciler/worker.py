"""A process that only runs trials: `steersman worker`, on any machine that reaches the database (design 7.5).

It decides nothing and knows no key of the server. The daemon that leads claims trials for it, Procrastinate brings
them, `execution.run` runs them as in a daemon, and what comes of them is stored; the leader is told by notices.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from types import TracebackType
from typing import Any

import structlog

from reconciler import sealing
from reconciler.errors import Stalled, SteersmanError
from reconciler.execution import contents as shared_contents
from reconciler.execution import directory, leftovers, processes, tidying
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.carry import Carrier
from reconciler.execution.lease import Lease
from reconciler.execution.presence import Presence
from reconciler.execution.run import Runs
from reconciler.execution.secrets import Handed
from reconciler.execution.taking import Taking, places_of
from reconciler.model.job import Job, State
from reconciler.sealing import Keys, SealingError
from reconciler.settings import Settings
from reconciler.source.hosts import credentials_of
from reconciler.source.mirrors import Mirrors
from reconciler.source.secrets import SSH_KEY, opened
from reconciler.store import jobs, migrate
from reconciler.store.database import Connection, Database, Write, connect
from reconciler.store.engine import is_sqlite
from reconciler.store.workers import Worker

log = structlog.get_logger(__name__)
LEASE_SECONDS = 10.0
_THREADS = 32
_TIDY = 3600.0


class WorkerProcess:
    """`async with` opens it; `drain` lets it take nothing more. Its scripts outlive it for as long as its lease."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draining = False
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._runs: Runs
        self._database: Database
        self._handed: Handed
        self._presence: Presence
        self._taking: Taking

    async def __aenter__(self) -> WorkerProcess:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def active(self) -> int:
        """Trials at work here."""
        return self._runs.active

    async def drain(self) -> None:
        """Take nothing more, and wait until all that runs here has ended."""
        self.draining = self._taking.leaving = True
        await self._runs.idle()
        with suppress(SteersmanError):
            await self._presence.leave()

    async def failed(self) -> None:
        """Wait until one of its parts fails; raises what that met."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()

    # -- how a job goes on: who leads is told

    def begins(self, write: Write, job: int) -> None:
        """One of its trials begins."""
        write.wake(f"begun/{job}")

    def advance(self, write: Write, job: int) -> bool:
        """A trial ends in this transaction."""
        write.wake(f"job/{job}")
        write.wake("dispatch")
        return True

    def begun(self, job: Job) -> None:
        """The transaction has told it."""

    def ended(self, job: int, trial: str) -> None:
        """The transaction of its end tells it."""

    async def settle(self, job: int, outcome: Any) -> None:
        """Nothing follows here."""

    # -- the parts

    async def _open(self) -> None:
        settings = self.settings
        if is_sqlite(settings.database_url):
            raise Stalled(
                "NoDatabase", "a worker needs the daemons' PostgreSQL: give --database postgresql://…"
            )
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="work")
        )
        self._stack.callback(directory.take(settings.data).close)
        keys = _keys(settings)
        await asyncio.to_thread(migrate.prepare, settings.database_url, may_migrate=False)
        self._database = connect(settings.database_url)
        self._stack.push_async_callback(self._database.close)
        await self._database.load_version()
        self._handed = Handed(keys)
        mirrors = Mirrors(
            settings.data / "mirrors",
            credentials_of(settings),
            lambda key: opened(keys, self._handed.declared, key, SSH_KEY),
        )
        self._stack.push_async_callback(mirrors.close)
        contents = shared_contents.of(settings, self._database)
        store = AttachmentStore(settings.data / "attachments", settings.attachment_bytes, contents)
        await asyncio.to_thread(store.clear_unfinished)
        self._runs = Runs(settings, self._database, mirrors, store, self._handed, self, self._wake)
        self._runs.kind = "worker"
        seconds = settings.lease_seconds or LEASE_SECONDS
        self._runs.lease = Lease(settings.data / "lease", seconds)
        self._stack.push_async_callback(self._runs.close)
        self._stack.callback(contents.close)
        carrier = Carrier(settings.database_url)
        await carrier.check(self._runs.instance)
        self._presence = Presence(
            self._database, self._me(keys, seconds), self._runs.lease, self._facts, silent=carrier.reconnect
        )
        await self._presence.enter()
        await self._compare_executors()
        self._taking = Taking(self._database, self._runs, carrier, self._handed)
        await self._sweep()
        if taken := await self._taking.recover():
            log.info("trials-taken-up", count=taken)
        for name, work in {
            "presence": self._presence.run(),
            "taking": self._taking.run(),
            "disk": self._runs.guard(),
            "tidying": self._tidy(store),
        }.items():
            self._tasks.append(asyncio.create_task(work, name=name))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _me(self, keys: Keys, seconds: float) -> Worker:
        settings = self.settings
        return Worker(
            id=self._runs.instance,
            kind="worker",
            name=settings.worker_name or socket.gethostname(),
            executors=settings.executors,
            max_load=settings.max_load,
            recipient=keys.recipient,
            boot=processes.boot_id(),
            software=version("steersman"),
            lease_seconds=seconds,
            facts=self._facts(),
        )

    async def _compare_executors(self) -> None:
        """A name that nobody has declared may be a mistake, or come later."""
        declared = {key.partition("/")[2] for key in await self._database.read(places_of)}
        for name in self.settings.executors:
            if name not in declared | {"*"}:
                log.warning("executor-not-declared", name=name, declared=sorted(declared))

    def _facts(self) -> Mapping[str, Any]:
        """What the others are told of it."""
        runs = self._runs
        return {
            "closed": ("Draining", "it is leaving") if self.draining else runs.closed,
            "unstored": runs.unstored,
            "running": runs.active,
        }

    def _wake(self, name: str) -> None:
        self._database.send([name])

    async def _sweep(self) -> None:
        found = await self._database.read(self._claimed)
        live = {trial.id: trial.epoch for trial in found if trial.state in (State.EXECUTING, State.ABORTING)}
        await asyncio.to_thread(leftovers.sweep, self.settings.data, live)

    def _claimed(self, connection: Connection) -> list[jobs.LiveTrial]:
        return jobs.claimed_for(connection, self._runs.instance)

    async def _tidy(self, store: AttachmentStore) -> None:
        """What is here and was handed on, or forgotten, goes."""
        while True:
            with suppress(SteersmanError):
                before = datetime.now(UTC) - timedelta(days=self.settings.retention_days)
                await tidying.tidy(self.settings.data, store, self._database, before)
                await tidying.drop_copies(store, self._database)
                await asyncio.to_thread(self._runs.caches.clear, before.timestamp())
            await asyncio.sleep(_TIDY)


def _keys(settings: Settings) -> Keys:
    """The worker's own key, made at its first start: what is handed to it is sealed to that."""
    path = settings.data / "worker.key"
    try:
        if not path.exists():
            sealing.make(path)
        return sealing.load(path)
    except SealingError as error:
        raise Stalled("KeyFile", str(error)) from error
