"""A mirror follows another repository, heals itself, and gives clean checkouts."""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.errors import Stalled, Transient, UnknownCommit
from reconciler.source.git import Credentials, Mirror
from reconciler.source.mirrors import Mirrors
from reconciler.source.names import local_path

T = TypeVar("T")
KEY = "Secret/shop/_/git-key"


def mirrored(url: Path | str, directory: Path, use: Callable[[Mirror], Awaitable[T]], **options: Any) -> T:
    """Open the mirror, use it, close it."""

    async def run() -> T:
        mirror = await Mirror.open(str(url), directory, **options)
        try:
            return await use(mirror)
        finally:
            await mirror.close()

    return asyncio.run(run())


async def fetched_heads(mirror: Mirror) -> dict[str, str]:
    await mirror.fetch()
    return await mirror.heads()


def test_a_mirror_follows_pushes_force_pushes_and_deletions(work: Any, tmp_path: Path) -> None:
    async def use(mirror: Mirror) -> None:
        assert await mirror.heads() == {}
        first = work.git("rev-parse", "HEAD")
        work.git("branch", "gone/deep")
        work.git("tag", "v1")
        assert await fetched_heads(mirror) == {"main": first, "gone/deep": first}
        work.git("branch", "-D", "gone/deep")
        work.git("branch", "gone")
        work.git("commit", "-q", "--amend", "--allow-empty", "-m", "forced")
        work.git("tag", "-f", "v1")
        forced = work.git("rev-parse", "HEAD")
        assert await fetched_heads(mirror) == {"main": forced, "gone": first}
        assert await mirror.tags() == {"v1": forced}
        assert await mirror.entries(first), "a commit that was forced away stays readable"

    mirrored(work.path, tmp_path / "m", use)


def test_branches_that_are_no_commits_are_left_out(work: Any, tmp_path: Path) -> None:
    async def use(mirror: Mirror) -> None:
        first = await fetched_heads(mirror)
        for name, what in (("a-file", "HEAD:a.yaml"), ("z-tree", "HEAD^{tree}")):
            (work.path / ".git/refs/heads" / name).write_text(work.git("rev-parse", what) + "\n")
        head = work.commit({"a.yaml": "a: 2\n"})
        work.git("branch", "other")
        assert await fetched_heads(mirror) == {"main": head, "other": head}
        work.git("branch", "-D", "other")
        assert await fetched_heads(mirror) == {"main": head}
        assert first != {"main": head}

    mirrored(work.path, tmp_path / "m", use)


def test_the_default_branch_follows(work: Any, tmp_path: Path) -> None:
    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        assert await mirror.default_branch() == "main"
        work.git("checkout", "-q", "-b", "trunk")
        trunk = work.commit()
        await mirror.fetch()
        assert (await mirror.default_branch(), await mirror.head(None)) == ("trunk", trunk)

    mirrored(work.path, tmp_path / "m", use)


def test_an_empty_repository_is_mirrored(make_work: Any, tmp_path: Path) -> None:
    empty = make_work("empty")

    async def use(mirror: Mirror) -> None:
        assert await fetched_heads(mirror) == {}
        assert await mirror.head(None) is None
        first = empty.commit()
        assert await fetched_heads(mirror) == {"main": first}

    mirrored(empty.path, tmp_path / "m", use)


def test_a_shallow_repository_is_mirrored(work: Any, tmp_path: Path) -> None:
    head = work.commit()
    work.git("clone", "-q", "--depth=1", f"file://{work.path}", str(tmp_path / "shallow"))
    assert mirrored(tmp_path / "shallow", tmp_path / "m", fetched_heads) == {"main": head}


def no_marker(mirror: Path) -> None:
    (mirror / "steersman-mirror").unlink()


