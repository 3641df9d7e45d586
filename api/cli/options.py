"""Options that many verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.output import Format

Server = Annotated[str | None, typer.Option(help="Address of the daemon (STEERSMAN_SERVER).")]
Token = Annotated[str | None, typer.Option(help="Token (STEERSMAN_TOKEN).")]
Output = Annotated[Format, typer.Option("--output", "-o", help="Table for people, JSON for programs.")]
