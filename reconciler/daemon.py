"""Opens the parts of one installation, keeps the loop running, and closes them again.

`async with Daemon(settings)` is all that `api.serve` needs. It decides nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from reconciler import sealing
from reconciler.apply import jobs as apply
from reconciler.apply.dispatch import changes
from reconciler.apply.jobs import Outcome
from reconciler.controllers.builds import looks
from reconciler.controllers.repositories import follows, troubled
from reconciler.controllers.rights import ADMINISTRATOR
from reconciler.credentials import token_hash
from reconciler.errors import Stalled
from reconciler.execution import contents as shared_contents
from reconciler.execution import directory, leftovers, processes
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.carry import Carrier
from reconciler.execution.lease import Lease
from reconciler.execution.packages import Packages
from reconciler.execution.presence import Presence
from reconciler.execution.run import Runs
from reconciler.execution.secrets import Secrets
from reconciler.execution.stages.world import Around
from reconciler.execution.taking import Taking, vanished
from reconciler.installation import Installation
from reconciler.loop import Loop
from reconciler.model.job import Job, State
from reconciler.model.queue import Changes
from reconciler.model.rights import INSTALLATION, Level
from reconciler.passes import deployments, dispatch, gate, notifications, routes, wanted, workers
from reconciler.passes import jobs as job_passes
from reconciler.passes.authority import refusal
from reconciler.sealing import Keys, SealingError
from reconciler.settings import Settings
from reconciler.source.commit import Author, Writer
from reconciler.source.git import Credentials, Mirror
from reconciler.source.hosts import credentials_of
from reconciler.source.mirrors import Mirrors
from reconciler.source.names import check_branch, host_of
from reconciler.source.secrets import SSH_KEY, opened
from reconciler.source.watch import git_dir_of, local_path, watch
from reconciler.store import fingerprint, history, jobs, migrate, ownership, resources, sources, tokens
from reconciler.store.database import Database, Write, connect
from reconciler.store.engine import is_sqlite
from reconciler.store.snapshot import Snapshot, View
from reconciler.store.tokens import NewToken
from reconciler.store.workers import Worker
from specs.meta import parse_key

log = structlog.get_logger(__name__)
_THREADS = 64
_SECRETS = frozenset({"Secret"})
_SLOW = ("Build/", "Repository/")  # passes that may wait for another machine


class Daemon:
    """One installation, open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.first_token: str | None = None
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.installation: Installation
        self.loop: Loop

    async def __aenter__(self) -> Daemon:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self.loop.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _open(self) -> None:
        settings = self.settings
        # what blocks runs in threads, and some of it for long (copies of attachments, caches): none waits for those
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="work")
        )
        self._stack.callback(directory.take(settings.data).close)
        database = await self._database()
        keys = await self._keys(database)
        snapshot = Snapshot()
        self.loop = Loop(self._pass, self._trouble, slow=lambda name: name.startswith(_SLOW))
        database.wake = self.loop.wake
        known = lambda key: snapshot.current.resources.get(key)  # noqa: E731
        mirrors = Mirrors(
            settings.data / "mirrors",
            credentials_of(settings),
            lambda key: opened(keys, known, key, SSH_KEY),
        )
        self._stack.push_async_callback(mirrors.close)
        source = await self._source()
        committer = Author(settings.committer_name, settings.committer_email)
        writer = Writer(
            source, settings.branch, settings.data / "mirrors", committer, signing_key=settings.signing_key
        )
        self._stack.push_async_callback(writer.close)
        contents = shared_contents.of(settings, database)
        store = AttachmentStore(settings.data / "attachments", settings.attachment_bytes, contents)
        await asyncio.to_thread(store.clear_unfinished)
        given = Secrets(
            keys,
            known,
            lambda owner: {
                key: found
                for key, found in snapshot.current.of_kinds(_SECRETS).items()
                if key.startswith(f"Secret/~{owner}/")
            },
            settings.url,
        )
        runs = Runs(settings, database, mirrors, store, given, self, self.loop.wake)
        self._stack.push_async_callback(runs.close)
        self._stack.callback(contents.close)
        self.installation = Installation(
            settings,
            keys,
            database,
            snapshot,
            source,
            writer,
            mirrors,
            store,
            given,
            runs,
            self.loop.wake,
            self.loop.run_now,
            self._oldest,
            carrier=None if database.sqlite else Carrier(settings.database_url),
        )
        if settings.lease_seconds is not None and not database.sqlite:
            runs.lease = Lease(settings.data / "lease", settings.lease_seconds)
        packages = Packages(settings, store)
        await asyncio.to_thread(packages.clear_unfinished)
        runs.around = Around(
            keys,
            packages,
            mirrors,
            known,
            self._may,
            partial(wanted.files, self.installation),
            partial(gate.shut, self.installation),
            settings.private_addresses,
        )
        await self._load()
        self.first_token = await self._administrator()
        await self._start()

    def _may(self, subject: str, verb: str, key: str) -> bool:
        """Has somebody the role for this? What nobody asked for is allowed by its declaration."""
        if not subject.startswith(("User/", "ServiceAccount/")):
            return True
        return refusal(self.installation, subject, verb, parse_key(key)) is None

    async def _database(self) -> Database:
        url = self.settings.database_url
        if is_sqlite(url):
            held = await asyncio.to_thread(ownership.take, url)
            self._stack.callback(held.close)
        migrated = await asyncio.to_thread(migrate.prepare, url, may_migrate=is_sqlite(url))
        if migrated:
            log.info("database-migrated", revision=migrate.HEAD)
        database = connect(url, own=True)  # one daemon a database: a second would take up this one's trials
        self._stack.push_async_callback(database.close)
        await database.own()
        await database.load_version()
        return database

    async def _keys(self, database: Database) -> Keys:
        """The server's key, made at the first start; one that does not fit the store is refused."""
        path, accept = self.settings.key_path, self.settings.accept_key
        known = await database.read(fingerprint.load)
        wrong = (
            "what was sealed to it would be lost. Put the right key file there (it is in the backup); only if it "
            "is lost for good, start once with STEERSMAN_ACCEPT_KEY=1 and seal all secrets anew"
        )
        if known is not None and not accept and not path.exists():
            raise Stalled("KeyMissing", f"the key file {path} is missing, but the store has a key: {wrong}")
        try:
            if not path.exists():
                sealing.make(path)
                log.info("key-made", path=str(path))
            keys = sealing.load(path)
        except SealingError as error:
            raise Stalled("KeyFile", str(error)) from error
        if known is not None and known not in keys.fingerprints and not accept:
            raise Stalled("KeyMismatch", f"the key file {path} is not the key of this store: {wrong}")
        if known != keys.fingerprints[0]:
            await database.write(lambda write: fingerprint.save(write.connection, keys.fingerprints[0]))
        return keys

    async def _source(self) -> Mirror:
        settings = self.settings
        check_branch(settings.branch)
        path = local_path(settings.repo)
        if path is not None:
            source = await Mirror.open(settings.repo, path, direct=True)
        else:
            folder = (
                settings.data
                / "mirrors"
                / f"source-{hashlib.sha256(settings.repo.encode()).hexdigest()[:32]}"
            )
            host = credentials_of(settings)
            source = await Mirror.open(settings.repo, folder, credentials=_for_url(host, settings.repo))
        self._stack.push_async_callback(source.close)
        return source

    async def _load(self) -> None:
        installation = self.installation
        database = installation.database
        known = await database.read(resources.load_all)
        source = await database.read(sources.load)
        if source is not None and source.url != self.settings.repo:
            log.warning("source-changed", before=source.url, now=self.settings.repo)
        installation.snapshot.swap(View(database.version, known, source))

    async def _start(self) -> None:
        installation = self.installation
        installation.database.subscribe(partial(notifications.heard, installation))
        self._tasks.append(asyncio.create_task(self.loop.run(), name="loop"))
        self._tasks.append(asyncio.create_task(installation.runs.guard(), name="disk"))
        places = dispatch.places_of(installation)
        await installation.database.listen()
        await self._enter()
        found = await installation.database.read(jobs.live_trials)
        live = {trial.id: trial.epoch for trial in found if trial.state in (State.EXECUTING, State.ABORTING)}
        await asyncio.to_thread(leftovers.sweep, self.settings.data, live)
        taken = await installation.runs.recover(lambda key: places.get(key or "") or vanished(key))
        if taken:
            log.info("trials-taken-up", count=taken)
        for name in (
            "source",
            "jobs",
            job_passes.LIMITS,
            "dispatch",
            "deliveries",
            notifications.ALL,
            "pipelines",
            "requests",
            "retention",
        ):
            self.loop.wake(name)
        for key, resource in installation.snapshot.current.resources.items():
            if looks(resource) or follows(resource) or troubled(resource):
                self.loop.wake(key)
        await deployments.wake_all(installation)
        for key in await installation.database.read(history.repositories):
            self.loop.wake(key)  # also those that are no more: what is known of them goes
        self.loop.wake("resync", installation.now() + timedelta(seconds=self.settings.resync_seconds))
        path = local_path(self.settings.repo)
        folder = git_dir_of(path) if path is not None else None
        if folder is not None:
            wake = lambda: self.loop.wake("source")  # noqa: E731
            self._tasks.append(asyncio.create_task(watch(folder, wake, self._stop), name="watch"))

    async def _enter(self) -> None:
        """On PostgreSQL: be one of those who run trials."""
        installation, settings = self.installation, self.settings
        if installation.carrier is None:
            return
        me = Worker(
            id=installation.runs.instance,
            kind="daemon",
            name=settings.worker_name or socket.gethostname(),
            executors=settings.executors,
            max_load=settings.max_load,
            recipient=installation.keys.recipient,
            boot=processes.boot_id(),
            software=version("steersman"),
            address=settings.address,
            lease_seconds=settings.lease_seconds,
        )
        presence = Presence(installation.database, me, installation.runs.lease, self._facts, self._heard)
        await presence.enter()
        taking = Taking(installation.database, installation.runs, installation.carrier, None)
        self._tasks.append(asyncio.create_task(presence.run(), name="presence"))
        self._tasks.append(asyncio.create_task(taking.run(), name="taking"))

    def _facts(self) -> dict[str, Any]:
        """What the others are told of this process."""
        runs = self.installation.runs
        return {"closed": runs.closed, "unstored": runs.unstored, "running": runs.active}

    def _heard(self, crew: Sequence[Worker]) -> None:
        """Who is there now; what that changes is looked at."""
        installation = self.installation
        before, installation.crew = installation.crew, tuple(crew)
        if workers.concerned(installation):
            self.loop.wake(workers.NAME)
        if dispatch.differs(before, crew):
            self.loop.wake("dispatch")

    def begins(self, write: Write, job: int) -> None:
        """One of the trials here begins in this transaction."""

    def ended(self, job: int, trial: str) -> None:
        """A script has ended: the next one need not wait until that is stored."""
        self.installation.queue.release(job, trial)
        self.loop.wake("dispatch")

    def advance(self, write: Write, job: int) -> tuple[Outcome | None, Changes | None]:
        """A trial ends in this transaction: its job goes on."""
        return apply.advance(write, job), changes(self.installation, write)

    def begun(self, job: Job) -> None:
        """A script of a job has begun."""
        job_passes.begun(self.installation, job)

    async def settle(self, job: int, advanced: tuple[Outcome | None, Changes | None] | None) -> None:
        """It has, and this follows."""
        outcome, seen = advanced or (None, None)
        if seen is not None:
            self.installation.queue.take(seen)
        at = await job_passes.settle(self.installation, outcome)
        if at is not None:
            self.loop.wake(f"job/{job}", at)

    async def _pass(self, name: str) -> datetime | None:
        return await routes.run(self.installation, name)

    def _oldest(self) -> tuple[str, float] | None:
        return self.loop.oldest

    def _trouble(self, name: str, fact: tuple[str, str] | None) -> None:
        if fact is None:
            self.installation.troubles.pop(name, None)
        else:
            self.installation.troubles[name] = fact

    async def _administrator(self) -> str | None:
        """Make sure that there is an administrator's token; gives it at the first start only."""
        settings = self.settings
        path = settings.data / "admin.token"
        given = settings.admin_token.get_secret_value() if settings.admin_token else None
        kept = path.read_text(encoding="utf-8").strip() if path.exists() else None
        database = self.installation.database
        if kept is not None and given is None and not await self._still_good(kept):
            kept = None  # revoked: a leaked token must not come back with a restart
        secret = given or kept or f"stm_{secrets.token_urlsafe(32)}"
        if secret != kept:
            _write_private(path, secret + "\n")
        token = NewToken(
            ADMINISTRATOR, "administrator", Level.OWNER, INSTALLATION, self.installation.now(), None
        )
        mark = token_hash(secret)
        known = await database.read(lambda c: tokens.find(c, mark))
        if known is None or not known.valid(token.created_at):
            await database.write(lambda w: tokens.replace_administrator(w.connection, mark, token))
        return secret if kept is None and given is None else None

    async def _still_good(self, secret: str) -> bool:
        """Not revoked; one that the database never saw (it was replaced) counts as good."""
        mark = token_hash(secret)
        known = await self.installation.database.read(lambda c: tokens.find(c, mark))
        return known is None or known.revoked_at is None


def _for_url(hosts: dict[str, Credentials], url: str) -> Credentials | None:
    return hosts.get(host_of(url) or "")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
