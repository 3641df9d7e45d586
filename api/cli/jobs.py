"""Verbs about jobs: trigger, jobs, job, cancel, retry, logs, attachments."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from api.cli import completion
from api.cli.client import Client, connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, coloured, console, fail, show_json, show_table, took
from api.cli.overview import waits_for
from api.cli.terminal import Harmless, harmless, shown


def _which(text: str) -> str:
    if text.isdecimal() or "/" in text:
        return text
    raise typer.BadParameter("give the number of a job, or the KEY of a Build or a Deployment")


Which = Annotated[
    str,
    typer.Argument(
        callback=_which,
        help="Number of the job, or a KEY for its newest one.",
        autocompletion=completion.jobs_and_keys,
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Follow until the job has ended; exit 2 if it did not pass.")
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = timedelta(days=36_500)


def trigger(
    key: Annotated[
        str,
        typer.Argument(
            help="KEY of a Build, a Deployment or a Pipeline.",
            autocompletion=completion.keys("Build", "Deployment", "Pipeline"),
        ),
    ],
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", help="NAME=VALUE, repeatable: of a Build, an errand, or a pipeline's payload."
        ),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(help="Of a Build: run its head; with --commit, as which branch that commit runs."),
    ] = None,
    commit: Annotated[
        str | None, typer.Option(help="Of a Build: run this one; with --branch, it must be on that branch.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Deploy this one; only where nothing puts the declared one back.")
    ] = None,
    errand: Annotated[str | None, typer.Option(help="Run an errand of what is deployed.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Test what is deployed.")] = False,
    destroy: Annotated[bool, typer.Option("--destroy", help="Destroy what is deployed.")] = False,
    follow: Follow = False,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a Build, deploy what a Deployment declares, or start a Pipeline, by hand."""
    if (errand is not None) + smoke + destroy > 1:
        fail("give one of --errand, --smoke and --destroy")
    pipeline = key.startswith("Pipeline/")
    if pipeline and follow:
        fail(
            "a run of a pipeline has no log of its own; start it without -f, and `steersman jobs` lists its jobs"
        )
    body = {
        "key": key,
        "inputs": dict(_pair(item) for item in input or []),
        "branch": branch,
        "commit": commit,
        "version": version,
        "action": "smoke" if smoke else "destroy" if destroy else None,
        "errand": errand,
    }
    client = connect(server, token)
    _, made = client.post("/reconciler/trigger", body, timeout=180)
    _tell_what_is_wrong(client, key)
    if pipeline and output is not Format.JSON:
        console().print(f"run {made['number']}  (steersman why {key})", markup=False)
        return
    _made(client, made, follow, output)


