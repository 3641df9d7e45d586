"""Opening and closing an installation: the administrator's token, what is kept, what is refused."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from reconciler.access import EVERYTHING, Caller
from reconciler.commands import sync
from reconciler.commands import tokens as commands
from reconciler.errors import Conflict
from reconciler.model.rights import Level
from reconciler.queries import tokens
from reconciler.store import events
from tests.support import PROJECT, SpecRepository, daemon, settings_for

ALICE = Caller("User/alice", EVERYTHING)


def specs(tmp_path: Path) -> SpecRepository:
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    return repo


def test_the_first_start_makes_a_token_and_shows_it_once(tmp_path: Path) -> None:
    """In a file that only its owner reads; the second start keeps it."""
    repo, data = specs(tmp_path), tmp_path / "data"

    async def run() -> tuple[str | None, bool]:
        async with daemon(settings_for(repo, data)) as running:
            secret = (data / "admin.token").read_text().strip()
            found = await tokens.find(running.installation, secret)
            assert found is not None
            assert (found.subject, found.level, found.expires) == ("User/admin", Level.OWNER, None)
            return running.first_token, running.first_token == secret

    assert asyncio.run(run())[1]
    assert stat.S_IMODE((data / "admin.token").stat().st_mode) == 0o600
    assert asyncio.run(run()) == (None, False)


def test_a_revoked_administrators_token_does_not_come_back(tmp_path: Path) -> None:
    """The next start makes a new one."""
    repo, data = specs(tmp_path), tmp_path / "data"

    async def revoke() -> str:
        async with daemon(settings_for(repo, data)) as running:
            secret = (data / "admin.token").read_text().strip()
            found = await tokens.find(running.installation, secret)
            assert found is not None
            await commands.revoke(running.installation, ALICE, found.id)
            return secret

    async def again(old: str) -> None:
        async with daemon(settings_for(repo, data)) as running:
            secret = (data / "admin.token").read_text().strip()
            assert secret != old
            assert running.first_token == secret
            found = await tokens.find(running.installation, old)
            assert found is not None
            assert not found.valid(running.installation.now())

    asyncio.run(again(asyncio.run(revoke())))


def test_a_given_token_takes_the_place_of_the_kept_one(tmp_path: Path) -> None:
    """STEERSMAN_ADMIN_TOKEN wins, is not printed, and can go back to an earlier one."""
    repo, data = specs(tmp_path), tmp_path / "data"

    async def run(given: str) -> None:
        async with daemon(settings_for(repo, data, admin_token=SecretStr(given))) as running:
            assert running.first_token is None
            assert (data / "admin.token").read_text().strip() == given
            valid = []
            for secret in ("first-token", "second-token"):
                found = await tokens.find(running.installation, secret)
                valid += [secret] if found is not None and found.valid(running.installation.now()) else []
            assert valid == [given]

    for given in ("first-token", "second-token", "first-token"):
        asyncio.run(run(given))


def test_sync_tells_what_it_did_and_then_nothing(tmp_path: Path) -> None:
    """What was applied since it was asked; a settled source has nothing to do."""
    repo = specs(tmp_path)

    async def run() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            done, answer = await sync.sync(running.installation, ALICE, None, 10)
            assert (done, answer["actions"]) == (True, [])
            assert answer["revision"] == repo.head()
            with pytest.raises(Conflict):
                await sync.sync(running.installation, ALICE, "nothing-waits", 10)

    asyncio.run(run())


def test_a_restart_at_the_same_revision_changes_nothing(tmp_path: Path) -> None:
    """No event, no new version of any resource."""
    repo = specs(tmp_path)

    async def run() -> tuple[object, ...]:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            await running.loop.idle()
            found = running.installation.snapshot.current.resources["Project/shop"]
            return found, await running.installation.database.read(events.last)

    first = asyncio.run(run())
    assert asyncio.run(run()) == first
