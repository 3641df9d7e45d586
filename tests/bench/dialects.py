"""Rows about the served APIs of other systems: pages of jobs, a manifest's way to its first script, many at once."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from reconciler.model.job import Checkout, manifest_key
from reconciler.model.rights import Level
from reconciler.store import jobs as rows
from reconciler.store.database import Write, connect
from reconciler.store.jobs import NewJob
from specs.manifest import parse
from specs.manifest_work import JobFacts, work
from tests.bench import baselines
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import Process, SpecRepository, stop

_JOBS = 10_000
_CONNECTIONS = 16
_SECONDS = 3
_PEOPLE = ("ana", "bob", "jo")
_EACH = 100
_TURNS = 9
_HEADER = "apiVersion: steersman/v1\nkind: "
_USERS = "---\n".join(f"{_HEADER}User\nmetadata: {{name: {name}}}\nspec: {{}}\n" for name in _PEOPLE)
MANIFEST = "image: host\ntasks:\n- first: |\n    {script}\n"
_BARE = """
import sys
import uvicorn
from litestar import Litestar, Response, get

CONTENT = sys.stdin.buffer.read()

@get("/page")
async def page() -> Response[bytes]:
    return Response(CONTENT, media_type="application/json")

app = Litestar([page], openapi_config=None)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def _executor(slots: int, out: Path) -> str:
    spec = f"{{max_load: {slots}, images: {{host: {{type: host}}}}, writable: ['{out}']}}"
    return f"{_HEADER}Executor\nmetadata: {{name: local}}\nspec: {spec}\n"


def _started(folder: Path, slots: int) -> Process:
    out = folder / "out"
    out.mkdir()
    repository = SpecRepository(folder / "specs")
    commit = repository.commit({"users.yaml": _USERS, "executor.yaml": _executor(slots, out)})
    daemon = start(repository.path, folder / "data")
    daemon.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == commit)
    return daemon


def _token(client: httpx.Client, name: str) -> str:
    body = {"name": "bench", "level": "write", "subject": f"User/{name}"}
    found: str = client.post("/reconciler/tokens", json=body).raise_for_status().json()["token"]
    return found


def measure_pages(folder: Path) -> list[Row]:
    """Pages among 10,000 jobs, asked for by 16 connections at once, beside a handler that has the same bytes ready."""
    daemon = _started(folder, 1)
    try:
        with daemon.client() as client:
            token = _token(client, "jo")
    finally:
        stop(daemon)
    asyncio.run(_fill(folder / "data"))
    daemon = start(folder / "specs", folder / "data")
    found = []
    try:
        for name, path in (
            ("Cider-CI, 10 jobs", "/cider-ci/api/jobs/?page=3"),
            ("builds.sr.ht, 50 jobs", "/api/jobs"),
            ("native API, 50 jobs", "/reconciler/jobs?limit=50"),
        ):
            headers = {"Authorization": f"token {token}"}
            content = httpx.get(daemon.url + path, headers=headers).raise_for_status().content
            assert len(json.loads(content)) > 0
            rate = asyncio.run(asked(daemon.url, path, token))
            anew = _anew(daemon.url + path, token)
            bare = bare_rate(content)
            found.append(
                Row(
                    f"page of {name}, among 10,000", rate, bare / 2, "/s", "bare handler", bare, at_least=True
                )
            )
            alone = 1e3 / bare
            found.append(
                Row("…: the first time, after a change", anew * 1e3, 50, "ms", "bare handler", alone)
            )
    finally:
        stop(daemon)
    return found


