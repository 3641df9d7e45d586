"""Pipelines and their runs as one caller sees them, with the codes that it may know."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from reconciler.access import Caller, not_to_decide
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.execution import from_ulid
from reconciler.model.pipeline import Place, Run
from reconciler.model.resource import Resource
from reconciler.passes import pipeline_codes
from reconciler.passes.pipeline_calls import secret_of
from reconciler.store import pipelines as rows
from reconciler.store.pipelines import Wanted as Wanted
from specs.meta import Key


def visible(installation: Installation, caller: Caller) -> list[Resource]:
    """All pipelines that the caller sees, by project and name."""
    found = installation.snapshot.current.of_kinds(frozenset({"Pipeline"}))
    return [found[key] for key in sorted(found) if caller.sees(key)]


async def newest(installation: Installation, keys: Collection[str]) -> dict[str, Run]:
    """The newest run of each of these pipelines that has one."""
    return await installation.database.read(lambda c: rows.newest(c, keys))


async def asking(installation: Installation, caller: Caller) -> list[Run]:
    """Runs that wait for people to decide a confirmation, oldest first."""
    found = await installation.database.read(rows.live)
    return [
        run for run in found if caller.sees(run.key) and any(step.waits_for_people for _, step in run.steps())
    ]


async def confirmations(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """What pipelines ask people, oldest run first: which run and step, who is asked, until when, may the caller say."""
    return [
        {
            "key": run.key,
            "run": run.number,
            "step": run.path_of(place),
            "asked": {word: step.declared[word] for word in ("user", "team") if step.declared.get(word)},
            "expires_at": (step.confirmation or {}).get("expires_at"),
            "you_may": (refusal := not_to_decide(installation, caller, run, place)) is None,
            "why_not": refusal,
            "created_at": run.created_at.isoformat(),
        }
        for run in await asking(installation, caller)
        for place, step in run.steps()
        if step.waits_for_people
    ]


async def page(installation: Installation, caller: Caller, wanted: Wanted) -> tuple[list[Run], bool]:
    """Runs that the caller sees, newest first, and whether there are more."""
    asked = replace(wanted, limit=wanted.limit + 1, projects=_projects(caller))
    found = await installation.database.read(lambda c: rows.page(c, asked))
    return found[: wanted.limit], len(found) > wanted.limit


def _projects(caller: Caller) -> set[str] | None:
    """The projects whose pipelines the caller sees; None: all."""
    if caller.sees_all:
        return None
    return {scope.project for scope in caller.rights.roles if scope.project and scope.environment is None}


async def run_of(installation: Installation, caller: Caller, key: Key, execution: str) -> Run:
    """A run by its id on the wire, also of a pipeline that is no more; NotFound."""
    if caller.sees(str(key)):
        found = await find(installation, key, execution)
        if found is not None:
            return found
    raise absent(execution)


async def find(installation: Installation, key: Key, execution: str) -> Run | None:
    """A run of this pipeline by its id on the wire, whoever asks."""
    run_id = from_ulid(execution)
    found = await installation.database.read(lambda c: rows.load(c, run_id)) if run_id else None
    return found if found is not None and found.key == str(key) else None


async def of_ids(installation: Installation, caller: Caller, runs: Collection[str]) -> dict[str, Run]:
    """Those of these runs that there are and that the caller sees, by id."""
    found = await installation.database.read(lambda c: rows.load_many(c, runs)) if runs else {}
    return {run: each for run, each in found.items() if caller.sees(each.key)}


def absent(execution: str) -> NotFound:
    """The one answer for a run that is not there, or not to be seen."""
    return NotFound("NoSuchRun", f"There is no execution {execution!r} of this pipeline.")


def signing_secret(installation: Installation, uuid: str) -> str:
    """What the signatures of the pipeline's webhook steps are checked with."""
    return secret_of(installation.keys, uuid)


def trigger_id(installation: Installation, uuid: str, name: str) -> str:
    """The id of a pipeline's trigger."""
    return pipeline_codes.trigger_id(installation.keys, uuid, name)


def trigger_code(installation: Installation, uuid: str, name: str) -> str:
    """What starts the pipeline by that trigger; for those who may write."""
    return pipeline_codes.trigger_code(installation.keys, uuid, name)


def confirmation_code(installation: Installation, caller: Caller, run: Run, place: Place) -> str:
    """What decides a confirmation that is being asked; "" for who may not."""
    step = run.step(place)
    if not step.waits_for_people or not_to_decide(installation, caller, run, place) is not None:
        return ""
    return pipeline_codes.confirmation_code(installation.keys, run, place)


def asked(installation: Installation, run: Run, code: str) -> Place | None:
    """The confirmation of this very run that a code is for."""
    return pipeline_codes.asked(installation.keys, run, code)
