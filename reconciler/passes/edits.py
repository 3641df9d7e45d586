"""Commits to the spec repository, from what resources shall be to the push (escape-state, 13.2, 13.3).

Called by the door of declared writes and by the passes that choose versions. Each function does one step on one commit
of the branch: who finds that it was the newest no more begins anew. Nothing here asks for rights, and nothing applies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from reconciler.errors import (
    BrokenBefore,
    Conflict,
    PushRefused,
    SpecificationRefused,
    Stalled,
    SteersmanError,
    Transient,
)
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.passes import source
from reconciler.source.commit import Author
from reconciler.source.desired import Desired
from reconciler.store.rows import new_id
from specs.edit import Uneditable
from specs.errors import SpecError
from specs.meta import Key
from specs.tree import Tree
from specs.write import CannotWrite, Rewritten, Unacceptable, Wish, paths, rewrite

log = structlog.get_logger(__name__)
_LONGEST_SUBJECT = 72
_NOWHERE = "users.noreply.steersman.invalid"
_ACCOUNTS = "service-accounts.steersman.invalid"


@dataclass(frozen=True, slots=True)
class Edit:
    """Whose commit it is, by subject; what asked for it; and further trailers, as (name, value).

    `title`: what the caller says of it, whose first line is the commit's.
    """

    subject: str
    endpoint: str
    trailers: tuple[tuple[str, str], ...] = ()
    title: str | None = None


@contextmanager
def reachable() -> Iterator[None]:
    """A repository that is gone stays so as far as the loop knows; a caller is told to come again."""
    try:
        yield
    except PushRefused:
        raise
    except Stalled as error:
        raise Transient(error.reason, error.message) from error


async def newest(installation: Installation) -> Desired:
    """The desired state at the newest commit of the branch."""
    await installation.source.fetch()
    head = await installation.source.head(installation.settings.branch)
    if head is None:
        return Desired("", Tree.empty(), {})
    known = installation.desired
    return (
        known if known is not None and known.commit == head else await source.read(installation, head, known)
    )


async def rewritten(installation: Installation, desired: Desired, wishes: Sequence[Wish]) -> Rewritten:
    """The files as the wishes make them."""
    texts = await _texts(installation, desired, paths(desired.tree, wishes))
    try:
        return await asyncio.to_thread(rewrite, desired.tree, texts, wishes)
    except Unacceptable as error:
        told = tuple((str(error.key), field, sentence) for field, sentence in error.faults)
        raise SpecificationRefused("InvalidSpecification", str(error), told) from error
    except (CannotWrite, Uneditable) as error:
        raise Conflict("CannotWrite", str(error)) from error


async def _texts(
    installation: Installation, desired: Desired, wanted: frozenset[str]
) -> dict[str, str | None]:
    there = {path: desired.paths[path].blob for path in wanted if path in desired.paths}
    contents = await installation.source.read(sorted(set(there.values())), installation.settings.file_bytes)
    texts: dict[str, str | None] = dict.fromkeys(wanted)
    for path, blob in there.items():
        try:
            texts[path] = contents[blob].decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise Conflict(
                "CannotWrite", f"{path} cannot be read as text; put that right in Git first"
            ) from error
    return texts


async def judge(installation: Installation, desired: Desired, rewritten: Rewritten) -> None:
    """The whole tree as it would be: errors that the write brings are refused, those from before are others'."""
    after = await source.overlay(installation, desired, rewritten.files)
    known = {_without_place(error) for error in desired.tree.errors}
    brought = [error for error in after.errors if _without_place(error) not in known]
    if brought:
        raise SpecificationRefused(
            "InvalidSpecification",
            "; ".join(_told(error) for error in brought[:5]),
            tuple(
                (error.key, f"{error.path}:{error.line}:{error.column}", error.message) for error in brought
            ),
        )
    for key, _, _ in rewritten.changes:
        declared = after.declared.get(key)
        if declared is not None and declared.errors:
            raise BrokenBefore(
                "SpecInvalid", f"{key} is invalid already: {declared.errors[0]}; put that right first"
            )


