"""Commits are made as asked, pushed as a compare-and-swap, and leave nothing else behind."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.errors import (
    Conflict,
    Moved,
    Refused,
    Stalled,
    SteersmanError,
    Transient,
    UnknownCommit,
)
from reconciler.source.commit import Author, Writer
from reconciler.source.git import Mirror
from reconciler.source.stream import blob_id, cleaned, stamp

T = TypeVar("T")
ADA = Author("Ada Lovelace", "ada@example.org")
SERVER = Author("Steersman", "steersman@example.org")
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))


def writing(url: Path | str, data: Path, use: Callable[[Writer, Mirror], Awaitable[T]], **options: Any) -> T:
    """Open the repository and a writer of its branch `main`, use both, close them."""
    opening = {name: options.pop(name) for name in ("direct", "timeout_seconds") if name in options}

    async def run() -> T:
        mirror = await Mirror.open(str(url), data / "mirror", **({"direct": True} | opening))
        await mirror.fetch()
        writer = Writer(mirror, "main", data / "mirrors", SERVER, **options)
        try:
            return await use(writer, mirror)
        finally:
            await writer.close()
            await mirror.close()

    return asyncio.run(run())


def committed(
    url: Path | str, data: Path, base: str | None, files: Mapping[str, bytes | None], **options: Any
) -> str:
    """One commit of these files."""
    message, branch = options.pop("message", "change"), options.pop("branch", None)
    author = options.pop("author", ADA)
    return writing(
        url, data, lambda writer, _: writer.commit(base, files, author, message, branch=branch), **options
    )


def bare_of(work: Any, place: Path) -> Path:
    work.git("clone", "-q", "--bare", str(work.path), str(place))
    return place


@pytest.fixture
def bare(work: Any, tmp_path: Path) -> Path:
    return bare_of(work, tmp_path / "bare.git")


def head(work: Any, repository: Path, branch: str = "main") -> str:
    return str(work.git("rev-parse", f"refs/heads/{branch}", cwd=repository))


def listed(work: Any, repository: Path, commit: str) -> list[str]:
    return str(work.git("ls-tree", "-r", "--name-only", commit, cwd=repository)).splitlines()


def nothing_left(data: Path) -> bool:
    return not [path for folder in (data / "mirrors").glob("commits-*") for path in folder.iterdir()]


@pytest.mark.parametrize("direct", [True, False])
def test_a_commit_has_its_author_its_committer_and_its_time(
    work: Any, bare: Path, tmp_path: Path, direct: bool
) -> None:
    base = head(work, bare)
    message = "build shop/dev/web: set branch\r\n\r\nSteersman-Actor: user:ada"
    made = committed(
        bare, tmp_path, base, {"a.yaml": b"a: 2\n"}, direct=direct, message=message, now=lambda: NOON
    )
    assert head(work, bare) == made
    shown = work.git("log", "-1", "--format=%an|%ae|%ai|%cn|%ce|%ci|%P|%B", made, cwd=bare)
    assert shown == (
        "Ada Lovelace|ada@example.org|2026-05-01 12:00:00 -0330|"
        "Steersman|steersman@example.org|2026-05-01 12:00:00 -0330|"
        f"{base}|build shop/dev/web: set branch\n\nSteersman-Actor: user:ada"
    )
    assert work.git("show", f"{made}:a.yaml", cwd=bare) == "a: 2"
    assert work.git("fsck", "--strict", cwd=bare) == ""
    assert nothing_left(tmp_path)


def test_files_come_go_and_keep_their_modes_in_one_commit(work: Any, tmp_path: Path) -> None:
    (work.path / "run.sh").write_text("old")
    (work.path / "run.sh").chmod(0o755)
    base = work.commit({"deep/er/only.yaml": "x", "other": "o"})
    bare = bare_of(work, tmp_path / "bare.git")
    files = {
        "deep/er/only.yaml": None,
        "deep": b"now a file\n",
        "run.sh": b"new",
        "new/ly/made.yaml": b"\0\n\xff" * 10,
        "other": None,
        "other/inside": b"now a folder\n",
    }
    with pytest.raises(Refused, match=r"deep .*is a folder"):
        committed(bare, tmp_path, base, files)
    del files["deep"]
    made = committed(bare, tmp_path, base, files)
    names = ["a.yaml", "new/ly/made.yaml", "other/inside", "run.sh", "specs/b.yaml"]
    assert listed(work, bare, made) == names
    assert work.git("ls-tree", made, "run.sh", cwd=bare).startswith("100755 blob")
    assert work.git("ls-tree", made, "new/ly/made.yaml", cwd=bare).startswith("100644 blob")
    assert work.git("rev-parse", f"{made}:new/ly/made.yaml", cwd=bare) == blob_id(b"\0\n\xff" * 10, "sha1")


def test_many_files_are_one_commit_and_keep_their_modes(work: Any, tmp_path: Path) -> None:
    for number in range(150):
        work.path.joinpath(f"f{number}").write_text("old")
        work.path.joinpath(f"f{number}").chmod(0o755 if number % 2 else 0o644)
    base = work.commit()
    bare = bare_of(work, tmp_path / "bare.git")
    files: dict[str, bytes | None] = {f"f{number}": b"new" for number in range(150)}
    files |= {f"deep/er/g{number}": b"new" for number in range(150)}
    made = committed(bare, tmp_path, base, files)
    changes = work.git("diff-tree", "-r", base, made, cwd=bare).splitlines()
    assert len(changes) == 300
    assert sum(line.startswith(":100755 100755 ") for line in changes) == 75
    assert sum(line.startswith(":100644 100644 ") for line in changes) == 75


def test_the_last_file_of_all_can_go(work: Any, bare: Path, tmp_path: Path) -> None:
    made = committed(bare, tmp_path, head(work, bare), {"a.yaml": None, "specs/b.yaml": None})
    assert listed(work, bare, made) == []


def test_what_changes_nothing_makes_no_commit(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    assert committed(bare, tmp_path, base, {"a.yaml": b"a: 1\n"}) == base
    assert committed(bare, tmp_path, base, {}) == base
    assert head(work, bare) == base
    assert nothing_left(tmp_path)


# A mirror of nothing is of SHA-1: it learns of another format with the first commit.
@pytest.mark.parametrize(
    ("direct", "options"), [(True, ()), (False, ()), (True, ("--object-format=sha256",))]
)
def test_an_empty_repository_gets_its_first_commit(
    work: Any, tmp_path: Path, direct: bool, options: tuple[str, ...]
) -> None:
    empty = tmp_path / "empty.git"
    work.git("init", "-q", "--bare", "-b", "main", *options, str(empty))
    made = committed(empty, tmp_path, None, {"x/y.yaml": b"y\n"}, direct=direct)
    assert (head(work, empty), listed(work, empty, made)) == (made, ["x/y.yaml"])
    again = committed(empty, tmp_path, made, {"x/y.yaml": b"z\n"}, direct=direct)
    assert head(work, empty) == again
    with pytest.raises(Moved):
        committed(empty, tmp_path, None, {"x/y.yaml": b"w\n"}, direct=direct)
    with pytest.raises(Refused, match="needs a file"):
        committed(empty, tmp_path, None, {}, direct=direct)


def test_a_shallow_repository_takes_commits(work: Any, tmp_path: Path) -> None:
    base = work.commit({"c.yaml": "c"})
    shallow = tmp_path / "shallow"
    work.git("clone", "-q", "--bare", "--depth=1", f"file://{work.path}", str(shallow))
    made = committed(shallow, tmp_path, base, {"c.yaml": b"d"})
    assert head(work, shallow) == made
    assert work.git("rev-list", "--count", made, cwd=shallow) == "2"


def test_a_branch_that_moved_is_told_apart_and_left_alone(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    first = committed(bare, tmp_path, base, {"a.yaml": b"a: 2\n"})
    with pytest.raises(Moved, match=f"main of .* is not at {base} any more"):
        committed(bare, tmp_path, base, {"specs/b.yaml": b"b: 2\n"})
    assert head(work, bare) == first
    second = committed(bare, tmp_path, first, {"specs/b.yaml": b"b: 2\n"})
    assert work.git("rev-list", "--parents", "-1", second, cwd=bare) == f"{second} {first}"
    work.git("update-ref", "refs/heads/main", base, cwd=bare)
    with pytest.raises(Moved):
        committed(bare, tmp_path, second, {"a.yaml": b"a: 3\n"})
    work.git("update-ref", "-d", "refs/heads/main", cwd=bare)
    with pytest.raises(Moved):
        committed(bare, tmp_path, base, {"a.yaml": b"a: 3\n"})
    with pytest.raises(Moved, match="not there any more"):
        committed(bare, tmp_path, "1" * 40, {"a.yaml": b"a: 3\n"})
    assert nothing_left(tmp_path)


def test_the_same_commit_made_twice_has_one_winner(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    committed(bare, tmp_path / "1", base, {"a.yaml": b"a: 2\n"}, now=lambda: NOON)
    with pytest.raises(Moved):
        committed(bare, tmp_path / "2", base, {"a.yaml": b"a: 2\n"}, now=lambda: NOON)


@pytest.mark.parametrize("checked_out", [False, True])
def test_of_writers_at_once_exactly_one_wins(work: Any, tmp_path: Path, checked_out: bool) -> None:
    target = work.path if checked_out else bare_of(work, tmp_path / "bare.git")
    base = head(work, target)

    async def run(turn: int) -> list[str | BaseException]:
        mirrors = [await Mirror.open(str(target), tmp_path, direct=True) for _ in range(4)]
        writers = [
            Writer(mirror, "main", tmp_path / f"data-{number}", SERVER)
            for number, mirror in enumerate(mirrors)
        ]
        try:
            return await asyncio.gather(
                *(
                    writer.commit(base, {f"new-{turn}-{number}.yaml": b"n\n"}, ADA, "change")
                    for number, writer in enumerate(writers)
                ),
                return_exceptions=True,
            )
        finally:
            for part in (*writers, *mirrors):
                await part.close()

    for turn in range(3):
        found = asyncio.run(run(turn))
        won = [answer for answer in found if isinstance(answer, str)]
        lost = [answer for answer in found if isinstance(answer, SteersmanError)]
        assert len(won) == 1
        assert {type(error) for error in lost} <= {Moved, Conflict, Transient}
        assert (len(lost), head(work, target)) == (3, won[0])
        if checked_out:
            assert work.git("status", "--porcelain") == ""
        else:
            assert {type(error) for error in lost} == {Moved}
        base = won[0]


def test_one_writer_makes_one_commit_at_a_time(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)

    async def use(writer: Writer, mirror: Mirror) -> None:
        first, second = await asyncio.gather(
            writer.commit(base, {"a.yaml": b"2"}, ADA, "first"),
            writer.commit(base, {"a.yaml": b"3"}, ADA, "second"),
            return_exceptions=True,
        )
        assert isinstance(second, Moved)
        assert await mirror.head("main") == first

    writing(bare, tmp_path, use)


def test_a_cancelled_caller_leaves_a_writer_that_works(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)

    async def use(writer: Writer, mirror: Mirror) -> str:
        task = asyncio.create_task(writer.commit(base, {"a.yaml": b"2"}, ADA, "first"))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        now = await mirror.head("main")
        return await writer.commit(now, {"specs/b.yaml": b"3"}, ADA, "second")

    made = writing(bare, tmp_path, use)
    assert head(work, bare) == made
    assert nothing_left(tmp_path)


def test_the_event_loop_is_never_held_up(work: Any, bare: Path, tmp_path: Path) -> None:
    hook(bare, "pre-receive", "sleep 3")
    base = head(work, bare)

    async def use(writer: Writer, _: Mirror) -> float:
        task = asyncio.create_task(writer.commit(base, {"a.yaml": b"2"}, ADA, "m"))
        longest, loop = 0.0, asyncio.get_running_loop()
        while not task.done():
            before = loop.time()
            await asyncio.sleep(0.001)
            longest = max(longest, loop.time() - before)
        await task
        return longest

    assert writing(bare, tmp_path, use) < 2


def test_a_new_branch_is_pushed_instead(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    made = committed(bare, tmp_path, base, {"a.yaml": b"2"}, branch="steersman/01J")
    assert (head(work, bare), head(work, bare, "steersman/01J")) == (base, made)
    with pytest.raises(Conflict, match="steersman/01J is there already") as caught:
        committed(bare, tmp_path, base, {"a.yaml": b"3"}, branch="steersman/01J")
    assert caught.value.reason == "BranchExists"
    with pytest.raises(Stalled):
        committed(bare, tmp_path, base, {"a.yaml": b"3"}, branch="--force")


def test_the_mirror_of_a_url_knows_the_commit_at_once(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)

    async def use(writer: Writer, mirror: Mirror) -> None:
        made = await writer.commit(base, {"specs/b.yaml": b"2"}, ADA, "m")
        assert await mirror.head("main") == made
        assert [change.path for change in await mirror.diff(base, made)] == ["specs/b.yaml"]
        aside = await writer.commit(made, {"specs/b.yaml": b"3"}, ADA, "m", branch="aside")
        assert await mirror.heads() == {"main": made, "aside": aside}
        await mirror.fetch()
        assert await mirror.heads() == {"main": made, "aside": aside}

    writing(bare, tmp_path, use, direct=False)


def test_a_mirror_that_is_further_already_is_not_set_back(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    mirror_at = tmp_path / "mirror"

    async def use(_: Writer, mirror: Mirror) -> None:
        further = work.commit({"a.yaml": "2"})
        await mirror.fetch()
        await mirror.adopt(work.path, "main", base)
        assert await mirror.head("main") == further
        assert not list(mirror_at.rglob("*.lock"))

    writing(work.path, tmp_path, use, direct=False)


BAD_PATHS = [
    "",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "./a",
    "a/",
    ".git/config",
    "deep/.GIT/hooks/x",
    ".git /x",
    ".git./x",
    "git~1/config",
    ".g\u200cit/config",
    "x\\.git\\config",
    ".git::$INDEX_ALLOCATION/x",
    "a\nb",
    "a\0b",
    "a\tb",
    "a\udc80b",
    "x" * 256,
    "/".join("x" * 100 for _ in range(50)),
]


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("content", [b"x", None])
def test_paths_that_leave_the_tree_or_reach_git_are_refused(
    work: Any, bare: Path, tmp_path: Path, path: str, content: bytes | None
) -> None:
    base = head(work, bare)
    with pytest.raises(Refused) as caught:
        committed(bare, tmp_path, base, {"fine.yaml": b"x", path: content})
    assert caught.value.reason == "BadPath"
    assert head(work, bare) == base


def test_links_submodules_folders_and_files_are_not_mixed_up(work: Any, tmp_path: Path) -> None:
    (work.path / "link").symlink_to("/etc")
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    work.git("add", "-A", "--", "link")
    work.git("commit", "-q", "-m", "odd")
    base = work.git("rev-parse", "HEAD")
    bare = bare_of(work, tmp_path / "bare.git")
    for files in (
        {"link": b"x"},
        {"link": None},
        {"link/passwd": b"x"},
        {"module": b"x"},
        {"module/x": b"x"},
        {"specs": b"x"},
        {"specs": None},
        {"a.yaml/x": b"x"},
        {"gone.yaml": None},
        {"new": b"x", "new/er": b"x"},
    ):
        with pytest.raises(Refused) as caught:
            committed(bare, tmp_path, base, files)
        assert caught.value.reason == "BadPath"
    assert head(work, bare) == base


def test_odd_names_paths_and_messages_arrive_as_they_are(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    odd = ['quo"te', "back\\slash", "sp ace/é漢🦆", "-dash", "*", ":(glob)x", "#x", "a'b;$(touch x)`"]
    message = "--amend; $(touch x)\n\ndata 5\nfrom 0\n# kept\n漢\udc80\0"
    author = Author("Zoë <script>\nO'Brien\0 漢", "zoë@<evil>\nexample.org")
    made = committed(bare, tmp_path, base, dict.fromkeys(odd, b"x"), author=author, message=message)
    found = work.git("ls-tree", "-r", "-z", "--name-only", made, cwd=bare).split("\0")
    assert set(odd) <= set(found)
    shown = work.git("log", "-1", "--format=%an|%ae|%B", made, cwd=bare)
    assert (
        shown
        == "Zoë script O'Brien 漢|zoë@evilexample.org|--amend; $(touch x)\n\ndata 5\nfrom 0\n# kept\n漢?"
    )
    assert work.git("fsck", "--strict", cwd=bare) == ""
    again = committed(bare, tmp_path, made, dict.fromkeys(odd, None))
    assert listed(work, bare, again) == ["a.yaml", "specs/b.yaml"]


@example("", "")
@example("<>", "\n")
@example(" . ", "a@b")
@given(st.text(), st.text())
def test_every_author_is_one_that_git_can_hold(name: str, email: str) -> None:
    made = cleaned(Author(name, email))
    for text in (made.name, made.email):
        assert text
        assert text == text.strip()
        assert not set(text) & set("<>\n\0")
    assert cleaned(made) == made


def test_times_are_written_with_their_zone() -> None:
    assert stamp(datetime(1970, 1, 2, tzinfo=UTC)) == "86400 +0000"
    assert stamp(NOON) == f"{int(NOON.timestamp())} -0330"
    assert stamp(NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))).endswith(" +0545")


@pytest.mark.parametrize("base", ["main", "HEAD", "", "1" * 39, "--help", "z" * 40])
def test_a_base_is_a_full_id(bare: Path, tmp_path: Path, base: str) -> None:
    with pytest.raises(UnknownCommit):
        committed(bare, tmp_path, base, {"a.yaml": b"x"})


def test_nothing_of_ours_runs_a_hook(
    work: Any, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "proof"
    config = tmp_path / "config"
    (tmp_path / "hooks").mkdir()
    for name in ("pre-push", "pre-commit", "commit-msg", "post-commit"):
        script(tmp_path / "hooks" / name, f"touch {proof}")
    config.write_text(
        f"[core]\n\thooksPath = {tmp_path}/hooks\n[push]\n\tgpgSign = true\n\tfollowTags = true\n"
        "\tdefault = nothing\n\tpushOption = x\n[commit]\n\tgpgSign = true\n[init]\n\ttemplateDir = /none\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    work.git("tag", "-a", "-m", "t", "v1", cwd=bare)
    base = head(work, bare)
    made = committed(bare, tmp_path, base, {"a.yaml": b"2"})
    assert head(work, bare) == made
    assert not proof.exists()


def test_the_owner_s_hooks_find_their_own_environment(
    work: Any, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEERSMAN_NO_SKIPS", raising=False)
    told = tmp_path / "told"
    for name in ("pre-receive", "update", "post-receive"):
        hook(bare, name, f"env | sed 's/^/{name} /' >> {told}")
    committed(bare, tmp_path, head(work, bare), {"a.yaml": b"2"})
    lines = told.read_text().splitlines()
    assert {line.split()[0] for line in lines} == {"pre-receive", "update", "post-receive"}
    ours = ("ALLOW_PROTOCOL", "SSH_COMMAND", "CONFIG_COUNT", "LITERAL", "NOSYSTEM", "LAZY", "STEERSMAN")
    assert not [line for line in lines if any(name in line.partition("=")[0] for name in ours)]


def test_a_signed_commit_can_be_verified(work: Any, bare: Path, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not there to make a key")
    key = tmp_path / "key of ours"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"steersman@example.org {key.with_suffix('.pub').read_text()}")
    base = head(work, bare)
    files = {"a.yaml": b"2", "specs/b.yaml": None}
    author = Author("Zoë", "zoe@example.org")
    made = committed(
        bare, tmp_path, base, files, signing_key=key, author=author, message="m\n\nT: x", now=lambda: NOON
    )
    assert head(work, bare) == made
    work.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", made, cwd=bare)
    shown = work.git("log", "-1", "--format=%an|%ai|%cn|%P|%B", made, cwd=bare)
    assert shown == f"Zoë|2026-05-01 12:00:00 -0330|Steersman|{base}|m\n\nT: x"
    assert listed(work, bare, made) == ["a.yaml"]
    with pytest.raises(Stalled, match="could not be signed") as caught:
        committed(bare, tmp_path, made, {"a.yaml": b"3"}, signing_key=tmp_path / "none")
    assert (caught.value.reason, head(work, bare)) == ("SigningFailed", made)


def test_a_closed_writer_says_so(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)

    async def use(writer: Writer, _: Mirror) -> None:
        await writer.close()
        with pytest.raises(Transient, match="closed"):
            await writer.commit(base, {"a.yaml": b"2"}, ADA, "m")

    writing(bare, tmp_path, use)


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def hook(repository: Path, name: str, body: str) -> None:
    folder = repository / "hooks"
    folder.mkdir(exist_ok=True)
    script(folder / name, body)


def test_leftovers_of_a_killed_process_are_cleared(work: Any, bare: Path, tmp_path: Path) -> None:
    base = head(work, bare)
    made = committed(bare, tmp_path, base, {"a.yaml": b"2"})
    folder = next((tmp_path / "mirrors").glob("commits-*"))
    (folder / "left/objects").mkdir(parents=True)
    (folder / "left/HEAD.lock").touch()
    committed(bare, tmp_path, made, {"a.yaml": b"3"})
    assert os.listdir(folder) == []
