"""The failing network of tests does to real sockets, and to PostgreSQL's clients, what it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from tests import databases
from tests.network import Link, to_database

SHORT = 0.3  # seconds in which nothing comes


@pytest.fixture
def link() -> Iterator[Link]:
    """To somebody who says all again."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def repeat(peer: socket.socket) -> None:
            with peer, suppress(OSError):  # a reset is meant
                while said := peer.recv(1 << 16):
                    peer.sendall(said)

        def take() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=repeat, args=(peer,), daemon=True).start()

        thread = threading.Thread(target=take)
        thread.start()
        with Link(listening.getsockname()) as made:
            yield made
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def dial(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=30)


def said(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size and (more := connection.recv(1 << 16)):
        found += more
    return found


def is_silent(connection: socket.socket) -> bool:
    """Nothing comes, and it is not closed."""
    connection.settimeout(SHORT)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(30)
    return False


def test_all_bytes_go_both_ways_and_an_end_is_passed_on(link: Link) -> None:
    whole = bytes(range(256)) * 8192
    with dial(link) as one:
        threading.Thread(target=lambda: (one.sendall(whole), one.shutdown(socket.SHUT_WR))).start()
        assert said(one, len(whole)) == whole
        assert one.recv(1) == b""


def test_a_delay_is_that_of_each_way(link: Link) -> None:
    """It does not hold up what comes behind, and ends with `heal`."""
    with dial(link) as one:
        for there, back in ((0.4, 0.0), (0.0, 0.4), (0.3, 0.3)):
            link.delay(there, back)
            begun = time.monotonic()
            one.sendall(b"a")
            time.sleep(SHORT / 3)
            one.sendall(b"b")
            assert said(one, 2) == b"ab"
            assert time.monotonic() - begun >= there + back
        link.delay(3600, 0)
        one.sendall(b"late")
        assert is_silent(one)
    link.heal()
    with dial(link) as other:
        other.sendall(b"c")
        assert said(other, 1) == b"c"


def test_what_is_dropped_is_gone_and_nobody_is_told(link: Link) -> None:
    """Who sent nothing meanwhile goes on afterwards; who did never hears again."""
    with dial(link) as quiet, dial(link) as talking:
        for each in (quiet, talking):
            each.sendall(b"x")
            assert said(each, 1) == b"x"
        link.drop()
        talking.sendall(b"lost")
        with dial(link) as new:
            new.sendall(b"lost")
            assert is_silent(talking)
            assert is_silent(new)
            link.heal()
            talking.sendall(b"more")
            new.sendall(b"more")
            assert is_silent(talking)
            assert is_silent(new)
        quiet.sendall(b"y")
        assert said(quiet, 1) == b"y"
        with dial(link) as later:
            later.sendall(b"z")
            assert said(later, 1) == b"z"


def test_what_is_held_comes_later_whole_and_in_order(link: Link) -> None:
    with dial(link) as one:
        link.hold()
        one.sendall(b"first ")
        with dial(link) as new:
            new.sendall(b"new")
            assert is_silent(one)
            one.sendall(b"second")
            assert is_silent(new)
            link.heal()
            assert said(one, 12) == b"first second"
            assert said(new, 3) == b"new"


@pytest.mark.parametrize("before", ["", "drop", "hold"])
def test_a_cut_resets_and_refuses(link: Link, before: str) -> None:
    """Whatever it was before; the port is the same afterwards."""
    with dial(link) as one:
        one.sendall(b"x")
        assert said(one, 1) == b"x"
        if before:
            getattr(link, before)()
            one.sendall(b"y")
            assert is_silent(one)
        for _ in range(2):
            link.cut()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        with pytest.raises(ConnectionRefusedError):
            dial(link)
        link.heal()
        with dial(link) as other:
            other.sendall(b"z")
            assert said(other, 1) == b"z"


def test_postgresql_is_reached_by_it() -> None:
    """A client whose server is behind it waits, is reset, and is served again."""
    link, url = to_database(databases.new_postgresql())
    with link:
        name = url.replace("+psycopg", "")
        with closing(psycopg.connect(name, autocommit=True)) as one:
            assert one.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
            pid = one.info.backend_pid
            link.drop()
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                psycopg.connect(name, connect_timeout=2)
            link.cut()
            with pytest.raises(psycopg.OperationalError):
                one.execute("SELECT 1")
            with pytest.raises(psycopg.OperationalError, match="refused"):
                psycopg.connect(name)
            link.heal()
            with closing(psycopg.connect(name)) as other:
                assert other.execute("SELECT 1").fetchone() == (1,)
                assert other.info.backend_pid != pid
