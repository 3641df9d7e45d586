"""Logs and attachments of one data directory, read in another on the same database: byte for byte, live and later."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, text
from zstandard import ZstdDecompressor

from reconciler.access import ROOT
from reconciler.apply.jobs import insert
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.errors import NotFound, Stalled, Transient
from reconciler.execution import contents as shared
from reconciler.execution import timeline
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.command import server_secrets
from reconciler.execution.objects import Objects
from reconciler.execution.run import Runs
from reconciler.execution.tidying import drop_copies
from reconciler.model.job import Checkout
from reconciler.passes import retention
from reconciler.queries import jobs as job_queries
from reconciler.queries import log_index, log_search, logs
from reconciler.queries.logs import Selection
from reconciler.sealing import seal
from reconciler.settings import Settings
from reconciler.store import move
from reconciler.store.database import Database, connect
from reconciler.store.jobs import NewJob
from tests import databases
from tests.objects import NAMES, bucket
from tests.running import build, finished
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

ALL = Selection()
ZSTD = b"\x28\xb5\x2f\xfd"
EXECUTOR = (
    "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\nspec: {max_load: 8, "
    "images: {host: {type: host}}, default_image: host, writable: [%s]}\n"
)
Place = dict[str, Any]
"""Settings that say where contents are kept."""


@pytest.fixture(params=["database", "folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """In PostgreSQL, in a folder, on a real S3."""
    if request.param == "s3":
        with bucket() as made:
            yield made.settings
    elif request.param == "folder":
        yield {"object_store": (tmp_path / "objects").as_uri()}
    else:
        yield {}


class Reader:
    """What a second process with a data directory of its own has of logs and attachments."""

    def __init__(self, settings: Settings, database: Database) -> None:
        settings.data.mkdir(exist_ok=True)
        contents = shared.of(settings, database)
        self.store = AttachmentStore(settings.data / "attachments", contents=contents)
        unused: Any = None
        self.runs = Runs(settings, database, unused, self.store, unused, unused, lambda _: None)
        self.database = database
        self.installation: Any = SimpleNamespace(
            settings=settings, database=database, attachments=self.store, runs=self.runs
        )

    async def text(self, number: int = 1, **selection: Any) -> bytes:
        """A job's log."""
        return await whole(self.installation, number, **selection)


async def whole(installation: Any, number: int = 1, **selection: Any) -> bytes:
    chosen = Selection(**selection)
    return b"".join([chunk async for chunk in logs.read(installation, ROOT, number, chosen, 0)])


@asynccontextmanager
async def reader(running: Settings, data: Path) -> AsyncIterator[Reader]:
    """It learns of commits as followers do: soon."""
    settings = running.model_copy(update={"data": data})
    database = connect(settings.database_url)

    async def learn() -> None:
        while True:
            with suppress(Exception):
                await database.load_version()
            await asyncio.sleep(0.1)

    made = Reader(settings, database)
    learning = asyncio.create_task(learn())
    try:
        yield made
    finally:
        learning.cancel()
        await made.runs.close()
        await database.close()


Work = Callable[[Daemon, Reader], Awaitable[None]]


def both(tmp_path: Path, specs: str, place: Place, work: Work, **more: Any) -> None:
    """A daemon that runs a Build, and a reader elsewhere."""
    repo = SpecRepository(tmp_path / "specs")
    marks = tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    repo.commit({"p.yaml": PROJECT, "e.yaml": EXECUTOR % marks, "w.yaml": specs})
    database = databases.internal(databases.new_postgresql())

    async def run() -> None:
        settings = settings_for(repo, tmp_path / "data", database=database, **place, **more)
        async with daemon(settings) as running, reader(settings, tmp_path / "other") as other:
            await asyncio.wait_for(work(running, other), 120)

    asyncio.run(run())


async def trigger(running: Daemon, name: str = "work") -> int:
    """A job by hand; its number."""
    made = await commands.trigger(running.installation, ROOT, f"Build/shop/_/{name}", {}, None, None)
    number: int = made["number"]
    return number


