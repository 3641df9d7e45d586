"""The file in which a script of a stage writes its outputs: `.escape/outputs.json` in the folder of the plan (8.3).

It lies in a workspace whose scripts may put anything in the place of anything, so no link is followed on the way to it.
All of it blocks.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from reconciler.execution.stages.values import ValueFault
from reconciler.model.job import Reason

FOLDER, NAME = ".escape", "outputs.json"
PATH = f"{FOLDER}/{NAME}"
"""What a script is told, relative to where it starts."""

_LARGEST = 256 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def clear(workspace: Path, below: str) -> None:
    """No file of a script before is there any more. ValueFault where something else is in its place."""
    with _folder(workspace, below, make=True) as folder, suppress(FileNotFoundError):
        os.unlink(NAME, dir_fd=folder)


def read(workspace: Path, below: str) -> Mapping[str, Any]:
    """What was written, any JSON by name; nothing where there is no file. ValueFault."""
    try:
        with _folder(workspace, below) as folder:
            handle = os.open(NAME, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return {}
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _fault("is no file")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise _fault(f"is larger than {_LARGEST:,} bytes")
    if not content.strip():
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise _fault("is no JSON") from None
    if not isinstance(found, dict):
        raise _fault("must hold an object, name to text")
    return found


@contextmanager
def _folder(workspace: Path, below: str, *, make: bool = False) -> Iterator[int]:
    """The folder of the file, reached without following a link."""
    handle = os.open(workspace, _DIRECTORY)
    try:
        for part in (*PurePosixPath(below).parts, FOLDER):
            if make and part == FOLDER:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o777, dir_fd=handle)
                    os.chmod(part, 0o777, dir_fd=handle)  # noqa: S103  (scripts may run as another user)
            deeper = os.open(part, _DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _fault(f"cannot be used: {error.strerror}") from None
    finally:
        os.close(handle)


def _fault(message: str) -> ValueFault:
    return ValueFault(Reason.INVALID_OUTPUT, f"{PATH} {message}")