def retry(
    job: Which,
    follow: Follow = False,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a finished job again, as a new job: with the specification that it had."""
    client = connect(server, token)
    _, made = client.post(f"/reconciler/jobs/{_number(client, job)}/retry")
    if made.get("outdated") and output is not Format.JSON:
        key = made["key"]
        told = f"it runs an earlier specification of {key}; `steersman trigger {key}` runs the present one"
        console().print(told, markup=False)
    _made(client, made, follow, output)


def cancel(job: Which, server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """End a job: TERM, then KILL."""
    client = connect(server, token)
    number = _number(client, job)
    _, body = client.post(f"/reconciler/jobs/{number}/cancel")
    show_json(body) if output is Format.JSON else console().print(f"job {number} is being ended")


_PATIENCE = 1.0
_MARKS = frozenset("*?[")
_BAD = ("failed", "defective")
_IGNORED = "ignored: the job passes without it"
_OWN = "run"
"""The name of a task's only script."""


def jobs(
    key: Annotated[
        str | None,
        typer.Option(
            help="KEY of a Build or a Deployment.", autocompletion=completion.keys("Build", "Deployment")
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Such as pending, executing, passed, failed, defective or aborted; several as in failed,defective."
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Of this project.")] = None,
    branch: Annotated[str | None, typer.Option(help="Of commits of this branch.")] = None,
    limit: Annotated[int, typer.Option(help="How many, at most 500.")] = 20,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Jobs, newest first."""
    which = {"key": key, "state": state, "project": project, "branch": branch}
    body = connect(server, token).get("/reconciler/jobs", **which, limit=limit)
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            i["number"],
            i["key"],
            i["state"],
            i["reason"],
            i["trigger"].get("type"),
            i["branch"] or i["tag"],
            (i["commit"] or "")[:10],
            ago(i["created_at"]),
            took(i["started_at"], i["finished_at"]),
        )
        for i in body["items"]
    ]
    heads = ("JOB", "KEY", "STATE", "REASON", "TRIGGER", "REF", "COMMIT", "CREATED", "TOOK")
    show_table(heads, rows, "no jobs")


def job(job: Which, server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """One job with its tasks and tries."""
    client = connect(server, token)
    number = _number(client, job)
    body = client.get(f"/reconciler/jobs/{number}")
    if output is Format.JSON:
        show_json(body)
        return
    reason = f" ({body['reason']})" if body["reason"] else ""
    console().print(
        f"[bold]{body['key']}#{number}[/bold]  {coloured(body['state'])}{reason}  {ago(body['created_at'])}"
    )
    rows: list[tuple[Any, ...]] = []
    for task in body["tasks"]:
        told = _IGNORED if task["state"] in _BAD and task.get("ignore_failure") else ""
        rows.append((task["name"], task["state"], task["reason"], "", "", told))
        for trial in task["trials"]:
            status = next((s["exit_status"] for s in trial["scripts"] if s["name"] == _OWN), None)
            note = trial["error"] or trial["waits_for"] or ""
            time = took(trial["started_at"], trial["finished_at"])
            rows.append((f"  #{trial['number']}", trial["state"], trial["reason"], status, time, note))
            named = (s for s in trial["scripts"] if s["name"] != _OWN)
            rows += ((f"    {s['name']}", s["state"], "", s["exit_status"], "", "") for s in named)
    for issue in body["issues"]:
        told = escape(f"{issue['title']}: {issue['description']}")
        console().print(f"[bold]{escape(issue['type'])}[/bold]: {told}")
    show_table(("TASK", "STATE", "REASON", "EXIT", "TOOK", "NOTE"), rows, "no tasks")


def logs(
    job: Which,
    follow: Follow = False,
    search: Annotated[
        str | None, typer.Option(help="Only lines that have this text; exit 1 if none has.")
    ] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help="Search: big or small letters.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="What was printed since then: 2026-07-01T12:00:00Z, or 90s, 10m, 2h, 1d ago."),
    ] = None,
    task: Annotated[str | None, typer.Option()] = None,
    trial: Annotated[int | None, typer.Option()] = None,
    script: Annotated[str | None, typer.Option(help="`run`, or the name of a service.")] = None,
    offset: Annotated[int, typer.Option(help="Byte to begin at.")] = 0,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """The log of a job."""
    if follow and search is not None:
        fail("--search goes through the log as it is now; give it without --follow")
    if search is None and (ignore_case or output is Format.JSON):
        fail("--ignore-case and --output json are for --search TEXT")
    if search is not None and since is not None:
        fail("--search goes through the whole log, or from --offset on; give it without --since")
    client = connect(server, token)
    number = _number(client, job)
    which: dict[str, Any] = {"task": task, "trial": trial, "script": script}
    if search is not None:
        asked = which | {"q": search, "ignore_case": ignore_case or None}
        found = _search(client, number, asked, offset, output)
        if task is None:
            _tell_what_is_behind(client, number)
        raise typer.Exit(0 if found else 1)
    asked = which | {"offset": offset, "since": None if since is None else _moment(since)}
    if follow:
        _follow(client, number, **asked)
        return
    for chunk in shown(client.text(f"/reconciler/jobs/{number}/log", **asked)):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    if task is None:
        _tell_what_is_behind(client, number)


def attachments(
    job: Which,
    path: Annotated[
        str | None,
        typer.Argument(help="Which to fetch, or a pattern such as 'out/*.xml'; without it they are listed."),
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder to put it in, with the folders of its path.")] = Path(),
    task: Annotated[
        str | None, typer.Option(help="Of this task; else the first that has it, such as a row of a matrix.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Of this try; else the newest.")] = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """List the files that a job keeps, or fetch one or more."""
    client = connect(server, token)
    number = _number(client, job)
    if path is not None and not _MARKS & set(path):
        target = _fetch(client, number, path, to, task=task, trial=trial)
        show_json({"path": str(target)}) if output is Format.JSON else _told([target])
        return
    body = client.get(f"/reconciler/jobs/{number}/attachments")
    body["items"] = [
        item for item in body["items"] if task in (None, item["task"]) and trial in (None, item["trial"])
    ]
    if path is not None:
        found = _fitting(path, [item["path"] for item in body["items"]])
        if not found:
            fail(f"job {number} keeps nothing that fits {path!r}; `steersman attachments {number}` lists it")
        targets = [_fetch(client, number, each, to, task=task, trial=trial) for each in found]
        show_json({"paths": [str(each) for each in targets]}) if output is Format.JSON else _told(targets)
        return
    rows = [(i["path"], i["size"], i["task"], i["trial"], i["digest"][:19]) for i in body["items"]]
    show_json(body) if output is Format.JSON else show_table(
        ("PATH", "BYTES", "TASK", "TRIAL", "DIGEST"), rows, "none"
    )


def _told(targets: list[Path]) -> None:
    """Their names are what scripts called them."""
    for target in targets:
        console().print(harmless(str(target)), markup=False)


def _fitting(pattern: str, paths: list[str]) -> list[str]:
    """The file of this very name, or else all that fit, as `attachments` of a task are found."""
    from specs.globs import matches  # only here: the command line starts without the models

    known = list(dict.fromkeys(paths))
    return [pattern] if pattern in known else [path for path in known if matches(pattern, path)]


def _fetch(client: Client, number: int, path: str, to: Path, **which: Any) -> Path:
    """Put one below the folder, at its own path; nothing lies there before the whole of it is here."""
    target = to / path.lstrip("/")
    inside = target.parent.resolve().is_relative_to(to.resolve())  # links that lie there are followed
    if not inside or ".." in target.relative_to(to).parts or target == to:
        fail(f"{path} would lie outside of {to}")
    content = client.text(f"/reconciler/jobs/{number}/attachments/{quote(path)}", **which)
    first = next(content, b"")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.part"  # what lies there already stays until the whole is here
    try:
        with part.open("wb") as file:
            file.writelines(chain((first,), content))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _number(client: Client, job: str) -> int:
    """The number that was given, or that of a KEY's newest job, which is named on standard error."""
    if job.isdecimal():
        return int(job)
    items = client.get("/reconciler/jobs", key=job, limit=1)["items"]
    if not items:
        fail(f"there is no job of {job}; `steersman jobs` lists those there are")
    sys.stderr.write(f"job {items[0]['number']}\n")
    number: int = items[0]["number"]
    return number


def _tell_what_is_wrong(client: Client, key: str) -> None:
    """On standard error, where what has been started is not what Git says now."""
    found = client.look(f"/reconciler/resources/{key}") or {"conditions": ()}
    for each in found["conditions"]:
        if each["status"] and each["type"] == "Invalid":
            told = "is wrong in Git, and its last good specification runs"
            sys.stderr.write(f"{key} {told}: {each['message']}\n")


def _made(client: Client, made: dict[str, Any], follow: bool, output: Format) -> None:
    if output is Format.JSON:
        show_json(made)
    else:
        hint = "" if follow else f"  (steersman logs {made['number']} -f)"
        console().print(f"job {made['number']}{hint}")
    if follow:
        _follow(client, made["number"], reached=True)


def _follow(client: Client, number: int, *, reached: bool = False, **params: Any) -> None:
    tamed = Harmless() if sys.stdout.isatty() else None
    begun = threading.Event()
    threading.Thread(target=_tell_what_it_waits_for, args=(client, number, begun), daemon=True).start()
    for message in client.follow(f"/reconciler/jobs/{number}/log/stream", reached=reached, **params):
        begun.set()
        body = json.loads(message.data)
        if message.event == "end":
            sys.stdout.flush()
            reason = f" ({body['reason']})" if body["reason"] else ""
            sys.stderr.write(f"job {number}{_part(params)} {body['state']}{reason}\n")
            if body["state"] != "passed" and not params.get("task"):
                _tell_what_failed(client, number)
            raise typer.Exit(0 if body["state"] == "passed" else 2)
        text = body["text"]
        sys.stdout.write(text if tamed is None else tamed.feed(text.encode()).decode("utf-8", "replace"))
        sys.stdout.flush()


def _tell_what_failed(client: Client, number: int) -> None:
    """On standard error: the tasks by which it did, each with the way to its log."""
    job = client.look(f"/reconciler/jobs/{number}") or {"tasks": ()}
    for task in job["tasks"] if len(job["tasks"]) > 1 else ():
        if task["state"] in _BAD and not task.get("ignore_failure"):
            reason = f" ({task['reason']})" if task["reason"] else ""
            log = shlex.join(("steersman", "logs", str(number), "--task", task["name"]))
            sys.stderr.write(f"  task {task['name']} {task['state']}{reason}: {log}\n")


def _tell_what_is_behind(client: Client, number: int) -> None:
    """On standard error: what has begun after a script that still runs, for the log of a job ends with that one."""
    job = client.look(f"/reconciler/jobs/{number}") or {"tasks": ()}
    begun = sorted(
        (trial["started_at"], task["name"], trial["finished_at"] is None)
        for task in job["tasks"]
        for trial in task["trials"]
        if trial["started_at"]
    )
    runs = next((at for at, (_, _, at_work) in enumerate(begun) if at_work), len(begun))
    behind = dict.fromkeys(name for _, name, _ in begun[runs + 1 :])
    if behind:
        where = f"{begun[runs][1]} still runs, and behind it come {', '.join(behind)}"
        sys.stderr.write(f"{where}: steersman logs {number} --task NAME\n")


def _tell_what_it_waits_for(client: Client, number: int, begun: threading.Event) -> None:
    """On standard error, while there is nothing to follow yet."""
    told = ""
    while not begun.wait(_PATIENCE):
        job = client.look(f"/reconciler/jobs/{number}")
        waits = "" if job is None else waits_for(job)
        if waits and waits != told and not begun.is_set():
            sys.stderr.write(f"job {number} waits: {waits}\n")
            sys.stderr.flush()
            told = waits


def _search(client: Client, number: int, asked: dict[str, Any], offset: int | None, output: Format) -> bool:
    """All pages, each shown as it comes; whether there was anything."""
    items: list[dict[str, Any]] = []
    while offset is not None:
        body = client.get(f"/reconciler/jobs/{number}/log/search", **asked, offset=offset, limit=500)
        items += body["items"]
        offset = body["next"]
        for item in body["items"] if output is not Format.JSON else ():
            place = f"{item['task']} #{item['trial']} {item['script']}:{item['line']}"
            text = item["text"] if not sys.stdout.isatty() else harmless(item["text"])
            sys.stdout.write(f"{place}: {text}\n")
    if output is Format.JSON:
        show_json({"items": items})
    return bool(items)


def _moment(text: str) -> str:
    """A time as the server takes it: RFC 3339, or so long ago."""
    ago_ = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago_ is not None:
        past = timedelta(seconds=int(ago_[1]) * _UNITS[ago_[2]])
        return (datetime.now(UTC) - min(past, _LONGEST)).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--since: {text!r} is no time; give 2026-07-01T12:00:00Z, or 90s, 10m, 2h, 1d for so long ago")
    return moment.astimezone(UTC).isoformat()


def _part(params: dict[str, Any]) -> str:
    """What of the job was followed, for a person."""
    task, trial, script = params.get("task"), params.get("trial"), params.get("script")
    return (f" {task}" if task else "") + (f" #{trial}" if trial else "") + (f" {script}" if script else "")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        fail(f"an input is given as NAME=VALUE, not {text!r}")
    return name, value
