"""The plan of a commit judges deploys by the rules of that commit: what it says of them is what then happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import executions as door
from reconciler.model.execution import Type
from reconciler.queries import plans
from tests.reconciler.gate.test_holds import causes, declare, freeze, held, protect, stands, until, waiting
from tests.shop import Open, Shop

KEY = "Deployment/shop/prod/web"
OTHER = "Deployment/shop/prod/other"
BINDINGS = [{"approval_ruleset": "hours"}]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A deployment of its own scripts."""
    found = Shop(tmp_path)
    declare(found)
    return found


async def planned(open_: Open) -> dict[str, list[str]]:
    """Why each deploy of what is declared by now would wait; nothing: it would go."""
    text = "\n---\n".join(json.dumps(document) for document in open_.shop.documents.values())
    plan = await plans.of_files(open_.installation, ROOT, {"shop.yaml": text})
    return {each["key"]: [cause["reason"] for cause in each["gate"]["causes"]] for each in plan["deploys"]}


def hours(shop: Shop, *, open_: bool) -> None:
    """A ruleset of the environment that lets deploys through always, or never."""
    rule: dict[str, Any] = {"type": "schedule", "days_of_week": None if open_ else ""}
    shop.declare("ApprovalRuleset", "hours", {"rules": [rule]})
    shop.declare("Environment", "prod", {"approval_ruleset_bindings": BINDINGS}, project="shop")


def test_an_environment_that_is_protected_no_more_sets_free(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await waiting(open_)
        assert await planned(open_) == {}
        shop.declare("Environment", "prod", {"protected": False}, project="shop")
        assert await planned(open_) == {KEY: []}
        await open_.apply()
        await until(open_, stands)

    protect(shop)
    shop.run(work)


def test_what_a_freeze_held_is_listed_where_it_is_lifted(shop: Shop) -> None:
    """Also what somebody has triggered; and what stays held for something else says so."""

    async def work(open_: Open) -> None:
        await held(open_)
        await door.trigger_deployment(open_.installation, ROOT, OTHER, Type.DEPLOY)
        await open_.installation.run_now("gate")
        shop.declare("Freeze", "peak", None)
        assert await planned(open_) == {KEY: [], OTHER: []}
        freeze(shop, environments=["dev"])
        assert await planned(open_) == {KEY: [], OTHER: []}
        protect(shop)
        assert await planned(open_) == {KEY: ["NeedsApproval"], OTHER: ["NeedsApproval"]}
        shop.declare("Environment", "prod", {}, project="shop")
        shop.deployment("other", None)
        assert await planned(open_) == {KEY: []}
        shop.deployment("other", shop_of_other)
        await open_.apply()
        await until(open_, stands)
        await until(open_, stands, OTHER)

    shop_of_other = {"scripts": {"deploy": {"inline": "true"}}, "reconcile": "manual"}
    shop.deployment("other", shop_of_other)
    freeze(shop)
    shop.run(work)


def test_what_is_changed_with_a_freeze_is_held_by_it(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        freeze(shop)
        assert await planned(open_) == {}
        declare(shop, size="m")
        assert await planned(open_) == {KEY: ["Freeze"]}
        await open_.apply()
        await held(open_)
        assert [cause["reason"] for cause in await causes(open_)] == ["Freeze"]

    shop.run(work)


def test_a_window_that_is_widened_counts_at_once(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await held(open_)
        declare(shop, size="m")
        assert await planned(open_) == {KEY: ["OutsideWindow"]}
        hours(shop, open_=True)
        assert await planned(open_) == {KEY: []}
        await open_.apply()
        await until(open_, stands)

    hours(shop, open_=False)
    shop.run(work)


def test_an_environment_that_becomes_protected_asks(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        protect(shop)
        declare(shop, size="m")
        assert await planned(open_) == {KEY: ["NeedsApproval"]}
        await open_.apply()
        await waiting(open_)

    shop.run(work)


def test_an_application_that_is_bound_asks_and_one_that_goes_does_not(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        declare(shop, size="m")
        rule = {"type": "manual", "approval_policy": "any"}
        shop.declare("ApprovalRuleset", "people", {"rules": [rule]})
        bound = [{"approval_ruleset": "people"}]
        application = {"releases": ["_/web"], "environments": ["prod"], "approval_ruleset_bindings": bound}
        shop.declare("Application", "web", application)
        assert await planned(open_) == {KEY: ["NeedsApproval"]}
        await open_.apply()
        await waiting(open_)
        shop.declare("Application", "web", None)
        assert await planned(open_) == {KEY: []}
        await open_.apply()
        await until(open_, stands)

    shop.run(work)


def test_a_held_removal_is_listed_where_its_freeze_is_lifted(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await until(open_, stands)
        freeze(shop)
        shop.deployment("web", None)
        assert await planned(open_) == {KEY: ["Freeze"]}
        await open_.apply()
        await open_.installation.run_now("environment/shop/prod")
        assert (await open_.jobs(KEY))[0].held
        assert await planned(open_) == {}
        shop.declare("Freeze", "peak", None)
        assert await planned(open_) == {KEY: []}

    shop.deployment("web", shop.documents[KEY]["spec"] | {"on_delete": "destroy"})
    shop.run(work)
