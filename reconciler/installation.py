"""The open parts of one installation, handed to passes and doors as one value.

Built and closed by `reconciler.daemon`; holds no logic.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from reconciler.controllers.dispatch import Queue
from reconciler.controllers.gate import Rules
from reconciler.controllers.holding import Calendars
from reconciler.controllers.rights import Authority
from reconciler.errors import SteersmanError
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.carry import Carrier
from reconciler.execution.run import Runs
from reconciler.execution.secrets import Secrets
from reconciler.model.history import Looked
from reconciler.model.job import Job, JobGroup
from reconciler.model.plan import Plan
from reconciler.model.product import Catalogue
from reconciler.model.request import Request
from reconciler.model.resource import Resource
from reconciler.sealing import Keys
from reconciler.settings import Settings
from reconciler.source.commit import Writer
from reconciler.source.desired import Desired
from reconciler.source.git import Mirror
from reconciler.source.mirrors import Mirrors
from reconciler.source.values import Entry
from reconciler.standing import Standing
from reconciler.store.database import Database
from reconciler.store.snapshot import Snapshot
from reconciler.store.workers import Worker
from reconciler.wall_clock import WallClock

Wake = Callable[..., None]
STARTING = timedelta(seconds=0.5)
"""The served APIs, which describe what is sent to somebody, are there a moment after the daemon."""


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
    `adjusting`: by kind and number, held by whoever takes a proposal a step further;
    `describe_job`, `describe_group`, `describe_request`: how a served API shows those that are sent to somebody;
    `authority`: who may do what, and the resources it was made of;
    `configurations`: project configurations by tree, those read last;
    `asking`: places for other servers that are asked about requests for approval;
    `mailing`: places for mails of Notifications, which are sent in threads;
    `gate`: what is declared about holding deploys, the resources it was made of, and calendars seen with it;
    `listed`: the files of the specification repository at the revision that was looked at last;
    `looked`: what the last look at each Repository found;
    `catalogue`: products with their numbers, as they were read last; `cataloguing`: held by whoever changes them;
    `numbering`: (sort, name) of those of them that are new, in the order in which they get their numbers;
    `revoked`: called when a token was revoked, here or elsewhere;
    `standing`: whether this daemon leads; one that follows decides nothing, and asks the leader;
    `carrier`: brings trials to other processes, on PostgreSQL; `crew`: all that can run trials, as the last heart-beat
    found them; `unserved`: since when nothing can start on which Executors;
    `wall_clock`: whether somebody has set it;
    `dropping`: KEYs of Deployments whose state goes together with their declaration, and nothing is destroyed.
    """

    settings: Settings
    keys: Keys
    database: Database
    snapshot: Snapshot
    source: Mirror
    writer: Writer
    mirrors: Mirrors
    attachments: AttachmentStore
    secrets: Secrets
    runs: Runs
    wake: Wake
    run_now: Callable[[str], Awaitable[None]]
    oldest: Callable[[], tuple[str, float] | None]
    now: Callable[[], datetime] = utcnow
    revoked: Callable[[], None] = lambda: None
    standing: Standing = field(default_factory=Standing)
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
    adjusting: WeakValueDictionary[tuple[str, int], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    describe_job: Callable[[Job], Mapping[str, Any]] | None = None
    describe_group: Callable[[JobGroup], Mapping[str, Any]] | None = None
    describe_request: Callable[[Request], Mapping[str, Any]] | None = None
    authority: tuple[Mapping[str, Resource], Authority] | None = None
    configurations: dict[str, Any] = field(default_factory=dict)
    looked: dict[str, Looked] = field(default_factory=dict)
    asking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    mailing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    gate: tuple[Mapping[str, Resource], Rules, Calendars] | None = None
    listed: tuple[str, Sequence[Entry]] | None = None
    dropping: set[str] = field(default_factory=set)
    catalogue: Catalogue | None = None
    cataloguing: asyncio.Lock = field(default_factory=asyncio.Lock)
    numbering: Sequence[tuple[str, str]] = ()
    carrier: Carrier | None = None
    crew: Sequence[Worker] = ()
    unserved: dict[str, datetime] = field(default_factory=dict)
    wall_clock: WallClock = field(default_factory=WallClock)

    @property
    def version(self) -> int:
        """What is shown is at least as new as this version of the store."""
        return self.database.version if self.standing.leads else self.snapshot.current.version

    @property
    def url(self) -> str:
        """Where people, scripts and links reach this server, without a slash at the end."""
        return self.settings.url
