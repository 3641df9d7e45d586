"""Contents that one machine keeps and others read: on an object store, or in chunks in the database (design 7.4).

`execution.attachments` puts what it keeps here before the rows that name it are written, and fetches what it lacks;
large logs that have ended lie here as well. All but `collect` blocks, and is called in threads. What comes back is
compared with its digest: bytes that are not what was kept are never given out.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from reconciler.errors import NotFound, Stalled, Transient
from reconciler.execution.objects import Objects
from reconciler.settings import Settings
from reconciler.store import contents as rows
from reconciler.store import retention
from reconciler.store.contents import DATABASE, OBJECTS, Content
from reconciler.store.database import Connection, Database

log = structlog.get_logger(__name__)
T = TypeVar("T")
CHUNK = 512 << 10
_TOGETHER = 4  # chunks in one transaction
_PATIENCE = 30.0
_RETRY_SECONDS = 0.2
_PAGE = 500
_DROPPED = 20


class Contents:
    """Those of one installation. It is made on the event loop that its database is used on.

    `keeps`: there are other machines, or an object store; without that, on SQLite, nothing is added, but what a backup
    of a PostgreSQL has brought along is found.
    """

    def __init__(self, database: Database, objects: Objects | None) -> None:
        self._database = database
        self._objects = objects
        self.keeps = objects is not None or not database.sqlite
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()

    def put(self, digest: str, path: Path) -> None:
        """Keep a file's bytes under their digest, unless they are kept; an hour is given for the rows that name them.

        What does not answer is asked again for half a minute. Transient.
        """
        if not self.keeps:
            return
        delay, until = _RETRY_SECONDS, time.monotonic() + _PATIENCE
        while True:
            try:
                self._put(digest, path)
                return
            except Transient:
                if time.monotonic() > until or self._closed.wait(delay):
                    raise
                delay = min(delay * 2, 5.0)

    def fetch(self, digest: str, target: BinaryIO) -> int:
        """Write the bytes of a content; how many. NotFound, Transient; Stalled where they are not what was kept."""
        found = self._read(lambda c: rows.find(c, digest))
        if found is None or not found.complete:
            raise NotFound("NoLongerKept", f"the content with the digest {digest} is no longer kept")
        sum_, size = hashlib.sha256(), 0
        try:
            for piece in self._pieces(found):
                sum_.update(piece)
                size += len(piece)
                target.write(piece)
        except NotFound as error:
            raise self._damaged(found) from error
        if sum_.hexdigest() != digest:
            raise self._damaged(found)
        return size

    def known(self, digests: Sequence[str]) -> set[str]:
        """Those of the digests that are kept."""
        return self._read(lambda c: rows.known(c, digests))

    async def collect(self) -> None:
        """Drop what no row refers to any more, but nothing that was kept in the last hour. By who leads. Transient."""
        behind, count = "", 0
        while page := await self._database.read(partial(rows.aged, behind=behind, most=_PAGE)):
            behind = page[-1]
            needed = await self._database.read(partial(retention.referred, digests=page))
            gone = [digest for digest in page if digest not in needed]
            for first in range(0, len(gone), _DROPPED):
                some = gone[first : first + _DROPPED]
                await self._database.aside(partial(rows.doom, digests=some))
                count += await self._database.aside(partial(self._drop, some))
        if count:
            log.info("contents-dropped", contents=count)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed.set()

    def _put(self, digest: str, path: Path) -> None:
        place = DATABASE if self._objects is None else OBJECTS
        size = path.stat().st_size
        if size <= CHUNK and self._objects is None:
            self._write(partial(_put_small, digest, path.read_bytes()))
            return
        if self._write(lambda c: rows.keep(c, digest, size, place)):
            return
        if self._objects is not None:
            self._objects.put(_name(digest), path)
        else:
            self._add(digest, path)
        if not self._write(lambda c: rows.complete(c, digest, place)):
            raise _gone(digest)

    def _add(self, digest: str, path: Path) -> None:
        with path.open("rb") as file:
            position = 0
            while chunks := [chunk for _ in range(_TOGETHER) if (chunk := file.read(CHUNK))]:
                if not self._write(partial(_add, digest, position, chunks)):
                    raise _gone(digest)
                position += len(chunks)

    def _pieces(self, found: Content) -> Iterator[bytes]:
        if found.place == DATABASE:
            for position in range(-(-found.size // CHUNK)):
                chunk = self._read(partial(_chunk, found.digest, position))
                if chunk is None:
                    raise self._damaged(found)
                yield chunk
            return
        if self._objects is None:
            raise Stalled(
                "ObjectStoreMissing",
                f"the content {found.digest[:12]}… lies on an object store: set `object_store` to it again",
            )
        yield from self._objects.read(_name(found.digest), found.size)

    def _drop(self, digests: Sequence[str], connection: Connection) -> int:
        """The rows are locked until their objects are gone, so that who keeps one again waits, and brings it anew."""
        gone = rows.drop(connection, digests)
        names = [_name(content.digest) for content in gone if content.place == OBJECTS]
        if names and self._objects is not None:
            self._objects.delete(names)
        return len(gone)

    def _damaged(self, found: Content) -> Stalled:
        where = "the database" if found.place == DATABASE else "the object store"
        return Stalled(
            "ContentDamaged",
            f"the content {found.digest} in {where} is not what was kept there; restore it from a backup",
        )

    def _read(self, query: Callable[[Connection], T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._database.read(query), self._loop).result()

    def _write(self, work: Callable[[Connection], T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._database.aside(work), self._loop).result()


def of(settings: Settings, database: Database) -> Contents:
    """Those of the installation with these settings. `Stalled`."""
    objects = None
    if settings.object_store is not None:
        options = {name: value.get_secret_value() for name, value in settings.object_store_options.items()}
        objects = Objects(settings.object_store, options)
    return Contents(database, objects)


def _put_small(digest: str, data: bytes, connection: Connection) -> None:
    if not rows.keep(connection, digest, len(data), DATABASE):
        rows.add(connection, digest, 0, [data] if data else [])
        rows.complete(connection, digest, DATABASE)


def _add(digest: str, first: int, chunks: Sequence[bytes], connection: Connection) -> bool:
    return rows.add(connection, digest, first, chunks)


def _chunk(digest: str, position: int, connection: Connection) -> bytes | None:
    return rows.chunk(connection, digest, position)


def _name(digest: str) -> str:
    return f"contents/{digest[:2]}/{digest[2:]}"


def _gone(digest: str) -> Transient:
    return Transient("ContentDropped", f"the content {digest} was dropped while it came; it is brought again")
