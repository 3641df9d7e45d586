"""The pass of a Build's KEY: heads, due times and jobs are observed, what is owed is made (design 6, 14.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from reconciler.apply import builds as apply
from reconciler.controllers import builds as controller
from reconciler.controllers import follows as following
from reconciler.controllers.builds import BuildView, Head, of_ref
from reconciler.controllers.repositories import by_ssh, secret_of
from reconciler.controllers.repositories import follows as follows_heads
from reconciler.errors import Stalled, SteersmanError, Waiting
from reconciler.installation import Installation
from reconciler.model.follow import Follow
from reconciler.model.job import Checkout, Job
from reconciler.model.resource import Resource
from reconciler.model.timer import Timer
from reconciler.source import secrets
from reconciler.source.git import Mirror, UnknownCommit
from reconciler.source.watch import local_path
from reconciler.source.webhook import normalise_url
from reconciler.store import chain, follows, jobs, timers
from reconciler.store.database import Connection
from specs.build import work_digest
from specs.build_work import first_branch
from specs.globs import branch_matches
from specs.references import secret_keys

T = TypeVar("T")
_BASELINE = ""  # the row of seen_tags that says: the tags of the first look are noted
_SOON = timedelta(seconds=30)
_SHORTLY = timedelta(seconds=1)
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Repository:
    """The code repository of a Build: URL and default branch, and the KEYs of the Secrets that it is fetched with and
    that sign its webhooks; None: the server's.
    """

    url: str
    branch: str | None
    secret: str | None = None
    webhook_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of a Build."""

    timers: Mapping[int, Timer]
    latest: Job | None
    tags: Mapping[str, str]
    follows: Mapping[int, Follow]
    version: int

    @property
    def has_job_for_spec(self) -> bool:
        """In any state."""
        return self.latest is not None

    def owed(self, now: datetime) -> bool:
        """Does a schedule or a `build` trigger owe a job now?"""
        due = (timer.next_due for timer in self.timers.values())
        return any(moment is not None and moment <= now for moment in due) or any(
            controller.owed_by_builds(self.follows, self.timers, position) for position in self.follows
        )


async def run(installation: Installation, key: str) -> datetime | None:
    """One look at one Build."""
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or resource.spec is None:
        return None
    repository = repository_of(installation, resource)
    work = work_digest(resource.spec, repository.url if repository else None)
    stored = await installation.database.read(
        lambda c: _stored(c, resource, work, leaders(installation, resource))
    )
    now = installation.now()
    spec = with_zone(resource.spec, installation.settings.timezone)
    heads, trouble = await _heads(installation, resource, repository, work, stored, now)
    if heads == [] and trouble is None and (stored.owed(now) or not stored.has_job_for_spec):
        patterns = ", ".join(spec.get("branches") or ())
        trouble = ("BranchMissing", f"no branch of {repository.url if repository else ''} matches {patterns}")
    latest, sure = await _standing(installation, resource, work, stored.latest)
    view = BuildView(
        key=key,
        spec=spec,
        work_digest=work,
        heads=heads,
        timers=stored.timers,
        trigger_digests={i: following.trigger_digest(t) for i, t in enumerate(spec.get("triggers") or ())},
        latest=latest,
        has_job_for_spec=stored.has_job_for_spec,
        trouble=trouble,
        follows=stored.follows,
        version=stored.version,
    )
    decision = controller.decide(view, now)
    made = await apply.make_jobs(installation, resource, work, decision)
    if made:
        wake_after(installation, key)  # without tasks to run it may have passed at once
        installation.wake("dispatch")  # the status can wait: the job's first step looks here again
        return min(decision.wake_at or now + _SHORTLY, now + _SHORTLY)
    health = decision.health if sure else resource.health
    await apply.set_status(installation, key, decision.sync, health, trouble)
    soon = trouble is not None or not sure
    return min(decision.wake_at or now + _SOON, now + _SOON) if soon else decision.wake_at


async def _standing(
    installation: Installation, resource: Resource, work: str, latest: Job | None
) -> tuple[Job | None, bool]:
    """The job that says how a Build is, and whether that can be told now."""
    if latest is None:
        return None, True
    try:
        main = await main_of(installation, resource)
    except SteersmanError:
        return latest, False
    if main is None or (latest.checkout.branch, latest.checkout.tree) == (main.branch, main.tree):
        return latest, True
    return await installation.database.read(lambda c: latest_of_main(c, resource, main, work)), True


