"""One commit as `git fast-import` reads it, and what may stand in it.

Called by `reconciler.source.scratch`. Pure: it judges files against what the edited commit holds, keeps the
modes of files, leaves out what changes nothing, and cleans names and messages of what Git forbids. It never
runs Git.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.errors import Refused
from reconciler.source.values import FILE, FOLDER, Author, Entry

REF = "refs/heads/steersman"
_FORBIDDEN = re.compile(r"[<>\x00-\x1f\x7f]+")
_CRUD = " .,:;\"'\\"  # what Git itself takes from the ends of a name


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file written with a mode, or removed when `content` is None."""

    path: str
    mode: str
    content: bytes | None


def ancestors(path: str) -> list[str]:
    """The folders above a path, without the root."""
    found, end = [], path.find("/")
    while end != -1:
        found.append(path[:end])
        end = path.find("/", end + 1)
    return found


def changes(
    files: Mapping[str, bytes | None], there: Mapping[str, Entry], object_format: str
) -> list[FileChange]:
    """What differs from what is there: removals first, modes kept.

    `there` has the entries at these paths and at the folders above them. A file that cannot be written or
    removed there is Refused.
    """
    found = [
        change for path in sorted(files) if (change := _change(path, files, there, object_format)) is not None
    ]
    return sorted(found, key=lambda change: change.content is not None)


def _change(
    path: str, files: Mapping[str, bytes | None], there: Mapping[str, Entry], object_format: str
) -> FileChange | None:
    content, entry = files[path], there.get(path)
    if content is None:
        if entry is None or not entry.regular:
            raise Refused("BadPath", f"{path} is no file of the repository, so it cannot be removed")
        return FileChange(path, entry.mode, None)
    for folder in ancestors(path):
        if not _folder(folder, files, there):
            raise Refused("BadPath", f"{path} cannot be written: {folder} is a file")
    if entry is not None and not entry.regular:
        raise Refused("BadPath", f"{path} cannot be written: it is a folder, a link or a submodule")
    if entry is not None and entry.blob == blob_id(content, object_format):
        return None
    return FileChange(path, entry.mode if entry else FILE, content)


def _folder(path: str, files: Mapping[str, bytes | None], there: Mapping[str, Entry]) -> bool:
    """Whether the path is a folder after the change, or nothing yet."""
    if path in files:
        return files[path] is None
    return path not in there or there[path].mode == FOLDER


def blob_id(content: bytes, object_format: str) -> str:
    """The id that Git gives to this content."""
    return hashlib.new(object_format, b"blob %d\0" % len(content) + content).hexdigest()


def cleaned(author: Author) -> Author:
    """The author as Git can hold it; somebody without a name is called by the mail, or unknown."""
    email = "".join(_FORBIDDEN.sub("", author.email).split()).strip(_CRUD)
    name = " ".join(_FORBIDDEN.sub(" ", author.name).split()).strip(_CRUD)
    return Author(name or email.partition("@")[0].strip(_CRUD) or "unknown", email or "unknown")


def tidy(message: str) -> bytes:
    """The message as bytes that end with one line end."""
    lines = message.replace("\r\n", "\n").replace("\0", "").rstrip()
    return (lines + "\n").encode("utf-8", "replace")


def stamp(when: datetime) -> str:
    """Seconds since the epoch and the zone, as Git writes a time."""
    minutes = int((when.utcoffset() or timedelta()).total_seconds()) // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{int(when.timestamp())} {sign}{minutes // 60:02}{minutes % 60:02}"


def quoted(path: str) -> str:
    """A path in C quotes, as Git reads it in streams and in its own files."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def stream(
    base: str | None,
    changed: Sequence[FileChange],
    people: tuple[Author, Author],
    when: datetime,
    message: str,
) -> bytes:
    """The whole stream for one commit on `base`, by author and committer; its answer is the commit's id."""
    return b"".join(_pieces(base, changed, people, when, message))


def _pieces(
    base: str | None,
    changed: Sequence[FileChange],
    people: tuple[Author, Author],
    when: datetime,
    message: str,
) -> Iterator[bytes]:
    yield f"feature done\ncommit {REF}\nmark :1\n".encode()
    for role, person in zip(("author", "committer"), people, strict=True):
        yield f"{role} {person.name} <{person.email}> {stamp(when)}\n".encode("utf-8", "replace")
    yield from _data(tidy(message))
    if base is not None:
        yield f"from {base}\n".encode()
    for change in changed:
        place = quoted(change.path).encode()
        if change.content is None:
            yield b"D " + place + b"\n"
        else:
            yield f"M {change.mode} inline ".encode() + place + b"\n"
            yield from _data(change.content)
    yield b"\nget-mark :1\ndone\n"


def _data(content: bytes) -> Iterator[bytes]:
    yield b"data %d\n" % len(content)
    yield content
    yield b"\n"
