"""What the shell is offered: KEYs, kinds and numbers of jobs, as the server has them.

Called by the shell's completion alone. Waits a second at most for the server, and offers nothing where something is
wrong: a completion that complains would stand in the middle of a command line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from typing import Any

import httpx
import typer

from api.cli.client import Client, connect

_SECONDS = 1.0
_PAGE = 200
_PLAIN = re.compile(r"[\w./@~+=-]+")  # what a shell takes as it stands
Offered = Iterable[str | tuple[str, str]]


def keys(*kinds: str) -> Callable[[typer.Context, str], list[Any]]:
    """Offers KEYs of these kinds; of all, where none is given."""

    def offer(context: typer.Context, incomplete: str) -> list[Any]:
        return list(_quietly(context, lambda client: _keys(client, incomplete, kinds)))

    return offer


def kinds_and_keys(context: typer.Context, incomplete: str) -> list[Any]:
    """Offers kinds, and KEYs once a kind is there."""
    if "/" in incomplete:
        return keys()(context, incomplete)
    return _kinds(incomplete)


def kinds(incomplete: str) -> list[Any]:
    """Offers kinds; asks nobody."""
    return _kinds(incomplete)


def jobs(context: typer.Context, incomplete: str) -> list[Any]:
    """Offers numbers of jobs, newest first, each with its KEY and state."""
    return list(_quietly(context, lambda client: _jobs(client, incomplete)))


def jobs_and_keys(context: typer.Context, incomplete: str) -> list[Any]:
    """Offers numbers of jobs, or KEYs once something else has been begun."""
    return (jobs if incomplete[:1].isdigit() or not incomplete else keys("Build", "Deployment"))(
        context, incomplete
    )


def _kinds(incomplete: str) -> list[Any]:
    from specs.kinds import KINDS  # only here: the models of all kinds take a third of a second

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def _keys(client: Client, incomplete: str, wanted: tuple[str, ...]) -> Offered:
    kind, slash, _ = incomplete.partition("/")
    if slash:
        asked: tuple[str | None, ...] = (kind,)
    else:
        asked = tuple(each for each in wanted if each.startswith(kind)) or (None,)
    for each in asked:
        params = {"limit": _PAGE, "prefix": incomplete} | ({"kind": each} if each else {})
        body = _json(client, "/reconciler/resources", params)
        yield from (
            (item["key"], f"{item['sync']}, {item['health']}")
            for item in body["items"]
            if item["key"].startswith(incomplete)
            and _PLAIN.fullmatch(item["key"])
            and (not wanted or item["kind"] in wanted)
        )


def _jobs(client: Client, incomplete: str) -> Offered:
    for item in _json(client, "/reconciler/jobs", {"limit": _PAGE})["items"]:
        if str(item["number"]).startswith(incomplete):
            yield str(item["number"]), f"{item['key']} {item['state']}"


def _json(client: Client, path: str, params: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    answer = httpx.get(client.server + path, params=params, headers=headers, timeout=_SECONDS)
    return answer.raise_for_status().json()


def _quietly(context: typer.Context, offer: Callable[[Client], Offered]) -> list[str | tuple[str, str]]:
    """What is offered, or nothing: whatever is wrong, a verb will say it."""
    given = context.params
    try:
        with redirect_stderr(io.StringIO()):
            return list(offer(connect(given.get("server"), given.get("token"))))
    except Exception:
        return []
