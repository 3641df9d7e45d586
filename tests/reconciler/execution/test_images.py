"""One suite of expectations over every way to run a script: host, root directory, container, and without a sandbox."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import EVERYTHING, ROOT, Caller
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.execution import command, containers, supervisor
from reconciler.execution.sandbox import bubblewrap, why_not
from reconciler.execution.supervisor import cookie
from reconciler.model.job import Job, Reason, State
from reconciler.queries import jobs as job_queries
from reconciler.store import jobs
from tests.conftest import NewDatabase
from tests.roots import CONTAINER_ARGUMENTS, IMAGE, container_trouble, make_root
from tests.running import build, finished, live, text_of
from tests.support import SpecRepository, eventually

ALICE = Caller("User/alice", EVERYTHING)
S = State


@dataclass(frozen=True)
class Way:
    """A way to run scripts: the executor's specification, the image that tasks ask for, further settings."""

    name: str
    executor: dict[str, Any]
    image: str
    settings: dict[str, Any]

    @property
    def isolated(self) -> bool:
        return self.name != "bare"

    def specs(self, body: str) -> str:
        executor = {
            "apiVersion": "steersman/v1",
            "kind": "Executor",
            "metadata": {"name": "local"},
            "spec": self.executor,
        }
        return f"{json.dumps(executor)}\n---\n" + build(f"task_defaults: {{image: {self.image}}}\n" + body)


