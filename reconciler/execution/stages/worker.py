"""An execution that an external worker runs: handed over by a POST, then waited for (escape-state, 12.4).

Called by `execution.run` for a claim whose task names a worker, in the place of its stages. What the worker says comes
in by `commands.execution_logs`, which alone writes the record from then on. Nothing is checked out and nothing runs
here; the claim keeps its turn until the worker has said its last word, or nothing for too long.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from reconciler.errors import Refused, Stalled, SteersmanError
from reconciler.execution import timeline
from reconciler.execution.stages.deploy import destroyed, in_vain, stands
from reconciler.execution.stages.journal import Stopped
from reconciler.execution.stages.world import Run, moment
from reconciler.model import deployment as state_of
from reconciler.model.execution import FINAL, HANDED, ulid
from reconciler.model.job import Reason, State
from reconciler.sending import webhook
from reconciler.source.secrets import SSH_KEY, opened
from reconciler.store import deployments, executions, jobs, pushed
from reconciler.store.database import Connection, Write
from reconciler.store.jobs import Ending
from specs.meta import parse_key

SILENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.15
_WAITS_SECONDS = (1.0, 4.0, None)
_AT_ONCE = 500
_NAME = "worker"
_SETTLED = "_settled"
# How a deployment's status ends, well and badly.
_CODES = {
    "deploy": (state_of.OK, state_of.FAILURE),
    "smoke": (state_of.OK, state_of.TEST_FAILURE),
    "destroy": (state_of.EMPTY, state_of.DESTROY_FAILURE),
}
_SHOWN = ("steps", "steps_from_yml", "scripts", "release")


async def carry_out(run: Run) -> Ending:
    """Hand it over, unless that was done before, and wait for its end."""
    copy = _Copy(run, await run.journal.open_log(_NAME))
    try:
        record, _ = await _now(run)
        refused = await _hand_over(run) if HANDED not in record and FINAL not in record else None
        ending = await (_wait(run, copy) if refused is None else _lost(run, refused))
    except Stopped:
        ending = await _stopped(run)
    await copy.go_on()
    await run.journal.close_log(_NAME, replace(ending, log_size=copy.size))
    return ending


class _Copy:
    """The log as a file, like that of any script: what the worker has said, message by message.

    After a kill it goes on where the file ends.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._next = 1
        self.size = 0

    async def go_on(self) -> None:
        """What has come since."""
        number = self._run.order.job.number
        while entries := await self._run.journal.read(partial(_page, job=number, first=self._next)):
            self._next = entries[-1]["seq"] + 1
            text = "".join(f"{entry['message']}\n" for entry in entries).encode("utf-8", "replace")
            await asyncio.to_thread(self._append, text)

    def _append(self, text: bytes) -> None:
        with (self._folder / "log").open("ab") as file:
            there = file.tell()
            new = text[max(0, there - self.size) :]
            file.write(new)
        self.size += len(text)
        at, last = int(time.time() * 1000), timeline.load(self._folder)[-1:]
        if new and (not last or at >= last[0].at + timeline.EVERY):
            timeline.append(self._folder, timeline.Entry(at, there, there))


def _page(connection: Connection, job: int, first: int) -> list[dict[str, Any]]:
    return pushed.page(connection, job, first, _AT_ONCE)


async def _hand_over(run: Run) -> str | None:
    """POST it to the worker; the sentence that says why that could not be done."""
    body = msgspec.json.encode(await asyncio.to_thread(_message, run))
    told = ""
    for wait in _WAITS_SECONDS:
        run.journal.go_on()
        try:
            status, said = await _post(run, body)
        except Refused as error:
            return error.message
        except SteersmanError as error:
            told = error.message
        else:
            if 200 <= status < 300:
                await run.journal.write(lambda w: _taken(w, run.order.job.number))
                return None
            told = f"{run.wanted['worker']} answered {status}: {said[:200].decode('utf-8', 'replace')}"
        if wait is not None:
            await _pause(run, wait)
    return f"the worker did not take it: {told}"


def _taken(write: Write, number: int) -> None:
    """It is the worker's from now on; what it has said meanwhile stays."""
    record = executions.record_of(write.connection, number)
    executions.save_record(write.connection, number, {**record, HANDED: moment(write)})
    executions.heard(write.connection, number, write.now)
    jobs.touch(write.connection, number, write.version)


async def _wait(run: Run, copy: _Copy) -> Ending:
    """Until the last word, or silence."""
    silence = _Silence()
    while True:
        record, heard_at = await _now(run)
        await copy.go_on()
        if (last := record.get(FINAL)) is not None:
            return await _end(run, last)
        if silence.seconds(heard_at) > SILENCE_SECONDS:
            return await _lost(run, f"the worker has said nothing for {SILENCE_SECONDS:g} s")
        await _pause(run, _LOOK_SECONDS)


async def _lost(run: Run, why: str) -> Ending:
    """Nobody runs it; that is the last entry of its log."""

    def work(write: Write) -> None:
        entry = {
            "timestamp": moment(write),
            "level": "error",
            "stream": "system",
            "step": 0,
            "stage": "worker",
        }
        pushed.add(write.connection, run.order.job.number, [{**entry, "message": why}])
        jobs.touch(write.connection, run.order.job.number, write.version)

    await run.journal.write(work)
    await run.journal.write(lambda w: _settle(run, w, why))
    return Ending(State.FAILED, Reason.WORKER_LOST, why)


