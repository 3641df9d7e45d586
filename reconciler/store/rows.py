"""What every table needs: bulk upserts that both databases understand, and new identifiers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

# Both databases bound the number of parameters of one statement.
_CHUNK_PARAMETERS = 30_000


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str]
) -> None:
    """Insert rows, or replace all other columns where the key exists. All rows have the same columns."""
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    others = [name for name in rows[0] if name not in key]
    size = max(1, _CHUNK_PARAMETERS // len(rows[0]))
    statement = insert(table)
    if others:
        changes = {name: statement.excluded[name] for name in others}
        statement = statement.on_conflict_do_update(index_elements=list(key), set_=changes)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(key))
    for start in range(0, len(rows), size):
        connection.execute(statement, list(rows[start : start + size]))


_IDS = Lock()
_last = [0]


def new_id() -> str:
    """A UUIDv7: unique, and ascending. Milliseconds, 12 bits of their fraction, and never below the one before."""
    millis, rest = divmod(time.time_ns(), 1_000_000)
    with _IDS:
        tick = max(millis << 12 | rest * 4096 // 1_000_000, _last[0] + 1)
        _last[0] = tick
    value = (
        (tick >> 12 & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (tick & 0xFFF) << 64
        | 0b10 << 62
        | int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    )
    return str(UUID(int=value))
