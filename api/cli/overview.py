"""What `steersman status` tells of the whole: what is wrong, what waits and for what, what runs, what is next.

Called by `api.cli.remote`. Asks the server by GET only. People get a line for each thing, programs the same as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape

from api.cli.client import Client
from api.cli.output import ago, console, show_table

_MOST = 10
_PAGE = 100
_WAITS = ("Held", "Waiting")
"""Conditions that say what is waited for; most others say what is wrong."""
_TOLD = (*_WAITS, "Invalid", "RemovalBrake", "PruneHeld", "InUse", "Warning", "Delivered")
"""Conditions that are told otherwise, or nothing bad."""
Row = dict[str, Any]


def gather(client: Client, body: Mapping[str, Any]) -> dict[str, list[Row]]:
    """What the overview tells, by part; `body` is the answer of `/reconciler/status`.

    Of what waits for its turn, the newest hundred jobs.
    """
    troubled = list(_troubled(client))
    pending = client.get("/reconciler/jobs", state="pending", limit=_PAGE)["items"]
    return {
        "wrong": [*_wrong(body), *_faults(troubled)],
        "waits": [*_held(body), *_waits(client, troubled, pending), *_asked(client)],
        "runs": [
            {"job": job["number"], "key": job["key"], "since": job["started_at"] or job["created_at"]}
            for state in ("executing", "aborting")
            for job in client.pages("/reconciler/jobs", state=state, limit=_PAGE)
        ],
        "next": _next(client),
    }


def show(body: Mapping[str, Any], found: Mapping[str, Sequence[Row]]) -> None:
    """The same for people."""
    _head(body)
    for part, heads in _PARTS.items():
        _section(part.title(), heads, [[_cell(name, row[name]) for name in heads] for row in found[part]])


_PARTS = {
    "wrong": ("where", "what", "key"),
    "waits": ("key", "reason", "for"),
    "runs": ("job", "key", "since"),
    "next": ("key", "when", "starts"),
}
_TIMES = ("since", "starts")


def _cell(name: str, value: Any) -> Any:
    return ago(value) if name in _TIMES else "" if value is None else value


def _head(body: Mapping[str, Any]) -> None:
    out = console()
    source, resources, jobs = body["source"], body["resources"], body["jobs"]
    applied, attempted = source["last_applied_revision"], source["last_attempted_revision"]
    revision = (applied or "nothing yet")[:12]
    if attempted and attempted != applied:
        revision += f", {attempted[:12]} is not applied"
    if source["repository"] is not None:  # who has no role is told nothing of it
        out.print(f"[bold]{escape(source['repository'])}[/bold] {escape(source['branch'])} at {revision}")
    line = f"resources  {resources['total']}: {resources['synced']} synced, {resources['out_of_sync']} out of sync"
    out.print(f"{line}, {resources['invalid']} invalid")
    healths = (f"{count} {word}" for word, count in resources["health"].items() if count)
    out.print(f"health     {', '.join(healths) or 'nothing declared'}")
    out.print(f"jobs       {jobs['pending']} pending, {jobs['executing']} executing")
    following = body["schedules"]["next"]
    out.print(f"schedules  {body['schedules']['total']}" + (f", next {ago(following)}" if following else ""))


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    console().print(f"\n[bold]{title}[/bold]")
    show_table([head.upper() for head in heads], rows[:_MOST])
    if len(rows) > _MOST:
        console().print(f"and {len(rows) - _MOST} more, all of which `steersman status -o json` tells")


def _troubled(client: Client) -> Iterator[Mapping[str, Any]]:
    """Resources that do not stand as they should, each once."""
    seen = set()
    for asked in (
        {"sync": "OutOfSync"},
        {"health": "Degraded"},
        {"health": "Suspended"},
        {"sync": "Unknown"},
    ):
        for item in client.pages("/reconciler/resources", **asked):
            if item["key"] not in seen:
                seen.add(item["key"])
                yield item


def _wrong(body: Mapping[str, Any]) -> Iterator[Row]:
    """What keeps the source from being read, passes that fail, and what is wrong in the files."""
    trouble = body["source"]["trouble"]
    for each in [{"name": "source", **trouble}] if trouble else []:
        yield _fault(each["name"], each["message"])
    for each in body["troubles"]:
        yield _fault(each["name"], each["message"])
    for error in body["source"]["errors"]:
        yield _fault(error["location"], error["message"], error["key"])


def _faults(troubled: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    for item in troubled:
        found = [each for each in _conditions(item) if each["type"] not in _TOLD]
        for each in found:
            yield _fault(item["location"], f"{each['type']}: {each['message']}", item["key"])
        if item["health"] == "Degraded" and not found:
            yield _fault(item["location"], _degraded(item), item["key"])


def _fault(where: str, what: str, key: str | None = None) -> Row:
    return {"where": where, "what": what, "key": key}


def _wait(key: str, reason: str, told: str) -> Row:
    return {"key": key, "reason": reason, "for": told}


def _degraded(item: Mapping[str, Any]) -> str:
    if item["kind"] in ("Build", "Deployment"):
        return f"Degraded: its newest job did not pass (steersman jobs --key {item['key']})"
    return f"Degraded (steersman why {item['key']})"


def _held(body: Mapping[str, Any]) -> Iterator[Row]:
    for held in body["held"]:
        yield _wait(held["keys"][0] if held["keys"] else "source", held["reason"], held["message"])


def _waits(
    client: Client, troubled: Iterable[Mapping[str, Any]], pending: Iterable[Mapping[str, Any]]
) -> Iterator[Row]:
    told = set()
    for item in troubled:
        for each in _conditions(item):
            if each["type"] in _WAITS:
                told.add(item["key"])
                yield _wait(item["key"], each["reason"], each["message"])
    for job in pending:
        if job["key"] not in told:
            waits = waits_for(client.get(f"/reconciler/jobs/{job['number']}"))
            why = waits or f"{job['reason'] or 'its turn'} (steersman why {job['key']})"
            yield _wait(job["key"], job["reason"] or "pending", f"job {job['number']} waits: {why}")


def waits_for(job: Mapping[str, Any]) -> str:
    """What keeps a job's trials from starting, in a sentence; empty when nothing is known that does."""
    trials = (trial for task in job["tasks"] for trial in task["trials"])
    return "; ".join(dict.fromkeys(trial["waits_for"] for trial in trials if trial["waits_for"]))


def _asked(client: Client) -> Iterator[Row]:
    """What people are asked for: approvals of deploys, and decisions in runs of pipelines."""
    runs = client.get("/reconciler/resources", kind="Pipeline", health="Progressing", limit=_MOST)
    for item in runs["items"]:
        for cause in client.get(f"/reconciler/why/{item['key']}")["causes"]:
            yield _wait(item["key"], cause["reason"], cause["message"])
    for request in client.get("/reconciler/approvals")["items"]:
        waits = "; ".join(rule["waits"] for rule in request["rules"] if rule["waits"])
        key = request["key"] or request["application"]
        you = any(rule["you_may"] for rule in request["rules"])
        yield _wait(key, "Approval", waits + (f" (steersman approve {key})" if you else ""))


def _next(client: Client) -> list[Row]:
    due = (
        (item["next"][0], item["key"], item["cron"] or f"every {item['interval_seconds']} s")
        for item in client.get("/reconciler/schedules")["items"]
        if item["next"]
    )
    return [{"key": key, "when": when, "starts": moment} for moment, key, when in sorted(due)[:3]]


def _conditions(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in item["conditions"] if each["status"]]
