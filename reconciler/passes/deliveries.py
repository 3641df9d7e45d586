"""The pass of the name `deliveries`: webhooks and mails that a job asked for, once it has ended (builds-srht 6).

In their order, each once; one that was under way when the daemon was killed is sent again. What comes of it changes
no state, and is noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import structlog

from reconciler.errors import SteersmanError
from reconciler.installation import STARTING, Installation
from reconciler.model.job import Job, JobGroup
from reconciler.store import deliveries as rows
from reconciler.store import job_groups
from reconciler.store import jobs as job_rows
from reconciler.store.database import Write
from reconciler.store.deliveries import FAILED, SENT, Delivery

log = structlog.get_logger(__name__)
NAME = "deliveries"
_AT_ONCE = 8
_MARKS = {"success": "✓", "failed": "✗"}


async def run(installation: Installation) -> datetime | None:
    """Send all that are due; gives when to look again, if it cannot be said yet what they are about."""
    found = await installation.database.read(rows.pending)
    if found and installation.describe_job is None:
        return installation.now() + STARTING
    turns = asyncio.Semaphore(_AT_ONCE)
    of_jobs = [list(group) for _, group in groupby(found, key=lambda each: each.job)]
    await asyncio.gather(*(_of_job(installation, group, turns) for group in of_jobs))
    return None


async def _of_job(installation: Installation, found: Sequence[Delivery], turns: asyncio.Semaphore) -> None:
    async with turns:
        for delivery in found:
            letter = await _letter(installation, delivery)
            if letter is None:
                continue
            state, note = await _send(installation, letter, delivery.trigger)
            if state == FAILED:
                log.warning("not-delivered", job=delivery.job, action=delivery.trigger["action"])
            await installation.database.write(partial(_end, delivery, state, note))


@dataclass(frozen=True, slots=True)
class _Letter:
    """What is sent: as JSON to a webhook, or as text in a mail."""

    body: Mapping[str, Any]
    subject: str
    text: str


async def _letter(installation: Installation, delivery: Delivery) -> _Letter | None:
    """What there is to say of the job, or of the group whose last job it was; None: it is no more."""
    number = delivery.trigger.get("group")
    if number is not None:
        group = await installation.database.read(lambda c: job_groups.load(c, int(number)))
        return None if group is None else _of_group(installation, group)
    job = await installation.database.read(lambda c: job_rows.load(c, delivery.job))
    if job is None or installation.describe_job is None:
        return None
    shown = installation.describe_job(job)
    body = {name: value for name, value in shown.items() if name != "tags"}
    return _Letter(body, _subject(shown), _text(installation, job, shown))


def _of_group(installation: Installation, group: JobGroup) -> _Letter | None:
    if installation.describe_group is None:
        return None
    shown = installation.describe_group(group)
    lines = [f"Job group #{group.number}: {str(shown['status']).upper()}", ""]
    lines += [str(group.note), ""] if group.note else []
    owner = shown["owner"]["canonical_name"]
    for job in shown["jobs"]:
        mark = _MARKS.get(job["status"], "-")
        lines.append(f"{mark} #{job['id']} {job['status']}: {installation.url}/{owner}/job/{job['id']}")
    body = {name: value for name, value in shown.items() if name != "status"}
    return _Letter(body, f"[builds] group #{group.number} {shown['status']}", "\n".join(lines) + "\n")


def _end(delivery: Delivery, state: str, note: str, write: Write) -> None:
    rows.end(write.connection, delivery, state, note, write.now)


async def _send(installation: Installation, letter: _Letter, trigger: Mapping[str, Any]) -> tuple[str, str]:
    from reconciler.sending import mail, webhook  # only who sends something pays for it

    settings = installation.settings
    try:
        if trigger["action"] == "webhook":
            body = msgspec.json.encode(letter.body)
            url, private = str(trigger["url"]), settings.private_addresses
            status, answer = await webhook.post(installation.keys, url, body, private=private)
            told = f"{url} answered {status}: {answer.decode(errors='replace')}"
            return (SENT if status < 400 else FAILED), told
        if settings.smtp is None:
            return FAILED, "no mail was sent: this server has no mail server (the setting `smtp`)"
        written = mail.Mail(letter.subject, letter.text, *_addresses(trigger))
        await asyncio.to_thread(mail.send, settings.smtp, written)
        return SENT, f"a mail was sent to {written.to or written.cc}"
    except SteersmanError as error:
        return FAILED, error.message


def _addresses(trigger: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    return trigger.get("to"), trigger.get("cc"), trigger.get("in_reply_to")


def _subject(shown: Mapping[str, Any]) -> str:
    return f"[{shown.get('tags') or 'builds'}] {shown['status']}"


def _text(installation: Installation, job: Job, shown: Mapping[str, Any]) -> str:
    """Number, status, how long it took, note, address, and a line for each task (builds-srht 6)."""
    took = ""
    if job.started_at is not None and job.finished_at is not None:
        took = f" after {round((job.finished_at - job.started_at).total_seconds())} s"
    owner = shown["owner"]["canonical_name"]
    lines = [f"Job #{shown['id']}: {str(shown['status']).upper()}{took}", ""]
    lines += [str(shown["note"]), ""] if shown.get("note") else []
    lines += [f"{installation.url}/{owner}/job/{shown['id']}", ""]
    tasks = [task for task in shown["tasks"] if not task["name"].startswith("_")]
    lines += [f"{_MARKS.get(task['status'], '-')} {task['name']}" for task in tasks]
    return "\n".join(lines) + "\n"
