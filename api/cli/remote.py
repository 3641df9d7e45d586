"""Verbs that ask the daemon about what is declared: status, get, plan, sync, why, schedules, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from api.cli import completion, overview
from api.cli.client import connect
from api.cli.local import named_files, read_files
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, coloured, console, fail, show_json, show_table
from api.differences import difference

_MARKS = {"create": "[green]+[/green]", "update": "[yellow]~[/yellow]", "delete": "[red]-[/red]"}
_ACTS = {
    "deploy": "[green]deploy[/green]",
    "destroy": "[red]destroy[/red]",
    "errand": "[yellow]errand[/yellow]",
}
_COLOURS = {"minus": "red", "plus": "green"}
_ONE_LINE = 80
_FEW = 10
_LIMIT = 1 << 20


def status(
    key: Annotated[
        str | None, typer.Argument(help="A KEY; without it, the whole.", autocompletion=completion.keys())
    ] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """How it stands: what is wrong, what waits and for what, what runs, what is next; or one resource."""
    client = connect(server, token)
    if key is not None:
        _resource(client.get(f"/reconciler/resources/{key}"), output)
        return
    body = client.get("/reconciler/status")
    found = overview.gather(client, body)
    show_json(body | found) if output is Format.JSON else overview.show(body, found)


def get(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="A kind, or a KEY; without it, of all kinds.", autocompletion=completion.kinds_and_keys
        ),
    ] = None,
    project: Annotated[str | None, typer.Option()] = None,
    environment: Annotated[str | None, typer.Option()] = None,
    sync: Annotated[str | None, typer.Option()] = None,
    health: Annotated[str | None, typer.Option()] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """List resources, of a kind or of all."""
    if kind is not None and "/" in kind:
        status(kind, server, token, output)
        return
    client = connect(server, token)
    filters = {"kind": kind, "project": project, "environment": environment, "sync": sync, "health": health}
    items = list(client.pages("/reconciler/resources", **filters))
    if output is Format.JSON:
        show_json({"items": items, "next": None, "total": len(items)})
        return
    heads = ["KEY", "SYNC", "HEALTH", "GEN", "LOCATION"]
    rows = [[i["key"], i["sync"], i["health"], i["generation"], i["location"]] for i in items]
    if kind == "Deployment":
        heads.insert(3, "STANDS")
        for row, item in zip(rows, items, strict=True):
            row.insert(3, _stands(item["deployed"]))
    show_table(heads, rows, f"no {kind or 'resources'}")


def plan(
    ref: Annotated[str | None, typer.Option(help="A branch, tag or commit of the spec repository.")] = None,
    path: Annotated[Path | None, typer.Option(help="A folder, as the whole of the specs.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="With --path: as if nothing were there yet.")
    ] = False,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """What would change. Exit 0: nothing, 2: something, 1: error."""
    if offline:
        if path is None:
            fail("--offline goes with --path")
        body = offline_plan(path)
    elif path is not None:
        files = {name: data.decode("utf-8", "replace") for name, data in named_files(path).items()}
        _, body = connect(server, token).post("/reconciler/plan", {"files": files}, timeout=120)
    elif ref is not None:
        _, body = connect(server, token).post("/reconciler/plan", {"ref": ref}, timeout=120)
    else:
        body = connect(server, token).get("/reconciler/plan")
    if output is Format.JSON:
        show_json(body)
    else:
        show_plan(body)
        if body.get("behind"):
            _tell_what_it_lacks(ref, body["behind"])
    if body["errors"]:
        raise typer.Exit(1)
    raise typer.Exit(2 if body["actions"] or body["held"] else 0)


def offline_plan(path: Path) -> dict[str, Any]:
    """The plan of a folder against an empty installation."""
    from reconciler.controllers.planner import decide  # only here: these take half a second to load
    from reconciler.source.desired import from_texts

    desired = from_texts(read_files(path), _LIMIT)
    outcome = decide(desired.tree, {}, desired.tree.declared, revision="", now=datetime.now(UTC))
    body: dict[str, Any] = msgspec.to_builtins(outcome.plan.to_dict())
    return body


def sync(
    confirm: Annotated[str | None, typer.Option(help="Digest of removals that wait.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait.")] = 60,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Look at the spec repository now. Exit 3 when the wait ran out."""
    body = {"confirm": confirm} if confirm else {}
    code, answer = connect(server, token).post("/reconciler/sync", body, timeout=wait + 10, wait=wait)
    if output is Format.JSON:
        show_json(answer)
    else:
        console().print(
            f"revision {(answer['revision'] or 'none')[:12]}" + ("" if code == 200 else " (still at work)")
        )
        show_plan(answer)
    raise typer.Exit(0 if code == 200 else 3)


