"""`steersman move`, `restore` and `backup`: a whole installation with its history goes into another database."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reconciler.access import ROOT
from reconciler.commands import gate
from reconciler.commands import pipelines as runs_door
from reconciler.commands.gate import Said
from reconciler.daemon import Daemon
from reconciler.errors import Stalled
from reconciler.model.pipeline import Status
from reconciler.queries import events as log
from reconciler.queries import gate as asked
from reconciler.queries import plans
from reconciler.store import backup, events, migrate, move, ownership
from reconciler.store import pipelines as runs
from reconciler.store.database import connect
from specs.meta import parse_key
from tests import databases
from tests.shop import Open, Shop
from tests.support import daemon, eventually, settings_for

PIPELINE = "Pipeline/shop/ship"
WEB, GUARDED = "Deployment/shop/dev/shop/web", "Deployment/shop/prod/shop/guarded"
Work = Callable[[Open], Awaitable[None]]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A build that releases, what is deployed by itself, what waits for a word, and a pipeline that asks."""
    found = Shop(tmp_path)
    inputs = [{"id": "pass", "type": "string", "default": "", "sensitive": True}]
    found.push({"escape.yml": found.plan(inputs=inputs)})
    found.build()
    found.declare("Environment", "prod", {"protected": True}, project="shop")
    phases = [{"name": "ask", "steps": [{"type": "confirmation"}]}]
    found.declare("Pipeline", "ship", {"phases": phases}, project="shop")
    return found


def run(shop: Shop, database: str, work: Work) -> None:
    """A daemon on the same data folder, on this database."""

    async def body() -> None:
        async with daemon(settings_for(shop.specs, shop.path / "data", database=database)) as running:
            await asyncio.wait_for(work(Open(shop, running)), 120)

    asyncio.run(body())


async def history(open_: Open) -> None:
    """Releases, deployments with a secret in their state, one that waits, decided and undecided runs."""
    shop = open_.shop
    installation = open_.installation
    for _ in range(2):
        assert (await open_.build()).job.state.value == "passed"
    shop.deployment("shop/web", {"version": "latest", "inputs": {"pass": "hush-hush"}}, environment="dev")
    shop.deployment("shop/guarded", {"release": "shop/web", "version": "latest"})
    await open_.apply()
    await open_.deployed("shop/web", "dev", version="1.0.1")
    await eventually(lambda: _open(open_))
    pipeline = parse_key(PIPELINE)
    first = await runs_door.trigger(installation, ROOT, pipeline)
    await eventually(lambda: _runs(open_, Status.PENDING))
    (live,) = await _runs(open_, Status.PENDING)
    assert live.id == first.id
    await runs_door.decide(installation, ROOT, live, (0, 0), approved=True, comment="go")
    await eventually(lambda: _runs(open_, Status.OK))
    await runs_door.trigger(installation, ROOT, pipeline)
    await eventually(lambda: _runs(open_, Status.PENDING))


async def _open(open_: Open) -> Any:
    return await asked.open_approvals(open_.installation, ROOT)


async def _runs(open_: Open, status: Status) -> list[Any]:
    found = await open_.installation.database.read(lambda c: runs.page(c, runs.Wanted(PIPELINE)))
    return [each for each in found if each.status is status]


async def facts(running: Daemon) -> dict[str, Any]:
    """What has to be the same after a move."""
    installation = running.installation
    plan = await plans.of_branch(installation, ROOT)
    open_ = Open(None, running)  # type: ignore[arg-type]
    row = await open_.row("shop/web", "dev")
    assert row is not None
    return {
        "plan": [str(action) for action in plan["actions"]],
        "sound": (await log.verify(installation, ROOT))["sound"],
        "releases": [(each.version, each.digest) for each in await open_.releases()],
        "jobs": [
            (job.number, job.id, job.state, job.created_at) for job in await open_.jobs("Build/shop/dev/web")
        ],
        "state": row.state,
        "log": await open_.log(1),
        "runs": len(await _runs(open_, Status.OK)),
    }


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    """As a user runs it."""
    command = [sys.executable, "-c", "from api.cli import main; main()", *words]
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=own)