def _anew(address: str, token: str) -> float:
    """Seconds for a page that nobody has asked for just now."""
    times = []
    with httpx.Client(headers={"Authorization": f"token {token}"}) as client:
        for turn in range(40):
            begin = time.perf_counter()
            client.get(f"{address}{'&' if '?' in address else '?'}turn={turn}").raise_for_status()
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def _fill(data: Path) -> None:
    """Jobs of jo that wait for a start."""
    specification = work(parse(MANIFEST.format(script="true")), job=JobFacts("jo"))
    new = NewJob(
        key=manifest_key("jo"),
        specification=specification | {"concurrency": "allow", "note": None, "tags": []},
        work_digest="0",
        checkout=Checkout(),
        trigger={"type": "manifest"},
        inputs={},
        actor="User/jo",
        held=True,
        grants={"User/jo": Level.OWNER, "*": Level.READ},
    )

    def some(write: Write) -> None:
        for _ in range(500):
            rows.create(write.connection, new, write.now, write.version)

    database = connect(f"sqlite:///{data}/steersman.db")
    try:
        await database.load_version()
        for _ in range(_JOBS // 500):
            await database.write(some)
    finally:
        await database.close()


def bare_rate(content: bytes) -> float:
    """Requests a second of a bare Litestar handler."""
    with httpx.Client() as client:
        port = free_port()
        process = subprocess.Popen([sys.executable, "-c", _BARE, str(port)], stdin=subprocess.PIPE)
        try:
            assert process.stdin is not None
            process.stdin.write(content)
            process.stdin.close()
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 30
            while True:
                try:
                    client.get(f"{url}/page").raise_for_status()
                    break
                except httpx.TransportError:
                    assert time.monotonic() < until
                    time.sleep(0.05)
            return asyncio.run(asked(url, "/page", "none"))
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def asked(url: str, path: str, token: str) -> float:
    """Requests a second over connections that stay open; the best of three, the client itself costs little."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: token {token}\r\nAccept: */*\r\n\r\n".encode()
    )

    async def connection(until: float) -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        count = 0
        while time.perf_counter() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            lines = head.lower().split(b"\r\n")
            length = next(line.partition(b":")[2] for line in lines if line.startswith(b"content-length"))
            await reader.readexactly(int(length))
            count += 1
        writer.close()
        return count

    rates = []
    for _ in range(3):
        begin = time.perf_counter()
        counts = await asyncio.gather(*(connection(begin + _SECONDS) for _ in range(_CONNECTIONS)))
        rates.append(sum(counts) / (time.perf_counter() - begin))
    return max(rates)


def measure_submit(folder: Path) -> list[Row]:
    """From the submission of a manifest to its first script."""
    daemon = _started(folder, 4)
    out = folder / "out"
    times, bare = [], []
    try:
        with daemon.client() as client:
            headers = {"Authorization": f"token {_token(client, 'jo')}"}
            for turn in range(_TURNS):
                marker = out / str(turn)
                text = MANIFEST.format(script=f"echo x > {marker}")
                time.sleep(0.5)
                begin = time.perf_counter()
                client.post("/api/jobs", json={"manifest": text}, headers=headers).raise_for_status()
                while not marker.exists():
                    assert time.perf_counter() - begin < 30
                    time.sleep(0.0005)
                times.append(time.perf_counter() - begin)
                bare.append(baselines.start_script(out / f"bare-{turn}"))
    finally:
        stop(daemon)
    value, reference = statistics.median(times[2:]) * 1e3, statistics.median(bare[2:]) * 1e3
    return [
        Row(
            "manifest submitted → its first script", value, 100, "ms", "a hook and bare bubblewrap", reference
        )
    ]


def measure_many(folder: Path) -> list[Row]:
    """300 manifests, one submitter after the other: all end, and each submitter gets its part from the start."""
    daemon = _started(folder, 4)
    try:
        with daemon.client() as client:
            tokens = {name: _token(client, name) for name in _PEOPLE}
        begin = time.perf_counter()
        asyncio.run(_submit_all(daemon.url, tokens))
        submitted = time.perf_counter() - begin
        jobs = _ended(daemon, len(_PEOPLE) * _EACH)
    finally:
        stop(daemon)
    assert [job["state"] for job in jobs] == ["passed"] * len(jobs)
    last = max(job["created_at"] for job in jobs)
    after = sorted((job for job in jobs if job["started_at"] > last), key=lambda job: job["started_at"])
    left = Counter(job["key"] for job in after)
    span = min(left.values()) * len(left)  # while all of them have something waiting
    share = min(Counter(job["key"] for job in after[:span]).values()) / (span / len(left))
    queue = Counter(job["key"] for job in sorted(after, key=lambda job: job["number"])[:span])
    in_line = min(queue.get(key, 0) for key in left) / (span / len(left))
    took = time.perf_counter() - begin
    return [
        Row("300 manifests at once: all of them through", took, 60, "s", "their submission alone", submitted),
        Row(
            "…: the least that a submitter got of its part",
            share * 100,
            80,
            "%",
            "first come, first served",
            in_line * 100,
            at_least=True,
        ),
    ]


async def _submit_all(url: str, tokens: dict[str, str]) -> None:
    """Each submitter's all at once, the submitters one after the other."""
    limits = httpx.Limits(max_connections=_CONNECTIONS)
    body = {"manifest": MANIFEST.format(script="sleep 0.1")}
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        for token in tokens.values():
            headers = {"Authorization": f"token {token}"}
            answers = await asyncio.gather(
                *(client.post("/api/jobs", json=body, headers=headers) for _ in range(_EACH))
            )
            assert {answer.status_code for answer in answers} == {200}


def _ended(daemon: Process, count: int) -> list[dict[str, Any]]:
    """All jobs once none is at work."""

    def idle(client: httpx.Client) -> bool:
        busy = client.get("/reconciler/status").json()["jobs"]
        return not busy["pending"] and not busy["executing"]

    until = time.monotonic() + 300
    with daemon.client() as client:
        while not idle(client):
            assert time.monotonic() < until, "the jobs did not end"
            time.sleep(0.25)
        found: list[dict[str, Any]] = client.get("/reconciler/jobs", params={"limit": 500}).json()["items"]
    assert len(found) == count
    return found


MEASURES: dict[str, Callable[[Path], list[Row]]] = {
    "pages": measure_pages,
    "submit": measure_submit,
    "manifests": measure_many,
}
