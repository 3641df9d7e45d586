"""Compressed logs: any offset without what is before it, read by `zstd`, and a kill at any line."""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from reconciler.errors import Stalled
from reconciler.execution import archive, logs, timeline
from reconciler.execution.logs import Logs
from reconciler.execution.timeline import Entry

CONTENT = b"".join(b"line %d of a log, %d\n" % (n, n * n) for n in range(40_000))


def folder_of(tmp_path: Path, content: bytes = CONTENT) -> Path:
    (tmp_path / "log").write_bytes(content)
    return tmp_path


def test_any_part_of_a_compressed_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only the frames that it lies in are decompressed."""
    folder = folder_of(tmp_path)
    os.utime(folder / "log", (1_700_000_000, 1_700_000_000))
    assert archive.compress(folder)
    assert os.listdir(folder) == ["log.zst"]
    assert (folder / "log.zst").stat().st_size < len(CONTENT) / 3
    assert (folder / "log.zst").stat().st_mtime == 1_700_000_000
    assert (folder / "log.zst").stat().st_mode & 0o777 == 0o600
    assert logs.size_of(folder) == len(CONTENT)
    frames: list[int] = []
    original = archive._frame

    def counted(file: io.BufferedReader, table: archive.Table, index: int) -> bytes:
        frames.append(index)
        return original(file, table, index)

    monkeypatch.setattr(archive, "_frame", counted)
    places = random.Random(7)
    edges = [0, 1, archive.FRAME - 1, archive.FRAME, archive.FRAME + 1, len(CONTENT) - 1, len(CONTENT)]
    for offset in edges + [places.randrange(len(CONTENT)) for _ in range(50)]:
        for limit in (0, 1, 100, archive.FRAME, 3 * archive.FRAME):
            frames.clear()
            assert logs.read_at(folder, offset, limit) == CONTENT[offset : offset + limit]
            assert len(frames) <= limit // archive.FRAME + 1 + (limit > 1)
    assert logs.read_at(folder, len(CONTENT) + 9, 5) == b""


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not installed")
def test_the_program_zstd_reads_a_log(tmp_path: Path) -> None:
    archive.compress(folder_of(tmp_path))
    done = subprocess.run(["zstd", "-dc", str(tmp_path / "log.zst")], capture_output=True, check=True)
    assert done.stdout == CONTENT


def test_the_format_is_the_published_one(tmp_path: Path) -> None:
    """Frames that any library reads, then a skippable frame: magic, size, entries, count, descriptor, magic."""
    archive.compress(folder_of(tmp_path))
    data = (tmp_path / "log.zst").read_bytes()
    frames = -(-len(CONTENT) // archive.FRAME)
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        assert reader.read(len(CONTENT) + 1) == CONTENT
    assert data[-4:] == bytes.fromhex("b1ea928f")
    assert data[-5] == 0
    assert int.from_bytes(data[-9:-5], "little") == frames
    table = data[-9 - 8 * frames - 8 :]
    assert table[:4] == bytes.fromhex("5e2a4d18")
    assert int.from_bytes(table[4:8], "little") == len(table) - 8
    assert archive.stored(tmp_path / "log.zst", len(CONTENT)) == len(data) - len(table)
    assert archive.stored(tmp_path / "log.zst", len(CONTENT) - 1) is None


def test_what_is_small_or_not_complete_stays(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, b"x" * (archive.WORTH - 1))
    (folder / "end").touch()
    assert not archive.compress(folder)
    assert os.listdir(folder) == ["log"]
    (folder / "log").write_bytes(b"x" * archive.WORTH)
    (folder / "raw").touch()
    assert not archive.compress(folder)
    assert sorted(os.listdir(folder)) == ["log", "raw"]
    (folder / "raw").unlink()
    assert [archive.compress(folder), archive.compress(folder)] == [True, True]
    assert not archive.compress(tmp_path / "none")


def test_readers_notice_nothing_of_the_replacement(tmp_path: Path) -> None:
    """Some read in a loop, some follow, while the log is compressed; every byte is right."""
    folder = folder_of(tmp_path)
    stop = threading.Event()
    wrong: list[int] = []

    def reader(seed: int) -> None:
        places = random.Random(seed)
        while not stop.is_set():
            offset = places.randrange(len(CONTENT))
            if logs.read_at(folder, offset, 1000) != CONTENT[offset : offset + 1000]:
                wrong.append(offset)
            if logs.size_of(folder) != len(CONTENT):
                wrong.append(-1)

    async def follower() -> bytes:
        found = b""
        async for _, chunk in Logs().follow(folder, 0, stop.is_set):
            found += chunk
            await asyncio.sleep(0.002)
        return found

    async def work() -> None:
        following = asyncio.create_task(follower())
        await asyncio.sleep(0.02)
        assert await asyncio.to_thread(archive.compress, folder)
        await asyncio.sleep(0.1)
        stop.set()
        assert await following == CONTENT

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    asyncio.run(work())
    for thread in threads:
        thread.join()
    assert wrong == []


_VICTIM = """
import os, signal, sys
from pathlib import Path
from reconciler.execution import archive

