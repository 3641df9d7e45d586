"""Statements of the hot paths, compiled once for each kind of database and run by its driver (design 12: speed).

SQLAlchemy's own way to a row costs ten times what SQLite needs for it, and a job is thirty statements. What is
declared, the dialects and the types stay SQLAlchemy's; only the way from the values to the driver is shorter.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

Statement = Select[Any] | Insert | Update | Delete


class Prepared:
    """One statement. Values that it does not have itself are given by the names of its `bindparam`s.

    What was compiled for one database of a kind serves all of that kind: `database.connect` opens them alike.
    """

    def __init__(self, statement: Statement, columns: Sequence[str] | None = None) -> None:
        """`columns`: those that an insert or update is given values for by their own names."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Every row, with its columns as attributes."""
        return self._for(connection.dialect).rows(connection, values)

    def one_or_none(self, connection: Connection, **values: Any) -> Any:
        """The row, if there is one; there are never more."""
        found = self.all(connection, **values)
        return found[0] if found else None

    def run(self, connection: Connection, **values: Any) -> int:
        """Carry it out; how many rows it changed."""
        return self._for(connection.dialect).run(connection, [values])

    def run_many(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> int:
        """Once for each; how many rows that changed."""
        return self._for(connection.dialect).run(connection, values)

    def _for(self, dialect: Dialect) -> _Compiled:
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = _Compiled(self._statement, dialect, self._columns)
        return found


class _Compiled:
    """The text for one kind of database, and what turns values into its and back."""

    def __init__(self, statement: Statement, dialect: Dialect, given: Sequence[str] | None) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=given)
        self._text = str(compiled)
        self._names = frozenset(compiled.binds)
        self._order: Sequence[str] | None = compiled.positiontup
        self._to: dict[str, Callable[[Any], Any]] = {
            name: process
            for name, bind in compiled.binds.items()
            if (process := _implementation(bind.type, dialect).bind_processor(dialect)) is not None
        }
        self._own = {
            name: self._given(name, bind.value) for name, bind in compiled.binds.items() if not bind.required
        }
        columns = list(statement.exported_columns)
        make: Any = namedtuple
        self._row = make("Row", [column.name for column in columns])
        self._from: list[tuple[int, Callable[[Any], Any]]] = [
            (place, process)
            for place, column in enumerate(columns)
            if (process := _implementation(column.type, dialect).result_processor(dialect, None)) is not None
        ]

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        with self._executed(connection, [values]) as cursor:
            found = cursor.fetchall()
        if not self._from:
            return [self._row._make(row) for row in found]
        return [self._row._make(self._taken(row)) for row in found]

    def run(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> int:
        with self._executed(connection, values) as cursor:
            count: int = cursor.rowcount
        return count

    def _taken(self, row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for place, process in self._from:
            values[place] = process(values[place])
        return values

    def _given(self, name: str, value: Any) -> Any:
        process = self._to.get(name)
        return value if process is None else process(value)

    def _parameters(self, values: Mapping[str, Any]) -> Any:
        """As the driver takes them; KeyError for one that is missing, or that the statement does not know."""
        given = {name: self._given(name, value) for name, value in values.items()}
        every = {**self._own, **given}
        if every.keys() != self._names:
            raise KeyError(*sorted(every.keys() ^ self._names))
        return every if self._order is None else [every[name] for name in self._order]

    @contextmanager
    def _executed(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
        """The cursor on which it was carried out; errors of the driver as SQLAlchemy tells them."""
        parameters = [self._parameters(item) for item in values]
        cursor = None
        try:
            cursor = connection.connection.cursor()
            if len(parameters) == 1:
                cursor.execute(self._text, parameters[0])
            else:
                cursor.executemany(self._text, parameters)
            yield cursor
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            raise _explained(connection, cursor, self._text, error) from error


def _implementation(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return type_.dialect_impl(dialect)


def _explained(connection: Connection, cursor: Any, text: str, error: Any) -> BaseException:
    """As SQLAlchemy tells it; a connection that is gone is given up."""
    dialect = connection.dialect
    gone = dialect.is_disconnect(error, connection.connection, cursor)
    told: BaseException = DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=gone,
        dialect=dialect,
    )
    if gone:
        connection.invalidate(error)
    return told
