"""What a killed daemon left behind: workspaces that no trial uses, old run folders, logs that are not compressed.

`sweep` is called by the daemon once, before it takes up its trials; the rest by `reconciler.passes.retention`. All
of this blocks. It knows no store: callers say what lives. Whatever is not named as one of our folders stays.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

import structlog

from reconciler.execution import archive

log = structlog.get_logger(__name__)
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TRIAL = re.compile(_ID)
_WORKSPACE = re.compile(rf"({_ID})-([0-9]{{1,9}})")
_AGED = 86_400.0
_AT_ONCE = 500
_KEPT = frozenset(
    ("log", "log.zst", "index", "end", "start", "exit", "services", "scripts", archive.FETCHING)
)
_HALF_MADE = ("attachments/unfinished", "caches", "sandbox")


def sweep(data: Path, live: Mapping[str, int]) -> list[Path]:
    """Remove the workspaces of claims that are not `live` (trial → epoch), and what was half made when the daemon died.

    Gives those that are gone now.
    """
    left = [path for folder in _HALF_MADE for path in _entries(data / folder) if path.name.startswith("tmp")]
    for path in _entries(data / "workspaces"):
        found = _WORKSPACE.fullmatch(path.name)
        if found is not None and live.get(found[1]) != int(found[2]):
            left.append(path)
    return remove(left)


def aged_runs(data: Path) -> list[Path]:
    """Run folders of trials whose last claim is a day old or older: `DATA/runs/<trial>`."""
    return [path for path in _entries(data / "runs") if _TRIAL.fullmatch(path.name) and _is_aged(path)]


def loose_logs(data: Path) -> list[str]:
    """Run folders in which an end may have left work: `<trial>/<epoch>` below DATA/runs, and what is in its `services`
    or `scripts`.
    """
    runs = data / "runs"
    folders = (
        folder for pattern in ("*/*", "*/*/services/*", "*/*/scripts/*") for folder in runs.glob(pattern)
    )
    return sorted(str(folder.relative_to(runs)) for folder in folders if _is_loose(folder))


def logs_kept(data: Path) -> list[str]:
    """Run folders, below DATA/runs, with a log that is whole."""
    runs = data / "runs"
    folders = {path.parent for name in ("log", archive.NAME) for path in runs.rglob(name)}
    return sorted(str(f.relative_to(runs)) for f in folders if not (f / archive.FETCHING).exists())


def settle_logs(data: Path, runs: Sequence[str]) -> int:
    """Tidy what scripts that have ended left, and compress their logs; gives how many."""
    count = 0
    for run in runs:
        folder = data / "runs" / run
        try:
            tidy(folder)
            count += archive.compress(folder)
        except OSError as error:
            log.warning("log-not-compressed", folder=str(folder), error=str(error))
    return count


def tidy(run: Path) -> None:
    """After the end only the logs are kept, and what says that it has ended. Blocks."""
    found: list[os.DirEntry[str]] = []
    with suppress(FileNotFoundError), os.scandir(run) as entries:
        found += entries
    for entry in found:
        if entry.name in ("services", "scripts"):
            for folder in _entries(run / entry.name):
                tidy(folder)
        elif entry.name not in _KEPT and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name not in _KEPT:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108  (a hot path)


def remove(paths: Sequence[Path]) -> list[Path]:
    """Remove folders, also ones that a script made hard to delete; gives those that are gone now.

    By `rm` and `chmod`, which follow no link on the way and know no greatest depth.
    """
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        _run("rm", "-rf", "--", *some)
        locked = [path for path in some if path.is_dir() and not path.is_symlink()]
        if locked:
            _run("chmod", "-R", "u+rwx", "--", *locked)
            _run("rm", "-rf", "--", *locked)
    left = {path for path in paths if os.path.lexists(path)}
    for path in left:
        log.warning("leftover-not-removed", path=str(path))
    return [path for path in paths if path not in left]


def _run(*command: str | Path) -> None:
    subprocess.run(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, check=False)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_loose(folder: Path) -> bool:
    names = {path.name for path in _entries(folder)}
    return not names <= _KEPT or _size(folder / "log") >= archive.WORTH


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _is_aged(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - _AGED
    except FileNotFoundError:
        return False
