"""Secrets that a Repository names: found by KEY, opened when they are needed, and an SSH key lent to ssh (design 5.5).

Called by the daemon for its mirrors, by the Builds' passes and by the webhook's door. A value is never written to the
disk, and never part of an error, which names the KEY.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import Stalled
from reconciler.model.resource import Specified
from reconciler.sealing import Keys, SealingError

SSH_KEY, VALUE = "ssh_key", "value"

Declared = Callable[[str], Specified | None]


def opened(keys: Keys, declared: Declared, key: str, kind: str) -> bytes:
    """The content of the Secret with this KEY, as it is declared now; Stalled unless it is of this type."""
    resource = declared(key)
    if resource is None:
        raise _unusable(f"there is no {key}")
    if resource.spec is None:
        raise _unusable(f"{key} is declared, but was never valid; `steersman get {key}` says why")
    if resource.spec["type"] != kind:
        raise _unusable(f"{key} is of the type {resource.spec['type']}, and not {kind}, as is needed here")
    try:
        return keys.open(resource.spec["sealed"], key)
    except SealingError as error:
        raise _unusable(str(error)) from None


def _unusable(message: str) -> Stalled:
    return Stalled("SecretUnusable", message)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An SSH key to fetch with: the KEY of its Secret, and how that is opened."""

    key: str
    open: Callable[[str], bytes] = field(repr=False)

    @contextmanager
    def lent(self) -> Iterator[Path]:
        """The key as a file in memory, for this process' user alone and only inside the `with`. Blocks."""
        content = self.open(self.key)
        handle = os.memfd_create("ssh-key", os.MFD_CLOEXEC)
        try:
            os.fchmod(handle, 0o600)
            with open(handle, "wb", closefd=False) as file:
                # ssh refuses one that ends within a line
                file.write(content if content.endswith(b"\n") else content + b"\n")
            # not /proc/self: it is ssh that opens it
            yield Path(f"/proc/{os.getpid()}/fd/{handle}")
        finally:
            os.close(handle)
