"""Rows of `failing`: what has failed last, by KEY, act (`model.execution.Type`) and ref, "" where there is none.

A row is made by a failure and goes with the next pass of the same, so that the first pass after a failure is known by
one look. There is none for what passes. Called when a job or a pipeline's run ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete

from reconciler.store.database import Write
from reconciler.store.prepared import Prepared
from reconciler.store.rows import upsert
from reconciler.store.tables import failing

_PASSED = Prepared(
    delete(failing).where(
        failing.c.key == bindparam("of"), failing.c.act == bindparam("does"), failing.c.ref == bindparam("on")
    )
)

_GONE = Prepared(delete(failing).where(failing.c.key == bindparam("of")))


def failed(write: Write, key: str, act: str, ref: str) -> None:
    """It has failed, and maybe has before."""
    upsert(write.connection, failing, [{"key": key, "act": act, "ref": ref}], ("key", "act", "ref"))


def passed(write: Write, key: str, act: str, ref: str) -> bool:
    """It has passed; True: for the first time since it has failed."""
    return _PASSED.run(write.connection, of=key, does=act, on=ref) == 1


def drop(write: Write, keys: Sequence[str]) -> None:
    """Resources that are no more."""
    _GONE.run_many(write.connection, [{"of": key} for key in keys])
