"""Reading logs by offset, live and at the borders of characters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reconciler.execution.logs import CHUNK, Logs, cut
from tests.support import eventually


@pytest.mark.parametrize(
    ("chunk", "length"),
    [
        (b"", 0),
        (b"abc", 3),
        ("aé".encode(), 3),
        ("aé".encode()[:-1], 1),
        ("a€".encode()[:-1], 1),
        ("a€".encode()[:-2], 1),
        ("a😀".encode()[:-1], 1),
        ("a😀".encode()[:-3], 1),
        ("a😀".encode(), 5),
        (b"a\xff", 2),
        (b"a\x80\x80\x80\x80", 5),
        (b"\xc3", 0),
    ],
)
def test_cut_is_after_the_last_whole_character(chunk, length):
    assert length == cut(chunk)


@given(some.text(), some.integers(0, 40))
def test_what_is_cut_off_is_the_beginning_of_one_character(text, end):
    chunk = text.encode()[:end]
    whole = cut(chunk)
    chunk[:whole].decode()
    assert len(chunk) - whole <= 3


@given(some.binary(max_size=20))
def test_cut_never_keeps_back_more_than_three_bytes(chunk):
    assert 0 <= len(chunk) - cut(chunk) <= 3


async def _collect(folder: Path, offset: int, ended: asyncio.Event) -> list[tuple[int, bytes]]:
    return [found async for found in Logs().follow(folder, offset, ended.is_set)]


def test_a_finished_log_is_read_from_any_offset(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")

    async def body() -> None:
        ended = asyncio.Event()
        ended.set()
        assert await _collect(tmp_path, 4, ended) == [(10, b"456789")]
        assert await _collect(tmp_path, 10, ended) == []
        assert await _collect(tmp_path, 99, ended) == []
        assert await Logs().read(tmp_path, 2, 3) == b"234"
        assert await Logs().read(tmp_path, 50, 3) == b""
        assert await Logs().size(tmp_path) == 10

    asyncio.run(body())


def test_a_log_that_is_not_there_yet_is_empty(tmp_path):
    async def body() -> None:
        ended = asyncio.Event()
        ended.set()
        assert await _collect(tmp_path / "none", 0, ended) == []
        assert await Logs().read(tmp_path / "none", 0, 9) == b""

    asyncio.run(body())


def test_large_logs_come_in_chunks_cut_at_characters(tmp_path):
    path = tmp_path / "log"
    content = ("x" + "€" * 100_000).encode()
    path.write_bytes(content)

    async def body() -> None:
        ended = asyncio.Event()
        ended.set()
        found = await _collect(tmp_path, 0, ended)
        assert b"".join(chunk for _, chunk in found) == content
        assert all(len(chunk) <= CHUNK for _, chunk in found)
        for offset, chunk in found:
            assert content[offset - len(chunk) : offset] == chunk
            chunk.decode()

    asyncio.run(body())


def test_an_unfinished_character_waits_for_its_rest_and_comes_at_the_end_anyway(tmp_path):
    path = tmp_path / "log"
    path.write_bytes("a€".encode()[:-1])

    async def body() -> None:
        ended = asyncio.Event()
        stream = Logs().follow(tmp_path, 0, ended.is_set, poll=0.01)
        assert await anext(stream) == (1, b"a")
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not following.done()
        with path.open("ab") as file:
            file.write("€".encode()[-1:] + b"\xe2")
        assert await following == (4, "€".encode())
        ended.set()
        assert await anext(stream) == (5, b"\xe2")
        assert [found async for found in stream] == []

    asyncio.run(body())


def test_a_hundred_readers_see_every_byte_while_it_grows(tmp_path):
    path = tmp_path / "log"

    async def body() -> None:
        ended = asyncio.Event()
        seen = [0] * 100

        async def reader(number: int) -> None:
            async for offset, _ in Logs().follow(tmp_path, 0, ended.is_set):
                seen[number] = offset

        readers = [asyncio.create_task(reader(number)) for number in range(100)]
        with path.open("ab", buffering=0) as file:
            for number in range(1, 6):
                file.write(b"line\n")
                await eventually(lambda now=number * 5: all(offset == now for offset in seen))
        ended.set()
        await asyncio.gather(*readers)
        assert seen == [25] * 100

    asyncio.run(body())