def _without_place(error: SpecError) -> tuple[str, str | None, str]:
    return error.path, error.key, error.message


def _told(error: SpecError) -> str:
    return f"{error.key}: {error.message}" if error.key else str(error)


def _from_root(installation: Installation, path: str) -> str:
    folder = installation.settings.path.strip("/")
    return path if folder in ("", ".") else f"{folder.removeprefix('./')}/{path}"


def mode_of(installation: Installation, wishes: Sequence[Wish]) -> str:
    """The strictest of the projects concerned."""
    settings = installation.settings
    order = ("direct", "branch", "read-only")
    found = {settings.write_modes.get(project_of(wish.key) or "", settings.write_mode) for wish in wishes}
    return max(found or {settings.write_mode}, key=order.index)


def project_of(key: Key) -> str | None:
    """The project that a KEY is in, or is."""
    return key.name if key.kind == "Project" else key.project


async def commit(
    installation: Installation,
    desired: Desired,
    rewritten: Rewritten,
    edit: Edit,
    actor: Actor,
    *,
    apart: bool = False,
) -> tuple[str, str | None]:
    """Commit the files and push; the commit, and the branch where it waits to be merged (`apart`).

    Moved when somebody was faster.
    """
    request = new_id()
    branch = f"steersman/{request}" if apart else None
    contents = {
        _from_root(installation, path): None if text is None else text.encode()
        for path, text in rewritten.files.items()
    }
    author, message = _author(installation, edit.subject), _message(rewritten, edit, request)
    with reachable():
        made = await installation.writer.commit(
            desired.commit or None, contents, author, message, branch=branch
        )
    keys = [key for key, _, _ in rewritten.changes]
    body = {"commit": made, "request": request, "endpoint": edit.endpoint, "keys": keys, "branch": branch}
    with suppress(SteersmanError):  # it is in Git, trailers and all: whatever fails now, that is no lie
        await installation.database.write(
            lambda w: w.record("specs-written", keys[0] if len(keys) == 1 else None, body), actor
        )
    log.info("specs-written", commit=made[:12], actor=edit.subject, endpoint=edit.endpoint)
    return made, branch


def _author(installation: Installation, subject: str) -> Author:
    """A subject as Git knows people (escape-state, 13.3)."""
    kind, _, name = subject.partition("/")
    if kind == "ServiceAccount":
        team, _, account = name.partition("/")
        return Author(f"{account} ({team})", f"{account}+{team}@{_ACCOUNTS}")
    resource = installation.snapshot.current.resources.get(subject)
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    return Author(spec.get("display_name") or name, spec.get("email") or f"{name}@{_NOWHERE}")


def _message(rewritten: Rewritten, edit: Edit, request: str) -> str:
    """The caller's title, or kind, KEY, verb and fields, never a value: it may be confidential (escape-state, 13.3)."""
    key, verb, fields = rewritten.changes[0]
    kind, _, rest = key.partition("/")
    subject = f"{kind.lower()} {rest}: {verb}{' ' if fields else ''}{', '.join(fields)}"
    if key in rewritten.renamed:
        old = rewritten.renamed[key].partition("/")[2]
        subject = f"{kind.lower()} {old}: rename to {rest}"
    elif len(rewritten.changes) > 1:
        subject = f"{kind.lower()} {rest}: {verb}, and {len(rewritten.changes) - 1} more"
    subject = _first_line(edit.title) or subject
    if len(subject) > _LONGEST_SUBJECT:
        subject = subject[: _LONGEST_SUBJECT - 1] + "…"
    actor, _, name = edit.subject.partition("/")
    trailers = (
        ("Steersman-Request", request),
        ("Steersman-Actor", f"{actor.lower()}:{name}"),
        ("Steersman-Endpoint", edit.endpoint),
        *edit.trailers,
    )
    return subject + "\n\n" + "".join(f"{name}: {value}\n" for name, value in trailers)


def _first_line(text: str | None) -> str:
    """The first that says anything, without what cannot be seen."""
    lines = ("".join(filter(str.isprintable, line)).strip() for line in (text or "").splitlines())
    return next(filter(None, lines), "")
