"""What external workers tell of executions: entries of the log, the commit, how it goes (escape-state, 12.2, BX6).

A worker shows the execution's token, or is somebody who may write. All that is known of it stands in the record of the
execution, which nobody else writes while it has been handed over; a final status is carried out by the run itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reconciler.access import Caller, require
from reconciler.credentials import Execution as Trial
from reconciler.credentials import execution_token
from reconciler.errors import Conflict, Forbidden, NotFound, Refused, Stalled
from reconciler.execution.log_lines import LONGEST
from reconciler.execution.logs import cut
from reconciler.execution.masking import Masker
from reconciler.installation import Installation
from reconciler.model.execution import FINAL, HANDED_BYTES, HANDED_ENTRIES, Execution, from_ulid
from reconciler.source.secrets import SSH_KEY, VALUE, opened
from reconciler.store import executions, jobs, pushed
from reconciler.store.database import Write
from specs.meta import parse_key

_MOST_SECONDS = 10.0
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Push:
    """What a worker says. `offset`: how many entries it has sent before, None: it does not count.

    `entries`: each with all its fields; `step_status` is that of `step`; `status` other than `running` is the last.
    """

    entries: Sequence[Mapping[str, Any]] = ()
    offset: int | None = None
    step: int | None = None
    step_status: str | None = None
    status: str | None = None
    status_reason: str = ""
    releases: Sequence[str] = field(default_factory=tuple)


async def writable(installation: Installation, caller: Caller, key: str, execution: str) -> Execution:
    """The execution, for those who may write to it: its own token, or the role. NotFound, Forbidden.

    Conflict for its own token where that is of no use any more: it may be that nobody heard that all was taken.
    """
    missing = NotFound("NoSuchExecution", f"there is no execution {execution[:64]!r} of {key}")
    job = from_ulid(execution)
    number = None if job is None else await installation.database.read(lambda c: jobs.by_id(c, job))
    found = None if number is None else await installation.database.read(lambda c: executions.load(c, number))
    if found is None or found.job.key != key:
        raise missing
    if caller.over:
        raise _finished() if caller.job == found.job.number else missing
    if caller.running:
        if caller.job != found.job.number:
            raise Forbidden("Forbidden", "an execution's token is good for that execution only")
    elif not caller.sees(key):
        raise missing
    else:
        require(installation, caller, "trigger", key)
    return found


async def push(installation: Installation, caller: Caller, found: Execution, said: Push) -> dict[str, Any]:
    """Take what a worker says; {accepted, last_seq}, and `cancel_requested` where it should stop. Conflict, Refused."""
    if found.worker is None:
        raise Conflict(
            "NotExternal",
            f"{found.job.key} runs on this server, which keeps the log itself; set remote_escape_worker_url to hand "
            "it over",
        )
    masker = await asyncio.to_thread(_masker, installation, found)
    most = installation.settings.log_bytes
    accepted, last, stop = await installation.database.write(
        lambda w: _store(w, found.job.number, said, masker, most), caller.actor
    )
    if said.status in ("ok", "failed"):
        await _ended(installation, found.job.number)
    answer: dict[str, Any] = {"accepted": accepted, "last_seq": last}
    return answer | ({"cancel_requested": True} if stop else {})


async def set_commit(
    installation: Installation, caller: Caller, found: Execution, commit: Mapping[str, Any]
) -> None:
    """Note the commit that is being built. Conflict where it is known to be another one, or all is over."""

    def work(write: Write) -> None:
        current = _unfinished(write, found.job.number)
        known = (current.record.get("commit") or {}).get("git_revision")
        if known is None and current.worker is None:
            known = current.job.checkout.commit
        if known is not None and known != commit["git_revision"]:
            raise Conflict("CommitMismatch", f"this execution builds {known}, not {commit['git_revision']}")
        if current.worker is None:
            return  # it is told by the run itself
        record = {**current.record, "commit": {**(current.record.get("commit") or {}), **commit}}
        executions.save_record(write.connection, current.job.number, record)
        executions.heard(write.connection, current.job.number, write.now)
        jobs.touch(write.connection, current.job.number, write.version)

    await installation.database.write(work, caller.actor)


async def heard(installation: Installation, number: int) -> None:
    """The worker is there: it holds a connection."""
    await installation.database.write(lambda w: executions.heard(w.connection, number, w.now))


def _unfinished(write: Write, number: int) -> Execution:
    """As it is now, unless it has ended or is about to."""
    current = executions.load(write.connection, number)
    if current is None or current.job.state.finished or current.record.get(FINAL):
        raise _finished()
    return current


def _finished() -> Conflict:
    return Conflict("AlreadyFinished", "the execution has ended, and its log is closed")


def _store(write: Write, number: int, said: Push, masker: Masker, most: int) -> tuple[int, int, bool]:
    current = _unfinished(write, number)
    record = dict(current.record)
    known = int(record.get(HANDED_ENTRIES) or 0)
    offset = known if said.offset is None else said.offset
    if offset > known:
        raise Refused("InvalidField", f"offset: {offset} entries were sent before, but {known} have arrived")
    fresh = list(said.entries)[known - offset :]
    parts = [part for entry in fresh for part in _parts(entry, masker, write)]
    size = int(record.get(HANDED_BYTES) or 0) + sum(len(part["message"]) + 1 for part in parts)
    if size > most:
        raise Refused("TooLarge", f"the log has more than {most:,} bytes (log_bytes)")
    last = pushed.add(write.connection, number, parts)
    record[HANDED_BYTES] = size
    record[HANDED_ENTRIES] = known + len(fresh)
    _tell(record, said, write)
    executions.save_record(write.connection, number, record)
    executions.heard(write.connection, number, write.now)
    jobs.touch(write.connection, number, write.version)
    return len(fresh), last, current.job.aborted_by is not None


def _tell(record: dict[str, Any], said: Push, write: Write) -> None:
    """What it says of steps, releases and the whole."""
    if said.step_status is not None:
        steps = [dict(step) for step in record.get("steps") or ()]
        place = said.step or 0
        while len(steps) <= place:
            steps.append({"index": len(steps), "status": "queued", "status_reason": "", "stages": []})
        steps[place]["status"] = said.step_status
        record["steps"] = steps
    if said.releases:
        record["releases"] = list(dict.fromkeys([*(record.get("releases") or ()), *said.releases]))
    if said.status in ("ok", "failed"):
        record[FINAL] = {"status": said.status, "reason": said.status_reason}


def _parts(entry: Mapping[str, Any], masker: Masker, write: Write) -> list[dict[str, Any]]:
    """An entry without secrets; several, where it is too long for one."""
    mask = masker.again()
    text = (mask.feed(str(entry["message"]).encode("utf-8", "replace")) + mask.flush()).decode(
        "utf-8", "replace"
    )
    at = entry.get("timestamp") or write.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if text.endswith("\n"):  # the end of a line, and not the beginning of another
        text = text[:-1].removesuffix("\r")
    pieces = [part for line in text.split("\n") for part in _cut(line)]
    return [{**entry, "timestamp": at, "message": piece} for piece in pieces]


def _cut(line: str) -> list[str]:
    data, found = line.encode("utf-8"), []
    while len(data) > LONGEST:
        size = cut(data[:LONGEST])
        found.append(data[:size].decode("utf-8"))
        data = data[size:]
    return [*found, data.decode("utf-8")]


def _masker(installation: Installation, execution: Execution) -> Masker:
    """Of what the worker was given: its token, the key, the token for its tools."""
    job = execution.job
    trials = [trial.id for task in job.tasks for trial in task.trials]
    values: list[str | bytes] = [
        execution_token(installation.keys, Trial(job.number, trial)) for trial in trials
    ]
    known = installation.snapshot.current.resources.get
    spec = (found.spec if (found := known(job.key)) is not None else None) or {}
    key = parse_key(job.key)
    named = [(job.checkout.secret, SSH_KEY)]
    if name := spec.get("escape_auth_token_ref"):
        places = (f"{key.project}/{key.environment}", f"{key.project}/_", "_/_")
        declared = [
            f"Secret/{place}/{name}" for place in places if known(f"Secret/{place}/{name}") is not None
        ]
        named += [(each, VALUE) for each in declared[:1]]
    for secret, kind in named:
        if secret is not None:
            with suppress(Stalled):
                values.append(opened(installation.keys, known, secret, kind))
    return Masker(values)


async def _ended(installation: Installation, number: int) -> None:
    """Until the run has taken the last word in: so who asks next is told of it."""
    deadline = asyncio.get_running_loop().time() + _MOST_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        found = await installation.database.read(lambda c: jobs.load(c, number, scripts=False))
        if found is None or found.state.finished:
            return
        await asyncio.sleep(_PAUSE)
