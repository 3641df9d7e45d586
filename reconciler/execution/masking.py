"""Masks secret values in what scripts print, as a stream.

`execution.recorder` gives a `Masker` the values of one script and feeds it the raw output. What comes out depends on
the whole input alone, never on how it was cut: what could be the beginning of a value is held back until it is known,
nothing else. It reads and writes no file, and no value is ever part of an error or of a representation.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

MASK = b"***"
SHORTEST = 4
_ENDS = b"\r\n"
_END = re.compile(rb"[\r\n]")
_HEAD = 8
_WRAPPED = 16  # an encoding of so many characters is found however it is wrapped
_TOGETHER = (
    4  # of which so many stand together at the end of a line: one alone would hold back every other line
)
_WIDTHS = (64, 76)  # at which base64 is wrapped: PEM, MIME and coreutils
_MARKS = (
    (b"&quot;", b"'"),
    (b"&quot;", b"&#39;"),
    (b"&quot;", b"&#x27;"),
    (b"&quot;", b"&apos;"),
    (b"&#34;", b"&#39;"),
)
_IN_QUOTES = re.compile(rb'["$`\\]')
_SPECIAL = re.compile(rb"[^\w%+,./:=@\x80-\xff-]")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def patterns(values: Iterable[str | bytes]) -> frozenset[bytes]:
    """All forms of the values that are masked, each at least four characters long.

    A value stands for itself and, when it has several lines, for each of them, as it is and without the blanks
    around it; each of these also for its usual encodings. Shorter ones would mask half of every log, so they are not
    masked: a secret of one to three characters is none. Line ends around a value are no part of it, so that the lines
    of a log stay lines.
    """
    parts = {part for value in values for part in _parts(_bytes(value))}
    forms = {form.strip(_ENDS) for part in parts if _length(part) >= SHORTEST for form in _forms(part)}
    return frozenset(form for form in forms if _length(form) >= SHORTEST)


def wrapped(values: Iterable[str | bytes]) -> frozenset[bytes]:
    """What of them is masked also where line ends lie in it, wherever: base64 and hex, if they are long enough.

    Its first `_TOGETHER` characters are on one line; where a line ends among them, all but the first three are masked.
    """
    parts = {part for value in values for part in _parts(_bytes(value)) if _length(part) >= SHORTEST}
    return frozenset(
        form for part in parts for form in (*_base64(part), *_hex(part)) if len(form) >= _WRAPPED
    )


class Unmaskable(Exception):
    """What is to be masked is not known any more; the message says why, and shows nothing of it."""


class _Words:
    """Words to be found in a text, and what may become one at its end."""

    __slots__ = ("_all", "_beginnings", "_sorted", "longest")

    def __init__(self, words: Iterable[bytes]) -> None:
        self._sorted = sorted(words)
        self.longest = max(map(len, self._sorted), default=0)
        self._all = _automaton(self._sorted)
        self._beginnings = _automaton({word[:_HEAD] for word in self._sorted if len(word) > _HEAD})

    def occurrences(self, text: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of all, also of those that overlap."""
        if self._all is not None:
            yield from (found[1:] for found in self._all.find_matches_as_indexes(text, overlapping=True))

    def endings(self, text: bytes) -> Iterator[int]:
        """Where endings of the text start that are proper beginnings of a word, in order."""
        first = max(0, len(text) - self.longest + 1)
        window = text[first:]
        near = range(max(0, len(window) - _HEAD), len(window))
        far: set[int] = set()
        if self._beginnings is not None:
            matches = self._beginnings.find_matches_as_indexes(window, overlapping=True)
            far = {start for _, start, _ in matches}
        for start in sorted(far.union(near)):
            if self._begins(window[start:]):
                yield first + start

    def _begins(self, ending: bytes) -> bool:
        place = bisect_right(self._sorted, ending)
        return place < len(self._sorted) and self._sorted[place].startswith(ending)


