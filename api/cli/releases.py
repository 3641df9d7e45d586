"""The verb about releases."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, show_json, show_table


def releases(
    application: Annotated[
        str | None, typer.Option("--application", "-a", help="NAMESPACE/APPLICATION, or APPLICATION.")
    ] = None,
    limit: Annotated[int, typer.Option()] = 20,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Releases that builds have made, newest first."""
    body = connect(server, token).get("/reconciler/releases", application=application, limit=limit)
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            i["label"],
            " ".join(i["tags"]),
            i["project"],
            i["job"],
            i["branch"],
            (i["commit"] or "")[:10],
            f"{i['size']:,}",
            ago(i["created_at"]),
        )
        for i in body["items"]
    ]
    heads = ("RELEASE", "TAGS", "PROJECT", "JOB", "BRANCH", "COMMIT", "BYTES", "CREATED")
    show_table(heads, rows, "no releases")
