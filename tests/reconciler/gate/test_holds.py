"""Deploys that wait: for a freeze, for hours, for service, for people; and what they are let go by (design 8.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import deployments as states
from reconciler.commands import executions as door
from reconciler.commands import gate as commands
from reconciler.commands import jobs
from reconciler.commands.gate import Said
from reconciler.errors import Conflict, Forbidden, Refused, SteersmanError
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.job import Job, Reason, State
from reconciler.model.request import Verdict
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.queries import gate as queries
from reconciler.queries.why import why
from reconciler.store import events, requests
from tests.shop import Open, Shop
from tests.support import eventually

KEY = "Deployment/shop/prod/web"
_FAR = {"from": "2020-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A deployment of its own scripts."""
    found = Shop(tmp_path)
    declare(found)
    return found


def declare(shop: Shop, **inputs: str) -> None:
    """What is deployed; other inputs make it something else."""
    run = f"echo deployed $INPUT_size >> {shop.marks}/all"
    spec = {"scripts": {"deploy": {"inline": run}}, "inputs": inputs or {"size": "s"}}
    shop.deployment("web", spec)


def freeze(shop: Shop, spec: dict[str, Any] | None = None, **more: Any) -> None:
    """A Freeze of everything, for a very long time."""
    shop.declare("Freeze", "peak", {"reason": "Peak trading", **_FAR, **more} if spec is None else spec)


async def held(open_: Open, key: str = KEY) -> Resource:
    """The Deployment once it is held."""
    return await until(open_, lambda found: any(c.type == "Held" for c in found.conditions), key)


