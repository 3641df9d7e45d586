"""Who writes a log is killed, or the database goes away, in the middle of it: read elsewhere, it is whole."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reconciler.queries import logs
from reconciler.store import migrate
from tests.databases import Server, internal
from tests.reconciler.test_sharing import ALL, EXECUTOR, Reader, reader
from tests.support import PROJECT, Process, SpecRepository, eventually, settings_for, start, stop

BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: slow, project: shop}
spec: {tasks: [{name: t, run: "%s"}]}
"""
EXPECTED = "".join(f"{line}\n" for line in ["first", *range(1, 50_001), "last"]).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    """One that may be killed."""
    with tempfile.TemporaryDirectory(prefix="steersman-test-elsewhere-") as folder:
        made = Server(Path(folder) / "data")
        try:
            yield made
        finally:
            made.close()


class Scene:
    """A daemon in a process of its own, a script that waits twice for a word, and a reader with another folder."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.database = server.new()
        migrate.run(internal(self.database))
        self.marks = folder / "marks"
        self.marks.mkdir()
        wait = f"until [ -e {self.marks}/%s ]; do sleep 0.05; done"
        script = f"echo first; {wait % 1}; seq 50000; {wait % 2}; echo last"
        self.repo = SpecRepository(folder / "specs")
        self.repo.commit({"p.yaml": PROJECT, "e.yaml": EXECUTOR % self.marks, "s.yaml": BUILD % script})
        self.data = folder / "data"

    def start(self) -> Process:
        """The daemon, from what the last one left."""
        return start(self.repo.path, self.data, STEERSMAN_DATABASE=self.database)

    def written(self) -> int:
        """Bytes of the log where the script runs."""
        return sum(path.stat().st_size for path in self.data.glob("runs/*/*/log"))

    def chunks(self) -> list[Any]:
        """What is in the database of a log that grows."""
        engine = create_engine(internal(self.database))
        try:
            with engine.connect() as connection:
                return list(connection.execute(text("SELECT start, stop FROM log_chunks ORDER BY start")))
        finally:
            engine.dispose()

    def arrived(self, size: int) -> bool:
        """Is it there up to an offset, each byte once?"""
        found = self.chunks()
        assert all(one.stop == two.start for one, two in pairwise(found))
        return bool(found) and found[-1].stop == size


async def follow(other: Reader, number: int, seen: bytearray) -> None:
    """As somebody who looks at it all the time, also while the database is away."""
    async for offset, chunk in logs.follow(other.installation, number, ALL, 0):
        seen += chunk
        assert len(seen) == offset


async def begun(scene: Scene, running: Process) -> int:
    await asyncio.to_thread(
        running.wait_for, lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 3
    )
    with running.client() as client:
        made = client.post("/reconciler/trigger", json={"key": "Build/shop/_/slow"}).json()["number"]
    await eventually(lambda: scene.arrived(len("first\n")), 30)
    number: int = made
    return number


@pytest.mark.parametrize("who", ["database", "daemon"])
def test_a_log_is_whole_elsewhere_although_somebody_was_killed(
    server: Server, tmp_path: Path, who: str
) -> None:
    """What the script prints meanwhile is brought afterwards, while it still runs; a follower misses nothing."""
    scene = Scene(server, tmp_path)

    async def run() -> None:
        running = await asyncio.to_thread(scene.start)
        settings = settings_for(scene.repo, scene.data, database=internal(scene.database))
        try:
            async with reader(settings, tmp_path / "other") as other:
                number = await begun(scene, running)
                seen = bytearray()
                following = asyncio.create_task(follow(other, number, seen))
                await eventually(lambda: seen == b"first\n", 30)
                await asyncio.to_thread(server.kill if who == "database" else running.kill)
                (scene.marks / "1").touch()
                if who == "database":
                    await eventually(lambda: scene.written() == len(EXPECTED) - len("last\n"), 30)
                    await asyncio.to_thread(server.start)
                else:
                    running = await asyncio.to_thread(scene.start)
                size = len(EXPECTED) - len("last\n")
                await eventually(lambda: scene.arrived(size), 60)
                await eventually(lambda: len(seen) == size, 30)
                (scene.marks / "2").touch()
                await asyncio.to_thread(running.job, number, "passed", seconds=60)
                await asyncio.wait_for(following, 60)
                assert bytes(seen) == EXPECTED == await other.text(number)
        finally:
            await asyncio.to_thread(stop, running)

    asyncio.run(run())
