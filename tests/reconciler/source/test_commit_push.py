"""What the other side does with a push: refuses, hangs, is gone, loses its answer."""

import asyncio
import http.server
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.errors import Conflict, Moved, PushRefused, Stalled, SteersmanError, Transient
from reconciler.source.commit import Author, Writer
from reconciler.source.git import Credentials, Mirror
from reconciler.source.push import plain

T = TypeVar("T")
ADA = Author("Ada", "ada@example.org")
TOKEN = "hush-hush-token"
SSH_URL = "git@forge.example:spec.git"


def writing(url: Path | str, data: Path, use: Callable[[Writer, Mirror], Awaitable[T]], **options: Any) -> T:
    """Open the repository, fetched, and a writer of its branch `main`; use both, close them."""

    async def run() -> T:
        mirror = await Mirror.open(str(url), data / "mirror", **options)
        await mirror.fetch()
        writer = Writer(mirror, "main", data / "mirrors", ADA)
        try:
            return await use(writer, mirror)
        finally:
            await writer.close()
            await mirror.close()

    return asyncio.run(run())


def committed(url: Path | str, data: Path, base: str | None, **options: Any) -> str:
    """One commit."""
    files = {"a.yaml": b"a: 2\n"}
    return writing(url, data, lambda writer, _: writer.commit(base, files, ADA, "change"), **options)


@pytest.fixture
def bare(work: Any, tmp_path: Path) -> Path:
    work.git("clone", "-q", "--bare", str(work.path), str(tmp_path / "spec.git"))
    return tmp_path / "spec.git"


@pytest.fixture
def base(work: Any) -> str:
    return str(work.git("rev-parse", "HEAD"))


def head(work: Any, bare: Path) -> str:
    return str(work.git("rev-parse", "refs/heads/main", cwd=bare))


