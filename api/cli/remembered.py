"""What `steersman login` remembers: a token a server, in a file that only its owner can read.

`XDG_CONFIG_HOME/steersman/credentials.json`, or below `~/.config`. Read by every verb that asks a server and was given
no token; written by `login` and `logout` alone.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from api.cli.output import fail


class Entry(msgspec.Struct, frozen=True):
    """A token, and until when it is good."""

    token: str
    expires: Annotated[datetime, msgspec.Meta(tz=True)]


def place() -> Path:
    """Where the file is, or would be."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    folder = given if given.startswith("/") else os.path.expanduser("~/.config")  # noqa: PTH111  (never raises)
    return Path(folder) / "steersman" / "credentials.json"


def token_of(server: str) -> str | None:
    """The token for a server, as long as it is good."""
    entry = _read().get(server)
    return entry.token if entry is not None and entry.expires > datetime.now(UTC) else None


def keep(server: str, token: str, expires: str) -> None:
    """Remember a token, instead of an older one."""
    _write(_read() | {server: Entry(token, datetime.fromisoformat(expires))})


def forget(server: str) -> None:
    """Remember none for a server."""
    _write({name: entry for name, entry in _read().items() if name != server})


def _read() -> dict[str, Entry]:
    path = place()
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            found = msgspec.json.decode(file.read(), type=dict[str, Entry])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except (ValueError, RecursionError):  # among them all that msgspec raises
        fail(f"{path} is not what `steersman login` writes; remove it, and sign in again")
    if mode & 0o077:
        fail(f"{path} can be used by others (mode {mode:04o}); run `chmod 600 {path}`")
    return found


def _write(entries: dict[str, Entry]) -> None:
    path = place()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(entries)) + b"\n")
        temporary.replace(path)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