def run(last):
    left = last
    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename != archive.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    archive.compress(Path(sys.argv[1]))

for line in sys.stdin:
    child = os.fork()
    if not child:
        run(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_kill_at_any_line_leaves_a_whole_log(tmp_path: Path) -> None:
    content = CONTENT[: 2 * archive.FRAME + 7]
    command = [sys.executable, "-c", _VICTIM, str(tmp_path)]
    kills = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            for path in tmp_path.iterdir():
                path.unlink()
            (tmp_path / "log").write_bytes(content)
            kills += 1
            process.stdin.write(f"{kills}\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            assert logs.read_at(tmp_path, 0, len(content) + 1) == content
            assert archive.compress(tmp_path)
            assert logs.read_at(tmp_path, 0, len(content) + 1) == content
            assert os.listdir(tmp_path) == ["log.zst"]
        process.stdin.close()
    assert code == 0
    assert kills > 30


def test_a_full_disk_leaves_the_log(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    code = (
        "import resource, sys; from pathlib import Path; from reconciler.execution import archive\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); archive.compress(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert os.listdir(folder) == ["log"]


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 400_000, None])
def test_a_damaged_file_is_told(tmp_path: Path, damage: bytes | None) -> None:
    """Nothing wrong is ever given out."""
    archive.compress(folder_of(tmp_path))
    path = tmp_path / "log.zst"
    data = bytearray(path.read_bytes())
    data[5000:5100] = bytes(100)
    path.write_bytes(bytes(data) if damage is None else damage)
    with pytest.raises(Stalled, match="restore it from a backup"):
        logs.read_at(tmp_path, 0, 10)


@pytest.mark.parametrize("packed", [False, True])
def test_a_time_leads_to_its_offset(tmp_path: Path, packed: bool) -> None:
    """Never behind what was printed at that time; at the end, when nothing was printed since."""
    folder = folder_of(tmp_path)
    os.utime(folder / "log", (1010, 1010))
    for entry in (Entry(1_000_000, 0, 0), Entry(1_005_000, 500, 500), Entry(1_009_000, 900_000, 900_000)):
        timeline.append(folder, entry)
    with (folder / timeline.NAME).open("ab") as file:
        file.write(b"torn")
    if packed:
        archive.compress(folder)
    expected = {
        900: 0,
        1000: 0,
        1001: 0,
        1002: 500,
        1005.5: 500,
        1007: 900_000,
        1010: 900_000,
        1011: len(CONTENT),
    }
    for moment, offset in expected.items():
        assert logs.offset_at(folder, datetime.fromtimestamp(moment, UTC)) == offset
    assert logs.offset_at(tmp_path / "none", datetime.fromtimestamp(0, UTC)) == 0
