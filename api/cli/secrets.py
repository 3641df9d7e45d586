"""`steersman secret …`: seals values for Git to the server's public key; changes that key. No value is an argument."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, console, fail, show_json
from reconciler.sealing import LARGEST, SealingError, put_in_front, seal
from specs.meta import Key, parse_key, secret_name_fault

secrets = typer.Typer(help="Secrets: seal a value for Git, change the key.", no_args_is_help=True)
_KEY = "/reconciler/secrets/key"
_MASKED = 4


class Type(StrEnum):
    """What a secret is to a script."""

    VALUE = "value"
    SSH_KEY = "ssh_key"
    PGP_KEY = "pgp_key"
    PLAINTEXT_FILE = "plaintext_file"


@secrets.command("seal")
def seal_value(
    key: Annotated[str, typer.Argument(help="KEY of the Secret, such as Secret/shop/_/deploy-key.")],
    type_: Annotated[Type, typer.Option("--type", help="What it is to a script.")] = Type.VALUE,
    path: Annotated[str | None, typer.Option(help="Where a plaintext_file is put, such as ~/.netrc.")] = None,
    mode: Annotated[str | None, typer.Option(help="Permissions of a plaintext_file, 600 if not set.")] = None,
    recipient: Annotated[
        str | None, typer.Option(help="The server's public key; without it, the server is asked.")
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Print the sealed text only.")] = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Seal what comes by standard input (asked for on a terminal); print the Secret as YAML to commit.

    It can be opened by this server only, and only under this KEY.
    """
    found = _parsed(key)
    fields = {"type": type_.value, "path": path, "mode": mode}
    _check(found, {name: value for name, value in fields.items() if value is not None})
    to = recipient or connect(server, token).get(_KEY)["recipient"]
    value = _checked(_read(), type_)
    try:
        sealed = seal(value, to, str(found))
    except SealingError as error:
        fail(str(error))
    if bare:
        typer.echo(sealed)
        return
    spec = {name: value for name, value in (fields | {"sealed": sealed}).items() if value is not None}
    document = {
        "apiVersion": "steersman/v1",
        "kind": "Secret",
        "metadata": _metadata(found),
        "spec": spec,
    }
    typer.echo(yaml.safe_dump(document, sort_keys=False, width=1 << 30), nl=False)


@secrets.command("key")
def public_key(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Print the server's public key, for `seal --recipient` on a machine without access."""
    body = connect(server, token).get(_KEY)
    show_json(body) if output is Format.JSON else console().print(body["recipient"])


@secrets.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="The server's key file, server.key in its data directory.")],
) -> None:
    """Put a new key in front of the server's: it seals from the next start on, and the old ones still open.

    Then restart the server, run `steersman secret reseal`, and take the old keys out of the file.
    """
    try:
        recipient = put_in_front(file)
    except (SealingError, OSError) as error:
        fail(str(error))
    typer.echo(recipient)
    typer.echo(
        "Now restart the server and run `steersman secret reseal`; when that has left nothing out, take the old keys "
        "out of the file.",
        err=True,
    )


@secrets.command("reseal")
def reseal(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Seal all Secrets in Git to the server's newest key, in one commit; exit 1 if some could not be opened."""
    _, body = connect(server, token).post("/reconciler/secrets/reseal", {}, timeout=120)
    if output is Format.JSON:
        show_json(body)
    else:
        where = f" in commit {body['commit'][:12]}" if body["commit"] else ""
        where += f" on branch {body['branch']}, to be merged" if body["branch"] else ""
        typer.echo(f"{len(body['resealed'])} secrets sealed anew{where}")
        if body["states"]:
            typer.echo(f"states of deployments locked anew: {body['states']}")
        for key, why in body["failed"].items():
            typer.echo(f"{key}: {why}", err=True)
    raise typer.Exit(1 if body["failed"] else 0)


def _parsed(text: str) -> Key:
    try:
        key = parse_key(text)
    except ValueError as error:
        fail(str(error))
    if key.kind != "Secret":
        fail(f"{text} is the KEY of no Secret; write Secret/PROJECT/_/NAME")
    if fault := secret_name_fault(key.name):
        fail(f"{text}: {fault}")
    return key


def _check(key: Key, spec: dict[str, Any]) -> None:
    """As the server will."""
    from pydantic import ValidationError  # with the model: seldom needed, long in loading

    from specs.secret import Secret, check

    empty = "YWdlLWVuY3J5cHRpb24ub3JnLw=="
    try:
        whole = Secret(**spec, sealed=empty).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"--{first['loc'][0]} {first['msg'].removeprefix('Value error, ')}")
    for steps, message in check(whole, key):
        fail(f"--{steps[0]}: {message}")


def _read() -> bytes:
    if sys.stdin.isatty():
        entered: str = typer.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
        return entered.encode("utf-8", "surrogateescape")
    return sys.stdin.buffer.read(LARGEST + 2)


def _checked(value: bytes, type_: Type) -> bytes:
    """A value is what stands before the line end; keys and files stay as they are."""
    if type_ is Type.VALUE:
        value = value.removesuffix(b"\n").removesuffix(b"\r")
        if b"\0" in value:
            fail("the value holds a NUL character, which no variable can; seal it as a plaintext_file")
    if not value.strip():
        fail(
            "there is nothing to seal: give the value by standard input, such as `steersman secret seal KEY < FILE`"
        )
    if len(value.decode("utf-8", "surrogateescape").strip()) < _MASKED:
        typer.echo(
            f"steersman: a value of fewer than {_MASKED} characters is not masked in logs: "
            "that would hide half of each",
            err=True,
        )
    return value


def _metadata(key: Key) -> dict[str, str]:
    parts = {"project": key.project, "environment": key.environment, "owner": key.owner}
    return {"name": key.name, **{name: value for name, value in parts.items() if value is not None}}
