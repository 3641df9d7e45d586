"""Credentials reach Git and the right host, and appear nowhere else."""

import asyncio
import base64
import http.server
import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Stalled
from reconciler.source.git import Credentials, Mirror

TOKEN = "hush-hush-token"


class Forge(http.server.SimpleHTTPRequestHandler):
    """A dumb HTTP repository behind a password; looks at all running processes on every request."""

    redirect_to: str | None = None
    seen: list[str]
    command_lines: list[bytes]

    def do_GET(self) -> None:
        type(self).command_lines.extend(running_command_lines())
        type(self).seen.append(self.headers.get("Authorization", ""))
        if self.redirect_to:
            self.send_response(302)
            self.send_header("Location", self.redirect_to + self.path)
            self.end_headers()
        elif self.seen[-1] != "Basic " + base64.b64encode(f"git:{TOKEN}".encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


def running_command_lines() -> list[bytes]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


@contextmanager
def forge(directory: Path, redirect_to: str | None = None) -> Iterator[tuple[str, type[Forge]]]:
    handler = type("Handler", (Forge,), {"seen": [], "command_lines": [], "redirect_to": redirect_to})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(directory))
    ) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


@pytest.fixture
def served(work: Any, tmp_path: Path) -> Path:
    work.git("clone", "-q", "--bare", ".", str(tmp_path / "www/x.git"))
    work.git("update-server-info", cwd=tmp_path / "www/x.git")
    return tmp_path / "www"


async def heads(url: str, directory: Path, credentials: Credentials | None) -> dict[str, str]:
    mirror = await Mirror.open(url, directory, credentials=credentials)
    try:
        await mirror.fetch()
        return await mirror.heads()
    finally:
        await mirror.close()


def test_a_token_opens_the_repository_and_is_in_no_argument_or_file(
    work: Any, served: Path, tmp_path: Path
) -> None:
    with forge(served) as (address, handler):
        found = asyncio.run(heads(f"{address}/x.git", tmp_path / "m", Credentials(token=TOKEN)))
    assert found == {"main": work.git("rev-parse", "HEAD")}
    assert any(b"remote-http" in line for line in handler.command_lines)
    encoded = base64.b64encode(f"git:{TOKEN}".encode())
    for secret in (TOKEN.encode(), encoded):
        assert not any(secret in line for line in handler.command_lines)
        assert not any(secret in file.read_bytes() for file in (tmp_path / "m").rglob("*") if file.is_file())


@pytest.mark.parametrize("credentials", [None, Credentials(), Credentials(token="hush-wrong")])
def test_refused_credentials_stall_and_are_not_told(
    served: Path, tmp_path: Path, credentials: Credentials | None
) -> None:
    with forge(served) as (address, _), pytest.raises(Stalled, match="refuses these credentials") as caught:
        asyncio.run(heads(f"{address}/x.git", tmp_path / "m", credentials))
    assert caught.value.reason == "GitRefused"
    assert "hush" not in str(caught.value)


def test_the_user_s_helpers_are_not_asked(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, config = tmp_path / "proof", tmp_path / "config"
    config.write_text(f"[credential]\n\thelper = !touch {proof}\n[core]\n\taskPass = touch {proof}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_ASKPASS", f"touch {proof}")
    monkeypatch.setenv("SSH_ASKPASS", f"touch {proof}")
    with forge(served) as (address, _), pytest.raises(Stalled):
        asyncio.run(heads(f"{address}/x.git", tmp_path / "m", None))
    assert not proof.exists()


def test_redirects_are_not_followed(served: Path, tmp_path: Path) -> None:
    with (
        forge(served) as (target, behind),
        forge(served, redirect_to=target) as (address, _),
        pytest.raises(Stalled, match="redirects elsewhere"),
    ):
        asyncio.run(heads(f"{address}/x.git", tmp_path / "m", Credentials(token=TOKEN)))
    assert behind.seen == []


def test_a_key_file_reaches_ssh_as_one_word_and_host_keys_stay_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, key = tmp_path / "told", tmp_path / "my key; touch proof"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(told))}\necho Host key verification failed. >&2\nexit 255\n'
    )
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Stalled, match="known_hosts") as caught:
        asyncio.run(
            heads("git@forge.example:org/x.git", tmp_path / "m", Credentials(key_file=key, token=TOKEN))
        )
    assert caught.value.reason == "GitRefused"
    words = told.read_text().splitlines()
    assert words[words.index("-i") + 1] == str(key)
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "git@forge.example"} <= set(
        words
    )
    # no connection that another key has opened
    assert {"ControlMaster=no", "ControlPath=none"} <= set(words)
    assert TOKEN not in told.read_text()
    assert not Path("proof").exists()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, pid = tmp_path / "tools", tmp_path / "pid"
    tools.mkdir()
    (tools / "ssh").write_text(f"#!/bin/sh\necho $$ > {pid}\nsleep 60 & wait\n")
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    async def run() -> None:
        mirror = await Mirror.open("git@forge.example:x.git", tmp_path / "m", timeout_seconds=0.5)
        try:
            await mirror.fetch()
        finally:
            await mirror.close()

    with pytest.raises(Exception, match="took longer than") as caught:
        asyncio.run(run())
    assert type(caught.value).__name__ == "Transient"
    assert not Path(f"/proc/{pid.read_text().strip()}/exe").exists()