def script(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def nothing_left(data: Path, bare: Path) -> None:
    assert not [path for folder in (data / "mirrors").glob("commits-*") for path in folder.iterdir()]
    assert not list(bare.rglob("*.lock"))


@pytest.fixture
def by_ssh(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Puts an `ssh` into PATH that runs what it is asked for on this machine; gives the URL."""

    def install(before: str = "", after: str = "") -> str:
        run = f'for last; do :; done\n{before}\ncd {shlex.quote(str(bare.parent))}\nsh -c "$last"\nstatus=$?'
        script(tmp_path / "tools/ssh", f"{run}\n{after}\nexit $status")
        monkeypatch.setenv("PATH", f"{tmp_path}/tools{os.pathsep}{os.environ['PATH']}")
        return SSH_URL

    return install


def committed_once(bare: Path, body: str) -> str:
    """A hook that runs when the branch has moved and the answer is not yet given."""
    return f'test "$1" = committed && mkdir {bare}/once 2>/dev/null && {{ {body}\n}}; exit 0'


def only_for_pushes(body: str) -> str:
    return f'case "$last" in *receive-pack*) {body};; esac'


def test_a_push_over_ssh_arrives(work: Any, bare: Path, base: str, tmp_path: Path, by_ssh: Any) -> None:
    made = committed(by_ssh(), tmp_path, base)
    assert head(work, bare) == made
    with pytest.raises(Moved):
        committed(SSH_URL, tmp_path, base)
    nothing_left(tmp_path, bare)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("name", ["pre-receive", "update"])
def test_a_hook_that_refuses_is_quoted(
    work: Any, bare: Path, base: str, tmp_path: Path, name: str, direct: bool
) -> None:
    said = "printf '\\033[31mNot on\\033[0m Fridays.\\n\\n\\007See https://u:pass@wiki/x\\n' >&2"
    script(bare / "hooks" / name, f"{said}; exit 1")
    with pytest.raises(PushRefused) as caught:
        committed(bare, tmp_path, base, direct=direct)
    message = caught.value.message
    assert message == f"{bare} refused the commit: Not on Fridays. See https://***@wiki/x"
    assert (caught.value.reason, head(work, bare)) == ("PushRefused", base)
    nothing_left(tmp_path, bare)
    (bare / "hooks" / name).unlink()
    assert committed(bare, tmp_path, base, direct=direct)


def test_a_hook_that_says_nothing_or_too_much_is_bounded(bare: Path, base: str, tmp_path: Path) -> None:
    script(bare / "hooks/pre-receive", "exit 1")
    with pytest.raises(PushRefused, match="refused the commit: pre-receive hook declined"):
        committed(bare, tmp_path, base, direct=True)
    script(bare / "hooks/pre-receive", "yes word | head -c 100000 >&2; exit 1")
    with pytest.raises(PushRefused) as caught:
        committed(bare, tmp_path, base, direct=True)
    assert len(caught.value.message) < 700


def test_a_hook_that_speaks_of_permissions_is_still_a_refusal(bare: Path, base: str, tmp_path: Path) -> None:
    script(bare / "hooks/pre-receive", "echo 'Permission denied: stale info, index.lock' >&2; exit 1")
    with pytest.raises(PushRefused, match="Permission denied"):
        committed(bare, tmp_path, base, direct=True)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
def test_a_hook_that_hangs_is_given_up_and_ended(
    work: Any, bare: Path, base: str, tmp_path: Path, direct: bool, stubborn: str
) -> None:
    pid = tmp_path / "pid"
    script(bare / "hooks/pre-receive", f"{stubborn}echo $$ > {pid}; while :; do sleep 0.1; done")
    with pytest.raises(Transient, match="took longer than") as caught:
        committed(bare, tmp_path, base, direct=direct, timeout_seconds=1.5)
    assert (caught.value.reason, head(work, bare)) == ("GitTimeout", base)
    nothing_left(tmp_path, bare)
    if not stubborn:
        assert not Path(f"/proc/{pid.read_text().strip()}/exe").exists()
    else:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    (bare / "hooks/pre-receive").unlink()
    assert committed(bare, tmp_path, base, direct=direct)


@pytest.mark.parametrize("direct", [True, False])
def test_a_push_whose_answer_never_came_is_found_out(
    work: Any, bare: Path, base: str, tmp_path: Path, direct: bool
) -> None:
    script(bare / "hooks/post-receive", "while :; do sleep 0.1; done")
    made = committed(bare, tmp_path, base, direct=direct, timeout_seconds=1.5)
    assert head(work, bare) == made
    nothing_left(tmp_path, bare)


def test_a_cut_connection_after_the_push_is_found_out(
    work: Any, bare: Path, base: str, tmp_path: Path, by_ssh: Any
) -> None:
    script(bare / "hooks/reference-transaction", committed_once(bare, "kill -9 $PPID"))
    url = by_ssh()

    async def use(writer: Writer, mirror: Mirror) -> str:
        made = await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")
        assert await mirror.head("main") == made
        return made

    made = writing(url, tmp_path, use)
    assert head(work, bare) == made


def test_a_cut_connection_before_the_push_is_told(
    work: Any, bare: Path, base: str, tmp_path: Path, by_ssh: Any
) -> None:
    script(bare / "hooks/pre-receive", "kill -9 $PPID")
    with pytest.raises(Transient, match="could not be written") as caught:
        committed(by_ssh(), tmp_path, base)
    assert (caught.value.reason, head(work, bare)) == ("GitUnavailable", base)
    assert "found out" not in caught.value.message


def test_a_lost_answer_counts_also_when_somebody_has_gone_on(
    work: Any, bare: Path, base: str, tmp_path: Path
) -> None:
    going_on = "GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x"
    body = (
        f"new=$({going_on} git commit-tree -m on -p main 'main^{{tree}}') && git update-ref refs/heads/main $new\n"
        "kill -9 $PPID"
    )
    script(bare / "hooks/reference-transaction", committed_once(bare, body))
    made = committed(bare, tmp_path, base, direct=True)
    assert work.git("rev-parse", "main^", cwd=bare) == made


def test_a_branch_that_moves_during_the_push_is_told(
    work: Any, bare: Path, base: str, tmp_path: Path
) -> None:
    other = work.commit({"other": "x"})
    work.git("push", "-q", str(bare), "main:refs/heads/other")
    script(
        bare / "hooks/pre-receive",
        f"unset GIT_QUARANTINE_PATH; git update-ref refs/heads/main {other}",
    )
    with pytest.raises(Moved):
        committed(bare, tmp_path, base, direct=True)
    assert head(work, bare) == other


def test_an_answer_that_cannot_be_found_out_is_said_to_be_unknown(
    work: Any, bare: Path, base: str, tmp_path: Path, by_ssh: Any
) -> None:
    body = committed_once(bare, f"mv {bare} {bare}.away; kill -9 $PPID")
    script(bare / "hooks/reference-transaction", body)
    with pytest.raises(Transient, match="has arrived could not be found out"):
        committed(by_ssh(), tmp_path, base)
    assert head(work, Path(f"{bare}.away")) != base


@pytest.mark.parametrize("direct", [True, False])
def test_a_repository_that_is_gone_is_told(bare: Path, base: str, tmp_path: Path, direct: bool) -> None:
    async def use(writer: Writer, mirror: Mirror) -> None:
        away = bare.rename(tmp_path / "away.git")  # noqa: ASYNC240
        with pytest.raises(Stalled, match="is not there") as caught:
            await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")
        assert caught.value.reason == "GitRefused"
        away.rename(bare)
        await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")

    writing(bare, tmp_path, use, direct=direct)
    nothing_left(tmp_path, bare)


def test_a_mirror_that_is_gone_is_told(bare: Path, base: str, tmp_path: Path) -> None:
    async def use(writer: Writer, mirror: Mirror) -> None:
        mirror.place.rename(tmp_path / "away")
        with pytest.raises(Transient, match="fetch it again"):
            await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")
        await mirror.fetch()
        await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")

    writing(bare, tmp_path, use)


def test_a_server_that_never_answers_is_given_up(
    work: Any, bare: Path, base: str, tmp_path: Path, by_ssh: Any
) -> None:
    url = by_ssh(only_for_pushes("sleep 60"))
    with pytest.raises(Transient, match="took longer than"):
        committed(url, tmp_path, base, timeout_seconds=1)
    assert head(work, bare) == base


def test_a_key_that_may_only_read_is_a_refusal(bare: Path, base: str, tmp_path: Path, by_ssh: Any) -> None:
    said = "ERROR: The key you are authenticating with has been marked as read only."
    url = by_ssh(only_for_pushes(f"echo {shlex.quote(said)} >&2; exit 1"))
    with pytest.raises(PushRefused, match="marked as read only"):
        committed(url, tmp_path, base)


class Forge(http.server.BaseHTTPRequestHandler):
    """Smart HTTP by `git http-backend`, behind a token."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.serve(b"")

    def do_POST(self) -> None:
        self.serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def serve(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.asked.append(path)
        if not self.headers.get("Authorization"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.end_headers()
            return
        environment = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "git",
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def forge(root: Path) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Forge,), {"root": root, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.asked
        finally:
            server.shutdown()
            thread.join()


def test_a_push_over_http_arrives_with_its_token(work: Any, bare: Path, base: str, tmp_path: Path) -> None:
    with forge(tmp_path) as (address, asked):

        async def use(writer: Writer, mirror: Mirror) -> str:
            made = await writer.commit(base, {"a.yaml": b"2", "large": os.urandom(300_000)}, ADA, "m")
            count = len(asked)
            assert await mirror.head("main") == made
            assert len(asked) == count
            with pytest.raises(Moved):
                await writer.commit(base, {"a.yaml": b"3"}, ADA, "m")
            return made

        made = writing(f"{address}/spec.git", tmp_path, use, credentials=Credentials(token=TOKEN))
    assert head(work, bare) == made
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_push_that_the_server_does_not_serve_is_a_refusal(
    work: Any, bare: Path, base: str, tmp_path: Path
) -> None:
    work.git("config", "http.receivepack", "false", cwd=bare)
    with forge(tmp_path) as (address, _), pytest.raises(PushRefused, match="403") as caught:
        committed(f"{address}/spec.git", tmp_path, base, credentials=Credentials(token=TOKEN))
    assert TOKEN not in caught.value.message
    assert head(work, bare) == base


def test_a_hook_behind_http_is_quoted_without_the_token(
    work: Any, bare: Path, base: str, tmp_path: Path
) -> None:
    script(bare / "hooks/pre-receive", f"echo protected branch {TOKEN} >&2; exit 1")
    with forge(tmp_path) as (address, _), pytest.raises(PushRefused) as caught:
        committed(f"{address}/spec.git", tmp_path, base, credentials=Credentials(token=TOKEN))
    assert caught.value.message.endswith("refused the commit: protected branch ***")


def test_a_server_that_is_down_is_told_and_the_next_call_works(
    work: Any, bare: Path, base: str, tmp_path: Path
) -> None:
    async def use(writer: Writer, mirror: Mirror) -> None:
        failing.set()
        await asyncio.to_thread(down.wait)
        with pytest.raises(Transient, match="could not be written") as caught:
            await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")
        assert caught.value.reason == "GitUnavailable"
        assert "found out" not in caught.value.message
        assert await mirror.head("main") == base

    failing, down = threading.Event(), threading.Event()
    with forge(tmp_path) as (address, _):
        url = f"{address}/spec.git"
        result: list[SteersmanError | None] = []

        def run() -> None:
            writing(url, tmp_path, use, credentials=Credentials(token=TOKEN))
            result.append(None)

        thread = threading.Thread(target=run)
        thread.start()
        failing.wait(20)
    down.set()
    thread.join()
    assert result == [None]
    nothing_left(tmp_path, bare)


KILLED = """
import asyncio, sys
from pathlib import Path
from reconciler.source.commit import Author, Writer
from reconciler.source.git import Mirror

async def run(url, data, base):
    mirror = await Mirror.open(url, Path(url), direct=True)
    writer = Writer(mirror, "main", Path(data), Author("Ada", "ada@example.org"))
    print("ready", flush=True)
    await writer.commit(base, {f"f{n}.yaml": b"x%d\\n" % n for n in range(300)}, Author("A", "a@b"), "m")

asyncio.run(run(*sys.argv[1:]))
"""


@pytest.mark.parametrize("checked_out", [False, True])
@pytest.mark.parametrize("after_ms", [0, 8, 20, 40, 60, 90])
def test_a_killed_process_leaves_the_commit_or_nothing(
    work: Any, bare: Path, base: str, tmp_path: Path, after_ms: int, checked_out: bool
) -> None:
    target = work.path if checked_out else bare
    arguments = [sys.executable, "-c", KILLED, str(target), str(tmp_path / "mirrors"), base]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], env=os.environ | {"PYTHONPATH": "."}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after_ms / 1000)
        process.kill()
    for _ in range(100):
        # What it started may still be at work.
        try:
            now = committed(target, tmp_path, head(work, target), direct=True)
            break
        except (Moved, Conflict, Transient):
            time.sleep(0.05)
    else:
        pytest.fail("no commit could be made any more")
    history = work.git("rev-list", "--reverse", "main", cwd=target).splitlines()
    assert (history[0], history[-1]) == (base, now)
    assert len(history) in (2, 3)
    names = work.git("ls-tree", "--name-only", "main", cwd=target).splitlines()
    assert len([name for name in names if name.startswith("f")]) == 300 * (len(history) - 2)
    assert work.git("fsck", "--strict", "--connectivity-only", "--no-dangling", cwd=target) == ""
    assert work.git("for-each-ref", "--format=%(refname)", cwd=target) == "refs/heads/main"
    if checked_out:
        assert work.git("status", "--porcelain") == ""


def test_text_of_strangers_is_made_plain() -> None:
    assert plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x07x\u202ey\r\nz\x1bc") == "red  x y \nz"
