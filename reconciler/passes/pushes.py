"""Manifests of builds.sr.ht in a Repository: submitted for each new head of a branch (builds-srht 9).

Called by the pass of a Repository. The jobs of a head are made in the same transaction that notes the head, so that
whoever is killed has submitted all of them or none.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from reconciler.apply import jobs as apply
from reconciler.apply.repositories import set_status
from reconciler.controllers.repositories import MANIFEST, by_interest, summary
from reconciler.errors import UnknownCommit
from reconciler.installation import Installation
from reconciler.model.history import Looked
from reconciler.model.resource import Resource
from reconciler.passes.histories import heads_of
from reconciler.passes.manifests import Submission, new_job
from reconciler.source.git import CommitFacts, Entry, Mirror
from reconciler.source.webhook import normalise_url
from reconciler.store import timers
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.globs import any_match
from specs.manifest import BadManifest, Manifest, parse
from specs.manifest_pushed import pushed

MOST_MANIFESTS = 50
"""Of one head."""

LONGEST_MANIFEST = 16_383
_LONGEST_SUBJECT = 500
_BASELINE = ""  # the branch that says: the heads of the first look are noted
_UNFIT = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Head:
    """A head of a branch, with what it says of itself."""

    branch: str
    facts: CommitFacts


async def look(
    installation: Installation, resource: Resource, mirror: Mirror, before: Looked | None
) -> dict[str, str]:
    """One look; what is wrong with manifests, by branch."""
    spec = resource.spec or {}
    heads = await heads_of(mirror)
    seen = await installation.database.read(lambda c: timers.load_tags(c, resource.key))
    if _BASELINE not in seen:
        seen = await _first(installation, resource, mirror, heads)
    fresh = sorted(name for name, commit in heads.items() if seen.get(name) != commit)
    known = dict(before.manifests) if before is not None else {}
    faults = {name: told for name, told in known.items() if name in heads and name not in fresh}
    if fresh and (refusal := _refusal(installation, spec["srht"]["submit_as"])) is not None:
        return await _by_interest(resource, mirror, heads, faults | dict.fromkeys(fresh, refusal))
    for name in fresh:
        manifests, wrong = await _manifests(resource, mirror, heads[name])
        faults |= {name: told} if (told := _told(name, heads[name], wrong)) else {}
        facts = await mirror.facts(heads[name])
        if facts is None:  # the mirror was made anew meanwhile, and the next fetch tells what there is
            continue
        new = [_order(installation, resource, Head(name, facts), *each) for each in manifests.items()]
        if name in faults:  # before the head is noted: who is killed in between would not look at it again
            told_first = await _by_interest(resource, mirror, heads, faults)
            await set_status(installation, resource.key, {MANIFEST: (MANIFEST, summary(told_first))})
        await installation.database.write(partial(_submit, resource.key, {name: heads[name]}, new))
        if new:
            installation.wake("dispatch")
    if before is None and any(condition.type == MANIFEST for condition in resource.conditions):
        for name in heads.keys() - set(fresh):
            _, wrong = await _manifests(resource, mirror, heads[name])
            faults |= {name: told} if (told := _told(name, heads[name], wrong)) else {}
    gone = [name for name in seen if name not in heads and name != _BASELINE]
    if gone:
        await installation.database.write(lambda w: timers.drop_tags(w.connection, resource.key, gone))
    return await _by_interest(resource, mirror, heads, faults)


async def _first(
    installation: Installation, resource: Resource, mirror: Mirror, heads: Mapping[str, str]
) -> dict[str, str]:
    """At the first look only the head of the main branch is new: the others were there before anybody asked."""
    main = await _main(resource, mirror)
    noted = {name: commit for name, commit in heads.items() if name != main} | {_BASELINE: ""}
    await installation.database.write(lambda w: timers.save_tags(w.connection, resource.key, noted))
    return noted


async def _by_interest(
    resource: Resource, mirror: Mirror, heads: Mapping[str, str], faults: Mapping[str, str]
) -> dict[str, str]:
    if len(faults) < 2:
        return dict(faults)
    found = {name: await mirror.facts(heads[name]) for name in faults}
    at = {name: facts.committer_date for name, facts in found.items() if facts is not None}
    return by_interest(faults, await _main(resource, mirror), at)


async def _main(resource: Resource, mirror: Mirror) -> str | None:
    named: str | None = (resource.spec or {}).get("branch")
    return named or await mirror.default_branch()


def _refusal(installation: Installation, submitter: str) -> str | None:
    """Why nothing can be submitted as this User now."""
    user = installation.snapshot.current.resources.get(f"User/{submitter}")
    if user is None or user.spec is None:
        return f"the User {submitter}, as whom manifests are submitted, is not declared"
    return (
        f"the User {submitter}, as whom manifests are submitted, is disabled"
        if user.spec["disabled"]
        else None
    )


async def _manifests(
    resource: Resource, mirror: Mirror, commit: str
) -> tuple[dict[str, Manifest], dict[str, str]]:
    """The manifests of a commit by path, and what is wrong with others."""
    patterns = (resource.spec or {})["srht"]["manifests"]
    try:
        entries = await mirror.entries(commit)
    except UnknownCommit:
        return {}, {}
    there = [
        entry for entry in entries if entry.regular and entry.readable and any_match(patterns, entry.path)
    ]
    if len(there) > MOST_MANIFESTS:
        told = f"of {len(there)} manifests only the first {MOST_MANIFESTS} are submitted"
        return await _parsed(mirror, there[:MOST_MANIFESTS], {there[MOST_MANIFESTS].path: told})
    return await _parsed(mirror, there, {})


async def _parsed(
    mirror: Mirror, entries: Sequence[Entry], wrong: dict[str, str]
) -> tuple[dict[str, Manifest], dict[str, str]]:
    contents = await mirror.read([entry.blob for entry in entries], 4 * LONGEST_MANIFEST)
    found: dict[str, Manifest] = {}
    for entry in entries:
        try:
            text = contents[entry.blob].decode()
            if len(text) > LONGEST_MANIFEST:
                raise KeyError(entry.blob)
            found[entry.path] = await asyncio.to_thread(parse, text)
        except KeyError:
            wrong[entry.path] = f"has more than {LONGEST_MANIFEST:,} characters"
        except UnicodeDecodeError:
            wrong[entry.path] = "is not UTF-8 text"
        except BadManifest as bad:
            wrong[entry.path] = "; ".join(bad.reasons)
    return found, wrong


def _told(branch: str, commit: str, wrong: Mapping[str, str]) -> str:
    told = "; ".join(f"{path}: {fault}" for path, fault in sorted(wrong.items()))
    return f"{branch} ({commit[:12]}): {told}" if told else ""


def _order(
    installation: Installation, resource: Resource, head: Head, path: str, manifest: Manifest
) -> NewJob:
    spec, facts = resource.spec or {}, head.facts
    url = normalise_url(spec["url"])
    for_head = pushed(
        manifest, lambda other: normalise_url(other) == url, facts.id, f"refs/heads/{head.branch}"
    )
    submission = Submission(
        for_head,
        note=_printable(f"{facts.id[:12]} ({head.branch}) by {facts.author_name}: {facts.subject}"),
        tags=tuple(_tags(resource.name, path)),
        readers=("*",) if _is_public(installation, resource) else (),
    )
    push: dict[str, Any] = {
        "repository": resource.key,
        "url": spec["url"],
        "branch": head.branch,
        "commit": facts.id,
        "path": path,
    }
    return new_job(installation, f"User/{spec['srht']['submit_as']}", submission, push)


def _is_public(installation: Installation, resource: Resource) -> bool:
    """May everybody read what is in the project?"""
    project = installation.snapshot.current.resources.get(f"Project/{resource.project}")
    return bool(((project.spec if project else None) or {}).get("is_public"))


def _tags(repository: str, path: str) -> list[str]:
    """The repository's name, and that of the manifest where it has one of its own, in the alphabet of tags."""
    stem = PurePosixPath(path).stem
    fit = [
        _UNFIT.sub("-", text.lower()).strip("-")
        for text in (repository, "" if stem.startswith(".") else stem)
    ]
    return [tag for tag in fit if tag]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_SUBJECT])


def _submit(repository: str, head: Mapping[str, str], new: Sequence[NewJob], write: Write) -> None:
    for each in new:
        apply.insert(write, each)
    timers.save_tags(write.connection, repository, head)