def test_a_whole_installation_moves_to_postgresql(shop: Shop, tmp_path: Path) -> None:
    """It goes on there: the plan is empty, nothing runs again, what waited still waits and is then let go."""
    data = tmp_path / "data"
    old, new = f"sqlite:///{data / 'steersman.db'}", databases.server().new()
    seen: dict[str, Any] = {}
    refused: list[str] = []

    async def before(open_: Open) -> None:
        await history(open_)
        done = await asyncio.to_thread(cli, "move", "--to", new, "--data", str(data))
        refused.append(done.stderr)
        seen.update(await facts(open_.daemon))

    shop.commit()
    run(shop, old, before)
    assert "another daemon uses this database; stop it" in refused[0]
    assert (seen["plan"], seen["sound"]) == ([], True)
    assert [version for version, _ in seen["releases"]] == ["1.0.0", "1.0.1"]

    dry = cli("move", "--to", new, "--data", str(data), "--dry-run", "-o", "json")
    assert dry.returncode == 0, dry.stderr
    done = cli("move", "--to", new, "--data", str(data), "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["moved"], told["rows"]) == (True, json.loads(dry.stdout)["rows"])
    with closing(sqlite3.connect(data / "steersman.db")) as source:
        assert told["rows"]["events"] == source.execute("SELECT count(*) FROM events").fetchone()[0]
    again = cli("move", "--to", new, "--data", str(data))
    assert (again.returncode, "is not empty; make a new database" in again.stderr) == (1, True)
    (data / "steersman.db").rename(tmp_path / "away.db")
    marks = shop.marked()

    async def after(open_: Open) -> None:
        assert await facts(open_.daemon) == seen
        await open_.daemon.loop.idle()
        assert shop.marked() == marks
        (waits,) = await asked.open_approvals(open_.installation, ROOT)
        await gate.decide(open_.installation, ROOT, Said("approved", key=GUARDED, digest=waits["digest"]))
        await open_.deployed("shop/guarded", version="1.0.1")
        (live,) = await _runs(open_, Status.PENDING)
        await runs_door.decide(open_.installation, ROOT, live, (0, 0), approved=True, comment="")
        await eventually(lambda: _runs(open_, Status.OK))
        made = await open_.build()
        numbers = [number for number, *_ in seen["jobs"]]
        assert made.job.number > max(numbers)
        await open_.deployed("shop/web", "dev", version="1.0.2")
        assert (await log.verify(open_.installation, ROOT))["sound"]

    run(shop, new, after)


def test_a_backup_of_postgresql_under_load_is_restored_into_another_one(shop: Shop, tmp_path: Path) -> None:
    """And into SQLite: the archive is the same. Logs, state and the event log are whole."""
    data = tmp_path / "data"
    first, second = databases.new_postgresql(), databases.server().new()
    archive = tmp_path / "b.tar.gz"
    seen: dict[str, Any] = {}

    async def before(open_: Open) -> None:
        await history(open_)
        seen.update(await facts(open_.daemon))
        ended = threading.Event()

        async def load() -> None:
            while not ended.is_set():
                await open_.installation.database.write(lambda w: w.record("Loaded", None, {"x": 1}))

        busy = asyncio.create_task(load())
        done = await asyncio.to_thread(cli, "backup", str(archive), "--data", str(data), "--database", first)
        ended.set()
        await busy
        assert done.returncode == 0, done.stderr

    shop.commit()
    run(shop, first, before)
    marks = shop.marked()
    for place, words, database in (
        (tmp_path / "one" / "data", ("--database", second), second),
        (tmp_path / "two" / "data", (), f"sqlite:///{tmp_path / 'two/data/steersman.db'}"),
    ):
        done = cli("restore", str(archive), "--data", str(place), *words)
        assert done.returncode == 0, done.stderr
        assert (place / "steersman.db").exists() == (not words)
        again = cli("restore", str(archive), "--data", str(place), *words)
        assert (again.returncode, "is not an empty directory" in again.stderr) == (1, True)

        async def after(open_: Open) -> None:
            assert await facts(open_.daemon) == seen
            await open_.daemon.loop.idle()
            assert shop.marked() == marks
            assert len(await _open(open_)) == 1

        async def body(place: Path = place, database: str = database) -> None:
            async with daemon(settings_for(shop.specs, place, database=database)) as running:
                await asyncio.wait_for(after(Open(shop, running)), 120)

        asyncio.run(body())


def small(tmp_path: Path) -> str:
    """An SQLite store with a few events."""
    url = f"sqlite:///{tmp_path / 'steersman.db'}"
    migrate.prepare(url, may_migrate=True)

    async def fill() -> None:
        database = connect(url)
        for number in range(5):
            await database.write(lambda w, n=number: w.record("Noted", None, {"n": n}))
        await database.close()

    asyncio.run(fill())
    return url


def head_of(url: str) -> tuple[int, str | None]:
    """Events that are sound, and the fault."""

    async def look() -> tuple[int, str | None]:
        database = connect(url)
        try:
            return await database.read(events.verify)
        finally:
            await database.close()

    return asyncio.run(look())


def test_a_value_that_postgresql_cannot_hold_leaves_the_target_empty(tmp_path: Path) -> None:
    """SQLite holds NUL characters: a sentence, no table; put right, it moves."""
    old = small(tmp_path)
    new = databases.internal(databases.server().new())
    with closing(sqlite3.connect(tmp_path / "steersman.db")) as raw, raw:
        raw.execute("INSERT INTO seen_tags VALUES ('k', 'a' || char(0), 'c')")
    with pytest.raises(Stalled, match="seen_tags") as caught:
        move.move(old, new)
    assert caught.value.reason == "NotCopied"
    with closing(sqlite3.connect(tmp_path / "steersman.db")) as raw, raw:
        raw.execute("UPDATE seen_tags SET tag = 'a'")
    rows = move.move(old, new)
    assert (rows["events"], rows["seen_tags"], rows["meta"]) == (5, 1, 1)
    assert head_of(new) == (5, None)


def test_a_broken_chain_moves_as_it_is(tmp_path: Path) -> None:
    """What was changed on the old side is found on the new one too."""
    old = small(tmp_path)
    new = databases.internal(databases.server().new())
    with closing(sqlite3.connect(tmp_path / "steersman.db")) as raw, raw:
        raw.execute("UPDATE events SET actor = 'somebody' WHERE seq = 3")
    move.move(old, new)
    assert head_of(new)[0] == 2
    assert head_of(new) == head_of(old)


def test_both_sides_are_held_meanwhile(tmp_path: Path) -> None:
    """A daemon on the target is refused as one on the source; nothing is told twice."""
    old = small(tmp_path)
    new = databases.internal(databases.new_postgresql())
    for url in (old, new):
        held = ownership.take(url)
        with pytest.raises(Stalled, match="another daemon") as caught:
            move.move(old, new)
        assert caught.value.reason == "DatabaseHeld"
        held.close()
    told: list[tuple[str, int, int]] = []
    move.move(old, new, lambda *seen: told.append(seen))
    assert ("events", 5, 5) in told


def test_who_has_let_go_is_in_nobodys_way() -> None:
    """Not even for a moment."""
    url = databases.internal(databases.new_postgresql())
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        for _ in range(100):
            ownership.take(url).close()
            assert other.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ownership._KEY}).scalar()
            other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ownership._KEY})
    engine.dispose()


