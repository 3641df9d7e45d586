"""`steersman token …` and `steersman audit verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, console, show_json, show_table

tokens = typer.Typer(help="Tokens: create, list, revoke.", no_args_is_help=True)
audit = typer.Typer(help="The event log's hash chain.", no_args_is_help=True)


@tokens.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    level: Annotated[str, typer.Option(help="At most: read, write or owner.")] = "read",
    days: Annotated[int, typer.Option(help="How long it is good.")] = 90,
    subject: Annotated[
        str | None, typer.Option(help="Whose: User/NAME or ServiceAccount/TEAM/NAME; else your own.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Good in this project only.")] = None,
    environment: Annotated[str | None, typer.Option(help="Good in this environment of it only.")] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a token; its secret is shown once."""
    wish = {"name": name, "level": level, "days": days}
    wish |= {"subject": subject, "project": project, "environment": environment}
    _, body = connect(server, token).post("/reconciler/tokens", wish)
    show_json(body) if output is Format.JSON else console().print(body["token"])


@tokens.command("list")
def list_all(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Your tokens, or all for an administrator; without their secrets."""
    body = connect(server, token).get("/reconciler/tokens")
    rows = [
        (
            i["id"],
            i["subject"],
            i["name"],
            i["level"],
            "/".join(filter(None, (i["project"], i["environment"]))) or "everywhere",
            "revoked" if i["revoked_at"] else ago(i["expires"]),
            ago(i["last_used"]),
        )
        for i in body["items"]
    ]
    show_json(body) if output is Format.JSON else show_table(
        ("ID", "WHOSE", "NAME", "LEVEL", "WHERE", "EXPIRES", "USED"), rows
    )


@tokens.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="ID of the token.")],
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """End a token at once."""
    connect(server, token).delete(f"/reconciler/tokens/{token_id}")
    show_json({"revoked": token_id}) if output is Format.JSON else console().print(f"revoked {token_id}")


@audit.command("verify")
def verify(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Check that no event was changed or removed; exit 1 if one was."""
    body = connect(server, token).get("/reconciler/audit")
    if output is Format.JSON:
        show_json(body)
    else:
        console().print(f"{body['events']} events, " + ("sound" if body["sound"] else body["fault"]))
    raise typer.Exit(0 if body["sound"] else 1)
