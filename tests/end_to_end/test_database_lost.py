"""The database server dies and comes back: a condition meanwhile, then on as before; nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Stalled, Transient
from reconciler.store import events, migrate, ownership
from reconciler.store.database import Write, connect
from tests.databases import Server, internal
from tests.support import PROJECT, SpecRepository, eventually, process, start, stop

FINAL = ("passed", "failed", "defective")
BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: %s, project: shop}
spec: {concurrency: allow, tasks: [{name: t, run: "%s"}]}
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """One that may be killed."""
    with tempfile.TemporaryDirectory(prefix="steersman-test-lost-") as folder:
        made = Server(Path(folder) / "data")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def database(server: Server) -> str:
    """A migrated one in it."""
    url = server.new()
    migrate.run(internal(url))
    return url


def test_a_server_that_is_killed_is_a_condition_and_no_more(
    server: Server, database: str, tmp_path: Path
) -> None:
    """Twice: scripts go on meanwhile, their ends are stored once; commits that came meanwhile are applied."""
    repo = SpecRepository(tmp_path / "specs")
    marks = tmp_path / "marks"
    marks.mkdir()
    slow = f"until [ -e {marks}/go ]; do sleep 0.05; done; echo ended >>{marks}/slow; echo done"
    executor = (
        "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\nspec: {max_load: 8, "
        f"images: {{host: {{type: host}}}}, default_image: host, writable: [{marks}]}}\n"
    )
    repo.commit({"p.yaml": PROJECT, "e.yaml": executor, "s.yaml": BUILD % ("slow", slow)})
    own = {"STEERSMAN_DATABASE": database, "STEERSMAN_POLL_SECONDS": "1"}
    with process(repo.path, tmp_path / "data", **own) as running, running.client() as client:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 3)
        for number in (1, 2):
            (marks / "go").unlink(missing_ok=True)
            key = {"key": "Build/shop/_/slow"}
            made = client.post("/reconciler/trigger", json=key).json()["number"]
            running.job(made, "executing")
            server.kill()
            refused = client.post("/reconciler/trigger", json=key)
            assert (refused.status_code, refused.json()["title"]) == (503, "DatabaseUnavailable")
            assert client.get("/reconciler/jobs").status_code in (200, 503)
            assert client.get("/reconciler/resources").status_code == 200  # of memory
            running.wait_for(lambda c: c.get("/health").json()["status"] in ("degraded", "unavailable"))
            repo.commit({f"more{number}.yaml": BUILD % (f"more{number}", "echo more")})
            (marks / "go").touch()
            running.wait_for(lambda c, n=number: (marks / "slow").exists() and len(_lines(marks)) == n)
            server.start()
            assert running.job(made, *FINAL, seconds=60)["state"] == "passed"
            assert client.get(f"/reconciler/jobs/{made}/log").text == "done\n"
            running.wait_for(
                lambda c, n=number: c.get(f"/reconciler/resources/Build/shop/_/more{n}").status_code == 200,
                60,
            )
            running.wait_for(lambda c: c.get("/health").json()["status"] == "ok", 60)
        assert len(client.get("/reconciler/jobs").json()["items"]) == 2
        assert len(_lines(marks)) == 2
        assert client.get("/reconciler/audit").json()["sound"]
        with pytest.raises(Stalled, match="another daemon"):  # the lock came back with the connection
            ownership.take(internal(database))
    ownership.take(internal(database)).close()


def _lines(marks: Path) -> list[str]:
    return (marks / "slow").read_text().splitlines()


def test_a_daemon_killed_while_the_server_is_away_goes_on_where_it_was(
    server: Server, database: str, tmp_path: Path
) -> None:
    """It refuses to start without its database, with a sentence; with it, the script that ran on is taken up."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT, "s.yaml": BUILD % ("slow", "sleep 3; echo done")})
    own = {"STEERSMAN_DATABASE": database}
    running = start(repo.path, tmp_path / "data", **own)
    try:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
        with running.client() as client:
            made = client.post("/reconciler/trigger", json={"key": "Build/shop/_/slow"}).json()["number"]
        running.job(made, "executing")
        server.kill()
        running.kill()
        with pytest.raises(AssertionError, match="cannot be opened"):
            start(repo.path, tmp_path / "data", **own)
        server.start()
        running = start(repo.path, tmp_path / "data", **own)
        job = running.job(made, *FINAL)
        assert (job["state"], len(job["tasks"][0]["trials"])) == ("passed", 1)
    finally:
        stop(running)


def test_who_lost_the_lock_writes_nothing(server: Server, database: str) -> None:
    """Its connection is cut and another one takes the lock: the write is refused until that one lets go."""
    url = internal(database)

    def note(write: Write) -> None:
        write.record("Noted", None, {})

    async def work() -> None:
        first = connect(url, own=True)

        async def written() -> bool:
            with suppress(Transient):
                await first.write(note)
                return True
            return False

        try:
            await first.own()
            await first.write(note)
            with server.admin() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                )
            held = await asyncio.to_thread(ownership.take, url, 5)
            with pytest.raises(Transient) as caught:
                await first.write(note)
                await first.write(note)  # the first may only find the connection gone
            assert caught.value.reason == "DatabaseHeld"
            assert await first.load_version() == 1
            held.close()
            await eventually(written)  # the server may not have seen yet that it was closed
            assert await first.load_version() == 2
        finally:
            await first.close()

    asyncio.run(work())


def test_two_who_write_at_once_keep_one_chain(database: str) -> None:
    """Each transaction sees the events of the one before, also where it waited for it."""
    url = internal(database)
    start_ = threading.Barrier(2)

    def writer(faults: list[BaseException]) -> None:
        async def work() -> None:
            own = connect(url)
            try:
                start_.wait(10)
                for _ in range(100):
                    await own.write(lambda w: w.record("Noted", None, {}))
            finally:
                await own.close()

        try:
            asyncio.run(work())
        except BaseException as fault:
            faults.append(fault)

    faults: list[BaseException] = []
    threads = [threading.Thread(target=writer, args=(faults,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert _verdict(url) == (200, None)


def _verdict(url: str) -> Any:
    async def look() -> Any:
        database = connect(url)
        try:
            return await database.read(events.verify)
        finally:
            await database.close()

    return asyncio.run(look())
