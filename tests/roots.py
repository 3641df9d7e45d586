"""Small root file systems made from this machine's own programs: for images of type root, and for containers."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

PROGRAMS = (
    "sh", "cat", "chmod", "cp", "date", "dd", "env", "find", "grep", "head", "id", "ln", "ls", "mkdir", "mv", "rm",
    "setsid", "sleep", "sort", "tail", "touch", "tr", "true", "wc", "xargs",
)  # fmt: skip
ADD = '#!/bin/sh\nfor name; do echo "$name" >>/installed; done\n'
CONTAINER_ARGUMENTS = ["--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
IMAGE = "localhost/steersman-test:2"  # what it runs by itself is a service


def make_root(path: Path) -> Path:
    """A root directory with a shell, some programs, and `/bin/add`, which notes what it is asked to install."""
    for folder in ("bin", "etc", "tmp", "var/tmp", "run", "proc", "dev", "workspace", "home"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None, name
        source = Path(found).resolve()
        shutil.copy2(source, path / "bin" / name)
        listed = subprocess.run(["ldd", str(source)], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+)", listed):
            target = path / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy2(Path(library).resolve(), target)
    (path / "bin" / "add").write_text(ADD)
    (path / "bin" / "add").chmod(0o755)
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (path / "etc" / "image").write_text("steersman-test\n")
    return path


@cache
def container_trouble() -> str:
    """Why no container can be run here; empty if one can: a locally made image is there then."""
    podman = shutil.which("podman")
    if podman is None:
        return "podman is not installed"
    if subprocess.run([podman, "image", "exists", IMAGE], capture_output=True).returncode != 0:
        done = _import(podman)
        if done.returncode != 0:
            return f"podman cannot make an image here: {done.stderr.decode(errors='replace')[-300:]}"
    argv = [podman, "run", "--rm", *CONTAINER_ARGUMENTS, "--network", "none", IMAGE, "/bin/true"]
    tried = subprocess.run(argv, capture_output=True, timeout=120)
    return (
        ""
        if tried.returncode == 0
        else f"podman cannot run here: {tried.stderr.decode(errors='replace')[-300:]}"
    )


def _import(podman: str) -> subprocess.CompletedProcess[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder))
        packed = subprocess.run(["tar", "-C", str(root), "-cf", "-", "."], capture_output=True, check=True)
        serving = '["/bin/sh", "-c", "echo up $GREETING; while :; do sleep 1; done"]'
        argv = [podman, "import", "--change", f"CMD {serving}", "-", IMAGE]
        return subprocess.run(argv, input=packed.stdout, capture_output=True)
