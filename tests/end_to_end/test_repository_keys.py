"""Private repositories in a real daemon: each project reads with the SSH key that it declares, and no other with it.

`ssh` is a stand-in, first in PATH: it lets OpenSSH's own `ssh-keygen` read the key file that it is given, looks whether
the other side knows that key, and then runs Git's side of the server on this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import sealing
from tests.support import Process, SpecRepository, holding, start, stop

BARE = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_POLL_SECONDS": "1"}
SSH = """#!/bin/sh
key=
while :; do
    case "$1" in
        -i) key=$2; shift 2 ;;
        -o) shift 2 ;;
        *) break ;;
    esac
done
test "$2" = "git-upload-pack '{code}'" || exit 99
case "$key" in
    '') refused=1 ;;
    *) echo "$(stat -L -c '%a %h' "$key") $key" >> {seen} ;;
esac
public=$(test -n "$key" && ssh-keygen -y -P '' -f "$key" | cut -d' ' -f1,2)
if test -z "$public" || ! grep -qF "$public" {known}; then
    echo "$1: Permission denied (publickey)." >&2
    exit 255
fi
exec env -i PATH="$PATH" GIT_PROTOCOL="$GIT_PROTOCOL" sh -c "$2"
"""


class World:
    """A spec repository, a code repository behind ssh, keys of people, and daemons."""

    def __init__(self, base: Path) -> None:
        self.base, self.data = base, base / "data"
        self.data.mkdir()
        sealing.make(self.data / "server.key")
        self.recipient = sealing.load(self.data / "server.key").recipient
        self.specs = SpecRepository(base / "specs")
        self.code = SpecRepository(base / "code")
        self.code.commit({"secret.txt": "for the shop only\n"})
        self.url = f"ssh://git@forge.example{self.code.path}"
        self.known, self.seen = base / "authorized_keys", base / "seen"
        self.known.touch()
        tools = base / "tools"
        tools.mkdir()
        (tools / "ssh").write_text(
            SSH.replace("{code}", str(self.code.path))
            .replace("{known}", str(self.known))
            .replace("{seen}", str(self.seen))
        )
        (tools / "ssh").chmod(0o755)
        self.environment = BARE | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        self.private: list[bytes] = []

    def new_key(self, *, known: bool) -> bytes:
        """A private key, and whether the forge lets it in."""
        path = self.base / f"id-{len(self.private)}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        private = path.read_bytes()
        path.unlink()
        self.private.append(private)
        if known:
            self.known.write_text(path.with_suffix(".pub").read_text())
        return private

    def secret(self, project: str, value: bytes, kind: str = "ssh_key") -> dict[str, Any]:
        sealed = sealing.seal(value, self.recipient, f"Secret/{project}/_/git-key")
        meta = {"name": "git-key", "project": project}
        return {"kind": "Secret", "metadata": meta, "spec": {"type": kind, "sealed": sealed}}

    def project(self, name: str, secret: dict[str, Any] | None) -> str:
        """A project with a Repository of the code, and a Build that looks at it every second."""
        meta = {"name": "web", "project": name}
        repository = {"url": self.url} | ({"private_key_ref": "git-key"} if secret else {})
        build = {
            "repo": "web",
            "triggers": [{"type": "poll", "interval_seconds": 1}],
            "tasks": [{"name": "t", "run": "cat secret.txt; cat .git/config"}],
        }
        found: list[dict[str, Any]] = [
            {"kind": "Project", "metadata": {"name": name}},
            {"kind": "Repository", "metadata": meta, "spec": repository},
            {"kind": "Build", "metadata": meta, "spec": build},
        ]
        found += [secret] if secret else []
        return "---\n".join(json.dumps({"apiVersion": "steersman/v1"} | item) + "\n" for item in found)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path)


def jobs_of(client: httpx.Client, project: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(
        "/reconciler/jobs", params={"key": f"Build/{project}/_/web"}
    ).json()["items"]
    return found


def passed(running: Process, project: str, count: int) -> str:
    """The log of the project's newest job once it has so many that passed."""

    def check(client: httpx.Client) -> Any:
        found = jobs_of(client, project)
        assert not [job for job in found if job["state"] in ("failed", "defective")], found
        return len(found) == count and all(job["state"] == "passed" for job in found) and found[0]["number"]

    number = running.wait_for(check, 60)
    with running.client() as client:
        return client.get(f"/reconciler/jobs/{number}/log").text


