"""What the pages of pipelines show of runs, phases and steps: values for their templates, and where runs have pages.

Called by `api.dashboard.pipelines`, and by the pages that name a run. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from api.dashboard.shell import between
from reconciler.access import Caller, not_to_decide
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.model.pipeline import Phase, Place, Run, Status, Step, builds, target

_STEPS = 150
_PAYLOAD_SHOWN = 5000
_NOT_YET = "not yet"
_OPEN = (Status.PENDING, Status.RUNNING)


def path_of_pipeline(key: str) -> str:
    """The page of a pipeline, by its KEY."""
    _, project, name = key.split("/", 2)
    return f"/ui/pipelines/{quote(project)}/{quote(name)}"


def path_of_run(run: Run) -> str:
    """The page of a run."""
    return f"{path_of_pipeline(run.key)}/{ulid(run.id)}"


def told(run: Run, known: Mapping[str, Run]) -> dict[str, Any]:
    """What stands at the top of a run's page."""
    shown = "" if run.payload is None else _json(run.payload)
    return listed(run) | {
        "cancel_requested": run.cancel_requested,
        "ending": run.ending,
        "identity": _name(run.identity or ""),
        "payload": shown[:_PAYLOAD_SHOWN],
        "payload_cut": len(shown) > _PAYLOAD_SHOWN,
        "releases": run.releases[:50],
        "retry_of": _link(known.get(run.retry_of or "")),
        "from_run": _link(known.get(str(run.trigger.get("pipeline", "")))),
    }


def listed(run: Run) -> dict[str, Any]:
    """A run in lists."""
    seconds = None
    if run.started_at is not None:
        end = run.finished_at.isoformat() if run.finished_at else None
        seconds = between(run.started_at.isoformat(), end, datetime.now(UTC))
    waiting = next((step for _, step in run.steps() if step.waits_for_people and not run.ended), None)
    return {
        "id": ulid(run.id),
        "path": path_of_run(run),
        "key": run.key,
        "number": run.number,
        "state": "waiting" if waiting is not None else run.status.value,
        "reason": run.reason.replace("-", " "),
        "waits": "" if waiting is None else f"for a decision: {waiting.name}",
        "why": _why(run),
        "by": _name(run.actor),
        "cause": run.cause,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": seconds,
        "phases": [(phase.name, _phase_state(phase)) for phase in run.phases],
    }


Held = Mapping[int, Sequence[Mapping[str, Any]]]


def phases(
    installation: Installation, caller: Caller, run: Run, known: Mapping[str, Run], held: Held
) -> list[dict[str, Any]]:
    """The columns of the picture. `known`: runs that steps have started; `held`: what keeps jobs from starting."""
    most = _most(run)
    found = []
    for at, phase in enumerate(run.phases):
        places = sorted(range(len(phase.steps)), key=lambda index: _rank(phase.steps[index]))[:most]
        steps = [_step(installation, caller, run, (at, index), known, held) for index in sorted(places)]
        carried = bool(phase.steps) and all(step.carried_over for step in phase.steps)
        found.append({"name": phase.name, "state": _phase_state(phase), "steps": steps, "carried": carried})
    return found


def _step(
    installation: Installation, caller: Caller, run: Run, place: Place, known: Mapping[str, Run], held: Held
) -> dict[str, Any]:
    step = run.step(place)
    key = _about(installation, run, step)
    end = step.finished_at.isoformat() if step.finished_at else None
    begin = step.started_at.isoformat() if step.started_at else None
    open_ = step.waits_for_people and not (run.ended or run.ending or run.cancel_requested)
    seen = key is not None and caller.sees(key)
    return {
        "place": place,
        "name": step.name,
        "type": step.type.replace("-", " "),
        "state": _step_state(run.phases[place[0]], step),
        "reason": step.reason.replace("-", " "),
        "message": step.message,
        "key": key if seen else None,
        "held": [cause["message"] for cause in held.get(step.job or 0, ())] if seen else [],
        "job": step.job,
        "run": _link(known.get(step.run or "")),
        "version": step.version,
        "tagged": step.tagged,
        "releases": step.releases[:10],
        "adopted": step.adopted,
        "carried": step.carried_over,
        "ignored": bool(step.declared.get("ignore_failure")),
        "waiting_since": step.waiting_since if not step.over else None,
        "seconds": between(begin, end, datetime.now(UTC)),
        "asks": _asks(run, step) if step.confirmation is not None or open_ else None,
        "open": open_,
        "why_not": not_to_decide(installation, caller, run, place) if open_ else None,
    }


def _asks(run: Run, step: Step) -> dict[str, Any]:
    """Of a confirmation: whom it asks until when, or how it was decided."""
    asked: Mapping[str, Any] = step.confirmation or {}
    named = [f"{word} {step.declared[word]}" for word in ("user", "team") if step.declared.get(word)]
    return {
        "who": " or ".join(named) or f"somebody who may write in {run.project}",
        "others": not step.declared.get("allow_self_approval", True),
        "requested_at": asked.get("requested_at"),
        "expires_at": asked.get("expires_at"),
        "decided": {"approve": "approved", "disapprove": "rejected"}.get(asked.get("decision", ""), ""),
        "by": _name(asked.get("by", "")),
        "at": asked.get("at"),
        "comment": asked.get("comment", ""),
    }


def _about(installation: Installation, run: Run, step: Step) -> str | None:
    """The KEY that a step acts on."""
    if step.type == "pipeline-trigger":
        return f"Pipeline/{step.declared.get('project') or run.project}/{step.declared['pipeline']}"
    known = installation.snapshot.current.resources
    return target(step.declared, run.project) or next(
        (key for key in builds(step.declared, run.project) if key in known), None
    )


def _most(run: Run) -> int:
    """Steps of a phase that are shown: those that went wrong or are at work before others."""
    count = sum(len(phase.steps) for phase in run.phases)
    return count if count <= _STEPS else max(3, _STEPS // len(run.phases))


def hidden(run: Run) -> int:
    """How many steps are not."""
    most = _most(run)
    return sum(max(0, len(phase.steps) - most) for phase in run.phases)


def _rank(step: Step) -> int:
    if step.status is Status.FAILED or step.waits_for_people:
        return 0
    return 1 if step.status in _OPEN else 2


def _step_state(phase: Phase, step: Step) -> str:
    """As people say it."""
    if step.not_run:
        return "not run"
    if phase.status is Status.NEW and step.status is Status.QUEUED:
        return _NOT_YET
    return "waiting" if step.waits_for_people else step.status.value


def _phase_state(phase: Phase) -> str:
    if any(step.waits_for_people for step in phase.steps):
        return "waiting"
    return _NOT_YET if phase.status is Status.NEW else phase.status.value


def _why(run: Run) -> str:
    """What started it, in a few words."""
    trigger = run.trigger
    type_ = str(trigger.get("type", ""))
    told = {
        "manual": "by hand",
        "webhook": f"webhook {trigger.get('trigger', '')}",
        "schedule": "schedule",
        "retry": "retry",
        "pipeline": "another pipeline",
        "build": "a build that it follows",
        "deploy": "a deploy that it follows",
    }.get(type_, type_)
    return f"{told} ({trigger['reason']})" if trigger.get("reason") else told


def _link(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {"path": path_of_run(run), "key": run.key, "number": run.number, "state": run.status.value}


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _name(subject: str) -> str:
    kind, _, name = subject.partition("/")
    return "" if kind == "System" else name or kind
