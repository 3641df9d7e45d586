"""States as clients send them and keep them in files: read with all that is wrong in them (escape-state, 7.14, 15.1).

What clients leave out is nothing, and so is a null; what nobody knows is left out; the key of a map is the name of what
is in it. What is read can be sent to a client again: it refuses a whole environment for one bad name, time or null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.model import deployment
from reconciler.model.deployment import DEPLOY, FAILURE, STAGES, State
from specs.meta import deployment_name_fault, environment_name_fault
from specs.release import NO_NAMESPACE

MOST_LEVELS = 20
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_INTERRUPTED = "imported while running"


@dataclass(frozen=True, slots=True)
class Read:
    """A state, and (field, sentence) of everything that is wrong with it."""

    state: State
    faults: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment of a file: its inputs, and its deployments by name."""

    inputs: Mapping[str, Any]
    deployments: Mapping[str, State]


@dataclass(frozen=True, slots=True)
class File:
    """Environments of a file by name, in its order, and (field, sentence) of everything that is wrong."""

    environments: Mapping[str, Environment]
    faults: tuple[tuple[str, str], ...]


def read_state(value: Any, name: str, at: str = "state") -> Read:
    """The state of a deployment of this name; `at` is where it stands."""
    looked = _Look()
    return Read(looked.deployment(value, name, at, 1), tuple(looked.faults))


def read_file(value: Any) -> File:
    """The environments of a whole file; what project it names does not matter."""
    looked = _Look()
    found = {
        name: looked.environment(each, name, f"environments.{name}")
        for name, each in looked.map(looked.field(value, "environments", "state"), "environments").items()
    }
    return File(found, tuple(looked.faults))


def interrupted(state: Mapping[str, Any]) -> State:
    """The state, in which what was under way has failed: nobody will ever finish it (15.2)."""
    stages = {}
    for name in state.get("stages") or {}:
        found = deployment.stage(state, name)
        if deployment.is_running(found["status"]["status"]):
            found["status"] = {**found["status"], "status": FAILURE, "data": _INTERRUPTED}
        nested = {key: interrupted(each) for key, each in found["deployments"].items()}
        stages[name] = found | {"deployments": nested}
    return {**state, "stages": stages}


def declaration(state: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared of a deployment that is taken over: it starts nothing by itself (15.2).

    Its inputs are those of the deployment, and over them what somebody has set in its deploy stage.
    """
    found = deployment.stage(state, DEPLOY)
    release = str(state["release"])
    return {
        "release": release if "/" in release else f"{NO_NAMESPACE}/{release}",
        "version": found["version"],
        "inputs": {**state["inputs"], **found["inputs"]},
        "providers": found["providers"],
        "reconcile": "manual",
        "suspend": not found["version"],
    }


@dataclass(slots=True)
class _Look:
    """One look at what came, with what is wrong so far."""

    faults: list[tuple[str, str]] = field(default_factory=list)

    def environment(self, value: Any, name: str, at: str) -> Environment:
        self.name(name, environment_name_fault, at)
        found = self.map(value, at)
        states = {
            key: self.deployment(each, key, f"{at}.deployments.{key}", 1)
            for key, each in self.map(found.get("deployments"), f"{at}.deployments").items()
        }
        return Environment(self.map(found.get("inputs"), f"{at}.inputs"), states)

    def deployment(self, value: Any, name: str, at: str, level: int) -> State:
        self.name(name, deployment_name_fault, at)
        if level > MOST_LEVELS:
            self.faults.append((at, f"is nested deeper than {MOST_LEVELS} levels"))
            return deployment.empty(name)
        found = self.map(value, at)
        stages = {}
        for key, each in self.map(found.get("stages"), f"{at}.stages").items():
            if key in STAGES:
                stages[key] = self.stage(each, f"{at}.stages.{key}", level)
            else:
                self.faults.append((f"{at}.stages.{key}", "is no stage; there are build and deploy"))
        return {
            "name": name,
            "release": self.text(found.get("release"), f"{at}.release") or name,
            "inputs": self.map(found.get("inputs"), f"{at}.inputs"),
            "stages": stages,
        }

    def stage(self, value: Any, at: str, level: int) -> dict[str, Any]:
        found = self.map(value, at)
        maps = {
            key: self.map(found.get(key), f"{at}.{key}")
            for key in ("inputs", "calculated_inputs", "calculated_outputs")
        }
        providers = self.map(found.get("providers"), f"{at}.providers")
        nested = self.map(found.get("deployments"), f"{at}.deployments")
        version = self.text(found.get("version"), f"{at}.version")
        return {
            **maps,
            "deployments": {
                key: self.deployment(each, key, f"{at}.deployments.{key}", level + 1)
                for key, each in nested.items()
            },
            "providers": {key: self.text(each, f"{at}.providers.{key}") for key, each in providers.items()},
            "provides": self.texts(found.get("provides"), f"{at}.provides"),
            "version": version,
            "status": self.status(found.get("status"), version, f"{at}.status"),
        }

    def status(self, value: Any, version: str, at: str) -> dict[str, Any]:
        found = self.map(value, at)
        code = self.text(found.get("status"), f"{at}.status")
        status: dict[str, Any] = {
            "status": code or deployment.code({"stages": {DEPLOY: {"version": version}}})
        }
        for key in ("updated_at", "try_again_at"):
            if moment := self.text(found.get(key), f"{at}.{key}"):
                if not _TIME.fullmatch(moment):
                    self.faults.append((f"{at}.{key}", "is no time such as 2030-01-02T03:04:05.6Z"))
                status[key] = moment
        for key in ("updated_by", "data"):
            if text := self.text(found.get(key), f"{at}.{key}"):
                status[key] = text
        tried = found.get("tried")
        if tried:
            if isinstance(tried, bool) or not isinstance(tried, int) or tried < 0:
                self.faults.append((f"{at}.tried", "must be a whole number, 0 or more"))
            status["tried"] = tried
        return status

    def field(self, value: Any, name: str, at: str) -> Any:
        if isinstance(value, Mapping):
            return value.get(name)
        self.faults.append((at, "must be an object"))
        return None

    def name(self, name: str, fault: Callable[[str], str | None], at: str) -> None:
        if message := fault(name):
            self.faults.append((at, message))

    def map(self, value: Any, at: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.faults.append((at, "must be an object"))
            return {}
        return {str(key): each for key, each in value.items() if each is not None}

    def text(self, value: Any, at: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            self.faults.append((at, "must be a text"))
            return ""
        return value

    def texts(self, value: Any, at: str) -> list[str]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.faults.append((at, "must be a list of texts"))
            return []
        return [self.text(each, f"{at}[{number}]") for number, each in enumerate(value)]