def trouble(running: Process, project: str, words: str) -> str:
    """The condition of the project's Build once it says these words."""

    def check(client: httpx.Client) -> Any:
        found = client.get(f"/reconciler/resources/Build/{project}/_/web")
        assert found.status_code == 200, found.text
        messages = [c["message"] for c in found.json()["conditions"] if c["status"]]
        return next((message for message in messages if words in message), None)

    message: str = running.wait_for(check, 60)
    return message


def test_a_declared_key_opens_its_project_s_repository_and_nobody_else_s(world: World) -> None:
    """One URL, four projects: with the key, without one, with another one, and with something that is no key."""
    good, bad = world.new_key(known=True), world.new_key(known=False)
    world.specs.commit(
        {
            "shop.yaml": world.project("shop", world.secret("shop", good)),
            "plain.yaml": world.project("plain", None),
            "rival.yaml": world.project("rival", world.secret("rival", bad)),
            "typed.yaml": world.project("typed", world.secret("typed", good, "value")),
        }
    )
    running = start(world.specs.path, world.data, **world.environment)
    try:
        log = passed(running, "shop", 1)
        assert "for the shop only\n" in log
        assert f"url = {world.url}\n" in log
        assert f"{world.code.path} refuses these credentials" in trouble(running, "plain", "refuses")
        told = trouble(running, "rival", "refuses")
        assert f"{world.code.path} (with Secret/rival/_/git-key) refuses these credentials" in told
        told = trouble(running, "typed", "Secret/typed/_/git-key")
        assert told == "Secret/typed/_/git-key is of the type value, and not ssh_key, as is needed here"
        with running.client() as client:
            for project in ("plain", "rival", "typed"):
                assert jobs_of(client, project) == []
                refused = client.post("/reconciler/trigger", json={"key": f"Build/{project}/_/web"})
                assert refused.status_code >= 400
            by_hand = client.post("/reconciler/trigger", json={"key": "Build/shop/_/web"})
            assert by_hand.status_code == 202, by_hand.text
        assert "for the shop only\n" in passed(running, "shop", 2)
        heart = [private.splitlines()[2] for private in world.private]
        assert holding(world.base, *heart) == []
        # of the owner alone, and without a name in any folder
        files = set(world.seen.read_text().splitlines())
        assert all(line.startswith(f"600 0 /proc/{running.popen.pid}/fd/") for line in files)
        assert len(files) > 0
    finally:
        stop(running)


def test_a_key_is_changed_and_jobs_of_before_go_on(world: World) -> None:
    """A sealed value that changes counts from the next fetch on; a restart changes nothing; old jobs are kept."""
    world.specs.commit({"shop.yaml": world.project("shop", world.secret("shop", world.new_key(known=True)))})
    running = start(world.specs.path, world.data, **world.environment)
    try:
        passed(running, "shop", 1)
        second = world.new_key(known=True)  # and the first one is let in no more
        world.code.commit({"secret.txt": "the second\n"})
        assert "(with Secret/shop/_/git-key)" in trouble(running, "shop", "refuses these credentials")
        world.specs.commit({"shop.yaml": world.project("shop", world.secret("shop", second))})
        assert "the second\n" in passed(running, "shop", 2)
        running.kill()
        shutil.rmtree(world.data / "mirrors")  # the checkout of a job must know by itself what to fetch with
        running = start(world.specs.path, world.data, **world.environment)
        with running.client() as client:
            assert (
                client.post(f"/reconciler/jobs/{jobs_of(client, 'shop')[1]['number']}/retry").status_code
                == 202
            )
        assert "for the shop only\n" in passed(running, "shop", 3)
        mirrors = [path for path in (world.data / "mirrors").iterdir() if path.is_dir()]
        assert len(mirrors) == 1
        world.code.commit({"secret.txt": "the third\n"})
        assert "the third\n" in passed(running, "shop", 4)
    finally:
        stop(running)
