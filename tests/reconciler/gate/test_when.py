"""`when` says what happens: the real pass of the gate, under a clock that is moved, lets a deploy go just then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import executions as door
from reconciler.commands import jobs
from reconciler.installation import Installation
from reconciler.model.execution import Type
from reconciler.model.job import Job
from reconciler.model.resource import Resource
from reconciler.passes import gate
from reconciler.queries import gate as queries
from reconciler.store import holds
from reconciler.store import jobs as rows
from specs.kinds import KINDS
from tests.shop import Open, Shop

KEY = "Deployment/shop/prod/web"
ZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
ASKED = ("NeedsApproval", "AwaitsVerdict")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
STARTS = (datetime(2027, 3, 27, 12, 7, 3, tzinfo=UTC), datetime(2027, 10, 30, 22, 0, 0, 5, tzinfo=UTC))


def part(random: Random) -> dict[str, Any]:
    """Some of the parts of a rule, one at least."""
    begin, end = random.sample(
        ["00:00", "01:30", "02:15", "02:45", "9:00", "12:00:30", "17:00", "23:30", "24:00"], 2
    )
    found = {
        "begin_time": begin,
        "end_time": end,
        "days_of_week": " ".join(random.sample(DAYS, random.randint(1, 5))),
        "days_of_month": " ".join(map(str, random.sample(range(1, 32), random.randint(3, 20)))),
        "months_of_year": " ".join(map(str, random.sample(range(1, 13), random.randint(4, 11)))),
    }
    kept = set(
        random.sample(
            [("begin_time", "end_time"), *((name,) for name in list(found)[2:])], random.randint(1, 2)
        )
    )
    names = {name for names in kept for name in names}
    return {name: value for name, value in found.items() if name in names}


def calendar(random: Random, start: datetime) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A freeze or two, and a ruleset with one or two hours."""
    for number in range(random.randint(0, 2)):
        spec: dict[str, Any] = {"reason": "random"}
        if random.random() < 0.5:
            begin = start + timedelta(minutes=random.randint(-4000, 4000))
            spec |= {
                "from": begin.isoformat(),
                "until": (begin + timedelta(minutes=random.randint(1, 9000))).isoformat(),
            }
        else:
            spec["recurrence"] = [
                part(random) | {"timezone": random.choice(ZONES)} for _ in range(random.randint(1, 2))
            ]
        yield "Freeze", f"f{number}", spec
    rules = [{"type": "schedule", **part(random)} for _ in range(random.randint(0, 2))]
    yield "ApprovalRuleset", "hours", {"timezone": random.choice(ZONES), "rules": rules}


def put(installation: Installation, wanted: list[tuple[str, str, dict[str, Any]]], blank: Resource) -> None:
    """Declare just these, as if a commit had."""
    view = installation.snapshot.current
    gone = [key for key in view.resources if key.startswith(("Freeze/", "ApprovalRuleset/"))]
    made = [
        replace(
            blank,
            key=f"Freeze/_/{name}" if kind == "Freeze" else f"{kind}/{name}",
            kind=kind,
            project=None,
            environment=None,
            name=name,
            spec=KINDS[kind].model.model_validate(spec).model_dump(by_alias=True, mode="json"),
        )
        for kind, name, spec in wanted
    ]
    installation.snapshot.swap(view.with_changes(view.version, made, gone))


async def goes(installation: Installation, number: int, now: list[datetime], looks: int) -> datetime | None:
    """When the pass lets it go; None: not in so many looks."""
    for _ in range(looks):
        # after it none is at work that the daemon began before the clock was moved
        await installation.run_now(gate.NAME)
        again = await gate.run(installation)
        job = await installation.database.read(lambda c: rows.load(c, number))
        assert job is not None
        if not job.held:
            return now[0]
        if any(cause["reason"] in ASKED for cause in await causes(installation, number)):
            await asyncio.sleep(0.01)
        elif again is None or again.year > 2070:
            return None
        else:
            now[0] = again
    return None


async def causes(installation: Installation, number: int) -> tuple[Mapping[str, Any], ...]:
    """Why it is held."""
    found = await installation.database.read(lambda c: holds.of_jobs(c, [number]))
    return found[number].causes if number in found else ()


