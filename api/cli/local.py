"""Verbs that need no server: serve, validate, schema, init.

What only one verb needs is imported by that verb: the models, the store and the settings take most of a second, which
all other verbs and the shell's completion would pay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import completion
from api.cli.options import Output
from api.cli.output import Format, fail, show_json
from reconciler.errors import SteersmanError

if TYPE_CHECKING:
    from reconciler.settings import Settings
    from specs.errors import SpecError

_FILE_LIMIT = 1 << 20
_NOT_DECLARED = re.compile(r"(?:^|: )(?:neither )?(\S+?)(?: nor \S+)* is (?:not )?declared$")


class Forge(StrEnum):
    """What `init --forge` takes: whose jobs check each push."""

    GITHUB = "github"
    GITLAB = "gitlab"
    FORGEJO = "forgejo"
    SOURCEHUT = "sourcehut"
    NONE = "none"


class Report(StrEnum):
    """What `validate --format` takes."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def serve(
    repo: Annotated[str | None, typer.Option(help="Spec repository: a path or a URL.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch to follow.")] = None,
    path: Annotated[str | None, typer.Option(help="Folder of the repository that holds the specs.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file instead of steersman.toml.")] = None,
    allow_unsandboxed: Annotated[
        bool | None,
        typer.Option(
            "--allow-unsandboxed", help="Run scripts without bubblewrap where it is absent or switched off."
        ),
    ] = None,
    insecure_no_auth: Annotated[
        bool | None, typer.Option("--insecure-no-auth", help="Ask nobody for a token.")
    ] = None,
) -> None:
    """Run the daemon: follow the repository and keep it true."""
    flags = {name: value for name, value in locals().items() if value is not None and name != "config"}
    settings = settings_of(flags, config)
    from api.serve import serve as run  # the server is needed by this verb only

    try:
        run(settings)
    except SteersmanError as error:
        fail(error.message)


