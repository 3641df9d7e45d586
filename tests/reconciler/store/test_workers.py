"""Rows of `workers`, on a real PostgreSQL: seen by its clock, given up only when not seen again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, create_engine, text

from reconciler.store import workers
from reconciler.store.workers import Worker
from tests import databases

A = Worker("aa", "worker", "build1", ("local", "gpu"), "age1a", "boot1", "0.1", lease_seconds=10.0)
B = Worker("bb", "daemon", "head", ("*",), "age1b", "boot2", "0.1", address="http://10.0.0.1:8080")


@pytest.fixture
def connection():
    """One transaction on a new database."""
    engine = create_engine(databases.internal(databases.new_postgresql()))
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def _age(connection: Connection, worker: str, seconds: float) -> None:
    """As if it had been seen last so long ago."""
    query = "UPDATE workers SET seen_at = seen_at - :by WHERE id = :of"
    connection.execute(text(query), {"by": int(seconds * 1_000_000), "of": worker})


def test_what_is_told_is_found_again(connection: Connection) -> None:
    """Daemons first; each with the executors that it serves and how its claims are signed."""
    workers.register(connection, A)
    workers.register(connection, B)
    first, second = workers.find_all(connection)
    assert (first.id, first.address, first.serves("Executor/anything")) == (
        "bb",
        "http://10.0.0.1:8080",
        True,
    )
    assert [second.serves(f"Executor/{name}") for name in ("local", "gpu", "other")] == [True, True, False]
    assert (first.signature, second.signature) == ("embedded@bb@boot2", "worker@aa@boot1")
    assert second.started_at == second.seen_at


def test_one_leads(connection: Connection) -> None:
    """Whoever began to lead last."""
    workers.register(connection, B)
    workers.register(connection, replace(B, id="cc"))
    assert workers.leader(connection) is None
    for each in ("bb", "cc"):
        workers.lead(connection, each)
        found = workers.leader(connection)
        assert found is not None and found.id == each


def _find(connection: Connection, worker: str) -> Worker:
    found = workers.find(connection, worker)
    assert found is not None
    return found


def test_it_is_given_up_once_and_only_as_it_was_read(connection: Connection) -> None:
    """One that was seen meanwhile is there."""
    workers.register(connection, A)
    before = _find(connection, "aa")
    assert workers.beat(connection, "aa", {})
    assert not workers.lose(connection, before)
    now = _find(connection, "aa")
    assert workers.lose(connection, now)
    assert _find(connection, "aa").lost_at is not None
    assert not workers.lose(connection, now)  # it is already
    workers.register(connection, B)
    assert workers.lost(connection, {"aa", "bb", "unknown"}) == {"aa", "unknown"}
    assert workers.lost(connection, ()) == set()


def test_a_beat_brings_it_back(connection: Connection) -> None:
    """With what it tells of itself; one that is not known has to register."""
    workers.register(connection, A)
    _age(connection, "aa", 60)
    assert workers.lose(connection, _find(connection, "aa"))
    assert workers.beat(connection, "aa", {"closed": ["DiskFull", "no room"]})
    (found,) = workers.find_all(connection)
    assert found.lost_at is None
    assert found.facts == {"closed": ["DiskFull", "no room"]}
    assert found.age < 30
    workers.leave(connection, "aa")
    assert not workers.beat(connection, "aa", {})


def test_those_of_long_ago_are_forgotten(connection: Connection) -> None:
    """They will not come back."""
    workers.register(connection, A)
    workers.register(connection, B)
    _age(connection, "aa", 8 * 86_400)
    assert workers.forget(connection, 7) == ["aa"]
    assert [each.id for each in workers.find_all(connection)] == ["bb"]