def latest_of_main(
    connection: Connection, resource: Resource, main: Checkout, work: str | None
) -> Job | None:
    """The newest job of a Build's main branch; a tree that was built on another one is not built again."""
    of_tree = of_ref(resource.spec or {}, main) is None
    return jobs.latest_of_main(connection, resource.key, main, work, of_tree=of_tree)


async def main_of(installation: Installation, resource: Resource) -> Checkout | None:
    """The branch by which a Build is judged, with its head as it was fetched last: the first that it names, else the
    repository's own. None: it has no repository, or is for other branches only. SteersmanError: not known now.
    """
    repository, spec = repository_of(installation, resource), resource.spec or {}
    if repository is None:
        return None
    own, patterns = branch_of(spec, repository), spec.get("branches")

    async def look(mirror: Mirror) -> Checkout | None:
        name = own or await mirror.default_branch()
        head = await mirror.head(name) if name else None
        if name is None or (own is None and head is None):
            return None
        tree = await mirror.tree_of(head) if head else None
        return Checkout(repository.url, head, tree, name)

    main = await _as_it_is(installation, repository, look)
    theirs = main is None or (patterns and not branch_matches(patterns, str(main.branch)))
    return None if theirs else main


async def refs_of(installation: Installation, resource: Resource) -> tuple[set[str], set[str]]:
    """The branches and tags of a Build's repository, as they were fetched last. SteersmanError: not known now."""
    repository = repository_of(installation, resource)
    if repository is None:
        return set(), set()

    async def look(mirror: Mirror) -> tuple[set[str], set[str]]:
        return set(await mirror.heads()), set(await mirror.tags())

    return await _as_it_is(installation, repository, look)


async def _as_it_is(
    installation: Installation, repository: Repository, look: Callable[[Mirror], Awaitable[T]]
) -> T:
    """What is in the mirror, without a fetch. SteersmanError: not known now, also while a long fetch runs."""
    _check_local(installation, repository.url)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await look(await installation.mirrors.get(repository.url, repository.secret))
    except TimeoutError as error:
        raise Waiting("Fetching", f"{repository.url} is being fetched", after=None) from error


def wake_followers(
    installation: Installation, pushed: frozenset[str], signers: Collection[str | None] | None = None
) -> list[str]:
    """Repositories (normalised URLs) were pushed to: they, and their Builds, fetch and look again. Gives the KEYs.

    `signers` are the KEYs of the webhook secrets that say so (None among them: the server's); without it, all listen.
    """
    woken = []
    for key, resource in installation.snapshot.current.resources.items():
        repository = _followed(installation, resource)
        if repository is None or (signers is not None and repository.webhook_secret not in signers):
            continue
        if normalise_url(repository.url) in pushed:
            installation.mirrors.poke(repository.url, repository.secret)
            installation.wake(key)
            woken.append(key)
    return woken


def _followed(installation: Installation, resource: Resource) -> Repository | None:
    """The repository at which a Build looks by itself, or whose new heads are asked for."""
    if follows_heads(resource):
        return declared(installation, resource)
    return repository_of(installation, resource) if controller.looks(resource) else None


def leaders(installation: Installation, resource: Resource) -> dict[int, tuple[str, ...]]:
    """The KEYs that each `build` trigger of a Build follows, by position."""
    known = installation.snapshot.current.resources
    triggers = enumerate((resource.spec or {}).get("triggers") or ())
    return {i: following.leaders(resource, t, known) for i, t in triggers if t["type"] == "build"}


def wake_after(installation: Installation, key: str) -> None:
    """A job of a Build has ended: those that follow it look again."""
    if installation.followers is None:
        installation.followers = following.index(installation.snapshot.current.resources)
    for follower in installation.followers.get(key, ()):
        installation.wake(follower)


def repository_of(installation: Installation, resource: Resource) -> Repository | None:
    """The Build's `repo`: the name of a Repository of its project, or a URL."""
    spec = resource.spec or {}
    repo = spec.get("repo")
    if repo is None:
        return None
    known = installation.snapshot.current.resources
    named = known.get(f"Repository/{resource.project}/{repo}")
    found = (declared(installation, named) if named is not None else None) or Repository(repo, None)
    own = spec.get("private_key_ref")
    if own and by_ssh(found.url):
        keys = secret_keys(resource.project, resource.environment, own)
        return replace(found, secret=next((key for key in keys if key in known), keys[0]))
    return found


