"""Rows about states of deployments: what the client of Escape puts after each of its steps, beside a bare handler."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx

from tests.bench.dialects import free_port
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import SpecRepository, stop

_CLIENTS = 16
_SECONDS = 5.0
_HEADER = "apiVersion: steersman/v1\nkind: "
_SPECS = (
    f"{_HEADER}Project\nmetadata: {{name: shop}}\n---\n"
    f"{_HEADER}Environment\nmetadata: {{name: prod, project: shop}}\n"
)
_PATH = "/api/v1/state/shop/environments/prod/deployments/"
_BARE = """
import asyncio, sqlite3, sys
from concurrent.futures import ThreadPoolExecutor
import uvicorn
from litestar import Litestar, Request, Response, put

DATABASE = sqlite3.connect(sys.argv[2], isolation_level=None, check_same_thread=False)
DATABASE.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
DATABASE.execute("CREATE TABLE t (name TEXT PRIMARY KEY, state BLOB)")
WRITER = ThreadPoolExecutor(1)

def store(name, body):
    DATABASE.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (name, body))

@put("/api/v1/state/shop/environments/prod/deployments/")
async def state(request: Request, deployment: str) -> Response[bytes]:
    body = await request.body()
    await asyncio.get_running_loop().run_in_executor(WRITER, store, deployment, body)
    return Response(b"", media_type="text/plain")

app = Litestar([state], openapi_config=None)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def _update(name: str, turn: int) -> bytes:
    """About 2 KB, as a deployment with some inputs and outputs has."""
    inputs = {f"input_{number}": "value " * 6 for number in range(20)}
    status = {"status": "running_main_step", "updated_at": f"2030-01-02T03:04:05.{turn:09d}Z"}
    stage = {"version": "1.4.12", "provides": ["http"], "inputs": inputs, "calculated_inputs": inputs}
    state = {"name": name, "release": "shop/web", "stages": {"deploy": stage | {"status": status}}}
    return json.dumps({"path": name, "root_stage": "", "state": state}).encode()


async def _one(host: str, port: int, token: str, name: str, turn: int) -> float:
    """Seconds of one PUT on a connection of its own."""
    body = _update(name, turn)
    head = (
        f"PUT {_PATH}?deployment={quote(name, safe='')} HTTP/1.1\r\nHost: {host}\r\nX-Escape-Token: {token}\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + body)
    answer = await reader.read()
    took = time.perf_counter() - begin
    assert answer.startswith(b"HTTP/1.1 200"), answer
    writer.close()
    return took


async def _puts(url: str, token: str, clients: int) -> list[float]:
    """Seconds of every PUT of so many clients, each of which goes on when its last one is answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    until = time.perf_counter() + _SECONDS

    async def client(number: int) -> list[float]:
        times = []
        while time.perf_counter() < until:
            times.append(await _one(host, int(port), token, f"shop/web-{number}", len(times)))
        return times

    found = await asyncio.gather(*(client(number) for number in range(clients)))
    return sorted(each for times in found for each in times)


def _bare(folder: Path) -> tuple[list[float], list[float]]:
    """The same of a bare Litestar handler that stores the bytes in SQLite: of all clients, and of one."""
    port = str(free_port())
    process = subprocess.Popen([sys.executable, "-c", _BARE, port, str(folder / "bare.db")])
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while True:
            try:
                httpx.put(f"{url}{_PATH}?deployment=first", content=b"{}").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(0.05)
        return asyncio.run(_puts(url, "none", _CLIENTS)), asyncio.run(_puts(url, "none", 1))
    finally:
        process.terminate()
        process.wait()


def measure_states(folder: Path) -> list[Row]:
    """16 clients that put states as fast as they are answered, and one that does."""
    repository = SpecRepository(folder / "specs")
    commit = repository.commit({"shop.yaml": _SPECS})
    daemon = start(repository.path, folder / "data")
    try:
        daemon.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == commit
        )
        many = asyncio.run(_puts(daemon.url, daemon.token, _CLIENTS))
        alone = asyncio.run(_puts(daemon.url, daemon.token, 1))
    finally:
        stop(daemon)
    bare_many, bare_alone = _bare(folder)
    reference = _last(bare_many)
    return [
        Row(
            f"state PUT, p99 of {_CLIENTS} clients",
            _last(many),
            3 * reference,
            "ms",
            "bare handler, SQLite",
            reference,
        ),
        Row(
            "state PUT, one client",
            statistics.median(alone) * 1e3,
            10,
            "ms",
            "bare handler, SQLite",
            statistics.median(bare_alone) * 1e3,
        ),
    ]


def _last(times: list[float]) -> float:
    """Milliseconds within which 99 of 100 were answered."""
    return times[int(len(times) * 0.99)] * 1e3


MEASURES: dict[str, Callable[[Path], list[Row]]] = {"states": measure_states}