def empty_directory(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


def no_directory(mirror: Path) -> None:
    shutil.rmtree(mirror)


def a_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.write_text("not a directory")


def no_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


def torn_objects(mirror: Path) -> None:
    for file in (mirror / "objects").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(b"")


def torn_config(mirror: Path) -> None:
    (mirror / "config").write_bytes(b"\0" * 100)


def locks(mirror: Path) -> None:
    (mirror / "HEAD.lock").touch()
    (mirror / "packed-refs.lock").touch()
    (mirror / "refs/heads/main.lock").touch()


BREAKAGES = [no_marker, empty_directory, no_directory, a_file, no_objects, torn_objects, torn_config, locks]


@pytest.mark.parametrize("damage", BREAKAGES)
def test_a_broken_mirror_is_healed_when_opened(
    work: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    mirrored(work.path, tmp_path / "m", fetched_heads)
    damage(tmp_path / "m")
    head = work.commit()

    async def use(mirror: Mirror) -> None:
        assert await fetched_heads(mirror) == {"main": head}
        assert len(await mirror.entries(head)) == 2

    mirrored(work.path, tmp_path / "m", use)


@pytest.mark.parametrize("damage", [no_directory, no_objects, torn_objects, torn_config])
def test_a_mirror_that_breaks_while_open_is_healed_by_fetching(
    work: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await mirror.rest()
        damage(tmp_path / "m")
        head = work.commit()
        for _ in range(3):
            try:
                await mirror.fetch()
                assert await mirror.head("main") == head
                break
            except Transient:
                continue
        assert await mirror.head("main") == head
        assert len(await mirror.entries(head)) == 2

    mirrored(work.path, tmp_path / "m", use)


def test_a_mirror_of_another_url_is_made_anew(work: Any, make_work: Any, tmp_path: Path) -> None:
    other = make_work("other")
    head = other.commit()
    mirrored(work.path, tmp_path / "m", fetched_heads)
    assert mirrored(other.path, tmp_path / "m", lambda mirror: mirror.heads()) == {}
    assert mirrored(other.path, tmp_path / "m", fetched_heads) == {"main": head}


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "file::/srv/x",
        "fd::17",
        "::x",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ssh://-oProxyCommand=x/y",
        "-x:y",
        "https://user:word@example.org/x",
        "https://token@example.org/x",
        "ssh://git:word@example.org/x",
        "ftp://example.org/x",
        "javascript://x",
        "https://",
        "https://host:bad/",
        "https://exa mple.org/",
        "https://example.org/\nx",
        "",
    ],
)
def test_urls_that_could_do_more_than_fetch_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Stalled) as caught:
        mirrored(url, tmp_path / "m", lambda mirror: mirror.fetch())
    assert caught.value.reason == "GitRefused"
    assert "word" not in str(caught.value)
    assert "token@" not in str(caught.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "url", ["https://example.org/a", "git@example.org:a", "ext::sh", "--x", "file://host/x"]
)
def test_other_urls_are_not_local(url: str) -> None:
    assert local_path(url) is None


def test_what_is_not_there_stalls_and_what_does_not_answer_is_transient(tmp_path: Path) -> None:
    with pytest.raises(Stalled, match="is not there") as refused:
        mirrored(tmp_path / "missing", tmp_path / "m", lambda mirror: mirror.fetch())
    assert refused.value.reason == "GitRefused"
    with pytest.raises(Transient) as unavailable:
        mirrored("http://127.0.0.1:9/x.git", tmp_path / "m", lambda mirror: mirror.fetch())
    assert unavailable.value.reason == "GitUnavailable"


def checkout(mirror: Mirror, commit: str, directory: Path, branch: str | None = None) -> Awaitable[None]:
    return mirror.checkout(commit, directory, branch=branch, url="https://u:secret@example.org/x.git")


def test_a_checkout_is_clean_and_knows_its_branch_and_origin(work: Any, tmp_path: Path) -> None:
    head, out = work.git("rev-parse", "HEAD"), tmp_path / "deep/er/out"

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await checkout(mirror, head, out, "feature/x")
        assert work.git("status", "--porcelain=v2", "--branch", "--ignored", cwd=out).splitlines() == [
            f"# branch.oid {head}",
            "# branch.head feature/x",
        ]
        assert work.git("remote", "-v", cwd=out).split()[1] == "https://example.org/x.git"
        (out / "left-behind").write_text("x")
        await checkout(mirror, head, out)
        assert work.git("branch", "--show-current", cwd=out) == ""
        assert sorted(path.name for path in out.iterdir()) == [".git", "a.yaml", "specs"]

    mirrored(work.path, tmp_path / "m", use)


def test_a_checkout_shares_nothing_with_the_mirror(work: Any, tmp_path: Path) -> None:
    head, out, mirror_at = work.commit({"large": os.urandom(300_000)}), tmp_path / "out", tmp_path / "m"

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await checkout(mirror, head, out)

    mirrored(work.path, mirror_at, use)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in files} == {1}
    assert not any(str(mirror_at).encode() in path.read_bytes() for path in files)
    assert not any("alternates" in path.name or "hooks" in path.parts for path in files)
    shutil.rmtree(mirror_at)
    assert work.git("fsck", "--full", cwd=out) == ""


