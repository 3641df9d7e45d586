"""The example 09-shop on this machine, as a person sets it up: for its own test, and for pictures of the dashboard."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from reconciler.execution import sandbox
from tests.support import Process, SpecRepository, start

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "09-shop"
PORTS = ("7101", "7102", "7201", "7202")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def hook() -> Iterator[tuple[str, list[Any]]]:
    """A server that is told of releases: its address, and what it was told."""
    told: list[Any] = []

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Note it."""
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", told
    finally:
        server.shutdown()
        server.server_close()


class Shop:
    """The example on this machine: bare repositories, work trees of a person, a folder where things live on."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.live = folder / "live"
        self.live.mkdir()
        self.ports = dict(zip(PORTS, free_ports(4), strict=True))
        python = Path(sys.base_prefix)
        self.values = {
            "/srv/git/shop.git": str(folder / "shop.git"),
            "/srv/shop": str(self.live),
            "/srv/python/bin/python3": str(python / "bin" / "python3"),
            "/srv/python": str(python),
            "https://chat.example.org/hook": address,
        } | {old: str(new) for old, new in self.ports.items()}
        self.code = self._repository("shop", EXAMPLE / "code", {})
        self.specs = self._repository("specs", EXAMPLE / "specs", self.values)
        self.kills = 0

    def _repository(self, name: str, source: Path, values: dict[str, str]) -> SpecRepository:
        made = SpecRepository(self.folder / name)
        shutil.copytree(source, made.path, dirs_exist_ok=True)
        for path in made.path.rglob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            for old, new in values.items():
                text = text.replace(old, new)
            if path.name == "shop.yaml" and sandbox.bubblewrap() is None:
                text = text.replace("spec:\n  images:", "spec:\n  sandbox: off\n  images:")
            path.write_text(text, encoding="utf-8")
        made.commit(message="First")
        made.git("clone", "-q", "--bare", str(made.path), str(self.folder / f"{name}.git"))
        made.git("remote", "add", "origin", str(self.folder / f"{name}.git"))
        return made

    def push(
        self, repository: SpecRepository, files: dict[str, str | bytes | None] | None, message: str
    ) -> str:
        """What a person does."""
        repository.git("pull", "-q", "--rebase", "origin", "main")
        commit = repository.commit(files or {}, message) if files is not None else repository.head()
        repository.git("push", "-q", "origin", "HEAD:main")
        return commit

    def daemon(self) -> Process:
        """It is started, for the first time or again."""
        more = {"STEERSMAN_PRIVATE_ADDRESSES": "1"}
        if sandbox.bubblewrap() is None:
            more["STEERSMAN_ALLOW_UNSANDBOXED"] = "1"
        return start(self.folder / "specs.git", self.data, **more)

    def page(self, port: str) -> str:
        """What a deployed storefront, or database, answers; "" for nobody."""
        path = "orders" if port in ("7101", "7201") else ""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[port]}/{path}", timeout=5).text
        except httpx.HTTPError:
            return ""

    def quit(self, port: str) -> None:
        """End what is deployed behind everybody's back."""
        with contextlib.suppress(httpx.RemoteProtocolError):  # it may be gone before it has answered
            httpx.post(f"http://127.0.0.1:{self.ports[port]}/stop", timeout=5)
