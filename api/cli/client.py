"""The command line's HTTP client: server, token, and errors as one sentence with the next step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
from httpx_sse import ServerSentEvent, connect_sse

from api.cli.output import fail

DEFAULT_SERVER = "http://127.0.0.1:8080"
_NEAR = ("steersman-data/admin.token", "run/data/admin.token")


@dataclass(frozen=True)
class Client:
    """One server, one token."""

    server: str
    token: str | None

    def get(self, path: str, **params: Any) -> Any:
        """JSON of a GET."""
        return self._json("GET", path, params=_given(params))

    def post(self, path: str, body: Any = None, *, timeout: float = 30, **params: Any) -> tuple[int, Any]:
        """(status, JSON) of a POST."""
        response = self._request("POST", path, json=body, params=_given(params), timeout=timeout)
        return response.status_code, response.json()

    def delete(self, path: str) -> None:
        """A DELETE."""
        self._request("DELETE", path)

    def text(self, path: str, **params: Any) -> Iterator[bytes]:
        """The bytes of a GET as they come."""
        try:
            with self._opened() as client, client.stream("GET", path, params=_given(params)) as response:
                if response.status_code >= 400:
                    response.read()
                    _explain(response)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            self._unreachable(error)

    def follow(self, path: str, **params: Any) -> Iterator[ServerSentEvent]:
        """The messages of a live stream."""
        try:
            with (
                self._opened(None) as client,
                connect_sse(client, "GET", path, params=_given(params)) as source,
            ):
                if source.response.status_code >= 400:
                    source.response.read()
                    _explain(source.response)
                yield from source.iter_sse()
        except httpx.TransportError as error:
            self._unreachable(error)

    def _json(self, method: str, path: str, **more: Any) -> Any:
        return self._request(method, path, **more).json()

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            with self._opened() as client:
                response = client.request(method, path, **more)
        except httpx.TransportError as error:
            self._unreachable(error)
        if response.status_code >= 400:
            _explain(response)
        return response

    def _unreachable(self, error: httpx.TransportError) -> NoReturn:
        fail(f"cannot reach {self.server}: {error}; is the daemon running there? Name it with --server")

    def _opened(self, timeout: float | None = 30) -> httpx.Client:
        headers = {"User-Agent": "steersman-cli"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        secure = not self.server.startswith(
            "http://"
        )  # loading all certificates takes 60 ms, for nothing there
        return httpx.Client(base_url=self.server, headers=headers, timeout=timeout, verify=secure)


def connect(server: str | None, token: str | None) -> Client:
    """From flags, the environment, or a token file of a daemon started from this folder."""
    server = server or os.environ.get("STEERSMAN_SERVER") or DEFAULT_SERVER
    token = token or os.environ.get("STEERSMAN_TOKEN")
    if token is None:
        found = next((Path(place) for place in _NEAR if Path(place).is_file()), None)
        token = found.read_text(encoding="utf-8").strip() if found else None
    return Client(server.rstrip("/"), token)


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _explain(response: httpx.Response) -> None:
    try:
        body = response.json()
        text = f"{body.get('title', response.status_code)}: {body.get('detail', '')}"
    except ValueError:
        text = f"{response.status_code} {response.reason_phrase}"
    if response.status_code == 401:
        text += " (--token or STEERSMAN_TOKEN)"
    fail(text)
