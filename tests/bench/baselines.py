"""What bare tools need for the same work: Git and the C YAML parser without any of ours."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import yaml

_LOADER = yaml.CSafeLoader
_SANDBOX = (
    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
    *("--unshare-pid", "--unshare-ipc"),
)


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
    begin = time.perf_counter()
    subprocess.run(
        ["git", "version"], check=True, capture_output=True
    )  # what `update-ref` costs as a process
    subprocess.run(
        [*_SANDBOX, "--bind", str(marker.parent), str(marker.parent), "sh", "-c", f"echo x > {marker}"],
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


def sandboxes_a_second(slots: int, seconds: float = 3.0) -> float:
    """Bare bubblewrap processes that run `true`, so many at a time."""
    counts = [0] * slots
    end = time.perf_counter() + seconds

    def loop(index: int) -> None:
        while time.perf_counter() < end:
            subprocess.run([*_SANDBOX, "sh", "-c", "true"], check=True)
            counts[index] += 1

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def redirected(script: str, target: Path) -> float:
    """Seconds of a script in a bare sandbox with its output redirected to a file."""
    begin = time.perf_counter()
    with target.open("wb") as file:
        subprocess.run([*_SANDBOX, "sh", "-c", script], stdout=file, check=True)
    return time.perf_counter() - begin


def served(path: Path) -> float:
    """Seconds for a file from a bare server of the standard library over loopback."""
    code = (
        "import functools, http.server as h, sys\n"
        "make = functools.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1])\n"
        "server = h.HTTPServer(('127.0.0.1', 0), make)\n"
        "print(server.server_port, flush=True)\nserver.serve_forever()"
    )
    command = [sys.executable, "-c", code, str(path.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        begin = time.perf_counter()
        answer = httpx.get(f"http://127.0.0.1:{port}/{path.name}")
        assert len(answer.content) == path.stat().st_size
        return time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()
