"""A real S3 over HTTP for tests of object stores: moto's server, one for each test process, a new bucket each time."""

from __future__ import annotations

import atexit
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

_numbers = itertools.count(1)
NAMES = {"access_key_id": "someone", "secret_access_key": "hush-hush-object-store", "region": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """An empty one at first: its URL for us, and obstore's options to reach it."""

    url: str
    options: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """As settings of a daemon."""
        return {"object_store": f"{self.url}/some/prefix", "object_store_options": self.options}

    def store(self) -> Any:
        """What is in it, by obstore."""
        from obstore.store import from_url

        config: Any = self.options
        return from_url(self.url, config=config, client_options={"allow_http": True})


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A new one."""
    endpoint = _server()
    name = f"steersman-{os.getpid()}-{next(_numbers)}"
    assert httpx.put(f"{endpoint}/{name}", headers=_SIGNED).status_code == 200
    yield Bucket(f"s3://{name}", NAMES | {"endpoint": endpoint})


_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=someone/20300101/us-east-1/s3/aws4_request"}


@cache
def _server() -> str:
    """Its address; it ends with this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(_end, running)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/moto-api/", timeout=5)
            return url
        except httpx.TransportError:
            assert running.poll() is None, "moto's server did not start"
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.1)


def _end(running: subprocess.Popen[bytes]) -> None:
    running.kill()
    running.wait()
