"""Attachments of trees and of trials: lists, and what is known of one, but no bytes (cider-ci, 4.12–4.14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from litestar import Response, get

from api.cider import properties
from api.cider.answers import Asked, answer
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import (
    JOB,
    JOBS,
    TREE_ATTACHMENT,
    TREE_ATTACHMENTS,
    TREE_ATTACHMENTS_TOO,
    TREE_DATA,
    TRIAL,
    TRIAL_ATTACHMENT,
    TRIAL_ATTACHMENTS,
    TRIAL_DATA,
    Endpoint,
    address,
    relation,
)
from api.cider.requests import PER_PAGE, Listing, listing
from api.cider.roa import Links, Relation
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.attachment import NOBODY
from reconciler.model.attachment import TREE as OF_TREE
from reconciler.model.attachment import TRIAL as OF_TRIAL
from reconciler.queries import by_id, kept
from reconciler.queries.kept import StoredFile


@get(
    [TREE_ATTACHMENTS.route, TREE_ATTACHMENTS_TOO.route],
    operation_class=documented(TREE_ATTACHMENTS),
    media_type=ROA,
    summary="Files that are kept for the tree of a job",
)
async def tree_attachment_list(
    installation: Installation, caller: Caller, request: Asked, job: str
) -> Response[bytes]:
    """By path."""
    found = await by_id.job(installation, caller, job)
    asked = listing(request, TREE_ATTACHMENTS, id=found.id)
    files = await kept.of_job(installation, caller, found, asked.filters.get("pathsegment"), asked.span)
    relations = {"job": relation(JOB, id=found.id)}
    if found.checkout.tree is not None:
        own = found.project or NOBODY
        # whoever sees files of nobody among them is not led past those
        named = {"owner": own} if all(file.owner.project == own for file in files) else None
        relations["tree-attachment-data-stream"] = relation(TREE_DATA, named, tree_id=found.checkout.tree)
    return _listed(request, asked, files, ("tree_attachments", TREE_ATTACHMENT), relations)


@get(TREE_ATTACHMENT.route, media_type=ROA, summary="What is known of an attachment of a tree")
async def tree_attachment_get(
    installation: Installation, caller: Caller, request: Asked, attachment: str
) -> Response[bytes]:
    """Not its bytes."""
    found = await kept.described(installation, caller, OF_TREE, attachment)
    tree = found.owner.id.rpartition("/")[2]
    named = {"owner": found.owner.project}
    relations = {
        "tree-attachment-data-stream": relation(TREE_DATA, named, tree_id=tree, path=found.path),
        "jobs": relation(JOBS, {"tree_id": tree}),
    }
    links = Links(TREE_ATTACHMENT.name, address(TREE_ATTACHMENT, id=found.id), relations)
    return answer(request, properties.attachment(found, "tree_id", tree), links)


@get(
    TRIAL_ATTACHMENTS.route,
    operation_class=documented(TRIAL_ATTACHMENTS),
    media_type=ROA,
    summary="Files that a trial left",
)
async def trial_attachment_list(
    installation: Installation, caller: Caller, request: Asked, trial: str
) -> Response[bytes]:
    """By path."""
    found = await by_id.trial(installation, caller, trial)
    asked = listing(request, TRIAL_ATTACHMENTS, id=found.trial.id)
    segment = asked.filters.get("pathsegment")
    files = await kept.of_attempt(installation, found.trial.id, segment, asked.span)
    relations = {
        "trial": relation(TRIAL, id=found.trial.id),
        "trial-attachment-data-stream": relation(TRIAL_DATA, trial_id=found.trial.id),
    }
    return _listed(request, asked, files, ("trial_attachments", TRIAL_ATTACHMENT), relations)


@get(TRIAL_ATTACHMENT.route, media_type=ROA, summary="What is known of an attachment of a trial")
async def trial_attachment_get(
    installation: Installation, caller: Caller, request: Asked, attachment: str
) -> Response[bytes]:
    """Not its bytes."""
    found = await kept.described(installation, caller, OF_TRIAL, attachment)
    trial = found.owner.id
    relations = {
        "trial-attachment-data-stream": relation(TRIAL_DATA, trial_id=trial, path=found.path),
        "trial": relation(TRIAL, id=trial),
        "trial-attachments": relation(TRIAL_ATTACHMENTS, id=trial),
    }
    links = Links(TRIAL_ATTACHMENT.name, address(TRIAL_ATTACHMENT, id=found.id), relations)
    return answer(request, properties.attachment(found, "trial_id", trial), links)


def _listed(
    request: Asked,
    asked: Listing,
    files: Sequence[StoredFile],
    shown_as: tuple[str, Endpoint],
    relations: Mapping[str, Relation],
) -> Response[bytes]:
    key, member = shown_as
    shown = files[:PER_PAGE]
    links = asked.links([file.id for file in shown], member, relations, more=len(files) > PER_PAGE)
    return answer(request, {key: [{"id": file.id, "path": file.path} for file in shown]}, links)
