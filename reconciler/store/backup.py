"""Writes one archive with all that an installation cannot make anew (design 10, `backup`); the daemon may be running.

The database comes first, as one consistent state; the files that it names follow, which are only added to. Restoring
is unpacking into an empty data directory. A PostgreSQL database is in it as an SQLite file: with that the daemon starts
as it is, and `restore` moves it into another PostgreSQL.
"""

from __future__ import annotations

import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from reconciler.errors import Stalled
from reconciler.store import move
from reconciler.store.engine import file_of, is_sqlite

_DATABASE = "steersman.db"
_UNMASKED = "raw"  # a script's output before secrets are taken out: it stays where it is
_KEPT = ("admin.token", "instance", "attachments", "runs")
"""What else there is (workspaces, mirrors, caches, copies of the system) is made again when it is missing."""


def write(data: Path, url: str, key: Path, target: Path) -> int:
    """Make the archive, readable by its owner only; its size in bytes. An existing file is never replaced.

    `key` is the server's key file, wherever it is; it goes into the archive as `server.key`.
    """
    if not data.is_dir():
        raise Stalled("NoData", f"there is no data directory {data}; name it with --data")
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Stalled("BackupExists", f"{target} is there already; name a new file") from error
    except OSError as error:
        raise Stalled("BackupFailed", f"{target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
                _fill(archive, data, url)
                if key.is_file():
                    _add(archive, key, "server.key")
            file.flush()
            os.fsync(file.fileno())
    except (OSError, sqlite3.Error) as error:
        target.unlink()
        raise Stalled("BackupFailed", f"the backup was not made: {error}") from error
    except BaseException:
        target.unlink()
        raise
    return target.stat().st_size


def restore(archive: Path, data: Path, url: str | None, tell: move.Tell = lambda *_: None) -> None:
    """Unpack it into a new or empty data directory, and move its database to `url` if that is given.

    After it was ended halfway, it can be run again once the directory is empty again.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Stalled("NotEmpty", f"{data} is not an empty directory; name a new one with --data")
    try:
        with tarfile.open(archive, "r:gz") as file:
            if _DATABASE not in file.getnames():
                raise Stalled("NoBackup", f"{archive} is no backup: it holds no {_DATABASE}")
            data.mkdir(parents=True, mode=0o700, exist_ok=True)
            file.extractall(data, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Stalled("RestoreFailed", f"{archive} cannot be restored: {error}") from error
    if url is not None:
        unpacked = data / _DATABASE
        try:
            move.move(f"sqlite:///{unpacked}", url, tell)
        except Stalled as error:
            rest = f"the rest is in {data} already; then run `steersman move --from sqlite:///{unpacked} --to URL`"
            raise Stalled(error.reason, f"{error.message} ({rest})") from error
        for left in data.glob(f"{_DATABASE}*"):
            left.unlink()


def _fill(archive: tarfile.TarFile, data: Path, url: str) -> None:
    with tempfile.TemporaryDirectory(dir=data) as folder:
        copy = Path(folder) / _DATABASE
        if is_sqlite(url):
            _copy(file_of(url), copy)
        else:
            move.copy(url, f"sqlite:///{copy}")
        archive.add(copy, _DATABASE)
    for name in _KEPT:
        for path in _files(data / name):
            with suppress(FileNotFoundError):  # retention is at work meanwhile
                _add(archive, path, str(path.relative_to(data)))


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """As long as it is now: logs grow while they are copied."""
    with path.open("rb") as file:
        archive.addfile(archive.gettarinfo(arcname=name, fileobj=file), file)


def _files(path: Path) -> Iterator[Path]:
    """Plain files only: what a script has made in its run directory is neither followed nor opened."""
    if path.is_file() and not path.is_symlink():
        yield path
    elif path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path):
            for name in sorted(names):
                file = Path(folder) / name
                if name != _UNMASKED and file.is_file() and not file.is_symlink():
                    yield file


def _copy(database: Path, target: Path) -> None:
    """One consistent state, also while others write."""
    address = f"{database.as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
