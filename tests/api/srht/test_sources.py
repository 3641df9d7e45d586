"""What a manifest's `sources` bring: case 28, with a real repository behind real HTTP (builds-srht, 5.4 and 10)."""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.api.srht.conftest import World, states, tasks
from tests.support import SpecRepository


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a repository with the tag v1 behind its head."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"file": "one"})
    code.git("tag", "v1")
    code.commit({"file": "two"})
    bare = tmp_path / "served" / "web.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(code.path), str(bare)], check=True)
    subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path / "served"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/web.git"
    server.shutdown()
    thread.join()
    server.server_close()


def test_case_28_sources(world: World, served: str) -> None:
    """In a directory of a name and at a tag, or by the address's name without .git; else the job fails."""
    both = tasks(
        'test "$(cat d/file)" = one',
        'test "$(cat web/file)" = two',
        more=f"sources: ['d::{served}#v1', '{served}']\n",
    )
    found = world.ended(world.submit(both)["id"], 60)
    assert (found["status"], states(found)) == ("success", ["success"] * 2), world.log(found["setup_log"])
    for source in ("svn+https://127.0.0.1/y", f"{served}#none", served.replace("web", "gone")):
        found = world.ended(world.submit(tasks("true", more=f"sources: ['{source}']\n"))["id"], 60)
        assert (found["status"], states(found)) == ("failed", ["pending"]), source
