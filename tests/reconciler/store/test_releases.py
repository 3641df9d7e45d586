"""The registry of releases, on SQLite and PostgreSQL alike (escape-state, 8.6)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from reconciler.errors import Transient
from reconciler.model.event import Actor
from reconciler.model.job import Checkout, State
from reconciler.model.release import Release
from reconciler.store import jobs, releases, retention
from reconciler.store.database import Database, Write, connect
from reconciler.store.jobs import NewJob
from reconciler.store.releases import Wanted
from reconciler.store.rows import new_id
from tests.conftest import NewDatabase


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def make_job(write: Write) -> int:
    specification = {"tasks": [{"name": "build"}], "concurrency": "queue"}
    new = NewJob("Build/shop/dev/web", specification, "w", Checkout(), {"type": "manual"}, {}, "User/alice")
    return jobs.create(write.connection, new, write.now, write.version)


def end_job(write: Write, number: int) -> None:
    job = jobs.load(write.connection, number)
    assert job is not None
    assert jobs.move(write.connection, "job", job.id, State.FAILED, None, write.now, version=write.version)


def release(version: str, job: int = 1, **more: Any) -> Release:
    fields: dict[str, Any] = {
        "id": new_id(),
        "namespace": "shop",
        "application": "web",
        "version": version,
        "project": "shop",
        "commit": {"git_revision": "c" * 40, "branch": "main"},
        "plan": {"scripts": {"build": {"inline": "make"}}},
        "plan_digest": "p1",
        "digest": "d1",
        "size": 7,
        "fat": False,
        "job": job,
        "execution": "01J",
    }
    return Release(**(fields | more))


async def register(database: Database, *wanted: Release, force: bool = False) -> list[bool]:
    return [await database.write(lambda w, r=each: releases.register(w, r, force=force)) for each in wanted]  # type: ignore[misc]


def test_a_release_is_read_back_as_it_was_registered(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        wanted = release("1.4.12", fat=True, commit={})
        assert await register(database, wanted) == [True]
        found = await database.read(lambda c: releases.find(c, "shop", "web", "1.4.12"))
        assert found is not None
        assert found.created_at is not None
        assert replace(found, created_at=None) == wanted
        assert (found.name, found.label, found.git_tag) == (
            "shop/web",
            "shop/web-v1.4.12",
            "shop/web-v1.4.12",
        )
        assert await database.read(lambda c: releases.find(c, "shop", "web", "1.4.1")) is None
        assert await database.read(lambda c: releases.find(c, "shop", "api", "1.4.12")) is None

    with_database(new_database, work)


def test_a_version_is_registered_once(new_database: NewDatabase) -> None:
    """By the same job again is fine; by another one, or with another package, is not."""

    async def work(database: Database) -> None:
        first = release("1.0")
        assert await register(database, first, replace(first, id=new_id())) == [True, True]
        assert await register(database, release("1.0", job=2), release("1.0", digest="d2")) == [False, False]
        found = await database.read(lambda c: releases.find(c, "shop", "web", "1.0"))
        assert found is not None
        assert (found.id, found.job, found.overwritten) == (first.id, 1, ())

    with_database(new_database, work)


def test_force_replaces_and_remembers_what_was_there(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        first = release("1.0")
        await register(database, first)
        before = await database.read(lambda c: releases.find(c, "shop", "web", "1.0"))
        assert await register(database, release("1.0", job=2, digest="d2", size=9), force=True) == [True]
        assert await register(database, release("1.0", job=3, digest="d3"), force=True) == [True]
        found = await database.read(lambda c: releases.find(c, "shop", "web", "1.0"))
        assert found is not None
        assert before is not None
        assert before.created_at is not None
        assert (found.id, found.job, found.digest) == (first.id, 3, "d3")
        assert [(old["digest"], old["size"], old["job"]) for old in found.overwritten] == [
            ("d1", 7, 1),
            ("d2", 9, 2),
        ]
        assert found.overwritten[0]["created_at"] == before.created_at.isoformat()

    with_database(new_database, work)


def test_what_a_wanted_version_means(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await register(
            database, *(release(version) for version in ("1.9.0", "1.10.0", "1.10.2", "0.99", "2"))
        )
        await register(database, release("7.0", namespace="other"))
        await database.write(lambda w: releases.move_tag(w, "shop", "web", "production", "1.9.0"))
        await database.write(lambda w: releases.move_tag(w, "shop", "web", "lost", "5.5"))

        async def meant(wanted: str, name: str = "shop/web") -> str | None:
            found = await database.read(lambda c: releases.resolve(c, name, wanted))
            return None if found is None else found.version

        expected = {
            "latest": "2",
            "@": "2",
            "1.@": "1.10.2",
            "1.10.@": "1.10.2",
            "v1.9.@": "1.9.0",
            "1.10.0": "1.10.0",
            "v0.99": "0.99",
            "production": "1.9.0",
            "1.10": None,
            "2.@": None,
            "1.1.@": None,
            "lost": None,
            "unknown": None,
        }
        assert {wanted: await meant(wanted) for wanted in expected} == expected
        assert await meant("latest", "other/web") == "7.0"
        assert await meant("latest", "shop/api") is None

    with_database(new_database, work)


def test_versions_are_kept_for_steps_until_they_are_registered(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await register(database, release("0.3.9", job=90), release("0.3.10", job=91))
        first, second = await database.write(make_job), await database.write(make_job)

        async def reserve(job: int, step: int, pattern: str = "0.3.@") -> str:
            return await database.write(lambda w: releases.reserve(w, "shop", "web", pattern, job, step))

        assert await reserve(first, 0) == "0.3.11"
        assert await reserve(second, 0) == "0.3.12"
        assert await reserve(first, 0) == "0.3.11"
        assert await reserve(first, 1) == "0.3.13"
        assert await reserve(second, 1, "0.4.@") == "0.4.0"
        assert await reserve(second, 2, "0.3.11") == "0.3.11"
        assert await register(database, release("0.3.11", job=first)) == [True]
        assert await reserve(first, 0) == "0.3.14"

    with_database(new_database, work)


def test_what_an_ended_job_did_not_register_is_free_again(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        first, second = await database.write(make_job), await database.write(make_job)
        assert await database.write(lambda w: releases.reserve(w, "shop", "web", "1.@", first, 0)) == "1.0"
        assert await database.write(lambda w: releases.reserve(w, "shop", "web", "1.@", second, 0)) == "1.1"
        await database.write(lambda w: end_job(w, second))
        third = await database.write(make_job)
        assert await database.write(lambda w: releases.reserve(w, "shop", "web", "1.@", third, 0)) == "1.1"
        await database.write(lambda w: end_job(w, first))
        await database.write(lambda w: end_job(w, third))
        last = await database.write(make_job)
        assert await database.write(lambda w: releases.reserve(w, "shop", "web", "1.@", last, 0)) == "1.0"

    with_database(new_database, work)


async def patiently(database: Database, work: Callable[[Write], Any]) -> Any:
    """As the loop does: what another writer holds for too long is tried again."""
    for _ in range(5):
        try:
            return await database.write(work)
        except Transient:
            continue
    return await database.write(work)


@pytest.mark.parametrize("registering", [False, True])
def test_two_daemons_never_give_the_same_version(new_database: NewDatabase, registering: bool) -> None:
    """Each in its own thread with its own connections, to the same database."""
    url = new_database()
    got: list[list[str]] = [[], []]
    failed: list[BaseException] = []
    together = threading.Barrier(2)

    async def reserve(mine: list[str]) -> None:
        database = connect(url)
        try:
            numbers = [await patiently(database, make_job) for _ in range(20)]
            await asyncio.to_thread(together.wait, 30)
            for job in numbers:
                version = await patiently(
                    database, lambda w, j=job: releases.reserve(w, "shop", "web", "1.@", j, 0)
                )
                mine.append(version)
                if registering:
                    assert await register(database, release(version, job=job)) == [True]
        finally:
            await database.close()

    def thread(mine: list[str]) -> None:
        try:
            asyncio.run(reserve(mine))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=thread, args=(mine,)) for mine in got]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert failed == []
    assert sorted((*got[0], *got[1]), key=lambda v: int(v[2:])) == [f"1.{number}" for number in range(40)]


def test_one_of_two_wins_a_fixed_version(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        answers = await asyncio.gather(
            *(register(database, release("3.0", job=job, digest=f"d{job}")) for job in range(1, 9))
        )
        assert sorted(answers) == [[False]] * 7 + [[True]]

    with_database(new_database, work)


def test_a_release_of_the_same_commit_and_plan_is_found(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await register(database, release("1.0"), release("1.1"), release("1.2", plan_digest="p2"))

        async def built(commit: str, plan: str, application: str = "web") -> str | None:
            found = await database.read(lambda c: releases.built_from(c, "shop", application, commit, plan))
            return None if found is None else found.version

        assert await built("c" * 40, "p1") == "1.1"
        assert await built("c" * 40, "p2") == "1.2"
        assert await built("d" * 40, "p1") is None
        assert await built("c" * 40, "p3") is None
        assert await built("c" * 40, "p1", "api") is None

    with_database(new_database, work)


def test_what_jobs_have_published_is_in_the_order_of_time(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await register(
            database, release("2", job=5), release("1", job=3), release("3", job=5), release("9", job=8)
        )
        found = await database.read(lambda c: releases.published_by(c, [3, 5, 77]))
        assert [each.version for each in found] == ["2", "1", "3"]
        assert await database.read(lambda c: releases.published_by(c, [])) == []

    with_database(new_database, work)


def test_a_tag_moves_and_remembers(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        async def move(version: str) -> bool:
            return await database.write(
                lambda w: releases.move_tag(w, "shop", "web", "production", version), Actor("User/alice")
            )

        assert [await move("1.0"), await move("1.0"), await move("1.1")] == [True, False, True]
        assert await database.read(lambda c: releases.tagged(c, "shop", "web", "production")) == "1.1"
        assert await database.read(lambda c: releases.tagged(c, "shop", "web", "other")) is None
        assert await database.read(lambda c: releases.tagged(c, "shop", "api", "production")) is None
        await database.write(lambda w: releases.move_tag(w, "shop", "web", "beta", "1.1"))
        found = await database.read(lambda c: releases.tags_of(c, [("shop", "web"), ("shop", "api")]))
        assert found == {("shop", "web", "1.1"): ["beta", "production"]}

    with_database(new_database, work)


def test_pages_are_newest_first(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        fields: list[dict[str, Any]] = [{}, {"project": "other"}, {"application": "api"}, {}]
        made = [release(str(n), id=f"id{n}", **more) for n, more in enumerate(fields, 1)]
        await register(database, *made)

        async def page(**wanted: Any) -> list[str]:
            found = await database.read(lambda c: releases.page(c, Wanted(**wanted)))
            return [each.version for each in found]

        assert await page() == ["4", "3", "2", "1"]
        assert await page(limit=2) == ["4", "3"]
        assert await page(before=made[2].id) == ["2", "1"]
        assert await page(application="web", projects=["shop"]) == ["4", "1"]
        assert await page(namespace="none") == await page(projects=[]) == []

    with_database(new_database, work)


def test_packages_of_releases_are_needed(new_database: NewDatabase) -> None:
    """What nothing else refers to is removed by the retention pass, packages are not."""

    async def work(database: Database) -> None:
        await register(database, release("1", digest="a" * 64))
        digests = ["a" * 64, "b" * 64]
        assert await database.read(lambda c: releases.packages(c, digests)) == {"a" * 64}
        assert await database.read(lambda c: retention.referred(c, digests)) == {"a" * 64}

    with_database(new_database, work)
