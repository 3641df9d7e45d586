"""Rows about release safety: schedules listed and made, and many deploys that wait for the same hour."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.bench import dialects
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import Process, SpecRepository, stop

_RELEASES = 1_000
_SLAS = 10
_HELD = 1_000
_ENVIRONMENTS = 10


def _document(kind: str, name: str, spec: dict[str, object], **scope: str) -> str:
    meta = {"name": name, **scope}
    return json.dumps({"apiVersion": "steersman/v1", "kind": kind, "metadata": meta, "spec": spec})


def _applied(daemon: Process, commit: str, seconds: float = 120) -> None:
    daemon.wait_for(
        lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == commit, seconds
    )


def measure_schedules_of_products(folder: Path) -> list[Row]:
    """10,000 entries; a filtered page of 50, and 1,000 more in one request, which is one commit."""
    slas = [f"sla-{number}" for number in range(_SLAS + 1)]
    files = {"slas.yaml": "\n---\n".join(_document("SLA", name, {}) for name in slas)}
    for number in range(_RELEASES):
        spec = {
            "short": "fedora",
            "version": str(number),
            "display_name": f"Fedora {number}",
            "release_type": "ga",
            "schedule": {name: f"20{30 + at}-05-{number % 28 + 1:02}" for at, name in enumerate(slas[:-1])},
        }
        files[f"releases/{number}.yaml"] = _document("ProductRelease", f"fedora-{number}", spec)
    repository = SpecRepository(folder / "specs")
    commit = repository.commit(files)
    daemon = start(repository.path, folder / "data")
    try:
        _applied(daemon, commit)
        token = daemon.token
        path = "/rest_api/v1/release-schedules/?sla=sla-3&date_after=2033-05-10&ordering=-date&page_size=50"
        content = httpx.get(daemon.url + path, headers={"Authorization": f"Token {token}"}).raise_for_status()
        assert len(content.json()["results"]) == 50
        rate = asyncio.run(dialects.asked(daemon.url, path, token))
        bare = dialects.bare_rate(content.content)
        entries = [
            {"release": f"fedora-{number}", "sla": slas[-1], "date": "2040-01-01"}
            for number in range(_RELEASES)
        ]
        begin = time.perf_counter()
        with daemon.client() as client:
            made = client.post(
                "/rest_api/v1/release-schedules/",
                json=entries,
                timeout=120,
            )
        took = time.perf_counter() - begin
        assert made.status_code == 201, made.text[:500]
        begin = time.perf_counter()
        repository.git("reset", "-q", "--hard")
        repository.commit({f"releases/{number}.yaml": "{}" for number in range(_RELEASES)})
        by_git = time.perf_counter() - begin
    finally:
        stop(daemon)
    return [
        Row(
            "PDC: 50 schedules filtered among 10,000",
            rate,
            bare / 2,
            "/s",
            "bare handler",
            bare,
            at_least=True,
        ),
        Row(
            "PDC: 1,000 schedules made in one request, one commit", took, 10, "s", "git commit alone", by_git
        ),
    ]


def measure_window(folder: Path) -> list[Row]:
    """1,000 deploys that wait for the same hour: how long after it until the last one is let go."""
    opens = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
    rule = {
        "type": "schedule",
        "begin_time": opens.strftime("%H:%M:%S"),
        "end_time": (opens + timedelta(minutes=55)).strftime("%H:%M:%S"),
    }
    files = {
        "rules.yaml": _document("ApprovalRuleset", "hours", {"rules": [rule]}),
        "project.yaml": _document("Project", "shop", {}),
        "executor.yaml": _document(
            "Executor",
            "local",
            {"images": {"host": {"type": "host"}}, "default_image": "host", "max_load": 4},
        ),
    }
    spec: dict[str, object] = {"scripts": {"deploy": {"inline": "true"}}, "run_smoke": False}
    bindings = {"approval_ruleset_bindings": [{"approval_ruleset": "hours"}]}
    for number in range(_ENVIRONMENTS):
        name = f"e{number}"
        documents = [_document("Environment", name, dict(bindings), project="shop")]
        documents += [
            _document("Deployment", f"d{each}", spec, project="shop", environment=name)
            for each in range(_HELD // _ENVIRONMENTS)
        ]
        files[f"{name}.yaml"] = "\n---\n".join(documents)
    repository = SpecRepository(folder / "specs")
    repository.commit(files)
    daemon = start(repository.path, folder / "data")
    try:
        with daemon.client() as client:
            while datetime.now(UTC) < opens - timedelta(seconds=2):
                time.sleep(0.5)
            assert _held(client) == _HELD
            while datetime.now(UTC) < opens:
                time.sleep(0.005)
            begin = time.perf_counter()
            while _held(client):
                time.sleep(0.05)
            took = time.perf_counter() - begin
    finally:
        stop(daemon)
    begin = time.perf_counter()
    for _ in range(100):
        subprocess.run(["/bin/sh", "-c", "true"], check=True)
    bare = (time.perf_counter() - begin) * _HELD / 100
    return [
        Row("1,000 held deploys, their window opens → all let go", took, 20, "s", "1,000 bare scripts", bare)
    ]


def _held(client: httpx.Client) -> int:
    found = client.get("/reconciler/jobs", params={"limit": 500, "state": "pending"}).json()["items"]
    count = sum(job["held"] for job in found)
    if len(found) == 500:
        more = client.get(
            "/reconciler/jobs", params={"limit": 500, "state": "pending", "after": found[-1]["number"]}
        ).json()["items"]
        count += sum(job["held"] for job in more)
    return count


MEASURES = {"products": measure_schedules_of_products, "held": measure_window}
