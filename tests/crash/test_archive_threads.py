"""A log that two want to compress at once, as after a restart the retention pass and the trial's own end do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconciler.execution import archive

THREADS = 4
ROUNDS = 12


def test_a_log_is_compressed_by_one_thread_at_a_time(tmp_path: Path) -> None:
    """Nobody meets an error, the file is whole, and nothing half made stays."""
    text = b"".join(b"%08d some line\n" % number for number in range(20_000))
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "log").write_bytes(text)
        barrier = threading.Barrier(THREADS)

        def work(folder: Path = folder, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            archive.compress(folder)

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(work) for _ in range(THREADS)]:
                done.result()
        assert [path.name for path in folder.iterdir()] == [archive.NAME]
        assert archive.read(folder / archive.NAME, 0, len(text) + 1) == text
