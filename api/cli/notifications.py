"""The verb about who is told of what happens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, console, show_json, show_table


def notifications(
    test: Annotated[
        str | None, typer.Option("--test", metavar="KEY", help="Send a test notice of this Notification.")
    ] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Receivers of Notifications, what waits for them, and what keeps it; exit 2 if a test was not taken."""
    if test is not None:
        _test(test, server, token, output)
        return
    body = connect(server, token).get("/reconciler/notifications")
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            item["key"],
            item["receiver"],
            item["state"],
            item["delivered"],
            f"{item['waiting']}{'+' if item['waiting_more'] else ''}",
            ago(item["last_delivery"]) if item["last_delivery"] else "",
            ago(item["next_try"]) if item["next_try"] else "",
            _trouble(item),
        )
        for item in body["items"]
    ]
    heads = ("NOTIFICATION", "RECEIVER", "STATE", "DELIVERED", "WAITING", "LAST", "NEXT TRY", "ERROR")
    show_table(heads, rows, "no notifications")


def _trouble(item: dict[str, Any]) -> str:
    """What keeps a receiver, and whom of its addresses."""
    named = {**item["put_off"], **item["refused"]}
    return "; ".join([item["error"] or "", *(f"{to}: {why}" for to, why in named.items())]).removeprefix("; ")


def _test(key: str, server: str | None, token: str | None, output: Format) -> None:
    _, answer = connect(server, token).post(f"/reconciler/notifications/test/{key}", {})
    if output is Format.JSON:
        show_json(answer)
    else:
        for each in answer["receivers"]:
            console().print(
                f"{each['receiver']}: {'taken' if each['taken'] else 'not taken'}: {each['message']}",
                markup=False,
            )
    if not all(each["taken"] for each in answer["receivers"]):
        raise typer.Exit(2)
