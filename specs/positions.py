"""Positions of values in a text: a JSON pointer (`/spec/tasks/0/run`) to a line and a column.

Kept as one short string and read only where there is something to report, because nearly all documents are
right. Made by the composer, asked by everything that locates a fault. Never knows the file's own path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Step = str | int
Position = tuple[int, int]


def pointer(steps: Iterable[Step]) -> str:
    """The pointer of a path of keys and indexes; the root is the empty string."""
    return "".join(f"/{escape(str(step))}" for step in steps)


def escape(step: str) -> str:
    """A step as it is written in a pointer (RFC 6901, and line ends as `~n`)."""
    if "~" in step or "/" in step or "\n" in step:
        return step.replace("~", "~0").replace("/", "~1").replace("\n", "~n")
    return step


@dataclass(frozen=True, slots=True)
class Positions(Mapping[str, Position]):
    """pointer -> (line, column) of the value, both from 1; `of_key` gives those of the entry's key."""

    encoded: str = ""

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        for row in self.encoded.split("\n") if self.encoded else ():
            numbers, _, name = row.partition(" ")
            yield name, numbers.split(",")

    def __getitem__(self, name: str) -> Position:
        for candidate, numbers in self._rows():
            if candidate == name:
                return int(numbers[0]), int(numbers[1])
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._rows())

    def __len__(self) -> int:
        return sum(1 for _ in self._rows())

    def of_key(self, name: str) -> Position:
        """Where the key of an entry stands; for the root and items of lists, where the value stands."""
        for candidate, numbers in self._rows():
            if candidate == name:
                return int(numbers[-2]), int(numbers[-1])
        raise KeyError(name)

    def nearest(self, name: str, *, key: bool = False) -> Position:
        """The position of a value, or of the nearest one around it that has one (aliases have no inside)."""
        find = self.of_key if key else self.__getitem__
        while name:
            try:
                return find(name)
            except KeyError:
                name, find = name.rpartition("/")[0], self.__getitem__
        return self.get("", (1, 1))