async def until(open_: Open, what: Callable[[Resource], bool], key: str = KEY) -> Resource:
    """The Deployment once something is true of it."""
    for _ in range(1500):
        found = open_.installation.snapshot.current.resources.get(key)
        if found is not None and what(found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(open_.installation.snapshot.current.resources[key].conditions)


def stands(found: Resource) -> bool:
    """As it is declared."""
    return found.sync is Sync.SYNCED and found.health is Health.HEALTHY


async def causes(open_: Open, key: str = KEY) -> list[dict[str, Any]]:
    """Why it is not deployed."""
    return list((await why(open_.installation, ROOT, key))["causes"])


def test_a_freeze_holds_the_next_deploy_until_it_is_lifted(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        (job,) = await open_.jobs(KEY)
        assert (job.state, job.reason, job.held) == (State.PENDING, Reason.HELD, True)
        (cause,) = await causes(open_)
        assert cause["reason"] == "Freeze"
        assert cause["where"].startswith("shop.yaml:")
        assert "2999-01-01" in cause["message"]
        assert "Peak trading" in cause["message"]
        assert shop.marked() == []
        shop.declare("Freeze", "peak", None)
        await open_.apply()
        await until(open_, stands)
        assert shop.marked() == ["deployed s"]
        assert [each.number for each in await open_.jobs(KEY)] == [job.number]
        # what is deployed already is put back through a freeze, as `repair` is not held by default
        freeze(shop)
        await open_.apply()
        await door.trigger_deployment(open_.installation, ROOT, KEY, Type.DEPLOY)
        await until(open_, lambda _: len(shop.marked()) == 2)

    freeze(shop)
    shop.run(work)


def test_a_newer_wish_takes_the_place_of_the_held_one(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        declare(shop, size="m")
        await open_.apply()
        await until(open_, lambda _: True)
        for _ in range(1500):
            first, *others = sorted(await open_.jobs(KEY), key=lambda job: job.number)
            if others and first.state is State.ABORTED:
                break
            await asyncio.sleep(0.02)
        (second,) = others
        assert (first.state, first.reason) == (State.ABORTED, Reason.SUPERSEDED)
        assert (second.state, second.held) == (State.PENDING, True)
        shop.declare("Freeze", "peak", None)
        await open_.apply()
        await until(open_, stands)
        assert shop.marked() == ["deployed m"]

    freeze(shop)
    shop.run(work)


def test_what_is_not_wanted_any_more_is_withdrawn(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        freeze(shop)
        declare(shop, size="m")
        await open_.apply()
        await held(open_)
        declare(shop)
        await open_.apply()
        await until(open_, stands)
        for _ in range(1500):
            newest = max(await open_.jobs(KEY), key=lambda job: job.number)
            if newest.state.finished:
                break
            await asyncio.sleep(0.02)
        assert (newest.state, newest.reason) == (State.ABORTED, Reason.SUPERSEDED)
        assert shop.marked() == ["deployed s"]

    shop.run(work)


def test_a_window_opens_by_itself(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        (cause,) = await causes(open_)
        assert cause["reason"] == "OutsideWindow"
        await until(open_, stands)
        assert datetime.now(UTC) >= opens

    opens = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    rule = {
        "type": "schedule",
        "begin_time": opens.strftime("%H:%M:%S"),
        "end_time": (opens + timedelta(minutes=30)).strftime("%H:%M:%S"),
    }
    shop.declare("ApprovalRuleset", "hours", {"rules": [rule]})
    bindings = [{"approval_ruleset": "hours"}]
    shop.declare("Environment", "prod", {"approval_ruleset_bindings": bindings}, project="shop")
    shop.run(work)


def test_a_window_that_is_open_holds_nothing_and_asks_nobody(shop: Shop) -> None:
    """What the time alone decides is approved as the deploy begins, which is recorded."""

    async def work(open_: Open) -> None:
        await until(open_, stands)
        declare(shop, size="m")
        shop.deployment("web", shop.documents[KEY]["spec"] | {"reconcile": "manual"})
        await open_.apply()
        found = await queries.when(open_.installation, ROOT, KEY)
        assert (found["approvals"], found["before"], found["at"]) == ([], [], found["now"])
        await door.trigger_deployment(open_.installation, ROOT, KEY, Type.DEPLOY)
        await until(open_, lambda _: len(shop.marked()) == 2)
        given = await queries.open_approvals(open_.installation, ROOT, all_of_them=True)
        assert [(each["application"], each["state"]) for each in given] == [("page", "approved")] * 2
        told = await open_.installation.database.read(lambda c: events.of_kinds(c, 0, {"deploy-held"}, 9))
        assert told == []

    shop.declare("ApprovalRuleset", "hours", {"rules": [{"type": "schedule"}]})
    shop.declare(
        "Application",
        "page",
        {
            "releases": ["_/web"],
            "environments": ["prod"],
            "approval_ruleset_bindings": [{"approval_ruleset": "hours"}],
        },
    )
    shop.run(work)


async def waiting(open_: Open, reason: str = "AwaitsApproval") -> dict[str, Any]:
    """The cause, once it is the only one."""
    found: list[dict[str, Any]] = []
    for _ in range(1500):
        found = await causes(open_)
        if [cause["reason"] for cause in found] == [reason]:
            return found[0]
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def _equal(found: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> bool:
    return await found() == wanted


async def finished(open_: Open, number: int) -> Job:
    """A job once it has ended."""
    for _ in range(1500):
        (job,) = [each for each in await open_.jobs(KEY) if each.number == number]
        if job.state.finished:
            return job
        await asyncio.sleep(0.02)
    raise AssertionError(job)


def protect(shop: Shop, **more: Any) -> None:
    """Deploys of the environment take somebody's word."""
    shop.declare("Environment", "prod", {"protected": True, **more}, project="shop")


def test_a_protected_environment_asks_one_owner_who_did_not_start_it(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        cause = await waiting(open_)
        assert "0 of 1 approvals; an owner of environment shop/prod may decide" in cause["message"]
        (item,) = await queries.open_approvals(open_.installation, ROOT)
        assert (item["key"], item["application"], item["state"]) == (KEY, "web", "pending")
        assert item["digest"]
        made = await commands.decide(open_.installation, ROOT, Said("approved", "fine", key=KEY))
        assert [each.decision for each in made] == ["approved"]
        await until(open_, stands)
        assert shop.marked() == ["deployed s"]
        assert await queries.open_approvals(open_.installation, ROOT) == []

    protect(shop)
    shop.run(work)


@pytest.mark.parametrize("part", ["inputs", "scripts", "package"])
def test_an_approval_is_of_exactly_what_was_shown(shop: Shop, part: str) -> None:
    def change(shop: Shop, part: str) -> None:
        spec = dict(shop.documents[KEY]["spec"])
        if part == "inputs":
            spec["inputs"] = {"size": "xl"}
        elif part == "scripts":
            spec["scripts"] = {"deploy": {"inline": f"echo other >> {shop.marks}/all"}}
        else:
            shop.specs.write({"files/a.txt": "another"})
        shop.deployment("web", spec)

    protect(shop)
    spec = dict(shop.documents[KEY]["spec"]) | {"includes": ["files/**"]}
    shop.deployment("web", spec)
    shop.specs.write({"files/a.txt": "one"})

    async def work(open_: Open) -> None:
        await waiting(open_)
        freeze(shop)
        await open_.apply()
        for _ in range(1500):
            if "Freeze" in [each["reason"] for each in await causes(open_)]:
                break
            await asyncio.sleep(0.02)
        (shown,) = await queries.open_approvals(open_.installation, ROOT)
        assert shown["state"] == "pending"
        await commands.decide(open_.installation, ROOT, Said("approved", key=KEY, digest=shown["digest"]))
        await waiting(open_, "Freeze")
        change(shop, part)
        await open_.apply()
        for _ in range(1500):
            found = await causes(open_)
            if [each["reason"] for each in found] == ["Freeze", "NeedsApproval"]:
                break
            await asyncio.sleep(0.02)
        told = f"request {shown['request']} does not count any more, since its {part} changed"
        assert told in found[1]["message"]
        for said in (
            Said("approved", key=KEY, digest=shown["digest"]),
            Said("approved", request=shown["request"]),
        ):
            with pytest.raises(Conflict) as refused:
                await commands.decide(open_.installation, ROOT, said)
            assert refused.value.reason == "Changed"
            assert f"{part} changed" in refused.value.message
        shop.declare("Freeze", "peak", None)
        await open_.apply()
        assert f"since its {part} changed" in (await waiting(open_))["message"]
        assert shop.marked() == []
        await commands.decide(open_.installation, ROOT, Said("approved", key=KEY))
        await until(open_, stands)

    shop.run(work)


def test_what_was_rejected_is_asked_again_by_hand_only(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await waiting(open_)
        await commands.decide(open_.installation, ROOT, Said("rejected", "not today", key=KEY))
        cause = await waiting(open_, "Rejected")
        assert f"`steersman trigger {KEY}`" in cause["message"]
        await open_.installation.run_now("gate")
        assert len(await queries.open_approvals(open_.installation, ROOT, all_of_them=True)) == 1
        await door.trigger_deployment(open_.installation, ROOT, KEY, Type.DEPLOY)
        await waiting(open_)
        assert len(await queries.open_approvals(open_.installation, ROOT, all_of_them=True)) == 2

    protect(shop)
    shop.run(work)


def test_a_freeze_lets_through_whom_it_names(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        (shown,) = await queries.freezes(open_.installation, ROOT)
        assert (shown["active"], shown["held"]) == (True, [KEY])
        for comment, error in (("", Refused), ("urgent", None)):
            if error is not None:
                with pytest.raises(error):
                    await commands.let_through(open_.installation, ROOT, KEY, comment, None, None)
            else:
                made = await commands.let_through(open_.installation, ROOT, KEY, comment, None, None)
                assert made == [{"freeze": "Freeze/_/peak", "given": 1, "needed": 1}]
        await until(open_, stands)
        (entry,) = await queries.passes(open_.installation, ROOT)
        assert (entry["freeze"], entry["comment"]) == ("Freeze/_/peak", "urgent")
        declare(shop, size="m")  # it was for just that
        await open_.apply()
        await held(open_)
        assert shop.marked() == ["deployed s"]

    freeze(shop, **{"pass": {"roles": ["owner"]}})
    shop.run(work)


def test_a_freeze_that_names_nobody_lets_nobody_through(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        with pytest.raises(Forbidden, match="names no way through"):
            await commands.let_through(open_.installation, ROOT, KEY, "urgent", None, None)

    freeze(shop)
    shop.run(work)


def test_what_is_cancelled_while_it_is_held_does_not_come_back(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        (job,) = await open_.jobs(KEY)
        await jobs.cancel(open_.installation, ROOT, job.number)
        ended = await finished(open_, job.number)
        assert (ended.state, ended.reason) == (State.ABORTED, Reason.CANCELLED)
        await until(open_, lambda found: any(c.type == "Stopped" for c in found.conditions))
        assert len(await open_.jobs(KEY)) == 1

    freeze(shop)
    shop.run(work)


def test_what_waits_for_a_place_is_looked_at_once_more(shop: Shop) -> None:
    """A freeze that is declared between the decision to deploy and its start still holds it."""

    async def work(open_: Open) -> None:
        for _ in range(1500):
            found = await open_.jobs(KEY)
            if found:
                break
            await asyncio.sleep(0.02)
        assert (found[0].state, found[0].held) == (State.PENDING, False)
        freeze(shop)
        await open_.apply()
        executor = shop.documents["Executor/local"]["spec"]
        shop.declare("Executor", "local", executor | {"traits": ["late"]})
        await open_.apply()
        await held(open_)
        (job,) = await open_.jobs(KEY)
        assert (job.held, job.reason) == (True, Reason.HELD)
        assert shop.marked() == []
        shop.declare("Freeze", "peak", None)
        await open_.apply()
        await until(open_, stands)
        assert shop.marked() == ["deployed l"]

    spec = shop.documents[KEY]["spec"]
    shop.deployment("web", spec | {"inputs": {"size": "l"}, "run_on": {"traits": ["late"]}})
    shop.run(work)


def test_a_service_that_is_over_holds_deploys(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        (cause,) = await causes(open_)
        assert cause["reason"] == "Inactive"
        assert "bug_fixes) ended on 2020-05-31" in cause["message"]
        shop.declare("ProductRelease", "fedora-44", product("2999-05-31"))
        await open_.apply()
        await until(open_, stands)

    def product(last: str) -> dict[str, Any]:
        return {
            "short": "fedora",
            "version": "44",
            "display_name": "Fedora 44",
            "release_type": "ga",
            "applications": ["web"],
            "hold_when_inactive": ["bug_fixes"],
            "schedule": {"bug_fixes": last, "security_fixes": "2999-05-31"},
        }

    for name in ("bug_fixes", "security_fixes"):
        shop.declare("SLA", name, {})
    shop.declare("Application", "web", {"releases": ["_/web"]})
    shop.declare("ProductRelease", "fedora-44", product("2020-05-31"))
    shop.run(work)


def test_going_back_takes_another_approval(shop: Shop) -> None:
    """What was approved once is not approved for ever: something else has been deployed since."""

    async def work(open_: Open) -> None:
        for size in ("s", "m"):
            declare(shop, size=size)
            await open_.apply()
            await waiting(open_)
            await commands.decide(open_.installation, ROOT, Said("approved", key=KEY))
            await until(open_, stands)
        declare(shop, size="s")
        await open_.apply()
        await waiting(open_)
        assert shop.marked() == ["deployed s", "deployed m"]

    protect(shop)
    shop.run(work)


def test_an_approval_outlives_a_failed_try(shop: Shop) -> None:
    """Until it stands: nobody is asked for each attempt."""

    async def work(open_: Open) -> None:
        await waiting(open_)
        await commands.decide(open_.installation, ROOT, Said("approved", key=KEY))
        for _ in range(600):
            found = await open_.jobs(KEY)
            if len(found) >= 2 and all(job.state.finished for job in found):
                break
            await asyncio.sleep(0.02)
        assert [job.state for job in found] == [State.PASSED, State.FAILED]
        assert len(await queries.open_approvals(open_.installation, ROOT, all_of_them=True)) == 1

    protect(shop)
    run = f"test -e {shop.marks}/tried || {{ touch {shop.marks}/tried; exit 1; }}"
    shop.deployment("web", {"scripts": {"deploy": {"inline": run}}})
    shop.run(work)


def test_a_state_that_a_client_has_put_is_no_repair(shop: Shop) -> None:
    """Only what was deployed from here is put back without asking."""

    async def work(open_: Open) -> None:
        await waiting(open_)
        place = state_of.of(KEY)
        status = {"status": "ok", "updated_at": "2026-01-01T00:00:00Z"}
        state = {
            "name": "web",
            "release": "web",
            "stages": {"deploy": {"version": "1.0.0", "status": status}},
        }
        await states.put_state(open_.installation, ROOT, place, "", "", state)
        await open_.installation.run_now("environment/shop/prod")
        await door.trigger_deployment(open_.installation, ROOT, KEY, Type.DEPLOY)
        await asyncio.sleep(0.3)
        assert shop.marked() == []
        assert [cause["reason"] for cause in await causes(open_)] == ["AwaitsApproval"]

    protect(shop)
    shop.run(work)


def test_retrying_an_old_deploy_is_no_way_around(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        (first,) = await open_.jobs(KEY)
        declare(shop, size="m")
        await open_.apply()
        await until(open_, lambda found: stands(found) and len(shop.marked()) == 2)
        freeze(shop)
        await open_.apply()
        with contextlib.suppress(SteersmanError):
            await jobs.retry(open_.installation, ROOT, first.number)
        await asyncio.sleep(0.5)
        assert shop.marked() == ["deployed s", "deployed m"]

    shop.run(work)


def test_a_ruleset_that_is_no_good_lets_nothing_go(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        cause = await waiting(open_, "NoRuleset")
        assert "ApprovalRuleset/two is bound here" in cause["message"]

    shop.declare("ApprovalRuleset", "two", {"rules": [{"type": "never"}]})
    protect(shop, approval_ruleset_bindings=[{"approval_ruleset": "two"}])
    shop.run(work)


def test_a_protected_environment_whose_rules_are_off_asks_an_owner(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        assert "an owner of environment shop/prod may decide" in (await waiting(open_))["message"]

    shop.declare("ApprovalRuleset", "two", {"enabled": False})
    protect(shop, approval_ruleset_bindings=[{"approval_ruleset": "two"}])
    shop.run(work)


def test_what_is_permissive_holds_nothing_and_is_asked_all_the_same(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        shown = await queries.open_approvals(open_.installation, ROOT, all_of_them=True)
        assert [[rule["mode"] for rule in item["rules"]] for item in shown] == [["permissive"]]
        await open_.installation.run_now("gate")
        (request,) = await open_.installation.database.read(lambda c: requests.of_application(c, "web", 9, 0))
        assert request.state is Verdict.PENDING

    rule = {"type": "manual", "approval_policy": "any"}
    shop.declare("ApprovalRuleset", "anybody", {"rules": [rule]})
    bindings = [{"approval_ruleset": "anybody", "mode": "permissive"}]
    shop.declare("Environment", "prod", {"approval_ruleset_bindings": bindings}, project="shop")
    shop.run(work)


@pytest.mark.parametrize("word", ["suspend", "disabled"])
def test_what_is_switched_off_while_it_is_held_does_not_go(shop: Shop, word: str) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        shop.deployment("web", shop.documents[KEY]["spec"] | {word: True})
        await open_.apply()
        (job,) = await open_.jobs(KEY)
        assert (await finished(open_, job.number)).reason == Reason.SUPERSEDED
        shop.declare("Freeze", "peak", None)
        await open_.apply()
        await asyncio.sleep(0.3)
        assert shop.marked() == []

    freeze(shop)
    shop.run(work)


def test_requests_end_with_what_they_were_for(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        async def states() -> list[str]:
            shown = await queries.open_approvals(open_.installation, ROOT, all_of_them=True)
            return [item["state"] for item in shown]

        await waiting(open_)
        for count, size in enumerate(("m", "l"), 1):
            declare(shop, size=size)
            await open_.apply()
            wanted = [*["rejected"] * count, "pending"]
            await eventually(lambda wanted=wanted: _equal(states, wanted))

    protect(shop)
    shop.run(work)
