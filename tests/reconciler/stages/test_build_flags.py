"""What each flag of a step does, as the last column of the contract's table sees it (escape-state, 8.4)."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from reconciler.model.execution import Execution, status_reason
from reconciler.model.job import State
from tests.shop import Open, Shop

ALL = ["build build", "test build", "destroy build", "deploy deploy", "smoke deploy", "destroy deploy"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """With a plan in its code."""
    made = Shop(tmp_path)
    made.push({"escape.yml": made.plan(), "a.txt": "one"})
    return made


def stages(found: Execution, step: int = 0) -> dict[str, str]:
    """Status of each stage of a step, with its reason."""
    entries = found.record["steps"][step]["stages"]
    return {entry["name"]: " ".join(filter(None, (entry["status"], entry["reason"]))) for entry in entries}


def once(shop: Shop, *steps: dict[str, Any], **order: Any) -> Execution:
    """One run of the Build with these steps."""
    found: list[Execution] = []

    async def work(open_: Open) -> None:
        found.append(await open_.build(**order))

    shop.build(*steps)
    shop.run(work)
    return found[0]


def test_all_of_it(shop: Shop) -> None:
    found = once(shop, {})
    assert (found.job.state, status_reason(found.job)) == (State.PASSED, "")
    assert shop.marked() == ALL
    assert list(stages(found)) == [
        "build", "test", "destroy_build", "deploy", "smoke", "destroy_deploy", "package", "cache", "push", "tag_git",
    ]  # fmt: skip
    assert stages(found)["tag_git"] == "skipped flag"
    assert {name: state for name, state in stages(found).items() if state != "ok"} == {
        "tag_git": "skipped flag"
    }
    step = found.record["steps"][0]
    assert (step["release"], step["version"], step["status"]) == ("shop/web", "1.0.0", "ok")
    assert found.record["releases"] == ["shop/web-v1.0.0"]
    assert found.record["commit"]["git_revision"] == shop.code.head()
    assert found.record["commit"]["revision_author"] == "Alice <alice@example.org>"


@pytest.mark.parametrize(
    ("flag", "marks", "left"),
    [
        ("run_build", ["deploy deploy", "smoke deploy", "destroy deploy"], {"build", "test", "destroy_build"}),
        ("run_tests", ["build build", "destroy build", "deploy deploy", "destroy deploy"], {"test", "smoke"}),
        ("run_smoke", [m for m in ALL if m != "smoke deploy"], {"smoke"}),
        ("run_deploy", ALL[:3], {"deploy", "smoke", "destroy_deploy"}),
        ("run_destroy", [m for m in ALL if "destroy" not in m], {"destroy_build", "destroy_deploy"}),
        ("run_destroy_build", [m for m in ALL if m != "destroy build"], {"destroy_build"}),
        ("run_destroy_deploy", [m for m in ALL if m != "destroy deploy"], {"destroy_deploy"}),
    ],
)  # fmt: skip
def test_what_does_not_run(shop: Shop, flag: str, marks: list[str], left: set[str]) -> None:
    states: dict[str, Any] = {}

    async def work(open_: Open) -> None:
        found = await open_.build()
        assert found.job.state is State.PASSED
        states.update(stages(found))
        for name in ("build", "deploy"):
            states[f"{name} stage"] = (await open_.stage("shop/web", "dev", name))["status"]["status"]

    shop.build({flag: False})
    shop.run(work)
    assert shop.marked() == marks
    assert {name for name, state in states.items() if state == "skipped flag"} == left | {"tag_git"}
    assert states["push"] == "ok"
    stands = {
        "run_destroy": ("ok", "ok"),
        "run_destroy_build": ("ok", "empty"),
        "run_destroy_deploy": ("empty", "ok"),
    }
    assert (states["build stage"], states["deploy stage"]) == stands.get(flag, ("empty", "empty"))


def test_a_destroyed_stage_keeps_its_version_and_loses_its_values(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()
        stage = await open_.stage("shop/web", "dev")
        assert (stage["status"]["status"], stage["version"]) == ("empty", "1.0.0")
        assert (stage["calculated_inputs"], stage["calculated_outputs"]) == ({}, {})
        await open_.build()
        assert (await open_.stage("shop/web", "dev"))["version"] == "1.0.1"

    shop.build({"variables": {"who": "me"}})
    shop.run(work)


def test_two_plans_are_two_releases_with_their_own_scripts(shop: Shop) -> None:
    other = {"name": "shop/other", "version": "2.0", "build": "run.sh", "includes": ["run.sh"]}
    shop.push({"sub/escape.yml": json.dumps(other), "sub/run.sh": f"#!/bin/sh\npwd > {shop.marks}/where\n"})
    (shop.code.path / "sub/run.sh").chmod(0o755)
    shop.push({})
    found = once(shop, {}, {"plan_location": "sub/escape.yml"})
    assert found.job.state is State.PASSED, found.job
    assert found.record["releases"] == ["shop/web-v1.0.0", "shop/other-v2.0"]
    assert (shop.marks / "where").read_text().strip().endswith("/sub")


def test_steps_share_a_checkout_and_the_first_failure_ends_it(shop: Shop) -> None:
    plan = shop.plan(build={"inline": "echo one > left"}, test={"inline": "exit 3"})
    shop.push({"escape.yml": plan})
    second = shop.plan(name="shop/second", build={"inline": "test -f left"})
    shop.push({"second.yml": second, "third.yml": shop.plan(name="shop/third")})
    found = once(
        shop, {"run_tests": False}, {"plan_location": "second.yml"}, {}, {"plan_location": "third.yml"}
    )
    assert [step["status"] for step in found.record["steps"]] == ["ok", "ok", "failed", "queued"]
    assert [step["status_reason"] for step in found.record["steps"]] == ["", "", "script-failed", "not-run"]
    assert status_reason(found.job) == "script-failed"
    (test,) = [s for s in found.record["steps"][2]["stages"] if s["name"] == "test"]
    assert (test["exit_code"], test["status"]) == (3, "failed")


def test_skip_if_exists(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        await open_.build()
        open_.shop.forget()
        again = await open_.build()
        assert (again.job.state, status_reason(again.job)) == (State.PASSED, "exists")
        assert again.record["steps"][0]["status_reason"] == "exists"
        assert open_.shop.marked() == []
        assert len(await open_.releases()) == 1
        open_.shop.push({"a.txt": "two"})  # another commit: an automatic version is another one
        assert (await open_.build()).record["releases"] == ["shop/web-v1.0.1"]

    shop.build({"skip_if_exists": True})
    shop.run(work)


def test_force_overwrite(shop: Shop) -> None:
    shop.push({"escape.yml": shop.plan(version="3.1", includes=["a.txt"])})

    async def work(open_: Open) -> None:
        assert (await open_.build()).job.state is State.PASSED
        open_.shop.push({"a.txt": "two"})
        second = await open_.build()
        assert (second.job.state, status_reason(second.job)) == (State.FAILED, "version-exists")
        assert stages(second)["push"] == "failed version-exists"
        open_.shop.build({"force_overwrite": True})
        await open_.apply()
        assert (await open_.build()).job.state is State.PASSED
        (release,) = await open_.releases()
        assert [old["job"] for old in release.overwritten] == [1]
        assert release.job == 3

    shop.build({})
    shop.run(work)


def members(open_: Open, digest: str) -> set[str]:
    """The names in a package."""
    place = open_.installation.attachments.open(digest)
    with (
        place.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        return {info.name for info in archive}


def test_fat_packages_and_the_cache(shop: Shop) -> None:
    library = {"name": "shop/lib", "version": "0.1", "includes": ["a.txt"], "deploy": {"inline": "true"}}
    user = shop.plan(depends=["shop/lib-v0.1"], includes=["a.txt"])
    shop.push({"lib.yml": library, "escape.yml": user})

    async def work(open_: Open) -> None:
        first = await open_.build("cached")
        assert first.job.state is State.PASSED, await open_.log(first.job.number)
        (release,) = await open_.releases()
        assert members(open_, release.digest) == {"plan.json", "a.txt", "deps/shop/lib-v0.1.tar.zst"}
        assert await open_.releases("lib") == []
        for path in (open_.shop.path / "data/packages").iterdir():
            path.unlink()
        second = await open_.build("uncached")
        assert status_reason(second.job) == "no-such-release"

    lib = {"plan_location": "lib.yml", "push_release": False, "run_deploy": False}
    shop.build(lib, {"fat_package": True}, name="cached")
    shop.build({**lib, "cache_release": False}, {}, name="uncached")
    shop.run(work)


def test_push_and_tag(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        left = await open_.build("quiet")
        assert (left.record["releases"], stages(left)["push"]) == ([], "skipped flag")
        assert await open_.releases() == []
        found = await open_.build("loud")
        assert found.record["steps"][0]["git_tag"] == "shop/web-v1.0.0"
        tags = open_.shop.code.git("ls-remote", "--tags", str(open_.shop.bare)).split()
        assert "refs/tags/shop/web-v1.0.0^{}" in tags
        assert open_.shop.code.head() in tags

    shop.build({"push_release": False}, name="quiet")
    shop.build({"tag_git": True}, name="loud")
    shop.run(work)


def test_a_refused_tag_fails_the_step_and_the_release_stays(shop: Shop) -> None:
    hook = shop.bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho not with me >&2; exit 1\n")
    hook.chmod(0o755)

    async def work(open_: Open) -> None:
        found = await open_.build()
        assert (found.job.state, status_reason(found.job)) == (State.FAILED, "tag-push-failed")
        assert [release.version for release in await open_.releases()] == ["1.0.0"]
        assert "not with me" in await open_.log(found.job.number)

    shop.build({"tag_git": True})
    shop.run(work)


def test_override_namespace(shop: Shop) -> None:
    shop.declare("Project", "foreign", {"namespaces": [{"name": "foreign"}]})
    shop.declare(
        "Project",
        "shop",
        {"namespaces": [{"name": "shop"}, {"name": "web"}], "environment_order": ["dev", "prod"]},
    )

    async def work(open_: Open) -> None:
        found = await open_.build("own")
        assert found.record["releases"] == ["web/web-v1.0.0"]
        assert (await open_.stage("web/web", "dev"))["version"] == "1.0.0"
        refused = await open_.build("other")
        assert status_reason(refused.job) == "permission-denied"
        assert refused.record["steps"][0]["status_reason"] == "permission-denied"

    shop.build({"override_namespace": "web"}, name="own")
    shop.build({"override_namespace": "foreign"}, name="other")
    shop.run(work)


def test_files_that_changed(shop: Shop) -> None:
    async def work(open_: Open) -> None:
        first = await open_.build(only_changed=True)
        assert first.record["releases"] == ["shop/web-v1.0.0"]  # nothing was built before
        open_.shop.push({"README.md": "other words"})
        second = await open_.build(only_changed=True)
        assert (second.job.state, status_reason(second.job)) == (State.PASSED, "no-matching-changes")
        assert second.record["releases"] == []
        assert (await open_.build()).record["releases"] == ["shop/web-v1.0.1"]  # by hand: all of it
        open_.shop.push({"src/x.c": "int", "README.md": "more"})
        assert (await open_.build(only_changed=True)).record["releases"] == ["shop/web-v1.0.2"]

    shop.build({"build_on_file_changes": ["src/**", "*.md"], "ignore_file_changes": ["**/*.md"]})
    shop.run(work)


def test_variables_and_inputs(shop: Shop) -> None:
    inputs = [
        {"id": "who", "default": "nobody"}, {"id": "count", "type": "integer", "default": 1},
        {"id": "level", "default": "low", "items": ["low", "high"]},
        {"id": "key", "sensitive": True, "default": "hush-hush"},
    ]  # fmt: skip
    script = "echo $INPUT_who $INPUT_count $INPUT_level $INPUT_region key:$INPUT_key"
    shop.push({"escape.yml": shop.plan(inputs=inputs, build={"inline": script})})
    shop.declare("Environment", "dev", {"inputs": {"region": "eu", "who": "environment"}}, project="shop")

    async def work(open_: Open) -> None:
        first = await open_.build()
        assert "environment 1 high eu key:***" in await open_.log(first.job.number)
        second = await open_.build(variables={"who": "me", "count": "7"})
        assert "me 7 high eu key:***" in await open_.log(second.job.number)
        wrong = await open_.build(variables={"level": "middle"})
        assert status_reason(wrong.job) == "invalid-input"

    shop.build({"variables": {"level": "high"}})
    shop.run(work)


def test_an_input_without_a_value(shop: Shop) -> None:
    shop.push({"escape.yml": shop.plan(inputs=["needed"])})
    found = once(shop, {})
    assert (found.job.state, status_reason(found.job)) == (State.FAILED, "missing-input")
    assert shop.marked() == []


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('{"url": 5}', "invalid-output"),
        ("[]", "invalid-output"),
        ("{", "invalid-output"),
        ('{"other": "x"}', ""),
    ],
)
def test_outputs(shop: Shop, written: str, reason: str) -> None:
    shop.push({"escape.yml": shop.plan(build={"inline": f"echo '{written}' > $1"})})
    found = once(shop, {})
    assert status_reason(found.job) == reason
    assert stages(found)["build"] == (f"failed {reason}" if reason else "ok")


def test_providers(shop: Shop) -> None:
    database = {
        "name": "shop/db", "version": "1.0", "provides": ["sql"],
        "deploy": {"inline": "echo '{\"address\": \"db:1\"}' > $1"},
        "activate_provider": {"inline": f"echo activate $OUTPUT_address >> {shop.marks}/all"},
        "deactivate_provider": {"inline": f"echo deactivate >> {shop.marks}/all"},
    }  # fmt: skip
    line = f"echo $PROVIDER_sql_address $PROVIDER_sql_DEPLOYMENT >> {shop.marks}/all"
    web = {
        "name": "shop/web",
        "version": "1.0.@",
        "consumes": ["sql"],
        "build": {"inline": line},
        "test": {"inline": "exit 1"},
    }
    shop.push({"db.yml": database, "escape.yml": web})

    async def work(open_: Open) -> None:
        none = await open_.build("web")
        assert status_reason(none.job) == "no-such-provider"
        assert (await open_.build("db")).job.state is State.PASSED
        open_.shop.forget()
        found = await open_.build("web")
        assert status_reason(found.job) == "script-failed"
        assert open_.shop.marked() == ["activate db:1", "db:1 shop/db", "deactivate"]
        wrong = await open_.build("wrong")
        assert status_reason(wrong.job) == "no-such-provider"

    shop.build({"plan_location": "db.yml", "run_destroy": False}, name="db")
    shop.build({}, name="web")
    shop.build({"providers": {"sql": "nowhere"}}, name="wrong")
    shop.run(work)


def test_plans_that_are_none(shop: Shop) -> None:
    (shop.code.path / "out.yml").symlink_to("/etc/hostname")
    shop.push({"bad.yml": "name: shop/web\nversion: 1.0\n", "sub/x": ""})

    async def work(open_: Open) -> None:
        for name, reason in (
            ("missing", "plan-missing"),
            ("outside", "plan-outside-checkout"),
            ("bad", "plan-invalid"),
        ):
            found = await open_.build(name)
            assert (name, status_reason(found.job)) == (name, reason)
        assert "bad.yml:2:10" in await open_.log(3)

    shop.build({"plan_location": "none.yml"}, name="missing")
    shop.build({"plan_location": "out.yml"}, name="outside")
    shop.build({"plan_location": "bad.yml"}, name="bad")
    shop.run(work)


def test_a_release_without_a_plan_file(shop: Shop) -> None:
    shop.push({"escape.yml": None, "dist/x": "1"})

    async def work(open_: Open) -> None:
        found = await open_.build()
        assert found.record["releases"] == ["shop/web-v5.0.0"]
        (release,) = await open_.releases()
        assert members(open_, release.digest) == {"plan.json", "dist/x", "generated"}

    scripts = {"build": {"inline": "echo 1 > generated"}, "test": {"inline": "test -f generated"}}
    release = {"namespace": "shop", "version": "5.0.@", "includes": ["dist/**"], "generates": ["generated"]}
    shop.build({"run_deploy": False}, scripts=scripts, release=release)
    shop.run(work)


def test_steps_from_the_checkout(shop: Shop) -> None:
    kit = "escapekit_version: 1\nbuild:\n  steps:\n    - {escape_plan_location: escape.yml, skip_deploy: true}\n"

    async def work(open_: Open) -> None:
        assert status_reason((await open_.build()).job) == "escapekit-invalid"
        open_.shop.push({"escapekit.yml": kit.replace("skip_deploy: true", 'force_overwrite: "true,"')})
        bad = await open_.build()
        assert status_reason(bad.job) == "escapekit-invalid"
        assert "escapekit.yml:4:" in await open_.log(bad.job.number)
        open_.shop.push({"escapekit.yml": kit})
        good = await open_.build()
        assert (good.job.state, open_.shop.marked()) == (State.PASSED, ALL[:3])

    shop.build(steps=[], steps_from_yml=True)
    shop.run(work)


def test_the_tasks_form_makes_releases(shop: Shop) -> None:
    shop.push({"escape.yml": None})

    async def work(open_: Open) -> None:
        found = await open_.build("tasks")
        assert found.job.state is State.PASSED, await open_.log(found.job.number)
        assert [task.name for task in found.job.tasks] == ["wheel", "release"]
        (release,) = await open_.releases("tasks")
        assert (release.version, members(open_, release.digest)) == (
            "1.4.0",
            {"plan.json", "dist/w.whl", "README.md"},
        )
        assert "refs/tags/shop/tasks-v1.4.0" in open_.shop.code.git("ls-remote", str(open_.shop.bare))

    spec = {
        "repo": shop.url,
        "branch": "main",
        "tasks": [{"name": "wheel", "run": "mkdir dist; echo w > dist/w.whl", "attachments": ["dist/*"]}],
        "release": {"namespace": "shop", "version": "1.4.@", "includes": ["dist/*", "README.md"]},
    }
    shop.declare("Build", "tasks", spec, project="shop", environment="dev")
    shop.run(work)
