"""The migrations make exactly the tables that the code uses, on both databases."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid5

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, insert, select

from reconciler.store import migrate
from reconciler.store.tables import jobs, metadata, tasks
from specs.digest import tree_of_one
from tests.conftest import NewDatabase


def test_migrations_and_tables_agree(new_database: NewDatabase) -> None:
    """Nothing would be generated."""
    engine = create_engine(new_database())
    try:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    finally:
        engine.dispose()


def test_the_head_is_the_newest_migration() -> None:
    """A new migration without its number in `migrate.HEAD` would never run."""
    folder = Path(migrate.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == migrate.HEAD


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


def test_jobs_from_before_have_what_is_shown_of_them_now(tmp_path: Path) -> None:
    """The ids of their tasks' specifications, their projects and trees."""
    url = f"sqlite:///{tmp_path / 'steersman.db'}"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
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


OLD = [
    ("Build/shop/_/web", "a" * 40, {}),
    ("Build/shop/_/tools", None, {"x": 1}),
    ("Manifest/~jo/_/build", None, {"manifest": {"text": "image: x\n"}}),
]