def test_a_checkout_replaces_whatever_a_script_left(work: Any, tmp_path: Path) -> None:
    head, out, precious = work.git("rev-parse", "HEAD"), tmp_path / "out", tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (out / "closed/inner").mkdir(parents=True)
    (out / "closed/inner/file").write_text("x")
    (out / "link").symlink_to(precious)
    for path in (out / "closed/inner", out / "closed", out):
        path.chmod(0o000)

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await checkout(mirror, head, out)
        shutil.rmtree(out)
        out.symlink_to(precious)
        await checkout(mirror, head, out)

    mirrored(work.path, tmp_path / "m", use)
    assert not out.is_symlink()
    assert (precious / "file").read_text() == "precious"
    assert work.git("status", "--porcelain", cwd=out) == ""


def test_a_checkout_runs_no_hook_filter_or_submodule(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (tmp_path / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (tmp_path / "hooks" / hook).chmod(0o755)
    config = tmp_path / "config"
    config.write_text(
        f"[core]\n\thooksPath = {tmp_path}/hooks\n\tfsmonitor = touch {proof}\n"
        f'[init]\n\ttemplateDir = {tmp_path}\n[filter "evil"]\n\tsmudge = touch {proof}; cat\n'
        f"\tprocess = touch {proof}\n\trequired = true\n[submodule]\n\trecurse = true\n"
    )
    head = work.commit(
        {
            ".gitattributes": "* filter=evil\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {proof}\n\tupdate = !touch {proof}\n',
        }
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await checkout(mirror, head, tmp_path / "out", "main")

    mirrored(work.path, tmp_path / "m", use)
    assert not proof.exists()
    assert (tmp_path / "out/a.yaml").read_text() == "a: 1\n"


def test_a_checkout_of_an_old_or_unnamed_commit_works_and_of_an_unknown_one_does_not(
    work: Any, tmp_path: Path
) -> None:
    first = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        work.git("commit", "-q", "--amend", "--allow-empty", "-m", "forced")
        await mirror.fetch()
        await checkout(mirror, first, tmp_path / "out")
        for unknown in ("1" * 40, "main", "--help", first[:10]):
            with pytest.raises(UnknownCommit):
                await checkout(mirror, unknown, tmp_path / "none")
        with pytest.raises(Stalled):
            await checkout(mirror, first, tmp_path / "none", "--orphan")

    mirrored(work.path, tmp_path / "m", use)
    assert work.git("rev-parse", "HEAD", cwd=tmp_path / "out") == first


def test_checkouts_run_side_by_side(work: Any, tmp_path: Path) -> None:
    head = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        await mirror.fetch()
        await asyncio.gather(*(checkout(mirror, head, tmp_path / f"out-{n}") for n in range(12)))

    mirrored(work.path, tmp_path / "m", use)
    assert all((tmp_path / f"out-{n}/a.yaml").exists() for n in range(12))


class Counting:
    """Counts the fetches of all mirrors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetches = 0
        self.began = asyncio.Event()
        real = Mirror.fetch

        async def fetch(mirror: Mirror) -> None:
            self.fetches += 1
            self.began.set()
            await real(mirror)

        monkeypatch.setattr(Mirror, "fetch", fetch)


def no_key(key: str) -> bytes:
    raise Stalled("SecretUnusable", f"there is no {key}")


def with_mirrors(directory: Path, use: Callable[[Mirrors], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        mirrors = Mirrors(directory, {}, options.pop("open_key", no_key), **options)
        try:
            await use(mirrors)
        finally:
            await mirrors.close()

    asyncio.run(run())


def test_concurrent_callers_share_one_mirror_and_one_fetch(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, url = Counting(monkeypatch), str(work.path)

    async def use(mirrors: Mirrors) -> None:
        found = await asyncio.gather(*(mirrors.fetched(url, 60) for _ in range(20)), mirrors.get(url))
        assert len({id(mirror) for mirror in found}) == 1
        assert counting.fetches == 1
        assert len(list((tmp_path / "mirrors").iterdir())) == 1

    with_mirrors(tmp_path / "mirrors", use)


def test_a_mirror_is_fetched_when_too_old_or_poked(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, url, clock = Counting(monkeypatch), str(work.path), [100.0]

    async def use(mirrors: Mirrors) -> None:
        async def ask() -> int:
            await mirrors.fetched(url, 60, now=lambda: clock[0])
            return counting.fetches

        assert [await ask(), await ask()] == [1, 1]
        clock[0] += 60
        assert await ask() == 1
        clock[0] += 1
        assert [await ask(), await ask()] == [2, 2]
        mirrors.poke(url)
        mirrors.poke("https://never.seen/")
        assert [await ask(), await ask()] == [3, 3]

    with_mirrors(tmp_path / "mirrors", use)


def test_a_poke_while_a_fetch_runs_causes_another(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, url = Counting(monkeypatch), str(work.path)

    async def use(mirrors: Mirrors) -> None:
        asking = asyncio.create_task(mirrors.fetched(url, 60))
        await asyncio.wait_for(counting.began.wait(), 5)
        mirrors.poke(url)
        await asyncio.gather(asking, mirrors.fetched(url, 60))
        assert counting.fetches == 2

    with_mirrors(tmp_path / "mirrors", use)


def test_errors_reach_every_caller_and_the_next_one_tries_again(work: Any, tmp_path: Path) -> None:
    later = tmp_path / "later"

    async def use(mirrors: Mirrors) -> None:
        found = await asyncio.gather(
            *(mirrors.fetched(str(later), 60) for _ in range(3)), return_exceptions=True
        )
        assert {type(error) for error in found} == {Stalled}
        for _ in range(2):
            with pytest.raises(Stalled):
                await mirrors.get("ext::sh")
        work.path.rename(later)
        assert await (await mirrors.fetched(str(later), 60)).heads() == {
            "main": work.git("rev-parse", "HEAD", cwd=later)
        }

    with_mirrors(tmp_path / "mirrors", use)


def test_a_secret_makes_a_mirror_of_its_own(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shares neither folder, nor fetches, nor errors with the mirror of the same URL without it."""
    counting, url, keys = Counting(monkeypatch), str(work.path), {KEY: b"key"}

    def open_key(key: str) -> bytes:
        return keys[key] if key in keys else no_key(key)

    async def use(mirrors: Mirrors) -> None:
        plain, keyed = await mirrors.fetched(url, 60), await mirrors.fetched(url, 60, KEY)
        assert await mirrors.get(url, KEY) is keyed
        assert plain.place != keyed.place
        assert counting.fetches == 2
        mirrors.poke(url, KEY)
        await mirrors.fetched(url, 60)
        assert counting.fetches == 2
        await mirrors.fetched(url, 60, KEY)
        assert counting.fetches == 3
        with pytest.raises(Stalled, match=f"there is no {KEY}-2"):
            await mirrors.fetched(url, 60, f"{KEY}-2")
        keys.clear()
        await mirrors.fetched(url, 60, KEY)  # it is fresh enough
        with pytest.raises(Stalled, match=f"there is no {KEY}"):
            await mirrors.fetched(url, 0, KEY, now=lambda: time.monotonic() + 1)
        assert await (await mirrors.fetched(url, 0)).heads()

    with_mirrors(tmp_path / "mirrors", use, open_key=open_key)


def test_the_folder_of_a_mirror_without_a_secret_stays(work: Any, tmp_path: Path) -> None:
    """Mirrors that were made before Secrets counted are still used."""
    digest = hashlib.sha256(str(work.path).encode()).hexdigest()[:32]

    async def use(mirrors: Mirrors) -> None:
        assert (await mirrors.get(str(work.path))).place.name == digest

    with_mirrors(tmp_path / "mirrors", use)


def test_only_so_many_mirrors_keep_processes(make_work: Any, tmp_path: Path) -> None:
    urls = []
    for number in range(5):
        work = make_work(f"work-{number}")
        work.commit()
        urls.append(str(work.path))

    async def use(mirrors: Mirrors) -> None:
        opened = [await mirrors.fetched(url, 60) for url in urls]
        for mirror in opened:
            await mirror.head("main")
        await mirrors.get(urls[0])
        for mirror in opened[1:]:
            await mirror.default_branch()
        assert [mirror.awake for mirror in opened] == [True, False, False, False, True]

    with_mirrors(tmp_path / "mirrors", use, awake_at_most=2)


def test_credentials_do_not_show_their_token() -> None:
    assert "hush" not in repr(Credentials(token="hush"))
