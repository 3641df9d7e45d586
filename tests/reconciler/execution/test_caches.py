"""Caches: what is kept comes back, and no workspace, however hostile, spoils one or leads out of itself."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import pytest

from reconciler.execution.caches import Cache, CacheError, Caches, resolve
from reconciler.execution.workspace import usage

KEY = Cache(("main",), "deps", (".cache/deps",))
FEATURE = Cache(("feature", "main"), "deps", (".cache/deps",))


def _filled(tmp_path: Path) -> Caches:
    caches = Caches(tmp_path / "caches", 1 << 20)
    workspace = tmp_path / "first"
    (workspace / ".cache/deps").mkdir(parents=True)
    (workspace / ".cache/deps/a.txt").write_text("kept")
    (workspace / ".cache/deps/out").symlink_to("/etc/passwd")
    assert caches.keep(workspace, KEY)
    return caches


def _fresh(tmp_path: Path, name: str = "second") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_cache_comes_back_also_on_another_branch(tmp_path: Path) -> None:
    """From the first branch where the own one has none; links stay links."""
    caches, workspace = _filled(tmp_path), _fresh(tmp_path)
    assert caches.restore(workspace, FEATURE)
    assert (workspace / ".cache/deps/a.txt").read_text() == "kept"
    assert os.readlink(workspace / ".cache/deps/out") == "/etc/passwd"


def test_a_branch_cannot_change_what_another_one_reads(tmp_path: Path) -> None:
    """What it keeps is its own."""
    caches, workspace = _filled(tmp_path), _fresh(tmp_path)
    (workspace / ".cache/deps").mkdir(parents=True)
    (workspace / ".cache/deps/a.txt").write_text("evil")
    assert caches.keep(workspace, FEATURE)
    third = _fresh(tmp_path, "third")
    assert caches.restore(third, KEY)
    assert (third / ".cache/deps/a.txt").read_text() == "kept"


def test_a_link_in_the_checkout_leads_nowhere_and_costs_nobody_the_cache(tmp_path: Path) -> None:
    """It is told, the place that it leads to stays as it was, and the next one still finds the cache."""
    caches, workspace = _filled(tmp_path), _fresh(tmp_path)
    outside = _fresh(tmp_path, "outside")
    (workspace / ".cache").symlink_to(outside)
    with pytest.raises(CacheError, match="could not be put back"):
        caches.restore(workspace, FEATURE)
    assert list(outside.iterdir()) == []
    assert caches.restore(_fresh(tmp_path, "third"), KEY)


def test_a_link_in_place_of_a_path_is_not_followed(tmp_path: Path) -> None:
    """What is kept is the link, not what it leads to."""
    caches, workspace = Caches(tmp_path / "caches", 1 << 20), _fresh(tmp_path)
    secret = _fresh(tmp_path, "secret")
    (secret / "key").write_text("secret")
    (workspace / ".cache").symlink_to(secret)
    with pytest.raises(CacheError, match="none of its paths is there"):
        caches.keep(workspace, Cache(("main",), "k", (".cache/key",)))


def test_a_damaged_archive_goes(tmp_path: Path) -> None:
    """It is told once; then the key is free again."""
    caches, workspace = _filled(tmp_path), _fresh(tmp_path)
    archive = next((tmp_path / "caches").iterdir())
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(CacheError):
        caches.restore(workspace, KEY)
    assert not caches.restore(_fresh(tmp_path, "third"), KEY)


def test_what_is_used_least_goes_first(tmp_path: Path) -> None:
    """The directory stays within its limit."""
    caches = Caches(tmp_path / "caches", 150_000)
    for number in range(3):
        workspace = _fresh(tmp_path, str(number))
        (workspace / "d").write_bytes(os.urandom(60_000))
        assert caches.keep(workspace, Cache(("main",), str(number), ("d",)))
        os.utime(max((tmp_path / "caches").iterdir(), key=lambda p: p.stat().st_ctime_ns), (number, number))
    caches.clear()
    kept = [caches.restore(_fresh(tmp_path, f"r{n}"), Cache(("main",), str(n), ("d",))) for n in range(3)]
    assert kept == [False, True, True]


def test_a_key_follows_the_content_of_files(tmp_path: Path) -> None:
    """Their names and contents; other files do not matter."""
    workspace = _fresh(tmp_path)
    (workspace / "a.lock").write_text("1")
    first = resolve("v1-{files:*.lock}", workspace)
    (workspace / "other").write_text("x")
    assert resolve("v1-{files:*.lock}", workspace) == first
    (workspace / "a.lock").write_text("2")
    assert resolve("v1-{files:*.lock}", workspace) != first


def test_what_is_too_large_to_be_kept_is_not_held_open(tmp_path: Path) -> None:
    """Else its space is lost until the daemon ends."""
    caches, workspace = Caches(tmp_path / "caches", 1 << 20), _fresh(tmp_path)
    (workspace / "d").mkdir()
    with (workspace / "d/large").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(CacheError, match="larger than 1,048,576 bytes"):
        caches.keep(workspace, Cache(("main",), "k", ("d",)))
    assert [place for place in _open_files() if place.startswith(str(tmp_path))] == []


def _open_files() -> list[str]:
    handles = Path("/proc/self/fd").iterdir()
    return [os.readlink(handle) for handle in handles if handle.exists()]


def _large(tmp_path: Path) -> tuple[Caches, Path]:
    """One with six files of 200 KB, and its archive."""
    caches, workspace = Caches(tmp_path / "caches", 1 << 30), _fresh(tmp_path, "first")
    (workspace / ".cache/deps").mkdir(parents=True)
    for number in range(6):
        (workspace / f".cache/deps/{number}.so").write_bytes(os.urandom(200_000))
    assert caches.keep(workspace, KEY)
    return caches, next((tmp_path / "caches").iterdir())


def _below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_half_of_a_damaged_archive_does_not_stay(tmp_path: Path) -> None:
    """What the checkout had there does."""
    caches, archive = _large(tmp_path)
    archive.write_bytes(archive.read_bytes()[:900_000])
    workspace = _fresh(tmp_path)
    (workspace / ".cache/deps").mkdir(parents=True)
    (workspace / ".cache/deps/own").write_text("of the checkout")
    (workspace / ".cache/deps/0.so").write_text("of the checkout as well")
    with pytest.raises(CacheError):
        caches.restore(workspace, KEY)
    assert _below(workspace) == [".cache", ".cache/deps", ".cache/deps/0.so", ".cache/deps/own"]
    assert (workspace / ".cache/deps/0.so").read_text() == "of the checkout as well"


def test_an_archive_that_was_cut_is_damaged_wherever_it_was(tmp_path: Path) -> None:
    """Also between two of its files, where what is there looks like a whole."""
    caches, workspace = Caches(tmp_path / "caches", 1 << 30), _fresh(tmp_path, "first")
    (workspace / ".cache/deps").mkdir(parents=True)
    for number in range(300):
        (workspace / f".cache/deps/{number}").write_bytes(os.urandom(700))
    assert caches.keep(workspace, KEY)
    archive = next((tmp_path / "caches").iterdir())
    whole = archive.read_bytes()
    for number, length in enumerate(range(1, len(whole) - 10, 9973)):
        archive.write_bytes(whole[:length])
        with pytest.raises(CacheError):
            caches.restore(_fresh(tmp_path, f"cut{number}"), KEY)
        assert _below(tmp_path / f"cut{number}") == []


def test_a_cache_for_which_there_is_no_room_is_not_put_back_by_half(tmp_path: Path) -> None:
    """It is told, nothing of it stays, and the next one still finds it."""
    caches, _ = _large(tmp_path)
    workspace = _fresh(tmp_path)
    with pytest.raises(CacheError, match="500,000 bytes are left"):
        caches.restore(workspace, KEY, 500_000)
    assert _below(workspace) == []
    assert caches.restore(workspace, KEY, 1_300_000)


def test_holes_come_back_as_holes(tmp_path: Path) -> None:
    """A file that took nothing of the disk takes nothing again, and has its size and what is between."""
    caches, workspace = Caches(tmp_path / "caches", 1 << 30), _fresh(tmp_path, "first")
    with (workspace / "d").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"between")
        file.truncate(100 << 20)
    cache = Cache(("main",), "k", ("d",))
    assert caches.keep(workspace, cache)
    fresh = _fresh(tmp_path)
    assert caches.restore(fresh, cache, 1 << 20)
    assert usage(fresh) < 1 << 20
    assert filecmp.cmp(workspace / "d", fresh / "d", shallow=False)