def test_addresses_that_lead_nowhere_are_told_in_a_sentence(tmp_path: Path) -> None:
    """No traceback, no password."""
    (tmp_path / "empty").mkdir()
    gone = "postgresql://u:secret@/nowhere?host=/nonexistent"
    for words, told in (
        (("move", "--to", gone, "--data", str(tmp_path / "empty")), "there is no database"),
        (("move", "--to", gone, "--from", gone), "where it is already"),
        (("move", "--to", "postgresql://h:port/x", "--data", str(tmp_path)), "cannot be read: write it as"),
        (("move", "--to", "mysql://h/x"), "must begin with postgresql://"),
        (("migrate", "--database", gone), "cannot be opened"),
        (("backup", str(tmp_path / "x"), "--database", gone, "--data", str(tmp_path)), "cannot be opened"),
        (("restore", str(tmp_path / "x"), "--data", str(tmp_path / "new")), "cannot be restored"),
    ):
        small(tmp_path)
        done = cli(*words)
        assert (done.returncode, told in done.stderr) == (1, True), (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_database_without_tables_is_no_backup(tmp_path: Path) -> None:
    """No archive is left behind."""
    done = cli("backup", str(tmp_path / "x"), "--database", databases.server().new(), "--data", str(tmp_path))
    assert (done.returncode, "holds no store of Steersman" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_restore_whose_database_is_not_empty_says_how_to_go_on(tmp_path: Path) -> None:
    """The files are there; the sentence has the command that does the rest."""
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    url = small(data)
    assert cli("backup", str(tmp_path / "b.tar.gz"), "--data", str(data)).returncode == 0
    taken, free = databases.server().new(), databases.server().new()
    move.move(url, databases.internal(taken))
    done = cli("restore", str(tmp_path / "b.tar.gz"), "--data", str(other), "--database", taken)
    assert (done.returncode, "is not empty" in done.stderr) == (1, True)
    words = done.stderr.partition("`steersman ")[2].partition("`")[0].replace("URL", free).split()
    assert cli(*words).returncode == 0
    assert head_of(databases.internal(free)) == (5, None)


def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    """Nothing is unpacked."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(__file__, "other")
    with pytest.raises(Stalled, match="is no backup"):
        backup.restore(tmp_path / "a.tar.gz", tmp_path / "data", None)
    assert not (tmp_path / "data").exists()
