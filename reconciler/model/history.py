"""What the store keeps of a Repository's history: commits reachable from its branches, and the branches.

Values only: `reconciler.source` reads them from Git, `reconciler.store.history` keeps them, the passes judge them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Heads = frozenset[tuple[str, str]]
"""Names of branches, each with its head."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit with its tree, its parents and its committer's date."""

    id: str
    tree: str
    parents: tuple[str, ...]
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch as it was seen last. `judged`: the head for which triggers have been decided; None: none yet."""

    name: str
    commit: str
    tree: str
    moved_at: datetime
    committed_at: datetime
    judged: str | None


@dataclass(frozen=True, slots=True)
class Looked:
    """What the last look at a Repository found and the next one need not find again; it goes with the process.

    `generation` is its specification's; `configurations` and `manifests` say what is wrong, by branch, with the heads
    that were looked at; `cron_at`: when a cron condition of any head is due next, as of `at`; `waiting`: the trees
    with a job that waits for another one, or for a branch, with the heads that had them then.
    """

    generation: int
    configurations: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    cron_at: datetime | None = None
    at: datetime | None = None
    waiting: Mapping[str, Heads] = field(default_factory=dict)