def test_when_is_when_the_gate_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(open_: Open) -> None:
        installation = open_.installation
        blank = installation.snapshot.current.resources[KEY]
        now = [STARTS[0]]
        installation.now = lambda: now[0]
        moved = SimpleNamespace(now=lambda _zone: now[0])
        monkeypatch.setattr("reconciler.store.database.datetime", moved)
        waited = 0
        for seed in range(40):
            random = Random(seed)
            now[0] = random.choice(STARTS) + timedelta(minutes=random.randint(-3000, 3000))
            begun = now[0]
            put(installation, list(calendar(random, begun)), blank)
            foretold = await queries.when(installation, ROOT, KEY)
            made = await door.trigger_deployment(installation, ROOT, KEY, Type.DEPLOY)
            told = await queries.when(installation, ROOT, KEY)
            expected = None if foretold["at"] is None else datetime.fromisoformat(foretold["at"])
            found = await goes(installation, made.number, now, 30 if expected is None else 3000)
            assert told["at"] == foretold["at"], seed
            assert (found is None) == (expected is None), seed
            if found is not None and expected is not None:
                assert abs(found - expected) < timedelta(seconds=1), (seed, begun, found, expected)
                waited += found > begun
            now[0] = begun
            await jobs.cancel(installation, ROOT, made.number)
            await ended(installation, made.number)
        assert waited > 8

    shop = Shop(tmp_path)
    run = {"deploy": {"inline": "true"}}
    spec = {"scripts": run, "reconcile": "manual", "run_on": {"traits": ["nowhere"]}}
    shop.deployment("web", spec)
    bindings = [{"approval_ruleset": "hours"}]
    shop.declare("ApprovalRuleset", "hours", {"rules": []})
    shop.declare("Environment", "prod", {"approval_ruleset_bindings": bindings}, project="shop")
    shop.run(work)


HALVES = ({"begin_time": "00:00", "end_time": "12:00"}, {"begin_time": "12:00", "end_time": "24:00"})
WORKDAYS = {"days_of_week": "mon tue wed thu fri"}


@pytest.mark.parametrize(
    ("freeze", "until"),
    [
        ({"recurrence": [{"begin_time": "00:00", "end_time": "24:00"}]}, None),
        ({"recurrence": [{"days_of_week": " ".join(DAYS), "timezone": "Asia/Kolkata"}]}, None),
        ({"recurrence": [{**HALVES[0], "timezone": "UTC"}, HALVES[1]]}, None),
        ({"recurrence": [{**half, **WORKDAYS} for half in HALVES]}, "2027-03-27T00:00:00+00:00"),
        (
            {
                "from": "2027-03-20T00:00:00Z",
                "until": "2027-03-23T00:00:00Z",
                "recurrence": [{**half, **WORKDAYS} for half in HALVES],
            },
            "2027-03-27T00:00:00+00:00",
        ),
    ],
)
def test_a_freeze_ends_where_nothing_of_it_goes_on(
    tmp_path: Path, freeze: dict[str, Any], until: str | None
) -> None:
    """Periods that adjoin are one; some freezes have no end, such as those that an older server let in."""

    async def work(open_: Open) -> None:
        installation = open_.installation
        now = datetime(2027, 3, 22, 10, tzinfo=UTC)
        installation.now = lambda: now
        blank = installation.snapshot.current.resources[KEY]
        put(installation, [("Freeze", "party", {"reason": "Party", **freeze})], blank)
        told = await queries.when(installation, ROOT, KEY)
        assert told["at"] == until
        (step,) = told["before"]
        assert (step["reason"], step["until"]) == ("Freeze", until)
        says = "which has no end: Party" if until is None else "until 2027-03-27 00:00:00 UTC: Party"
        assert says in step["message"]
        (shown,) = await queries.freezes(installation, ROOT)
        assert (shown["active"], shown["until"]) == (True, until)
        made = await door.trigger_deployment(installation, ROOT, KEY, Type.DEPLOY)
        again = await gate.run(installation)
        assert [cause["reason"] for cause in await causes(installation, made.number)] == ["Freeze"]
        assert again is None or again > now

    shop = Shop(tmp_path)
    shop.deployment("web", {"scripts": {"deploy": {"inline": "true"}}, "reconcile": "manual"})
    shop.run(work)


async def ended(installation: Installation, number: int) -> Job:
    """The job once it has ended."""
    for _ in range(3000):
        job = await installation.database.read(lambda c: rows.load(c, number))
        if job is not None and job.state.finished:
            return job
        await asyncio.sleep(0.01)
    raise AssertionError(number)
