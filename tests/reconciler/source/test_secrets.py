"""Secrets of repositories: opened when needed, refused with their KEY, lent as a file that is nowhere."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from pyrage.x25519 import Identity

from reconciler.errors import Stalled
from reconciler.model.resource import Resource
from reconciler.sealing import Keys, seal
from reconciler.source.secrets import SSH_KEY, VALUE, PrivateKey, opened

KEY = "Secret/shop/_/git-key"
KEYS = Keys((Identity.generate(),))


class Declared:
    """As much of a resource as is looked at."""

    def __init__(self, spec: dict[str, Any] | None) -> None:
        self.spec = spec


def content(spec: dict[str, Any] | None, kind: str = SSH_KEY, *, there: bool = True) -> bytes:
    found = {KEY: cast("Resource", Declared(spec))} if there else {}
    return opened(KEYS, found.get, KEY, kind)


def sealed(value: bytes, key: str = KEY, keys: Keys = KEYS) -> str:
    return seal(value, keys.recipient, key)


def test_a_secret_of_the_type_is_opened() -> None:
    """Both types that a Repository names."""
    assert content({"type": "ssh_key", "sealed": sealed(b"private")}) == b"private"
    assert content({"type": "value", "sealed": sealed(b"hook")}, VALUE) == b"hook"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, "was never valid"),
        ({"type": "value", "sealed": sealed(b"hush")}, "is of the type value, and not ssh_key"),
        ({"type": "ssh_key", "sealed": sealed(b"hush", "Secret/other/_/k")}, "was sealed for another KEY"),
        (
            {"type": "ssh_key", "sealed": sealed(b"hush", keys=Keys((Identity.generate(),)))},
            "sealed to another key than this server's",
        ),
        ({"type": "ssh_key", "sealed": "bm90aGluZw=="}, "is damaged"),
    ],
)
def test_one_that_cannot_be_used_is_told_by_its_key(spec: dict[str, Any] | None, words: str) -> None:
    """A sentence for people, without anything of its content."""
    with pytest.raises(Stalled, match=words) as caught:
        content(spec)
    assert caught.value.reason == "SecretUnusable"
    assert KEY in caught.value.message
    assert "hush" not in caught.value.message


def test_one_that_is_not_declared_is_told_by_its_key() -> None:
    """Also where it is gone since."""
    with pytest.raises(Stalled, match=f"there is no {KEY}"):
        content(None, there=False)


def test_a_lent_key_is_for_its_owner_and_gone_afterwards() -> None:
    """Mode 0600, no name in any folder, a line end added where there is none."""
    with PrivateKey(KEY, lambda key: f"key of {key}".encode()).lent() as path:
        assert path.read_bytes() == f"key of {KEY}\n".encode()
        assert path.read_bytes().endswith(b"\n")  # it can be read again
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_nlink == 0
    assert not path.exists()


def test_openssh_takes_a_lent_key(tmp_path: Path) -> None:
    """With the same checks as ssh: a file that others can read is refused."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    private = (tmp_path / "id").read_bytes().rstrip(b"\n")
    public = (tmp_path / "id.pub").read_text().split()[:2]
    with PrivateKey(KEY, lambda _: private).lent() as path:
        told = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True)
    assert told.stdout.split()[:2] == public


def test_a_key_that_cannot_be_opened_is_not_lent() -> None:
    """The error of opening is the error of lending."""

    def refuse(key: str) -> bytes:
        raise Stalled("SecretUnusable", f"there is no {key}")

    with pytest.raises(Stalled, match=f"there is no {KEY}"), PrivateKey(KEY, refuse).lent():
        raise AssertionError("lent")


def test_a_private_key_shows_no_more_than_its_key() -> None:
    """Where it is printed by chance."""
    assert repr(PrivateKey(KEY, lambda _: b"")) == f"PrivateKey(key={KEY!r})"
