"""The lease of a worker: until when its scripts may run though nobody has heard of it (design 7.5).

`reconciler.worker` renews it after each heart-beat that the database took, counted from before it was sent. Every
script's supervisor looks at the file once a second, without the worker, and ends the script when it is out. All is
counted in whole seconds since the machine's boot, which also pass while it is suspended.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_UPTIME = Path("/proc/uptime")


@dataclass(frozen=True, slots=True)
class Term:
    """What a supervisor is told: where the lease is kept, and the second from which on nothing may start under it."""

    file: Path
    fence: int

    @property
    def words(self) -> tuple[str, str, str]:
        """As arguments, with the interpreter that ends the script's processes."""
        return str(self.file), str(self.fence), sys.executable


class Lease:
    """One process's, in a file below its data directory. It is out until it is renewed for the first time."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._seconds = seconds
        self._until = 0

    @property
    def term(self) -> Term:
        """As it stands now; taken before a claim is stored, so that nothing starts under a lease that came later."""
        return Term(self._file, self._until)

    def renew(self, since: float) -> None:
        """It was seen not before `since`, as `uptime` gives it. Blocks for the time of a rename."""
        self._until = int(since + self._seconds)
        temporary = self._file.with_name(f"{self._file.name}.new")
        temporary.write_text(f"{self._until}\n", encoding="ascii")
        os.replace(temporary, self._file)  # noqa: PTH105  (a reader sees the old or the new one)


def uptime() -> float:
    """Seconds since the machine's boot, as supervisors read them."""
    return float(_UPTIME.read_text(encoding="ascii").split()[0])
