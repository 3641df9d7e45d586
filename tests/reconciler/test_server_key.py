"""The server's key at a start: made once, belonging to its store, never replaced by accident."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyrage.x25519 import Identity

from reconciler.daemon import Daemon
from reconciler.errors import Stalled
from reconciler.sealing import Keys, seal
from tests.conftest import NewDatabase
from tests.support import PROJECT, SpecRepository, settings_for

Start = Callable[..., Keys]
KEY = "Secret/_/_/x"


@pytest.fixture
def begin(tmp_path: Path, new_database: NewDatabase) -> Start:
    """Start a daemon and stop it; its keys."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    database = new_database()

    def once(**settings: Any) -> Keys:
        async def run() -> Keys:
            async with Daemon(
                settings_for(repo, tmp_path / "data", database=database, **settings)
            ) as running:
                return running.installation.keys

        return asyncio.run(run())

    return once


def refused(begin: Start, reason: str, **settings: Any) -> str:
    """The sentence of a start that is refused."""
    with pytest.raises(Stalled) as caught:
        begin(**settings)
    assert caught.value.reason == reason
    return caught.value.message


def write(path: Path, *identities: Identity) -> None:
    path.write_text("".join(f"{identity}\n" for identity in identities))
    path.chmod(0o600)


def test_the_first_start_makes_a_key_and_later_ones_keep_it(begin: Start, tmp_path: Path) -> None:
    """In the data directory, for its owner only."""
    first = begin()
    path = tmp_path / "data/server.key"
    assert path.stat().st_mode & 0o777 == 0o600
    sealed = seal(b"value", first.recipient, KEY)
    assert begin().open(sealed, KEY) == b"value"


def test_a_key_that_is_not_the_store_s_is_refused(begin: Start, tmp_path: Path) -> None:
    """Also a missing one, which is not made anew; the sentence says what to do."""
    begin()
    path = tmp_path / "data/server.key"
    kept = path.read_bytes()
    path.unlink()
    message = refused(begin, "KeyMissing")
    assert "Put the right key file there" in message
    assert not path.exists()
    write(path, Identity.generate())
    message = refused(begin, "KeyMismatch")
    assert f"the key file {path} is not the key of this store" in message
    assert "STEERSMAN_ACCEPT_KEY=1" in message
    path.write_bytes(kept)
    begin()


def test_a_lost_key_can_be_replaced_on_an_explicit_word(begin: Start, tmp_path: Path) -> None:
    """From then on the new one is the store's."""
    old = begin()
    path = tmp_path / "data/server.key"
    path.unlink()
    new = begin(accept_key=True)
    assert new.recipient != old.recipient
    assert begin().recipient == new.recipient
    assert refused(begin, "KeyMissing", key_file=tmp_path / "other.key")


def test_a_new_key_is_put_in_front_and_the_old_one_taken_away_later(begin: Start, tmp_path: Path) -> None:
    """Rotation: no start of it is refused, and what is sealed to the new one is not lost by going back."""
    old, new = begin(), Identity.generate()
    path = tmp_path / "data/server.key"
    write(path, new, *old.identities)
    both = begin()
    assert both.open(seal(b"value", old.recipient, KEY), KEY) == b"value"
    assert both.recipient == str(new.to_public())
    write(path, new)
    begin()
    write(path, *old.identities)
    refused(begin, "KeyMismatch")


def test_a_key_file_elsewhere_is_made_there_and_must_be_private(begin: Start, tmp_path: Path) -> None:
    """As several daemons share it."""
    path = tmp_path / "keys" / "server.key"
    assert "cannot be made" in refused(begin, "KeyFile", key_file=path)
    path.parent.mkdir()
    begin(key_file=path)
    assert not (tmp_path / "data/server.key").exists()
    path.chmod(0o644)
    assert "run `chmod 600" in refused(begin, "KeyFile", key_file=path)
    path.chmod(0o600)
    path.write_text("nothing\n")
    assert "no age identity" in refused(begin, "KeyFile", key_file=path)
