"""`/cider-ci/api/trials…`: trials of a task, and one of them (cider-ci, 4.8, 4.10)."""

from __future__ import annotations

from functools import partial

from litestar import Response, get

from api.cider import properties, states
from api.cider.answers import Asked, answer, time
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import (
    RETRY,
    SCRIPTS,
    TASK,
    TRIAL,
    TRIAL_ATTACHMENTS,
    TRIALS,
    address,
    relation,
)
from api.cider.requests import cut, listing
from api.cider.roa import Links
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import by_id
from reconciler.queries.by_id import TrialFound


@get(
    TRIALS.route,
    operation_class=documented(TRIALS),
    media_type=ROA,
    summary="Trials of a task, the last changed first",
)
async def trial_list(
    installation: Installation, caller: Caller, request: Asked, task: str
) -> Response[bytes]:
    """404 for a task that may not be seen."""
    found = await by_id.task(installation, caller, task)
    asked = listing(request, TRIALS, id=found.task.id)
    wanted = states.meant(states.TRIAL, asked.filters["state"]) if "state" in asked.filters else None
    among = sorted(found.task.trials, key=lambda trial: trial.id)
    among = sorted(among, key=properties.trial_changed, reverse=True)
    items, more = cut(
        [trial for trial in among if wanted is None or trial.state in wanted], asked, lambda trial: trial.id
    )
    relations = {"task": relation(TASK, id=found.task.id), "retry": relation(RETRY, id=found.task.id)}
    links = asked.links([trial.id for trial in items], TRIAL, relations, more=more)
    shown_items = [{"id": trial.id, "created_at": time(trial.created_at)} for trial in items]
    return answer(request, {"trials": shown_items}, links)


@get(TRIAL.route, media_type=ROA, summary="A trial")
async def trial_get(
    installation: Installation, caller: Caller, request: Asked, trial: str
) -> Response[bytes]:
    """One attempt at a task."""
    return await shown(installation, request, await by_id.trial(installation, caller, trial))


async def shown(installation: Installation, request: Asked, found: TrialFound) -> Response[bytes]:
    """A trial as an answer."""
    relations = {
        "task": relation(TASK, id=found.task.id),
        "trials": relation(TRIALS, id=found.task.id),
        "scripts": relation(SCRIPTS, id=found.trial.id),
        "trial-attachments": relation(TRIAL_ATTACHMENTS, id=found.trial.id),
    }
    links = Links(TRIAL.name, address(TRIAL, id=found.trial.id), relations)
    result = await by_id.result(installation, found.trial)
    body = properties.trial(found.job, found.trial, partial(by_id.uuid_of, installation), result)
    return answer(request, body, links)
