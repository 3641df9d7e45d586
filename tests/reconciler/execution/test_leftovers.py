"""What a killed daemon left behind is removed once nobody uses it, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.execution import leftovers

LIVE = "01890000-0000-7000-8000-000000000001"
DEAD = "01890000-0000-7000-8000-000000000002"


def folder(path: Path) -> Path:
    (path / "deep" / "deeper").mkdir(parents=True)
    (path / "deep" / "file").write_text("x")
    return path


def test_workspaces_of_no_live_claim_go(tmp_path: Path) -> None:
    """Of a trial that is finished or unknown, and of an older claim of a live one."""
    places = tmp_path / "workspaces"
    live = folder(places / f"{LIVE}-3")
    dead = [folder(places / name) for name in (f"{LIVE}-2", f"{LIVE}-33", f"{DEAD}-1")]
    assert leftovers.sweep(tmp_path, {LIVE: 3}) == sorted(dead)
    assert list(places.iterdir()) == [live]
    assert (live / "deep" / "file").read_text() == "x"
    assert leftovers.sweep(tmp_path, {LIVE: 3}) == []


def test_what_is_no_workspace_of_ours_stays(tmp_path: Path) -> None:
    """Names that the daemon never gives; mirrors, half-made ones too, and runs."""
    names = ("lost+found", f"{DEAD}", f"{DEAD}-x", f"{DEAD}-1.new", "notes-1")
    kept = [folder(tmp_path / "workspaces" / name) for name in names]
    kept += [folder(tmp_path / "mirrors" / f"{DEAD}-1"), folder(tmp_path / "runs" / DEAD / "1")]
    assert leftovers.sweep(tmp_path, {}) == []
    assert all((path / "deep" / "file").exists() for path in kept)


def test_without_a_data_directory_there_is_nothing_to_do(tmp_path: Path) -> None:
    """As at the very first start."""
    assert leftovers.sweep(tmp_path / "none", {}) == []
    assert leftovers.aged_runs(tmp_path / "none") == []


def test_a_link_goes_and_where_it_points_stays(tmp_path: Path) -> None:
    """Also one inside of a workspace, and a plain file in a workspace's place."""
    outside = folder(tmp_path / "outside")
    places = tmp_path / "workspaces"
    (folder(places / f"{DEAD}-1") / "out").symlink_to(outside)
    (places / f"{DEAD}-2").symlink_to(outside)
    (places / f"{DEAD}-3").write_text("x")
    assert len(leftovers.sweep(tmp_path, {})) == 3
    assert list(places.iterdir()) == []
    assert (outside / "deep" / "file").exists()


def test_what_is_hard_to_delete_is_deleted(tmp_path: Path) -> None:
    """Without rights, very deep, and with a name like an option."""
    place = folder(tmp_path / "workspaces" / f"{DEAD}-1")
    (place / "-rf").write_text("x")
    descriptor = os.open(place, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (place / "deep").chmod(0)
    place.chmod(0o500)
    assert leftovers.sweep(tmp_path, {}) == [place]
    assert not place.exists()


def test_run_folders_are_old_after_a_day(tmp_path: Path) -> None:
    """Young ones may belong to a trial that is only now being made."""
    old, young, strange = (folder(tmp_path / "runs" / name) for name in (DEAD, LIVE, "strange"))
    for path in (old, strange):
        os.utime(path, (0, 0))
    assert leftovers.aged_runs(tmp_path) == [old]
    assert leftovers.remove([old]) == [old]
    assert leftovers.aged_runs(tmp_path) == []
    assert young.is_dir()


def test_many_are_removed(tmp_path: Path) -> None:
    """More than one command line takes."""
    paths = [tmp_path / "runs" / f"{DEAD[:-4]}{number:04x}" for number in range(1_200)]
    for path in paths:
        path.mkdir(parents=True)
    assert leftovers.remove(paths) == paths
    assert list((tmp_path / "runs").iterdir()) == []
