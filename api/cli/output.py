"""How the command line speaks: tables for people, JSON for programs, errors on standard error.

Exit codes: 0 done, 1 error, 2 something to do (`plan`) or the job did not pass, 3 the wait ran out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 10_000
_GAP = 2
_SENTENCE = 32  # cells; narrower columns are not folded
_GOOD = {"Synced", "Healthy", "passed", "ok"}
_BAD = {"OutOfSync", "Degraded", "failed", "defective", "aborted", "unavailable", "Missing"}


class Format(StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"


def console() -> Console:
    """Standard output, coloured where it is a terminal; elsewhere as wide as it takes, so that no KEY is cut."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def show_json(value: Any) -> None:
    """For programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], empty: str = "nothing") -> None:
    """For people. In a terminal that is too narrow, lines are longer than it, so that what is copied is whole."""
    found = list(rows)
    if not found:
        console().print(empty)
        return
    out = console()
    cells = [["-" if cell is None else str(cell) for cell in row] for row in found]
    columns = [
        _Column.of(heading, each) for heading, each in zip(headings, zip(*cells, strict=True), strict=True)
    ]
    out.width = max(out.width, sum(each.least for each in columns) + _GAP * (len(columns) - 1))
    table = Table(box=None, pad_edge=False, header_style="")
    for each in columns:
        table.add_column(f"[bold]{each.heading}[/bold]", overflow="fold", no_wrap=not each.prose)
    for row in cells:
        table.add_row(*map(coloured, row))
    with out.capture() as shown:
        out.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


@dataclass(frozen=True)
class _Column:
    """Sentences are folded where the terminal is narrow; a KEY, which is there to be copied, never is."""

    heading: str
    prose: bool
    least: int

    @classmethod
    def of(cls, heading: str, cells: Sequence[str]) -> _Column:
        """What it takes for these cells."""
        width = max(map(cell_len, (heading, *cells)))
        prose = width > _SENTENCE and any(" " in cell for cell in cells)
        return cls(heading, prose, _SENTENCE if prose else width)


def coloured(value: Any) -> str:
    """A cell's text, with good and bad words in colour."""
    text = escape("-" if value is None else str(value))
    if value in _GOOD:
        return f"[green]{text}[/green]"
    if value in _BAD:
        return f"[red]{text}[/red]"
    return text


def ago(moment: str | None) -> str:
    """A time as people say it."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    future = seconds < 0
    seconds = abs(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            text = f"{int(seconds // size)}{unit}"
            break
    else:
        text = f"{int(seconds)}s"
    return f"in {text}" if future else f"{text} ago"


def took(start: str | None, end: str | None) -> str:
    """How long from a time to another, or till now; nothing where it has not begun."""
    if start is None:
        return ""
    until = datetime.now(UTC) if end is None else datetime.fromisoformat(end)
    seconds = max(0.0, (until - datetime.fromisoformat(start)).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong and end."""
    sys.stderr.write(f"steersman: {message}\n")
    raise typer.Exit(code)
