"""The verbs about what holds deploys: approvals, freezes, and when something could start."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from api.cli import completion
from api.cli.client import connect
from api.cli.options import Output, Server, Token
from api.cli.output import Format, ago, console, fail, show_json, show_table

_SPAN = re.compile(r"([0-9]{1,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

What = Annotated[
    str,
    typer.Argument(
        help="The KEY of a Deployment or a Pipeline, or the number of a request.",
        autocompletion=completion.keys("Deployment", "Pipeline"),
    ),
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why, in a sentence.")]
Digest = Annotated[
    str | None, typer.Option(help="The digest that you looked at; what has another one is refused.")
]
InRun = Annotated[
    int | None, typer.Option("--run", help="Of a Pipeline that asks in several runs: this one's number.")
]
AtStep = Annotated[
    str | None,
    typer.Option("--step", help="Of a Pipeline that asks more than once: the confirmation, as PHASE/NAME."),
]


def approvals(
    everything: Annotated[bool, typer.Option("--all", help="Also those with a verdict.")] = False,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """What waits for people, and who may decide."""
    body = connect(server, token).get("/reconciler/approvals", **({"all": "true"} if everything else {}))
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            item["request"],
            item["key"] or item["application"],
            item["version"],
            (item["digest"] or "")[:12],
            item["state"],
            "; ".join(f"{rule['ruleset']}: {rule['waits'] or 'decided'}" for rule in item["rules"]),
            "yes" if any(rule["you_may"] for rule in item["rules"]) else "no",
            ago(item["created_at"]),
        )
        for item in body["items"]
    ]
    heads = ("REQUEST", "WHAT", "VERSION", "DIGEST", "STATE", "WAITS FOR", "YOU MAY", "ASKED")
    asked = [
        (
            item["key"],
            str(item["run"]),
            item["step"],
            ", ".join(f"{word} {name}" for word, name in item["asked"].items()),
            "yes" if item["you_may"] else "no",
            ago(item["created_at"]),
        )
        for item in body["confirmations"]
    ]
    if rows or not asked:
        show_table(heads, rows, "nothing waits for approval")
    if asked:
        show_table(("PIPELINE", "RUN", "STEP", "ASKS", "YOU MAY", "BEGUN"), asked, "")


def approve(
    what: What,
    comment: Comment = "",
    digest: Digest = None,
    run: InRun = None,
    step: AtStep = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Approve exactly what waits: package, target, inputs and scripts as they are now; or a Pipeline's confirmation."""
    _decide("approved", what, comment, (digest, run, step), (server, token, output))


