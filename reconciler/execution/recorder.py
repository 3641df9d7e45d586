"""Records one script's log: masks the raw output into it while it grows, indexes it by time, and completes it.

`execution.run` has one `Recorder` for each script's folder. What is printed comes as FOLDER/raw from the supervisor's
drain; FOLDER/log is that with its secret values masked. The raw output is only to be read here, and goes at the end.

The log is only ever appended to, by at most one Recorder at a time. It is a function of the raw output, so nothing else
needs to be remembered: after a kill, or a full disk, it is made again from a border that the index names, and what is
in the log already is passed over. Where nothing was to be masked, the raw output becomes the log. It knows no store and
reads no log for others.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import structlog

from reconciler.execution import timeline
from reconciler.execution.logs import size_of
from reconciler.execution.masking import Masker, Unmaskable
from reconciler.execution.timeline import Entry

log = structlog.get_logger(__name__)
T = TypeVar("T")
END = "end"
RAW = "raw"
_PERIOD = timeline.LOOK / 1000
_CHUNK = 256 << 10
_AT_ONCE = 4
_FAST = 256 << 10
_SOON = 0.01
_RETRY = 0.2
_LONGEST_RETRY = 5.0


class Recorder:
    """The log of one script in `folder`; `masker` gives, blocking, what its output must not show, or raises Unmaskable.

    It is asked only once there is something to mask. After a restart it must give the same values again, as a script
    keeps those that it was started with. `lasting`: what the script leaves running may print on after its end, which
    is not kept.
    """

    def __init__(self, folder: Path, masker: Callable[[], Masker], *, lasting: bool = False) -> None:
        self._folder = folder
        self._tail = _Tail(folder, masker, lasting=lasting)

    async def follow(self) -> None:
        """Record until cancelled; at most a tenth of a second behind. A full disk is waited for.

        It ends early where nothing can be shown.
        """
        delay, told = _RETRY, False
        while True:
            await _pulse().grown(self._folder / RAW, self._tail.seen)
            try:
                await self._catch_up()
            except Unmaskable:
                return
            except OSError as error:
                if not told:
                    log.warning("log-not-written", folder=str(self._folder), error=str(error))
                told = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY)
                continue
            if told:
                log.info("log-written-again", folder=str(self._folder))
            delay, told = _RETRY, False

    async def _catch_up(self) -> None:
        """To the end of what there is, and on without waiting for the next look while it comes fast."""
        fast = True
        while fast:
            begun = self._tail.seen
            while await to_the_end(self._tail.advance):
                pass
            fast = self._tail.seen - begun >= _FAST
            await asyncio.sleep(_SOON if fast else 0)

    def finish(self, notes: Sequence[str] = ()) -> int:
        """Complete the log after the supervisor has ended; its size, with the notes. Blocks; nobody may be following.

        Each note becomes a line `steersman: …`. Done again, after a kill or an error, it adds only what is missing, and
        the notes of the first time count; `archive.compress` forgets them, so it comes after the end has been stored.
        What cannot be masked is left out, with a note. OSError when something could not be written: it can be done
        again.
        """
        return self._tail.finish(notes)


async def to_the_end(work: Callable[[], T]) -> T:
    """In a thread; cancelled, it still waits for it: the log must not be written by two at a time."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


@dataclass(slots=True)
class _Walk:
    """On the way from a border of the raw output to its end. `made`: the log's offset after what was made so far."""

    masker: Masker
    raw: int
    made: int
    written: int
    output: int
    input: int

    def close(self) -> None:
        """The open files, once."""
        for handle in (self.output, self.input):
            if handle >= 0:
                os.close(handle)
        self.output = self.input = -1

    def __del__(self) -> None:
        self.close()


