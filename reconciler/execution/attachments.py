"""Keeps files that a script left in its workspace, by content digest, and finds them again.

Called by `execution.run` when a script has ended (in a thread; all of this blocks) and by the queries that
serve them. The workspace is hostile: it is walked by directory descriptors without following any link, so
that neither a link nor a race makes it read outside. It never writes into a workspace and never interprets
what it keeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reconciler.errors import NotFound, Transient
from reconciler.execution import holes
from reconciler.execution.contents import Contents
from reconciler.execution.incoming import Incoming
from specs.globs import matches

SHELVES = tuple(f"{number:02x}" for number in range(256))
_DEPTH = 50
_ENTRIES = 200_000
MOST_FILES = 10_000
"""That one trial, or one tree in a project, keeps."""
_LONGEST_PATH = 2_000  # what an index of PostgreSQL takes for sure
_TOLD = 20
_COUNTED = 1_000
_SHOWN = 200
_LOOK_SECONDS = 120.0
_STALE = 86_400.0
_YOUNG = 3_600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WILD = re.compile(r"[*?\[\\]")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: a named pipe must not hold us up
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept file: its path in the workspace, the SHA-256 of its content in hex, its size in bytes."""

    path: str
    digest: str
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is no directory. `directory` is the descriptor to open it from, until the next entry.

    `regular`: it was a file, and no link, when it was listed.
    """

    directory: int
    name: str
    path: str
    regular: bool


class _TooLarge(Exception):
    """The file has more bytes than may be kept."""


class _Stopped(Exception):
    """Nobody waits for the files any more."""


class AttachmentStore:
    """Files by digest below one directory, as ab/cdef…; the same content is kept once.

    `contents`: where they are kept for other machines as well, before anybody can name them, and fetched from. What is
    here then is a copy.
    """

    def __init__(self, directory: Path, size_limit: int = 1 << 30, contents: Contents | None = None) -> None:
        self._directory = directory
        self._size_limit = size_limit
        self.contents = contents
        self._fetching = [threading.Lock() for _ in range(16)]
        # held while a file is put in place and while one is deleted: what is kept again is not deleted
        self._settling = threading.Lock()
        self._unfinished = directory / "unfinished"
        self._unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(
        self, workspace: Path, patterns: Sequence[str], stopped: Callable[[], bool] = lambda: False
    ) -> tuple[list[Kept], list[str]]:
        """Keeps every regular file that a pattern matches: (kept, sentences about what was not). Blocks.

        Files of a trial may together be as large as the largest one may be. OSError when the store itself cannot be
        written, a full disk for one. Once it is `stopped` the rest is left.
        """
        unmatched = set(patterns)
        folders = {pattern: f"{pattern.rstrip('/')}/" for pattern in patterns if not _WILD.search(pattern)}
        named: set[str] = set()

        def wanted(entry: Entry) -> bool:
            named.update(pattern for pattern, folder in folders.items() if entry.path.startswith(folder))
            hits = {pattern for pattern in patterns if matches(pattern, entry.path)}
            unmatched.difference_update(hits)
            return bool(hits)

        kept, complaints = self._keep_all(workspace, wanted, stopped)
        complaints += [
            f"no file matched the attachment {pattern!r}"
            + (f", which is a folder: write {folders[pattern]}**" if pattern in named else "")
            for pattern in patterns
            if pattern in unmatched
        ]
        return kept, _first(complaints)

    def keep_chosen(
        self, workspace: Path, chosen: Callable[[str], bool], stopped: Callable[[], bool] = lambda: False
    ) -> tuple[list[Kept], list[str]]:
        """Likewise every regular file whose path is chosen; what is no file is left out without a word. Blocks."""

        def wanted(entry: Entry) -> bool:
            return entry.regular and chosen(entry.path)

        kept, complaints = self._keep_all(workspace, wanted, stopped)
        return kept, _first(complaints)

    def _keep_all(
        self, workspace: Path, wanted: Callable[[Entry], bool], stopped: Callable[[], bool]
    ) -> tuple[list[Kept], list[str]]:
        kept: list[Kept] = []
        left = self._size_limit
        complaints: list[str] = []
        for entry in walk(workspace, complaints):
            if not wanted(entry):
                continue
            if len(kept) == MOST_FILES:
                complaints.append(f"only the first {MOST_FILES} attachments were kept")
                break
            try:
                result = self._keep(entry, left, stopped)
            except _Stopped:
                complaints.append("the rest of the attachments was not kept: the trial was ended meanwhile")
                break
            if isinstance(result, Kept):
                kept.append(result)
                left -= result.size
            else:
                _tell(complaints, result)
        return kept, complaints

    def receive(self) -> Incoming:
        """Room for one file that somebody sends. Blocks."""
        return Incoming(self._unfinished, self._size_limit, self._take)

    def open(self, digest: str) -> Path:
        """Path of the file with this digest; one that is kept elsewhere is fetched first. Blocks.

        NotFound when not kept (any more), ValueError when no digest, Transient, Stalled for one that is damaged there.
        """
        path = self._place(digest)
        if path.is_file():
            if self.contents is not None and self.contents.keeps:
                os.utime(path)  # a copy that is used is not dropped
            return path
        if self.contents is None:
            raise NotFound("NoLongerKept", f"the attachment with the digest {digest} is no longer kept")
        with self._fetching[int(digest[:8], 16) % len(self._fetching)]:
            if not path.is_file():
                self._fetch(digest, self.contents)
        return path

    def share(self, digest: str) -> None:
        """Bring a file that is here to where other machines find it. Blocks; Transient."""
        path = self._place(digest)
        if self.contents is not None and path.is_file():
            self.contents.put(digest, path)

    def aged(self, shelf: str) -> list[str]:
        """Digests of one of `SHELVES` that were last kept an hour ago or longer. Blocks."""
        folder = self._directory / shelf
        found = sorted(shelf + path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [digest for digest in found if _DIGEST.fullmatch(digest) and _is_aged(self._place(digest))]

    def delete(self, digests: Iterable[str]) -> None:
        """Removes files that nothing refers to, but none that was kept in the last hour. Blocks.

        A trial notes what it keeps only afterwards: what is young may be referred to in a moment.
        """
        for digest in digests:
            place = self._place(digest)
            with self._settling:
                if _is_aged(place):
                    place.unlink(missing_ok=True)

    def clear_unfinished(self) -> None:
        """Removes what a killed daemon left half copied, a day ago or longer."""
        for path in self._unfinished.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _STALE:
                    path.unlink()

    def _fetch(self, digest: str, contents: Contents) -> None:
        handle, name = tempfile.mkstemp(dir=self._unfinished)
        try:
            with open(handle, "wb") as target:  # noqa: PTH123  (a descriptor)
                size = contents.fetch(digest, target)
                target.flush()
                os.fsync(handle)
            self._settle_here(Path(name), self._place(digest), size)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            told = f"the attachment could not be written here: {error.strerror}"
            raise Transient("StoreUnavailable", told) from error
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _take(self, fresh: Path, digest: str, size: int) -> None:
        self._settle(fresh, self._place(digest), size)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is no SHA-256 digest")
        return self._directory / digest[:2] / digest[2:]

    def _keep(self, entry: Entry, left: int, stopped: Callable[[], bool]) -> Kept | str:
        """Kept, or the sentence that says why not."""
        if not _is_plain(entry.path):
            shown = _shown(entry.path)
            return f"attachment {shown} was not kept: its name has control characters or is no UTF-8"
        if len(entry.path.encode()) > _LONGEST_PATH:
            shown = _shown(entry.path)
            return f"attachment {shown} was not kept: its path has more than {_LONGEST_PATH:,} bytes"
        try:
            source = os.open(entry.name, _FILE, dir_fd=entry.directory)
        except OSError:
            return f"attachment {entry.path[:_SHOWN]!r} was not kept: it is a link or cannot be read"
        with open(source, "rb", buffering=0):  # noqa: PTH123  (a descriptor)
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                return f"attachment {entry.path[:_SHOWN]!r} was not kept: it is no regular file"
            try:
                if found.st_size > left:
                    raise _TooLarge
                digest, size = self._copy(source, left, stopped)
            except _TooLarge:
                limit = f"{self._size_limit:,} bytes (attachment_bytes)"
                return f"attachment {entry.path[:_SHOWN]!r} was not kept: all of a trial's are larger than {limit}"
        return Kept(entry.path, digest, size, bool(found.st_mode & stat.S_IXUSR))

    def _copy(self, source: int, left: int, stopped: Callable[[], bool]) -> tuple[str, int]:
        """Copies into the store under the digest that is found while copying."""
        handle, name = tempfile.mkstemp(dir=self._unfinished)
        try:
            with open(handle, "wb") as target:  # noqa: PTH123  (a descriptor)
                digest, size = hashlib.sha256(), 0
                while block := os.read(source, holes.BLOCK):
                    size += len(block)
                    if size > left:  # it grows
                        raise _TooLarge
                    if stopped():
                        raise _Stopped
                    digest.update(block)
                    holes.write(target, block)
                target.truncate()
                target.flush()
                os.fsync(handle)
            self._settle(Path(name), self._place(digest.hexdigest()), size)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return digest.hexdigest(), size

    def _settle(self, fresh: Path, place: Path, size: int) -> None:
        self._settle_here(fresh, place, size)
        if self.contents is not None:
            self.contents.put(place.parent.name + place.name, place)

    def _settle_here(self, fresh: Path, place: Path, size: int) -> None:
        with self._settling:
            if place.is_file() and place.stat().st_size == size:
                os.utime(place)
                fresh.unlink()
                return
            place.parent.mkdir(mode=0o700, exist_ok=True)
            os.utime(fresh)  # copying a large one takes its time
            fresh.replace(place)
        handle = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_aged(path: Path) -> bool:
    """There, and not kept in the last hour."""
    try:
        return path.stat().st_mtime <= time.time() - _YOUNG
    except FileNotFoundError:
        return False


def _tell(complaints: list[str], sentence: str) -> None:
    """One more, of which not all are told: a script must not fill our memory with them."""
    if len(complaints) < _COUNTED:
        complaints.append(sentence)


def _first(complaints: list[str]) -> list[str]:
    more = len(complaints) - _TOLD
    return [*complaints[:_TOLD], *([f"and {more} or more such things"] if more > 0 else [])]


def walk(workspace: Path, complaints: list[str]) -> Iterator[Entry]:
    """Everything below the workspace but directories, by name; no link is followed, .git is left out."""
    try:
        root = os.open(workspace, _DIRECTORY)
    except PermissionError:
        complaints.append("the workspace could not be read: its script has made it unreadable")
        return
    until = time.monotonic() + _LOOK_SECONDS
    try:
        for seen, entry in enumerate(_below(root, "", 0, complaints)):
            if seen == _ENTRIES or time.monotonic() > until:
                complaints.append(f"after {seen:,} files of the workspace the rest was not looked at")
                return
            yield entry
    finally:
        os.close(root)


def _below(directory: int, path: str, depth: int, complaints: list[str]) -> Iterator[Entry]:
    with os.scandir(directory) as entries:
        found = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))
            for entry in islice(entries, _ENTRIES)  # all of it is in memory
        )
        if next(entries, None) is not None:
            _tell(complaints, f"of {_shown(path or '.')} only {_ENTRIES:,} entries were looked at")
    for name, is_directory, regular in found:
        if name == ".git":
            continue
        if not is_directory:
            yield Entry(directory, name, path + name, regular)
        elif depth == _DEPTH:
            _tell(complaints, f"the directory {_shown(path + name)} is too deep to look for attachments")
        else:
            yield from _inside(directory, path, name, depth, complaints)


def _inside(directory: int, path: str, name: str, depth: int, complaints: list[str]) -> Iterator[Entry]:
    try:
        handle = os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        # gone, made unreadable, or turned into a link since it was listed
        _tell(complaints, f"the directory {_shown(path + name)} could not be read")
        return
    try:
        yield from _below(handle, f"{path}{name}/", depth + 1, complaints)
    finally:
        os.close(handle)


def _is_plain(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in path)


def _shown(path: str) -> str:
    """A name that may hold anything, fit for a sentence."""
    return ascii(os.fsencode(path[:_SHOWN]).decode(errors="replace"))
