"""Pipelines and their runs on the wire, and bodies as specifications (escape-state, 7.9 to 7.13).

Published fields of a body are replaced as a whole, all others are kept where it leaves them out, those of steps too.
What values must be is judged with the specification. Pure but for what callers hand in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from api.escape.errors import BadRequest
from api.escape.requests import kept, wrong
from reconciler.model.execution import ulid
from reconciler.model.pipeline import Phase, Place, Run, Status, Step
from specs.meta import Key
from specs.pipeline import Pipeline, check
from specs.pipeline_step import PipelineStep, names

PUBLISHED = ("disabled", "phases", "triggers", "service_account_name")
EXTENSIONS = tuple(name for name in Pipeline.model_fields if name not in PUBLISHED)
DEFAULTS: dict[str, Any] = Pipeline().model_dump(mode="json")
_KEPT = ("timeout_seconds", "allow_self_approval")

Code = Callable[[Place], str]


def shown(
    spec: Mapping[str, Any], phases: Sequence[Mapping[str, Any]], status: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """A Pipeline: what it declares, with live states; `more` are name, project, triggers and what the caller has."""
    whole = {**DEFAULTS, **spec}
    fields = {name: whole[name] for name in ("disabled", "service_account_name", *EXTENSIONS)}
    return {**more, **fields, "phases": list(phases), "status": status}


def declared_phases(spec: Mapping[str, Any], run: Run | None) -> list[dict[str, Any]]:
    """Phases as they are declared, each step with its state in the newest run."""
    known = {phase.name: phase for phase in (run.phases if run is not None else ())}
    return [_declared_phase(phase, known.get(phase["name"])) for phase in spec.get("phases") or ()]


def _declared_phase(phase: Mapping[str, Any], last: Phase | None) -> dict[str, Any]:
    steps = {step.name: step for step in (last.steps if last is not None else ())}
    shown_steps = []
    for step in phase["steps"]:
        before = steps.get(step["name"])
        same = before is not None and before.type == step["type"]
        shown_steps.append({**step, "status": before.status.value if before and same else Status.NEW.value})
    status = last.status if last is not None else Status.NEW
    return {"name": phase["name"], "status": status.value, "steps": shown_steps}


def run_phases(run: Run, code: Code) -> list[dict[str, Any]]:
    """The phases of a run with all that its steps have come to."""
    return [
        {
            "name": phase.name,
            "status": phase.status.value,
            "steps": [_step(step, code((at, index))) for index, step in enumerate(phase.steps)],
        }
        for at, phase in enumerate(run.phases)
    ]


def _step(step: Step, code: str) -> dict[str, Any]:
    body = {**step.declared, "status": step.status.value, "status_reason": step.reason}
    told = {
        "message": step.message,
        "execution_id": step.execution_id,
        "pipeline_execution_id": ulid(step.run) if step.run else "",
        "adopted": step.adopted,
        "carried_over": step.carried_over,
        "releases": list(step.releases),
        "version": step.version,
        "tagged": step.tagged,
        "confirmation": _confirmation(step, code),
    }
    body |= {name: value for name, value in told.items() if value}
    return body | times(started_at=step.started_at, finished_at=step.finished_at)


def _confirmation(step: Step, code: str) -> dict[str, Any]:
    if step.confirmation is None:
        return {}
    body = {name: value for name, value in step.confirmation.items() if not name.endswith("_at")}
    for name in ("requested_at", "expires_at", "at"):
        if name in step.confirmation:
            body[name] = _time(datetime.fromisoformat(step.confirmation[name]))
    body |= {name: step.declared[name] for name in ("user", "team") if step.declared.get(name)}
    return body | ({"code": code} if code else {})


def run_shown(run: Run, pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """A PipelineExecution; `pipeline` is its snapshot with live states."""
    body = {
        "id": ulid(run.id),
        "run_nr": run.number,
        "status": run.status.value,
        "status_reason": run.reason,
        "cancel_requested": run.cancel_requested,
        "trigger": _trigger(run),
        "payload": run.payload,
        "releases": list(run.releases),
        "pipeline": dict(pipeline),
    }
    ended = {"started_at": run.started_at, "finished_at": run.finished_at}
    return body | times(created_at=run.created_at, **ended)


def _trigger(run: Run) -> dict[str, Any]:
    told = {"type": run.trigger["type"], "user": run.trigger.get("user", "")}
    ids = {"execution": "execution_id", "pipeline": "pipeline_execution_id", "of": "retry_of"}
    told |= {word: ulid(run.trigger[name]) for name, word in ids.items() if run.trigger.get(name)}
    plain = ("reason", "due", "trigger")
    return told | {name: run.trigger[name] for name in plain if run.trigger.get(name)}


def times(**moments: datetime | None) -> dict[str, str]:
    """Those that there are, as the wire has them."""
    return {name: _time(moment) for name, moment in moments.items() if moment is not None}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def wanted(
    data: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any], ids: Mapping[str, str]
) -> dict[str, Any]:
    """The specification after a body: `current` is what there is, `ids` the names of its triggers by id."""
    extensions = {name: value for name, value in current.items() if name in EXTENSIONS}
    spec = kept(extensions, data, EXTENSIONS, defaults)
    for field in ("disabled", "service_account_name"):
        value = data.get(field)
        value = defaults.get(field) if value is None else value
        if value is not None:
            spec[field] = value
    if not spec.get("service_account_name") and "service_account_team" not in data:
        spec.pop("service_account_team", None)  # a team of nobody
    spec["phases"] = [
        _phase(number, phase, current) for number, phase in enumerate(_listed(data, "phases", defaults))
    ]
    spec["triggers"] = _triggers(_listed(data, "triggers", defaults), ids)
    return spec


def checked(spec: dict[str, Any], key: Key) -> dict[str, Any]:
    """The same, if each step has what its type needs and nothing else; else 400, which names the fields (7.11).

    What a value must be is told by the write itself.
    """
    try:
        whole = Pipeline.model_validate(spec).model_dump(mode="json")
    except ValidationError:
        return spec
    found = {_field(steps): told for steps, told in check(whole, key)}
    if found:
        told = "; ".join(f"{field}: {sentence}" for field, sentence in found.items())
        raise BadRequest("invalid-field", told, found)
    return spec


def _field(steps: Sequence[str | int]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _listed(data: Mapping[str, Any], field: str, defaults: Mapping[str, Any]) -> list[Any]:
    given = data.get(field)
    if given is None:
        given = defaults.get(field) or []
    if not isinstance(given, list):
        raise wrong(field, "must be a list")
    return given


def _phase(number: int, given: Any, current: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise wrong(f"phases[{number}]", "must be an object")
    steps = given.get("steps") or []
    if not isinstance(steps, list):
        raise wrong(f"phases[{number}].steps", "must be a list")
    before = current.get("phases") or ()
    same = [phase for phase in before if phase["name"] == given.get("name")] or before[number : number + 1]
    old = list(same[0]["steps"]) if same else []
    made = [_wanted_step(f"phases[{number}].steps[{at}]", at, step, old) for at, step in enumerate(steps)]
    return {"name": given.get("name"), "steps": made}


def _wanted_step(where: str, at: int, given: Any, old: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One step: unknown fields and empty ones left out, those that no published client knows kept."""
    if not isinstance(given, Mapping):
        raise wrong(where, "must be an object")
    step = {name: given[name] for name in PipelineStep.model_fields if given.get(name) not in (None, "", {})}
    beside = [each for each in old[at : at + 1] if each["type"] == given.get("type")]
    same = [each for each in old if each["name"] == given.get("name") and each["type"] == given.get("type")]
    for before in (beside or same)[:1]:
        step |= {name: before[name] for name in _KEPT if name in before and name not in given}
        # a name that says no more than what the step was about goes with that
        if step.get("name") == before["name"] and names([{**before, "name": ""}])[0] == before["name"]:
            del step["name"]
    return step


def _triggers(given: Sequence[Any], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Triggers are matched by id, else by name; a new one gets a name, and with it a code, that none had before."""
    found = []
    for number, trigger in enumerate(given):
        if not isinstance(trigger, Mapping):
            raise wrong(f"triggers[{number}]", "must be an object")
        mark, name = trigger.get("id"), trigger.get("name")
        if mark:
            if mark not in ids:
                told = {f"triggers[{number}].id": "is no trigger of this pipeline"}
                raise BadRequest("invalid-field", f"There is no trigger {mark!r} here.", told)
            name = ids[mark]
        found.append(
            {"type": trigger.get("type") or "webhook", "name": name or f"webhook-{secrets.token_hex(4)}"}
        )
    return found
