"""`make run`: a daemon with something to see, set up from nothing in the folder `run`, which Git ignores.

`run/specs` is a Git repository made from the first three examples, to commit into; `run/data` is the daemon's. Later
starts go on with both. `rm -rf run` begins anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from repositories import ROOT, commit, git, new_repository, put

from reconciler.execution import sandbox

HOST = "127.0.0.1"
SHOWN = ("01-hello", "02-scheduled", "03-needs-and-attachments")
README = """\
# Specifications

The daemon of `make run` follows this repository. Change something, for instance the words in `hello.yaml`, and

    git commit -am "Other words"

The daemon sees the commit at once; no push and no call is needed.
"""
NEXT = """
Look at it: {address} (sign in with the token, which is in {token})
Try next, in a second terminal and this folder:
{server}  {steersman} status
  {steersman} trigger Build/leaflet/_/leaflet -i copies=3 -f
  sed -i 's/Hello/Good morning/' {specs}/hello.yaml && git -C {specs} commit -qam Greet && {steersman} jobs
Ctrl-C ends the daemon; the next `make run` goes on where it stood.
"""


def set_up(folder: Path) -> bool:
    """Make the repository of specifications if there is none; tells whether it was made."""
    if (folder / ".git").exists():
        return False
    new_repository(folder)
    (folder / "README.md").write_text(README, encoding="utf-8")
    for example in SHOWN:
        put(example, folder)
    commit(folder, "First specifications")
    known = subprocess.run(("git", "-C", str(folder), "config", "user.email"), capture_output=True)
    if not known.stdout.strip():  # so that a plain `git commit` works there
        git(folder, "config", "user.name", "You")
        git(folder, "config", "user.email", "you@steersman.invalid")
    return True


def is_free(port: int) -> bool:
    """Can a server listen there?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def environment() -> dict[str, str]:
    """What the daemon is started with; warns where scripts cannot be isolated."""
    found = os.environ | {"STEERSMAN_ALLOW_LOCAL_REPOSITORIES": "1"}
    if sandbox.bubblewrap() is None:
        say(f"WARNING: {sandbox.why_not()}: scripts will run with your own rights, without a sandbox.")
        say("         For real use install the package bubblewrap.")
        found["STEERSMAN_ALLOW_UNSANDBOXED"] = "1"
    return found


def answers(address: str) -> bool:
    """Does the daemon say anything about its health?"""
    try:
        httpx.get(f"{address}/health", timeout=2)
    except httpx.TransportError:
        return False
    return True


def say(text: str) -> None:
    """For the person at the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(folder: Path, port: int) -> int:
    """Set up, start the daemon, say what to try, wait for its end; its exit status."""
    if not is_free(port):
        say(f"Port {port} is taken by another program; choose another one: make run PORT={port + 1}")
        return 1
    specs, data = folder / "specs", folder / "data"
    made = "Made" if set_up(specs) else "Going on with"
    say(
        f"{made} the Git repository {os.path.relpath(specs)}; the daemon's data is in {os.path.relpath(data)}"
    )
    steersman = Path(sys.executable).with_name("steersman")
    argv = [steersman, "serve", "--repo", specs, "--data", data, "--host", HOST, "--port", str(port)]
    daemon = subprocess.Popen([str(word) for word in argv], env=environment())
    # However this program is asked to end, the daemon ends in order, and this program after it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: daemon.terminate())
    address = f"http://{HOST}:{port}"
    while daemon.poll() is None and not answers(address):
        time.sleep(0.1)
    if daemon.poll() is None:
        server = "" if port == 8080 else f"  export STEERSMAN_SERVER={address}\n"
        token = os.path.relpath(data / "admin.token")
        say(
            NEXT.format(
                address=address,
                token=token,
                server=server,
                steersman=os.path.relpath(steersman),
                specs=os.path.relpath(specs),
            )
        )
    return daemon.wait()


def main() -> int:
    """Entry of `make run`."""
    parser = argparse.ArgumentParser(description="A daemon with something to see.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--folder", type=Path, default=ROOT / "run")
    given = parser.parse_args()
    return run(given.folder.absolute(), given.port)


if __name__ == "__main__":
    sys.exit(main())
