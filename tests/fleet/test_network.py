"""Workers whose network to the database fails: late, silent, cut. Jobs end as they should, none twice, logs whole."""

from __future__ import annotations

import json
import time

import pytest

from tests.fleet.fleet import Fleet, build, fleet
from tests.network import to_database

SCRIPT = (
    'echo "begin $STEERSMAN_TRIAL" >> OUT/marks; i=0; '
    "while [ $i -lt COUNT ]; do i=$((i+1)); echo line $i; sleep 0.4; done; "
    'echo "end $STEERSMAN_TRIAL" >> OUT/marks'
)
COUNTS = {"work": 14, "long": 45}


@pytest.fixture
def crew(tmp_path):
    """A daemon that is near the database; scripts may write into a folder."""
    out = tmp_path / "out"
    out.mkdir()
    executor = {
        "apiVersion": "steersman/v1",
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": {"max_load": 4, "writable": [str(out)]},
    }
    specs = f"---\n{json.dumps(executor)}\n" + "".join(
        build(name, SCRIPT.replace("OUT", str(out)).replace("COUNT", str(count)), lost_retries=9)
        for name, count in COUNTS.items()
    )
    with fleet(tmp_path, specs) as made:
        made.daemon()
        yield made


def _marks(crew: Fleet) -> list[str]:
    return sorted((crew.folder / "out" / "marks").read_text().splitlines())


def _begun(crew: Fleet, number: int) -> None:
    crew.until(number, lambda job: job["tasks"][0]["trials"][0]["state"] == "executing")


def _whole(crew: Fleet, number: int) -> None:
    """The last trial's log has every line once."""
    job = crew.ended(number, 120)
    assert job["state"] == "passed", json.dumps(job)
    with crew.client() as client:
        last = len(job["tasks"][0]["trials"])
        found = client.get(f"/reconciler/jobs/{number}/log", params={"task": "main", "trial": last})
    count = COUNTS[job["key"].rpartition("/")[2]]
    assert found.text == "".join(f"line {i}\n" for i in range(1, count + 1))


def test_a_slow_network_only_makes_it_slow(crew):
    """Every word is a fifth of a second on its way."""
    link, url = to_database(crew.database)
    with link:
        link.delay(0.1, 0.1)
        crew.worker(STEERSMAN_DATABASE=url)
        number = crew.trigger("Build/shop/_/work")
        _whole(crew, number)
        assert len(crew.ended(number)["tasks"][0]["trials"]) == 1


@pytest.mark.parametrize("how", ["cut", "hold"])
def test_an_outage_within_the_lease_is_not_noticed(crew, how):
    """Connections are reset, or nothing arrives, for three seconds: the script goes on, its end and log are stored."""
    link, url = to_database(crew.database)
    with link:
        crew.worker(STEERSMAN_DATABASE=url)
        number = crew.trigger("Build/shop/_/work")
        _begun(crew, number)
        getattr(link, how)()
        time.sleep(3)
        link.heal()
        _whole(crew, number)
        assert len(crew.ended(number)["tasks"][0]["trials"]) == 1
        assert [line.split()[0] for line in _marks(crew)] == ["begin", "end"]


@pytest.mark.parametrize("how", ["cut", "drop"])
def test_who_is_cut_off_for_long_ends_its_scripts_before_another_begins_them(crew, how):
    """The lease runs out on both sides of the network; afterwards the worker is as good as ever."""
    link, url = to_database(crew.database)
    with link:
        first = crew.worker("first", STEERSMAN_DATABASE=url)
        number = crew.trigger("Build/shop/_/long")
        _begun(crew, number)
        crew.worker("second")
        getattr(link, how)()
        job = crew.until(number, lambda job: len(job["tasks"][0]["trials"]) == 2, 60)
        assert job["tasks"][0]["trials"][0]["reason"] == "lost"
        _whole(crew, number)
        link.heal()
        marks = _marks(crew)
        assert len([line for line in marks if line.startswith("begin")]) == 2
        assert len([line for line in marks if line.startswith("end")]) == 1
        for worker in list(crew.workers):
            if worker is not first:
                worker.kill()
        again = crew.trigger("Build/shop/_/work")
        _whole(crew, again)
        assert crew.ask("SELECT worker FROM trials r JOIN tasks t ON t.id = r.task WHERE t.job = :n", n=again)
