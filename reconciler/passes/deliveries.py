"""The pass of the name `deliveries`: webhooks and mails that a job asked for, once it has ended (builds-srht 6).

In their order, each once; one that was under way when the daemon was killed is sent again. What comes of it changes
no state, and is noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import structlog

from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.store import deliveries as rows
from reconciler.store import jobs as job_rows
from reconciler.store.database import Write
from reconciler.store.deliveries import FAILED, SENT, Delivery

log = structlog.get_logger(__name__)
NAME = "deliveries"
_AT_ONCE = 8
_MARKS = {"success": "✓", "failed": "✗"}


async def run(installation: Installation) -> None:
    """Send all that are due."""
    found = await installation.database.read(rows.pending)
    turns = asyncio.Semaphore(_AT_ONCE)
    of_jobs = [list(group) for _, group in groupby(found, key=lambda each: each.job)]
    await asyncio.gather(*(_of_job(installation, group, turns) for group in of_jobs))


async def _of_job(installation: Installation, found: Sequence[Delivery], turns: asyncio.Semaphore) -> None:
    async with turns:
        job = await installation.database.read(lambda c: job_rows.load(c, found[0].job))
        describe = installation.described.get(str(job.trigger.get("type"))) if job is not None else None
        if job is None or describe is None:
            return
        shown = describe(job)
        for delivery in found:
            state, note = await _send(installation, job, shown, delivery.trigger)
            if state == FAILED:
                log.warning("not-delivered", job=job.number, message=note)
            await installation.database.write(partial(_end, delivery, state, note))


def _end(delivery: Delivery, state: str, note: str, write: Write) -> None:
    rows.end(write.connection, delivery, state, note, write.now)


async def _send(
    installation: Installation, job: Job, shown: Mapping[str, Any], trigger: Mapping[str, Any]
) -> tuple[str, str]:
    from reconciler.sending import mail, webhook  # only who sends something pays for it

    settings = installation.settings
    try:
        if trigger["action"] == "webhook":
            body = msgspec.json.encode({name: value for name, value in shown.items() if name != "tags"})
            url, private = str(trigger["url"]), settings.private_addresses
            status, answer = await webhook.post(installation.keys, url, body, private=private)
            told = f"{url} answered {status}: {answer.decode(errors='replace')}"
            return (SENT if status < 400 else FAILED), told
        if settings.smtp is None:
            return FAILED, "no mail was sent: this server has no mail server (the setting `smtp`)"
        written = mail.Mail(_subject(shown), _text(installation, job, shown), *_addresses(trigger))
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