class _Squeezed:
    """A text without its line ends, and where the rest stood."""

    __slots__ = ("_before",)

    def __init__(self, text: bytes) -> None:
        # how many other characters lie before each line end
        self._before = [found.start() - number for number, found in enumerate(_END.finditer(text))]

    def place(self, index: int) -> int:
        """In the text, of a character of the squeezed one."""
        return index + bisect_right(self._before, index)

    def is_together(self, start: int) -> bool:
        """Are the first characters from here on one line?"""
        return self.place(start + _TOGETHER - 1) - self.place(start) == _TOGETHER - 1


class Masker:
    """Replaces every occurrence of the values, and of their encodings, by `***`; values that overlap by a single one.

    Of one place the longest match counts. One Masker goes through one log, once; `again` makes a fresh one.
    """

    __slots__ = ("_any", "_covered", "_held", "_words", "_wrapped")

    def __init__(self, values: Iterable[str | bytes]) -> None:
        given = tuple(values)
        found, long = patterns(given), wrapped(given)
        self._words = _Words(found)
        later = frozenset(form[_TOGETHER - 1 :] for form in long)
        self._wrapped = _Words(long | later)
        least = _fewest({_squeezed(word) for word in found - long} | later)
        self._any = _automaton(least, MatchKind.LeftmostFirst)
        self._held = b""
        self._covered = 0

    def again(self) -> Masker:
        """The same values at the beginning of a log."""
        fresh = object.__new__(Masker)
        fresh._words, fresh._wrapped, fresh._any = self._words, self._wrapped, self._any
        fresh._held, fresh._covered = b"", 0
        return fresh

    @property
    def held(self) -> int | None:
        """Bytes that are held back: a fresh Masker that begins with them goes on as this one would.

        None: none would, as they belong to a value that has been told already.
        """
        return None if self._covered else len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """The masked form of what is certain by now."""
        return self._take(chunk, last=False)

    def flush(self) -> bytes:
        """The rest, when there is no more input."""
        return self._take(b"", last=True)

    def _take(self, chunk: bytes, *, last: bool) -> bytes:
        text = self._held + chunk if self._held else bytes(chunk)
        squeezed = _squeezed(text)
        cut = len(text) if last else self._border(text, squeezed)
        # what begins behind the border may be part of something longer: it is found again with the next chunk
        found = [place for place in self._occurrences(text, squeezed) if place[0] < cut]
        pieces: list[bytes] = []
        at = self._covered
        for start, end in _merged(found, self._covered):
            if start >= self._covered:
                pieces += (text[at:start], MASK)
            at = end
        pieces.append(text[at:cut])
        self._held, self._covered = text[cut:], max(0, at - cut)
        return b"".join(pieces)

    def _occurrences(self, text: bytes, squeezed: bytes) -> list[tuple[int, int]]:
        """(start, end) of all, also of those that overlap. Most texts have none: that is found out ten times faster."""
        if self._any is None or not self._any.find_matches_as_indexes(squeezed):
            return []
        places = _Squeezed(text)
        return [
            *self._words.occurrences(text),
            *(
                (places.place(start), places.place(end - 1) + 1)
                for start, end in self._wrapped.occurrences(squeezed)
                if places.is_together(start)
            ),
        ]

    def _border(self, text: bytes, squeezed: bytes) -> int:
        """Where the longest ending that is a proper beginning of a pattern starts; the end when there is none."""
        whole = next(self._words.endings(text), len(text))
        places: _Squeezed | None = None
        for start in self._wrapped.endings(squeezed):
            left = len(squeezed) - start
            if left < _TOGETHER:
                if text.endswith(squeezed[start:]):
                    return min(whole, len(text) - left)
                continue
            places = places or _Squeezed(text)
            if places.is_together(start):
                return min(whole, places.place(start))
        return whole


