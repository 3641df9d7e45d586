"""An object store: S3 and what speaks like it, Google's, Azure's, or a folder (obstore does all of it).

Called by `execution.contents` in threads; all of this blocks. Names are ours, contents are bytes. What an object store
answers is told without its credentials.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.errors import NotFound, Stalled, Transient

_PIECE = 8 << 20
_AT_ONCE = 4
_SHOWN = 300
_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
"""Of the environment: what nobody else may see."""
_SECRET = re.compile("secret|token|key|sas|password", re.IGNORECASE)


def secrets(options: Mapping[str, str]) -> list[str]:
    """What of the options and the environment nobody may see."""
    found = [value for name, value in options.items() if _SECRET.search(name)]
    return found + [value for name in SECRETS if (value := os.environ.get(name))]


class Objects:
    """What lies below one URL. `options` are obstore's, such as `endpoint`; its environment variables count as well."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        """`Stalled` for an address or options that cannot be read."""
        try:
            from obstore import exceptions, store
        except ModuleNotFoundError as error:
            raise Stalled(
                "DriverMissing",
                "obstore is not installed: install steersman with its extra, steersman[object-store]",
            ) from error
        self._failed = exceptions.BaseError
        client: Any = {"timeout": "60s", "connect_timeout": "5s"}
        endpoint = options.get("endpoint") or next((v for n in _ENDPOINTS if (v := os.environ.get(n))), "")
        if endpoint.startswith("http://"):
            client["allow_http"] = True  # who writes that means it
        given: Any = dict(options)
        try:
            if urlsplit(url).scheme == "file":
                Path(urlsplit(url).path).mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: Any = store.from_url(url)
            else:
                made = {"config": given, "client_options": client, "retry_config": _RETRIES}
                self._store = store.from_url(url, **made)
        except (self._failed, OSError, ValueError) as error:
            raise Stalled("ObjectStoreAddress", f"object_store cannot be used: {_told(error)}") from error

    def put(self, name: str, path: Path) -> None:
        """A file's bytes under a name, in parts where it is large; seen once it is whole. Transient."""
        with self._explained(name), path.open("rb") as file:
            self._store.put(name, file, chunk_size=_PIECE, max_concurrency=_AT_ONCE)

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """The bytes of an object that has so many, piece by piece. NotFound, Transient."""
        for start in range(0, size, _PIECE):
            with self._explained(name):
                piece = bytes(self._store.get_range(name, start=start, end=min(size, start + _PIECE)))
            yield piece

    def delete(self, names: Sequence[str]) -> None:
        """They are no more, or were not there. Transient."""
        for name in names:
            try:
                with self._explained(name):
                    self._store.delete(name)
            except NotFound:
                pass

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound("NoSuchObject", f"the object store has no {name}") from error
        except (self._failed, OSError) as error:
            raise Transient("ObjectStoreUnavailable", f"the object store: {_told(error)}") from error


def _told(error: Exception) -> str:
    """The first words of it: the rest are the library's own debugging."""
    return " ".join(str(error).partition("Debug source")[0].split())[:_SHOWN]
