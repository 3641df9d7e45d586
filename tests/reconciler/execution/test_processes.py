"""What the processes that are started inherit."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.execution.processes import await_copies


def test_a_script_is_not_started_while_another_child_still_has_it_open_for_writing(tmp_path: Path) -> None:
    """A child that was forked while it was written holds a copy of the descriptor until it executes its program."""
    script = tmp_path / "script"
    handle = os.open(script, os.O_WRONLY | os.O_CREAT, 0o755)
    os.write(handle, b"#!/bin/sh\nexit 7\n")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(handle,)) as child:
        os.close(handle)
        with pytest.raises(OSError, match="Text file busy") as caught:
            subprocess.run([script], check=False)
        assert caught.value.errno == errno.ETXTBSY
        assert child.stdin is not None
        ends = threading.Timer(0.1, child.stdin.close)
        ends.start()
        await_copies(script)
        assert subprocess.run([script], check=False).returncode == 7
        ends.join()


def test_a_file_that_cannot_be_opened_is_not_waited_for(tmp_path: Path) -> None:
    await_copies(tmp_path / "nothing")
    await_copies("nothing", None)
    (tmp_path / "link").symlink_to("elsewhere")
    await_copies(tmp_path / "link")


_WRITTEN_MEANWHILE = """
import contextlib, fcntl, os, sys
from reconciler.execution.processes import await_copies

lease, broken = fcntl.fcntl, []

def and_somebody_writes(handle, what, how):
    answer = lease(handle, what, how)
    if how == fcntl.F_RDLCK:
        try:
            os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
        except BlockingIOError:
            broken.append(handle)
    return answer

fcntl.fcntl = and_somebody_writes
await_copies(sys.argv[1])
assert broken
"""


def test_whoever_writes_it_meanwhile_ends_nobody(tmp_path: Path) -> None:
    """Who holds the lease that is broken gets a signal: one that ends no process."""
    file = tmp_path / "file"
    file.touch()
    subprocess.run([sys.executable, "-c", _WRITTEN_MEANWHILE, file], check=True)
