"""Tags of releases in code repositories: annotated, pushed once, refused with the other side's words."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Stalled
from reconciler.model.job import Checkout
from reconciler.source import tagging
from reconciler.source.mirrors import Mirrors
from reconciler.source.tagging import TagRefused, push_tag
from reconciler.source.values import Author, Credentials

NAME = "shop/web-v1.4.12"
MESSAGE = "Release shop/web-v1.4.12"


def push(
    url: Path | str,
    data: Path,
    commit: str | None,
    name: str = NAME,
    *,
    force: bool = False,
    secret: str | None = None,
    open_key: Callable[[str], bytes] = lambda _: b"",
    credentials: dict[str, Credentials] | None = None,
) -> None:
    """Push one tag with mirrors of its own."""

    async def run() -> None:
        mirrors = Mirrors(data / "mirrors", credentials or {}, open_key, timeout_seconds=10)
        try:
            await push_tag(
                mirrors,
                Checkout(str(url), commit, None, "main", secret=secret),
                name,
                MESSAGE,
                force=force,
                tagger=Author("Ada <x>\n", "ada@example.org"),
            )
        finally:
            await mirrors.close()

    asyncio.run(run())


@pytest.fixture
def bare(work: Any, tmp_path: Path) -> Path:
    work.git("clone", "-q", "--bare", str(work.path), str(tmp_path / "web.git"))
    return tmp_path / "web.git"


@pytest.fixture
def commit(work: Any) -> str:
    return str(work.git("rev-parse", "HEAD"))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "_WAITS_SECONDS", (0.01, 0.01))


def hook(bare: Path, body: str) -> None:
    path = bare / "hooks/pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_the_tag_is_an_object_with_its_message(work: Any, bare: Path, commit: str, tmp_path: Path) -> None:
    push(bare, tmp_path / "data", commit)
    assert work.git("cat-file", "-t", NAME, cwd=bare) == "tag"
    assert work.git("rev-parse", f"{NAME}^{{commit}}", cwd=bare) == commit
    text = work.git("cat-file", "tag", NAME, cwd=bare)
    assert f"tag {NAME}\ntagger Ada x <ada@example.org> " in text
    assert text.endswith(MESSAGE)
    assert work.git("fsck", "--strict", cwd=bare) == ""
    assert [path.name for path in (tmp_path / "data/mirrors").iterdir() if path.name.startswith("tag-")] == []


def test_an_older_commit_of_a_repository_not_seen_before_is_tagged(
    work: Any, bare: Path, commit: str, tmp_path: Path
) -> None:
    work.commit({"later": "x"})
    work.git("push", "-q", str(bare), "main")
    push(bare, tmp_path / "data", commit)
    assert work.git("rev-parse", f"{NAME}^{{commit}}", cwd=bare) == commit


def test_the_same_tag_again_is_left_as_it_is(work: Any, bare: Path, commit: str, tmp_path: Path) -> None:
    """Also where somebody has made it without an object of its own."""
    push(bare, tmp_path / "data", commit)
    before = work.git("rev-parse", NAME, cwd=bare)
    hook(bare, "exit 1")
    push(bare, tmp_path / "data", commit)
    assert work.git("rev-parse", NAME, cwd=bare) == before
    work.git("tag", "light", commit, cwd=bare)
    push(bare, tmp_path / "data", commit, "light")


def test_a_tag_of_another_commit_is_refused_or_replaced(
    work: Any, bare: Path, commit: str, tmp_path: Path
) -> None:
    push(bare, tmp_path / "data", commit)
    later = work.commit({"later": "x"})
    work.git("push", "-q", str(bare), "main")
    with pytest.raises(TagRefused, match=f"marks another commit already: {commit}"):
        push(bare, tmp_path / "data", later)
    assert work.git("rev-parse", f"{NAME}^{{commit}}", cwd=bare) == commit
    push(bare, tmp_path / "data", later, force=True)
    assert work.git("rev-parse", f"{NAME}^{{commit}}", cwd=bare) == later


def test_who_was_faster_wins(work: Any, bare: Path, commit: str, tmp_path: Path) -> None:
    """Between looking and pushing: with the same commit that is fine, with another one it is told."""
    later = work.commit({"later": "x"})
    work.git("push", "-q", str(bare), "main")
    # the other side runs its hook before it compares
    for target, refused in ((commit, False), (later, True)):
        name = f"shop/web-x{target[:3]}"
        hook(bare, f"unset GIT_QUARANTINE_PATH; git update-ref refs/tags/{name} {target}")
        if refused:
            with pytest.raises(TagRefused, match="was set to another commit meanwhile"):
                push(bare, tmp_path / "data", commit, name)
        else:
            push(bare, tmp_path / "data", commit, name)


def test_the_other_side_s_words_are_told(bare: Path, commit: str, tmp_path: Path) -> None:
    hook(bare, 'echo "tags are made by the release team" >&2; exit 1')
    with pytest.raises(TagRefused, match="tags are made by the release team") as refused:
        push(bare, tmp_path / "data", commit)
    assert refused.value.reason == "TagRefused"


@pytest.mark.parametrize(
    "name",
    ["--upload-pack=x", "a..b", "a b", "x:y", "refs/heads/../x", "a\n", "", "@", "-v1", "a.lock", "a~1"],
)
def test_hostile_names_never_reach_git(bare: Path, commit: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(TagRefused, match="is not a name that Git allows"):
        push(bare, tmp_path / "data", commit, name)


def test_a_commit_that_is_not_there_is_told(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(TagRefused, match="does not have the commit"):
        push(bare, tmp_path / "data", "d" * 40)
    for none in (None, "main", "d" * 39):
        with pytest.raises(TagRefused, match="no commit to tag"):
            push(bare, tmp_path / "data", none)


def test_a_repository_that_is_gone_is_told_without_credentials(commit: str, tmp_path: Path) -> None:
    credentials = {"127.0.0.1": Credentials(username="x", token="hush-hush-token")}
    with pytest.raises(TagRefused) as refused:
        push("http://127.0.0.1:9/web.git", tmp_path / "data", commit, credentials=credentials)
    assert "127.0.0.1" in refused.value.message
    assert "hush" not in refused.value.message


def test_it_is_pushed_with_the_key_of_the_checkout(
    work: Any, bare: Path, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only key: the other side's words; the key is there for as long as ssh runs, and nowhere else."""
    seen = tmp_path / "seen"
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        f'while [ "$1" != -i ]; do shift; done; cat "$2" >> {seen}; shift 2\n'
        'while [ "$1" != "${1#-}" ]; do shift; [ "${1#*=}" = "$1" ] || shift; done\n'
        f'case "$*" in *receive-pack*) [ -e {tmp_path}/open ] || {{\n'
        '  echo "ERROR: The key you are authenticating with has been marked as read only." >&2; exit 1; };;\n'
        "esac\n"
        f'case "$*" in *receive-pack*) exec git receive-pack {bare};; *) exec git upload-pack {bare};; esac\n'
    )
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def tag() -> None:
        push(
            "git@forge.example:web.git",
            tmp_path / "data",
            commit,
            secret="Secret/shop/_/git-key",
            open_key=lambda key: f"key of {key}".encode(),
        )

    with pytest.raises(TagRefused, match=r"lets nobody push with these credentials.*marked as read only"):
        tag()
    assert set(seen.read_text().split("\n")) == {"key of Secret/shop/_/git-key", ""}
    (tmp_path / "open").touch()
    tag()
    assert work.git("rev-parse", f"{NAME}^{{commit}}", cwd=bare) == commit


def test_a_key_that_cannot_be_opened_is_told(commit: str, tmp_path: Path) -> None:
    def nothing(key: str) -> bytes:
        raise Stalled("SecretUnusable", f"there is no {key}")

    with pytest.raises(TagRefused, match="there is no Secret/shop/_/k"):
        push("git@forge.example:web.git", tmp_path / "d", commit, secret="Secret/shop/_/k", open_key=nothing)
