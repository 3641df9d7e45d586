"""Brings a database to the tables of this version (Alembic), and makes the one row of `meta` (design 13.25).

SQLite migrates at start, after making a copy beside the file; an empty or older PostgreSQL refuses and names
`steersman migrate`.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from reconciler.errors import Stalled, Transient
from reconciler.store.chain import GENESIS

HEAD = "0009"
_MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(url: str, *, may_migrate: bool) -> bool:
    """Blocking; at start. True if something was migrated. Refuses an old PostgreSQL and a newer database."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            current = _current(connection)
        if current == HEAD:
            return False
        if current is not None and current > HEAD:
            raise Stalled(
                "DatabaseNewer",
                f"the database is of a newer Steersman (revision {current}); upgrade this one",
            )
        if not may_migrate:
            state = "empty" if current is None else f"at revision {current}"
            raise Stalled(
                "MigrationNeeded", f"the database is {state}; run `steersman migrate --database URL` first"
            )
        if url.startswith("sqlite") and current is not None:
            _copy(Path(str(make_url(url).database)), current)
        with engine.begin() as connection:
            upgrade(connection)
        return True
    except OperationalError as error:
        if "locked" in str(error.orig):
            raise Transient("DatabaseLocked", "another process holds the database") from error
        raise Stalled("DatabaseUnavailable", f"the database cannot be opened: {error.orig}") from error
    except DBAPIError as error:
        raise Stalled("DatabaseUnavailable", f"the database cannot be used: {error.orig}") from error
    finally:
        engine.dispose()


def upgrade(connection: Connection) -> None:
    """Run all missing migrations on a connection in a transaction."""
    from alembic import command  # imported here: costs 15 MB that a daemon up to date does not need
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.execute(text("SELECT count(*) FROM meta")).scalar() == 0:
        connection.execute(
            text(
                "INSERT INTO meta (id, version, chain_head, leader_epoch, instance) VALUES (1, 0, :head, 0, :instance)"
            ),
            {"head": GENESIS, "instance": secrets.token_hex(8)},
        )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _engine(url: str) -> Engine:
    """On SQLite with one transaction over all tables: the driver would commit each of them by itself."""
    if not url.startswith("sqlite"):
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": 5, "isolation_level": None})
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _copy(database: Path, revision: str) -> None:
    """A consistent copy beside the file, taken through SQLite itself."""
    target = database.with_name(f"{database.name}.before-{HEAD}-from-{revision}")
    source, copy = sqlite3.connect(database), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
