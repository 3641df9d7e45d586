"""Verbs about the database itself, which need no server: migrate, move, backup, restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.local import settings_of
from api.cli.options import Output
from api.cli.output import Format, fail, show_json
from reconciler.errors import SteersmanError

if TYPE_CHECKING:
    from reconciler.settings import Settings

Data = Annotated[Path | None, typer.Option(help="Data directory.")]
Config = Annotated[Path | None, typer.Option(help="Settings file instead of steersman.toml.")]
Database = Annotated[
    str | None, typer.Option(help="postgresql://…; without it, SQLite in the data directory.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def migrate(
    database: Database = None,
    data: Data = None,
    config: Config = None,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Bring the database to this version; no daemon may be at work on it. With --dry-run, exit 2 if it is older."""
    from reconciler.store import migrate as migrations

    settings = _settings(database, data, config)
    url = settings.database_url
    try:
        current, steps = migrations.look(url)
        if not dry_run:
            if settings.database is None:
                settings.data.mkdir(parents=True, mode=0o700, exist_ok=True)
            changed = migrations.run(url)
    except SteersmanError as error:
        fail(error.message)
    if dry_run:
        body = {"revision": current, "newest": migrations.HEAD}
        if output is Format.JSON:
            show_json(body | {"steps": [{"revision": step.revision, "title": step.title} for step in steps]})
        else:
            typer.echo(
                "the database is empty" if current is None else f"the database is at revision {current}"
            )
            for step in steps:
                typer.echo(f"would apply {step.revision} {step.title}")
        raise typer.Exit(2 if steps else 0)
    if output is Format.JSON:
        show_json({"migrated": changed, "revision": migrations.HEAD})
    else:
        typer.echo(f"{'migrated to' if changed else 'already at'} revision {migrations.HEAD}")


def move(
    to: Annotated[str, typer.Option(help="The new, empty database: postgresql://…")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="sqlite:///PATH or postgresql://…; without it, that of the settings."),
    ] = None,
    data: Data = None,
    config: Config = None,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Copy the whole database into another one, and check it there; the daemon has to be stopped.

    The old one stays as it is. Afterwards start the daemon with the new one as its `database`.
    """
    from reconciler.store import move as moving
    from reconciler.store.engine import shown

    old = _settings(source, data, config).database_url
    new = _settings(to, data, config).database_url
    try:
        if dry_run:
            counts = moving.look(old, new)
        else:
            with _progress(output) as tell:
                counts = moving.move(old, new, tell)
    except SteersmanError as error:
        fail(error.message)
    if output is Format.JSON:
        show_json({"moved": not dry_run, "from": shown(old), "to": shown(new), "rows": dict(counts)})
        return
    verb = "would copy" if dry_run else "copied"
    tables = sum(1 for count in counts.values() if count)
    typer.echo(f"{verb} {sum(counts.values()):,} rows of {tables} tables from {shown(old)} to {shown(new)}")
    if not dry_run:
        typer.echo(
            "the event log was verified there; next: steersman serve --database … with the same --data"
        )


def backup(
    target: Annotated[Path, typer.Argument(help="The archive to make, such as steersman.tar.gz.")],
    database: Database = None,
    data: Data = None,
    config: Config = None,
    output: Output = Format.TABLE,
) -> None:
    """Put all that cannot be made anew into one archive; the daemon may be running.

    It holds keys and tokens: keep it as you keep those.
    """
    from reconciler.store import backup as backups

    settings = _settings(database, data, config)
    try:
        size = backups.write(settings.data, settings.database_url, settings.key_path, target)
    except SteersmanError as error:
        fail(error.message)
    if output is Format.JSON:
        show_json({"backup": str(target), "bytes": size})
    else:
        typer.echo(f"{target}: {size:,} bytes")


def restore(
    archive: Annotated[Path, typer.Argument(help="What `steersman backup` has made.")],
    database: Annotated[
        str | None, typer.Option(help="postgresql://… of a new, empty one; without it, SQLite.")
    ] = None,
    data: Data = None,
    config: Config = None,
    output: Output = Format.TABLE,
) -> None:
    """Unpack a backup into a new or empty data directory, and its database into a new one."""
    from reconciler.store import backup as backups

    settings = _settings(database, data, config)
    url = None if settings.database is None else settings.database_url
    try:
        with _progress(output) as tell:
            backups.restore(archive, settings.data, url, tell)
    except SteersmanError as error:
        fail(error.message)
    if output is Format.JSON:
        show_json({"restored": str(settings.data)})
    else:
        typer.echo(f"restored into {settings.data}; next: start the daemon on it")


def _settings(database: str | None, data: Path | None, config: Path | None) -> Settings:
    flags = {"database": database, "data": data}
    return settings_of({name: value for name, value in flags.items() if value is not None}, config)


@contextmanager
def _progress(output: Format) -> Iterator[Callable[[str, int, int], None]]:
    """A bar by table, for people at a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=output is Format.JSON or not console.is_terminal) as bars:
        known = {}

        def tell(table: str, done: int, count: int) -> None:
            if table not in known:
                known[table] = bars.add_task(table, total=count)
            bars.update(known[table], completed=done)

        yield tell
