"""The pass `gate`: executions of Deployments that wait until they may go, all in one look (design 8.2).

Level-triggered: a commit, a verdict, a time that has come only wake the name. What is asked of people and of other
servers is registered as a request once the calendar is open, and counts for exactly what was asked (`Deploy.digest`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from reconciler.apply import gate as apply
from reconciler.apply import requests as request_apply
from reconciler.controllers import gate as controller
from reconciler.controllers import holding
from reconciler.controllers.gate import Asked, Rules
from reconciler.controllers.holding import Answers, Calendars, Candidate
from reconciler.controllers.holding import Judgement as Judgement
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.gate import NAME as NAME
from reconciler.model.gate import Blocker, Deploy, deploy_of
from reconciler.model.job import Job
from reconciler.model.request import Request, Subject, Verdict
from reconciler.model.resource import Resource
from reconciler.passes import commits
from reconciler.passes.authority import authority_of
from reconciler.store import approvals, deployments, holds, jobs, requests
from reconciler.store.database import Connection, Write
from reconciler.store.holds import Hold

log = structlog.get_logger(__name__)
GATED = frozenset({Type.DEPLOY, Type.DESTROY, Type.ERRAND})
"""What changes something; a check and a smoke test only look."""

_TOGETHER = 100
_MANY = 1_000


def rules_of(installation: Installation) -> Rules:
    """All that is declared about holding, made once for each change of it."""
    return _known(installation)[0]


def _known(installation: Installation) -> tuple[Rules, Calendars]:
    found = installation.snapshot.current.of_kinds(controller.KINDS)
    if installation.gate is None or installation.gate[0] is not found:
        installation.gate = found, controller.rules(found.values(), installation.settings.timezone), {}
    return installation.gate[1:]


def rules_after(installation: Installation, upserts: Iterable[Resource], removals: Iterable[str]) -> Rules:
    """Those that will be in force after a change; the very same as now where it changes none."""
    view = installation.snapshot.current
    found = view.with_changes(view.version, upserts, removals).of_kinds(controller.KINDS)
    if found == view.of_kinds(controller.KINDS):
        return rules_of(installation)
    return controller.rules(found.values(), installation.settings.timezone)


async def look(installation: Installation, deploys: Sequence[Deploy]) -> list[Judgement]:
    """May these begin, which are not made yet? Nothing is asked of anybody."""
    now = installation.now()
    return await look_by(installation, rules_of(installation), [Candidate(deploy, now) for deploy in deploys])


async def look_by(
    installation: Installation, known: Rules, candidates: Sequence[Candidate]
) -> list[Judgement]:
    """May these begin by some rules, be they in force or not? Nothing is asked of anybody."""
    return [judgement for judgement, _ in await _judged(installation, candidates, known)]


async def look_once(
    installation: Installation, deploy: Deploy, job: int | None, since: datetime
) -> tuple[Deploy, Judgement, dict[str, datetime]]:
    """One of them as it is now, what is in its way, and the Freezes that it has been let through."""
    candidate = Candidate(deploy, since, job)
    known = rules_of(installation)
    answers = await _answers(installation, known, [candidate])
    judgement = holding.judge(known, candidate, answers, installation.now(), {})
    passed = holding.passes(known, candidate, answers, installation.now())
    return holding.fresh(deploy, answers), judgement, passed


async def run(installation: Installation) -> datetime | None:
    """One look at all that is held; gives the time at which a calendar changes."""
    held = await installation.database.read(holds.live)
    await _close(installation, {hold.digest for hold in held})
    if not held:
        return None
    candidates = [Candidate(deploy_of(hold.subject), hold.since, hold.job) for hold in held]
    judged = await _judged(installation, candidates)
    asks = [
        (candidate, asked)
        for candidate, (judgement, _) in zip(candidates, judged, strict=True)
        for asked in judgement.register
    ]
    if asks:
        await _register(installation, asks)
        judged = await _judged(installation, candidates)
    opened = [hold for hold, (judgement, _) in zip(held, judged, strict=True) if judgement.open]
    told = [
        (hold, judgement)
        for hold, (judgement, causes) in zip(held, judged, strict=True)
        if not judgement.open and (causes != list(hold.causes) or judgement.opens_at != hold.opens_at)
    ]
    await _tell(installation, told)
    await _let_go(installation, opened)
    times = [judgement.again_at for judgement, _ in judged]
    return min((at for at in times if at is not None), default=None)


async def _judged(
    installation: Installation, candidates: Sequence[Candidate], rules: Rules | None = None
) -> list[tuple[Judgement, list[dict[str, Any]]]]:
    """Each with its causes as they are stored. One that cannot be judged waits, and harms no other.

    `rules`: instead of those in force.
    """
    (known, seen), now = _known(installation), installation.now()
    if rules is not None and rules is not known:
        known, seen = rules, {}
    if not known.any:
        return [(Judgement(), []) for _ in candidates]
    if len(seen) > _MANY:
        seen.clear()
    answers = await _answers(installation, known, candidates)
    found = []
    for candidate in candidates:
        try:
            judgement = holding.judge(known, candidate, answers, now, seen)
        except Exception as error:  # a fault of ours, which must not let anything go
            log.error("not-judged", key=candidate.deploy.key, exc_info=error)
            told = f"what holds {candidate.deploy.key} cannot be judged: {type(error).__name__}, see the daemon's log"
            judgement = Judgement((Blocker("CannotJudge", told),))
        found.append((judgement, _told(judgement.causes)))
    return found


async def sift(installation: Installation, numbers: Collection[int]) -> frozenset[int]:
    """Of executions that are about to start, those that must wait after all: they are held again."""
    if not rules_of(installation).any or not numbers:
        return frozenset()
    found = await installation.database.read(lambda c: jobs.load_many(c, list(numbers)))
    some = [(job, deploy) for job in found if (deploy := _of_job(job)) is not None]
    judged = await _judged(
        installation, [Candidate(deploy, job.created_at, job.number) for job, deploy in some]
    )
    shut = [
        (job, deploy, judgement)
        for (job, deploy), (judgement, _) in zip(some, judged, strict=True)
        if not judgement.open
    ]

    def work(write: Write) -> None:
        for job, deploy, judgement in shut:
            apply.hold_again(write, job, hold_of(job.number, deploy, judgement, job.created_at))

    if shut:
        await installation.database.write(work)
        installation.wake(NAME)
    return frozenset(job.number for job, _, _ in shut)


def _of_job(job: Job) -> Deploy | None:
    """What an execution of a Deployment does."""
    stored = next((task.policy["stages"].get("gate") for task in job.tasks if "stages" in task.policy), None)
    return deploy_of(stored) if stored else None


def hold_of(number: int, deploy: Deploy, judgement: Judgement, since: datetime) -> Hold:
    """The row of one that has to wait."""
    causes = tuple(_told(judgement.causes))
    return Hold(
        number,
        deploy.key,
        deploy.type.value,
        deploy.digest,
        deploy.to_dict(),
        causes,
        since,
        judgement.opens_at,
    )


def _told(causes: Iterable[Blocker]) -> list[dict[str, Any]]:
    return [cause.to_dict() for cause in causes]


async def _answers(installation: Installation, known: Rules, candidates: Sequence[Candidate]) -> Answers:
    """All that was said about them."""
    return await installation.database.read(partial(_read, installation, known, candidates))


def _read(
    installation: Installation, known: Rules, candidates: Sequence[Candidate], connection: Connection
) -> Answers:
    standing = {
        key: deployments.deployed_of(connection, state_of.of(key))
        for key in {candidate.deploy.key for candidate in candidates}
    }
    told = Answers(standing=standing)
    wanted = {
        (asked.application.lower(), candidate.deploy.digest): candidate.deploy.key
        for candidate in candidates
        for asked in controller.asked(known, holding.fresh(candidate.deploy, told))
    }
    found = requests.newest_of_all(connection, {digest for _, digest in wanted})
    found = {each: request for each, request in found.items() if each in wanted}
    missing = {
        (application, wanted[application, digest]) for application, digest in wanted.keys() - found.keys()
    }
    pending = [request for request in found.values() if request.state is Verdict.PENDING]
    return Answers(
        found,
        request_apply.all_waits(connection, pending, authority_of(installation)),
        _passes(connection, known, candidates, told),
        _before(connection, missing),
        standing,
    )


def _passes(
    connection: Connection, known: Rules, candidates: Sequence[Candidate], told: Answers
) -> dict[tuple[str, int, str], dict[str, datetime | None]]:
    """Who has let which job through which Freeze, until when."""
    found: dict[tuple[str, int, str], dict[str, datetime | None]] = {}
    for candidate in candidates:
        for freeze in controller.freezes_of(known, holding.fresh(candidate.deploy, told)):
            if (freeze.spec or {})["pass"] is None or candidate.job is None:
                continue
            subject, digest = pass_subject(freeze.key, candidate.job), candidate.deploy.digest
            given = approvals.of(connection, subject, digest)
            found[freeze.key, candidate.job, digest] = {each.actor: each.until for each in given}
    return found


def pass_subject(freeze: str, job: int) -> str:
    """The subject of what people say to a job that a Freeze holds."""
    return f"{freeze} job {job}"


async def _close(installation: Installation, digests: Collection[str]) -> None:
    """Requests for what nobody waits for any more end; whoever asks again asks anew."""
    found = await installation.database.read(requests.waiting)
    stale = [request for request, digest in found.items() if digest not in digests]

    def work(write: Write) -> None:
        held = {hold.digest for hold in holds.live(write.connection)}
        for number in stale:
            request = requests.find(write.connection, number)
            if request is not None and not request.final and request.digest not in held:
                requests.supersede(write, request)

    if stale:
        await installation.database.write(work)


async def _register(installation: Installation, asks: Sequence[tuple[Candidate, Asked]]) -> None:
    """Ask for approval of just this, once in each name; what the time alone decides is judged at once."""
    zone = installation.settings.timezone
    wrote: dict[str, frozenset[str]] = {}
    known = {(asked.application.lower(), candidate.deploy.key) for candidate, asked in asks}
    before = await installation.database.read(lambda c: _before(c, known))

    def work(some: Sequence[tuple[Job, Deploy, Asked, tuple[str, ...]]], write: Write) -> None:
        apply.ask(write, some, before, zone)
        write.wake(NAME)  # to tell what they wait for

    for start in range(0, len(asks), _TOGETHER):
        chosen = asks[start : start + _TOGETHER]
        numbers = list({candidate.job or 0 for candidate, _ in chosen})
        found = await installation.database.read(partial(jobs.load_many, numbers=numbers))
        by_number = {job.number: job for job in found}
        ready = [
            (job, candidate.deploy, asked, await _authors(installation, job, wrote))
            for candidate, asked in chosen
            if (job := by_number.get(candidate.job or 0)) is not None
        ]
        await installation.database.write(partial(work, ready))


def _before(connection: Connection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Request]:
    """What was asked last, by application and KEY."""
    found: dict[tuple[str, str], Request] = {}
    for application in {application for application, _ in wanted}:
        for request in reversed(requests.of_application(connection, application, _MANY, 0)):
            if request.subject is not None and (application, request.subject.target) in wanted:
                found[application, request.subject.target] = request
    return found


async def _authors(installation: Installation, job: Job, wrote: dict[str, frozenset[str]]) -> tuple[str, ...]:
    """Who has brought this about: who triggered it, and who wrote the commits that declare it and what is around it.

    `wrote`: by commit, those that are known already.
    """
    found = {job.actor} if job.actor.startswith(("User/", "ServiceAccount/")) else set()
    if user := job.trigger.get("user"):
        found.add(f"User/{user}")
    _, project, environment, _ = job.key.split("/", 3)
    around = installation.snapshot.current.resources.get(f"Environment/{project}/{environment}")
    revisions = {job.specification.get("revision"), around.revision if around is not None else None}
    for revision in filter(None, revisions):
        if revision not in wrote:
            wrote[revision] = await commits.authors_of(installation, str(revision))
        found |= wrote[revision]
    return tuple(sorted(found))


async def _tell(installation: Installation, told: Sequence[tuple[Hold, Judgement]]) -> None:
    """What keeps them by now."""

    def work(some: Sequence[tuple[Hold, Judgement]], write: Write) -> None:
        for hold, judgement in some:
            holds.tell(write, hold.job, _told(judgement.causes), judgement.opens_at)
            write.wake(hold.key)

    for start in range(0, len(told), _TOGETHER):
        await installation.database.write(partial(work, told[start : start + _TOGETHER]))


async def _let_go(installation: Installation, opened: Sequence[Hold]) -> None:
    """Nothing stands in their way any more, unless another execution is at it."""

    def work(some: Sequence[Hold], write: Write) -> None:
        busy = [hold for hold in some if not apply.let_go(write, hold)]
        holds.drop(write, {hold.job for hold in some} - {hold.job for hold in busy})
        for hold in busy:
            told = f"another execution is at {hold.key}"
            holds.tell(write, hold.job, [Blocker(apply.BUSY, told).to_dict()], None)
            write.wake(hold.key)

    for start in range(0, len(opened), _TOGETHER):
        await installation.database.write(partial(work, opened[start : start + _TOGETHER]))


async def shut(installation: Installation, key: str, release: str, version: str) -> str | None:
    """Why a step of a build may not deploy there now: it cannot wait, so it fails, and says why. None: it may."""
    known = rules_of(installation)
    if not known.any:
        return None
    deploy = Deploy(Type.DEPLOY, Subject(key, "", "", "", version), release)
    causes = controller.blockers(known, deploy, {}, installation.now())
    told = [cause.message for cause in causes]
    told += [
        f"{asked.application} needs approval in {deploy.environment}, which is asked for where a Deployment is declared"
        for asked in controller.asked(known, deploy)
        if asked.gates and controller.asks_somebody(known, asked)
    ]
    return "; ".join(told) or None
