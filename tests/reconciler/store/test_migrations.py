"""The migrations make exactly the tables that the code uses, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, insert, select, text

from reconciler.errors import Stalled
from reconciler.store import migrate, ownership, timers
from reconciler.store.tables import jobs, meta, metadata, tasks
from specs.digest import tree_of_one
from tests import databases
from tests.conftest import NewDatabase


def test_migrations_and_tables_agree(new_database: NewDatabase) -> None:
    """Nothing would be generated."""
    engine = create_engine(new_database())
    try:
        with engine.connect() as connection:
            ours = {"include_name": lambda name, *_: not str(name).startswith("procrastinate_")}
            assert compare_metadata(MigrationContext.configure(connection, opts=ours), metadata) == []
    finally:
        engine.dispose()


def test_the_head_is_the_newest_migration() -> None:
    """A new migration without its number in `migrate.HEAD` would never run."""
    folder = Path(migrate.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == migrate.HEAD


@pytest.mark.sqlite("the copy beside the file")
def test_sqlite_is_copied_before_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of this version is left alone; an older one is kept beside the new one."""
    url = f"sqlite:///{tmp_path / 'steersman.db'}"
    assert migrate.prepare(url, may_migrate=True)
    assert not migrate.prepare(url, may_migrate=True)
    assert [file.name for file in tmp_path.iterdir() if "before" in file.name] == []
    head = migrate.HEAD
    monkeypatch.setattr(migrate, "HEAD", "9999")
    assert migrate.prepare(url, may_migrate=True)
    assert [file.name for file in tmp_path.iterdir() if "before" in file.name] == [
        f"steersman.db.before-9999-from-{head}"
    ]


def upgrade_to(engine: Engine, revision: str) -> None:
    """The tables as an older version made them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_jobs_from_before_have_what_is_shown_of_them_now(tmp_path: Path) -> None:
    """The ids of their tasks' specifications, their projects and trees."""
    url = f"sqlite:///{tmp_path / 'steersman.db'}"
    engine = create_engine(url)
    upgrade_to(engine, "0005")
    moment = dict.fromkeys(("created_at", "version"), 1)
    texts = dict.fromkeys(("origin", "work_digest", "actor", "state"), "x")
    try:
        with engine.begin() as connection:
            old = MetaData()
            old.reflect(connection)
            for number, (key, tree, data) in enumerate(OLD, 1):
                uuid = f"s{number}"
                connection.execute(insert(old.tables["specifications"]).values(uuid=uuid, data=data))
                job = {"number": number, "id": f"j{number}", "key": key, "specification": uuid, "tree": tree}
                plain = {"trigger": {}, "inputs": {}, "held": False}
                connection.execute(insert(old.tables["jobs"]).values(**job, **moment, **texts, **plain))
                task = {"id": f"t{number}", "job": number, "position": 0, "name": "t", "state": "x"}
                connection.execute(insert(old.tables["tasks"]).values(**task, policy={"name": "t"}))
        assert migrate.prepare(url, may_migrate=True)
        with engine.connect() as connection:
            found = connection.execute(select(jobs.c.project, jobs.c.tree).order_by(jobs.c.number)).all()
            assert [tuple(row) for row in found] == [
                ("shop", "a" * 40),
                ("shop", tree_of_one("specification.json", b'{"x":1}')),
                ("~jo", tree_of_one(".build.yml", b"image: x\n")),
            ]
            uuids = set(connection.execute(select(tasks.c.specification)).scalars())
            assert uuids == {str(uuid5(UUID(int=0), '{"name":"t"}'))}
    finally:
        engine.dispose()


def test_what_follows_jobs_goes_on_from_where_it_was(empty: tuple[str, ...]) -> None:
    """By times it counted before, now by versions: what it has seen is not seen again, what is new counts."""
    os.makedirs(empty[1], exist_ok=True)
    url = url_of(empty)
    engine = create_engine(url)
    upgrade_to(engine, "0011")
    texts = dict.fromkeys(("origin", "work_digest", "actor", "state"), "x")
    plain = {"key": "Build/shop/_/a", "specification": "s", "trigger": {}, "inputs": {}, "held": False}
    due = {"digest": "d", "last_due": None, "next_due": None}
    try:
        with engine.begin() as connection:
            old = MetaData()
            old.reflect(connection)
            connection.execute(insert(old.tables["specifications"]).values(uuid="s", data={}))
            after = {"type": "build", "position": 0, "after": {"Build/shop/_/a": 1, "Build/shop/_/z": 3}}
            for number, (key, ended, trigger) in enumerate(
                (("a", 100, {}), ("a", 300, {}), ("z", 200, {}), ("a", None, {}), ("d", 300, after)), 1
            ):
                job = {"number": number, "id": f"j{number}", "created_at": 1, "version": 9}
                job |= {"finished_at": ended, "key": f"Build/shop/_/{key}", "trigger": trigger}
                connection.execute(insert(old.tables["jobs"]).values(**plain | texts | job))
            for key, position, more in (
                ("Build/shop/_/b", 0, {"last_due": 200}),
                ("Build/shop/_/b", 1, {"last_due": 200, "next_due": 400}),
                ("Build/shop/_/b", 2, {}),
                ("Build/shop/_/c", 0, {"last_due": 50}),
                ("Build/shop/_/d", 0, {"last_due": 100}),
                ("Pipeline/shop/p", -1, {"last_due": 300}),
                ("Pipeline/shop/q", -1, {"last_due": 150}),
                ("Pipeline/shop/q", 0, {"last_due": 150, "next_due": 400}),
            ):
                timer = due | more | {"key": key, "position": position}
                connection.execute(insert(old.tables["timers"]).values(**timer))
        assert migrate.prepare(url, may_migrate=True)
        with engine.connect() as connection:
            ends = connection.execute(select(jobs.c.finished_version).order_by(jobs.c.number)).scalars()
            assert list(ends) == [1, 3, 2, None, 3]
            found = {
                (key, position): (timer.since, timer.last_due is not None)
                for key in (*(f"Build/shop/_/{name}" for name in "bcd"), "Pipeline/shop/p", "Pipeline/shop/q")
                for position, timer in timers.load(connection, key).items()
            }
        assert found == {
            ("Build/shop/_/b", 0): (3, False),
            ("Build/shop/_/b", 1): (None, True),
            ("Build/shop/_/b", 2): (None, False),
            ("Build/shop/_/c", 0): (1, False),
            ("Build/shop/_/d", 0): (3, False),  # it came after what ended at 200
            ("Pipeline/shop/p", -1): (3, False),  # which has started no run yet by what ended at 300
            ("Pipeline/shop/q", -1): (2, False),
            ("Pipeline/shop/q", 0): (None, True),
        }
    finally:
        engine.dispose()


