"""Control groups looked for by several trials at once, as all of them do when a daemon takes up its work again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reconciler.execution import groups

ROUNDS = 12
_PROGRAM = """
import threading
from concurrent.futures import ThreadPoolExecutor
from reconciler.execution import groups

barrier = threading.Barrier(8)

def look():
    barrier.wait()
    return groups.offered()

with ThreadPoolExecutor(8) as pool:
    found = {done.result() for done in [pool.submit(look) for _ in range(8)]}
print(sorted(map(sorted, found)))
"""


def test_all_threads_find_the_same_control_groups() -> None:
    """A daemon that found none once would bound nothing for as long as it lives."""
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert done.stdout.strip() == str([sorted(groups.offered())]), done.stderr
