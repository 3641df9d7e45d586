"""Faults of specifications, located: what is wrong, in which file, on which line and column.

Made by the loader and the tree, carried by whoever shows them (plan, status, command line). Never raised.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a text whose path is not known here; line and column count from 1."""

    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True, order=True)
class SpecError:
    """One fault, located; `key` is the resource it belongs to, or None for a file."""

    path: str
    line: int
    column: int
    message: str
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


def in_order(errors: Iterable[SpecError]) -> tuple[SpecError, ...]:
    """Each error once, by place."""
    return tuple(sorted(set(errors), key=lambda e: (e.path, e.line, e.column, e.message, e.key or "")))