def _merged(found: list[tuple[int, int]], covered: int) -> Iterator[tuple[int, int]]:
    """Occurrences in order, those that overlap as one. What begins before `covered` joins what was told before."""
    end = covered
    start: int | None = 0 if covered else None
    for begin, stop in sorted(found):
        if start is not None and begin < end:
            end = max(end, stop)
            continue
        if start is not None:
            yield start, end
        start, end = begin, stop
    if start is not None:
        yield start, end


def _fewest(words: Iterable[bytes]) -> list[bytes]:
    """One of which is in whatever has one of the words: the fewer they are, the faster they are looked for."""
    found: list[bytes] = []
    for word in sorted(words):
        if not (found and word.startswith(found[-1])):
            found.append(word)
    return found


def _automaton(found: Iterable[bytes], kind: MatchKind = MatchKind.Standard) -> BytesAhoCorasick | None:
    """Made for every script that prints: in a fifth of the time of the library's own choice, and searched as fast."""
    words = sorted(found)
    return BytesAhoCorasick(words, kind, implementation=Implementation.ContiguousNFA) if words else None


def _squeezed(text: bytes) -> bytes:
    # far faster than `translate`
    return text.replace(b"\n", b"").replace(b"\r", b"")


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)


def _length(value: bytes) -> int:
    """In characters; what is no UTF-8 counts by bytes."""
    return len(value.decode("utf-8", "surrogateescape"))


def _parts(value: bytes) -> set[bytes]:
    lines = value.splitlines()
    return {value, value.strip(_ENDS), value.strip(), *lines, *(line.strip() for line in lines)}


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield from _base64(value)
    yield from _hex(value)
    yield from _percent(value)
    yield from _json(value)
    if _SPECIAL.search(value):  # to most values none of it makes a difference
        yield from _markup(value)
        yield from _quoted(value)


def _hex(value: bytes) -> Iterator[bytes]:
    yield value.hex().encode()
    yield value.hex().upper().encode()


def _base64(value: bytes) -> Iterator[bytes]:
    """What a value alone decides of an encoding that it is a part of: three ways to lie among groups of six bits.

    With what follows it at the end of the encoding, with and without padding; in both alphabets; from the beginning
    also wrapped into lines.
    """
    for before, foreign in ((0, 0), (1, 2), (2, 3)):
        whole = b64encode(bytes(before) + value)
        decided = (before + len(value)) * 8 // 6
        for form in (whole[foreign:decided], whole[foreign:].rstrip(b"="), whole[foreign:]):
            yield form
            yield form.translate(_URL_SAFE)
    whole = b64encode(value)
    for width in _WIDTHS:
        if len(whole) > width:
            yield from (whole[start : start + width] for start in range(0, len(whole), width))


def _percent(value: bytes) -> Iterator[bytes]:
    for form in (
        quote(value, safe=""),
        quote(value, safe="/"),
        quote(value, safe="!~*'()"),
        quote_plus(value),
    ):
        yield form.encode()
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form).encode()


def _markup(value: bytes) -> Iterator[bytes]:
    """In HTML and XML: as text, and as programs differ in what they make of quotation marks."""
    text = value.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")
    yield text
    for double, single in _MARKS:
        yield text.replace(b'"', double).replace(b"'", single)


def _quoted(value: bytes) -> Iterator[bytes]:
    """In shells, in Python, and where a quotation mark is doubled: YAML, SQL, CSV."""
    yield value.replace(b"'", b"'\\''")
    yield value.replace(b"'", b"'\"'\"'")
    yield _IN_QUOTES.sub(rb"\\\g<0>", value)
    yield _SPECIAL.sub(rb"\\\g<0>", value)
    yield value.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    yield value.replace(b"'", b"''")
    yield value.replace(b'"', b'""')


def _json(value: bytes) -> Iterator[bytes]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    for ascii_only in (False, True):
        form = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for escaped in (form, re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), form)):
            yield escaped.encode()
            yield escaped.replace("/", "\\/").encode()
