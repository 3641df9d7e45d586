"""Packages of releases: what a deployment needs of a checkout, as one archive by its digest (escape-state, 8.4, 13–14).

A package is a tar compressed by Zstandard: `plan.json`, the scripts that the plan names, what `includes` and
`generates` name, and in a fat one the packages of what it depends on as `deps/NAMESPACE/APPLICATION-vVERSION.tar.zst`.
The same tree makes the same bytes: members in the order of their names, no times, no owners. They are kept with the
attachments, by content digest; those that are cached lie in a folder of their own as well, under their release's name,
and what is not used for longest goes first there.

Called by the stages of executions, in threads: all of this blocks. Checkouts and packages are hostile: no link is
followed out of either.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import zstandard

from reconciler.errors import NotFound
from reconciler.execution.attachments import AttachmentStore, walk
from reconciler.execution.incoming import Incoming, TooLargeError
from reconciler.execution.members import Members
from reconciler.settings import Settings
from specs.digest import canonical
from specs.globs import matches
from specs.versions import split

PLAN = "plan.json"
DEPENDENCIES = "deps"
SUFFIX = ".tar.zst"
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEVEL = 6
_MOST_MEMBERS = 200_000
_LARGEST_PLAN = 16 << 20


class PackageError(Exception):
    """A package that cannot be made, or not be taken apart; the message is a sentence for the log.

    `missing`: a script that the plan names is not there.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Packed:
    """A kept package: the SHA-256 of its bytes in hex, and how many they are."""

    digest: str
    size: int