def worker(
    database: Annotated[
        str | None, typer.Option(help="The daemons' database: postgresql://…, with a role of its own.")
    ] = None,
    executor: Annotated[
        list[str] | None,
        typer.Option(help="Name of an executor whose scripts it runs; again for more.", show_default="local"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Its own data directory.", show_default="steersman-worker")
    ] = None,
    name: Annotated[str | None, typer.Option(help="How people see it; else its host's name.")] = None,
    max_load: Annotated[
        float | None, typer.Option(help="The greatest load here, instead of the executor's.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file instead of steersman.toml.")] = None,
    allow_unsandboxed: Annotated[
        bool | None,
        typer.Option(
            "--allow-unsandboxed", help="Run scripts without bubblewrap where it is absent or switched off."
        ),
    ] = None,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="On TERM take nothing more, and end when all has ended; without it, scripts go on for as long as "
            "the lease, to be taken up after a restart.",
        ),
    ] = False,
) -> None:
    """Run scripts for the daemons on a PostgreSQL database, on this machine."""
    given = {
        "database": database,
        "executors": tuple(executor) if executor else None,
        "data": data,
        "worker_name": name,
        "max_load": max_load,
        "allow_unsandboxed": allow_unsandboxed,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    settings = settings_of(flags, config)
    own = {"executors": ("local",), "data": Path("steersman-worker").absolute()}
    settings = settings.model_copy(
        update={k: v for k, v in own.items() if k not in settings.model_fields_set}
    )
    from api.work import work

    try:
        work(settings, drain=drain)
    except SteersmanError as error:
        fail(error.message)


def validate(
    path: Annotated[Path, typer.Argument(help="A folder or a file.")] = Path(),
    format: Annotated[Report, typer.Option(help="How to report.")] = Report.TEXT,
) -> None:
    """Check specifications: every error as file:line:column, exit 1 if there is one.

    Of a file in a Git work tree its own errors, with what it names looked up in the tree around it.
    """
    from reconciler.source.desired import from_texts, is_spec

    files, own = _around(path)
    found = from_texts(files, _FILE_LIMIT)
    known = found.tree.declared
    errors = [
        _located(path, _hinted(error, known), own)
        for error in found.tree.errors
        if own is None or error.path == own
    ]
    if format is Report.JSON:
        show_json(
            [
                {"path": e.path, "line": e.line, "column": e.column, "message": e.message, "key": e.key}
                for e in errors
            ]
        )
    else:
        for error in errors:
            typer.echo(_github(error) if format is Report.GITHUB else str(error))
        specs = sum(is_spec(name) and own in (None, name) for name in files)
        resources = sum(own in (None, each.path) for each in known.values())
        summary = f"{specs} files, {resources} resources, {len(errors)} errors"
        typer.echo(summary, err=True)
    raise typer.Exit(1 if errors else 0)


def schema(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="A kind; without it, the schema of a whole file.", autocompletion=completion.kinds
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of a specification file, or of one kind."""
    from specs.kinds import KINDS
    from specs.schema import file_schema, kind_schema

    if kind is not None and kind not in KINDS:
        fail(f"there is no kind {kind}; there are {', '.join(KINDS)}")
    show_json(kind_schema(kind) if kind else file_schema())


def init(
    directory: Annotated[Path, typer.Argument(help="A new folder, or a Git repository just begun.")],
    forge: Annotated[
        Forge | None,
        typer.Option(help="Also write a job that checks each push; without it, as the remote `origin` says."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a starting repository: a project, a build that runs, editor schema, a job that checks each push.

    Nothing that is there is changed. Started again, it adds what is missing.
    """
    from api.cli import starter

    try:
        made = starter.write_starter(directory, forge or starter.forge_of(directory))
    except OSError as error:
        fail(str(error) if error.errno is None else f"{directory} cannot be written: {error.strerror}")
    if output is Format.JSON:
        kept = [str(directory / name) for name in made.kept]
        show_json({"written": [str(directory / name) for name in made.written], "kept": kept})
        return
    for name in made.written:
        typer.echo(f"wrote {directory / name}")
    for name in made.kept:
        typer.echo(f"kept {directory / name}, which was there")
    if made.next_steps:
        typer.echo("next:")
    for line in made.next_steps:
        typer.echo(f"  {line}")


def _around(path: Path) -> tuple[dict[str, bytes], str | None]:
    """The files to check; of a file that lies among specs these too, and its own path among them."""
    if not path.is_file():
        return read_files(path), None
    place = path.absolute()
    root = _spec_root(place)
    if root is not None:
        files = read_files(root)
        own = place.relative_to(root).as_posix()
        if own in files:
            return files, own
    return read_files(path), None


def _spec_root(place: Path) -> Path | None:
    """The folder of specs that a file of a Git work tree is below: where `init` was, what holds the folders `projects`
    or `teams`, or else the work tree; None outside of one.
    """
    tree = next((folder for folder in place.parents if (folder / ".git").exists()), None)
    if tree is None:
        return None
    between = [folder for folder in place.parents if folder.is_relative_to(tree)]
    begun = next((folder for folder in between if (folder / ".steersman").is_dir()), None)
    named = [folder.parent for folder in between if folder != tree and folder.name in ("projects", "teams")]
    return begun or (named[-1] if named else tree)


def read_files(path: Path) -> dict[str, bytes]:
    """All files below a folder that specs may name, by relative path; or the one file.

    Left out is what begins with a dot, and folders that Git is told to ignore whole by a file in them, as the data
    directory of a daemon that is started here.
    """
    from reconciler.source.desired import is_spec

    if path.is_file():
        return {path.name: path.read_bytes()}
    if not path.is_dir():
        fail(f"{path} does not exist")
    files: dict[str, bytes] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_ignored(Path(folder) / name)
        )
        for name in sorted(names):
            place = Path(folder) / name
            relative = place.relative_to(path).as_posix()
            if name.startswith(".") or (place.is_symlink() and not is_spec(relative)):
                continue
            if (is_spec(relative) and not place.is_symlink()) or place.stat().st_size <= _FILE_LIMIT:
                files[relative] = _bounded(place)
    return files


def named_files(path: Path) -> dict[str, bytes]:
    """The specs below a folder and the files that they name, by relative path: nothing else leaves this machine."""
    from reconciler.source.desired import is_spec
    from specs.loader import parse_file
    from specs.tree import Tree

    files = read_files(path)
    parsed = {
        name: parse_file(data) for name, data in files.items() if is_spec(name) and len(data) <= _FILE_LIMIT
    }
    named = Tree.empty().wanted_texts(parsed)
    return {name: data for name, data in files.items() if is_spec(name) or name in named}


def _is_ignored(folder: Path) -> bool:
    try:
        return (folder / ".gitignore").read_text(encoding="utf-8").strip() == "*"
    except (OSError, ValueError):
        return False


def _bounded(place: Path) -> bytes:
    """A file's bytes; of one that is too large only so much that it is seen to be."""
    with place.open("rb") as file:
        return file.read(_FILE_LIMIT + 1)


def settings_of(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """Settings from all places, or an end with a sentence."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from reconciler.settings import load

    try:
        return load(flags, config)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()
        ]
        fail("invalid settings: " + "; ".join(lines))
    except (SettingsError, FileNotFoundError, ValueError) as error:
        fail(f"invalid settings: {error}")


def _hinted(error: SpecError, known: Collection[str]) -> SpecError:
    """What names a thing that is not declared, with the nearest name that is.

    Here, since it depends on all KEYs: the daemon looks only at what has changed.
    """
    from specs.nearest import did_you_mean

    named = _NOT_DECLARED.search(error.message)
    if named is None:
        return error
    scope, _, name = named[1].rpartition("/")
    near = (key.rpartition("/") for key in sorted(known))
    return replace(
        error, message=error.message + did_you_mean(name, [own for around, _, own in near if around == scope])
    )


def _located(root: Path, error: SpecError, own: str | None) -> SpecError:
    if own is not None:
        return replace(error, path=str(root))
    base = root if root.is_dir() else root.parent
    return replace(error, path=str(base / error.path))


def _github(error: SpecError) -> str:
    text = error.message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error file={error.path},line={error.line},col={error.column}::{text}"
