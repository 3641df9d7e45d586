"""The verb about the calendar."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, console, show_json, show_table

_WHEN = "A time with an offset, or a day such as 2026-11-26."


def calendar(
    begin: Annotated[str | None, typer.Option("--from", help=f"{_WHEN} Now if absent.")] = None,
    until: Annotated[str | None, typer.Option("--to", help=f"{_WHEN} 30 days later if absent.")] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Freezes, windows for deploys, last days of service, and schedules, by their start."""
    query = {"from": begin, "to": until}
    body = connect(server, token).get("/reconciler/calendar", **query)
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            _minute(item["start"]),
            _minute(item["end"]) if item["end"] != item["start"] else None,
            item["kind"],
            f"{item['title']}, {item['count']} times" if item["count"] > 1 else item["title"],
            item["where"],
        )
        for item in body["items"]
    ]
    show_table(("FROM", "UNTIL", "KIND", "WHAT", "DECLARED AT"), rows, "nothing between these times")
    if body["cut"]:
        last = [item["start"] for item in body["items"] if item["kind"] == "start"][-1]
        console().print(f"more schedules start later: ask for what comes after {_minute(last)}")


def _minute(moment: str) -> str:
    """A time without its seconds, where there are none."""
    return moment.replace("T", " ").replace(":00+", "+", 1).replace(":00-", "-", 1)
