"""What a trial takes of the disk is seen, also what it hides; who takes most of a full one is ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.execution import disk, processes
from reconciler.execution.disk import DiskGuard
from reconciler.execution.supervisor import Supervised
from reconciler.execution.workspace import usage
from reconciler.model.job import Reason

MIB = 1 << 20
Ended = list[tuple[str, Reason, str]]


def watched(data: Path, arrange: Callable[[DiskGuard], None], reserve: int = 0) -> tuple[Ended, DiskGuard]:
    """Who is ended when the guard looks until it ends somebody, or for a second."""
    ended: Ended = []

    async def look() -> DiskGuard:
        happened = asyncio.Event()

        def stop(*told: object) -> None:
            ended.append(told)  # type: ignore[arg-type]
            happened.set()

        guard = DiskGuard(data, reserve, stop, lambda: None)
        arrange(guard)
        looking = asyncio.create_task(guard.run())
        await asyncio.wait({asyncio.create_task(happened.wait())}, timeout=1)
        looking.cancel()
        return guard

    return ended, asyncio.run(look())


@contextmanager
def script(text: str, directory: Path) -> Iterator[int]:
    """A shell that has said that it is ready, below another process; gives the outer one's pid."""
    command = f"{text}; echo ready; exec sleep 600"
    outer = subprocess.Popen(
        ["/bin/sh", "-c", '/bin/sh -c "$1"; :', "sh", command],
        cwd=directory, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"ready\n"
        yield outer.pid
    finally:
        os.killpg(outer.pid, 9)
        outer.communicate()


def held_by(pid: int) -> Supervised:
    """A script with this supervisor."""
    found = processes.look(pid)
    assert found is not None
    return Supervised(Path("/nowhere"), pid, found.started, sandboxed=False)


def test_a_trial_beyond_its_limit_is_ended_with_a_sentence(tmp_path: Path) -> None:
    """A neighbour within its own limit is not, nor is one without."""
    for name, size in (("large", 3), ("small", 1), ("free", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(size * MIB))

    def arrange(guard: DiskGuard) -> None:
        guard.watch("free", [tmp_path / "free"], None)
        guard.watch("small", [tmp_path / "small"], 2 * MIB)
        guard.watch("large", [tmp_path / "large"], 2 * MIB)

    ((trial, reason, message),), guard = watched(tmp_path, arrange)
    assert (trial, reason) == ("large", Reason.DISK_LIMIT)
    assert "beyond limits.disk_bytes (2,097,152)" in message
    assert guard.closed is None


def test_what_has_no_name_any_more_counts(tmp_path: Path) -> None:
    """A file that a script has unlinked but keeps open; a single file that it may write counts as well."""
    with script("exec 3>held; rm held; head -c 3M /dev/zero >&3", tmp_path) as pid:
        assert usage(tmp_path) < MIB
        ended, _ = watched(tmp_path, lambda guard: guard.watch("t", [tmp_path], 2 * MIB, held_by(pid)))
        assert [trial for trial, _, _ in ended] == ["t"]
    outputs = tmp_path / "outputs"
    outputs.write_bytes(bytes(3 * MIB))
    ended, _ = watched(tmp_path, lambda guard: guard.watch("u", [outputs], 2 * MIB))
    assert [trial for trial, _, _ in ended] == ["u"]


def test_scripts_side_by_side_are_counted_together(tmp_path: Path) -> None:
    """What each of them has unlinked, and what was named for each."""
    hold = "exec 3>held; rm held; head -c 3M /dev/zero >&3"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with script(hold, tmp_path / "one") as one, script(hold, tmp_path / "two") as two:

        def arrange(guard: DiskGuard) -> None:
            guard.watch("t", [tmp_path / "one"], 5 * MIB, held_by(one))
            guard.watch("t", [tmp_path / "two"], 5 * MIB, held_by(two))
            guard.watch("u", [tmp_path / "one"], 5 * MIB, held_by(one))

        ended, _ = watched(tmp_path, arrange)
    assert [trial for trial, _, _ in ended] == ["t"]


def test_what_lies_deeper_than_a_path_can_say_counts(tmp_path: Path) -> None:
    """Forty folders with names of 200 characters, at whose end the bytes are."""
    making = "import os\nfor _ in range(40):\n os.mkdir('d' * 200)\n os.chdir('d' * 200)\n"
    making += "open('f', 'wb').write(bytes(3 << 20))"
    try:
        subprocess.run(["python3", "-c", making], cwd=tmp_path, check=True)
        assert 3 * MIB <= usage(tmp_path) < 4 * MIB
    finally:  # too deep for pytest's own tidying
        subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_on_a_full_disk_the_largest_is_ended_and_nothing_starts(tmp_path: Path) -> None:
    """The reserve is more than there is: closed with a sentence; what takes little is not blamed."""
    for name, size in (("large", 40), ("small", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(size * MIB))
    found = os.statvfs(tmp_path)
    nearly = found.f_bavail * 10 < found.f_blocks  # a guard keeps no more than a tenth of a disk free

    def arrange(guard: DiskGuard) -> None:
        guard.watch("small", [tmp_path / "small"], None)
        guard.watch("large", [tmp_path / "large"], None)

    ended, guard = watched(tmp_path, arrange, reserve=1 << 62)
    assert [trial for trial, _, _ in ended] == (["large"] if nearly else [])
    assert (guard.closed is not None) == nearly


def test_nobody_is_ended_for_what_is_on_its_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the largest ends, the next waits; where that is not enough, it does not."""
    for name, size in (("large", 40), ("small", 20)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "file").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * MIB)
    free = 100 * MIB

    def ended_in_two_looks(reserve: int) -> list[str]:
        monkeypatch.setattr(disk, "_free", lambda *_: (free, reserve))  # of a disk that others fill
        ended: list[str] = []
        guard = DiskGuard(tmp_path, reserve, lambda trial, *_: ended.append(trial), lambda: None)
        guard.watch("small", [tmp_path / "small"], None)
        guard.watch("large", [tmp_path / "large"], None)
        for _ in range(2):
            asyncio.run(guard._look())
        return ended

    assert ended_in_two_looks(free + 10 * MIB) == ["large"]
    assert ended_in_two_looks(free + 60 * MIB) == ["large", "small"]
