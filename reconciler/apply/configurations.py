"""Makes jobs of project configurations, each once for a tree and key (cider-ci 2.1, 4.3); in the caller's write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.apply import jobs as apply
from reconciler.errors import Conflict
from reconciler.model.job import Checkout, Origin, configuration_key, configured_as
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.configuration import JobDeclaration
from specs.digest import canonical

ISSUE = "tree-issue"
"""The event that says what is wrong with the configuration of a tree."""


@dataclass(frozen=True, slots=True)
class ConfiguredOrder:
    """What a job is to be made from: `repository` is a KEY, `specification` that of its declaration."""

    repository: str
    project: str
    declaration: JobDeclaration
    specification: Mapping[str, Any]
    checkout: Checkout
    trigger: Mapping[str, Any]


def make(write: Write, order: ConfiguredOrder) -> int:
    """Make the job, with its first trials; its number. Conflict where the tree has one of this key or name."""
    declared = order.declaration
    key = configuration_key(order.project, declared.key)
    taken = rows.configured(write.connection, order.project, order.checkout.tree or "", key, declared.name)
    if taken is not None:
        there = configured_as(taken.key)
        named = "" if taken.key == key else f' named "{declared.name}"'
        raise Conflict(
            "JobExists", f"the tree has a job {there[1] if there else taken.key}{named} already: {taken.id}"
        )
    new = NewJob(
        key=key,
        specification=order.specification,
        work_digest=hashlib.sha256(canonical(order.specification)).hexdigest(),
        checkout=order.checkout,
        trigger={**order.trigger, "repository": order.repository, "url": order.checkout.url},
        inputs={},
        actor=write.actor.subject,
        origin=Origin.CONFIGURATION,
        name=declared.name,
    )
    return apply.insert(write, new)


def report(write: Write, repository: str, tree: str, faults: Sequence[str]) -> None:
    """Note what is wrong with a tree's configuration: nothing of it is carried out."""
    write.record(ISSUE, repository, {"tree": tree, "faults": list(faults)})
