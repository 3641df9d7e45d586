"""A repository is read in place, from its object store only."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.errors import Stalled, Transient, UnknownCommit
from reconciler.source.git import CommitFacts, Entry, Mirror

T = TypeVar("T")
HOSTILE = [
    "-",
    "--upload-pack=touch /tmp/x",
    "a b",
    "a..b",
    "a~1",
    "a^{commit}",
    "a:b",
    "@{-1}",
    "@",
    "a\nb",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a/",
    "/a",
    "a//b",
    "a?",
    "[a",
    "a\\b",
    "",
    "\udcff",
    "a" * 300,
]


def reading(url: Path | str, use: Callable[[Mirror], Awaitable[T]]) -> T:
    """Open the repository in place, use it, close it."""

    async def run() -> T:
        mirror = await Mirror.open(str(url), Path("/nowhere"), direct=True)
        try:
            return await use(mirror)
        finally:
            await mirror.close()

    return asyncio.run(run())


def test_heads_of_branches_are_commit_ids(work: Any) -> None:
    first = work.git("rev-parse", "HEAD")
    work.git("branch", "other/one")

    async def use(mirror: Mirror) -> None:
        assert await mirror.head("main") == first
        assert await mirror.head("other/one") == first
        assert await mirror.head(None) == first
        assert await mirror.head("none") is None
        assert await mirror.default_branch() == "main"
        assert await mirror.heads() == {"main": first, "other/one": first}

    reading(work.path, use)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_branch_names_are_refused(work: Any, name: str) -> None:
    async def use(mirror: Mirror) -> None:
        with pytest.raises(Stalled, match="Git allows") as caught:
            await mirror.head(name)
        assert caught.value.reason == "BadRef"
        with pytest.raises(Stalled):
            await mirror.resolve(name)

    reading(work.path, use)


def test_a_moved_branch_is_seen_without_reopening(work: Any) -> None:
    async def use(mirror: Mirror) -> None:
        for number in range(3):
            moved = work.commit({"a.yaml": f"a: {number}\n"})
            assert await mirror.head("main") == moved
            work.git("gc", "-q", "--prune=now")
            assert await mirror.head("main") == moved
            assert await mirror.tree_of(moved) == work.git("rev-parse", "HEAD^{tree}")
        work.git("checkout", "-q", "-b", "next")
        work.git("branch", "-D", "main")
        assert await mirror.head("main") is None

    reading(work.path, use)


def test_tags_are_peeled_to_commits(work: Any) -> None:
    commit = work.git("rev-parse", "HEAD")
    work.git("tag", "light")
    work.git("tag", "-am", "text", "annotated")
    work.git("tag", "-am", "text", "of-tag", "annotated")
    work.git("tag", "of-tree", "HEAD^{tree}")

    async def use(mirror: Mirror) -> None:
        assert await mirror.tags() == {"light": commit, "annotated": commit, "of-tag": commit}
        assert await mirror.resolve("of-tag") == commit
        assert await mirror.resolve("of-tree") is None

    reading(work.path, use)


def test_branches_tags_and_abbreviated_ids_resolve(work: Any) -> None:
    commit = work.git("rev-parse", "HEAD")
    work.git("tag", "v1")

    async def use(mirror: Mirror) -> None:
        names = ["main", "v1", "refs/heads/main", commit, commit[:7], commit[:7].upper()]
        assert [await mirror.resolve(name) for name in names] == [commit] * 6
        unknown = ["nothing", "abc", "0" * 40, "feedbeef", work.git("rev-parse", "HEAD:a.yaml")]
        assert [await mirror.resolve(name) for name in unknown] == [None] * 5

    reading(work.path, use)


def test_entries_carry_mode_blob_and_size(work: Any) -> None:
    (work.path / "run.sh").write_text("#!/bin/sh\n")
    (work.path / "run.sh").chmod(0o755)
    (work.path / "link").symlink_to("/etc/passwd")
    inner = work.git("rev-parse", "HEAD")
    work.git("update-index", "--add", "--cacheinfo", f"160000,{inner},sub")
    work.git("add", "run.sh", "link")
    work.git("commit", "-qm", "odd")
    commit = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        found = {entry.path: entry for entry in await mirror.entries(commit)}
        assert sorted(found) == ["a.yaml", "link", "run.sh", "specs/b.yaml", "sub"]
        assert found["a.yaml"] == Entry("a.yaml", "100644", work.git("rev-parse", "HEAD:a.yaml"), 5)
        assert (found["run.sh"].mode, found["link"].mode) == ("100755", "120000")
        assert found["sub"] == Entry("sub", "160000", inner, None)
        assert [found[name].regular for name in ("run.sh", "link", "sub")] == [True, False, False]
        assert [entry.path for entry in await mirror.entries(commit, "specs")] == ["b.yaml"]
        assert await mirror.entries(commit, "/specs/") == await mirror.entries(commit, "specs")
        assert await mirror.entries(commit, "none") == []
        assert await mirror.entries(commit, "a.yaml") == []

    reading(work.path, use)


def test_strange_file_names_are_told_as_they_are(work: Any) -> None:
    names = [
        b"new\nline.yaml",
        b"latin-\xe9.yaml",
        "ümlaut ☃.yaml".encode(),
        b"tab\t.yaml",
        b"-x",
        b":(top)y",
    ]
    for name in names:
        Path(os.fsdecode(bytes(work.path) + b"/" + name)).write_text("x")
    commit = work.commit()

    async def use(mirror: Mirror) -> None:
        found = {entry.path: entry.readable for entry in await mirror.entries(commit)}
        assert {path.encode("utf-8", "surrogateescape") for path in found} >= set(names)
        assert not found["new\nline.yaml"]
        assert not found["latin-\udce9.yaml"]
        assert found["ümlaut ☃.yaml"]
        assert await mirror.tree_of(commit, "no\udce9such") is None

    reading(work.path, use)


def test_a_diff_names_both_sides(work: Any) -> None:
    old = work.git("rev-parse", "HEAD")
    work.git("mv", "a.yaml", "c.yaml")
    (work.path / "specs/b.yaml").chmod(0o755)
    new = work.commit({"specs/d.yaml": "d\n"})

    async def use(mirror: Mirror) -> None:
        changes = {change.path: change for change in await mirror.diff(old, new)}
        assert sorted(changes) == ["a.yaml", "c.yaml", "specs/b.yaml", "specs/d.yaml"]
        assert (changes["a.yaml"].new, changes["c.yaml"].old) == (None, None)
        both = changes["specs/b.yaml"]
        assert both.old
        assert both.new
        assert (both.old.mode, both.new.mode) == ("100644", "100755")
        assert [change.path for change in await mirror.diff(old, new, "specs")] == ["b.yaml", "d.yaml"]
        assert await mirror.diff(old, old) == []
        assert [change.path for change in await mirror.diff(new, old, "specs")] == ["b.yaml", "d.yaml"]

    reading(work.path, use)


def test_a_path_that_appears_is_compared_with_nothing(work: Any) -> None:
    old = work.git("rev-parse", "HEAD")
    new = work.commit({"late/x.yaml": "x\n"})

    async def use(mirror: Mirror) -> None:
        assert [change.path for change in await mirror.diff(old, new, "late")] == ["x.yaml"]
        assert [change.new for change in await mirror.diff(new, old, "late")] == [None]

    reading(work.path, use)


def test_a_commit_that_is_gone_is_unknown(work: Any) -> None:
    head = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        for gone in ("1" * 40, "main", "--help"):
            with pytest.raises(UnknownCommit):
                await mirror.diff(gone, head)
            with pytest.raises(UnknownCommit):
                await mirror.entries(gone)
            assert await mirror.facts(gone) is None
            assert not await mirror.is_ancestor(gone, head)

    reading(work.path, use)


def test_paths_out_of_the_tree_are_refused(work: Any) -> None:
    head = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        for path in ("..", "specs/../..", "a\nb", "a\0b"):
            with pytest.raises(Stalled, match="inside the repository"):
                await mirror.entries(head, path)

    reading(work.path, use)


def test_blobs_are_read_up_to_the_limit(work: Any) -> None:
    files = {f"many/{number}": f"text {number}\n" * 50 for number in range(500)}
    files |= {"empty": "", "large": "x" * 3_000_000, "no-newline": "x"}
    commit = work.commit(files)

    async def use(mirror: Mirror) -> None:
        blobs = {entry.path: entry.blob for entry in await mirror.entries(commit)}
        unknown = ["0" * 40, "nonsense", "", work.git("rev-parse", "HEAD^{tree}")]
        read = await mirror.read([*blobs.values(), *unknown, blobs["empty"]], 1_000_000)
        assert read.keys() == {blob for path, blob in blobs.items() if path != "large"}
        assert read[blobs["many/499"]] == b"text 499\n" * 50
        assert (read[blobs["empty"]], read[blobs["no-newline"]]) == (b"", b"x")
        assert len((await mirror.read([blobs["large"]], 3_000_000))[blobs["large"]]) == 3_000_000
        assert await mirror.read([], 1) == {}

    reading(work.path, use)


def test_facts_are_those_of_the_commit(work: Any) -> None:
    parent = work.git("rev-parse", "HEAD")
    work.git(
        "commit",
        "--allow-empty",
        "-qm",
        "one\ntwo\n\nthree\n\nfour",
        GIT_AUTHOR_NAME="Grace Höpper",
        GIT_AUTHOR_DATE="1700000000 -0530",
        GIT_COMMITTER_NAME="Linus",
        GIT_COMMITTER_DATE="1700000100 +0000",
    )
    commit = work.git("rev-parse", "HEAD")
    facts = reading(work.path, lambda mirror: mirror.facts(commit))
    assert facts == CommitFacts(
        id=commit,
        tree=work.git("rev-parse", "HEAD^{tree}"),
        author_name="Grace Höpper",
        author_email="ada@example.org",
        author_date=datetime.fromtimestamp(1700000000, timezone(-timedelta(hours=5, minutes=30))),
        committer_name="Linus",
        committer_email="ada@example.org",
        committer_date=datetime.fromtimestamp(1700000100, UTC),
        subject="one two",
        body="three\n\nfour\n",
        parents=(parent,),
    )


@pytest.mark.parametrize(
    "author",
    [
        "author",
        "author x",
        "author x <y> 99999999999999999 +9999",
        "author <> 1 +0000",
        "author a\xff <b> - -",
    ],
)
def test_a_malformed_commit_harms_nobody(work: Any, author: str) -> None:
    tree = work.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\n{author}\ncommitter x <y> 1 +0000\nencoding klingon\n\nsubject\n".encode("latin-1")
    made = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=work.path,
        input=raw,
        capture_output=True,
        check=True,
    )
    facts = reading(work.path, lambda mirror: mirror.facts(made.stdout.decode().strip()))
    if facts:
        assert (facts.tree, facts.subject) == (tree, "subject")
        assert facts.author_date.tzinfo is not None


def test_ancestors_are_told_from_others(work: Any) -> None:
    first = work.git("rev-parse", "HEAD")
    second = work.commit()
    work.git("checkout", "-q", "--orphan", "else")
    other = work.commit()

    async def use(mirror: Mirror) -> None:
        assert await mirror.is_ancestor(first, second)
        assert await mirror.is_ancestor(first, first)
        assert not await mirror.is_ancestor(second, first)
        assert not await mirror.is_ancestor(first, other)

    reading(work.path, use)


def test_an_empty_repository_has_no_head(make_work: Any) -> None:
    empty = make_work("empty")

    async def use(mirror: Mirror) -> None:
        assert await mirror.head(None) is None
        assert await mirror.head("main") is None
        assert await mirror.default_branch() == "main"
        assert await mirror.heads() == {}
        first = empty.commit({"a": "a"})
        assert await mirror.head(None) == first

    reading(empty.path, use)


@pytest.mark.parametrize("form", ["work", ".git", "bare", "linked", "file-url", "relative"])
def test_every_form_of_a_local_repository_opens(
    work: Any, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    work.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    urls = {
        "work": work.path,
        ".git": work.path / ".git",
        "bare": tmp_path / "bare.git",
        "linked": tmp_path / "linked",
        "file-url": f"file://{work.path}",
        "relative": "work",
    }

    async def use(mirror: Mirror) -> None:
        assert mirror.direct
        assert await mirror.head("main") == work.git("rev-parse", "main")
        assert await mirror.default_branch() == ("side" if form == "linked" else "main")
        await mirror.fetch()

    reading(urls[form], use)


def test_a_shallow_repository_is_read(work: Any, tmp_path: Path) -> None:
    head = work.commit()
    work.git("clone", "-q", "--depth=1", f"file://{work.path}", str(tmp_path / "shallow"))

    async def use(mirror: Mirror) -> None:
        assert len(await mirror.entries(head)) == 2
        assert not await mirror.is_ancestor(work.git("rev-parse", "HEAD~1"), head)
        with pytest.raises(UnknownCommit):
            await mirror.diff(work.git("rev-parse", "HEAD~1"), head)

    reading(tmp_path / "shallow", use)


def test_sha256_repositories_are_read(make_work: Any) -> None:
    work = make_work("sha256", "--object-format=sha256")
    first = work.commit({"a": "a\n"})
    second = work.commit({"d/b": "b\n"})

    async def use(mirror: Mirror) -> None:
        assert await mirror.head("main") == second
        assert [change.path for change in await mirror.diff(first, second, "d")] == ["b"]
        blob = (await mirror.entries(first))[0].blob
        assert await mirror.read([blob], 10) == {blob: b"a\n"}

    reading(work.path, use)


def test_what_is_no_repository_says_so(tmp_path: Path, work: Any) -> None:
    (work.path / "inside").mkdir()
    for place in (tmp_path / "missing", tmp_path, work.path / "inside", work.path / "a.yaml"):
        with pytest.raises(Stalled) as caught:
            reading(place, lambda mirror: mirror.heads())
        assert str(place) in str(caught.value)
        assert caught.value.reason == "GitRefused"


def test_a_repository_that_vanishes_is_named_and_found_again(work: Any, tmp_path: Path) -> None:
    async def use(mirror: Mirror) -> None:
        before = await mirror.head("main")
        work.path.rename(tmp_path / "away")
        for ask in (mirror.head("main"), mirror.heads(), mirror.default_branch()):
            with pytest.raises((Transient, Stalled), match=str(work.path)):
                await ask
        (tmp_path / "away").rename(work.path)
        assert await mirror.head("main") == before

    reading(work.path, use)


def test_a_repository_replaced_by_another_is_read_anew(work: Any, tmp_path: Path, make_work: Any) -> None:
    other = make_work("other")
    head = other.commit({"other": "x"})

    async def use(mirror: Mirror) -> None:
        assert await mirror.head("main") != head
        work.path.rename(tmp_path / "away")
        other.path.rename(work.path)
        assert await mirror.head("main") == head
        assert [entry.path for entry in await mirror.entries(head)] == ["other"]

    reading(work.path, use)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_a_repository_of_somebody_else_names_the_way_out(work: Any) -> None:
    for path in (work.path, work.path / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(Stalled, match=f"git config --global --add safe.directory {work.path}"):
        reading(work.path, lambda mirror: mirror.heads())


def test_a_format_from_the_future_names_the_version(work: Any) -> None:
    work.git("config", "core.repositoryformatversion", "1")
    work.git("config", "extensions.refStorage", "reftable")
    with pytest.raises(Stalled, match=r"Git 2\.45") as caught:
        reading(work.path, lambda mirror: mirror.heads())
    assert caught.value.reason == "GitTooOld"


def test_git_variables_of_a_surrounding_hook_are_ignored(
    work: Any, make_work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_work("other")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.path / ".git/objects"))
    head = reading(work.path, lambda mirror: mirror.head("main"))
    monkeypatch.undo()
    assert head == work.git("rev-parse", "main")


def test_reading_writes_nothing(work: Any) -> None:
    def listing() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in work.path.rglob("*")}

    head, before = work.git("rev-parse", "HEAD"), listing()

    async def use(mirror: Mirror) -> None:
        await mirror.heads()
        await mirror.entries(head)
        await mirror.fetch()
        await mirror.checkout(head, work.path.parent / "out", branch=None, url="https://example.org/x")

    reading(work.path, use)
    assert listing() == before


def test_the_event_loop_goes_on_while_git_works(work: Any) -> None:
    async def use(mirror: Mirror) -> None:
        turns = 0
        asking = asyncio.ensure_future(mirror.heads())
        while not asking.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 3

    reading(work.path, use)


def test_processes_rest_and_a_closed_mirror_says_so(work: Any) -> None:
    async def use(mirror: Mirror) -> None:
        await mirror.head("main")
        assert mirror.awake
        await mirror.rest()
        assert not mirror.awake
        assert await mirror.head("main") is not None
        await mirror.close()
        with pytest.raises(Transient, match="closed"):
            await mirror.head("main")

    reading(work.path, use)


@pytest.mark.parametrize("damage", ["no object", "empty ref", "nonsense ref"])
def test_a_damaged_branch_never_looks_like_a_deleted_one(work: Any, damage: str) -> None:
    head = work.git("rev-parse", "HEAD")
    if damage == "no object":
        (work.path / ".git/objects" / head[:2] / head[2:]).unlink()
    else:
        (work.path / ".git/refs/heads/main").write_text("" if damage == "empty ref" else "nonsense\n")

    async def use(mirror: Mirror) -> None:
        for branch in ("main", None):
            with pytest.raises(Transient, match="could not be read"):
                await mirror.head(branch)
        assert await mirror.head("none") is None

    reading(work.path, use)
