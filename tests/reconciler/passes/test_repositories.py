"""Repositories whose new heads something is done with: history, triggers of project configurations, manifests."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from reconciler.apply import repositories as apply
from reconciler.apply.configurations import ConfiguredOrder
from reconciler.daemon import Daemon
from reconciler.errors import Conflict, Refused
from reconciler.installation import Installation
from reconciler.model.job import Job, Reason, State, configured_as
from reconciler.model.status import Health
from reconciler.passes import builds, configurations, histories
from reconciler.source.git import Mirror
from reconciler.source.names import normalise_url
from reconciler.store import events, history, jobs
from reconciler.store import tables as t
from reconciler.store.database import Connection, Write
from specs.configuration import Configuration, JobDeclaration
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Repository/shop/web"
USER = "---\napiVersion: steersman/v1\nkind: User\nmetadata: {name: jo}\nspec: {disabled: %s}\n"
EMPTY = {"tasks": {}}
ALL: dict[str, Any] = {"run_when": {"push": {"type": "branch", "include_match": True}}}
NOBODY = {"tasks": {"t": {"body": "true", "traits": {"nowhere": True}}}}
MANIFEST = "image: host\nsources: [%s]\ntasks: [{a: 'true'}]\n"


class Team:
    """A code repository beside the specifications' one, and the daemon that looks at both."""

    def __init__(self, tmp_path: Path, **spec: Any) -> None:
        self.code = SpecRepository(tmp_path / "code")
        self.specs = SpecRepository(tmp_path / "specs")
        self.data = tmp_path / "data"
        self.declare(**spec)

    def declare(self, **spec: Any) -> None:
        """The Repository as it is to be; without anything, none."""
        text = PROJECT + USER % "false"
        if spec:
            whole = {"url": str(self.code.path), "fetch_interval_seconds": 3600} | spec
            meta = {"name": "web", "project": "shop"}
            document = {"apiVersion": "steersman/v1", "kind": "Repository", "metadata": meta, "spec": whole}
            text += f"---\n{json.dumps(document)}\n"
        self.specs.commit({"shop.yaml": text})

    def configure(self, message: str = "change", **jobs_: Any) -> str:
        """Commit a project configuration; the commit."""
        return self.code.commit({"cider-ci.yml": json.dumps({"jobs": jobs_})}, message)

    def run(self, work: Callable[[Daemon], Awaitable[None]]) -> None:
        """Do something with a daemon that has looked at everything once."""

        async def use() -> None:
            async with daemon(settings_for(self.specs, self.data)) as running:
                await look(running)
                await work(running)

        asyncio.run(use())


async def look(running: Daemon) -> None:
    """Fetch, and look until nothing more follows."""
    installation = running.installation
    await installation.run_now("source")
    for mirror, secret in list(installation.mirrors._slots):
        installation.mirrors.poke(mirror, secret)
    await installation.run_now(KEY)
    await running.loop.idle()


async def configured(running: Daemon) -> list[Job]:
    """All jobs of configurations, oldest first."""

    def read(connection: Connection) -> list[Job]:
        numbers = connection.execute(select(t.jobs.c.number).order_by(t.jobs.c.number)).scalars()
        return [job for n in numbers if (job := jobs.load(connection, n)) is not None]

    return await running.installation.database.read(read)


def keys(found: list[Job]) -> list[str]:
    """Their keys in their configurations."""
    return [configured[1] for job in found if (configured := configured_as(job.key)) is not None]


def conditions(running: Daemon) -> dict[str, str]:
    """What the Repository says of itself, by type."""
    found = running.installation.snapshot.current.resources[KEY]
    return {condition.type: condition.message for condition in found.conditions}