@pytest.fixture(params=["host", "root", "container", "bare"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    name = request.param
    if name in ("host", "root") and bubblewrap() is None:
        pytest.skip(f"needs bubblewrap: {why_not()}")
    if name == "container" and container_trouble():
        pytest.skip(f"needs podman: {container_trouble()}")
    installing = {"install": ["/bin/add", "--really"], "add_repository": ["/bin/add", "repository"]}
    images: dict[str, Any] = {"host": {"type": "host"}}
    if name == "root":
        images["small"] = {"type": "root", "path": str(make_root(tmp_path / "root")), **installing}
    if name == "container":
        images["small"] = {
            "type": "container",
            "reference": IMAGE,
            "arguments": CONTAINER_ARGUMENTS,
            **installing,
        }
    bare = name == "bare"
    executor = {"max_load": 8, "images": images, "sandbox": "off" if bare else "required"}
    image = "small" if "small" in images else "host"
    return Way(name, executor, image, {"allow_unsandboxed": True} if bare else {})


ORDINARY = r"""
environment_variables: {WORD: "a 'quoted' $word\nwith two lines"}
tasks:
  - name: make
    attachments: ["out.txt"]
    run: |
      printf '%s\n' "$WORD"
      echo kept > out.txt
      echo "answer=forty two" >> "$STEERSMAN_OUTPUTS"
      test -w "$HOME" && echo x > "${TMPDIR:-/tmp}/x" && echo "$CI $STEERSMAN_TASK"
      test "$(pwd)" = "$STEERSMAN_WORKSPACE"
      echo to-error >&2
  - name: use
    needs: [make]
    run: |
      cat "$STEERSMAN_NEEDS/make/out.txt"
      echo "$OUTPUT_make_answer"
      exit 7
"""


def test_a_script_runs_alike_everywhere(way: Way, tmp_path: Path, new_database: NewDatabase) -> None:
    """Variables, workspace, home, /tmp, outputs, attachments, exit status, both streams in one log."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
        job = await finished(running)
        first = "a 'quoted' $word\nwith two lines\ntrue make\nto-error\n"
        assert await text_of(running, task="make") == first
        assert await text_of(running, task="use") == "kept\nforty two\n"
        assert [(t.state, t.trials[0].scripts[0].exit_status) for t in job.tasks] == [
            (S.PASSED, 0),
            (S.FAILED, 7),
        ]
        _, path = await job_queries.attachment(running.installation, ROOT, 1, "out.txt", None, None)
        assert path.read_text() == "kept\n"

    live(tmp_path, new_database, way.specs(ORDINARY), work, **way.settings)


def test_variables_of_a_script_keep_their_values_whatever_they_are_called(
    way: Way, tmp_path: Path, new_database: NewDatabase
) -> None:
    """Also where one of the shell texts that start it has a variable of that name; so do its services."""
    texts = [path.read_text() for path in (supervisor.SCRIPT, command.LAUNCHER, containers.LAUNCHER)]
    words = ["name", "ENV", *re.findall(r"(?<![\w$.-])(?!steersman_)([a-z]\w*)=", "\n".join(texts))]
    given = {word: f"my {word}" for word in words}
    services = (
        ""
        if way.name == "container"
        else "services: [{name: db, run: env; touch up; sleep 600, ready: test -e up}]"
    )
    work = f"tasks: [{{name: t, environment_variables: {json.dumps(given)}, run: env, {services}}}]"

    async def show(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
        assert (await finished(running)).state is S.PASSED
        for script in ("run", "db") if services else ("run",):
            shown = (await text_of(running, script=script)).splitlines()
            assert given == {word: value for word, value in given.items() if f"{word}={value}" in shown}

    live(tmp_path, new_database, way.specs(work), show, **way.settings)


ENDLESS = r"""
tasks:
  - name: t
    run: |
      trap '' TERM
      (setsid sleep 98761 &)
      echo begun
      while :; do sleep 1; done
"""


def test_a_script_that_will_not_end_is_ended(way: Way, tmp_path: Path, new_database: NewDatabase) -> None:
    """It ignores TERM and has a child in a session of its own: after a cancel nothing of it is left."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)

        async def begun() -> bool:
            job = await running.installation.database.read(lambda c: jobs.load(c, 1))
            return bool(job is not None and job.state is S.EXECUTING and "begun" in await text_of(running))

        await eventually(begun)
        await commands.cancel(running.installation, ALICE, 1)
        job = await finished(running)
        assert (job.state, job.reason) == (S.ABORTED, Reason.CANCELLED)
        assert sleepers("98761") == []

    live(tmp_path, new_database, way.specs(ENDLESS), work, **way.settings)


def sleepers(mark: str) -> list[str]:
    """Processes whose command line has a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(place.parent.name)
    return found


NOISY = r"""
tasks:
  - {name: t, run: "while :; do echo 0123456789012345678901234567890123456789; done"}
"""


def test_a_log_has_an_end(way: Way, tmp_path: Path, new_database: NewDatabase) -> None:
    """A script that prints without end is ended at the limit, which is told."""
    limited = Way(way.name, way.executor | {"limits": {"log_bytes": 8192}}, way.image, way.settings)

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
        job = await finished(running)
        trial = job.tasks[0].trials[0]
        assert (job.state, job.reason) == (S.FAILED, Reason.LOG_LIMIT)
        assert (
            trial.error
            == "its log grew beyond the limit of 8,192 bytes (log_bytes of the executor or the server)"
        )
        assert len(await text_of(running)) == 8192

    live(tmp_path, new_database, limited.specs(NOISY), work, **way.settings)


INSTALLING = r"""
tasks:
  - name: t
    packages: ["git", "make"]
    repositories: {extra: "https://example.org/extra; touch /owned"}
    run: cat /installed; ls /owned
"""


def test_packages_are_arguments(way: Way, tmp_path: Path, new_database: NewDatabase) -> None:
    """Repositories, then packages, each as one argument, into what only this trial has; never a part of a text."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        for number in (1, 2):
            await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
            job: Job = await finished(running, number)
            trial = job.tasks[0].trials[0]
            if way.image == "host":
                assert (trial.state, trial.reason) == (S.DEFECTIVE, Reason.EXECUTOR_ERROR)
                assert "packages are not installed on the host" in (trial.error or "")
                return
            lines = (await text_of(running, number)).splitlines()
            assert lines[:-1] == [
                "repository",
                "extra",
                "https://example.org/extra; touch /owned",
                *("--really", "git", "make"),
            ]
            assert "No such file" in lines[-1]

    live(tmp_path, new_database, way.specs(INSTALLING), work, **way.settings)


CURIOUS = r"""
tasks:
  - name: t
    network: none
    run: |
      ls "$DATA" 2>&1 || echo hidden
      cat "$DATA/admin.token" 2>&1 || echo hidden
      grep -c : /proc/net/dev
      ls /proc | grep -c '^[0-9][0-9]*$'
      tr '\0' '\n' </proc/1/environ | grep -c STEERSMAN_SWEEP_MARK || true
      ls /root 2>&1 || echo hidden
"""


def test_a_script_sees_what_it_was_given(
    way: Way, tmp_path: Path, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the daemon's data, its token, its environment, other processes, or a network that it has not."""
    monkeypatch.setenv("STEERSMAN_SWEEP_MARK", "x")
    body = f"environment_variables: {{DATA: '{tmp_path / 'data'}'}}\n{CURIOUS}"

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
        await finished(running)
        text = await text_of(running)
        token = (tmp_path / "data" / "admin.token").read_text().strip()
        assert token not in text
        if not way.isolated:
            assert "***" in text  # it can read what its user can; what the daemon knows is masked
            return
        lines = text.splitlines()
        assert (lines[1], lines[3]) == ("hidden", "hidden")
        assert lines[4] == "1"  # the loopback alone
        assert int(lines[5]) < 12
        assert lines[6] == "0"

    live(tmp_path, new_database, way.specs(body), work, **way.settings)


SERVED = r"""
tasks:
  - name: t
    network: none
    services:
      - {name: second:one, image: small, ready: "true", environment_variables: {GREETING: hello there}}
      - {name: first, image: small, ready: "test -e /etc/image"}
    run: cat /etc/image
  - name: never
    needs: [t]
    services: [{name: gone, image: small, ready: "false", environment_variables: {GREETING: "two\nlines"}}]
    run: echo never
"""


def test_services_of_containers_run_beside_the_script(tmp_path: Path, new_database: NewDatabase) -> None:
    """In the order in which they are declared, in one network, with logs of their own; nothing of them is left."""
    if container_trouble():
        pytest.skip(f"needs podman: {container_trouble()}")
    image = {"type": "container", "reference": IMAGE, "arguments": CONTAINER_ARGUMENTS}
    way = Way("container", {"max_load": 8, "images": {"small": image}, "default_image": "small"}, "small", {})

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, "Build/shop/_/work", {}, None, None)
        job = await finished(running)
        served, never = job.tasks
        assert served.state is S.PASSED
        assert await text_of(running, task="t", script="run") == "steersman-test\n"
        assert await text_of(running, task="t", script="second:one") == "up hello there\n"
        first, *_ = (
            await text_of(running, task="t", script="first")
        ).splitlines()  # its shell may tell of its end
        assert first == "up"
        assert (never.state, never.reason) == (S.DEFECTIVE, Reason.EXECUTOR_ERROR)
        assert "has several lines, which podman does not take" in (never.trials[0].error or "")

    live(tmp_path, new_database, way.specs(SERVED), work)
    for run in (tmp_path / "data" / "runs").glob("*/*"):
        mark = f"label=steersman.run={cookie(run)}"
        listed = subprocess.run(["podman", "ps", "-aq", "--filter", mark], capture_output=True, check=True)
        assert listed.stdout == b""
