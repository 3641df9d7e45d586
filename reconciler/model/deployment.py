"""What is deployed where: the state of a deployment, as plain JSON in the fields of the wire (escape-state, 7.14, 9.2).

A DeploymentState has {name, release, inputs, stages}; a stage, `build` or `deploy`, has {inputs, calculated_inputs,
calculated_outputs, deployments, providers, provides, version, status}, and may lack any of them. Nothing here changes
what it is given, and nothing polices a move from one status to another: the client jumps (6.13).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BUILD, DEPLOY = "build", "deploy"
STAGES = (BUILD, DEPLOY)

EMPTY = "empty"
PENDING = "pending"
RUNNING_PRE_STEP = "running_pre_step"
RUNNING_MAIN_STEP = "running_main_step"
RUNNING_POST_STEP = "running_post_step"
OK = "ok"
FAILURE = "failure"
TEST_PENDING = "test_pending"
RUNNING_TEST_STEP = "running_test_step"
TEST_FAILURE = "test_failure"
DESTROY_PENDING = "destroy_pending"
DESTROY_AND_DELETE_PENDING = "destroy_and_delete_pending"
RUNNING_PRE_DESTROY_STEP = "running_pre_destroy_step"
RUNNING_MAIN_DESTROY_STEP = "running_main_destroy_step"
RUNNING_POST_DESTROY_STEP = "running_post_destroy_step"
DESTROY_FAILURE = "destroy_failure"

WAITING = frozenset({PENDING, TEST_PENDING, DESTROY_PENDING, DESTROY_AND_DELETE_PENDING})
ERRORS = frozenset({FAILURE, TEST_FAILURE, DESTROY_FAILURE})
_STANDING = frozenset({OK, TEST_PENDING, RUNNING_TEST_STEP, TEST_FAILURE})
_GONE = frozenset({EMPTY, FAILURE, DESTROY_FAILURE})

HIDDEN = "***"
_STANDS = "stands"
_SECRET_NAME = re.compile(r"password|passwd|secret|token|key|credential", re.IGNORECASE)
_MAPS = ("inputs", "calculated_inputs", "calculated_outputs")
_STAGE: Mapping[str, Any] = {
    "inputs": {}, "calculated_inputs": {}, "calculated_outputs": {}, "deployments": {}, "providers": {},
    "provides": [], "version": "",
}  # fmt: skip

State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment is; its name may hold slashes."""

    project: str
    environment: str
    name: str

    @property
    def key(self) -> str:
        """The KEY of its declaration, and of its executions."""
        return f"Deployment/{self}"

    def __str__(self) -> str:
        return f"{self.project}/{self.environment}/{self.name}"


def of(key: str) -> Place:
    """The place of a Deployment's KEY; ValueError for any other."""
    kind, *parts = key.split("/", 3)
    if kind != "Deployment" or len(parts) != 3:
        raise ValueError(f"{key} is no KEY of a Deployment")
    return Place(*parts)


def empty(name: str, release: str | None = None) -> State:
    """The state of what was never deployed."""
    return {"name": name, "release": release or name, "inputs": {}, "stages": {}}


def is_running(code: str) -> bool:
    """Is a step under way? Codes that nobody knows count as such (9.2)."""
    return code not in WAITING and code not in ERRORS and code not in (EMPTY, OK)