def why(
    key: Annotated[str, typer.Argument(help="A KEY.", autocompletion=completion.keys())],
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Why something does not run, or is not in sync."""
    body = connect(server, token).get(f"/reconciler/why/{key}")
    if output is Format.JSON:
        show_json(body)
        return
    console().print(f"{key}  {coloured(body['sync'])}  {coloured(body['health'])}")
    if not body["causes"]:
        console().print("nothing stands in the way")
    for cause in body["causes"]:
        where = f"  ({cause['where']})" if cause["where"] else ""
        console().print(f"  {cause['reason']}: {cause['message']}{where}", markup=False)


def can(
    verb: Annotated[str, typer.Argument(help="read, trigger, cancel, retry, edit, delete or confirm.")],
    key: Annotated[
        str, typer.Argument(help="A KEY, which need not be there yet.", autocompletion=completion.keys())
    ],
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """May I, and why not; exit 2 if not."""
    body = connect(server, token).get(f"/reconciler/can/{verb}/{key}")
    if output is Format.JSON:
        show_json(body)
    else:
        console().print("yes" if body["allowed"] else f"no: {body['why']}", markup=False)
    raise typer.Exit(0 if body["allowed"] else 2)


def whoami(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Who the token speaks for, and which roles it leaves."""
    body = connect(server, token).get("/reconciler/whoami")
    if output is Format.JSON:
        show_json(body)
        return
    console().print(body["subject"], markup=False)
    rows = [
        (r["role"], "/".join(filter(None, (r["project"], r["environment"]))) or "everywhere")
        for r in body["roles"]
    ]
    show_table(("ROLE", "WHERE"), rows)


def schedules(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Schedules with their next times."""
    body = connect(server, token).get("/reconciler/schedules")
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            i["key"],
            i["cron"] or f"every {i['interval_seconds']} s",
            i["timezone"],
            ago(i["last_due"]),
            ago(i["next"][0]),
        )
        for i in body["items"]
    ]
    show_table(("KEY", "WHEN", "ZONE", "LAST", "NEXT"), rows, "no schedules")


def executors(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Executors with the workers that serve them, and how many scripts wait for a place."""
    body = connect(server, token).get("/reconciler/executors")
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            item["key"],
            worker["name"] + (" (leads)" if worker["leads"] and worker["kind"] == "daemon" else ""),
            worker["kind"],
            f"{worker['load']:g} of {worker['max_load']:g}",
            worker["closed"]["message"] if worker["closed"] else "open",
        )
        for item in body["items"]
        for worker in item["workers"] or [_NOBODY | {"closed": item["closed"]}]
    ]
    show_table(("KEY", "WORKER", "IS", "LOAD", "STATE"), rows, "no executors that you may see")
    typer.echo(f"{body['waiting']} waiting", err=True)


_NOBODY = {"name": "nobody", "kind": "", "leads": False, "load": 0, "max_load": 0}


