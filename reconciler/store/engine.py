"""Engines for a database URL: the one place that knows what can be wrong with the URL itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from reconciler.errors import Stalled


def open_engine(url: str, **options: Any) -> Engine:
    """As `create_engine`, which does not connect yet. `Stalled` for a URL that cannot be read."""
    try:
        return create_engine(url, **options)
    except ModuleNotFoundError as error:
        raise Stalled(
            "DriverMissing",
            f"{error.name} is not installed: install steersman with its extra, steersman[postgres]",
        ) from error
    except (ArgumentError, ValueError) as error:
        raise Stalled(
            "DatabaseAddress",
            "the database's address cannot be read: write it as postgresql://NAME:PASSWORD@HOST:5432/DATABASE, "
            "with %40 for an @ in the password",
        ) from error


def open_whole(url: str) -> Engine:
    """The same with transactions over all tables: SQLite's driver would commit each new one by itself."""
    if not is_sqlite(url):
        return open_engine(url)
    engine = open_engine(url, connect_args={"timeout": 5, "isolation_level": None})
    event.listen(engine, "begin", _begin)
    return engine


def lively(url: str) -> dict[str, int]:
    """Arguments of PostgreSQL's driver by which a dead server is noticed within seconds; the URL's own win."""
    wanted = {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 8_000,
    }
    return {name: value for name, value in wanted.items() if name not in make_url(url).query}


def is_sqlite(url: str) -> bool:
    """SQLite, as against PostgreSQL."""
    return url.startswith("sqlite")


def conninfo(url: str) -> str:
    """A PostgreSQL URL as libpq takes it, lively."""
    more = {name: str(value) for name, value in lively(url).items()}
    found = make_url(url).set(drivername="postgresql").update_query_dict(more)
    return found.render_as_string(hide_password=False)


def file_of(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(str(make_url(url).database))


def shown(url: str) -> str:
    """For people and logs: without the password."""
    parts = make_url(url)
    if is_sqlite(url):
        return str(parts.database)
    return parts.set(drivername="postgresql").render_as_string(hide_password=True)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
