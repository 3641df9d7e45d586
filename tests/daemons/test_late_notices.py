"""A daemon whose lead was taken away, and which has not found out yet; two of them in this process, on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from reconciler import election
from reconciler.daemon import Daemon
from reconciler.store import chain, ownership
from tests import databases
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

OTHER = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: other}\n"


def _end_leaders_session(url: str) -> None:
    engine = create_engine(databases.internal(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database "
        "WHERE locktype = 'advisory' AND objid = :key AND datname = current_database()"
    )
    with engine.connect() as connection:
        assert connection.execute(text(query), {"key": ownership._LEAD}).scalars().all() == [True]


def test_what_was_committed_before_it_knew_that_it_leads_no_more_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot has it, though nothing is committed afterwards, and nobody tells it again."""
    monkeypatch.setattr(election, "PING", 3600.0)
    url = databases.new_postgresql()
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    key = tmp_path / "server.key"

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "one", database=url, key_file=key)) as one:
            first = one.installation
            async with Daemon(settings_for(repo, tmp_path / "two", database=url, key_file=key)) as two:
                second = two.installation
                await asyncio.to_thread(_end_leaders_session, url)
                await eventually(lambda: second.standing.leads)
                repo.commit({"other.yaml": OTHER})
                await second.run_now("source")
                assert "Project/other" in second.snapshot.current.resources
            last = await first.database.read(chain.version)
            await eventually(lambda: first.database.version >= last)
            assert first.standing.leads  # as far as it knows
            await one._lost()
            await first.database.follow()
            await eventually(lambda: "Project/other" in first.snapshot.current.resources)
            assert first.version == last

    asyncio.run(asyncio.wait_for(work(), 90))
