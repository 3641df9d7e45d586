"""The console script `steersman` (design 10): one verb a function, split by noun."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from api.cli import calendar, database, gate, jobs, local, login, notifications, releases, remote
from api.cli.secrets import secrets
from api.cli.tokens import audit, tokens

app = typer.Typer(
    name="steersman",
    help="GitOps for everything that is not Kubernetes. Exit codes: 0 done, 1 error, 2 something to do or not passed, "
    "3 the wait ran out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS: tuple[Callable[..., None], ...] = (
    local.serve,
    local.worker,
    local.validate,
    local.schema,
    local.init,
    database.migrate,
    database.move,
    database.backup,
    database.restore,
    login.login,
    login.logout,
    remote.status,
    remote.get,
    remote.plan,
    remote.sync,
    remote.why,
    remote.can,
    remote.whoami,
    remote.schedules,
    remote.executors,
    remote.events,
    jobs.trigger,
    jobs.jobs,
    jobs.job,
    jobs.cancel,
    jobs.retry,
    jobs.logs,
    jobs.attachments,
    releases.releases,
    gate.approvals,
    gate.approve,
    gate.reject,
    gate.freezes,
    gate.freeze,
    gate.when,
    calendar.calendar,
    notifications.notifications,
)
for verb in VERBS:
    app.command()(verb)
app.command("pass")(gate.let_through)
app.add_typer(tokens, name="token")
app.add_typer(secrets, name="secret")
app.add_typer(audit, name="audit")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"steersman {version('steersman')}")
        raise typer.Exit


@app.callback()
def options(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """GitOps for everything that is not Kubernetes."""


def main() -> None:
    """Entry of the console script; an interrupted verb ends without a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