def test_a_new_head_triggers_jobs_once_for_its_tree(tmp_path: Path) -> None:
    """Those of a fitting branch; not again for the same content, whatever branch or commit has it."""
    team = Team(tmp_path, cider_ci={})
    only = {"run_when": {"x": {"type": "branch", "include_match": "^next$"}}}
    head = team.configure(all=EMPTY | ALL, only=EMPTY | only, none=EMPTY)

    async def work(running: Daemon) -> None:
        (job,) = await configured(running)
        assert (keys([job]), job.state) == (["all"], State.PASSED)
        assert job.checkout.commit == head
        assert job.trigger == {
            "type": "branch",
            "branch": "main",
            "repository": KEY,
            "url": str(team.code.path),
        }
        assert job.checkout.tree == team.code.git("rev-parse", "HEAD^{tree}")
        team.code.commit({}, "the same content")
        team.code.git("branch", "other")
        await look(running)
        assert len(await configured(running)) == 1
        team.code.git("branch", "next")
        await look(running)
        assert keys(await configured(running)) == ["all", "only"]

    team.run(work)
    team.run(lambda running: _still(running, 2))


async def _still(running: Daemon, count: int) -> None:
    assert len(await configured(running)) == count


def test_patterns_and_age_of_heads_limit_triggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch that is left out, and a head that was old when it came, trigger nothing."""
    team = Team(
        tmp_path,
        cider_ci={
            "branch_include_match": "^(main|old)",
            "branch_exclude_match": "wip$",
            "max_head_age_seconds": 3600,
        },
    )
    team.configure(unit=EMPTY | ALL, number=EMPTY)
    for name in ("main-wip", "feature"):
        team.code.git("checkout", "-q", "-b", name)
        team.configure(unit=EMPTY | ALL, number=EMPTY, **{name: EMPTY})
    monkeypatch.setitem(os.environ, "GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")
    team.code.git("checkout", "-q", "-b", "old")
    team.configure(unit=EMPTY | ALL, old=EMPTY)

    async def work(running: Daemon) -> None:
        (job,) = await configured(running)
        assert job.checkout.branch == "main"
        branches = await running.installation.database.read(lambda c: history.of_repository(c, KEY))
        assert {b.name for b in branches.values() if b.judged == b.commit} == {
            "main",
            "main-wip",
            "feature",
            "old",
        }

    team.run(work)


def test_jobs_follow_from_jobs_and_wait_for_them(tmp_path: Path) -> None:
    """`run_when` of the type job, and `depends_on` of a job that comes later."""
    team = Team(tmp_path, cider_ci={})

    def after(key: str) -> dict[str, Any]:
        return {"x": {"type": "job", "job_key": key, "states": ["passed"]}}

    team.configure(
        first=EMPTY | ALL,
        second=EMPTY | {"run_when": after("first")},
        third=EMPTY | ALL | {"depends_on": after("second")},
        fourth=EMPTY | {"run_when": after("first"), "depends_on": after("third")},
        never=EMPTY | ALL | {"depends_on": after("none")},
        not_yet=EMPTY | {"run_when": after("none")},
    )

    async def work(running: Daemon) -> None:
        async def made() -> bool:
            return len(await configured(running)) == 4

        await eventually(made)
        await running.loop.idle()
        found = {configured_as(job.key)[1]: job for job in await configured(running)}  # type: ignore[index]
        assert set(found) == {"first", "second", "third", "fourth"}
        assert found["second"].trigger["type"] == "job"
        assert found["second"].trigger["job"] == "first"
        assert found["third"].trigger["type"] == "branch"
        branches = await running.installation.database.read(lambda c: history.of_repository(c, KEY))
        assert branches["main"].judged is None  # `never` is still waited for

    team.run(work)
    team.run(lambda running: _still(running, 4))


def test_a_branch_at_an_older_tree_lets_go_what_waits_for_it(tmp_path: Path) -> None:
    """`depends_on` of the type branch: a merge is a new place of what was tried already, however old."""
    team = Team(tmp_path, cider_ci={"max_head_age_seconds": 1, "branch_include_match": "^work"})
    on_release = {"b": {"type": "branch", "include_match": "^release$"}}
    follows = {"run_when": {"x": {"type": "job", "job_key": "unit", "states": ["passed"]}}}
    team.configure(unit=EMPTY)
    team.code.git("checkout", "-q", "-b", "work")
    team.declare(cider_ci={"max_head_age_seconds": 3600, "branch_include_match": "^work"})
    team.configure(unit=EMPTY | ALL, publish=EMPTY | follows | {"depends_on": on_release})

    async def work(running: Daemon) -> None:
        assert keys(await configured(running)) == ["unit"]
        team.code.git("branch", "release")
        await look(running)
        assert keys(await configured(running)) == ["unit", "publish"]

    team.run(work)


def test_jobs_of_trees_on_no_branch_are_ended(tmp_path: Path) -> None:
    """Automatic abort (cider-ci 5.1): forced away, and not on any other branch."""
    team = Team(tmp_path, cider_ci={})
    first = team.configure(unit=NOBODY | ALL, kept=NOBODY)
    team.configure(unit=NOBODY | ALL, gone=NOBODY)
    team.code.git("branch", "also")

    async def work(running: Daemon) -> None:
        (job,) = await configured(running)
        assert job.state is State.PENDING
        team.code.git("reset", "-q", "--hard", first)
        await look(running)
        one, two = await configured(running)
        assert (one.state, two.state) == (State.PENDING, State.PENDING)
        team.code.git("branch", "-D", "also")
        await look(running)
        one, two = await configured(running)
        assert (one.state, one.reason) == (State.ABORTED, Reason.TREE_GONE)
        assert two.state is State.PENDING

    team.run(work)


def test_triggered_jobs_wait_for_an_executor_only_so_long(tmp_path: Path) -> None:
    """The dispatch time-out (cider-ci 5.4): aborted with its reason, and not tried again."""
    team = Team(tmp_path, cider_ci={})
    team.configure(unit=NOBODY | ALL)

    def age(write: Write) -> None:
        write.connection.execute(
            update(t.trials).values(created_at=write.now - timedelta(minutes=29, seconds=58))
        )

    async def work(running: Daemon) -> None:
        (job,) = await configured(running)
        assert job.state is State.PENDING
        await running.installation.database.write(age)
        await look(running)

        async def ended() -> bool:
            (job,) = await configured(running)
            return job.state is State.ABORTED and job.reason == Reason.DISPATCH_TIMEOUT

        await eventually(ended)  # at its own time, long before the next fetch
        (job,) = await configured(running)
        assert [len(task.trials) for task in job.tasks] == [1]

    team.run(work)


def test_a_push_wakes_the_repository(tmp_path: Path) -> None:
    """Told by its webhook; one that nothing is done with is left to its Builds."""
    team = Team(tmp_path, cider_ci={})

    async def work(running: Daemon) -> None:
        pushed = frozenset({normalise_url(str(team.code.path))})
        team.configure(unit=EMPTY | ALL)
        assert builds.wake_followers(running.installation, pushed) == [KEY]

        async def made() -> bool:
            return keys(await configured(running)) == ["unit"]

        await eventually(made)
        assert builds.wake_followers(running.installation, pushed, {"Secret/shop/_/other"}) == []
        assert builds.wake_followers(running.installation, frozenset({"other"})) == []
        team.declare(branch="main")
        await running.installation.run_now("source")
        assert builds.wake_followers(running.installation, pushed) == []

    team.run(work)


def test_a_bad_configuration_is_told_of_once(tmp_path: Path) -> None:
    """A condition with file and chain, and one event for a tree; what is put right is told no more."""
    team = Team(tmp_path, cider_ci={})
    team.code.commit({"cider-ci.yml": '{"jobs": {}, "job": 1}'})

    async def issues(running: Daemon) -> int:
        return len(
            await running.installation.database.read(lambda c: events.after(c, 0, 100, KEY, "tree-issue"))
        )

    async def bad(running: Daemon) -> None:
        told = conditions(running)["ConfigurationInvalid"]
        assert told.startswith("cider-ci.yml on main (")
        assert "job" in told
        assert running.installation.snapshot.current.resources[KEY].health is Health.DEGRADED
        assert await issues(running) == 1

    async def work(running: Daemon) -> None:
        await bad(running)
        team.code.commit({}, "the same tree")
        await look(running)
        await bad(running)

    team.run(work)

    async def again(running: Daemon) -> None:
        await bad(running)
        team.configure(unit=EMPTY)
        await look(running)
        assert "ConfigurationInvalid" not in conditions(running)
        assert running.installation.snapshot.current.resources[KEY].health is Health.HEALTHY

    team.run(again)


def test_a_key_that_cannot_be_stored_is_told(tmp_path: Path) -> None:
    """Other branches go on."""
    team = Team(tmp_path, cider_ci={})
    team.configure(unit=EMPTY | ALL)
    team.code.git("checkout", "-q", "-b", "bad")
    team.configure(**{"a\0b": EMPTY | ALL})

    async def work(running: Daemon) -> None:
        assert keys(await configured(running)) == ["unit"]
        assert "jobs → a?b: must be one line" in conditions(running)["ConfigurationInvalid"]

    team.run(work)


def test_the_main_branch_is_told_of_first(tmp_path: Path) -> None:
    """Of configurations and of manifests: bad ones of three other branches do not hide it."""
    team = Team(tmp_path, cider_ci={}, srht={"submit_as": "jo"})
    team.code.commit({"README": "x"})

    async def work(running: Daemon) -> None:
        for number, name in enumerate(("main", "a", "b", "c", "d")):
            team.code.git("checkout", "-q", "-B", name)
            team.code.commit({"cider-ci.yml": "[]", ".build.yml": "[]", "n": str(number)})
        team.code.git("checkout", "-q", "main")
        await look(running)
        told = conditions(running)
        assert told["ConfigurationInvalid"].startswith("cider-ci.yml on main (")
        assert told["ManifestInvalid"].startswith("main (")
        assert all(message.endswith("and 2 more") for message in told.values())

    team.run(work)


def test_a_job_that_the_store_refuses_harms_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of as a bad configuration is; the others are made, and the head is judged."""
    real = apply.make

    def make(write: Write, order: ConfiguredOrder, replaces: int | None) -> int | None:
        if order.declaration.key == "bad":
            raise Refused("InvalidText", "no such text")
        return real(write, order, replaces)

    monkeypatch.setattr(apply, "make", make)
    team = Team(tmp_path, cider_ci={})
    team.configure(bad=EMPTY | ALL, good=EMPTY | ALL)

    async def work(running: Daemon) -> None:
        for _ in range(2):
            assert keys(await configured(running)) == ["good"]
            told = conditions(running)["ConfigurationInvalid"]
            assert told.startswith("cider-ci.yml on main (")
            assert told.endswith("jobs → bad: cannot be made: no such text")
            await look(running)
        database = running.installation.database
        branches = await database.read(lambda c: history.of_repository(c, KEY))
        assert branches["main"].judged == team.code.head()
        assert len(await database.read(lambda c: events.after(c, 0, 100, KEY, "tree-issue"))) == 1

    team.run(work)


