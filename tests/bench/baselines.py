"""What bare tools need for the same work: Git and the C YAML parser without any of ours."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

_LOADER = yaml.CSafeLoader


def diff_and_parse(repository: Path, old: str, new: str) -> float:
    """Seconds for `diff-tree`, `cat-file --batch` and parsing what changed."""
    begin = time.perf_counter()
    command = ["git", "-C", str(repository), "diff-tree", "-r", "-z", old, new]
    fields = subprocess.run(command, check=True, capture_output=True).stdout.split(b"\0")
    _parse(repository, [field.split()[3].decode() for field in fields[0:-1:2]])
    return time.perf_counter() - begin


def list_and_parse(repository: Path, commit: str) -> float:
    """Seconds for `ls-tree`, `cat-file --batch` and parsing everything."""
    begin = time.perf_counter()
    command = ["git", "-C", str(repository), "ls-tree", "-r", "-z", commit]
    entries = subprocess.run(command, check=True, capture_output=True).stdout.split(b"\0")
    _parse(repository, [entry.split()[2].decode() for entry in entries if entry])
    return time.perf_counter() - begin


def _parse(repository: Path, blobs: list[str]) -> None:
    command = ["git", "-C", str(repository), "cat-file", "--batch"]
    output = subprocess.run(
        command, input="\n".join(blobs).encode() + b"\n", check=True, capture_output=True
    ).stdout
    position = 0
    for _ in blobs:
        end = output.index(b"\n", position)
        size = int(output[position:end].split()[2])
        yaml.load(output[end + 1 : end + 1 + size], Loader=_LOADER)
        position = end + size + 2


def start_script(marker: Path) -> float:
    """Seconds from publishing a commit to the first line of a script that a Git hook starts in the same sandbox."""
    command = [
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--unshare-pid",
        "--unshare-ipc",
    ]
    begin = time.perf_counter()
    subprocess.run(
        ["git", "version"], check=True, capture_output=True
    )  # what `update-ref` costs as a process
    subprocess.run(
        [*command, "--bind", str(marker.parent), str(marker.parent), "sh", "-c", f"echo x > {marker}"],
        check=True,
    )
    return time.perf_counter() - begin


def bare_memory() -> float:
    """MiB of a process that has only imported the libraries we stand on."""
    code = (
        "import litestar, uvicorn, sqlalchemy, pydantic, pydantic_settings, git, apscheduler, "
        "watchfiles, structlog, prometheus_client, yaml; print('ready', flush=True); import time; time.sleep(30)"
    )
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid).memory_info().rss / 2**20
    finally:
        process.kill()
        process.wait()