def rows(url: str, query: str) -> list[Any]:
    """From outside."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()


def contents_of(place: Place, settings: Settings) -> list[tuple[str, bytes]]:
    """(name, bytes) of all that lies outside of the data directories: every column of bytes, every object."""
    url = settings.database_url
    found = [("content", bytes(row.data)) for row in rows(url, "SELECT data FROM content_chunks")]
    for table in ("logs", "log_chunks"):
        for row in rows(url, f"SELECT data, times FROM {table}"):
            found += [(table, bytes(part or b"")) for part in row]
    if "object_store" in place:
        store = store_of(place)
        for some in store.list():
            found += [(entry["path"], bytes(store.get(entry["path"]).bytes())) for entry in some]
    return found


def store_of(place: Place) -> Any:
    """The object store, by obstore itself."""
    from obstore.store import from_url

    if place["object_store"].startswith("file:"):
        return from_url(place["object_store"])
    config: Any = place["object_store_options"]
    return from_url(place["object_store"], config=config, client_options={"allow_http": True})


def log_of(running: Daemon) -> Path:
    """The only run folder with a log."""
    (found,) = {path.parent for path in (running.settings.data / "runs").rglob("log*") if path.is_file()}
    return found


SLOW = "echo first; until [ -e {marks}/go ]; do sleep 0.05; done; echo second; printf last"


def test_a_log_is_followed_elsewhere_while_it_grows(tmp_path: Path, place: Place) -> None:
    """The first line is there while the script waits for whoever has read it; in the end all is, and its times."""
    marks = tmp_path / "marks"
    specs = build(f'tasks: [{{name: t, run: "{SLOW.format(marks=marks)}"}}]')

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        seen = b""
        await eventually(lambda: other.database.version >= running.installation.database.version)
        async for offset, chunk in logs.follow(other.installation, number, ALL, 0):
            seen += chunk
            assert len(seen) == offset
            if seen == b"first\n":
                (marks / "go").touch()
        assert seen == b"first\nsecond\nlast" == await whole(running.installation, number)
        here = await logs.now(running.installation, ROOT, number, ALL)
        there = await logs.now(other.installation, ROOT, number, ALL)
        assert await log_index.times(there, 0) == await log_index.times(here, 0)
        assert timeline.load(there.parts[0].folder) == timeline.load(here.parts[0].folder)  # type: ignore[arg-type]
        assert there.tag == here.tag and there.final
        for word in ("second", "nowhere"):
            asked = log_search.Query(word)
            assert await log_search.search(there, asked, 0, 10) == await log_search.search(here, asked, 0, 10)
        for start, end in ((0, 3), (4, 9), (6, 100)):
            parts = [b"".join([c async for c in logs.pieces(text_, start, end)]) for text_ in (here, there)]
            assert parts[0] == parts[1] == seen[start:end]

    both(tmp_path, specs, place, work)


def test_a_short_log_comes_with_its_end(tmp_path: Path) -> None:
    """One row, and nothing is asked again by who has read it."""

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url = running.settings.database_url
        assert [(row.size, bytes(row.data)) for row in rows(url, "SELECT * FROM logs")] == [(3, b"hi\n")]
        assert await other.text(number) == b"hi\n"
        for table in ("logs", "log_chunks"):
            rows(url, f"SELECT count(*) FROM {table}")
        assert not list((tmp_path / "other" / "runs").rglob("fetching"))
        wrote = (log_of(running) / "log").stat().st_mtime
        (copy,) = (tmp_path / "other" / "runs").rglob("log")
        assert copy.stat().st_mtime == pytest.approx(wrote, abs=1e-5)
        assert copy.stat().st_mode & 0o777 == 0o600

    both(tmp_path, build("tasks: [{name: t, run: echo hi}]"), {}, work)


def test_a_large_log_becomes_a_content(tmp_path: Path, place: Place) -> None:
    """Compressed, its chunks gone; a reader elsewhere finds every byte, also from the middle on."""

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url = running.settings.database_url
        await eventually(lambda: rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL"))
        assert rows(url, "SELECT 1 FROM log_chunks") == []
        expected = "".join(f"{line}\n" for line in range(1, 200_001)).encode()
        assert await whole(running.installation, number) == expected
        assert await other.text(number) == expected
        assert len(rows(url, "SELECT 1 FROM contents WHERE complete")) == 1
        text_ = await logs.now(other.installation, ROOT, number, ALL)
        assert b"".join([c async for c in logs.pieces(text_, 700_000, 700_100)]) == expected[700_000:700_100]
        assert (await log_search.search(text_, log_search.Query("199999"), 0, 5))["items"][0][
            "line"
        ] == 199_999

    both(tmp_path, build("tasks: [{name: t, run: seq 200000}]"), place, work)


def test_attachments_are_served_elsewhere(tmp_path: Path, place: Place) -> None:
    """Small ones, none at all, and one of many parts: byte for byte, with one digest; what is not kept is not found."""
    run = "printf small >a; : >b; head -c 9000000 /dev/urandom >c; chmod +x a"

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        job = await finished(running, number)
        assert job.state == "passed"
        for name in "abc":
            item, mine = await job_queries.attachment(running.installation, ROOT, number, name, None, None)
            same, theirs = await job_queries.attachment(other.installation, ROOT, number, name, None, None)
            assert same == item
            assert theirs.is_relative_to(tmp_path / "other")
            data = theirs.read_bytes()
            assert data == mine.read_bytes()
            assert hashlib.sha256(data).hexdigest() == item.digest
        with pytest.raises(NotFound):
            await asyncio.to_thread(other.store.open, "0" * 64)
        if "object_store_options" in place:  # what is large came in two parts
            marks = [
                entry["e_tag"] for some in store_of(place).list() for entry in some if entry["size"] > 9_000
            ]
            assert [mark.strip('"').partition("-")[2] for mark in marks] == ["2"]
        assert not list((tmp_path / "other" / "attachments" / "unfinished").iterdir())
        await drop_copies(other.store, other.database)
        assert theirs.is_file()  # it was used just now
        os.utime(theirs, (0, 0))
        await drop_copies(other.store, other.database)
        assert not theirs.exists()
        found = await job_queries.attachment(other.installation, ROOT, number, "c", None, None)
        assert found[1].read_bytes() == data

    both(tmp_path, build(f'tasks: [{{name: t, run: "{run}", attachments: [a, b, c]}}]'), place, work)


def test_what_is_masked_is_masked_everywhere(tmp_path: Path, place: Place) -> None:
    """A secret value that a script prints, in a small and in a large log, live and at its end: it lies nowhere."""
    value = b"correct-horse-battery-staple"
    marks = tmp_path / "marks"
    wait = f"until [ -e {marks}/go ]; do sleep 0.05; done"
    run = f"echo it is $TOKEN; {wait}; [ $LINES = few ] || yes it is $TOKEN still | head -20000; echo last $TOKEN"

    def task(name: str) -> str:
        variables = f"{{TOKEN: {{secret_ref: token}}, LINES: {name}}}"
        return f'{{name: {name}, run: "{run}", environment_variables: {variables}}}'

    async def work(running: Daemon, other: Reader) -> None:
        sealed = seal(value, running.installation.keys.recipient, "Secret/shop/_/token")
        metadata = {"name": "token", "project": "shop"}
        secret = {
            "apiVersion": "steersman/v1",
            "kind": "Secret",
            "metadata": metadata,
            "spec": {"sealed": sealed},
        }
        SpecRepository(tmp_path / "specs").commit({"s.yaml": json.dumps(secret)})
        await running.installation.run_now("source")
        number = await trigger(running)
        url = running.settings.database_url
        await eventually(lambda: len(rows(url, "SELECT 1 FROM log_chunks")) == 2, 30)
        early = contents_of(place, running.settings)
        (marks / "go").touch()
        assert (await finished(running, number)).state == "passed"
        query = "SELECT 1 FROM logs WHERE size > 100000 AND digest IS NOT NULL"
        await eventually(lambda: rows(url, query))
        text_ = await other.text(number)
        assert text_ == await whole(running.installation, number)
        assert text_.count(b"it is") == 20_002
        found = early + contents_of(place, running.settings)
        assert b"".join(data for _, data in found).count(b"it is ***") >= 3
        packed = [ZstdDecompressor().decompress(data, 4 << 20) for _, data in found if data[:4] == ZSTD]
        assert packed
        for data in [*(data for _, data in found), *packed, text_]:
            assert value not in data

    both(tmp_path, build(f"tasks: [{task('few')}, {task('many')}]"), place, work)


def test_a_damaged_content_is_told_and_never_given_out(tmp_path: Path, place: Place) -> None:
    """A bit of an attachment and of a packed log turns over; another content is gone altogether."""
    run = "printf %070000d 1 | tee a; printf other >b"

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url = running.settings.database_url
        await eventually(lambda: rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL"))
        damage(place, url)
        for name in "ab":
            with pytest.raises(Stalled, match="is not what was kept there; restore it from a backup"):
                await job_queries.attachment(other.installation, ROOT, number, name, None, None)
        with pytest.raises(Stalled, match="is not what was kept there"):
            await other.text(number)
        left = [
            path for path in (tmp_path / "other").rglob("*") if path.is_file() and path.stat().st_size > 100
        ]
        assert left == []
        assert len(await whole(running.installation, number)) == 70_000

    both(tmp_path, build(f'tasks: [{{name: t, run: "{run}", attachments: [a, b]}}]'), place, work)


def damage(place: Place, url: str) -> None:
    """What is large is changed in one bit, what is small is gone."""
    if "object_store" in place:
        store = store_of(place)
        for entry in [entry for some in store.list() for entry in some]:
            data = bytearray(store.get(entry["path"]).bytes())
            if len(data) == len(b"other"):
                store.delete(entry["path"])
            else:
                data[len(data) // 2] ^= 1
                store.put(entry["path"], bytes(data))
    else:
        large = (
            "UPDATE content_chunks SET data = set_bit(data, 99, 1 - get_bit(data, 99)) WHERE length(data) > 5"
        )
        execute(url, large)
        execute(url, "DELETE FROM content_chunks WHERE length(data) = 5")


def execute(url: str, statement: str) -> None:
    """From outside."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_what_nobody_refers_to_goes_and_what_is_young_stays(tmp_path: Path, place: Place) -> None:
    """Contents are dropped an hour after they were last kept; who keeps one again meanwhile keeps it."""
    run = "echo one >a; echo two >b; seq 30000"

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url = running.settings.database_url
        await eventually(lambda: rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL"))
        contents = running.installation.attachments.contents
        assert contents is not None
        before = sorted(contents_of(place, running.settings))
        execute(url, "UPDATE attachments SET path = path || digest WHERE path = 'b'")
        execute(url, "DELETE FROM attachments WHERE path LIKE 'b%'")
        await contents.collect()
        assert sorted(contents_of(place, running.settings)) == before  # young
        execute(url, "UPDATE contents SET kept_at = kept_at - 3601 * 1000000::bigint")
        await contents.collect()
        left = [data for _, data in contents_of(place, running.settings)]
        assert b"one\n" in left and b"two\n" not in left
        assert len(rows(url, "SELECT 1 FROM contents")) == 2
        expected = await whole(running.installation, number)
        assert await other.text(number) == expected
        execute(url, "UPDATE contents SET kept_at = kept_at - 3601 * 1000000::bigint")
        execute(url, "DELETE FROM attachments")
        again = await asyncio.to_thread(_keep, other.store, tmp_path / "again", b"one\n")
        await contents.collect()
        assert b"one\n" in [data for _, data in contents_of(place, running.settings)]
        await asyncio.to_thread(lambda: (tmp_path / "data/attachments" / again[:2] / again[2:]).unlink())
        assert running.installation.attachments.open is not None
        path = await asyncio.to_thread(running.installation.attachments.open, again)
        assert path.read_bytes() == b"one\n"

    both(tmp_path, build(f'tasks: [{{name: t, run: "{run}", attachments: [a, b]}}]'), place, work)


def test_what_was_dropped_only_by_half_is_brought_anew(tmp_path: Path, place: Place) -> None:
    """Its object is gone, its row came back with the transaction: who keeps it again is not told that it is there."""

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url, contents = running.settings.database_url, running.installation.attachments.contents
        assert contents is not None
        execute(url, "DELETE FROM attachments")
        execute(url, "UPDATE contents SET kept_at = kept_at - 3601 * 1000000::bigint")
        drop = contents._drop

        def fail(digests: Any, connection: Any) -> int:
            drop(digests, connection)
            raise Transient(
                "DatabaseUnavailable", "terminating connection due to idle-in-transaction timeout"
            )

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(contents, "_drop", fail)
            with pytest.raises(Transient):
                await contents.collect()
        again = await asyncio.to_thread(_keep, other.store, tmp_path / "again", b"two\n")
        await asyncio.to_thread(lambda: (tmp_path / "data/attachments" / again[:2] / again[2:]).unlink())
        path = await asyncio.to_thread(running.installation.attachments.open, again)
        assert path.read_bytes() == b"two\n"

    both(tmp_path, build('tasks: [{name: t, run: "echo two >b", attachments: [b]}]'), place, work)


def _keep(store: AttachmentStore, folder: Path, data: bytes) -> str:
    folder.mkdir()
    (folder / "x").write_bytes(data)
    return store.keep(folder, ["x"])[0][0].digest


def test_retention_forgets_logs_and_brings_what_was_kept_before(tmp_path: Path, place: Place) -> None:
    """What was kept when there was nobody else is found elsewhere after the pass; old logs go with their trials."""

    async def work(running: Daemon, other: Reader) -> None:
        numbers = [await trigger(running) for _ in range(2)]
        for number in numbers:
            await finished(running, number)
        url = running.settings.database_url
        await eventually(lambda: len(rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL")) == 2)
        for table in ("contents", "content_chunks", "logs", "log_chunks"):
            execute(url, f"DELETE FROM {table}")
        for path in (tmp_path / "data" / "attachments").rglob("*"):
            os.utime(path, (0, 0))
        await retention.run(running.installation)
        assert await other.text(numbers[0]) == await whole(running.installation, numbers[0]) != b""
        _, there = await job_queries.attachment(other.installation, ROOT, numbers[0], "a", None, None)
        assert there.read_bytes() == b"kept\n"
        execute(url, "UPDATE logs SET written_at = written_at - 7200 * 1000000::bigint")
        await retention.run(running.installation)  # packed by it
        assert len(rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL")) == 2
        execute(url, "UPDATE jobs SET finished_at = finished_at - 91 * 86400 * 1000000::bigint")
        await retention.run(running.installation)
        assert rows(url, "SELECT 1 FROM logs") == rows(url, "SELECT 1 FROM log_chunks") == []

    run = "echo kept >a; seq 20000"
    both(
        tmp_path,
        build(f'concurrency: allow\ntasks: [{{name: t, run: "{run}", attachments: [a]}}]'),
        place,
        work,
    )


def test_scripts_that_wait_for_each_other_are_read_elsewhere(tmp_path: Path) -> None:
    """Each has a log of its own, one of them large and one empty; one that could not be started says why."""
    scripts = [
        {"name": "a", "run": "seq 30000"},
        {"name": "b", "run": "true", "start_when": [{"script": "a", "states": ["passed"]}]},
        {"name": "c", "run": "echo $A", "environment_variables": {"A": {"secret_ref": "nowhere"}}},
    ]
    task = {"name": "t", "scripts": scripts}

    async def work(running: Daemon, other: Reader) -> None:
        new = NewJob(
            "Build/shop/_/work", {"tasks": [task]}, "work", Checkout(), {"type": "manual"}, {}, "User/alice"
        )
        number = await running.installation.database.write(lambda w: insert(w, new))
        running.installation.wake("dispatch")
        await finished(running, number)
        expected = await whole(running.installation, number)
        assert await other.text(number) == expected
        assert b"==> t #1 b <==" in expected and b"\n30000\n" in expected

    both(tmp_path, build("tasks: [{name: t, run: echo hi}]"), {}, work)


@pytest.mark.sqlite(why="the object store beside it")
def test_on_sqlite_an_object_store_outlives_the_data_directory(tmp_path: Path) -> None:
    """All but the database is lost: attachments and logs, small and large, come back from there."""
    repo = SpecRepository(tmp_path / "specs")
    tasks = '[{name: t, run: "seq 30000; echo kept >a", attachments: [a]}, {name: s, run: echo small}]'
    repo.commit({"p.yaml": PROJECT, "w.yaml": build(f"tasks: {tasks}")})
    data = tmp_path / "data"
    place: Place = {
        "object_store": (tmp_path / "objects").as_uri(),
        "database": f"sqlite:///{tmp_path}/own.db",
    }

    async def run() -> None:
        settings = settings_for(repo, data, **place)
        async with daemon(settings) as running:
            number = await trigger(running)
            await finished(running, number)
            expected = await whole(running.installation, number)
            assert rows(settings.database_url, "SELECT 1 FROM log_chunks") == []
            await eventually(
                lambda: rows(settings.database_url, "SELECT 1 FROM logs WHERE digest IS NOT NULL")
            )
        (data / "instance").unlink()
        for name in ("runs", "attachments"):
            shutil.rmtree(data / name)
        async with daemon(settings) as running:
            assert await whole(running.installation, number) == expected
            found = await job_queries.attachment(running.installation, ROOT, number, "a", None, None)
            assert found[1].read_bytes() == b"kept\n"

    asyncio.run(run())


def test_without_an_object_store_nothing_is_added_on_sqlite(tmp_path: Path) -> None:
    """No row, no copy: there is one machine."""
    repo = SpecRepository(tmp_path / "specs")
    tasks = '[{name: t, run: "seq 30000; echo kept >a", attachments: [a]}]'
    repo.commit({"p.yaml": PROJECT, "w.yaml": build(f"tasks: {tasks}")})

    async def run() -> None:
        settings = settings_for(repo, tmp_path / "data", database=f"sqlite:///{tmp_path}/own.db")
        async with daemon(settings) as running:
            number = await trigger(running)
            assert (await finished(running, number)).state == "passed"
            await running.installation.run_now("retention")
        for table in ("contents", "content_chunks", "logs", "log_chunks"):
            assert rows(settings.database_url, f"SELECT 1 FROM {table}") == []

    asyncio.run(run())


def test_what_a_backup_brought_to_sqlite_is_found(tmp_path: Path) -> None:
    """PostgreSQL's contents go along as they are; the daemon on the SQLite file finds what others had written."""

    async def work(running: Daemon, other: Reader) -> None:
        number = await trigger(running)
        await finished(running, number)
        url = running.settings.database_url
        await eventually(lambda: rows(url, "SELECT 1 FROM logs WHERE digest IS NOT NULL"))
        expected = await whole(running.installation, number)
        copy = f"sqlite:///{tmp_path}/copy.db"
        await asyncio.to_thread(move.copy, url, copy)
        elsewhere = running.settings.model_copy(update={"database": copy})
        async with reader(elsewhere, tmp_path / "restored") as restored:
            assert await restored.text(number) == expected
            found = await job_queries.attachment(restored.installation, ROOT, number, "a", None, None)
            assert found[1].read_bytes() == b"kept\n"

    both(tmp_path, build('tasks: [{name: t, run: "seq 30000; echo kept >a", attachments: [a]}]'), {}, work)


def test_secrets_of_an_object_store_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script without a sandbox could read of the daemon; a region is no secret."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    options: Any = {
        "secret_access_key": "of-the-options",
        "region": "eu-central-1",
        "endpoint": "https://s3.example.org",
    }
    found = server_secrets(Settings(data=tmp_path, object_store="s3://bucket", object_store_options=options))
    assert {"of-the-environment", "of-the-options"} <= set(found)
    assert not {"eu-central-1", "https://s3.example.org"} & set(found)
    assert "of-the-options" not in repr(Settings(object_store_options=options))


@pytest.mark.parametrize("url", ["s3://", "http://example.org/x", "bucket"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """At the start, with a sentence."""
    with pytest.raises((ValidationError, Stalled)):
        settings = Settings(object_store=url)
        Objects(str(settings.object_store), {})


def test_an_object_store_that_does_not_answer_is_a_passing_trouble(tmp_path: Path) -> None:
    """An attachment waits for it and is not lost; whoever asks meanwhile is told."""
    options = NAMES | {"endpoint": "http://127.0.0.1:9"}
    store = Objects("s3://nowhere/prefix", options)
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(Transient, match="object store") as caught:
        store.put("contents/aa/x", tmp_path / "x")
    assert caught.value.reason == "ObjectStoreUnavailable"
    assert NAMES["secret_access_key"] not in caught.value.message
    with pytest.raises(Transient):
        next(store.read("contents/aa/x", 1))
