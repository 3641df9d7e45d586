"""Where lines of a log are: however it is cut into blocks and scripts, lines and offsets fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from reconciler.queries import log_index
from reconciler.queries.log_index import Place
from reconciler.queries.logs import Part, Text
from reconciler.store.jobs import LogScript

_SCRIPT = LogScript("id", "task", 1, "run", "run", None, None, None, True, None)
PIECES = st.lists(st.tuples(st.sampled_from([b"", b"==> x <==\n"]), st.binary(max_size=30)), max_size=4)
LOGS = PIECES.map(
    lambda pieces: [(head, log.replace(b"a", b"\n").replace(b"\0", b"\n")) for head, log in pieces]
)


def laid_out(folder: Path, pieces: list[tuple[bytes, bytes]]) -> tuple[Text, bytes]:
    """A text of scripts, and what it says."""
    parts: list[Part] = []
    whole = b""
    for number, (head, log) in enumerate(pieces):
        place = folder / str(number)
        place.mkdir()
        (place / "log").write_bytes(log)
        parts.append(Part(_SCRIPT, place, head, len(whole), len(log)))
        whole += head + log
    return Text(tuple(parts), True), whole


def begins(whole: bytes) -> Iterator[int]:
    """Where lines begin."""
    yield 0
    for offset, byte in enumerate(whole):
        if byte == 10 and offset + 1 < len(whole):
            yield offset + 1


@given(pieces=LOGS, block=st.integers(1, 9))
def test_lines_and_offsets_fit(pieces: list[tuple[bytes, bytes]], block: int) -> None:
    """Each line is found by its number and by every offset since the line before."""
    with TemporaryDirectory() as folder, patch.object(log_index, "_BLOCK", block):
        text, whole = laid_out(Path(folder), pieces)
        lines = list(begins(whole))
        for number in range(1, len(lines) + 3):
            last = min(number, len(lines))
            assert log_index._at_line(text, number) == Place(last, lines[last - 1])
        for offset in range(len(whole) + 1):
            number = next((n for n, begin in enumerate(lines, 1) if begin >= offset), None)
            found = log_index._at_offset(text, offset)
            if number is not None:
                assert found == Place(number, lines[number - 1])
            else:
                assert found.offset == len(whole)
