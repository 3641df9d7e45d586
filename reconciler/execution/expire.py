"""Ends the script of one run folder, as the lease of its worker is out: `python -m reconciler.execution.expire RUN`.

Called by `supervisor.sh`, which has left RUN/expired before, and goes on with the script's end when this has ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from reconciler.execution import containers, supervisor
from reconciler.execution.supervisor import Supervised

_TRIES, _AGAIN = 600, 0.1  # seconds


async def end(run: Path) -> None:
    """All processes of the script, and its containers, until its supervisor has seen that; it ends this one, too."""
    for _ in range(_TRIES):
        found = supervisor.attach(run)
        if not isinstance(found, Supervised):
            return
        containers.remove(run)
        await supervisor.kill(found)
        await asyncio.sleep(_AGAIN)


if __name__ == "__main__":
    asyncio.run(end(Path(sys.argv[1])))
