"""What a job of a manifest is made of, whoever submits it: somebody at the door, or a push to a Repository."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.installation import Installation
from reconciler.model.job import Checkout, manifest_key
from reconciler.model.owners import owner_name
from reconciler.model.rights import Level
from reconciler.passes.dispatch import places_of
from reconciler.store import grants
from reconciler.store.jobs import NewJob
from specs.digest import canonical, tree_of_one
from specs.executor import resolve_image
from specs.manifest import Manifest, Trigger
from specs.manifest_work import JobFacts, work

TYPE = "manifest"
"""What has made such a job, in its `trigger`."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What comes with a manifest. `readers` and `writers` are names of users, `*` is everybody.

    `execute` False: it waits until somebody starts it; `secrets` False: neither secrets nor a token are given.
    """

    manifest: Manifest
    note: str | None = None
    tags: tuple[str, ...] = ()
    readers: tuple[str, ...] = ("*",)
    writers: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    execute: bool = True
    secrets: bool = True


def new_job(
    installation: Installation,
    submitter: str,
    submission: Submission,
    pushed: Mapping[str, Any] | None = None,
) -> NewJob:
    """The job to be made; it belongs to the submitter, a subject. `pushed`: of which push it is, for its trigger."""
    owner = owner_name(submitter)
    facts = JobFacts(
        owner,
        secrets=submission.secrets,
        refusal=_refusal(installation, submission.manifest.image),
        timeout_seconds=installation.settings.manifest_timeout_seconds,
        triggers=submission.triggers,
    )
    specification = work(submission.manifest, job=facts)
    digest = hashlib.sha256(canonical(specification)).hexdigest()
    specification |= {"concurrency": "allow", "note": submission.note, "tags": list(submission.tags)}
    return NewJob(
        key=manifest_key(owner),
        specification=specification,
        work_digest=digest,
        checkout=Checkout(tree=tree_of_one(".build.yml", submission.manifest.text.encode())),
        trigger={"type": TYPE, **(pushed or {})},
        inputs={},
        actor=submitter,
        held=not submission.execute,
        grants=_grants(submitter, submission),
    )


def _grants(submitter: str, submission: Submission) -> Mapping[str, Level]:
    """The submitter may do everything, whoever may write may read."""
    readers = {_subject(name): Level.READ for name in submission.readers}
    writers = {_subject(name): Level.WRITE for name in submission.writers}
    return {**readers, **writers, submitter: Level.OWNER}


def _subject(name: str) -> str:
    return grants.EVERYBODY if name == "*" else f"User/{name.removeprefix('~')}"


def _refusal(installation: Installation, image: str) -> str | None:
    """Why no executor here can run a manifest with this image."""
    places = places_of(installation)
    if any(resolve_image(place.spec, image) is not None for place in places.values()):
        return None
    known = sorted({name for place in places.values() for name in place.spec.get("images") or {"host": {}}})
    return f"no executor of this server offers the image {image}; it has {', '.join(known)}"
