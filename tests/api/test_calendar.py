"""The calendar over HTTP, for calendar programs and on the command line: all that the caller sees, nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import icalendar
import pytest
from typer.testing import CliRunner

from api.cli import app
from tests.api.conftest import build
from tests.support import PROJECT, Process, SpecRepository, process

FILES = {
    "projects.yaml": PROJECT + "---\n" + PROJECT.replace("shop", "other"),
    "build.yaml": build(
        "weekly", "[{name: main, run: echo}]", "  triggers: [{type: schedule, cron: '0 6 * * 3'}]\n"
    ),
    "hourly.yaml": build(
        "hourly", "[{name: main, run: echo}]", "  triggers: [{type: schedule, cron: '0 * * 3 *'}]\n"
    ),
    "freeze.yaml": """\
apiVersion: steersman/v1
kind: Freeze
metadata: {name: peak, project: shop}
spec: {reason: "Peak, and ✓", from: "2026-11-26T00:00:00+01:00", until: "2026-12-01T00:00:00+01:00"}
---
apiVersion: steersman/v1
kind: Freeze
metadata: {name: nights, project: other}
spec: {reason: Sleep, recurrence: [{begin_time: "22:00", end_time: "06:00"}]}
""",
    "product.yaml": """\
apiVersion: steersman/v1
kind: SLA
metadata: {name: fixes}
spec: {description: Fixes}
---
apiVersion: steersman/v1
kind: ProductRelease
metadata: {name: fedora-44}
spec: {short: fedora, version: "44", display_name: Fedora 44, release_type: ga, schedule: {fixes: "2026-11-27"}}
""",
}
RANGE = {"from": "2026-11-24", "to": "2026-11-28"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("calendar")
    repository = SpecRepository(folder / "spec")
    repository.commit(FILES)
    with process(repository.path, folder / "data", STEERSMAN_TIMEZONE="Europe/Amsterdam") as it:
        it.wait_for(lambda c: c.get("/reconciler/resources/Freeze/other/nights").status_code == 200)
        yield it


def read(running: Process, path: str = "", **query: str) -> httpx.Response:
    with running.client() as client:
        return client.get(f"/reconciler/calendar{path}", params=query)


def test_all_that_is_declared_with_a_time_is_on_one_calendar(running: Process) -> None:
    body = read(running, **RANGE).json()
    assert (body["from"], body["to"]) == ("2026-11-24T00:00:00+01:00", "2026-11-28T00:00:00+01:00")
    assert [(item["start"], item["end"], item["key"]) for item in body["items"]] == [
        ("2026-11-23T22:00:00+01:00", "2026-11-24T06:00:00+01:00", "Freeze/other/nights"),
        ("2026-11-24T22:00:00+01:00", "2026-11-25T06:00:00+01:00", "Freeze/other/nights"),
        ("2026-11-25T06:00:00+01:00", "2026-11-25T06:00:00+01:00", "Build/shop/_/weekly"),
        ("2026-11-25T22:00:00+01:00", "2026-11-26T06:00:00+01:00", "Freeze/other/nights"),
        ("2026-11-26T00:00:00+01:00", "2026-12-01T00:00:00+01:00", "Freeze/shop/peak"),
        ("2026-11-26T22:00:00+01:00", "2026-11-27T06:00:00+01:00", "Freeze/other/nights"),
        ("2026-11-27T01:00:00+01:00", "2026-11-28T01:00:00+01:00", "ProductRelease/fedora-44"),
        ("2026-11-27T22:00:00+01:00", "2026-11-28T06:00:00+01:00", "Freeze/other/nights"),
    ]
    assert body["items"][4]["where"] == "freeze.yaml:1"
    assert {item["count"] for item in body["items"]} == {1}
    assert body["cut"] is False
    assert read(running).json()["to"] > read(running).json()["from"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"from": "soon"}, "`from` must be a time with an offset"),
        ({"to": "2026-02-30"}, "`to` must be a day of the calendar"),
        ({"from": "0001-01-01"}, "between the years 1900 and 9000"),
        ({"from": "2026-11-24", "to": "2026-11-24"}, "`to` must be after `from`"),
        ({"from": "2026-11-24", "to": "2028-11-24"}, "at most 366 days"),
    ],
)
def test_a_range_that_is_none_is_refused(running: Process, query: dict[str, str], told: str) -> None:
    answer = read(running, **query)
    assert answer.status_code in (400, 422)
    assert told in answer.json()["detail"]


def test_a_caller_sees_its_own_projects_only(running: Process) -> None:
    with running.client() as client:
        asked = {"name": "t", "level": "read", "project": "other"}
        token = client.post("/reconciler/tokens", json=asked).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    body: dict[str, Any] = httpx.get(
        f"{running.url}/reconciler/calendar", params=RANGE, headers=headers
    ).json()
    assert {item["key"] for item in body["items"]} == {"Freeze/other/nights", "ProductRelease/fedora-44"}


def test_a_calendar_program_reads_it(running: Process) -> None:
    answer = httpx.get(f"{running.url}/reconciler/calendar.ics", params=RANGE, auth=("me", running.token))
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    whole = icalendar.Calendar.from_ical(answer.content)
    events = {str(event["summary"]): event for event in whole.walk("VEVENT")}
    assert len(whole.walk("VEVENT")) == len({str(e["uid"]) for e in whole.walk("VEVENT")}) == 8
    assert events["Freeze peak: Peak, and ✓"]["dtend"].dt.isoformat() == "2026-11-30T23:00:00+00:00"
    last = events["Fedora 44: last day of fixes"]
    assert (last["dtstart"].dt, last["dtend"].dt) == (date(2026, 11, 27), date(2026, 11, 28))
    assert "dtend" not in events["Build/shop/_/weekly starts (0 6 * * 3)"]
    assert all(len(line) <= 75 for line in answer.content.split(b"\r\n"))
    assert httpx.get(f"{running.url}/reconciler/calendar.ics").status_code == 401


def test_what_starts_each_hour_is_a_line_a_day(running: Process, tmp_path: Path) -> None:
    """With its number, in each form."""
    named = "Build/shop/_/hourly starts (0 * * 3 *)"
    one = {"from": "2027-03-28", "to": "2027-03-29"}  # a day of 23 hours
    (item,) = [each for each in read(running, **one).json()["items"] if each["title"] == named]
    assert (item["start"], item["end"]) == ("2027-03-28T00:00:00+01:00", "2027-03-28T23:00:00+02:00")
    assert item["count"] == 23
    whole = icalendar.Calendar.from_ical(read(running, ".ics", **one).content)
    (event,) = [each for each in whole.walk("VEVENT") if str(each["summary"]) == f"{named}, 23 times"]
    assert event["dtend"].dt.isoformat() == "2027-03-28T21:00:00+00:00"
    environment = {"STEERSMAN_SERVER": running.url, "STEERSMAN_TOKEN": running.token, "HOME": str(tmp_path)}
    words = ["calendar", "--from", one["from"], "--to", one["to"], "--output", "table"]
    assert "23 times" in CliRunner().invoke(app, words, env=environment | {"COLUMNS": "200"}).stdout


def test_the_command_line_shows_it(running: Process, tmp_path: Path) -> None:
    environment = {"STEERSMAN_SERVER": running.url, "STEERSMAN_TOKEN": running.token, "HOME": str(tmp_path)}

    def verb(*arguments: str) -> str:
        words = ["calendar", "--from", RANGE["from"], "--to", RANGE["to"], *arguments]
        return CliRunner().invoke(app, words, env=environment).stdout

    lines = verb().splitlines()
    assert lines[0].split() == ["FROM", "UNTIL", "KIND", "WHAT", "DECLARED", "AT"]
    assert lines[5].split()[:5] == ["2026-11-26", "00:00+01:00", "2026-12-01", "00:00+01:00", "freeze"]
    assert json.loads(verb("--output", "json"))["cut"] is False
