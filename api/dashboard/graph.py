"""Where the tasks of a job stand in its picture: a column by how deep their needs go, in rows; and what leads to what.

Called by the job page, whose template draws it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 188, 44
_ACROSS, _DOWN, _EDGE = 56, 12, 6
MOST_TASKS, MOST_LINES = 60, 300


@dataclass(frozen=True, slots=True)
class Box:
    """A task, by its place in the job; the upper left corner."""

    task: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Line:
    """From the right of one box to the left of another: a path of SVG."""

    path: str


@dataclass(frozen=True, slots=True)
class Graph:
    """A picture in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def graph(needs: Mapping[str, Sequence[str]]) -> Graph | None:
    """Of tasks, in order, with the names of those that each needs; None where a list says it as well, or better."""
    known = {name: tuple(need for need in wanted if need in needs) for name, wanted in needs.items()}
    count = sum(map(len, known.values()))
    if not count or len(known) > MOST_TASKS or count > MOST_LINES:
        return None
    columns: dict[int, list[str]] = {}
    for name, depth in _depths(known).items():
        columns.setdefault(depth, []).append(name)
    highest = max(map(len, columns.values()))
    places: dict[str, tuple[int, int]] = {}
    for depth, names in columns.items():
        above = (highest - len(names)) * (HEIGHT + _DOWN) // 2
        for row, name in enumerate(names):
            places[name] = (_EDGE + depth * (WIDTH + _ACROSS), _EDGE + above + row * (HEIGHT + _DOWN))
    boxes = tuple(Box(at, *places[name]) for at, name in enumerate(known))
    lines = tuple(_line(places[need], places[name]) for name, wanted in known.items() for need in wanted)
    width = 2 * _EDGE + len(columns) * WIDTH + (len(columns) - 1) * _ACROSS
    return Graph(width, 2 * _EDGE + highest * (HEIGHT + _DOWN) - _DOWN, boxes, lines)


def _depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many tasks come one after the other before each; a circle, which no specification has, counts as nothing."""
    depths = dict.fromkeys(needs, 0)
    for _ in needs:
        found = {
            name: 1 + max((depths[each] for each in wanted), default=-1) for name, wanted in needs.items()
        }
        if found == depths:
            break
        depths = found
    shown = sorted(set(depths.values()))
    return {name: shown.index(depth) for name, depth in depths.items()}


def _line(start: tuple[int, int], end: tuple[int, int]) -> Line:
    x, y = start[0] + WIDTH, start[1] + HEIGHT // 2
    to_x, to_y = end[0], end[1] + HEIGHT // 2
    half = max(_ACROSS // 2, (to_x - x) // 2) if to_x - x <= _ACROSS else _ACROSS // 2
    if to_x - x <= _ACROSS:
        return Line(f"M{x} {y}C{x + half} {y} {to_x - half} {to_y} {to_x} {to_y}")
    bend = to_x - _ACROSS
    return Line(f"M{x} {y}H{bend}C{bend + half} {y} {to_x - half} {to_y} {to_x} {to_y}")
