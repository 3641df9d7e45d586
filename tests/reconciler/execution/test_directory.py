"""Who may use a data directory."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.errors import Stalled
from reconciler.execution import directory

_HOLDS = """
import subprocess, sys
from pathlib import Path
from reconciler.execution import directory

lock = directory.take(Path(sys.argv[1]))
child = subprocess.Popen(["cat"], stdin=0, stdout=subprocess.DEVNULL, pass_fds=(lock.fileno(),))
print(child.pid, flush=True)
"""


def test_what_a_killed_daemon_was_about_to_start_holds_nobody_up(tmp_path: Path) -> None:
    """It has a copy of the lock until it has become its program; who names the lock is dead."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    ends = threading.Timer(0.2, holder.stdin.close)
    ends.start()
    directory.take(tmp_path).close()
    ends.join()
    holder.stdout.close()


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    first = directory.take(tmp_path)
    with pytest.raises(Stalled, match=r"is in use by process \d+; stop it"):
        directory.take(tmp_path)
    first.close()
    directory.take(tmp_path).close()