def stage(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A stage whole. Without a status it is ok if it has a version, and else empty, as old clients left it (9.2)."""
    found = {**_STAGE, **((state.get("stages") or {}).get(name) or {})}
    if not (found.get("status") or {}).get("status"):
        found["status"] = {**(found.get("status") or {}), "status": OK if found["version"] else EMPTY}
    return found


def code(state: Mapping[str, Any], name: str = DEPLOY) -> str:
    """The status code of a stage."""
    return str(stage(state, name)["status"]["status"])


def is_deployed(state: Mapping[str, Any], name: str = DEPLOY) -> bool:
    """Does it stand there? By its status, as the version stays after a destroy: ok, in or after its test, or something
    under way on what was so before (9.2).
    """
    return _stands(stage(state, name))


def with_stage(state: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> State:
    """The state with these fields of a stage; its other fields stay."""
    before = stage(state, name)
    return _with(state, name, _carried(before, {**before, **fields}))


def at_path(state: Mapping[str, Any], path: str, root_stage: str) -> State | None:
    """The state at a path of names joined by `:`, the first of which is the root; None where nothing is (6.13).

    `root_stage`: in which stage of the root the second one hangs; all further ones hang in `deploy`.
    """
    found: Mapping[str, Any] | None = state
    for name, around in _steps(path, root_stage):
        if found is None:
            return None
        found = stage(found, around)["deployments"].get(name)
    return None if found is None else dict(found)


def put_at(state: Mapping[str, Any], path: str, root_stage: str, new: Mapping[str, Any]) -> State:
    """The state with `new` in the place of what is at a path; what is around and beside it stays (ST3).

    Parents that are missing are made, their release is their name.
    """
    return _put(state, list(_steps(path, root_stage)), new)


def path_fault(path: str, name: str, root_stage: str) -> str | None:
    """What is wrong with the path of something within the deployment `name`, in a sentence, or None."""
    first, _, rest = path.partition(":")
    if first != name:
        return f"begins with {first!r}, but the deployment is {name!r}"
    if rest and root_stage not in STAGES:
        return f"goes into the deployment, so root_stage must be build or deploy, not {root_stage!r}"
    return None


def summary(state: Mapping[str, Any]) -> State:
    """What may be known of a state without opening it: versions and statuses, without the texts of errors (EN3)."""
    stages = {}
    for name in state.get("stages") or {}:
        found = stage(state, name)
        status = {field: value for field, value in found["status"].items() if field != "data"}
        stages[name] = {"version": found["version"], "status": status}
    return {"name": state["name"], "release": state["release"], "stages": stages}


def provides(state: Mapping[str, Any]) -> tuple[str, ...]:
    """The interfaces that others may consume now: none of what is destroyed, though the state still says so (EN6)."""
    return tuple(sorted(set(stage(state, DEPLOY)["provides"]))) if is_deployed(state) else ()


def consumers(states: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    """The deployments of an environment that consume what this one provides, unless they are destroyed (9.6).

    Also where the last deploy has failed: what stood before may still be there.
    """
    return sorted(
        other
        for other, state in states.items()
        if other != name
        and code(state, DEPLOY) != EMPTY
        and name in stage(state, DEPLOY)["providers"].values()
    )


def shown(state: Mapping[str, Any], *, whole: bool) -> State:
    """The state as an answer has it: without our own marks; `whole`, or only versions and statuses."""
    if not whole:
        state = summary(state)
    stages = {}
    for name in state.get("stages") or {}:
        found = stage(state, name) if whole else dict(state["stages"][name])
        found["status"] = {field: value for field, value in found["status"].items() if field != _STANDS}
        if whole:
            found["deployments"] = {
                key: shown(each, whole=True) for key, each in sorted(found["deployments"].items())
            }
        stages[name] = found
    return {**state, "stages": stages}


def looks_secret(name: str) -> bool:
    """Is a value of this name not for everybody, where nothing says so? (15.2)"""
    return _SECRET_NAME.search(name) is not None


def masked(state: Mapping[str, Any], sensitive: Collection[str] | None) -> State:
    """The state for those who may not see its secrets: their values are `***`, in nested deployments as well.

    `sensitive`: the names that the release calls so; None where there is no such release: those that look like it.
    """
    hide = looks_secret if sensitive is None else sensitive.__contains__
    stages = {}
    for name, found in (state.get("stages") or {}).items():
        nested = found.get("deployments") or {}
        stages[name] = {
            **found,
            **{field: _hidden(found[field], hide) for field in _MAPS if found.get(field)},
            "deployments": {key: masked(each, None) for key, each in nested.items()},
        }
    return {**state, "inputs": _hidden(state.get("inputs") or {}, hide), "stages": stages}


def _hidden(values: Mapping[str, Any], hide: Any) -> dict[str, Any]:
    return {name: HIDDEN if hide(name) else value for name, value in values.items()}


def _stands(found: Mapping[str, Any]) -> bool:
    status = found["status"]
    if status["status"] in _STANDING:
        return True
    return status["status"] not in _GONE and status.get(_STANDS) is True


def _carried(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """A stage after a change: what is under way remembers whether the thing stood before."""
    found = dict(after)
    status = {field: value for field, value in (found.get("status") or {}).items() if field != _STANDS}
    status["status"] = status.get("status") or (OK if found.get("version") else EMPTY)
    if _stands(before) and status["status"] not in _STANDING | _GONE:
        status[_STANDS] = True
    return found | {"status": status}


def _with(state: Mapping[str, Any], name: str, found: Mapping[str, Any]) -> State:
    return {**state, "stages": {**(state.get("stages") or {}), name: dict(found)}}


def _steps(path: str, root_stage: str) -> Iterator[tuple[str, str]]:
    """The names below the root, each with the stage of its parent that it hangs in."""
    for depth, name in enumerate(path.split(":")[1:]):
        yield name, DEPLOY if depth else root_stage


def _put(state: Mapping[str, Any], steps: list[tuple[str, str]], new: Mapping[str, Any]) -> State:
    if not steps:
        stages = {name: _carried(stage(state, name), stage(new, name)) for name in new.get("stages") or {}}
        return {**new, "stages": stages}
    (name, around), *rest = steps
    parent = stage(state, around)
    child = parent["deployments"].get(name) or empty(name)
    found = {**parent, "deployments": {**parent["deployments"], name: _put(child, rest, new)}}
    return _with(state, around, found)
