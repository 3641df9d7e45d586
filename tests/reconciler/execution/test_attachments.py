"""Keeping files of a hostile workspace: by content, never from outside."""

from __future__ import annotations

import filecmp
import hashlib
import itertools
import os
import resource
import threading
from pathlib import Path

import pytest

from reconciler.errors import NotFound
from reconciler.execution import attachments
from reconciler.execution.attachments import AttachmentStore, Kept


@pytest.fixture
def store(tmp_path: Path) -> AttachmentStore:
    return AttachmentStore(tmp_path / "store", size_limit=100_000)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    return place


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_matching_files_are_kept_by_content(store, work):
    (work / "out").mkdir()
    (work / "out" / "a.txt").write_bytes(b"one")
    (work / "out" / "b.txt").write_bytes(b"one")
    (work / "c.bin").write_bytes(b"two")
    kept, complaints = store.keep(work, ["out/*.txt"])
    assert [Kept("out/a.txt", _digest(b"one"), 3), Kept("out/b.txt", _digest(b"one"), 3)] == kept
    assert complaints == []
    assert store.open(_digest(b"one")).read_bytes() == b"one"
    assert [path.name for path in (store.open(_digest(b"one")).parent).iterdir()] == [_digest(b"one")[2:]]


def test_a_folder_is_no_file_and_it_is_told_what_to_write(store, work):
    (work / "out" / "deep").mkdir(parents=True)
    (work / "out" / "deep" / "a.txt").write_bytes(b"one")
    kept, complaints = store.keep(work, ["out", "out/", "out/deep", "ou", "out/*"])
    assert kept == []
    assert complaints == [
        "no file matched the attachment 'out', which is a folder: write out/**",
        "no file matched the attachment 'out/', which is a folder: write out/**",
        "no file matched the attachment 'out/deep', which is a folder: write out/deep/**",
        "no file matched the attachment 'ou'",
        "no file matched the attachment 'out/*'",
    ]
    assert [item.path for item in store.keep(work, ["out/**"])[0]] == ["out/deep/a.txt"]


def test_of_a_folder_with_too_many_entries_the_rest_is_not_read(store, work, monkeypatch):
    """Folders among them count as well: their names alone would fill the daemon's memory."""
    monkeypatch.setattr(attachments, "_ENTRIES", 3)
    for number in range(7):
        (work / "many" / str(number)).mkdir(parents=True)
    kept, complaints = store.keep(work, ["many/*/x"])
    told = ["of 'many/' only 3 entries were looked at", "no file matched the attachment 'many/*/x'"]
    assert ([], told) == (kept, complaints)


def test_a_pattern_without_a_file_is_complained_about(store, work):
    assert store.keep(work, ["*.xml"]) == ([], ["no file matched the attachment '*.xml'"])


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(store, work, tmp_path):
    (work / "big").write_bytes(b"x" * 100_001)
    (work / "fits").write_bytes(b"x" * 100_000)
    (work / "more").write_bytes(b"x")
    kept, complaints = store.keep(work, ["*"])
    assert [one.path for one in kept] == ["fits"]
    limit = "all of a trial's are larger than 100,000 bytes (attachment_bytes)"
    assert complaints == [f"attachment '{name}' was not kept: {limit}" for name in ("big", "more")]
    assert list((tmp_path / "store" / "unfinished").iterdir()) == []


def test_links_are_refused_wherever_they_point(store, work):
    (work / "link.txt").symlink_to("../secret.txt")
    (work / "absolute.txt").symlink_to("/etc/passwd")
    (work / "inside.txt").symlink_to("real.txt")
    (work / "real.txt").write_text("real")
    (work / "directory").symlink_to("../outside")
    kept, complaints = store.keep(work, ["**/*.txt"])
    assert [one.path for one in kept] == ["real.txt"]
    assert [text.split("'")[1] for text in complaints] == ["absolute.txt", "inside.txt", "link.txt"]


def test_patterns_cannot_climb_out(store, work):
    kept, _ = store.keep(work, ["../secret.txt", "../**", "/etc/passwd", str(work.parent / "secret.txt")])
    assert kept == []


def test_what_is_no_regular_file_does_not_hold_us_up(store, work):
    os.mkfifo(work / "pipe")
    kept, complaints = store.keep(work, ["pipe"])
    assert kept == []
    assert complaints == ["attachment 'pipe' was not kept: it is no regular file"]


def test_the_git_directory_is_left_out(store, work):
    (work / ".git").mkdir()
    (work / ".git" / "config").write_text("x")
    (work / "sub" / ".git").mkdir(parents=True)
    (work / "sub" / ".git" / "config").write_text("x")
    assert store.keep(work, ["**"])[0] == []


def test_names_that_hold_anything_are_refused_with_a_printable_sentence(store, work):
    (work / "line\nbreak").write_text("x")
    (Path(os.fsdecode(os.fsencode(work) + b"/bad\xff"))).write_text("x")
    (work / "fine ü.txt").write_text("x")
    kept, complaints = store.keep(work, ["*"])
    assert [one.path for one in kept] == ["fine ü.txt"]
    assert len(complaints) == 2
    assert all(text.isprintable() for text in complaints)


def test_endless_depth_is_not_followed(store, work):
    deep = work
    for _ in range(150):
        deep = deep / "d"
        deep.mkdir()
    (deep / "f").write_text("x")
    (work / "d" / "f").write_text("x")
    kept, complaints = store.keep(work, ["**/f"])
    assert [one.path for one in kept] == ["d/f"]
    assert len(complaints) == 1
    assert "too deep" in complaints[0]


