"""The pass of `pipeline-call/RUN/PHASE/STEP`: a webhook that a pipeline's step sends (escape-state, 10.2).

Sent at least once: killed on the way it is sent again, under the same Idempotency-Key. Who gets it can tell that it
comes from this pipeline by an HMAC whose key writers of the pipeline see.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import msgspec

from reconciler.apply import pipelines as apply
from reconciler.errors import SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.model.job import Reason
from reconciler.model.pipeline import Place, Run, Status
from reconciler.sealing import Keys
from reconciler.store import pipelines as rows

PREFIX = "pipeline-call/"
_ATTEMPTS = 3
_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_PURPOSE = "pipeline-call"
_SHOWN = 200


def name_of(run: Run, place: Place) -> str:
    """The name whose pass sends it."""
    return f"{PREFIX}{run.id}/{place[0]}/{place[1]}"


def secret_of(keys: Keys, uuid: str) -> str:
    """The key of the signatures of one pipeline's calls."""
    return keys.mac(_PURPOSE, uuid)


async def run(installation: Installation, name: str) -> None:
    """Send it, unless it was sent."""
    run_id, phase, step = name.removeprefix(PREFIX).split("/")
    place = (int(phase), int(step))
    found = await installation.database.read(lambda c: rows.load(c, run_id))
    if found is None or found.step(place).status is not Status.RUNNING:
        return
    fault = await _send(installation, found, place)
    status, reason = (Status.FAILED, Reason.WEBHOOK_FAILED.value) if fault else (Status.OK, "")
    await installation.database.write(lambda w: apply.settle(w, run_id, place, status, reason, fault or ""))


async def _send(installation: Installation, run: Run, place: Place) -> str | None:
    """What went wrong; None if the other side has taken it."""
    from reconciler.sending import webhook  # only who sends something pays for it

    step = run.step(place)
    body = msgspec.json.encode(
        {
            "project": run.project,
            "pipeline": run.name,
            "run_nr": run.number,
            "pipeline_execution_id": ulid(run.id),
            "phase": run.phases[place[0]].name,
            "step": step.name,
            "releases": list(run.releases),
            "payload": run.payload,
        }
    )
    pipeline = installation.snapshot.current.resources.get(run.key)
    secret = secret_of(installation.keys, pipeline.uuid if pipeline else run.key)
    mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "X-Steersman-Signature": f"sha256={mark}",
        "Idempotency-Key": f"{ulid(run.id)}-{place[0]}-{place[1]}",
    }
    url, private = step.declared["webhook_url"], installation.settings.private_addresses
    for attempt in range(_ATTEMPTS):
        try:
            status, answer = await webhook.post(
                installation.keys, url, body, private=private, seconds=_SECONDS, more=headers
            )
        except Transient as error:
            told = error.message
            await asyncio.sleep(_PAUSE_SECONDS * 2**attempt if attempt + 1 < _ATTEMPTS else 0)
            continue
        except SteersmanError as error:
            return error.message
        if 200 <= status < 300:
            return None
        return f"{url} answered {status}: {answer.decode(errors='replace')[:_SHOWN]}"
    return told
