"""The calendar's page with more schedules than a month has room for: what holds deploys is never left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.api.conftest import build
from tests.api.dashboard.people import Pages

MANY = 250
FREEZE = """\
apiVersion: steersman/v1
kind: Freeze
metadata: {name: christmas, project: shop}
spec: {reason: Rest, recurrence: [{days_of_month: "24 25 26", months_of_year: dec}]}
"""


def nightly(at: int) -> str:
    """A Build that starts each night, and with `at` 0 each minute."""
    cron = "* * * * *" if at == 0 else f"{at % 60} {at // 60} * * *"
    schedule = f"  triggers: [{{type: schedule, cron: '{cron}'}}]\n"
    return build(f"b{at:03}", "[{name: main, run: 'true'}]", f"  disabled: false\n{schedule}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    files = {"builds.yaml": "---\n".join(map(nightly, range(MANY))), "freeze.yaml": FREEZE}
    with Pages.of(tmp_path_factory.mktemp("calendar"), files) as found:
        yield found


def test_a_month_shows_each_freeze_and_says_how_much_more_there_is(world: Pages) -> None:
    """The yearly freeze stands first on its days; the last day has as many starts as the first."""
    page = world.page("/ui/calendar?month=2027-12")
    days = {int(number): cell for number, cell in re.findall(r"</span>(\d+)</a>(.*?)</td>", page, re.DOTALL)}
    for day in (24, 25, 26):
        assert re.search(r'class="entry (\w+)"', days[day])[1] == "freeze"  # type: ignore[index]
        assert f">{MANY + 1 - 6} more<" in days[day]
    for day in (7, 31):
        assert "freeze" not in days[day]
        assert f">{MANY - 6} more<" in days[day]
        assert "×1440" in days[day]
    assert "are shown" not in page


def test_a_day_shows_them_all(world: Pages) -> None:
    """Each a line, by its time."""
    page = world.page("/ui/calendar?day=2027-12-25")
    lines = re.findall(r'<td class="nowrap">(.*?)</td>.*?class="entry (\w+)">(.*?)</span>', page)
    assert lines[0][1:] == ("freeze", "Freeze christmas: Rest")
    assert lines[1] == ("00:00", "start", "Build/shop/_/b000 starts (* * * * *), 1440 times")
    assert len(lines) == MANY + 1
    assert [at for at, _, _ in lines[1:]] == sorted(at for at, _, _ in lines[1:])
    assert "Build/shop" not in world.page("/ui/calendar?day=2027-12-25", "foreign")


@pytest.mark.parametrize("query", ["day=2027-13-01", "day=x", "day=9999-12-31", "month=x", "day=0001-01-01"])
def test_what_is_no_day_is_this_month(world: Pages, query: str) -> None:
    assert "Month before" in world.page(f"/ui/calendar?{query}", "foreign")
