"""What the real client does with the State Service (escape-state, 16): its requests, their order, its strictness.

Each request has a connection of its own and names no type that it accepts. The whole state of an environment is read
once; then the state of one deployment is put after each change, whole, as the client has it in memory.
"""

from __future__ import annotations

import http.client
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

_NAME = re.compile(r"^[a-zA-Z_]+[a-zA-Z0-9-_/]*$")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$")


class Unauthorized(Exception):
    """What it prints for a 401, whatever the body says."""


class Failed(Exception):
    """What it prints for anything but 200: the status line, and the body in brackets."""


class StateClient:
    """One run of the client: `server` and `token` as its profile has them."""

    def __init__(self, server: str, token: str, project: str, environment: str) -> None:
        self._address = urlsplit(server)
        self._token = token
        self._root = f"/api/v1/state/{project}/environments/{environment}/"
        self.state: dict[str, Any] = {}
        self.sent: list[tuple[str, str]] = []
        self.puts = 0

    def load(self) -> dict[str, Any]:
        """At the start of each command; what it cannot read, it refuses whole."""
        found = json.loads(self._ask("GET", f"{self._root}?full=true"))
        for name, state in (found.get("deployments") or {}).items():
            _readable(name, state)
        self.state = found
        return dict(found)

    def deployment(self, name: str, release: str) -> dict[str, Any]:
        """From what was loaded, or a new one."""
        known = self.state.setdefault("deployments", {})
        found: dict[str, Any] = known.setdefault(name, {"name": name, "release": release, "stages": {}})
        return found

    def deploy(
        self, name: str, version: str, *, fails: bool = False, path: str = "", stage: str = "deploy"
    ) -> None:
        """`run deploy` (or build): the very puts that it makes, with their codes."""
        root = self.deployment(name, name)
        found = _at(root, (path or name).split(":")[1:], stage)
        mine = found.setdefault("stages", {}).setdefault("deploy" if path else stage, {})
        mine |= {"version": version, "providers": mine.get("providers") or {}}
        self.put(name, path, stage, found)
        codes = ["running_pre_step"] * 2 + ["running_main_step"] * 2
        for code in codes[: 3 if fails else 4]:
            self.tell(name, path, stage, found, mine, code)
        if fails:
            self.tell(name, path, stage, found, mine, "failure", data="exit status 3")
            return
        for code in ["running_post_step"] * 2:
            mine["calculated_outputs"] = {"url": "http://web"}
            self.tell(name, path, stage, found, mine, code)
        self.tell(name, path, stage, found, mine, "ok")

    def smoke(self, name: str) -> None:
        """`run smoke`."""
        self._codes(name, "deploy", "running_test_step", "ok")

    def destroy(self, name: str) -> None:
        """`run destroy`: of the build stage, then of the deploy stage; it keeps version and provides."""
        steps = ("running_pre_step", "running_main_destroy_step")
        for stage in ("build", "deploy"):
            self._codes(name, stage, *steps, *["running_post_destroy_step"] * 3, clear=True)
            self._codes(name, stage, "empty")

    def remove(self, name: str) -> None:
        """At the end of `run converge`, of what was destroyed to be deleted."""
        self._ask("DELETE", f"{self._root}deployments/?deployment={quote(name, safe='')}")

    def tell(
        self,
        name: str,
        path: str,
        stage: str,
        found: dict[str, Any],
        mine: dict[str, Any],
        code: str,
        **more: Any,
    ) -> None:
        """A new status, with the time of this moment."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
        mine["status"] = {"status": code, "updated_at": now, "updated_by": "", **more}
        self.put(name, path, stage, found)

    def put(self, name: str, path: str, stage: str, state: dict[str, Any]) -> None:
        """One update, which must be answered by exactly 200."""
        body = {"path": path or name, "root_stage": stage if path else "", "state": _compact(state)}
        answer = self._ask("PUT", f"{self._root}deployments/?deployment={quote(name, safe='')}", body)
        self.puts += 1
        assert answer == b""
        code = state["stages"].get("deploy" if path else stage, {}).get("status", {}).get("status", "")
        self.sent.append((body["path"], code))

    def _codes(self, name: str, stage: str, *codes: str, clear: bool = False) -> None:
        found = self.deployment(name, name)
        mine = found["stages"].setdefault(stage, {})
        for code in codes:
            if clear:
                mine |= {"calculated_inputs": {}, "calculated_outputs": {}}
            self.tell(name, "", stage, found, mine, code)

    def _ask(self, method: str, target: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port, timeout=30)
        headers = {"X-Escape-Token": self._token, "User-Agent": "Go-http-client/1.1", "Connection": "close"}
        content = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            found = answer.read()
        finally:
            connection.close()
        if answer.status == 401:
            raise Unauthorized
        if answer.status != 200:
            raise Failed(f"{answer.status} {answer.reason} [{found.decode()}]")
        return found


def _at(state: dict[str, Any], names: list[str], stage: str) -> dict[str, Any]:
    """What is nested there, made where it is not."""
    for depth, name in enumerate(names):
        parent = state.setdefault("stages", {}).setdefault("deploy" if depth else stage, {})
        nested = parent.get("deployments") or {}
        parent["deployments"] = nested
        state = nested.setdefault(name, {"name": name, "release": name, "stages": {}})
    return state


def _compact(value: Any) -> Any:
    """Empty maps, lists and texts are left out."""
    if not isinstance(value, dict):
        return value
    found = {key: _compact(each) for key, each in value.items()}
    return {key: each for key, each in found.items() if each not in ({}, [], "", None)}


def _readable(name: str, state: Any) -> None:
    """What its decoder takes: no null in a map, no list for a map, good names, and times that are none or good."""
    assert _NAME.match(name), name
    assert isinstance(state, dict), state
    assert isinstance(state["stages"], dict)
    for stage in state["stages"].values():
        assert isinstance(stage, dict), stage
        for field in ("inputs", "calculated_inputs", "calculated_outputs", "deployments", "providers"):
            assert isinstance(stage.get(field, {}), dict), stage
            assert None not in stage.get(field, {}).values()
        assert isinstance(stage.get("provides", []), list)
        for field in ("updated_at", "try_again_at"):
            moment = stage.get("status", {}).get(field)
            assert moment is None or _TIME.match(moment), moment
        for nested, each in stage.get("deployments", {}).items():
            _readable(nested, each)
