"""Carries out what `controllers.dispatch` decides: claims in one transaction, then trials begin, here or elsewhere."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from reconciler.controllers.turns import Assignment
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.model.queue import Changes
from reconciler.store import jobs as rows
from reconciler.store import orders, workers
from reconciler.store import queue as queue_rows
from reconciler.store.database import Connection, Write
from reconciler.store.jobs import LiveTrial
from reconciler.store.workers import Worker


async def start(
    installation: Installation, assignments: Sequence[Assignment], places: Mapping[str, Place]
) -> bool:
    """Claim the chosen trials; those for this process begin, the others are on their way. False: some were no longer to
    be had.

    Where nothing has to be fetched first, a claim for this process is a beginning: one transaction instead of two.
    """
    runs = installation.runs
    others = {worker.id: worker for worker in installation.crew if worker.id != runs.instance}
    handed = await _handed(installation, assignments, others)
    worker, term = runs.worker, runs.term
    lost: set[str] = set()

    def claim(write: Write) -> tuple[list[tuple[LiveTrial, Job]], Changes | None, int]:
        claimed: list[tuple[LiveTrial, Job]] = []
        sent: defaultdict[str, list[str]] = defaultdict(list)
        lost.update(
            workers.lost(write.connection, {at for each in assignments if (at := _at(each)) in others})
        )
        for chosen in assignments:
            executor, _, at = chosen.executor.partition("@")
            other = others.get(at)
            if at in lost:  # since it was chosen: nobody would look at what is claimed for it
                continue
            signature, ready = (worker, chosen.ready) if other is None else (other.signature, False)
            found = rows.start(write, chosen.trial, executor, signature, ready=ready)
            if found is None:
                continue
            if other is not None:
                sent[at].append(chosen.trial)
                if chosen.trial in handed:
                    orders.save(write.connection, chosen.trial, handed[chosen.trial])
                continue
            trial, job = found
            if trial.policy.get("needs"):  # only then is more than the job itself looked at
                job = rows.load(write.connection, job.number) or job
            claimed.append((trial, job))
        for at, trials in sent.items():
            if installation.carrier is not None:
                installation.carrier.send(write.connection, at, trials)
        return claimed, changes(installation, write), sum(map(len, sent.values()))

    claimed, seen, sent = await installation.database.write(claim, prompt=True)
    if seen is not None:
        installation.queue.take(seen)
    _are_lost(installation, lost)
    for trial, job in claimed:
        runs.begin(trial, job, places[trial.executor or ""], term)
    return len(claimed) + sent == len(assignments)


def _are_lost(installation: Installation, some: Collection[str]) -> None:
    """Until the next heart-beat says so, nothing more is chosen for them."""
    if some:
        now = installation.now()
        installation.crew = [
            replace(each, lost_at=now) if each.id in some else each for each in installation.crew
        ]


def _at(chosen: Assignment) -> str:
    """The id of the worker."""
    return chosen.executor.partition("@")[2]


def changes(installation: Installation, write: Write) -> Changes | None:
    """What the queue has not been told yet, at the end of a transaction: it spares dispatch one of its own."""
    since = installation.queue.version
    return None if since is None else queue_rows.changed(write.connection, since, write.version)


async def _handed(
    installation: Installation, assignments: Sequence[Assignment], others: Mapping[str, Worker]
) -> dict[str, str]:
    """By trial, what a worker needs of secrets, sealed to its key. Daemons have the server's own."""
    wanted = {
        chosen.trial: others[at]
        for chosen in assignments
        if (at := _at(chosen)) in others and not others[at].is_daemon
    }
    if not wanted:
        return {}
    found = await installation.database.read(partial(_with_jobs, tuple(wanted)))

    def seal() -> dict[str, str]:
        return {
            trial.id: installation.secrets.handed(
                job.key, trial, _of_checkout(job), wanted[trial.id].recipient
            )
            for trial, job in found
        }

    return await asyncio.to_thread(seal)


def _with_jobs(trials: Sequence[str], connection: Connection) -> list[tuple[LiveTrial, Job]]:
    found: list[tuple[LiveTrial, Job]] = []
    for trial in (live for each in trials for live in rows.live_trials(connection, each)):
        job = rows.load(connection, trial.job, scripts=False)
        found += [(trial, job)] if job is not None else []
    return found


def _of_checkout(job: Job) -> list[str]:
    """The KEY of the Secret that its repository is fetched with."""
    return [job.checkout.secret] if job.checkout.secret is not None else []
