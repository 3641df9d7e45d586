"""The page about the command line, made from its verbs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from api.cli import app
from api.docs.tables import code, table

_ABOUT = """\
# Command line

One program, `steersman`. `steersman VERB --help` says the same as this page, which is made from the program itself.

Exit codes: 0 done, 1 error, 2 something to do (`plan`) or not passed, 3 the wait ran out.

## Which server, which token

Verbs that ask a server take `--server`, or `STEERSMAN_SERVER`; without either, `http://127.0.0.1:8080`. The token is
`--token`, or `STEERSMAN_TOKEN`, or the one that `steersman login` has kept, or, for a daemon of this machine started
from the same folder, the administrator's in `steersman-data/admin.token`.

`--output json` prints the server's answer for programs. Tables are for people, and may change.

## Completion

`steersman --install-completion` sets up bash, zsh or fish, whichever you are in; open a new shell afterwards.
`steersman --show-completion` prints what it would add. KEYs, kinds and numbers of jobs are completed from the server;
where it does not answer at once, nothing is offered.
"""


def cli_page() -> str:
    """The page."""
    return "\n".join([_ABOUT, *_commands(get_command(app), "steersman")])


def _commands(group: Any, name: str) -> Iterator[str]:
    for word, command in group.commands.items():
        whole = f"{name} {word}"
        if hasattr(command, "commands"):
            yield from _commands(command, whole)
        else:
            yield _command(command, whole)


def _command(command: Any, whole: str) -> str:
    context = command.make_context(whole, [], resilient_parsing=True)
    usage = " ".join([whole, *command.collect_usage_pieces(context)])
    text = f"## {whole}\n\n{inspect.cleandoc(command.help)}\n\n```text\n{usage}\n```\n"
    records = (parameter.get_help_record(context) for parameter in _parameters(command))
    rows = [(code(head), meaning) for head, meaning in filter(None, records)]
    return f"{text}\n{table(('parameter', 'meaning'), rows)}" if rows else text


def _parameters(command: Any) -> Iterator[Any]:
    """Arguments first, as they are given."""
    yield from sorted(command.params, key=lambda each: each.opts[0].startswith("-"))