def test_jobs_of_one_name_are_both_made(tmp_path: Path) -> None:
    """The later one is defective, and says why."""
    team = Team(tmp_path, cider_ci={})
    team.configure(first=EMPTY | ALL | {"name": "x"}, second=EMPTY | ALL | {"name": "x"})

    async def work(running: Daemon) -> None:
        found = await configured(running)
        assert keys(found) == ["first", "second"]
        assert [job.state for job in found] == [State.PASSED, State.DEFECTIVE]
        (fault,) = found[1].specification["faults"]
        assert "the jobs first and second have the same name" in fault
        job = found[0]
        declared = JobDeclaration("third", "x", "cider-ci.yml")
        order = ConfiguredOrder(KEY, "shop", declared, {"tasks": []}, job.checkout, {"type": "branch"})
        with pytest.raises(Conflict, match='has a job first named "x" already'):
            await running.installation.database.write(lambda write: apply.make(write, order, None))

    team.run(work)


def test_a_head_that_waits_is_read_again_only_for_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of its tree, also one that another Repository asked for, or another head."""
    read: list[str] = []
    real = configurations.read

    async def counted(installation: Installation, tree: configurations.Tree) -> Configuration:
        read.append(tree.repository)
        return await real(installation, tree)

    monkeypatch.setattr(configurations, "read", counted)
    team = Team(tmp_path, cider_ci={"branch_include_match": "^main$"})
    after = {"x": {"type": "job", "job_key": "unit", "states": ["passed"]}}

    def on(name: str) -> dict[str, Any]:
        return EMPTY | {"run_when": {"b": {"type": "branch", "include_match": f"^{name}$"}}}

    team.configure(unit=on("other"), late=on("main") | {"depends_on": after})

    async def work(running: Daemon) -> None:
        assert read
        read.clear()
        await look(running)
        assert read == []
        team.code.git("branch", "other")
        await look(running)
        assert read == [KEY]
        read.clear()
        await look(running)
        assert (read, await configured(running)) == ([], [])
        text = (team.specs.path / "shop.yaml").read_text()
        other = text.rpartition("---\n")[2].replace('"web"', '"other"').replace("^main$", "^other$")
        team.specs.commit({"shop.yaml": f"{text}---\n{other}"})
        await look(running)

        async def made() -> bool:
            await running.installation.run_now(KEY)
            return keys(await configured(running)) == ["unit", "late"]

        await eventually(made)

    team.run(work)


def test_a_faulty_job_is_made_and_is_defective(tmp_path: Path) -> None:
    """The others of its configuration go on (case 18)."""
    team = Team(tmp_path, cider_ci={})
    faulty = {"tasks": {"t": {"body": "true", "aggregate_state": "satisfy-most"}}}
    team.configure(good=EMPTY | ALL, faulty=faulty | ALL)

    async def work(running: Daemon) -> None:
        found = dict(zip(keys(await configured(running)), await configured(running), strict=True))
        assert found["good"].state is State.PASSED
        assert (found["faulty"].state, found["faulty"].reason) == (State.DEFECTIVE, Reason.CONFIGURATION)
        assert "ConfigurationInvalid" not in conditions(running)

    team.run(work)


def test_trees_without_a_configuration_are_nobodys_fault(tmp_path: Path) -> None:
    """Most branches of before have none."""
    team = Team(tmp_path, cider_ci={})
    team.code.commit({"README": "x"})

    async def work(running: Daemon) -> None:
        assert conditions(running) == {}
        assert await configured(running) == []
        branches = await running.installation.database.read(lambda c: history.of_repository(c, KEY))
        assert branches["main"].judged == team.code.head()

    team.run(work)


def test_what_is_not_asked_for_any_more_goes(tmp_path: Path) -> None:
    """The history of a Repository that is switched off, or no more declared; also while no daemon ran."""
    team = Team(tmp_path, cider_ci={})
    team.configure(unit=NOBODY | ALL)

    async def known(running: Daemon) -> set[str]:
        return await running.installation.database.read(history.repositories)

    async def off(running: Daemon) -> None:
        assert await known(running) == {KEY}
        team.declare(cider_ci={"enabled": False})
        await look(running)
        assert await known(running) == set()
        (job,) = await configured(running)
        assert (job.state, job.reason) == (State.ABORTED, Reason.TREE_GONE)
        team.declare(cider_ci={})
        await look(running)
        assert await known(running) == {KEY}

    team.run(off)
    team.declare()

    async def gone(running: Daemon) -> None:
        async def forgotten() -> bool:
            return await known(running) == set()

        await eventually(forgotten)

    team.run(gone)


def test_a_repository_that_cannot_be_fetched_says_so(tmp_path: Path) -> None:
    """And what is known of it stays, with the jobs that follow from it."""
    team = Team(tmp_path, cider_ci={})
    team.configure(unit=NOBODY | ALL)

    async def work(running: Daemon) -> None:
        team.code.path.rename(tmp_path / "away")
        await look(running)
        assert "RepositoryUnavailable" in conditions(running)
        assert await running.installation.database.read(lambda c: len(history.ids(c, KEY))) == 1
        assert (await configured(running))[0].state is State.PENDING
        (tmp_path / "away").rename(team.code.path)
        running.installation.fetch_failures.clear()
        await look(running)
        assert conditions(running) == {}

    team.run(work)


def test_cron_conditions_trigger_and_run_again(tmp_path: Path) -> None:
    """Where the Repository switches them on; `rerun` replaces a job that has ended long enough ago."""
    team = Team(tmp_path, cider_ci={"cron": False, "max_head_age_seconds": 1})
    at = {"type": "cron", "value": "* * * * *", "branch_include_match": "^main$"}
    team.configure(
        once=EMPTY | {"run_when": {"c": at}}, minutely=EMPTY | {"run_when": {"c": at | {"rerun": True}}}
    )

    def age(write: Write) -> None:
        ended = {"finished_at": write.now - timedelta(minutes=4)}
        write.connection.execute(update(t.jobs).values(**ended))

    async def work(running: Daemon) -> None:
        assert await configured(running) == []
        team.declare(cider_ci={"cron": True})
        await look(running)
        assert sorted(keys(await configured(running))) == ["minutely", "once"]
        await look(running)
        assert len(await configured(running)) == 2
        coming = running.installation.looked[KEY].cron_at
        assert coming is not None
        assert coming <= datetime.now(UTC) + timedelta(minutes=1)
        ahead = datetime.now(UTC) + timedelta(days=30)
        looked = running.installation.looked
        looked[KEY] = replace(looked[KEY], cron_at=ahead, at=ahead)
        await look(running)
        assert looked[KEY].cron_at is not None
        assert looked[KEY].cron_at <= datetime.now(UTC) + timedelta(minutes=1), "the clock was set back"
        await running.installation.database.write(age)
        running.installation.looked.clear()
        await look(running)
        found = await configured(running)
        assert sorted(keys(found)) == ["minutely", "minutely", "once"]
        assert [job.configured for job in found].count(False) == 1
        assert found[-1].configured
        assert found[-1].trigger["type"] == "cron"

    team.run(work)


def test_manifests_of_new_heads_are_submitted_once(tmp_path: Path) -> None:
    """For the main branch at once, for others when they move; with the commit, as the named User."""
    team = Team(tmp_path, srht={"submit_as": "jo"})
    url = str(team.code.path)
    files = {
        ".build.yml": MANIFEST % url,
        ".builds/more.yml": MANIFEST % "https://e.org/x",
        "a/.build.yml": "no",
    }
    first = team.code.commit(files)
    team.code.git("branch", "old")

    async def work(running: Daemon) -> None:
        found = await configured(running)
        assert [(job.key, job.actor, job.trigger["path"], job.trigger["branch"]) for job in found] == [
            ("Manifest/~jo/_/build", "User/jo", ".build.yml", "main"),
            ("Manifest/~jo/_/build", "User/jo", ".builds/more.yml", "main"),
        ]
        texts = [job.specification["manifest"]["text"] for job in found]
        assert f"{url}#{first}" in texts[0]
        assert "https://e.org/x\n" in texts[1]
        assert [job.specification["tags"] for job in found] == [["web"], ["web", "more"]]
        await look(running)
        assert len(await configured(running)) == 2
        team.code.git("checkout", "-q", "old")
        team.code.commit({".builds/more.yml": None})
        await look(running)
        found = await configured(running)
        assert [job.trigger["branch"] for job in found] == ["main", "main", "old"]
        assert await running.installation.database.read(history.repositories) == set()

    team.run(work)
    team.run(lambda running: _still(running, 3))


def test_a_bad_manifest_harms_itself_only(tmp_path: Path) -> None:
    """The condition names file and fault, also after a restart, until the branch moves on."""
    team = Team(tmp_path, srht={"submit_as": "jo"})
    bad = {".builds/a.yml": "image: 3\n", ".builds/b.yml": MANIFEST % "", ".builds/c.yml": b"\xff"}
    team.code.commit(bad)

    async def told(running: Daemon) -> None:
        message = conditions(running)["ManifestInvalid"]
        assert ".builds/a.yml: line 1: image must be a string" in message
        assert ".builds/c.yml: is not UTF-8 text" in message
        assert [job.trigger["path"] for job in await configured(running)] == [".builds/b.yml"]

    async def work(running: Daemon) -> None:
        await told(running)
        await look(running)
        await told(running)

    team.run(work)

    async def again(running: Daemon) -> None:
        await told(running)
        team.code.commit({".builds/a.yml": None, ".builds/c.yml": None})
        await look(running)
        assert conditions(running) == {}

    team.run(again)


def test_nothing_is_submitted_as_who_is_disabled(tmp_path: Path) -> None:
    """It is made up for once they are back."""
    team = Team(tmp_path, srht={"submit_as": "jo"})
    team.code.commit({".build.yml": MANIFEST % ""})
    text = (team.specs.path / "shop.yaml").read_text()
    team.specs.commit({"shop.yaml": text.replace("disabled: false", "disabled: true")})

    async def work(running: Daemon) -> None:
        assert await configured(running) == []
        assert "jo, as whom manifests are submitted, is disabled" in conditions(running)["ManifestInvalid"]
        team.specs.commit({"shop.yaml": text})
        await look(running)
        assert len(await configured(running)) == 1
        assert conditions(running) == {}

    team.run(work)


class Killed(BaseException):
    """The daemon is no more."""


async def as_in_git(running: Daemon, code: SpecRepository) -> None:
    """Everything that is known is what Git has, and the other way round."""
    lines = [line.split(" ") for line in code.git("log", "--branches", "--format=%H %T %P").splitlines()]
    shown = code.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()

    def read(connection: Connection) -> None:
        rows = {row.id: row.tree for row in connection.execute(select(t.commits))}
        assert rows == {commit: tree for commit, tree, *_ in lines}
        arcs = {(row.child, row.parent) for row in connection.execute(select(t.arcs))}
        assert arcs == {(commit, parent) for commit, _, *parents in lines for parent in parents if parent}
        branches = history.of_repository(connection, KEY)
        assert {f"{name} {branch.commit}" for name, branch in branches.items()} == set(shown)

    await running.installation.database.read(read)


def change(code: SpecRepository, chance: random.Random) -> None:
    """Something that people do to branches."""
    names = code.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    branch, what = chance.choice("abcd"), chance.choice(("commit", "commit", "merge", "reset", "delete"))
    if branch not in names:
        code.git("branch", branch, chance.choice(names))
    code.git("checkout", "-q", branch)
    if what == "commit":
        for _ in range(chance.randint(1, 5)):
            code.commit({"x": str(chance.random())})
    elif what == "merge":
        code.git("merge", "-q", "-s", "ours", "-m", "m", chance.choice(names))
    elif what == "reset":
        code.git("reset", "-q", "--hard", chance.choice(code.git("rev-list", "HEAD").split()))
    else:
        code.git("checkout", "-q", "main")
        code.git("branch", "-D", branch)


def test_history_is_that_of_git_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random pushes, forced ones, branches that go, a mirror made anew, and a kill at any transaction."""
    monkeypatch.setattr(history, "AT_ONCE", 3)
    chance = random.Random(11)
    team = Team(tmp_path, cider_ci={})
    team.code.commit({"x": "0"})

    async def killed(running: Daemon, mirror: Mirror) -> None:
        """Catch up, and end at some transaction."""
        database, left = running.installation.database, chance.randint(0, 4)
        real = database.write

        async def write(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return await real(*arguments, **more)

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(database, "write", write)
            await histories.catch_up(running.installation, KEY, mirror, thorough=False)

    async def work(running: Daemon) -> None:
        await as_in_git(running, team.code)
        mirrors = running.installation.mirrors
        for turn in range(25):
            for _ in range(chance.randint(1, 3)):
                change(team.code, chance)
            mirror = await mirrors.fetched(str(team.code.path), 0)
            if chance.random() < 0.7:
                await killed(running, mirror)
                change(team.code, chance)
            if turn % 8 == 7:  # old heads are unknown to it then
                team.code.git("reflog", "expire", "--expire=now", "--all")
                team.code.git("gc", "-q", "--prune=now")
                mirror._damaged = True
            mirror = await mirrors.fetched(str(team.code.path), 0)
            await histories.catch_up(running.installation, KEY, mirror, thorough=True)
            await as_in_git(running, team.code)

    team.run(work)