def test_a_script_racing_with_links_reads_nothing_outside(store, work, tmp_path):
    stop = threading.Event()
    place, aside = work / "swap", work / "aside"
    place.mkdir()
    (place / "secret.txt").write_text("harmless")

    def race() -> None:
        while not stop.is_set():
            place.rename(aside)
            place.symlink_to("../outside")
            place.unlink()
            aside.rename(place)

    thread = threading.Thread(target=race)
    thread.start()
    try:
        for _ in range(300):
            kept, _ = store.keep(work, ["**/secret.txt"])
            assert {one.digest for one in kept} <= {_digest(b"harmless")}
    finally:
        stop.set()
        thread.join()


def test_deleting_twice_is_fine_and_what_is_not_kept_is_not_found(store, work):
    (work / "a").write_bytes(b"one")
    store.keep(work, ["a"])
    os.utime(store.open(_digest(b"one")), (0, 0))
    store.delete([_digest(b"one")])
    store.delete([_digest(b"one")])
    with pytest.raises(NotFound, match="no longer kept"):
        store.open(_digest(b"one"))
    assert len(store.keep(work, ["a"])[0]) == 1
    assert store.open(_digest(b"one")).read_bytes() == b"one"


def test_what_is_kept_again_is_young_and_is_not_deleted(store, work, tmp_path):
    for name, content in (("a", b"one"), ("b", b"two")):
        (work / name).write_bytes(content)
    old, again = _digest(b"one"), _digest(b"two")
    assert len(store.keep(work, ["a", "b"])[0]) == 2
    for digest in (old, again):
        os.utime(store.open(digest), (0, 0))
    assert store.aged(again[:2]) == [again]
    store.keep(work, ["b"])
    store.delete([old, again])
    assert store.aged(again[:2]) == []
    assert store.open(again).read_bytes() == b"two"
    assert not (tmp_path / "store" / old[:2] / old[2:]).exists()


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_reaches_no_path(store, digest):
    with pytest.raises(ValueError, match="no SHA-256"):
        store.open(digest)


def test_half_copied_files_of_a_killed_daemon_are_cleared(store, tmp_path):
    old, new = tmp_path / "store" / "unfinished" / "old", tmp_path / "store" / "unfinished" / "new"
    old.write_text("x")
    new.write_text("x")
    os.utime(old, (0, 0))
    store.clear_unfinished()
    assert (old.exists(), new.exists()) == (False, True)


def test_chosen_files_are_kept_and_all_else_is_passed_over(store, work, tmp_path):
    (work / "a").write_bytes(b"one")
    (work / "b").write_bytes(b"two")
    (work / "link").symlink_to(tmp_path / "secret.txt")
    (work / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(work / "pipe")
    kept, complaints = store.keep_chosen(work, lambda path: path != "b")
    assert kept == [Kept("a", _digest(b"one"), 3)]
    assert complaints == []
    assert store.keep_chosen(work, lambda _: False) == ([], [])


def test_chosen_files_are_bounded_like_others(store, work):
    (work / "big").write_bytes(b"x" * 100_001)
    kept, complaints = store.keep_chosen(work, lambda _: True)
    assert kept == []
    assert complaints == [
        "attachment 'big' was not kept: all of a trial's are larger than 100,000 bytes (attachment_bytes)"
    ]


def test_what_is_too_large_is_not_copied_first(tmp_path: Path, work: Path) -> None:
    """A file of nothing but a hole costs nothing to make, and would be written in full."""
    store = AttachmentStore(tmp_path / "roomy", size_limit=10 << 20)
    with (work / "hole").open("wb") as file:
        file.truncate(20 << 20)
    (work / "fits").write_bytes(b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, hard))  # who copies more meets an error
    try:
        kept, complaints = store.keep(work, ["*"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.path for one in kept] == ["fits"]
    assert [text.split(":")[0] for text in complaints] == ["attachment 'hole' was not kept"]


def test_a_file_with_holes_is_kept_with_them(tmp_path: Path, work: Path) -> None:
    """It takes no more of the disk than it did, and is the same."""
    with (work / "holes").open("wb") as file:
        file.write(b"beginning")
        file.seek(50 << 20)
        file.write(b"between")
        file.truncate(100 << 20)
    store = AttachmentStore(tmp_path / "roomy", size_limit=1 << 30)
    (kept,), _ = store.keep(work, ["*"])
    copy = store.open(kept.digest)
    assert filecmp.cmp(work / "holes", copy, shallow=False)
    assert kept.digest == _digest(copy.read_bytes())
    assert copy.stat().st_blocks * 512 < 1 << 20


def test_a_stop_ends_the_copying(tmp_path: Path, work: Path) -> None:
    """Also within a file; what was kept until then stays, and it is told."""
    for name in ("a", "b", "c"):
        (work / name).write_bytes(b"x" * 1_000_000)
    store = AttachmentStore(tmp_path / "roomy", size_limit=1 << 30)
    looked = itertools.count(1)
    kept, complaints = store.keep(work, ["*"], lambda: next(looked) > 20)
    assert [one.path for one in kept] == ["a"]
    assert complaints == ["the rest of the attachments was not kept: the trial was ended meanwhile"]
    assert list((tmp_path / "roomy" / "unfinished").iterdir()) == []