def events(
    after: Annotated[
        int | None, typer.Option(help="Number after which to begin; without it, the newest ones.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 100,
    key: Annotated[
        str | None, typer.Option(help="Of this KEY only.", autocompletion=completion.keys())
    ] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """What happened lately, oldest first."""
    which = {"newest": True} if after is None else {"after": after}
    body = connect(server, token).get("/reconciler/events", **which, limit=limit, key=key)
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (i["seq"], ago(i["at"]), i["actor"], i["kind"], i["key"], (i["revision"] or "")[:12])
        for i in body["items"]
    ]
    show_table(("SEQ", "WHEN", "WHO", "WHAT", "KEY", "REVISION"), rows, "no events")


def show_plan(body: dict[str, Any]) -> None:
    """A plan for people: one line an action, one line a changed field."""
    out = console()
    for error in body.get("errors", []):
        out.print(f"[red]error[/red] {error['location']}: ", end="")
        out.print(error["message"], markup=False)
    for action in body["actions"]:
        out.print(f"{_MARKS[action['action']]} {action['key']}  [dim]{action['location']}[/dim]")
        if action["action"] == "update":
            for change in action["changes"]:
                for look, line in _changed(change):
                    out.print(f"    {line}", style=look, markup=False)
    for deploy in body.get("deploys", []):
        out.print(f"{_ACTS[deploy['action']]} {deploy['key']}  ", end="")
        out.print(_deploy(deploy), markup=False)
        for cause in deploy.get("gate", {}).get("causes", []):
            out.print(f"    [yellow]waits[/yellow] {cause['reason']}: ", end="")
            out.print(cause["message"], markup=False)
    for held in body.get("held", []):
        out.print(f"[yellow]held[/yellow] {held['reason']}: ", end="")
        out.print(f"{held['message']}: {_some(held['keys'])}", markup=False)
    counts = [f"{sum(a['action'] == verb for a in body['actions'])} to {verb}" for verb in _MARKS]
    counts += [f"{len(held['keys'])} held" for held in body.get("held", [])]
    out.print(", ".join(counts) if body["actions"] or body.get("held") else "nothing to do")


def _some(keys: Sequence[str]) -> str:
    """As many KEYs as a person reads, and how many there are besides."""
    more = len(keys) - _FEW
    return ", ".join(keys) if more <= 0 else f"{', '.join(keys[:_FEW])} and {more} more"


def _tell_what_it_lacks(ref: str | None, behind: int) -> None:
    """On standard error: a plan compares, and does not merge."""
    commits = "1 commit" if behind == 1 else f"{behind} commits"
    told = "what they brought is shown as taken back; merge or rebase first, to see what merging would do"
    typer.echo(f"{ref} lacks {commits} of the followed branch: {told}", err=True)


def _deploy(body: dict[str, Any]) -> str:
    """What is deployed or destroyed, from which version to which, and what runs for it."""
    version, scripts = body["version"], body["scripts"]
    if body["trouble"]:
        return f"{version['old'] or 'nothing'} → {version['wanted']}: {body['trouble']}"
    goes = body["action"] == "destroy"
    old = version["old"] or ("its own scripts" if goes else "nothing")
    told = f"{old} → {version['new'] or ('nothing' if goes else 'its own scripts')}"
    if body["action"] == "errand":
        told = f"on {version['old'] or 'its own scripts'}"
    if version["wanted"] not in ("", version["new"]):
        told += f" ({version['wanted']} as of now)"
    if body["digest"]:
        told += f", digest {body['digest'].removeprefix('sha256:')[:12]}"
    runs = [f"{s['stage']} ({s['runs']})" if s["runs"] != "inline" else s["stage"] for s in scripts]
    return f"{told}; runs {', '.join(runs) or 'no script'}"


def _changed(change: dict[str, Any]) -> list[tuple[str | None, str]]:
    """What becomes of a field, as YAML: in one line where it is short, else the lines that differ, with colours."""
    lines = difference(change)
    both = [line.partition(": ")[2] for _, line in lines]
    name, old, new = change["field"], change["old"], change["new"]
    if len(lines) == 2 and None not in (old, new) and sum(map(len, both)) <= _ONE_LINE:
        return [(None, f"{name}: {both[0]} → {both[1]}")]
    return [(_COLOURS.get(mark), line) for mark, line in lines]


def _resource(body: dict[str, Any], output: Format) -> None:
    if output is Format.JSON:
        show_json(body)
        return
    out = console()
    out.print(f"[bold]{body['key']}[/bold]  {coloured(body['sync'])}  {coloured(body['health'])}")
    out.print(
        f"  declared at {body['location']}, generation {body['generation']}, revision {body['revision'][:12]}"
    )
    if body.get("deployed"):
        out.print(f"  {_stands(body['deployed'])}, {ago(body['deployed']['at'])}", markup=False)
    if body.get("newest"):
        newest, word = body["newest"], "run" if body["kind"] == "Pipeline" else "job"
        reason = f" ({newest['reason']})" if newest["reason"] else ""
        out.print(f"  {word} {newest['number']} {newest['state']}{reason}", markup=False)
    for condition in body["conditions"]:
        if condition["status"]:
            out.print(
                f"  {condition['type']}: {condition['message']} ({ago(condition['since'])})", markup=False
            )


def _stands(deployed: dict[str, Any] | None) -> str:
    """What stands of a Deployment: release and version, with the status where that is not ok."""
    if deployed is None or deployed["status"] == "empty":
        return "nothing"
    version = f"{deployed['release']}-v{deployed['version']}" if deployed["version"] else "its own scripts"
    return version if deployed["status"] == "ok" else f"{version} ({deployed['status']})"
