"""A work tree that has the branch checked out follows a commit whole or not at all, and loses nothing."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Conflict, Moved, PushRefused, Transient
from reconciler.source import worktree
from reconciler.source.commit import Author, Writer
from reconciler.source.git import Mirror

ADA = Author("Ada", "ada@example.org")


def committed(url: Path, data: Path, base: str | None, files: Mapping[str, bytes | None]) -> str:
    """One commit of these files to the branch `main` of a local repository."""

    async def run() -> str:
        mirror = await Mirror.open(str(url), url, direct=True)
        writer = Writer(mirror, "main", data / "mirrors", ADA)
        try:
            return await writer.commit(base, files, ADA, "change")
        finally:
            await writer.close()
            await mirror.close()

    return asyncio.run(run())


def state(work: Any, place: Path | None = None) -> list[str]:
    return str(work.git("status", "--porcelain", "--ignored", cwd=place)).splitlines()


def test_a_clean_tree_follows(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    (work.path / "mine.txt").write_text("not tracked")
    files = {"a.yaml": b"a: 2\n", "specs/b.yaml": None, "new/c.yaml": b"c\n"}
    made = committed(work.path, tmp_path, base, files)
    assert work.git("rev-parse", "HEAD", "main").split() == [made, made]
    assert state(work) == ["?? mine.txt"]
    assert (work.path / "a.yaml").read_text() == "a: 2\n"
    assert (work.path / "new/c.yaml").read_text() == "c\n"
    assert not (work.path / "specs").exists()
    assert (work.path / "mine.txt").read_text() == "not tracked"
    again = committed(work.path / ".git", tmp_path, made, {"a.yaml": b"a: 3\n"})
    assert (work.git("rev-parse", "HEAD"), (work.path / "a.yaml").read_text()) == (again, "a: 3\n")


@pytest.mark.parametrize("setting", ["refuse", "ignore", "warn"])
def test_the_repository_s_own_setting_for_pushes_does_not_matter(
    work: Any, tmp_path: Path, setting: str
) -> None:
    work.git("config", "receive.denyCurrentBranch", setting)
    base = work.git("rev-parse", "HEAD")
    committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert (state(work), (work.path / "a.yaml").read_text()) == ([], "a: 2\n")


@pytest.mark.parametrize("dirty", ["a.yaml", "specs/b.yaml"])
@pytest.mark.parametrize("staged", [False, True])
def test_a_tree_with_changes_is_left_alone(work: Any, tmp_path: Path, dirty: str, staged: bool) -> None:
    base = work.git("rev-parse", "HEAD")
    (work.path / dirty).write_text("mine: 1\n")
    if staged:
        work.git("add", "-A")
    before = state(work)
    with pytest.raises(Conflict, match=r"main checked out with (un)?staged changes; commit") as caught:
        committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert caught.value.reason == "WorkTreeDirty"
    assert str(work.path) in caught.value.message
    assert (state(work), work.git("rev-parse", "main")) == (before, base)
    assert (work.path / dirty).read_text() == "mine: 1\n"
    work.git("reset", "-q", "--hard")
    committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert state(work) == []


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("mine", ["new", "new/c.yaml", "new/c.yaml/deeper"])
def test_files_that_git_does_not_know_are_not_written_over(
    work: Any, tmp_path: Path, ignored: bool, mine: str
) -> None:
    if ignored:
        work.commit({".gitignore": "new\n"})
    base = work.git("rev-parse", "HEAD")
    (work.path / mine).parent.mkdir(parents=True, exist_ok=True)
    (work.path / mine).write_text("mine")
    with pytest.raises(Conflict, match="is in the way of a new file") as caught:
        committed(work.path, tmp_path, base, {"a.yaml": b"2", "new/c.yaml": b"theirs"})
    assert caught.value.reason == "WorkTreeDirty"
    assert ((work.path / mine).read_text(), work.git("rev-parse", "main")) == ("mine", base)


def test_a_link_that_git_does_not_know_is_not_followed(work: Any, tmp_path: Path) -> None:
    base = work.commit({".gitignore": "new\n"})
    (tmp_path / "elsewhere").mkdir()
    (work.path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        committed(work.path, tmp_path, base, {"new/c.yaml": b"theirs"})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (work.path / "new").is_symlink()


def test_another_branch_that_is_checked_out_stays(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    work.git("checkout", "-q", "-b", "mine")
    (work.path / "a.yaml").write_text("mine: 1\n")
    made = committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert work.git("rev-parse", "main", "mine").split() == [made, base]
    assert (state(work), (work.path / "a.yaml").read_text()) == (["M a.yaml"], "mine: 1\n")


def test_a_tree_without_a_commit_follows(make_work: Any, tmp_path: Path) -> None:
    work = make_work("empty")
    (work.path / "mine.txt").write_text("mine")
    made = committed(work.path, tmp_path, None, {"x/y.yaml": b"y\n"})
    assert (work.git("rev-parse", "HEAD"), state(work)) == (made, ["?? mine.txt"])
    assert (work.path / "x/y.yaml").read_text() == "y\n"


@pytest.mark.parametrize("bare", [False, True])
def test_linked_work_trees_follow(work: Any, tmp_path: Path, bare: bool) -> None:
    base = work.git("rev-parse", "HEAD")
    main = work.path
    if bare:
        main = tmp_path / "bare.git"
        work.git("clone", "-q", "--bare", str(work.path), str(main))
    else:
        work.git("checkout", "-q", "-b", "mine")
    linked = tmp_path / "linked"
    work.git("worktree", "add", "-q", str(linked), "main", cwd=main)
    made = committed(main, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert (state(work, linked), (linked / "a.yaml").read_text()) == ([], "a: 2\n")
    made = committed(linked, tmp_path, made, {"a.yaml": b"a: 3\n"})
    assert (state(work, linked), (linked / "a.yaml").read_text()) == ([], "a: 3\n")
    (linked / "a.yaml").write_text("mine")
    with pytest.raises(Conflict):
        committed(main, tmp_path, made, {"specs/b.yaml": b"2"})
    assert work.git("rev-parse", "main") == (base if bare else made)
    assert work.git("rev-parse", "HEAD", cwd=linked) == made


def test_a_lock_in_the_tree_is_somebody_at_work(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    (work.path / ".git/index.lock").touch()
    with pytest.raises(Transient, match=r"is locked") as caught:
        committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert caught.value.reason == "GitLocked"
    assert (work.path / ".git/index.lock").exists()
    (work.path / ".git/index.lock").unlink()
    assert state(work) == []
    committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})


def test_a_tree_that_followed_goes_back_when_the_branch_cannot_move(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    (work.path / "mine.txt").write_text("mine")
    (work.path / ".git/refs/heads/main.lock").touch()
    files = {"a.yaml": b"a: 2\n", "specs/b.yaml": None, "new/c.yaml": b"c\n"}
    with pytest.raises(Transient, match="is locked") as caught:
        committed(work.path, tmp_path, base, files)
    assert caught.value.reason == "GitLocked"
    assert (state(work), work.git("rev-parse", "HEAD")) == (["?? mine.txt"], base)
    assert (work.path / "specs/b.yaml").read_text() == "b: 1\n"
    (work.path / ".git/refs/heads/main.lock").unlink()
    committed(work.path, tmp_path, base, files)
    assert state(work) == ["?? mine.txt"]


def test_a_first_commit_that_fails_leaves_an_empty_tree(make_work: Any, tmp_path: Path) -> None:
    work = make_work("empty")
    (work.path / ".git/refs/heads/main.lock").touch()
    with pytest.raises(Transient):
        committed(work.path, tmp_path, None, {"x/y.yaml": b"y\n"})
    assert (state(work), [path.name for path in work.path.iterdir()]) == ([], [".git"])


def test_a_refusing_hook_leaves_the_tree_as_it_was(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    hook = work.path / ".git/hooks/update"
    hook.write_text("#!/bin/sh\necho not on Fridays >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PushRefused, match="not on Fridays"):
        committed(work.path, tmp_path, base, {"a.yaml": b"a: 2\n"})
    assert (state(work), work.git("rev-parse", "HEAD")) == ([], base)


def test_a_tree_that_holds_anything_else_is_never_put_back(work: Any, tmp_path: Path) -> None:
    first = work.git("rev-parse", "HEAD")
    second = work.commit({"a.yaml": "a: 2\n"})
    work.git("reset", "-q", "--hard", first)
    (work.path / "a.yaml").write_text("mine")
    work.git("add", "-A")
    worktree.put_back(work.path, second)
    assert (state(work), (work.path / "a.yaml").read_text()) == (["M  a.yaml"], "mine")


def test_a_human_who_was_faster_keeps_a_clean_tree(work: Any, tmp_path: Path) -> None:
    base = work.git("rev-parse", "HEAD")
    human = work.commit({"a.yaml": "a: human\n"})
    with pytest.raises(Moved):
        committed(work.path, tmp_path, base, {"specs/b.yaml": b"b: 2\n"})
    assert (state(work), work.git("rev-parse", "HEAD")) == ([], human)
