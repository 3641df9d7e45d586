"""Opens the parts of one installation, keeps the loop running while it leads, and closes them again.

`async with Daemon(settings)` is all that `api.serve` needs. It decides nothing. Of several daemons on one PostgreSQL
each serves and runs trials; one leads: it has the loop. The others follow: they keep their snapshot fresh, and what
would wake the loop is sent to the leader (design 7.5).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from reconciler import election, sealing
from reconciler.apply import jobs as apply
from reconciler.apply.dispatch import changes
from reconciler.apply.jobs import Outcome
from reconciler.controllers.builds import looks
from reconciler.controllers.repositories import follows, troubled
from reconciler.controllers.rights import ADMINISTRATOR
from reconciler.credentials import token_hash
from reconciler.errors import Stalled, SteersmanError, Transient
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
from reconciler.model.event import Recorded
from reconciler.model.job import Job, State
from reconciler.model.queue import Changes
from reconciler.model.rights import INSTALLATION, Level
from reconciler.passes import (
    clock,
    deployments,
    dispatch,
    executors,
    following,
    gate,
    notifications,
    routes,
    wanted,
    workers,
)
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
from reconciler.store import fingerprint, history, jobs, migrate, ownership, tokens
from reconciler.store import workers as worker_rows
from reconciler.store.database import Connection, Database, Write, connect
from reconciler.store.engine import is_sqlite
from reconciler.store.snapshot import Snapshot
from reconciler.store.tokens import NewToken
from reconciler.store.workers import Worker
from reconciler.wall_clock import WallClock
from specs.meta import parse_key

log = structlog.get_logger(__name__)
_THREADS = 64
_SECRETS = frozenset({"Secret"})
_SLOW = ("Build/", "Repository/")  # passes that may wait for another machine
_FRESH = 5.0  # seconds for which the daemon that led last is taken for alive
_TRIES, _AGAIN = 20, 0.1  # seconds in which the server notices that the one before is dead
_SOON = 3.0  # seconds: by then the next heart-beat has told who is there
_ADMINISTRATOR = "administrator"


class Daemon:
    """One installation, open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.first_token: str | None = None
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._leading: list[asyncio.Task[None]] = []
        self._stop_leading = asyncio.Event()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._background: dict[str, asyncio.Task[None]] = {}
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
        tasks = [*self._tasks, *self._background.values()]
        for task in tasks:  # first of all who tries for the lead
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end_leading()
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
        self.loop = self._new_loop()
        database.wake = self._committed
        database.missed = self._missed
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
        runs = Runs(settings, database, mirrors, store, given, self, self._wake)
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
            self._wake,
            self._run_now,
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
            await database.write(
                lambda write: fingerprint.save(write.connection, keys.fingerprints[0], known)
            )
            if await database.read(fingerprint.load) != keys.fingerprints[0]:
                raise Stalled("KeyMismatch", f"another daemon has just given this store its key: {wrong}")
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
        await following.load(installation)
        source = installation.snapshot.current.source
        if source is not None and source.url != self.settings.repo:
            log.warning("source-changed", before=source.url, now=self.settings.repo)

    async def _start(self) -> None:
        """What every daemon does, and then the leader's part, if that is ours."""
        installation, database = self.installation, self.installation.database
        self._tasks.append(asyncio.create_task(installation.runs.guard(), name="disk"))
        presence = None
        if not database.sqlite:
            installation.standing.leads = False
            presence = await self._enter()
            installation.standing.leads = await self._first()
            database.refresh = partial(following.refresh, installation)
            database.subscribe(self._behind)
            await database.listen()
            await following.refresh(installation)  # what came before we listened
        places = dispatch.places_of(installation)
        found = await database.read(jobs.live_trials)
        live = {trial.id: trial.epoch for trial in found if trial.state in (State.EXECUTING, State.ABORTING)}
        await asyncio.to_thread(leftovers.sweep, self.settings.data, live)
        taken = await installation.runs.recover(lambda key: places.get(key or "") or vanished(key))
        if taken:
            log.info("trials-taken-up", count=taken)
        if installation.standing.leads:
            await self._lead()
        if presence is None or installation.carrier is None:
            return
        standing = election.stand(
            database, self._begin_leading, self._won, self._lost, leading=installation.standing.leads
        )
        self._tasks.append(asyncio.create_task(standing, name="election"))
        self._tasks.append(asyncio.create_task(presence.run(), name="presence"))
        taking = Taking(database, installation.runs, installation.carrier, None)
        self._tasks.append(asyncio.create_task(taking.run(), name="taking"))

    async def _first(self) -> bool:
        """Is the lead ours from the beginning? One that was held by who has just died is waited for."""
        database = self.installation.database
        for _ in range(_TRIES):
            if await database.lead(self._begin_leading):
                await following.refresh(self.installation)
                return True
            leader = await database.read(worker_rows.leader)
            if leader is not None and leader.id != self._id and leader.age < _FRESH:
                break
            await asyncio.sleep(_AGAIN)
        log.info("follows", leader=leader.address if leader else None)
        return False

    def _begin_leading(self, connection: Connection) -> None:
        """In the transaction of the take-over: from now on the others find us."""
        worker_rows.lead(connection, self._id)

    async def _won(self) -> None:
        """We lead, after another one did."""
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()
        following.forget(self.installation)
        await following.refresh(self.installation)
        self.installation.wall_clock = WallClock()  # who led has followed it so far
        self.installation.standing.leads = True
        self.loop = self._new_loop()
        await self._lead()

    async def _lead(self) -> None:
        """What only the leader does: the loop, and what wakes it."""
        installation = self.installation
        self._hearing = partial(notifications.heard, installation)
        installation.database.subscribe(self._hearing)
        self._leading.append(asyncio.create_task(self.loop.run(), name="loop"))
        self._leading.append(asyncio.create_task(clock.run(installation, self.loop.rouse), name="clock"))
        await self._wake_all()
        path = local_path(self.settings.repo)
        folder = git_dir_of(path) if path is not None else None
        if folder is not None:
            wake = lambda: self._wake("source")  # noqa: E731
            self._stop_leading = asyncio.Event()
            self._leading.append(asyncio.create_task(watch(folder, wake, self._stop_leading), name="watch"))

    async def _end_leading(self) -> None:
        """All of it has ended when this returns."""
        await self.installation.standing.give_up()
        if not self._leading:
            return
        self.installation.database.unsubscribe(self._hearing)
        self._stop_leading.set()
        await self.loop.close()
        tasks, self._leading = self._leading, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lost(self) -> None:
        """Another one leads, or will."""
        await self._end_leading()
        await following.begin(self.installation)
        # the notice of what another one has committed since may have come while we still took ourselves for the leader
        self._in_background("snapshot", self._refresh())

    async def _wake_all(self) -> None:
        """Everything is looked at: at a start, and where names may have been missed."""
        installation = self.installation
        for name in (
            "source",
            "jobs",
            job_passes.LIMITS,
            "dispatch",
            "deliveries",
            executors.NAME,
            notifications.ALL,
            gate.NAME,
            "pipelines",
            "requests",
            "retention",
            workers.NAME,
        ):
            self._wake(name)
        for key, resource in installation.snapshot.current.resources.items():
            if looks(resource) or follows(resource) or troubled(resource):
                self._wake(key)
        await deployments.wake_all(installation)
        for key in await installation.database.read(history.repositories):
            self._wake(key)  # also those that are no more: what is known of them goes
        self._wake("resync", installation.now() + timedelta(seconds=self.settings.resync_seconds))

    def _missed(self) -> None:
        """Names may have been woken by others that we were not told of."""
        for name in ("resync", job_passes.LIMITS):
            self._committed(name)

    def _behind(self, version: int, recorded: Recorded | None) -> None:
        """A commit, here or elsewhere; of our own a follower's snapshot does not know yet."""
        if recorded is not None and recorded.event.kind == "token-revoked":
            self.installation.revoked()
        if self.installation.version < version:
            self._in_background("snapshot", self._refresh())

    async def _refresh(self) -> None:
        installation = self.installation
        while installation.version < installation.database.version:
            try:
                await following.refresh(installation)
            except SteersmanError as error:
                log.warning("snapshot-late", reason=error.reason, message=error.message)
                await asyncio.sleep(_AGAIN)
        installation.database.announce()

    @property
    def _id(self) -> str:
        """Of this daemon among all: its data directory's."""
        return self.installation.runs.instance

    def _new_loop(self) -> Loop:
        return Loop(self._pass, self._trouble, slow=lambda name: name.startswith(_SLOW))

    def _committed(self, name: str) -> None:
        """A transaction wakes this name; of a follower's the leader hears by itself."""
        if self.installation.standing.leads:
            self.loop.wake(name)

    def _wake(self, name: str, at: datetime | None = None) -> None:
        """Wake a name of the loop, wherever it runs."""
        if self.installation.standing.leads:
            self.loop.wake(name, at)
        elif at is None or (wait := (at - self.installation.now()).total_seconds()) <= 0:
            self.installation.database.send([name])
        else:
            loop = asyncio.get_running_loop()
            planned = self._later.get(name)
            if planned is not None and planned.when() <= loop.time() + wait:
                return
            if planned is not None:
                planned.cancel()
            self._later[name] = loop.call_later(wait, self._due, name)

    def _due(self, name: str) -> None:
        del self._later[name]
        self._wake(name)

    async def _run_now(self, name: str) -> None:
        if not self.installation.standing.leads:
            raise Transient("NoLeader", "this daemon does not lead; try again")
        await self.loop.run_now(name)

    async def _enter(self) -> Presence:
        """On PostgreSQL: be one of those who run trials."""
        installation, settings = self.installation, self.settings
        me = Worker(
            id=installation.runs.instance,
            kind="daemon",
            name=settings.worker_name or socket.gethostname(),
            executors=settings.executors,
            max_load=settings.max_load,
            recipient=installation.keys.recipient,
            boot=processes.boot_id(),
            software=version("steersman"),
            address=settings.internal_url or settings.address,
            lease_seconds=settings.lease_seconds,
        )
        carrier = installation.carrier
        deaf = carrier.reconnect if carrier is not None else lambda: None
        presence = Presence(
            installation.database, me, installation.runs.lease, self._facts, self._heard, deaf
        )
        await presence.enter()
        return presence

    def _facts(self) -> dict[str, Any]:
        """What the others are told of this process."""
        runs = self.installation.runs
        told = {"closed": runs.closed, "unstored": runs.unstored, "running": runs.active}
        return told | (following.facts(self.installation) if self.installation.standing.leads else {})

    def _heard(self, crew: Sequence[Worker]) -> None:
        """Who is there now; what that changes is looked at."""
        installation = self.installation
        before, installation.crew = installation.crew, tuple(crew)
        leader = next((worker for worker in crew if worker.leads), None)
        if not installation.standing.leads:
            following.take(installation, leader)
            self._in_background("fetch", following.fetch(installation))
            return
        if leader is None or leader.id != self._id:  # it was forgotten, or has just begun
            self._in_background("leader's row", self._tell_leader())
        gone = {worker.id for worker in before} - {worker.id for worker in crew}
        # something may have been claimed for it when it left
        due = 0.0 if gone else workers.due(installation)
        if due < _SOON:
            self._wake(workers.NAME, installation.now() + timedelta(seconds=due))
        if dispatch.seen(before) != dispatch.seen(crew):
            self._wake("dispatch")
            self._wake(executors.NAME)

    async def _tell_leader(self) -> None:
        await self.installation.database.lead(self._begin_leading)

    def _in_background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One of each name at a time; what fails is tried at the next occasion."""
        running = self._background.get(name)
        if running is not None and not running.done():
            work.close()
            return
        self._background[name] = asyncio.create_task(_quietly(work), name=name)

    def begins(self, write: Write, job: int) -> None:
        """One of the trials here begins in this transaction."""
        if not self.installation.standing.leads:
            write.wake(f"begun/{job}")

    def ended(self, job: int, trial: str) -> None:
        """A script has ended: the next one need not wait until that is stored."""
        if self.installation.standing.leads:
            self.installation.queue.release(job, trial)
            self.loop.wake("dispatch")

    def advance(self, write: Write, job: int) -> tuple[Outcome | None, Changes | None]:
        """A trial ends in this transaction: its job goes on."""
        outcome = apply.advance(write, job)
        if (
            not self.installation.standing.leads
        ):  # the leader hears of it with the commit, and goes on from there
            write.wake("dispatch")
            write.wake(f"job/{job}")
            return outcome, None
        return outcome, changes(self.installation, write)

    def begun(self, job: Job) -> None:
        """A script of a job has begun; of a follower's the leader was told with the transaction."""
        if self.installation.standing.leads:
            job_passes.begun(self.installation, job)

    async def settle(self, job: int, advanced: tuple[Outcome | None, Changes | None] | None) -> None:
        """It has, and this follows."""
        if not self.installation.standing.leads:
            return  # the leader goes on from there
        outcome, seen = advanced or (None, None)
        if seen is not None:
            self.installation.queue.take(seen)
        at = await job_passes.settle(self.installation, outcome)
        if at is not None:
            self._wake(f"job/{job}", at)

    async def _pass(self, name: str) -> datetime | None:
        return await routes.run(self.installation, name)

    def _oldest(self) -> tuple[str, float] | None:
        return self.loop.oldest if self.installation.standing.leads else None

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
        if given is None and kept is None and await self._has_administrator():
            return None  # another daemon's data directory holds it
        secret = given or kept or f"stm_{secrets.token_urlsafe(32)}"
        if secret != kept:
            _write_private(path, secret + "\n")
        token = NewToken(
            ADMINISTRATOR, _ADMINISTRATOR, Level.OWNER, INSTALLATION, self.installation.now(), None
        )
        mark = token_hash(secret)
        known = await database.read(lambda c: tokens.find(c, mark))
        if known is None or not known.valid(token.created_at):
            await database.write(lambda w: tokens.replace_administrator(w.connection, mark, token))
        return secret if kept is None and given is None else None

    async def _has_administrator(self) -> bool:
        """Of several daemons only the first one makes the token; alone, one that was lost is made anew."""
        database = self.installation.database
        if database.sqlite:
            return False
        return await database.read(lambda c: tokens.has_administrator(c, _ADMINISTRATOR, ADMINISTRATOR))

    async def _still_good(self, secret: str) -> bool:
        """Not revoked; one that the database never saw (it was replaced) counts as good."""
        mark = token_hash(secret)
        known = await self.installation.database.read(lambda c: tokens.find(c, mark))
        return known is None or known.revoked_at is None


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """Do it; a database or a repository that does not answer is told elsewhere."""
    with suppress(SteersmanError):
        await work


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