OLD = [
    ("Build/shop/_/web", "a" * 40, {}),
    ("Build/shop/_/tools", None, {"x": 1}),
    ("Manifest/~jo/_/build", None, {"manifest": {"text": "image: x\n"}}),
]


def cli(*words: str, **environment: str) -> subprocess.Popen[str]:
    """`steersman WORDS` in a process of its own."""
    command = [sys.executable, "-c", "from api.cli import main; main()", *words]
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")} | environment
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*words: str, **environment: str) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    process = cli(*words, **environment)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Options that name a database without tables."""
    if request.param == "sqlite":
        return ("--data", str(tmp_path / "data"))
    return ("--data", str(tmp_path / "data"), "--database", databases.server().new())


def url_of(words: tuple[str, ...]) -> str:
    """The store's URL for such options."""
    if "--database" in words:
        return databases.internal(words[-1])
    return f"sqlite:///{words[1]}/steersman.db"


def test_migrate_says_first_what_it_would_do(empty: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is made by asking; then it is done, once."""
    code, said = run("migrate", *empty, "--dry-run")
    assert (code, said.splitlines()[0]) == (2, "the database is empty")
    assert said.splitlines()[1] == "would apply 0001 First tables"
    assert said.splitlines()[-1].startswith(f"would apply {migrate.HEAD} ")
    assert not (tmp_path / "data").exists()
    assert run("migrate", *empty) == (0, f"migrated to revision {migrate.HEAD}\n")
    assert run("migrate", *empty) == (0, f"already at revision {migrate.HEAD}\n")
    assert run("migrate", *empty, "--dry-run") == (0, f"the database is at revision {migrate.HEAD}\n")


def test_two_that_migrate_at_once_both_succeed(empty: tuple[str, ...]) -> None:
    """As two containers that start together: one migrates, the other waits and finds it done."""
    both = [cli("migrate", *empty) for _ in range(3)]
    said = sorted(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0, 0]
    assert said == [f"already at revision {migrate.HEAD}\n"] * 2 + [f"migrated to revision {migrate.HEAD}\n"]
    engine = create_engine(url_of(empty))
    with engine.connect() as connection:
        assert connection.execute(select(meta.c.id)).all() == [(1,)]
    engine.dispose()


def test_an_older_database_is_migrated_only_without_a_daemon(
    empty: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is named; a daemon at work is left alone; a failed migration leaves what was there."""
    (tmp_path / "data").mkdir()
    url = url_of(empty)
    engine = create_engine(url)
    upgrade_to(engine, "0005")
    engine.dispose()
    code, said = run("migrate", *empty, "--dry-run")
    assert (code, said.splitlines()[0]) == (2, "the database is at revision 0005")
    assert said.splitlines()[1].startswith("would apply 0006 ")
    held = ownership.take(url)
    monkeypatch.setattr(migrate, "_PATIENCE", 0)
    with pytest.raises(Stalled, match="another daemon uses this database"):
        migrate.run(url)
    held.close()
    real = migrate.upgrade

    def torn(connection: Connection) -> None:
        real(connection)
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrate, "upgrade", torn)
    with pytest.raises(RuntimeError):
        migrate.run(url)
    assert migrate.look(url)[0] == "0005"
    monkeypatch.setattr(migrate, "upgrade", real)
    assert migrate.run(url)
    assert migrate.look(url) == (migrate.HEAD, [])


def test_migrate_refuses_a_newer_database(empty: tuple[str, ...]) -> None:
    """It says which revision is there and which one it knows."""
    assert run("migrate", *empty)[0] == 0
    engine = create_engine(url_of(empty))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9998'"))
    engine.dispose()
    for more in ((), ("--dry-run",)):
        code, said = run("migrate", *empty, *more)
        assert (code, "newer Steersman (revision 9998" in said) == (1, True)
