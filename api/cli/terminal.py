"""Logs on a terminal: colours pass, all else by which a script could steer the terminal does not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
_STEERING = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # cursor, screen, modes
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links, the clipboard
    rb"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    rb"|\xc2[\x80-\x9f]|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
)
_ALONE = re.compile(rb"\x1b(?!\[[0-9;:]*m)")  # also where what was taken out has brought two pieces together
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z|\xc2\Z")
_LONGEST = 8192


class Harmless:
    """Bytes as they come in, and what of them a terminal may be shown; what is not whole yet waits."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The next ones."""
        whole = self._held + chunk
        begun = _BEGUN.search(whole)
        at = begun.start() if begun and len(whole) - begun.start() < _LONGEST else len(whole)
        self._held = whole[at:]
        return _ALONE.sub(b"", _STEERING.sub(_judged, whole[:at]))


def harmless(text: str) -> str:
    """A text that is whole; a sequence that it breaks off is left out, and what it has coloured is not what follows."""
    found = Harmless().feed(text.encode()).decode("utf-8", "replace")
    return found + "\x1b[0m" if "\x1b" in found else found


def _judged(found: re.Match[bytes]) -> bytes:
    return found[0] if _COLOUR.fullmatch(found[0]) else b""


def shown(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same, made harmless where they go to a terminal; a file or another program gets every byte."""
    if not sys.stdout.isatty():
        yield from chunks
        return
    harmless = Harmless()
    for chunk in chunks:
        yield harmless.feed(chunk)
