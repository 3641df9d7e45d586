"""Deployments: what is declared against what stands, in order of who needs whom (escape-state, 9; own-kinds)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import executions
from reconciler.errors import Conflict, NotFound, Refused
from reconciler.model.execution import Type, status_reason
from reconciler.model.job import State
from reconciler.model.status import Health, Sync
from reconciler.store import deployments
from tests import databases
from tests.shop import Open, Shop
from tests.support import eventually

ONLY_PUSH = {"run_deploy": False, "run_tests": False, "run_destroy": False}
WEB = "shop/web"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """With a plan in its code, and a Build that only pushes."""
    made = Shop(tmp_path)
    line = f"echo $STEERSMAN_DEPLOYMENT $STEERSMAN_VERSION $INPUT_size >> {made.marks}/all"
    plan = made.plan(
        deploy={"inline": f'{line}; echo \'{{"url": "http://web"}}\' > $1'},
        inputs=[{"id": "size", "default": "s"}],
    )
    made.push({"escape.yml": plan})
    made.build(ONLY_PUSH)
    return made


async def status(open_: Open, name: str, environment: str = "prod") -> Any:
    """The resource as it is shown."""
    return open_.installation.snapshot.current.resources[f"Deployment/shop/{environment}/{name}"]


def deploys(shop: Shop) -> list[str]:
    """What was deployed, in order."""
    return [line for line in shop.marked() if line.startswith(WEB)]


def test_a_version_is_deployed_when_it_is_there_and_again_when_it_changes(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        async def missing() -> bool:
            return any(c.reason == "NoSuchRelease" for c in (await status(open_, WEB)).conditions)

        await eventually(missing)
        await open_.build()
        assert (await open_.deployed(WEB))["calculated_outputs"] == {"url": "http://web"}
        await eventually(lambda: _shown(open_, Sync.SYNCED, Health.HEALTHY))
        await open_.build()
        await asyncio.sleep(0.5)
        assert len(await open_.jobs("Deployment/shop/prod/shop/web")) == 1  # a fixed version stays
        open_.shop.deployment(WEB, {"version": "1.0.1", "inputs": {"size": "m"}})
        await open_.apply()
        await open_.deployed(WEB, version="1.0.1")
        await eventually(lambda: _shown(open_, Sync.SYNCED, Health.HEALTHY))
        made = await open_.jobs("Deployment/shop/prod/shop/web")
        assert [(job.trigger["type"], job.state) for job in made] == [("reconcile", State.PASSED)] * 2
        # and back, as a revert of the commit does
        open_.shop.deployment(WEB, {"version": "1.0.0"})
        await open_.apply()
        await open_.deployed(WEB, version="1.0.0")
        assert deploys(open_.shop) == ["shop/web 1.0.0 s", "shop/web 1.0.1 m", "shop/web 1.0.0 s"]

    shop.deployment(WEB, {"version": "1.0.0"})
    shop.run(work)


def _shown(open_: Open, sync: Sync, health: Health, name: str = WEB) -> bool:
    found = open_.installation.snapshot.current.resources[f"Deployment/shop/prod/{name}"]
    return (found.sync, found.health) == (sync, health)


@pytest.mark.parametrize("version", ["latest", "1.0.@"])
def test_a_moving_version_follows_releases(shop: Shop, version: str) -> None:
    async def work(open_: Open) -> None:
        await open_.build()
        await open_.deployed(WEB, version="1.0.0")
        await open_.build()
        await open_.deployed(WEB, version="1.0.1")

    shop.deployment(WEB, {"version": version})
    shop.run(work)


def test_follow_promotes_what_stands_without_failure_and_never_goes_back(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()
        await open_.deployed(WEB, "dev", version="1.0.0")
        await open_.deployed(WEB, "prod", version="1.0.0")
        await open_.build()
        await open_.deployed(WEB, "prod", version="1.0.1")
        open_.shop.deployment(WEB, {"version": "1.0.0"}, "dev")
        await open_.apply()
        await open_.deployed(WEB, "dev", version="1.0.0")
        await asyncio.sleep(0.5)
        assert (await open_.stage(WEB))["version"] == "1.0.1"

    shop.deployment(WEB, {"version": "latest"}, "dev")
    shop.deployment(WEB, {"follow": "dev"})
    shop.run(work)


def test_providers_go_first_and_are_gone_last(shop: Shop) -> None:
    database = {
        "name": "shop/db", "version": "1.0", "provides": ["sql"],
        "deploy": {"inline": f"echo up db >> {shop.marks}/all; echo '{{\"address\": \"db:1\"}}' > $1"},
        "destroy": {"inline": f"echo down db >> {shop.marks}/all"},
    }  # fmt: skip
    web = {
        "name": "shop/web", "version": "1.0", "deploy_consumes": ["sql"],
        "deploy": {"inline": f"echo up web $PROVIDER_sql_address >> {shop.marks}/all"},
        "destroy": {"inline": f"echo down web >> {shop.marks}/all"},
    }  # fmt: skip
    shop.push({"db.yml": database, "escape.yml": web})
    shop.build({**ONLY_PUSH, "plan_location": "escape.yml"}, {**ONLY_PUSH, "plan_location": "db.yml"})

    async def work(open_: Open) -> None:
        await open_.build()
        await open_.deployed(WEB)
        assert open_.shop.marked() == ["up db", "up web db:1"]
        assert (await open_.stage(WEB))["providers"] == {"sql": "data/main"}
        with pytest.raises(Conflict, match="consume"):
            await open_.act(Type.DESTROY, "data/main")
        open_.shop.forget()
        open_.shop.deployment(WEB, None)
        open_.shop.deployment("data/main", None)
        await open_.apply()
        await eventually(lambda: open_.shop.marked() == ["down web", "down db"])

        async def gone() -> bool:
            return await open_.row(WEB) is None and await open_.row("data/main") is None

        await eventually(gone)

    spec = {"version": "1.0", "on_delete": "destroy"}
    shop.deployment(WEB, spec)
    shop.deployment("data/main", {**spec, "release": "shop/db"})
    shop.run(work)


def test_what_is_orphaned_stays_and_what_is_declared_again_is_not_destroyed(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()
        await open_.deployed(WEB)
        open_.shop.deployment(WEB, None)
        await open_.apply()
        await asyncio.sleep(0.3)
        assert (await open_.stage(WEB))["status"]["status"] == "ok"
        assert not any("destroy" in line for line in open_.shop.marked())

    shop.deployment(WEB, {"version": "1.0.0"})
    shop.run(work)


def test_a_circle_of_providers_starts_nothing(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()

        async def told() -> bool:
            found = await status(open_, "shop/a")
            return any(c.reason == "ProviderCircle" for c in found.conditions) and found.sync is Sync.UNKNOWN

        await eventually(told)
        assert await open_.jobs("Deployment/shop/prod/shop/a") == []

    shop.deployment("shop/a", {"release": WEB, "version": "1.0.0", "providers": {"x": "shop/b"}})
    shop.deployment("shop/b", {"release": WEB, "version": "1.0.0", "providers": {"x": "shop/a"}})
    shop.run(work)


def test_failures_are_tried_again_after_longer_and_longer(shop: Shop) -> None:
    shop.push({"escape.yml": shop.plan(deploy={"inline": "exit 7"})})

    async def work(open_: Open) -> None:
        await open_.build()
        key = "Deployment/shop/prod/shop/web"

        async def thrice() -> Any:
            found = await open_.jobs(key)
            return found if len(found) >= 3 and found[-3].state.finished else None

        third, second, first = (await eventually(thrice, 30))[-3:]
        assert (first.state, status_reason(first)) == (State.FAILED, "script-failed")
        assert (second.created_at - first.finished_at).total_seconds() >= 0.9
        assert (third.created_at - second.finished_at).total_seconds() >= 2.6
        state = (await open_.stage(WEB))["status"]
        assert (state["status"], state["data"]) == ("failure", "Exit status 7")
        assert state["tried"] >= 2
        assert state["try_again_at"].endswith("Z")
        # another specification is tried at once
        open_.shop.deployment(WEB, {"version": "1.0.0", "inputs": {"other": "x"}})
        await open_.apply()

        async def fresh() -> bool:
            row = await open_.row(WEB)
            return row is not None and row.tried <= 1

        await eventually(fresh, 5)

    shop.deployment(WEB, {"version": "1.0.0"})
    shop.run(work)


def test_drift_is_found_and_healed(shop: Shop) -> None:
    standing = shop.marks / "standing"
    shop.push(
        {
            "escape.yml": shop.plan(
                deploy={"inline": f"touch {standing}"}, smoke={"inline": f"test -f {standing}"}
            )
        }
    )

    async def work(open_: Open) -> None:
        await open_.build()
        await open_.deployed(WEB)
        await eventually(lambda: _shown(open_, Sync.SYNCED, Health.HEALTHY))
        standing.unlink()
        place = (await open_.row(WEB)).place  # type: ignore[union-attr]
        early = open_.installation.now().replace(year=2020)
        await open_.installation.database.write(lambda w: deployments.note(w, place, checked_at=early))
        open_.installation.wake("Deployment/shop/prod/shop/web")
        await eventually(standing.exists, 30)
        kinds = [job.trigger["type"] for job in await open_.jobs("Deployment/shop/prod/shop/web")]
        assert kinds == ["reconcile", "check", "reconcile"]

    shop.deployment(WEB, {"version": "1.0.0", "check": {"every_seconds": 3600, "run": "smoke"}})
    shop.run(work)


def test_by_hand(shop: Shop) -> None:
    errand = {
        "backup": {
            "description": "d",
            "inputs": [{"id": "to"}],
            "run": {"inline": f"echo to $INPUT_to $OUTPUT_url >> {shop.marks}/all"},
        }
    }
    shop.push({"escape.yml": shop.plan(errands=errand)})

    async def work(open_: Open) -> None:
        await open_.build()
        assert await open_.jobs("Deployment/shop/prod/shop/web") == []
        for kind in (Type.SMOKE, Type.DESTROY):
            with pytest.raises(Conflict, match="not deployed"):
                await open_.act(kind, WEB)
        with pytest.raises(Refused, match="no release"):
            await open_.act(Type.DEPLOY, WEB, version="9.9")
        assert (await open_.act(Type.DEPLOY, WEB)).job.state is State.PASSED
        assert (await open_.act(Type.SMOKE, WEB)).job.state is State.PASSED
        with pytest.raises(NotFound, match="no errand 'none'"):
            await open_.act(Type.ERRAND, WEB, errand_name="none")
        with pytest.raises(Refused, match="no such input"):
            await open_.act(Type.ERRAND, WEB, errand_name="backup", errand_inputs={"to": "x", "y": "z"})
        found = await open_.act(Type.ERRAND, WEB, errand_name="backup", errand_inputs={"to": "tape"})
        assert found.record["errand_inputs"] == {"to": "tape"}
        assert open_.shop.marked()[-1] == "to tape http://web"
        assert (await open_.act(Type.DESTROY, WEB)).job.state is State.PASSED
        stage = await open_.stage(WEB)
        assert (stage["status"]["status"], stage["version"], stage["calculated_outputs"]) == (
            "empty",
            "1.0.0",
            {},
        )

    shop.deployment(WEB, {"version": "1.0.0", "reconcile": "manual"})
    shop.run(work)


def test_one_at_a_time(shop: Shop) -> None:
    shop.push({"escape.yml": shop.plan(deploy={"inline": "sleep 1"})})

    async def work(open_: Open) -> None:
        await open_.build()
        both = [open_.act(Type.DEPLOY, WEB), open_.act(Type.DEPLOY, WEB)]
        found = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(each).__name__ for each in found) == ["Conflict", "Execution"]

    shop.deployment(WEB, {"version": "1.0.0", "reconcile": "manual"})
    shop.run(work)


def test_a_deployment_with_its_own_scripts_and_files(shop: Shop) -> None:
    script = f'cat app/config.txt >> {shop.marks}/all; echo \'{{"port": "8080"}}\' > $1'

    async def work(open_: Open) -> None:
        assert (await open_.deployed("site"))["calculated_outputs"] == {"port": "8080"}
        assert open_.shop.marked() == ["first"]
        open_.shop.specs.commit({"app/config.txt": "second\n"})
        await open_.installation.run_now("source")
        await eventually(lambda: open_.shop.marked() == ["first", "second"])

    shop.deployment("site", {"scripts": {"deploy": {"inline": script}}, "includes": ["app/*"]})
    shop.specs.write({"app/config.txt": "first\n"})
    shop.run(work)


def test_dependencies_are_nested_deployments(shop: Shop) -> None:
    library = {"name": "shop/lib", "version": "0.3", "deploy": {"inline": f"echo lib >> {shop.marks}/all"}}
    user = shop.plan(version="1.0", depends=["shop/lib-v0.3 as cache"])
    shop.push({"lib.yml": library, "escape.yml": user})
    shop.build(
        {**ONLY_PUSH, "plan_location": "lib.yml"}, {**ONLY_PUSH, "run_build": False, "fat_package": True}
    )

    async def work(open_: Open) -> None:
        await open_.build()
        stage = await open_.deployed(WEB)
        assert stage["deployments"]["cache"]["stages"]["deploy"]["version"] == "0.3"
        assert stage["deployments"]["cache"]["stages"]["deploy"]["status"]["status"] == "ok"
        assert open_.shop.marked() == ["lib", "deploy deploy", "smoke deploy"]

    shop.deployment(WEB, {"version": "1.0"})
    shop.run(work)


def test_what_a_build_deploys_is_not_what_somebody_declares_otherwise(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()  # 1.0.0
        await open_.deployed(WEB, "dev")
        found = await open_.build("deploying")
        assert status_reason(found.job) == "declared-version"
        open_.shop.deployment(WEB, {"version": "latest"}, "dev")
        await open_.apply()
        found = await open_.build("deploying")
        assert found.job.state is State.PASSED, await open_.log(found.job.number)
        entries = {e["name"]: (e["status"], e["reason"]) for e in found.record["steps"][0]["stages"]}
        assert entries["destroy_deploy"] == ("skipped", "declared")
        await open_.deployed(WEB, "dev")  # it follows the new release, if it was not that already

    shop.build({"run_tests": False}, name="deploying")
    shop.deployment(WEB, {"version": "1.0.0"}, "dev")
    shop.run(work)


def test_smoke_and_errands_see_providers_and_act_on_what_is_deployed(shop: Shop) -> None:
    secret = "errand-secret-777"
    database = {
        "name": "shop/db", "version": "1.0", "provides": ["sql"],
        "deploy": {"inline": "echo '{\"address\": \"db:1\"}' > $1"},
        "activate_provider": {"inline": f"echo on >> {shop.marks}/all"},
        "deactivate_provider": {"inline": f"echo off >> {shop.marks}/all"},
    }  # fmt: skip
    asks = [{"id": "key", "sensitive": True}]
    errand = {"description": "d", "inputs": asks, "run": {"inline": "echo k=$INPUT_key"}}
    web = {
        "name": "shop/web", "version": "1.0", "deploy_consumes": ["sql"], "deploy": {"inline": "echo p=$INPUT_pass"},
        "inputs": [{"id": "pass", "sensitive": True, "default": "nothing", "scopes": ["deploy"]}],
        "smoke": {"inline": f"echo one $PROVIDER_sql_address >> {shop.marks}/all"},
        "errands": {"tell": errand},
    }  # fmt: skip
    shop.push({"db.yml": database, "escape.yml": web})
    shop.build({**ONLY_PUSH, "plan_location": "escape.yml"}, {**ONLY_PUSH, "plan_location": "db.yml"})

    async def work(open_: Open) -> None:
        await open_.build()
        await open_.act(Type.DEPLOY, "data/main")
        await open_.act(Type.DEPLOY, WEB)
        assert (await open_.stage(WEB))["providers"] == {"sql": "data/main"}
        web["smoke"] = {"inline": f"echo two >> {shop.marks}/all"}
        open_.shop.push({"escape.yml": web})
        open_.shop.build({**ONLY_PUSH, "force_overwrite": True})
        await open_.apply()
        assert (await open_.build()).job.state is State.PASSED
        open_.shop.forget()
        await open_.act(Type.SMOKE, WEB)
        assert open_.shop.marked() == ["on", "one db:1", "off"]
        given = {"pass": "input-" + secret}
        deployed = await open_.act(Type.DEPLOY, WEB, inputs=given)
        assert "p=***" in await open_.log(deployed.job.number)
        found = await open_.act(Type.ERRAND, WEB, errand_name="tell", errand_inputs={"key": secret})
        assert "k=***" in await open_.log(found.job.number)
        assert found.record["errand_inputs"] == {"key": "***"}
        assert secret.encode() not in databases.stored(open_.shop.path / "data")

    for name in (WEB, "data/main"):
        spec = {"version": "1.0", "reconcile": "manual", "run_smoke": False}
        shop.deployment(name, spec | ({"release": "shop/db"} if name != WEB else {}))
    shop.run(work)


def test_what_was_cancelled_is_not_tried_again_by_itself(shop: Shop) -> None:
    shop.push({"escape.yml": shop.plan(deploy={"inline": "sleep 30"})})

    async def work(open_: Open) -> None:
        await open_.build()
        key = "Deployment/shop/prod/shop/web"

        async def runs() -> Any:
            found = await open_.jobs(key)
            return found[0] if found and found[0].state is State.EXECUTING else None

        job = await eventually(runs)
        await eventually(lambda: _code(open_, "running_main_step"))
        await executions.cancel(open_.installation, ROOT, job.number)
        await open_.ended(job.number)

        async def told() -> bool:
            return any(c.reason == "Cancelled" for c in (await status(open_, WEB)).conditions)

        await eventually(told)
        await asyncio.sleep(2)
        assert len(await open_.jobs(key)) == 1
        open_.shop.deployment(WEB, {"version": "1.0.0", "inputs": {"a": "b"}})
        await open_.apply()
        await eventually(lambda: _second(open_, key))

    shop.deployment(WEB, {"version": "1.0.0"})
    shop.run(work)


async def _code(open_: Open, code: str) -> bool:
    return bool((await open_.stage(WEB))["status"]["status"] == code)


async def _second(open_: Open, key: str) -> bool:
    return len(await open_.jobs(key)) == 2
