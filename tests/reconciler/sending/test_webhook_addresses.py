"""Which addresses are public, in each form that one inside can be written; and which of several is used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import sealing
from reconciler.errors import Refused, Transient
from reconciler.sending import webhook
from tests.receiver import Receiver

INSIDE = [
    "127.0.0.1",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1%eth0",
    "fec0::1",
    "fd00::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
PUBLIC = ["8.8.8.8", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_inside_address_is_known_in_each_form(address: str) -> None:
    """Also within one of IPv6 that carries it."""
    assert not webhook.public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_let_through(address: str) -> None:
    """Also where one of IPv4 goes by a translator."""
    assert webhook.public(address)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def _posted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: list[str], port: int, **more: Any
) -> int:
    """To a name that stands for these addresses."""
    sealing.make(tmp_path / "server.key")
    keys = sealing.load(tmp_path / "server.key")

    async def go() -> int:
        async def resolved(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        status, _ = await webhook.post(keys, f"http://many.example:{port}/hook", b"{}", **more)
        return status

    return asyncio.run(go())


def test_the_next_address_is_tried_where_the_first_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """As one of a name's hosts may be down."""
    found = _posted(tmp_path, monkeypatch, ["127.0.0.9", "127.0.0.1"], receiver.port, private=True)
    assert (found, len(receiver.got)) == (200, 1)


def test_it_fails_where_none_of_them_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """And says so."""
    with pytest.raises(Transient, match="could not be reached"):
        _posted(tmp_path, monkeypatch, ["127.0.0.9", "127.0.0.8"], receiver.port, private=True)


def test_one_inside_address_among_public_ones_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """Before any of them is connected to."""
    with pytest.raises(Refused, match=r"many\.example is 127\.0\.0\.1, which is no public address"):
        _posted(tmp_path, monkeypatch, ["8.8.8.8", "127.0.0.1"], receiver.port, private=False)
    assert receiver.got == []