class _Tail:
    """What blocks. One thread at a time; after an error it begins anew from the files."""

    def __init__(self, folder: Path, masker: Callable[[], Masker], *, lasting: bool) -> None:
        self.seen = 0
        self._lasting = lasting
        self._folder = folder
        self._log = folder / "log"
        self._raw = folder / RAW
        self._masker = masker
        self._lock = threading.Lock()
        self._walk: _Walk | None = None
        self._last: Entry | None = None

    def advance(self) -> bool:
        """Take some more of the output on. True: there may be more at once."""
        with self._lock:
            walk = self._walking()
            if walk is None:
                return False
            try:
                return all(self._step(walk, index=True) for _ in range(_AT_ONCE))
            except BaseException:
                self._stop()
                raise

    def finish(self, notes: Sequence[str]) -> int:
        """Everything into the log, then the notes; then the raw output goes."""
        with self._lock:
            is_left = self._raw.exists()
            if not is_left and not self._log.exists() and (not notes or size_of(self._folder)):
                return size_of(self._folder)
            end = _end(self._folder)
            if end is None:
                notes = (*notes, *self._rest()) if is_left else notes
                end = self._note(notes) if notes else None
            if end is not None:
                _complete(self._log, *end)
            if is_left and self._raw.exists():
                _sync(self._log)
                self._raw.unlink()
            return size_of(self._folder)

    def _rest(self) -> tuple[str, ...]:
        """What is left of the output into the log; a note where that cannot be."""
        try:
            if not self._is_spared():
                self._drain()
        except Unmaskable as error:
            self._log.touch(mode=0o600)
            return (f"the rest of its log is not shown: {error}",)
        return ()

    def _is_spared(self) -> bool:
        """Output that shows nothing secret becomes the log as it is, in the place of what was copied of it so far.

        That spares the disk most of a copy, and waiting for it.
        """
        if self._lasting:
            return False
        is_empty = not self._log.exists() and not self._raw.stat().st_size
        if not is_empty and not self._is_clean(self._masker()):
            return False
        self._raw.rename(self._log)
        return True

    def _is_clean(self, masker: Masker) -> bool:
        """Would the log be the raw output, all of it? What is masked is always shorter than it was."""
        walk = self._walking() if self._log.exists() else None
        fresh, at, made = (masker.again(), 0, 0) if walk is None else (walk.masker, walk.raw, walk.made)
        longest = 0 if walk is None else walk.written
        self._stop()  # it goes on without being written: if it has to be after all, that begins anew
        with self._raw.open("rb", buffering=0) as file:
            file.seek(at)
            while made + (fresh.held or 0) == at:
                chunk = file.read(_CHUNK)
                if not chunk:
                    return made + len(fresh.flush()) == at >= longest
                at += len(chunk)
                made += len(fresh.feed(chunk))
        return False

    def _walking(self) -> _Walk | None:
        if self._walk is None and self._raw.exists():
            self._walk = self._begin(self._masker())
        return self._walk

    def _begin(self, masker: Masker) -> _Walk | None:
        """From the last border that the index has, or from the beginning; None: no output yet."""
        try:
            source = os.open(self._raw, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            target = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except BaseException:
            os.close(source)
            raise
        walk = _Walk(masker.again(), 0, 0, os.fstat(target).st_size, target, source)
        try:
            entries = self._entries(walk.written, os.fstat(source).st_size)
        except BaseException:
            walk.close()
            raise
        if entries:
            walk.raw, walk.made = entries[-1].raw, entries[-1].log
        return walk

    def _entries(self, log_size: int, raw_size: int) -> list[Entry]:
        """Of the index, what fits the files; the rest goes."""
        entries = [e for e in timeline.load(self._folder) if e.log <= log_size and e.raw <= raw_size]
        timeline.keep(self._folder, len(entries))
        self._last = entries[-1] if entries else Entry(0, 0, 0)
        return entries

    def _step(self, walk: _Walk, *, index: bool) -> bool:
        """One chunk. False: that was all."""
        chunk = os.pread(walk.input, _CHUNK, walk.raw)
        if not chunk:
            return False
        if index and walk.made >= walk.written:
            held = walk.masker.held
            self._index(None if held is None else Entry(_now(), walk.made, walk.raw - held))
        walk.raw += len(chunk)
        _append(walk, walk.masker.feed(chunk))
        self.seen = walk.raw
        return True

    def _index(self, entry: Entry | None) -> None:
        """Once a second. None: the log grows, and it is not known where it ended at this time."""
        last = self._last or Entry(0, 0, 0)
        entry = entry or Entry(_now(), last.log, last.raw)
        if entry.at >= last.at + timeline.EVERY:
            timeline.append(self._folder, entry)
            self._last = entry

    def _drain(self) -> None:
        walk = self._walking()
        if walk is None:
            return
        try:
            while self._step(walk, index=False):
                pass
            _append(walk, walk.masker.flush())
        finally:
            self._stop()

    def _stop(self) -> None:
        walk, self._walk = self._walk, None
        if walk is not None:
            walk.close()

    def _note(self, notes: Sequence[str]) -> tuple[int, bytes]:
        """Write down where the log ends and what comes behind it, before it comes."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        size = size_of(self._folder)
        lines = b"".join(self._masked(f"steersman: {' '.join(note.split())}\n") for note in notes)
        end = size, (b"" if _ends_line(self._log, size) else b"\n") + lines
        text = json.dumps({"size": size, "notes": end[1].decode("utf-8", "surrogateescape")})
        temporary = self._folder / f"{END}.tmp"
        with temporary.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / END)
        return end

    def _masked(self, line: str) -> bytes:
        text = line.encode("utf-8", "surrogateescape")
        try:
            masker = self._masker().again()
        except Unmaskable:
            return text
        return masker.feed(text) + masker.flush()


def _append(walk: _Walk, made: bytes) -> None:
    """Behind what is in the log; what is in it already is passed over."""
    new = memoryview(made)[max(0, walk.written - walk.made) :]
    while new:
        count = os.write(walk.output, new)
        walk.written += count
        new = new[count:]
    walk.made += len(made)


def _end(folder: Path) -> tuple[int, bytes] | None:
    """Where the log ended, and the notes behind it, once `finish` has come to them."""
    try:
        body = json.loads((folder / END).read_text(encoding="ascii"))
        return int(body["size"]), str(body["notes"]).encode("utf-8", "surrogateescape")
    except (FileNotFoundError, ValueError):
        return None


def _complete(path: Path, size: int, notes: bytes) -> None:
    """The notes behind the log, as far as they are not there."""
    with path.open("ab+", buffering=0) as file:
        file.seek(size)
        there = file.read()
        if notes.startswith(there):
            missing = notes[len(there) :]
        else:
            # something that the script left running wrote between
            missing = b"" if notes in there else b"\n" + notes.lstrip(b"\n")
        while missing:
            missing = missing[file.write(missing) :]


def _ends_line(path: Path, size: int) -> bool:
    if not size:
        return True
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), 1, size - 1) == b"\n"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> int:
    """What is seen now was written up to one look ago."""
    return int((time.time() - _PERIOD) * 1000)


@dataclass(slots=True, eq=False)
class _Wait:
    """For a file to become larger than `size`; it is kept open, as that makes a look four times cheaper."""

    path: Path
    size: int
    done: asyncio.Future[None]
    handle: int = -1

    def look(self) -> None:
        """Has it?"""
        try:
            if self.handle < 0:
                self.handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            if os.lseek(self.handle, 0, os.SEEK_END) > self.size and not self.done.done():
                self.done.set_result(None)
        except OSError:
            pass  # not there yet

    def close(self) -> None:
        """The file."""
        if self.handle >= 0:
            os.close(self.handle)


class _Pulse:
    """Looks at the sizes of all files that somebody waits for: one timer however many there are."""

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def grown(self, path: Path, size: int) -> None:
        """Wait until a file is larger than this."""
        loop = asyncio.get_running_loop()
        wait = _Wait(path, size, loop.create_future())
        self._waits.add(wait)
        if self._timer is None:
            self._timer = loop.call_later(_PERIOD, self._beat)
        try:
            await wait.done
        finally:
            wait.close()
            self._waits.discard(wait)
            if not self._waits and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _beat(self) -> None:
        for wait in self._waits:
            wait.look()
        self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._beat)


_PULSES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pulse] = WeakKeyDictionary()


def _pulse() -> _Pulse:
    """The one of the running loop."""
    return _PULSES.setdefault(asyncio.get_running_loop(), _Pulse())