class Packages:
    """The packages of one installation."""

    def __init__(self, settings: Settings, store: AttachmentStore) -> None:
        self._store = store
        self._largest = settings.attachment_bytes
        self._cache = settings.data / "packages"
        self._cache_limit = settings.package_cache_bytes

    def pack(
        self, root: Path, folder: str, plan: Mapping[str, Any], dependencies: Mapping[str, Packed]
    ) -> Packed:
        """Make and keep the package of a compiled plan whose file lies in `folder` of the checkout at `root`.

        `dependencies`: the packages that go into a fat one, by release id; {} for any other. PackageError, OSError.
        """
        base = (root / folder).resolve()
        if not base.is_relative_to(root.resolve()):
            raise PackageError("the plan's folder lies outside of the checkout")
        incoming = self._store.receive()
        try:
            with (
                zstandard.ZstdCompressor(level=_LEVEL).stream_writer(_feed(incoming)) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                self._fill(archive, root.resolve(), base, plan, dependencies)
            return Packed(*incoming.finish())
        except TooLargeError as error:
            raise PackageError(
                f"the package has more than {error.limit:,} bytes (attachment_bytes)"
            ) from error
        finally:
            incoming.close()

    def unpack(self, digest: str, target: Path) -> None:
        """Put a package's files below a folder, which is made. NotFound.

        PackageError for one that is damaged or hostile, or where the folder does not take it.
        """
        target.mkdir(parents=True, exist_ok=True)
        left = self._largest
        members = Members(target)
        try:
            with (
                self.place(digest).open("rb") as file,
                zstandard.ZstdDecompressor().stream_reader(file) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
            ):
                for number, info in enumerate(archive):
                    left -= info.size
                    if left < 0 or number == _MOST_MEMBERS:
                        raise PackageError(
                            f"it holds more than {self._largest:,} bytes (attachment_bytes) or {_MOST_MEMBERS:,} files"
                        )
                    members.put(tuple(_checked(info)), info, archive)
        except (tarfile.TarError, zstandard.ZstdError, EOFError, OSError) as error:
            raise PackageError(f"the package {digest[:12]}… cannot be unpacked: {error}") from error

    def plan_of(self, digest: str) -> dict[str, Any]:
        """The compiled plan that a package holds. PackageError, NotFound."""
        try:
            with (
                self.place(digest).open("rb") as file,
                zstandard.ZstdDecompressor().stream_reader(file) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
            ):
                info = archive.next()
                source = archive.extractfile(info) if info is not None and info.name == PLAN else None
                if info is None or source is None or info.size > _LARGEST_PLAN:
                    raise PackageError(f"the package {digest[:12]}… does not begin with {PLAN}")
                plan = json.loads(source.read())
        except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError) as error:
            raise PackageError(f"the package {digest[:12]}… cannot be read: {error}") from error
        if not isinstance(plan, dict):
            raise PackageError(f"{PLAN} of the package {digest[:12]}… is no plan")
        return plan

    def place(self, digest: str) -> Path:
        """Where a kept or cached package lies; NotFound."""
        try:
            return self._store.open(digest)
        except NotFound:
            cached = next(iter(self._cached(f"*.{digest}{SUFFIX}")), None)
            if cached is None:
                raise NotFound("NoLongerKept", f"the package {digest} is no longer kept") from None
            return cached

    def bundled(self, target: Path) -> dict[str, Packed]:
        """The packages that an unpacked fat one has brought along, by release id; they are kept now."""
        found: dict[str, Packed] = {}
        complaints: list[str] = []
        for entry in walk(target, complaints):
            path = PurePosixPath(entry.path)
            if not entry.regular or path.parts[0] != DEPENDENCIES or not path.name.endswith(SUFFIX):
                continue
            label = "/".join(path.parts[1:]).removesuffix(SUFFIX)
            with contextlib.suppress(ValueError):
                split(label)
                found[label] = self._adopt(entry.directory, entry.name)
        return found

    def keep(self, label: str, packed: Packed) -> None:
        """Cache the package of a release, under its id; another one of that name goes. NotFound, OSError."""
        source = self.place(packed.digest)
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._cache / f"{_mark(label)}.{packed.digest}{SUFFIX}"
        handle, name = tempfile.mkstemp(dir=self._cache)
        os.close(handle)
        try:
            Path(name).unlink()
            try:
                os.link(source, name)
            except OSError:  # another file system
                shutil.copyfile(source, name)
            Path(name).replace(place)
        finally:
            Path(name).unlink(missing_ok=True)
        os.utime(place)
        for other in self._cached(f"{_mark(label)}.*{SUFFIX}"):
            if other != place:
                other.unlink(missing_ok=True)
        self._clear()

    def cached(self, label: str) -> Packed | None:
        """The cached package of a release; None where none is. It counts as used now."""
        for path in self._cached(f"{_mark(label)}.*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return Packed(path.name.removesuffix(SUFFIX).rpartition(".")[2], path.stat().st_size)
        return None

    def clear_unfinished(self) -> None:
        """Removes what a killed daemon left half made; called before anything is kept."""
        if not self._cache.is_dir():
            return
        for path in self._cache.iterdir():
            if not path.name.endswith(SUFFIX):
                path.unlink(missing_ok=True)

    def _cached(self, pattern: str) -> list[Path]:
        return sorted(self._cache.glob(pattern))

    def _clear(self) -> None:
        """Drop what was not used for longest while there is too much."""
        found = []
        for path in self._cache.iterdir():
            with contextlib.suppress(FileNotFoundError):
                seen = path.stat()
                if path.name.endswith(SUFFIX):
                    found.append((seen.st_mtime_ns, seen.st_size, path))
        total = 0
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > self._cache_limit:
                path.unlink(missing_ok=True)

    def _fill(
        self,
        archive: tarfile.TarFile,
        root: Path,
        base: Path,
        plan: Mapping[str, Any],
        dependencies: Mapping[str, Packed],
    ) -> None:
        text = canonical(plan)
        archive.addfile(_member(PLAN, len(text)), io.BytesIO(text))
        for label, packed in sorted(dependencies.items()):
            with self.place(packed.digest).open("rb") as file:
                name = f"{DEPENDENCIES}/{label}{SUFFIX}"
                archive.addfile(_member(name, os.fstat(file.fileno()).st_size), file)
        left = self._largest
        for name, info, source in _chosen(root, base, plan):
            with source:
                if name == PLAN or (dependencies and name.startswith(f"{DEPENDENCIES}/")):
                    raise PackageError(f"{name} is a name of the package's own; call the file otherwise")
                left -= info.size
                if left < 0:
                    raise PackageError(f"its files have more than {self._largest:,} bytes (attachment_bytes)")
                archive.addfile(info, source)

    def _adopt(self, directory: int, name: str) -> Packed:
        incoming = self._store.receive()
        try:
            with os.fdopen(os.open(name, _FILE, dir_fd=directory), "rb") as file:
                while block := file.read(1 << 20):
                    incoming.add(block)
            return Packed(*incoming.finish())
        except TooLargeError as error:
            raise PackageError(f"a package has more than {error.limit:,} bytes (attachment_bytes)") from error
        finally:
            incoming.close()


class _Feed(io.RawIOBase):
    """What is written goes to a file that is being kept."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, piece: Any) -> int:
        """The next bytes."""
        self._incoming.add(bytes(piece))
        return len(piece)


def _feed(incoming: Incoming) -> IO[bytes]:
    return cast("IO[bytes]", _Feed(incoming))


def _chosen(
    root: Path, base: Path, plan: Mapping[str, Any]
) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    """The members that a plan names, in the order of their names."""
    scripts = _scripts(plan)
    patterns = [pattern.rstrip("/") for pattern in (*plan["includes"], *plan["generates"])]
    if not scripts and not patterns:
        return
    complaints: list[str] = []
    for entry in walk(base, complaints):
        if entry.path in scripts:
            scripts.discard(entry.path)
            yield _script(root, base, entry.path)
        elif _wanted(patterns, entry.path):
            yield _found(entry.directory, entry.name, entry.path)
    if complaints:
        raise PackageError(f"the package would not be whole: {complaints[0]}")
    for path in sorted(scripts):
        yield _script(root, base, path)  # below a folder that is a link


def _scripts(plan: Mapping[str, Any]) -> set[str]:
    """The files that run, from the plan's folder."""
    given = [*plan["scripts"].values(), *(errand["run"] for errand in plan["errands"].values())]
    files = [script["script"] for script in given if script.get("script")]
    programs = [script["cmd"] for script in given if script.get("cmd")]
    files += [name for name in programs if "/" in name and not name.startswith("/")]
    return {posixpath.normpath(path) for path in files}


def _wanted(patterns: Sequence[str], path: str) -> bool:
    """A pattern names the file, or a folder that it lies in."""
    parts = path.split("/")
    return any(
        matches(pattern, "/".join(parts[:depth]))
        for pattern in patterns
        for depth in range(len(parts), 0, -1)
    )


def _script(root: Path, base: Path, path: str) -> tuple[str, tarfile.TarInfo, IO[bytes]]:
    """A script; where it is a link inside of the checkout, the file that it leads to."""
    place = (base / path).resolve()
    try:
        if not place.is_relative_to(root):
            raise PackageError(f"the script {path} leads out of the checkout")
        handle = os.open(place, _FILE)
    except OSError as error:
        raise PackageError(f"the script {path} is not there", missing=True) from error
    return _opened(handle, path)


def _found(directory: int, name: str, path: str) -> tuple[str, tarfile.TarInfo, IO[bytes]]:
    try:
        path.encode()
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            info = _member(path, 0)
            info.type, info.mode = tarfile.SYMTYPE, 0o777
            info.linkname = os.readlink(name, dir_fd=directory)
            info.linkname.encode()
            if not _stays(path.split("/"), info.linkname):
                raise PackageError(f"the link {path} leads out of the package; leave it out of includes")
            return path, info, io.BytesIO()
        handle = os.open(name, _FILE, dir_fd=directory)
    except UnicodeEncodeError as error:
        raise PackageError(f"the name {path!a} is no UTF-8") from error
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error
    return _opened(handle, path)


def _opened(handle: int, path: str) -> tuple[str, tarfile.TarInfo, IO[bytes]]:
    file = os.fdopen(handle, "rb")
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise PackageError(f"{path} is no regular file")
    info = _member(path, found.st_size)
    info.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
    return path, info, cast("IO[bytes]", file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info


def _checked(info: tarfile.TarInfo) -> list[str]:
    """The parts of a member's path; PackageError for one that no package of ours has."""
    parts = info.name.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and "\0" not in info.name
    if not plain or not (info.isreg() or info.isdir() or info.issym()):
        raise PackageError(f"it holds {info.name[:200]!r}, which is no plain file inside of it")
    if info.issym() and not _stays(parts, info.linkname):
        raise PackageError(f"its link {info.name[:200]!r} leads out of it")
    return parts


def _stays(parts: Sequence[str], target: str) -> bool:
    """Whether a link at a path leads to something inside.

    It may climb at its beginning only, and not above the top: then it stays inside whatever other links it meets.
    """
    steps = target.split("/")
    climbs = next((at for at, step in enumerate(steps) if step != ".."), len(steps))
    return bool(target) and not target.startswith("/") and climbs < len(parts) and ".." not in steps[climbs:]


def _mark(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:32]
