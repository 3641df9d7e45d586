"""Folders of a workspace that are kept between jobs by key (own-kinds, `cache`), as one compressed archive a key.

Called by `execution.run` around a script (in a thread; all of this blocks). A key is written once and never changed; it
belongs to one Build and one branch or tag, and is read from the Build's first branch where the own one has none, so
that a branch cannot change what another one reads. Workspaces and archives are hostile: both are walked by directory
descriptors without following any link. What is not used for longest goes first when the space is full.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from reconciler.execution.attachments import walk
from reconciler.execution.members import Members
from specs.globs import matches

_FILES = re.compile(r"\{files:([^{}]*)\}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SUFFIX = ".tar.zst"
_NOTED = "caches"
_STALE = 86_400.0
_DEPTH = 100
_Entry = tuple[tarfile.TarInfo, IO[bytes] | None]


def _never() -> bool:
    return False


class CacheError(Exception):
    """A cache could not be kept or put back; the message is a sentence for the log. Never fails a script."""


@dataclass(frozen=True, slots=True)
class Cache:
    """One entry of a task's `cache`, its key worked out. `scopes`: where it is looked for; the first is its own."""

    scopes: tuple[str, ...]
    key: str
    paths: tuple[str, ...]

    def names(self) -> list[str]:
        """Names of its archives, the own one first."""
        return [
            hashlib.sha256("\0".join((scope, self.key, *self.paths)).encode()).hexdigest() + _SUFFIX
            for scope in self.scopes
        ]


def resolve(key: str, workspace: Path) -> str:
    """A key with the content of the files that it names: `{files:GLOB}` becomes a digest of paths and contents."""
    return _FILES.sub(lambda found: _content(workspace, found[1]), key)


def note(run: Path, caches: Sequence[Cache]) -> None:
    """What a trial keeps when it passes, in its run folder: its script may change what their keys were made of."""
    run.mkdir(parents=True, mode=0o700, exist_ok=True)
    (run / _NOTED).write_text(json.dumps([[c.scopes, c.key, c.paths] for c in caches]), encoding="utf-8")


