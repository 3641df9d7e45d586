"""Pipelines declared, started and looked at over HTTP: what the tests of their cases share."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.api.escape.conftest import World
from tests.support import eventually_now

PIPELINES = "/api/v1/pipelines/by-project/shop"
ASK = {"type": "confirmation", "user": "rita"}
ENDED = ("ok", "failed")
SECONDS = 15.0


def unique(test: str) -> str:
    """A pipeline's name for a test."""
    return "p" + hashlib.sha256(test.encode()).hexdigest()[:8]


def of(name: str) -> str:
    """The address of a pipeline."""
    return f"{PIPELINES}/by-name/{name}"


def phases(*steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Phases p1, p2 …"""
    return [{"name": f"p{number}", "steps": each} for number, each in enumerate(steps, 1)]


def add(world: World, name: str, *steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A new pipeline, by who may write."""
    answer = world["wendy"].post(f"{PIPELINES}/add", json={"name": name, "phases": phases(*steps), **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def trigger(world: World, name: str, who: str = "wendy", **body: Any) -> str:
    """Start a run; its id."""
    answer = world[who].post(f"{of(name)}/trigger", json=body or None)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def run_of(world: World, name: str, execution: str, who: str = "rita") -> dict[str, Any]:
    """A run as somebody sees it."""
    answer = world[who].get(f"{of(name)}/executions/{execution}/")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(world: World, name: str, execution: str, *states: str, who: str = "rita") -> dict[str, Any]:
    """The run once it is in one of these states."""

    def check() -> dict[str, Any] | None:
        found = run_of(world, name, execution, who)
        return found if found["status"] in states else None

    found: dict[str, Any] = eventually_now(check, SECONDS)
    return found


def step_of(run: dict[str, Any], phase: int = 0, step: int = 0) -> dict[str, Any]:
    """A step of a run."""
    found: dict[str, Any] = run["pipeline"]["phases"][phase]["steps"][step]
    return found


def asking(world: World, name: str, execution: str, who: str = "rita", phase: int = 0) -> str:
    """Where a confirmation is decided, once it is asked for."""

    def check() -> str | None:
        step = step_of(run_of(world, name, execution, who), phase)
        return step.get("confirmation", {}).get("code")

    code = eventually_now(check, SECONDS)
    return f"{of(name)}/executions/{execution}/confirmation/{code}"


def resource(world: World, key: str) -> dict[str, Any]:
    """A resource as the native API shows it."""
    found: dict[str, Any] = world.admin.get(f"/reconciler/resources/{key}", headers=world.native).json()
    return found
