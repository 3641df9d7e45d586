"""Files that are kept of trials and of trees, and where their bytes lie (cider-ci, 4.12–4.14, 4.17).

A tree's belong to the projects that have it; those of a tree that no project has, to who sees all of the
installation. `reconciler.commands.attachments` changes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from reconciler.access import Caller
from reconciler.errors import Conflict, NotFound
from reconciler.installation import Installation
from reconciler.model.attachment import NOBODY, TRIAL
from reconciler.model.job import Job
from reconciler.queries import by_id
from reconciler.queries.jobs import sight
from reconciler.store import attachments as rows
from reconciler.store import history, job_lists
from reconciler.store.attachments import Owner, of_tree, of_trial
from reconciler.store.attachments import StoredFile as StoredFile
from reconciler.store.database import Connection
from reconciler.store.job_lists import Span


async def projects(installation: Installation, caller: Caller, tree: str) -> list[str]:
    """Projects in which the caller sees a Repository or a job with this tree."""
    found, keys = await installation.database.read(
        lambda c: (job_lists.projects_with(c, tree, sight(caller)), history.repositories_with(c, tree))
    )
    return sorted(found | {key.split("/", 2)[1] for key in keys if caller.sees(key)})


async def owners(installation: Installation, caller: Caller, tree: str) -> list[Owner]:
    """Whose files of a tree the caller sees."""
    return _owners(caller, await projects(installation, caller, tree), tree)


async def of_job(
    installation: Installation, caller: Caller, job: Job, segment: str | None, span: Span
) -> list[StoredFile]:
    """Files of the tree of a job that the caller sees, by path."""
    tree = job.checkout.tree or ""
    return await _page(installation, _owners(caller, [job.project or NOBODY], tree), segment, span)


async def of_attempt(
    installation: Installation, trial: str, segment: str | None, span: Span
) -> list[StoredFile]:
    """Files of a trial that the caller is known to see, by path."""
    return await _page(installation, [of_trial(trial)], segment, span)


async def described(installation: Installation, caller: Caller, kind: str, row_id: str) -> StoredFile:
    """The file with this id, of a trial or of a tree (`kind`)."""
    found = None
    if by_id.is_uuid(row_id):
        found = await installation.database.read(lambda c: rows.by_id(c, kind, row_id))
    if found is None or not await _sees(installation, caller, found.owner):
        raise NotFound("NoSuchAttachment", f"there is no {kind} attachment with the id {row_id[:100]}")
    return found


async def content(installation: Installation, found: StoredFile) -> Path:
    """Where the bytes of a file lie. NotFound when they are gone."""
    return await asyncio.to_thread(installation.attachments.open, found.digest)


async def at(
    installation: Installation, caller: Caller, kind: str, of: str, path: str, project: str | None = None
) -> StoredFile:
    """The file of a trial or a tree (its id is `of`) at a path; `project`: only the one that this keeps for the tree.

    NotFound; Conflict where several projects keep one there and none is named.
    """
    if kind == TRIAL:
        among = [of_trial((await by_id.trial(installation, caller, of)).trial.id)]
    else:
        seen = await owners(installation, caller, of)
        among = [owner for owner in seen if project in (None, owner.project)]
    found = await installation.database.read(lambda c: _all_at(c, among, path))
    if not found:
        raise NotFound("NoSuchAttachment", f"{kind} {of} keeps no attachment {path!r}")
    projects = [file.owner.project for file in found if file.owner.project != NOBODY]
    if len(projects) > 1:
        told = ", ".join(projects)
        raise Conflict("SeveralOwners", f"several projects keep {path!r}: name one as `owner` (of {told})")
    return found[0]


def _all_at(connection: Connection, among: Sequence[Owner], path: str) -> list[StoredFile]:
    """The files at a path, in the order of their owners: nobody's comes last."""
    found = [rows.at(connection, owner, path) for owner in among]
    return [each for each in found if each is not None]


def _owners(caller: Caller, among: Sequence[str], tree: str) -> list[Owner]:
    found = [of_tree(project, tree) for project in among]
    return [*found, of_tree(NOBODY, tree)] if caller.sees_all and NOBODY not in among else found


async def _sees(installation: Installation, caller: Caller, owner: Owner) -> bool:
    try:
        if owner.kind == TRIAL:
            return bool(await by_id.trial(installation, caller, owner.id))
    except NotFound:
        return False
    return owner in await owners(installation, caller, owner.id.rpartition("/")[2])


async def _page(
    installation: Installation, among: Sequence[Owner], segment: str | None, span: Span
) -> list[StoredFile]:
    if segment is not None and "\0" in segment:
        return []
    if len(among) == 1:
        limit, offset = span.limit, span.offset
        return await installation.database.read(
            lambda c: rows.page(c, among[0], limit=limit, offset=offset, segment=segment)
        )
    end = span.offset + span.limit
    found = await installation.database.read(
        lambda c: [rows.page(c, owner, limit=end, offset=0, segment=segment) for owner in reversed(among)]
    )
    by_path = {file.path: file for files in found for file in files}
    return [by_path[path] for path in sorted(by_path)][span.offset : end]
