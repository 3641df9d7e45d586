"""Lists by the page, among thousands of jobs, while further ones come (cider-ci, 3.2, 4.2, case 6 and 8)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, insert, select, text

from reconciler.access import ROOT
from reconciler.daemon import Daemon
from reconciler.model.job import Checkout
from reconciler.queries import listings
from reconciler.queries.listings import Filters, Listed, OfGit, Span
from reconciler.store import job_lists, jobs, tables
from reconciler.store.database import Write
from reconciler.store.job_lists import Wanted
from reconciler.store.jobs import NewJob, Sight
from reconciler.store.rows import new_id
from tests.api.cider.conftest import A, check_roa
from tests.api.conftest import app_of
from tests.api.escape.conftest import document
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Build/shop/_/web"


def make(write: Write, number: int, key: str = KEY) -> None:
    """A job that nobody runs, some of them at the very same time."""
    new = NewJob(
        key=key,
        specification={"tasks": [{"name": f"task {number % 7}"}]},
        work_digest="w",
        checkout=Checkout("https://example.org/web.git", "c" * 40, f"{number % 3:040}", "main"),
        trigger={"type": "manual"},
        inputs={},
        actor="User/admin",
        held=True,
    )
    when = write.now - timedelta(days=1) + timedelta(seconds=number // 4)
    jobs.create(write.connection, new, when, write.version)


@asynccontextmanager
async def serving(
    tmp_path: Path, count: int, **files: str
) -> AsyncIterator[tuple[Daemon, httpx.AsyncClient]]:
    """A daemon with so many jobs, and a client of its app; `files` are declared beside the project."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT} | {f"{name}.yaml": text for name, text in files.items()})
    settings = settings_for(repo, tmp_path / "data", allow_unsandboxed=True, insecure_no_auth=True)
    async with daemon(settings) as running:
        await add(running, range(count))
        transport = httpx.ASGITransport(app=app_of(running.installation))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield running, client