def declared(installation: Installation, resource: Resource) -> Repository | None:
    """What a Repository says, if it was ever valid."""
    spec, known = resource.spec, installation.snapshot.current.resources
    if spec is None:
        return None
    private_key = spec.get("private_key_ref") if by_ssh(spec["url"]) else None
    return Repository(
        spec["url"],
        spec.get("branch"),
        secret_of(resource.project, private_key, known),
        secret_of(resource.project, spec.get("webhook_secret_ref"), known),
    )


def webhook_secret(installation: Installation, key: str) -> bytes:
    """What signs the webhooks of Repositories that name this Secret. Stalled."""
    known = installation.snapshot.current.resources
    return secrets.opened(installation.keys, known.get, key, secrets.VALUE)


async def mirror_of(
    installation: Installation, url: str, max_age: float, secret: str | None = None
) -> Mirror:
    """The mirror of a code repository, fetched within `max_age` seconds; local paths need their setting.

    `secret` is the KEY of the Secret to fetch with.
    """
    _check_local(installation, url)
    return await installation.mirrors.fetched(url, max_age, secret)


def _check_local(installation: Installation, url: str) -> None:
    if local_path(url) is not None and not installation.settings.allow_local_repositories:
        raise Stalled(
            "LocalRepository",
            f"{url} is a path of this machine, which needs the setting allow_local_repositories "
            "(STEERSMAN_ALLOW_LOCAL_REPOSITORIES=1)",
        )


async def fresh(installation: Installation, key: str, repository: Repository, max_age: float) -> Mirror:
    """The mirror, if it is there soon; a slow remote goes on by itself and wakes KEY when it has answered."""
    url, secret = repository.url, repository.secret
    place = url if secret is None else f"{url} {secret}"
    at, failure = installation.fetch_failures.get(place, (None, None))
    if at is not None and failure is not None and timedelta(0) <= installation.now() - at < _SOON:
        raise failure
    fetching = asyncio.ensure_future(mirror_of(installation, url, max_age, secret))
    done, _ = await asyncio.wait({fetching}, timeout=_PATIENCE_SECONDS)
    if done:
        return await fetching

    def finished(task: asyncio.Future[Mirror]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SteersmanError):
            installation.fetch_failures[place] = (installation.now(), error)
        else:
            installation.fetch_failures.pop(place, None)
        installation.wake(key)

    fetching.add_done_callback(finished)
    raise Waiting("Fetching", f"{url} has not answered yet", after=None)


def with_zone(spec: Mapping[str, Any], timezone: str) -> Mapping[str, Any]:
    """The specification with the server's time zone where a schedule names none."""
    triggers = spec.get("triggers") or ()
    if not any(trigger.get("cron") and not trigger.get("timezone") for trigger in triggers):
        return spec
    zoned = [
        trigger if trigger.get("timezone") else {**trigger, "timezone": timezone} for trigger in triggers
    ]
    return {**spec, "triggers": zoned}


def branch_of(spec: Mapping[str, Any], repository: Repository) -> str | None:
    """The first branch: what a start without a branch checks out. None: the remote's default."""
    return first_branch(spec) or repository.branch


def _stored(
    connection: Connection, resource: Resource, work: str, leaders: Mapping[int, tuple[str, ...]]
) -> Stored:
    key = resource.key
    return Stored(
        timers=timers.load(connection, key),
        latest=jobs.latest_of_spec(connection, key, work),
        tags=timers.load_tags(connection, key) if (resource.spec or {}).get("tags") else {},
        follows=follows_of(connection, leaders),
        version=chain.version(connection) if leaders else 0,
    )


def follows_of(connection: Connection, leaders: Mapping[int, tuple[str, ...]]) -> dict[int, Follow]:
    """What each `build` trigger of a Build looks at, by position."""
    return {position: Follow(keys, follows.passes(connection, keys)) for position, keys in leaders.items()}


def _max_age(spec: Mapping[str, Any], stored: Stored, now: datetime, resync_seconds: float) -> float | None:
    """How fresh the mirror must be; None: its heads are not needed now."""
    triggers = spec.get("triggers") or ()
    polls = [float(t["interval_seconds"]) for t in triggers if t["type"] == "poll"]
    if polls:
        return min(polls) * 0.9
    if any(t["type"] == "webhook" for t in triggers):
        return resync_seconds  # a push whose hook was lost is found then
    change = any(t["type"] == "change" for t in triggers) and not stored.has_job_for_spec
    return 5.0 if change or stored.owed(now) else None


