"""Rows about deployments and pipelines: how long it takes until what a commit asks for is under way."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import Process, SpecRepository, stop

_ENVIRONMENTS = 10
_EACH = 100
_PHASES = 20


def _document(kind: str, name: str, spec: dict[str, Any], **scope: str) -> str:
    meta = {"name": name, **scope}
    return json.dumps({"apiVersion": "steersman/v1", "kind": kind, "metadata": meta, "spec": spec})


def _deployments(word: str) -> dict[str, str]:
    """A file for each environment: deployments with a script of their own that does nothing."""
    files = {
        "project.yaml": _document("Project", "shop", {}),
        "executor.yaml": _document(
            "Executor",
            "local",
            {"images": {"host": {"type": "host"}}, "default_image": "host", "max_load": 4},
        ),
    }
    for number in range(_ENVIRONMENTS):
        name = f"e{number}"
        inputs = {"word": word}
        spec = {"scripts": {"deploy": {"inline": "true"}}, "inputs": inputs, "run_smoke": False}
        documents = [_document("Environment", name, {}, project="shop")]
        documents += [
            _document("Deployment", f"d{each}", spec, project="shop", environment=name)
            for each in range(_EACH)
        ]
        files[f"{name}.yaml"] = "\n---\n".join(documents)
    return files


def _newest(client: httpx.Client) -> int:
    found = client.get("/reconciler/jobs", params={"limit": 1}).json()["items"]
    return int(found[0]["number"]) if found else 0


def _until(running: Process, check: Any, seconds: float = 300) -> Any:
    return running.wait_for(check, seconds)


def measure_deployments(folder: Path) -> list[Row]:
    """1,000 deployments changed by one commit, and a pipeline of 20 phases whose steps do nothing."""
    return [_first_wave(folder / "many"), _phases(folder / "phases")]


def _first_wave(folder: Path) -> Row:
    repository = SpecRepository(folder / "specs")
    suspended = {
        name: text.replace('"run_smoke"', '"suspend": true, "run_smoke"')
        for name, text in _deployments("one").items()
    }
    first = repository.commit(suspended)
    running = start(repository.path, folder / "data")
    try:
        _until(
            running, lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == first
        )
        begin = time.perf_counter()
        repository.commit(_deployments("two"))
        total = _ENVIRONMENTS * _EACH
        with running.client() as client:
            while _newest(client) < total:
                time.sleep(0.05)
        took = time.perf_counter() - begin
    finally:
        stop(running)
    begin = time.perf_counter()
    for _ in range(100):
        subprocess.run(["/bin/sh", "-c", "true"], check=True)
    bare = (time.perf_counter() - begin) * total / 100
    return Row(
        "1,000 deployments in 10 environments changed by a commit → all started",
        took,
        15,
        "s",
        "1,000 bare scripts, one after the other",
        bare,
    )


def _phases(folder: Path) -> Row:
    """Seconds a step beyond what its script takes."""
    scripts = {"deploy": {"inline": "true"}}
    spec = {"scripts": scripts, "run_smoke": False, "reconcile": "manual"}
    steps = [
        {"name": f"p{n}", "steps": [{"type": "deploy", "environment": "prod", "deployment": "web"}]}
        for n in range(_PHASES)
    ]
    files = {
        "shop.yaml": "\n---\n".join(
            [
                _document("Project", "shop", {}),
                _document("Environment", "prod", {}, project="shop"),
                _document("Deployment", "web", spec, project="shop", environment="prod"),
                _document("Pipeline", "long", {"phases": steps}, project="shop"),
            ]
        )
    }
    repository = SpecRepository(folder / "specs")
    first = repository.commit(files)
    running = start(repository.path, folder / "data")
    base = "/api/v1/pipelines/by-project/shop/by-name/long/"
    try:
        _until(
            running, lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == first
        )
        begin = time.perf_counter()
        with running.client() as client:
            made = client.post(f"{base}trigger").raise_for_status().json()["id"]
        _until(running, lambda c: c.get(f"{base}executions/{made}/").json()["status"] == "ok")
        took = (time.perf_counter() - begin) * 1000 / _PHASES
    finally:
        stop(running)
    begin = time.perf_counter()
    for _ in range(_PHASES):
        subprocess.run(["bwrap", "--ro-bind", "/", "/", "true"], check=True)
    bare = (time.perf_counter() - begin) * 1000 / _PHASES
    return Row("pipeline of 20 phases of no-op deploys: a step", took, 500, "ms", "bare bubblewrap", bare)


MEASURES: dict[str, Callable[[Path], list[Row]]] = {"deployments": measure_deployments}