async def add(running: Daemon, numbers: range) -> None:
    """Further jobs."""

    def work(write: Write) -> None:
        for number in numbers:
            make(write, number)

    await running.installation.database.write(work)


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """An answer whose hyperlinks are good."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    check_roa(found["_json-roa"])
    return found


def test_a_page_and_the_next_one(tmp_path: Path) -> None:
    """Case 6 and 8: numbers over the whole list, no link behind the last item, filters kept."""

    async def run() -> None:
        async with serving(tmp_path, 23) as (_, client):
            pages = [await get(client, f"{A}/jobs/?page={number}") for number in range(4)]
            keys = [list(page["_json-roa"]["collection"]["relations"]) for page in pages]
            assert keys == [[str(n) for n in range(a, b)] for a, b in ((1, 11), (11, 21), (21, 24), (24, 24))]
            following = [page["_json-roa"]["collection"].get("next", {}).get("href", "") for page in pages]
            assert ["page=1" in following[0], "page=2" in following[1], *following[2:]] == [
                True,
                True,
                "",
                "",
            ]
            assert pages[3]["jobs"] == []
            everything = [job for page in pages for job in page["jobs"]]
            assert everything == sorted(
                sorted(everything, key=lambda job: job["id"]), key=lambda job: job["created_at"], reverse=True
            )
            found = await get(client, f"{A}/jobs/?state=pending&key=&page=0&x=1")
            after = found["jobs"][-1]["id"]
            assert found["_json-roa"]["collection"]["next"] == {
                "href": f"{A}/jobs/?state=pending&page=1&after={after}"
            }
            assert found["_json-roa"]["self-relation"]["href"] == f"{A}/jobs/?state=pending"
            of_tree = await get(client, f"{A}/jobs/?tree_id={0:040}")
            assert (len(of_tree["jobs"]), "next" in of_tree["_json-roa"]["collection"]) == (8, False)

    asyncio.run(run())


def test_a_walk_meets_each_job_once(tmp_path: Path) -> None:
    """Of 1,000, while new ones come before each page."""

    async def run() -> None:
        async with serving(tmp_path, 1_000) as (running, client):
            first = await running.installation.database.read(
                lambda c: set(c.execute(text("SELECT id FROM jobs")).scalars())
            )
            seen: list[str] = []
            numbers: list[str] = []
            href: str | None = f"{A}/jobs/"
            count = 1_000
            while href is not None:
                page = await get(client, href)
                collection = page["_json-roa"]["collection"]
                seen += [job["id"] for job in page["jobs"]]
                numbers += collection["relations"]
                href = collection.get("next", {}).get("href")
                await add(running, range(10_000 + count, 10_003 + count))
                count += 3
            assert len(seen) == len(set(seen)) == 1_000
            assert set(seen) == first
            assert numbers == [str(number) for number in range(1, 1_001)]
            tasks: list[str] = []
            href = f"{A}/tasks/"
            while href is not None:
                page = await get(client, href)
                tasks += [task["id"] for task in page["tasks"]]
                href = page["_json-roa"]["collection"].get("next", {}).get("href")
            assert len(tasks) == len(set(tasks)) == count

    asyncio.run(run())


def test_a_page_behind_what_is_gone(tmp_path: Path) -> None:
    """What was shown last may be forgotten meanwhile: then the number of the page counts."""

    async def run() -> None:
        async with serving(tmp_path, 23) as (_, client):
            plain = await get(client, f"{A}/jobs/?page=1")
            for gone in ("00000000-0000-0000-0000-000000000000", "x"):
                assert (await get(client, f"{A}/jobs/?page=1&after={gone}"))["jobs"] == plain["jobs"]

    asyncio.run(run())


def test_the_key_that_is_shown_finds_the_job(tmp_path: Path) -> None:
    """For each sort of job, and no other one (design 13.2)."""

    async def run() -> None:
        async with serving(tmp_path, 2) as (running, client):
            for key in ("Manifest/~jo/_/build", "Configuration/shop/_/a%20%2F%23b", "Build/shop/_/we"):
                await running.installation.database.write(lambda w, key=key: make(w, 9, key))
            for job in (await get(client, f"{A}/jobs/"))["jobs"]:
                whole = await get(client, f"{A}/jobs/{job['id']}")
                found = (await client.get(f"{A}/jobs/", params={"key": whole["key"]})).json()["jobs"]
                assert [each["id"] for each in found] == [job["id"]], whole["key"]
            for none in ("srht-1", "srht-99", "Build/shop/_/web", "a /#b", "Build/shop/_/WEB#1", "#1"):
                assert (await client.get(f"{A}/jobs/", params={"key": none})).json()["jobs"] == []

    asyncio.run(run())


@pytest.mark.parametrize("sight", [None, Sight(("Build/shop/", "Configuration/shop/"), None, "User/jo")])
def test_no_page_reads_all_jobs(tmp_path: Path, sight: Sight | None) -> None:
    """Among 10,000: the plan goes along an index, in order, and stops."""

    async def run() -> None:
        async with serving(tmp_path, 100) as (running, _):
            installation = running.installation
            await installation.database.write(_multiply)
            plan = await installation.database.read(lambda c: _plan(c, sight))
            assert any(re.search(r"using (index )?ix_jobs_created_at", line) for line in plan), plan
            assert len(await listings.jobs(installation, ROOT, Filters(), Span(11))) == 11

    asyncio.run(run())


def test_who_goes_through_a_history_leaves_readers_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descendants of a branch may take seconds: however many ask for them, other pages come at once."""
    go, newest = Event(), job_lists.newest

    def slow(connection: Connection, wanted: Wanted, sight: Sight | None, span: Span) -> list[Listed]:
        assert wanted.git is None or go.wait(60)
        return newest(connection, wanted, sight, span)

    monkeypatch.setattr(job_lists, "newest", slow)

    async def run() -> None:
        code = document("Repository", "name: code, project: shop", f"{{url: '{tmp_path / 'specs'}'}}")
        async with serving(tmp_path, 1, code=code) as (running, _):
            installation = running.installation
            await eventually(lambda: listings.repositories(installation, ROOT))
            after = Filters(git=OfGit(branch_descendants="main"))
            asked = [
                asyncio.create_task(listings.jobs(installation, ROOT, after, Span(11))) for _ in range(5)
            ]
            try:
                found = await asyncio.wait_for(listings.jobs(installation, ROOT, Filters(), Span(11)), 10)
                assert len(found) == 1
                assert not any(each.done() for each in asked)
            finally:
                go.set()
                assert await asyncio.gather(*asked) == [[]] * 5

    asyncio.run(run())


def _multiply(write: Write) -> None:
    """Each of 100 jobs a hundred times."""
    found = [row._asdict() for row in write.connection.execute(select(tables.jobs))]
    rows = [
        {**row, "number": row["number"] + 1_000 * copy, "id": new_id()}
        for copy in range(1, 100)
        for row in found
    ]
    write.connection.execute(insert(tables.jobs), rows)


def _plan(connection: Connection, sight: Sight | None) -> list[str]:
    """How the database goes about a page, once it knows how much there is."""
    asked: list[str] = []

    class Listening:
        dialect = connection.dialect

        @staticmethod
        def execute(statement: Any) -> Any:
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
            asked.append(str(compiled))
            return connection.execute(statement)

    found: Any = Listening()
    assert len(job_lists.newest(found, Wanted(), sight, Span(11, 40))) == 11
    explain = "EXPLAIN QUERY PLAN"
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE jobs"))
        explain = "EXPLAIN"
    return [str(row[-1]).lower() for row in connection.execute(text(f"{explain} {asked[-1]}"))]