async def _stopped(run: Run) -> Ending:
    """Tell the worker, and wait for its last word; what it has finished before it heard of that stands."""
    record, heard_at = await _now(run)
    if HANDED in record:
        body = {"kind": "cancel", "execution_id": ulid(run.order.job.id), "callback": _callback(run)}
        with suppress(SteersmanError):
            await _post(run, msgspec.json.encode(body))
        silence = _Silence()
        while FINAL not in record and silence.seconds(heard_at) <= SILENCE_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            record, heard_at = await _now(run)
    last = record.get(FINAL)
    if last is not None and last["status"] == "ok":
        return await _end(run, last)
    await run.journal.write(lambda w: _settle(run, w, "cancelled"))
    return Ending(State.ABORTED, Reason.CANCELLED)


async def _end(run: Run, last: dict[str, Any]) -> Ending:
    passed, reason = last["status"] == "ok", last.get("reason") or None
    why = None if passed else str(reason or Reason.SCRIPT_FAILED)
    await run.journal.write(lambda w: _settle(run, w, why))
    return Ending(State.PASSED, reason) if passed else Ending(State.FAILED, why)


def _settle(run: Run, write: Write, why: str | None) -> None:
    """What became of a deployment, as far as the worker has not told it by its state; `why`: it failed. Once."""
    wanted, number = run.wanted, run.order.job.number
    record = executions.record_of(write.connection, number)
    if wanted["type"] not in _CODES or record.get(_SETTLED):
        return
    executions.save_record(write.connection, number, {**record, _SETTLED: True})
    place = state_of.of(run.order.job.key)
    row = deployments.load(write.connection, run.around.keys, place)
    state = row.state if row is not None else state_of.empty(place.name)
    code = _CODES[wanted["type"]][0 if why is None else 1]
    if state_of.code(state) != code:
        fields: dict[str, Any] = {"status": {"status": code, "updated_at": moment(write), "data": why or ""}}
        if code == state_of.OK and wanted["type"] == "deploy":
            fields["version"] = str(wanted.get("version") or "")
            state = {**state, "release": wanted.get("release") or place.name}
        state = state_of.with_stage(state, state_of.DEPLOY, fields)
        deployments.save(write, run.around.keys, place, state)
    if why is not None:
        in_vain(run, write, why)
    elif wanted["type"] == "deploy":
        used = state_of.stage(state, state_of.DEPLOY).get("providers") or {}
        stands(run, write, set(used.values()))
    elif wanted["type"] == "destroy":
        destroyed(run, write)


async def _pause(run: Run, seconds: float) -> None:
    """Unless the run is to end. Stopped."""
    run.journal.go_on()
    await run.journal.lasting(asyncio.sleep(seconds))


async def _now(run: Run) -> tuple[dict[str, Any], datetime | None]:
    """What the worker has said so far, and when it was heard last."""
    number = run.order.job.number
    found = await run.journal.read(lambda c: executions.told(c, number))
    if found is None:
        raise Stopped
    return found


class _Silence:
    """How long the worker has said nothing since we listen, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._heard_at: datetime | None = None
        self._since = time.monotonic()

    def seconds(self, heard_at: datetime | None) -> float:
        """`heard_at`: when it was heard last, as it was stored."""
        if heard_at != self._heard_at:
            self._heard_at, self._since = heard_at, time.monotonic()
        return time.monotonic() - self._since


async def _post(run: Run, body: bytes) -> tuple[int, bytes]:
    around = run.around
    return await webhook.post(around.keys, str(run.wanted["worker"]), body, private=around.private_addresses)


def _message(run: Run) -> dict[str, Any]:
    """What the worker is told (12.4). Blocks."""
    job, wanted = run.order.job, run.wanted
    key = parse_key(job.key)
    about = {"name": key.name, "project": key.project, "environment": key.environment}
    seconds = float(run.order.policy.get("timeout_seconds") or 0)
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    message: dict[str, Any] = {
        "kind": str(wanted["type"]),
        "execution_id": ulid(job.id),
        "callback": _callback(run),
        "token": run.order.token,
        "deadline": deadline.isoformat(timespec="seconds").replace("+00:00", "Z") if seconds else None,
    }
    if wanted["type"] == "build":
        shown = {name: wanted.get(name) for name in _SHOWN}
        message |= {
            "build": about | {"repo": job.checkout.url} | shown,
            "branch": job.checkout.branch or "",
            "commit": job.checkout.commit,
            "variables": dict(job.inputs),
        }
        return message | _key_of(run)
    names = (
        "release",
        "version",
        "digest",
        "inputs",
        "providers",
        "run_smoke",
        "errand_name",
        "errand_inputs",
    )
    return message | {"deployment": about | {name: wanted[name] for name in names if name in wanted}}


def _key_of(run: Run) -> dict[str, str]:
    """The key to fetch with, where nobody on the way can read it."""
    secret = run.order.job.checkout.secret
    if secret is None or not _is_private(str(run.wanted["worker"])):
        return {}
    with suppress(Stalled):
        key = opened(run.around.keys, run.around.declared, secret, SSH_KEY)
        return {"private_key": key.decode("utf-8", "replace")}
    return {}


def _is_private(url: str) -> bool:
    """https, or it does not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    host = parts.hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _callback(run: Run) -> str:
    """Where it speaks to this server about the execution."""
    job = run.order.job
    key = parse_key(job.key)
    project, environment, name = (
        quote(part or "_", safe="") for part in (key.project, key.environment, key.name)
    )
    place = (
        f"state/{project}/environments/{environment}/builds/by-name/{name}"
        if key.kind == "Build"
        else f"deployment-jobs/by-project/{project}/by-environment/{environment}/by-name/{name}"
    )
    return f"{run.facts['ESCAPE_API_SERVER']}/api/v1/{place}/executions/{ulid(job.id)}"
