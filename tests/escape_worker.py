"""A small external worker: takes what it is handed over HTTP, and a script says what it does (escape-state, 12.4)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


class Handed:
    """An execution as the worker was told of it, and the ways back to the server."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.client = httpx.Client(
            headers={"X-Escape-Token": told["token"], "Accept": "application/json"}, timeout=30
        )

    def push(self, *messages: str, **said: Any) -> httpx.Response:
        """Entries, and how it goes."""
        body = {"entries": [{"message": message} for message in messages]} | said
        return self.client.post(f"{self.told['callback']}/logs", json=body)

    def commit(self, revision: str, **more: Any) -> httpx.Response:
        """Which commit it builds."""
        body = {"git_revision": revision} | more
        return self.client.put(f"{self.told['callback']}/commit", json=body)


class Worker:
    """What it was told, oldest first. `answer`: the status that it answers; `work` is done in a thread of its own."""

    def __init__(self, work: Callable[[Handed], None] | None) -> None:
        self.told: list[dict[str, Any]] = []
        self.answer = 200
        self.url = ""
        self._work = work
        self.failed: list[BaseException] = []

    def take(self, body: dict[str, Any]) -> None:
        """One POST."""
        self.told.append(body)
        if self._work is not None and body["kind"] != "cancel" and self.answer == 200:
            threading.Thread(target=self._do, args=(Handed(body),), daemon=True).start()

    def _do(self, handed: Handed) -> None:
        try:
            with handed.client:
                assert self._work is not None
                self._work(handed)
        except BaseException as error:
            self.failed.append(error)
            raise


@contextmanager
def worker(work: Callable[[Handed], None] | None = None) -> Iterator[Worker]:
    """Listens on a free port of this machine."""
    found = Worker(work)

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take(json.loads(body))
            self.send_response(found.answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hand"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