def noted(run: Path) -> list[Cache]:
    """What was noted, also by a daemon that is no more."""
    try:
        found = json.loads((run / _NOTED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [Cache(tuple(scopes), key, tuple(paths)) for scopes, key, paths in found]


class Caches:
    """The archives of one installation, in one directory of at most `limit` bytes."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit

    def restore(
        self, workspace: Path, cache: Cache, room: int | None = None, stopped: Callable[[], bool] = _never
    ) -> bool:
        """Put it back into a workspace, as a whole or not at all; False where nothing is kept.

        CacheError when it cannot be read, takes more than `room` bytes of the disk, or is `stopped`.
        """
        for name in cache.names():
            path = self._directory / name
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            members = Members(workspace, room)
            try:
                with file:
                    os.utime(path)
                    _unpack(file, members, cache.paths, stopped)
            except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
                path.unlink(missing_ok=True)  # the archive is damaged
                members.undo()
                raise CacheError(f"the cache {cache.key} could not be put back: {error}") from error
            except OSError as error:  # the workspace does not take it: a link of the checkout's, a full disk
                members.undo()
                raise CacheError(f"the cache {cache.key} could not be put back: {error}") from error
            return True
        return False

    def keep(self, workspace: Path, cache: Cache, stopped: Callable[[], bool] = _never) -> bool:
        """Keep it unless its key is there already.

        CacheError when it cannot be written, a full disk for one, or is `stopped`.
        """
        place = self._directory / cache.names()[0]
        if place.exists():
            return False
        self._directory.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                found = _pack(file, workspace, cache.paths, self._limit, stopped)
                file.flush()
                os.fsync(handle)
            if not found:
                raise CacheError(f"the cache {cache.key} was not kept: none of its paths is there")
            Path(name).rename(place)
        except (OSError, tarfile.TarError) as error:
            raise CacheError(f"the cache {cache.key} was not kept: {error}") from error
        finally:
            Path(name).unlink(missing_ok=True)
        self.clear()
        return True

    def clear(self, unused_since: float = 0.0) -> None:
        """Remove what was not used since a moment (seconds since 1970), then the oldest while there is too much."""
        found = []
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                seen = path.stat()
                if path.suffix != ".zst":
                    if seen.st_mtime < time.time() - _STALE:  # what a killed daemon left half written
                        path.unlink()
                else:
                    found.append((seen.st_mtime, seen.st_size, path))
        total = 0
        for used, size, path in sorted(found, reverse=True):
            total += size
            if total > self._limit or used < unused_since:
                path.unlink(missing_ok=True)


def _content(workspace: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for entry in walk(workspace, []):
        if not matches(pattern, entry.path):
            continue
        with (
            contextlib.suppress(OSError),
            os.fdopen(os.open(entry.name, _FILE, dir_fd=entry.directory), "rb") as file,
        ):
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                digest.update(entry.path.encode(errors="surrogateescape") + b"\0")
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _go_on(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise InterruptedError("it was stopped")


def _pack(
    file: IO[bytes], workspace: Path, paths: Sequence[str], limit: int, stopped: Callable[[], bool]
) -> bool:
    """Write what is below the paths; False if there is nothing."""
    found, size = False, 0
    with (
        zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        for path in paths:
            with contextlib.closing(_entries(workspace, path)) as entries:
                for info, source in entries:
                    _go_on(stopped)
                    found = True
                    size += info.size
                    if size > limit:
                        raise OSError(f"it is larger than {limit:,} bytes (cache_bytes)")
                    archive.addfile(info, source)
    return found


def _entries(workspace: Path, path: str) -> Generator[_Entry]:
    """Everything at and below a path of the workspace; a regular file is open until the next entry."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    root = os.open(workspace, _DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, _DIRECTORY, dir_fd=root)
            os.close(root)
            root = below
        yield from _entry(root, "/".join(parts[:-1]), parts[-1])
    except (FileNotFoundError, NotADirectoryError):
        return
    finally:
        os.close(root)


def _entry(parent: int, above: str, name: str) -> Generator[_Entry]:
    path = f"{above}/{name}" if above else name
    if above.count("/") > _DEPTH:
        raise OSError(f"{path[:80]}… lies too deep")
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = found.st_mode & 0o777, int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        yield info, None
        try:
            below = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError:
            return
        try:
            for child in sorted(os.listdir(below)):  # noqa: PTH208  (a descriptor)
                yield from _entry(below, path, child)
        finally:
            os.close(below)
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
        yield info, None
    elif stat.S_ISREG(found.st_mode):
        try:
            handle = os.open(name, _FILE, dir_fd=parent)
        except OSError:
            return
        with os.fdopen(handle, "rb") as source:
            info.size = os.fstat(handle).st_size
            yield info, source


class _Whole:
    """A stream that knows whether an archive was at its end: only zeros are left then."""

    def __init__(self, stream: zstandard.ZstdDecompressionReader) -> None:
        self._stream = stream
        self._end = b""

    def read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._end = (self._end + found)[-tarfile.BLOCKSIZE * 2 :]
        return found

    def check(self) -> None:
        """EOFError for a stream that was cut: neither the archive's reader nor the stream's says so."""
        while self.read(tarfile.RECORDSIZE):
            pass
        if self._end != bytes(tarfile.BLOCKSIZE * 2):
            raise EOFError("it ends too early")


def _unpack(file: IO[bytes], members: Members, paths: Sequence[str], stopped: Callable[[], bool]) -> None:
    roots = [tuple(part for part in path.split("/") if part not in ("", ".")) for path in paths]
    with zstandard.ZstdDecompressor().stream_reader(file) as stream:
        whole = _Whole(stream)
        with tarfile.open(fileobj=cast(IO[bytes], whole), mode="r|") as archive:
            for info in archive:
                _go_on(stopped)
                parts = tuple(info.name.split("/"))
                if ".." in parts or not any(parts[: len(root)] == root for root in roots):
                    raise tarfile.TarError(f"{info.name!r} lies outside of the cache's paths")
                members.put(parts, info, archive)
        whole.check()
