"""The console script `steersman` (design 10): one verb a function, split by noun."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from api.cli import calendar, database, gate, jobs, local, login, notifications, releases, remote
from api.cli.secrets import secrets
from api.cli.tokens import audit, tokens


class _Verbs(TyperGroup):
    """All verbs. What is mistyped is an error, 1, and not what 2 says: that there is something to do."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        """The verb's name and what stands before it are read here …"""
        with _one_for_mistakes():
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> Any:
        """… and what comes after it here."""
        with _one_for_mistakes():
            return super().invoke(ctx)


@contextmanager
def _one_for_mistakes() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_code", None) == _USAGE and not isinstance(error, typer.Exit):
            setattr(error, "exit_code", 1)  # noqa: B010 - the library has no public name for what it raises
        raise


_USAGE = 2


app = typer.Typer(
    name="steersman",
    cls=_Verbs,
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
