"""What containers of a job may take of the disk, wherever they write: real ones of a daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.model.job import Reason, State
from tests.conftest import NewDatabase
from tests.roots import CONTAINER_ARGUMENTS, IMAGE, container_trouble
from tests.running import build, finished, live
from tests.support import SpecRepository

LIMIT = 8 << 20
FILL = "head -c 30M /dev/zero"
INTO_VOLUME = [
    "--volume",
    "/kept",
    "--entrypoint",
    json.dumps(["/bin/sh", "-c", f"{FILL} >/kept/fill; sleep 60"]),
]


def ends_at_the_limit(tmp_path: Path, new_database: NewDatabase, task: dict[str, Any]) -> None:
    """A job with this task, on an Executor with a limit, is ended by it."""
    if container_trouble():
        pytest.skip(f"needs podman: {container_trouble()}")
    small = {"type": "container", "reference": IMAGE, "arguments": CONTAINER_ARGUMENTS}
    filler = {**small, "arguments": [*CONTAINER_ARGUMENTS, *INTO_VOLUME]}
    executor = {
        "apiVersion": "steersman/v1",
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": {
            "max_load": 8,
            "images": {"host": {"type": "host"}, "small": small, "filler": filler},
            "limits": {"disk_bytes": LIMIT},
        },
    }
    specs = f"{json.dumps(executor)}\n---\n{build(f'tasks: [{json.dumps(task)}]')}"

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ROOT, "Build/shop/_/work", {}, None, None)
        job = await finished(running)
        assert (job.state, job.reason) == (State.FAILED, Reason.DISK_LIMIT)
        assert f"beyond limits.disk_bytes ({LIMIT:,})" in str(job.tasks[0].trials[0].error)

    live(tmp_path, new_database, specs, work)


@pytest.mark.parametrize(
    "writing",
    [
        f"{FILL} >/var/fill",
        f"exec 3>/var/fill; rm /var/fill; {FILL} >&3",
        f"{FILL} >/workspace/fill",
    ],
    ids=["its own layer", "without a name", "the workspace"],
)
def test_what_a_container_writes_counts_wherever_it_does(
    tmp_path: Path, new_database: NewDatabase, writing: str
) -> None:
    task = {"name": "work", "image": "small", "run": f"{writing}; sleep 60"}
    ends_at_the_limit(tmp_path, new_database, task)


def test_what_a_service_writes_counts(tmp_path: Path, new_database: NewDatabase) -> None:
    """Into a volume that goes with its container."""
    task = {
        "name": "work",
        "image": "small",
        "run": "sleep 60",
        "services": [{"name": "s", "image": "filler"}],
    }
    ends_at_the_limit(tmp_path, new_database, task)
