"""Brings a database to the tables of this version (Alembic), and makes the one row of `meta` (design 13.25).

SQLite migrates at start, after making a copy beside the file; an empty or older PostgreSQL refuses and names
`steersman migrate`. All that is missing is done in one transaction, by one process at a time.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

from reconciler.errors import Stalled, Transient
from reconciler.store import ownership
from reconciler.store.chain import GENESIS
from reconciler.store.engine import file_of, is_sqlite, open_whole

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0012"
_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE = 10  # seconds that one who migrates waits for another one


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: its revision, and what it is for in a few words."""

    revision: str
    title: str


def prepare(url: str, *, may_migrate: bool) -> bool:
    """Blocking; at start. True if something was migrated. Refuses an old PostgreSQL and a newer database."""
    with _opened(url) as engine:
        current = _checked(engine)
        if current == HEAD:
            return False
        if not may_migrate:
            state = "empty" if current is None else f"at revision {current}"
            raise Stalled(
                "MigrationNeeded", f"the database is {state}; run `steersman migrate --database URL` first"
            )
        if is_sqlite(url) and current is not None:
            _copy(file_of(url), current)
        with engine.begin() as connection:
            upgrade(connection)
        return True


def run(url: str) -> bool:
    """The same for who is no daemon: with none at work on it, and after another one that migrates it. Blocking."""
    if look(url)[0] == HEAD:
        return False
    held = ownership.take(url, _PATIENCE)
    try:
        return prepare(url, may_migrate=True)
    finally:
        held.close()


def look(url: str) -> tuple[str | None, list[Step]]:
    """The revision that is there (None: an empty database), and what `run` would do, in order; changes nothing."""
    if is_sqlite(url) and not file_of(url).exists():
        return None, _missing(None)
    with _opened(url) as engine:
        current = _checked(engine)
    return current, _missing(current)


def upgrade(connection: Connection) -> None:
    """Run all missing migrations on a connection in a transaction."""
    from alembic import command  # imported here: costs 15 MB that a daemon up to date does not need

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.execute(text("SELECT count(*) FROM meta")).scalar() == 0:
        connection.execute(
            text(
                "INSERT INTO meta (id, version, chain_head, leader_epoch, instance) VALUES (1, 0, :head, 0, :instance)"
            ),
            {"head": GENESIS, "instance": secrets.token_hex(8)},
        )


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    """An engine whose troubles are told in a sentence."""
    engine = open_whole(url)
    try:
        yield engine
    except OperationalError as error:
        if "locked" in str(error.orig):
            raise Transient("DatabaseLocked", "another process holds the database") from error
        raise Stalled("DatabaseUnavailable", f"the database cannot be opened: {error.orig}") from error
    except DBAPIError as error:
        raise Stalled("DatabaseUnavailable", f"the database cannot be used: {error.orig}") from error
    finally:
        engine.dispose()


def _checked(engine: Engine) -> str | None:
    """The revision that is there; one that this version does not know is refused."""
    with engine.connect() as connection:
        current = revision(connection)
    if current is not None and current > HEAD:
        raise Stalled(
            "DatabaseNewer",
            f"the database is of a newer Steersman (revision {current}, this one knows {HEAD}); upgrade this one",
        )
    return current


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _missing(current: str | None) -> list[Step]:
    if current == HEAD:
        return []
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config()).walk_revisions("base", "heads")
    found = [Step(each.revision, (each.doc or "").rstrip(".")) for each in scripts]
    return [step for step in reversed(found) if current is None or step.revision > current]


def revision(connection: Connection) -> str | None:
    """The one that the database is at; None: it has none of our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _copy(database: Path, revision: str) -> None:
    """A consistent copy beside the file, taken through SQLite itself."""
    target = database.with_name(f"{database.name}.before-{HEAD}-from-{revision}")
    source, copy = sqlite3.connect(database), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
