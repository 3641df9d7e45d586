"""Git's machine-readable output, parsed into values.

Called by `reconciler.source.git` with raw bytes. Pure: runs nothing, and a malformed commit gives odd values
rather than an error, since anybody can write one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone

from reconciler.model.history import Commit
from reconciler.source.values import Change, CommitFacts, Entry

_PERSON = re.compile(
    r"(?P<name>[^<]*?)\s*<(?P<email>[^>]*)>(?:.*?\s(?P<seconds>-?\d+)\s+(?P<zone>[+-]\d{4}))?\s*"
)
_PEOPLE = (b"author", b"committer")
_ABSENT = "000000"


def text(raw: bytes) -> str:
    """Bytes of Git as text; what is not UTF-8 becomes lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def entries(raw: bytes) -> list[Entry]:
    """Output of `ls-tree -r -l -z`."""
    return [_entry(record) for record in raw.split(b"\0") if record]


def _entry(record: bytes) -> Entry:
    head, _, path = record.partition(b"\t")
    mode, _, blob, size = head.decode("ascii").split()
    return Entry(text(path), mode, blob, None if size == "-" else int(size))


def changes(raw: bytes) -> list[Change]:
    """Output of `diff-tree -r -z --no-renames` of two trees."""
    fields = iter(raw.split(b"\0"))
    return list(_changes(fields))


def _changes(fields: Iterator[bytes]) -> Iterator[Change]:
    for head in fields:
        if head.startswith(b":"):
            old_mode, new_mode, old_blob, new_blob, _ = head[1:].decode("ascii").split()
            path = text(next(fields))
            yield Change(path, _side(path, old_mode, old_blob), _side(path, new_mode, new_blob))


def _side(path: str, mode: str, blob: str) -> Entry | None:
    return None if mode == _ABSENT else Entry(path, mode, blob, None)


def commit(commit_id: str, raw: bytes) -> CommitFacts:
    """A commit object as `cat-file` gives it."""
    head, _, body = raw.partition(b"\n\n")
    fields = [line.partition(b" ")[::2] for line in head.split(b"\n") if not line.startswith(b" ")]
    first = dict(reversed(fields))
    author, committer = (_person(first.get(who, b"").decode("utf-8", "replace")) for who in _PEOPLE)
    subject, rest = _message(body, first.get(b"encoding", b"utf-8").decode("ascii", "replace"))
    return CommitFacts(
        id=commit_id,
        tree=first.get(b"tree", b"").decode("ascii", "replace"),
        author_name=author[0],
        author_email=author[1],
        author_date=author[2],
        committer_name=committer[0],
        committer_email=committer[1],
        committer_date=committer[2],
        subject=subject,
        body=rest,
        parents=tuple(value.decode("ascii", "replace") for key, value in fields if key == b"parent"),
    )


def _person(line: str) -> tuple[str, str, datetime]:
    found = _PERSON.fullmatch(line)
    if found is None:
        return line, "", datetime.fromtimestamp(0, UTC)
    return found["name"], found["email"], _date(found["seconds"] or "0", found["zone"] or "+0000")


def _date(seconds: str, zone: str) -> datetime:
    """The moment in its own zone; the epoch for what Python cannot hold."""
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) * (-1 if zone[0] == "-" else 1)
    try:
        return datetime.fromtimestamp(int(seconds), timezone(offset))
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _message(raw: bytes, encoding: str) -> tuple[str, str]:
    """The first paragraph in one line, and what comes after it, as `git log` has them for %s and %b."""
    try:
        message = raw.decode(encoding, "replace")
    except LookupError:
        message = raw.decode("utf-8", "replace")
    paragraph, _, body = message.lstrip("\n").partition("\n\n")
    subject = " ".join(line.strip() for line in paragraph.split("\n") if line.strip())
    return subject, body.lstrip("\n")


HISTORY_FORMAT = "%H %T %ct %P"


def history(lines: Iterable[bytes]) -> Iterator[Commit]:
    """Output of `rev-list` in the format of `HISTORY_FORMAT`, whose own lines are left out."""
    for line in lines:
        if not line.startswith(b"commit "):
            commit_id, tree, seconds, *parents = text(line.rstrip(b"\n")).split(" ")
            yield Commit(commit_id, tree, tuple(filter(None, parents)), _date(seconds or "0", "+0000"))


def peeled_refs(raw: bytes) -> Iterator[tuple[str, str, str]]:
    """(name, commit or tag id, its type) of `for-each-ref` in the format of `REFS_FORMAT`; outer tags peeled
    once.
    """
    for line in raw.split(b"\n"):
        if line:
            name, own, own_type, inner, inner_type = text(line).split(" ")
            yield (name, inner, inner_type) if inner else (name, own, own_type)


REFS_FORMAT = "%(refname) %(objectname) %(objecttype) %(*objectname) %(*objecttype)"


def advertised(raw: bytes) -> tuple[str | None, str | None, dict[str, str]]:
    """Output of `ls-remote --symref`: the branch HEAD names, HEAD's id, branches and tags with their ids."""
    symbolic, head, refs = None, None, {}
    for line in raw.split(b"\n"):
        value, _, name = text(line).partition("\t")
        if name == "HEAD" and value.startswith("ref: "):
            symbolic = value[5:]
        elif name == "HEAD":
            head = value
        elif name.startswith(("refs/heads/", "refs/tags/")) and not name.endswith("^{}"):
            refs[name] = value
    return symbolic, head, refs
