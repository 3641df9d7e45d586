"""Logs and attachments of real workers, asked for at the daemon, live and later; files handed on between workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx_sse import connect_sse

from tests import databases
from tests.fleet.fleet import Fleet, build, fleet
from tests.objects import bucket
from tests.support import eventually_now

Place = dict[str, str]
"""Environment that says where contents are kept."""


@pytest.fixture(params=["database", "s3"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """In PostgreSQL; on a real S3 that is named as an operator does it."""
    if request.param == "database":
        yield {}
        return
    with bucket() as made:
        names = {"endpoint": "AWS_ENDPOINT", "region": "AWS_REGION"}
        own = {names.get(key, f"AWS_{key.upper()}"): value for key, value in made.options.items()}
        yield {"STEERSMAN_OBJECT_STORE": f"{made.url}/ci"} | own


def crewed(crew: Fleet, place: Place, *workers: str) -> None:
    """A daemon that runs nothing itself, and workers that serve the executor of their name."""
    crew.daemon(**place)
    for name in workers:
        crew.worker(name, STEERSMAN_EXECUTORS=json.dumps([name]), **place)


def executors(*names: str) -> str:
    """One for each worker, with its name as its trait."""
    head = "---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {name: %s}\nspec: {max_load: 4, traits: [%s], "
    body = "images: {host: {type: host}}, default_image: host, writable: [MARKS]}\n"
    return "".join(head % (name, name) + body for name in names)


def test_a_workers_log_is_followed_at_the_daemon(tmp_path: Path, place: Place) -> None:
    """Its first line comes while the script waits for who has read it; afterwards all of it, ranges, search."""
    marks = tmp_path / "marks"
    marks.mkdir()
    script = f"echo first; env | grep -c AWS_ || true; until [ -e {marks}/go ]; do sleep 0.05; done; "
    script += "seq 40000; echo last"
    specs = executors("north").replace("MARKS", str(marks)) + build("talk", script, traits=["north"])
    expected = "".join(f"{line}\n" for line in ["first", 0, *range(1, 40_001), "last"])
    with fleet(tmp_path, specs) as crew:
        crewed(crew, place, "north")
        number = crew.trigger("Build/shop/_/talk")
        seen = ""
        address = f"/reconciler/jobs/{number}/log/stream"
        with crew.client() as client, connect_sse(client, "GET", address) as source:
            for message in source.iter_sse():
                if message.event == "end":
                    break
                seen += json.loads(message.data)["text"]
                if seen == "first\n0\n":
                    (marks / "go").touch()
        with crew.client() as client:
            told = client.get(f"/reconciler/jobs/{number}").text
        assert seen == expected, (
            len(seen),
            told,
            crew.workers[0].log(),
            crew.ask("SELECT run, size, start, digest FROM logs"),
        )
        assert crew.ended(number)["state"] == "passed"
        assert crew.text(number) == expected
        eventually_now(lambda: crew.ask("SELECT 1 FROM logs WHERE digest IS NOT NULL"))
        eventually_now(lambda: not crew.ask("SELECT 1 FROM log_chunks"))
        with crew.client() as client:
            some = client.get(f"/reconciler/jobs/{number}/log", headers={"Range": "bytes=100000-100099"})
            assert (some.status_code, some.text) == (206, expected[100_000:100_100])
            found = client.get(f"/reconciler/jobs/{number}/log/search", params={"q": "39999"}).json()
            assert [item["line"] for item in found["items"]] == [40_001]
        stored = databases.everything(crew.database)
        assert b"hush-hush" not in stored and crew.daemons[0].token.encode() not in stored


def test_files_are_handed_on_between_workers_and_served_by_the_daemon(tmp_path: Path, place: Place) -> None:
    """Made by one worker, needed by a script at another, fetched at the daemon: the same bytes everywhere."""
    make = {
        "name": "make",
        "run": "head -c 9000000 /dev/urandom >big; echo small >small",
        "traits": ["north"],
    }
    use = {
        "name": "use",
        "run": "cat $STEERSMAN_NEEDS/make/small; sha256sum <$STEERSMAN_NEEDS/make/big",
        "traits": ["south"],
    }
    tasks = [make | {"attachments": ["big", "small"]}, use | {"needs": ["make"]}]
    body = {"apiVersion": "steersman/v1", "kind": "Build", "metadata": {"name": "hand", "project": "shop"}}
    specs = (
        executors("north", "south").replace("MARKS", "")
        + f"---\n{json.dumps(body | {'spec': {'tasks': tasks}})}\n"
    )
    with fleet(tmp_path, specs) as crew:
        crewed(crew, place, "north", "south")
        number = crew.trigger("Build/shop/_/hand")
        assert crew.ended(number)["state"] == "passed"
        with crew.client() as client:
            big = client.get(f"/reconciler/jobs/{number}/attachments/big")
            assert (big.status_code, len(big.content)) == (200, 9_000_000)
            told = client.get(f"/reconciler/jobs/{number}/log", params={"task": "use"}).text
        assert told == f"small\n{hashlib.sha256(big.content).hexdigest()}  -\n"
        places = {row[0] for row in crew.ask("SELECT place FROM contents WHERE complete")}
        assert places == ({"objects"} if place else {"database"})
