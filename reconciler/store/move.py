"""Copies a whole store into another, empty database: SQLite to PostgreSQL, and the other way for a backup.

All tables in one transaction on the target, read from one moment of the source. Values go over as they are stored, so
that nothing is read in another way on the way; counts and the chain of events are compared before it is committed. Who
calls it holds the locks (`reconciler.store.ownership`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    inspect,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError

from reconciler.errors import Stalled
from reconciler.store import chain, events, migrate, ownership
from reconciler.store.engine import file_of, is_sqlite, open_whole, shown
from reconciler.store.tables import Instant, meta, metadata

_ROWS = 500
Tell = Callable[[str, int, int], None]
"""Of a table: how many of its rows are over, and how many there are."""


def move(source: str, target: str, tell: Tell = lambda *_: None) -> Mapping[str, int]:
    """Copy it, with no daemon at work on either; rows by table. `Stalled` with a sentence, and nothing is changed."""
    if source == target:
        raise Stalled("SameDatabase", f"{shown(target)} is where it is already")
    _is_there(source)
    held = ownership.take(source)
    try:
        other = ownership.take(target)
        try:
            return copy(source, target, tell)
        finally:
            other.close()
    finally:
        held.close()


def look(source: str, target: str) -> Mapping[str, int]:
    """What `move` would copy: rows by table. It changes nothing, and refuses what `move` would, but for a daemon."""
    _is_there(source)
    with _explained(), _connected(source) as old:
        _same_version(old, source)
        counts = _counts(old)
        if not is_sqlite(target):
            with _connected(target) as new:
                _empty(new, target)
    return counts


def copy(source: str, target: str, tell: Tell = lambda *_: None) -> Mapping[str, int]:
    """The same without the locks: a backup is taken while the daemon works."""
    with _explained(), _connected(source) as old, _connected(target, write=True) as new:
        _same_version(old, source)
        _empty(new, target)
        migrate.upgrade(new)
        new.execute(meta.delete())
        counts = _counts(old)
        for table in metadata.sorted_tables:
            with _explained(f"table {table.name}: "):
                _copy_table(old, new, table, counts[table.name], tell)
        _verify(old, new, counts)
        new.commit()
    return counts


def _is_there(source: str) -> None:
    if is_sqlite(source) and not file_of(source).is_file():
        raise Stalled("NoDatabase", f"there is no database {shown(source)}; name it with --from or --data")


@contextmanager
def _connected(url: str, *, write: bool = False) -> Iterator[Connection]:
    """One transaction, which sees one moment; only `commit` makes it last."""
    engine = open_whole(url)
    if not is_sqlite(url) and not write:
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    try:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            raise Stalled("DatabaseUnavailable", f"{shown(url)} cannot be opened: {_told(error)}") from error
        with connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _explained(where: str = "") -> Iterator[None]:
    """A database's error as a sentence, without the values."""
    try:
        yield
    except (DBAPIError, UnicodeError) as error:
        raise Stalled(
            "NotCopied", f"the database was not copied, nothing was changed: {where}{_told(error)}"
        ) from error


def _same_version(old: Connection, source: str) -> None:
    found = migrate.revision(old)
    if found is None:
        raise Stalled("NoDatabase", f"{shown(source)} holds no store of Steersman")
    if found != migrate.HEAD:
        raise Stalled(
            "MigrationNeeded",
            f"{shown(source)} is at revision {found}, this version knows {migrate.HEAD}; run `steersman migrate` first",
        )


def _empty(new: Connection, target: str) -> None:
    """No tables of ours, or those that `steersman migrate` has just made."""
    there = [name for name in metadata.tables if inspect(new).has_table(name)]
    if not there:
        return
    used = migrate.revision(new) != migrate.HEAD or any(
        count > (1 if name == meta.name else 0) for name, count in _counts(new).items()
    )
    if used or chain.version(new):
        raise Stalled(
            "TargetNotEmpty", f"{shown(target)} is not empty; make a new database, and name that one"
        )


def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def _copy_table(old: Connection, new: Connection, table: Table, count: int, tell: Tell) -> None:
    rows = old.execute(
        select(*(_read(old, column) for column in table.columns)),
        execution_options={"yield_per": _ROWS},
    )
    # by number: some columns are called like what a statement has itself
    values = {column.name: _written(new, column, f"v{i}") for i, column in enumerate(table.columns)}
    statement = insert(table).values(values)
    done = 0
    for part in rows.partitions():
        new.execute(statement, [{f"v{i}": value for i, value in enumerate(row)} for row in part])
        done += len(part)
        tell(table.name, done, count)


def _read(connection: Connection, column: Column[Any]) -> Any:
    """As it is stored: JSON as its text, where None is not `null`; moments as numbers."""
    if isinstance(column.type, JSON):
        plain = type_coerce(column, Text) if connection.dialect.name == "sqlite" else cast(column, Text)
        return plain.label(column.name)
    return type_coerce(column, BigInteger).label(column.name) if isinstance(column.type, Instant) else column


def _written(connection: Connection, column: Column[Any], name: str) -> Any:
    if isinstance(column.type, JSON):
        value = bindparam(name, type_=Text)
        return value if connection.dialect.name == "sqlite" else cast(value, column.type)
    return bindparam(name, type_=BigInteger() if isinstance(column.type, Instant) else column.type)


def _verify(old: Connection, new: Connection, counts: Mapping[str, int]) -> None:
    """As many rows, and a chain that is as sound as it was."""
    found = _counts(new)
    wrong = [name for name, count in counts.items() if found[name] != count]
    if wrong:
        raise Stalled(
            "NotCopied", f"the copy has other numbers of rows in {', '.join(wrong)}; nothing was changed"
        )
    verdict = events.verify(new)
    if verdict[1] is not None and verdict != events.verify(old):
        raise Stalled(
            "NotCopied", f"the event log was not copied as it is: {verdict[1]}; nothing was changed"
        )


def _told(error: Exception) -> str:
    """The driver's words, without the values."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]