def reject(
    what: What,
    comment: Comment = "",
    digest: Digest = None,
    run: InRun = None,
    step: AtStep = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Reject what waits; it is asked for again when it changes, or is triggered by hand."""
    _decide("rejected", what, comment, (digest, run, step), (server, token, output))


def _decide(
    decision: str,
    what: str,
    comment: str,
    which: tuple[str | None, int | None, str | None],
    how: tuple[str | None, str | None, Format],
) -> None:
    server, token, output = how
    digest, run, step = which
    about: dict[str, Any] = {"request": int(what)} if what.isdecimal() else {"key": what}
    about |= {
        name: value for name, value in (("digest", digest), ("run", run), ("step", step)) if value is not None
    }
    body = {**about, "decision": decision, "comment": comment}
    _, answer = connect(server, token).post("/reconciler/approvals", body)
    if output is Format.JSON:
        show_json(answer)
    else:
        (*_, last) = answer["decisions"]
        asked = "request" if last.get("run") is None else "run"
        told = f"{decision} {last['step']} of run {last['run']}" if asked == "run" else decision
        console().print(f"{told}; the {asked} is {answer['state']}", markup=False)


def freezes(server: Server = None, token: Token = None, output: Output = Format.TABLE) -> None:
    """Freezes, what they hold now, and who can let something through."""
    body = connect(server, token).get("/reconciler/freezes")
    if output is Format.JSON:
        show_json(body)
        return
    rows = [
        (
            item["key"],
            "holds" if item["active"] else "open",
            item["until"] or ("no end" if item["active"] else None),
            ", ".join(item["environments"]) or "everywhere",
            ", ".join(item["held"]),
            item["reason"],
        )
        for item in body["items"]
    ]
    show_table(("FREEZE", "NOW", "UNTIL", "ENVIRONMENTS", "WAITING", "REASON"), rows, "no freezes")


def freeze(
    name: Annotated[str, typer.Argument(help="A name for it; with --lift, its KEY.")],
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
    until: Annotated[str | None, typer.Option(help="Its end, with an offset.")] = None,
    length: Annotated[str | None, typer.Option("--for", help="How long from now: 90m, 12h, 3d.")] = None,
    project: Annotated[str | None, typer.Option(help="Only in this project.")] = None,
    environment: Annotated[list[str] | None, typer.Option(help="Only in this environment.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Take it away again.")] = False,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Hold deploys from now on, or lift that: each is a commit to the spec repository."""
    client = connect(server, token)
    if lift:
        key = name if "/" in name else f"Freeze/{project or '_'}/{name}"
        client.delete(f"/reconciler/resources/{key}")
        if output is Format.JSON:
            show_json({"key": key, "lifted": True})
        else:
            console().print(f"{key} is lifted", markup=False)
        return
    if not reason:
        fail("give --reason: people will ask")
    if (until is None) == (length is None):
        fail("give either --until or --for")
    body: dict[str, Any] = {"name": name, "reason": reason, "environments": environment or []}
    body |= {"project": project} if project else {}
    body |= {"until": until} if until else {"seconds": _seconds(str(length))}
    _, answer = client.post("/reconciler/freezes", body)
    if output is Format.JSON:
        show_json(answer)
    else:
        console().print(f"{answer['key']} holds, by commit {str(answer['commit'])[:12]}", markup=False)


def _seconds(text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        fail(f"--for is a number with s, m, h, d or w, such as 12h, not {text}")
    return int(found[1]) * _SECONDS[found[2]]


def let_through(
    key: Annotated[
        str,
        typer.Argument(
            help="The KEY of a Deployment that a freeze holds.", autocompletion=completion.keys("Deployment")
        ),
    ],
    comment: Comment = "",
    freeze: Annotated[str | None, typer.Option(help="The KEY of one freeze of several.")] = None,
    digest: Digest = None,
    run: InRun = None,
    step: AtStep = None,
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """Let exactly what waits through a freeze that names you; recorded with its reason."""
    if not comment:
        fail("give --comment: a way through a freeze is recorded with its reason")
    body = {"key": key, "comment": comment}
    body |= {"freeze": freeze} if freeze else {}
    body |= {"digest": digest} if digest else {}
    _, answer = connect(server, token).post("/reconciler/pass", body)
    if output is Format.JSON:
        show_json(answer)
        return
    for each in answer["passed"]:
        console().print(f"{each['freeze']}: {each['given']} of {each['needed']}", markup=False)


def when(
    key: Annotated[
        str, typer.Argument(help="The KEY of a Deployment.", autocompletion=completion.keys("Deployment"))
    ],
    server: Server = None,
    token: Token = None,
    output: Output = Format.TABLE,
) -> None:
    """The first time at which it could be deployed, and what stands before it."""
    body = connect(server, token).get(f"/reconciler/when/{key}")
    if output is Format.JSON:
        show_json(body)
        return
    if body["at"] is None:
        console().print(f"{key}: no time is known")
    elif datetime.fromisoformat(body["at"]) <= datetime.now(UTC) and not body["approvals"]:
        console().print(f"{key}: now", markup=False)
    else:
        late = " at the earliest, once approved" if body["approvals"] else ""
        console().print(f"{key}: {body['at']} ({ago(body['at'])}){late}", markup=False)
    for cause in (*body["before"], *body["approvals"]):
        where = f"  ({cause['where']})" if cause["where"] else ""
        console().print(f"  {cause['reason']}: {cause['message']}{where}", markup=False)
