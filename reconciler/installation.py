"""The open parts of one installation, handed to passes and doors as one value.

Built and closed by `reconciler.daemon`; holds no logic.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reconciler.controllers.dispatch import Queue
from reconciler.controllers.rights import Authority
from reconciler.errors import SteersmanError
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.run import Runs
from reconciler.model.job import Job
from reconciler.model.plan import Plan
from reconciler.model.resource import Resource
from reconciler.sealing import Keys
from reconciler.settings import Settings
from reconciler.source.commit import Writer
from reconciler.source.desired import Desired
from reconciler.source.git import Mirror
from reconciler.source.mirrors import Mirrors
from reconciler.store.database import Database
from reconciler.store.snapshot import Snapshot

Wake = Callable[..., None]


def utcnow() -> datetime:
    """Now, in UTC; the one clock of passes and doors."""
    return datetime.now(UTC)


@dataclass
class Installation:
    """`wake(name, at=None)` queues a name, `run_now(name)` also waits for its pass, `oldest()` waits longest.

    `queue`: unfinished jobs as dispatch was told of them;
    `shown`: when a Build was last woken to show a job's end, by the monotonic clock;
    `followers`: KEY → Builds that start after it (None: to be found); `troubles`: names whose last pass failed, why;
    `writing`: held by whoever commits to the spec repository;
    `described`: how a served API shows jobs of a trigger's type, where it sends them to somebody;
    `authority`: who may do what, and the resources it was made of.
    """

    settings: Settings
    keys: Keys
    database: Database
    snapshot: Snapshot
    source: Mirror
    writer: Writer
    mirrors: Mirrors
    attachments: AttachmentStore
    runs: Runs
    wake: Wake
    run_now: Callable[[str], Awaitable[None]]
    oldest: Callable[[], tuple[str, float] | None]
    now: Callable[[], datetime] = utcnow
    desired: Desired | None = None
    last_plan: Plan = field(default_factory=Plan)
    plans_applied: int = 0
    confirmed: set[str] = field(default_factory=set)
    deliveries: OrderedDict[str, None] = field(default_factory=OrderedDict)
    fetch_failures: dict[str, tuple[datetime, SteersmanError]] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    followers: Mapping[str, tuple[str, ...]] | None = None
    shown: dict[str, float] = field(default_factory=dict)
    troubles: dict[str, tuple[str, str]] = field(default_factory=dict)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    described: dict[str, Callable[[Job], Mapping[str, Any]]] = field(default_factory=dict)
    authority: tuple[Mapping[str, Resource], Authority] | None = None

    @property
    def url(self) -> str:
        """Where people, scripts and links reach this server, without a slash at the end."""
        return self.settings.url