async def _heads(
    installation: Installation,
    resource: Resource,
    repository: Repository | None,
    work: str,
    stored: Stored,
    now: datetime,
) -> tuple[list[Head] | None, tuple[str, str] | None]:
    """Heads that match, with what is owed; or why they are unknown."""
    spec = resource.spec or {}
    max_age = _max_age(spec, stored, now, installation.settings.resync_seconds)
    if repository is None or spec.get("disabled") or max_age is None:
        return None, None
    try:
        mirror = await fresh(installation, resource.key, repository, max_age)
        checkouts = await _checkouts(installation, resource, repository, mirror, stored)
        heads = await _judged(installation, resource.key, spec, work, mirror, checkouts)
        return heads, _deaf(installation, spec, repository)
    except SteersmanError as error:
        return None, (error.reason, error.message)


def _deaf(
    installation: Installation, spec: Mapping[str, Any], repository: Repository
) -> tuple[str, str] | None:
    """Why the webhooks that a Build waits for cannot be checked."""
    key = repository.webhook_secret
    if key is None or not any(trigger["type"] == "webhook" for trigger in spec.get("triggers") or ()):
        return None
    try:
        webhook_secret(installation, key)
    except Stalled as error:
        return error.reason, f"no webhook of {repository.url} is accepted: {error.message}"
    return None


async def _checkouts(
    installation: Installation, resource: Resource, repository: Repository, mirror: Mirror, stored: Stored
) -> list[Checkout]:
    spec = resource.spec or {}
    found: list[Checkout] = []
    patterns = spec.get("branches")
    if patterns:
        for name, commit in sorted((await mirror.heads()).items()):
            if branch_matches(patterns, name):
                found.append(await _checkout(mirror, repository, commit, branch=name))
        first = branch_of(spec, repository)
        found.sort(key=lambda checkout: checkout.branch != first)
    else:
        branch = branch_of(spec, repository) or await mirror.default_branch()
        head = await mirror.head(branch) if branch else None
        if branch is None or head is None:
            what = f"no branch {branch}" if branch else "no commits yet"
            raise Stalled("BranchMissing", f"{repository.url} has {what}")
        found.append(await _checkout(mirror, repository, head, branch=branch))
    if spec.get("tags"):
        found += await _new_tags(installation, resource, repository, mirror, stored)
    return found


async def _new_tags(
    installation: Installation, resource: Resource, repository: Repository, mirror: Mirror, stored: Stored
) -> list[Checkout]:
    """Tags that came, or moved, after the first look at this Build."""
    tags = {
        name: commit
        for name, commit in (await mirror.tags()).items()
        if branch_matches((resource.spec or {})["tags"], name)
    }
    if _BASELINE not in stored.tags:
        noted = tags | {_BASELINE: ""}
        await installation.database.write(lambda w: timers.save_tags(w.connection, resource.key, noted))
        return []
    fresh = {name: commit for name, commit in tags.items() if stored.tags.get(name) != commit}
    return [await _checkout(mirror, repository, commit, tag=name) for name, commit in sorted(fresh.items())]


async def _checkout(
    mirror: Mirror, repository: Repository, commit: str, *, branch: str | None = None, tag: str | None = None
) -> Checkout:
    tree = await mirror.tree_of(commit)
    return Checkout(repository.url, commit, tree, branch, tag, repository.secret)


async def _judged(
    installation: Installation,
    key: str,
    spec: Mapping[str, Any],
    work: str,
    mirror: Mirror,
    found: list[Checkout],
) -> list[Head]:
    def ask(connection: Connection) -> tuple[set[Checkout], dict[str | None, str | None]]:
        done = {c for c in found if jobs.exists(connection, key, work, c.tree, of_ref(spec, c))}
        return done, {c.branch: jobs.last_commit(connection, key, c.branch) for c in found if c.branch}

    done, last = await installation.database.read(ask)
    reused = {c.tag: c.commit for c in found if c.tag and c.commit and c in done}
    if reused:  # a tag on a tree that has a job is judged: it must not be owed one when that job is forgotten
        await installation.database.write(lambda w: timers.save_tags(w.connection, key, reused))
    heads = []
    for checkout in found:
        owed = checkout not in done
        changed = None
        if (
            owed
            and checkout.commit
            and (spec.get("build_on_file_changes") or spec.get("ignore_file_changes"))
        ):
            changed = await _changed(mirror, last.get(checkout.branch), checkout.commit)
        heads.append(Head(checkout, owed, changed))
    return heads


async def _changed(mirror: Mirror, old: str | None, new: str) -> tuple[str, ...] | None:
    if old is None:
        return None
    try:
        return tuple(change.path for change in await mirror.diff(old, new))
    except UnknownCommit:
        return None
