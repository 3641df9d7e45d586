"""What of a job this API calls its tasks, and what its set-up (builds-srht, 9; cider-ci, 8.2).

The job of a manifest has one task of ours, whose scripts are the set-up and the manifest's tasks. All other jobs are
shown by the same view: every script of theirs is a task here, and they have no set-up. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.model.job import Job, State, Task, Trial, owner_of
from specs.manifest_work import SET_UP

_OTHERS = re.compile(r"[^a-z0-9_-]+")
_LONGEST = 128
_OWN = "run"
"""The name of a task's own script."""


@dataclass(frozen=True, slots=True)
class Part:
    """One script by the name it has here, and where it is. `taken`: its trial has begun; `begun`: it has itself."""

    name: str
    task: str
    trial: int | None
    script: str
    state: State
    reason: str | None
    taken: bool
    begun: bool


@dataclass(frozen=True, slots=True)
class View:
    """A job's tasks in order; `runner`: the executor that took it, if one has."""

    set_up: Part | None
    tasks: tuple[Part, ...]
    runner: str | None


def view(job: Job) -> View:
    """A job as it is seen here: by the newest trials."""
    begun = [task.trials[-1] for task in job.tasks if task.trials and _taken(task.trials[-1])]
    newest = max(begun, key=lambda trial: trial.created_at, default=None)
    runner = None if newest is None or newest.executor is None else newest.executor.rpartition("/")[2]
    if owner_of(job.key) is None:
        tasks = sorted(job.tasks, key=lambda task: task.name)
        found = [part for task in tasks for part in _parts(task)]
        return View(None, tuple(_renamed(found, several=len(tasks) > 1)), runner)
    first, *rest = [part for task in job.tasks for part in _parts(task)]
    return View(first, tuple(rest), runner)


def _taken(trial: Trial) -> bool:
    """It has begun, or was ended for what kept it from that; not when it was only cancelled."""
    return trial.started_at is not None or trial.state in (State.FAILED, State.DEFECTIVE)


def _parts(task: Task) -> Iterator[Part]:
    if not task.trials:
        skipped = task.state is State.SKIPPED
        state, reason = (task.state, task.reason) if skipped else (State.PENDING, None)
        for name in _names(task.policy):
            yield Part(name, task.name, None, name, state, reason, taken=False, begun=False)
        return
    trial = task.trials[-1]
    taken = _taken(trial)
    for script in trial.scripts:
        begun = taken and (script.started_at is not None or script.name == SET_UP)
        yield Part(
            script.name, task.name, trial.number, script.name, script.state, script.reason, taken, begun
        )


def _names(policy: Mapping[str, Any]) -> list[str]:
    scripts = [script["name"] for script in policy.get("scripts") or ()]
    return scripts or [service["name"] for service in policy.get("services") or ()] + [_OWN]


def _renamed(found: Iterable[Part], *, several: bool) -> Iterator[Part]:
    """Names that a manifest's tasks could have, each once."""
    used: set[str] = set()
    for part in found:
        whole = f"{part.task}__{part.script}" if several else part.script
        name = plain = _OTHERS.sub("_", whole.lower())[:_LONGEST]
        count = 1
        while name in used:
            count += 1
            name = f"{plain[: _LONGEST - len(str(count)) - 1]}-{count}"
        used.add(name)
        yield Part(name, part.task, part.trial, part.script, part.state, part.reason, part.taken, part.begun)
