"""A small system with bash, which tasks of manifests need: as a root directory, and as an image of podman.

Used by the tests of examples and of real manifests. Fetches nothing: the programs are this machine's.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import roots
from tests.roots import container_trouble, make_root

IMAGE = "localhost/steersman-test-manifests:1"
_MORE = ("bash", "uname", "sed", "tar", "gzip", "sha256sum")


def root_with_bash(path: Path) -> Path:
    """A root directory in which the tasks of a manifest run; `/bin/add` is its package manager."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roots, "PROGRAMS", (*roots.PROGRAMS, *_MORE))
        make_root(path)
    (path / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    (path / "usr" / "bin" / "env").symlink_to("/bin/env")
    return path


def need_image() -> None:
    """Make the image if it is not there; skip where podman cannot run."""
    if container_trouble():
        pytest.skip(f"needs podman: {container_trouble()}")
    if subprocess.run(["podman", "image", "exists", IMAGE], capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        root = root_with_bash(Path(folder) / "root")
        packed = subprocess.run(["tar", "-C", str(root), "-cf", "-", "."], capture_output=True, check=True)
    subprocess.run(["podman", "import", "-", IMAGE], input=packed.stdout, capture_output=True, check=True)
