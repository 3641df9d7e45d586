"""The migrations make exactly the tables that the code uses, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from reconciler.store import migrate
from reconciler.store.tables import metadata
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
