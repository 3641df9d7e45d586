"""The command line's HTTP client: server, token, and errors as one sentence with the next step."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent, connect_sse

from api.cli import remembered
from api.cli.output import fail

DEFAULT_SERVER = "http://127.0.0.1:8080"
PATIENCE = 60.0  # seconds that a stream waits for a server that is being started again
_RETRY = 0.5
_CONNECT = 10.0
_NEAR = ("steersman-data/admin.token", "run/data/admin.token")


@dataclass(frozen=True)
class Client:
    """One server, one token."""

    server: str
    token: str | None

    def get(self, path: str, **params: Any) -> Any:
        """JSON of a GET."""
        return self._json("GET", path, params=_given(params))

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """The items of a list, page by page to its end."""
        while True:
            page = self.get(path, **params)
            yield from page["items"]
            if page["next"] is None:
                return
            params["after"] = page["next"]

    def look(self, path: str) -> Any:
        """The same, or None when there is no such answer to be had now."""
        try:
            with self._opened() as client:
                response = client.get(path)
        except httpx.TransportError:
            return None
        return response.json() if response.is_success else None

    def post(self, path: str, body: Any = None, *, timeout: float = 30, **params: Any) -> tuple[int, Any]:
        """(status, JSON) of a POST."""
        response = self._request("POST", path, json=body, params=_given(params), timeout=timeout)
        return response.status_code, response.json()

    def delete(self, path: str) -> None:
        """A DELETE."""
        self._request("DELETE", path)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any answer, also one that refuses."""
        try:
            with self._opened() as client:
                return client.request(method, path, **more)
        except httpx.TransportError as error:
            self._unreachable(error)

    def text(self, path: str, **params: Any) -> Iterator[bytes]:
        """The bytes of a GET as they come."""
        try:
            with self._opened() as client, client.stream("GET", path, params=_given(params)) as response:
                if response.status_code >= 400:
                    response.read()
                    explain(response)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            self._unreachable(error)

    def follow(self, path: str, *, reached: bool = False, **params: Any) -> Iterator[ServerSentEvent]:
        """The messages of a live stream until its `end`.

        A broken connection is taken up again behind the last message, for a minute; `reached`: also the first one.
        """
        outage = Outage(self.server, reached)
        last = ""
        while True:
            why = "the stream ended early"
            try:
                with self._live(path, last, params) as source:
                    for message in _messages(source, outage):
                        last = message.id or last
                        if not message.data:
                            continue  # a comment, which the library takes for a message once there was an id
                        yield message
                        if message.event == "end":
                            return
            except httpx.TransportError as error:
                if not outage.reached:
                    self._unreachable(error)
                why = str(error)
            outage.wait(why)

    @contextmanager
    def _live(self, path: str, last: str, params: dict[str, Any]) -> Iterator[EventSource]:
        headers = {"Last-Event-ID": last} if last else {}
        with (
            self._opened(httpx.Timeout(None, connect=_CONNECT)) as client,
            connect_sse(client, "GET", path, params=_given(params), headers=headers) as source,
        ):
            yield source

    def _json(self, method: str, path: str, **more: Any) -> Any:
        return self._request(method, path, **more).json()

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        response = self.ask(method, path, **more)
        if response.status_code >= 400:
            explain(response)
        return response

    def _unreachable(self, error: httpx.TransportError) -> NoReturn:
        fail(f"cannot reach {self.server}: {error}; is the daemon running there? Name it with --server")

    def _opened(self, timeout: float | httpx.Timeout = 30) -> httpx.Client:
        headers = {"User-Agent": "steersman-cli"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        secure = not self.server.startswith(
            "http://"
        )  # loading all certificates takes 60 ms, for nothing there
        return httpx.Client(base_url=self.server, headers=headers, timeout=timeout, verify=secure)


class Outage:
    """How long a server has been out of reach; says so once, and gives up after `PATIENCE`.

    `reached`: it has answered, so that it is worth waiting for.
    """

    def __init__(self, server: str, reached: bool) -> None:
        self.reached = reached
        self._server = server
        self._since: float | None = None
        self._told = False

    def over(self) -> None:
        """The server answers."""
        self.reached = True
        self._since = None

    def wait(self, why: str) -> None:
        """A moment before the next try; after `PATIENCE` a sentence and exit 1."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= PATIENCE:
            fail(
                f"cannot reach {self._server} any more: {why}; whatever runs there goes on, follow it again later"
            )
        if not self._told:
            sys.stdout.flush()
            sys.stderr.write(
                f"steersman: the connection to {self._server} broke ({why}); trying again for a minute\n"
            )
            self._told = True
        time.sleep(_RETRY)


def connect(server: str | None, token: str | None) -> Client:
    """From flags, the environment, `steersman login`, or a token file of a daemon started from this folder."""
    server = address_of(server)
    token = token or os.environ.get("STEERSMAN_TOKEN") or remembered.token_of(server)
    if token is None and _is_here(server):  # nobody else's server is to see it
        found = next((Path(place) for place in _NEAR if Path(place).is_file()), None)
        token = found.read_text(encoding="utf-8").strip() if found else None
    return Client(server, token)


def _is_here(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(server: str | None) -> str:
    """The server that is meant, from a flag or the environment."""
    return (server or os.environ.get("STEERSMAN_SERVER") or DEFAULT_SERVER).rstrip("/")


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _messages(source: EventSource, outage: Outage) -> Iterator[ServerSentEvent]:
    status = source.response.status_code
    if status >= 500 and outage.reached:
        raise httpx.TransportError(f"it answers {status}")
    if status >= 400:
        source.response.read()
        explain(source.response)
    outage.over()
    yield from source.iter_sse()


def explain(response: httpx.Response) -> NoReturn:
    """The refusal of a server as a sentence, and the end."""
    try:
        body = response.json()
        text = f"{body.get('title', response.status_code)}: {body.get('detail', '')}"
    except ValueError:
        text = f"{response.status_code} {response.reason_phrase}"
    if response.status_code == 401:
        text += " (--token, STEERSMAN_TOKEN, or `steersman login`)"
    fail(text)
