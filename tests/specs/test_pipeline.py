"""Pipelines: nine types of steps with their fields, names, references; each mistake with its place and its
sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from specs.pipeline_step import USES, StepType
from specs.tree import Tree

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

HEAD = "apiVersion: steersman/v1\nkind: "
METADATA = "name: p, project: shop"

# The fields that each type needs, in the shop.
NEEDS = {
    "build": {"environment": "dev", "build": "web"},
    "deploy": {"environment": "dev", "deployment": "shop/web"},
    "run-smoke": {"environment": "dev", "deployment": "shop/web"},
    "run-destroy": {"environment": "dev", "deployment": "shop/web"},
    "run-errand": {"environment": "dev", "deployment": "shop/web", "errand_name": "dump"},
    "pipeline-trigger": {"pipeline": "all"},
    "webhook-trigger": {"webhook_url": "https://chat.example.org/hook"},
    "confirmation": {},
    "tag-release": {"tag": "production", "namespace": "shop", "application": "web"},
}
# A value for each further field.
VALUES = {
    "name": "n", "project": "shop", "environment": "dev", "build": "web", "deployment": "shop/web",
    "errand_name": "dump", "errand_inputs": "{rows: '1'}", "pipeline": "all", "wait_for_pipeline": "true",
    "webhook_url": "https://e.org/x", "user": "alice", "team": "platform", "allow_self_approval": "true",
    "ignore_failure": "true", "trigger_pipeline_on_build": "true", "trigger_pipeline_on_deploy": "true",
    "update_version": "latest-version", "update_version_environment": "prod",
    "update_version_deployment": "shop/web", "tag": "production", "namespace": "shop", "application": "web",
    "tag_version": "highest-version-in-pipeline", "tag_tagged_version": "staging", "timeout_seconds": "60",
}  # fmt: skip
DEPENDENT = {"update_version_environment", "update_version_deployment", "tag_tagged_version", "tag"}
EMPTY = dict.fromkeys(VALUES, "''") | {
    "errand_inputs": "{}", "wait_for_pipeline": "false", "allow_self_approval": "false", "ignore_failure": "false",
    "trigger_pipeline_on_build": "false", "trigger_pipeline_on_deploy": "false", "timeout_seconds": "0",
}  # fmt: skip


def steps(*texts: str) -> str:
    """A specification with one phase."""
    return f"{{phases: [{{name: a, steps: [{', '.join(texts)}]}}]}}"


def step(kind: str, more: str = "", without: str = "") -> str:
    """A step with what it needs, and more."""
    needed = ", ".join(f"{name}: {value}" for name, value in NEEDS[kind].items() if name != without)
    return "{" + ", ".join(part for part in (f"type: {kind}", needed, more) if part) + "}"


def test_every_type_has_its_fields() -> None:
    """And each is tried below."""
    assert set(get_args(StepType)) == set(USES) == set(NEEDS)


@pytest.mark.parametrize("kind", sorted(NEEDS))
def test_a_step_with_what_it_needs_is_valid(effective: Effective, kind: str) -> None:
    """And holds the fields of its type only."""
    spec = effective("Pipeline", METADATA, steps(step(kind)))
    (found,) = spec["phases"][0]["steps"]
    assert set(found) <= {"type", *USES[kind].needs, *USES[kind].may}
    assert found["name"].startswith(kind)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in NEEDS for field in NEEDS[kind]])
def test_a_field_that_is_needed_is_asked_for(told: Told, kind: str, field: str) -> None:
    """Also where it is empty."""
    (found,) = told("Pipeline", METADATA, steps("§" + step(kind, without=field)))
    assert found == f"§{field} is missing: a {kind} step needs it"
    (found,) = told("Pipeline", METADATA, steps(step(kind, f"{field}: §''", without=field)))
    assert found == f"§{field} is missing: a {kind} step needs it"


OTHERS = [
    (kind, field) for kind in NEEDS for field in VALUES if field not in {*USES[kind].needs, *USES[kind].may}
]


@pytest.mark.parametrize(("kind", "field"), OTHERS)
def test_a_field_of_another_type_is_refused_unless_it_is_empty(told: Told, kind: str, field: str) -> None:
    """Clients with forms send all fields (case 104)."""
    found = told("Pipeline", METADATA, steps(step(kind, f"{field}: §{VALUES[field]}")))
    assert f"§a {kind} step has no {field}; remove it" in found
    assert told("Pipeline", METADATA, steps(step(kind, f"{field}: {EMPTY[field]}"))) == []


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind in NEEDS for field in USES[kind].may if field not in DEPENDENT]
)
def test_a_field_that_a_type_may_have_is_taken(effective: Effective, kind: str, field: str) -> None:
    """As it is written."""
    spec = effective("Pipeline", METADATA, steps(step(kind, f"{field}: {VALUES[field]}")))
    assert spec["phases"][0]["steps"][0][field] not in ("", False, 0, {}, None)


CASES = [
    (
        step(
            "deploy", "update_version: version-from-deployment-job, update_version_environment: prod"
        ).replace("{type", "§{type"),
        "§update_version_deployment is missing: update_version: version-from-deployment-job needs it",
    ),
    (
        step("deploy", "update_version_environment: §prod"),
        "§update_version_environment needs update_version: version-from-deployment-job; write that, or remove",
    ),
    (
        "§" + step("deploy", "update_version: tagged-version"),
        "§tag is missing: update_version: tagged-version needs it",
    ),
    (step("deploy", "tag: §staging"), "§tag needs update_version: tagged-version; write that, or remove tag"),
    (step("deploy", "update_version: §newest"), "§phases[0].steps[0].update_version must be dont-update"),
    (
        "§" + step("tag-release", "tag_version: tagged-version"),
        "§tag_tagged_version is missing: tag_version: tagged",
    ),
    (
        step("tag-release", "tag_tagged_version: §staging"),
        "§tag_tagged_version needs tag_version: tagged-version",
    ),
    (
        step("tag-release", "tag: §latest", without="tag"),
        '§phases[0].steps[0].tag must not be "latest", which means',
    ),
    (
        step("tag-release", "tag: §'1.2'", without="tag"),
        '§phases[0].steps[0].tag must not be "1.2", which means a',
    ),
    (
        step("tag-release", "tag: §v1.2.@", without="tag"),
        '§phases[0].steps[0].tag must not be "v1.2.@", which means',
    ),
    (step("tag-release", "tag: §1.2", without="tag"), "§phases[0].steps[0].tag must be a quoted string"),
    (
        step("tag-release", "namespace: §foreign", without="namespace"),
        '§"foreign" is not a namespace of Project/shop; add it to namespaces there, or name one of its own',
    ),
    (step("confirmation", "ignore_failure: §true"), "§a confirmation step has no ignore_failure; remove it"),
    (step("confirmation", "team: §nobody"), "§Team/nobody is not declared"),
    (step("confirmation", "user: §bob"), "§User/bob is not declared"),
    (
        step("webhook-trigger", "webhook_url: §'https://u:p@e.org'", without="webhook_url"),
        "§phases[0].steps[0].webhook_url must not hold credentials",
    ),
    (
        step("webhook-trigger", "webhook_url: §ssh://x", without="webhook_url"),
        "§phases[0].steps[0].webhook_url must be an address that begins with https:// or http://",
    ),
    (
        step("build", "build: §none", without="build"),
        "§neither Build/shop/dev/none nor Build/shop/_/none is declared",
    ),
    (step("build", "environment: §none", without="environment"), "§Environment/shop/none is not declared"),
    (
        step("deploy", "deployment: §shop/none", without="deployment"),
        "§Deployment/shop/dev/shop/none is not declared",
    ),
    (step("pipeline-trigger", "pipeline: §none", without="pipeline"), "§Pipeline/shop/none is not declared"),
    (step("pipeline-trigger", "project: §none"), "§Project/none is not declared"),
    (
        step(
            "deploy",
            "update_version: version-from-deployment-job, update_version_environment: dev, "
            "update_version_deployment: §shop/none",
        ),
        "§Deployment/shop/dev/shop/none is not declared",
    ),
    (
        "{type: deploy, environment: prod, deployment: shop/web, update_version: §latest-version}",
        "§Deployment/shop/prod/shop/web follows dev, so its version is "
        "not for a pipeline to set; remove update_version",
    ),
    (step("build", "timeout_seconds: §-1"), "§phases[0].steps[0].timeout_seconds must be at least 0"),
    (step("run-errand", "errand_inputs: {§a-b: x}"), '"a-b" is not a variable name'),
    (step("build", "§triger_pipeline_on_build: true"), 'did you mean "trigger_pipeline_on_build"?'),
    ("{type: §biuld}", "§phases[0].steps[0].type must be build, deploy, run-smoke"),
    ("§{}", "§phases[0].steps[0].type is missing"),
    (step("build", "§token: x"), "§`token` is never written in Git"),
]


@pytest.mark.parametrize(("text", "error"), CASES)
def test_a_mistake_in_a_step_is_told(told: Told, text: str, error: str) -> None:
    """At its place."""
    found = told("Pipeline", METADATA, steps(text))
    assert [each for each in found if error in each], found
    assert len(found) <= (2 if "none" in text or "dev/none" in error else 1), found


WHOLE = [
    ("{phases: [{name: a}, {name: §a}]}", '§a phase "a" stands above; names are unique in a pipeline'),
    ("{phases: [§{}]}", "§phases[0].name is missing"),
    ("{phases: [{name: a, step: []}]}", 'unknown field "step"; did you mean "steps"?'),
    (
        f"{{phases: §[{', '.join(f'{{name: a{i}}}' for i in range(51))}]}}",
        "§phases must have at most 50 items",
    ),
    (
        f"{{phases: [{{name: a, steps: §[{', '.join(['{type: confirmation}'] * 101)}]}}]}}",
        "§phases[0].steps must have at most 100 items",
    ),
    ("{triggers: [{type: §poll, name: a}]}", '§triggers[0].type must be webhook, not "poll"'),
    ("{triggers: [§{type: webhook}]}", "§triggers[0].name is missing"),
    (
        "{triggers: [{type: webhook, name: a}, {type: webhook, name: §a}]}",
        '§a trigger "a" stands above; names are',
    ),
    ("{triggers: [{type: webhook, name: a, §webhooktoken: x}]}", "§`webhooktoken` is never written in Git"),
    ("{schedules: [{cron: §x}]}", "§schedules[0].cron must be five fields"),
    ("{schedules: [{cron: '@daily', timezone: §Mars}]}", "§schedules[0].timezone must be a time zone"),
    ("{concurrency: §one}", '§concurrency must be queue, replace or allow, not "one"'),
    ("{timeout_seconds: §-1}", "§timeout_seconds must be at least 0"),
    ("{service_account_team: §platform}", "§service_account_team needs service_account_name beside it"),
    ("{service_account_name: §nobody}", "§ServiceAccount/*/nobody is not declared"),
    (
        "{service_account_name: §twin}",
        "§several teams have one: ServiceAccount/platform/twin, ServiceAccount/second/twin; name service_account_team",
    ),
    ("{disabled: §'no'}", '§disabled must be true or false, not "no"'),
]


@pytest.mark.parametrize(("spec", "error"), WHOLE)
def test_a_mistake_in_a_pipeline_is_told(told: Told, spec: str, error: str) -> None:
    """One error, at its place."""
    found = told("Pipeline", METADATA, spec)
    assert len(found) == 1, found
    assert error in found[0]


def test_steps_have_names(effective: Effective) -> None:
    """Their own, or of type and target; each once in a phase."""
    spec = effective(
        "Pipeline",
        METADATA,
        "{phases: [{name: a, steps: ["
        + ", ".join(
            [
                step("build"), step("build"), step("build", "name: build web-2"), step("deploy"), step("confirmation"),
                step("confirmation", "team: platform"), step("webhook-trigger"), step("tag-release"),
            ]
        )
        + "]}, {name: b, steps: [" + step("build") + "]}]}",
    )  # fmt: skip
    assert [found["name"] for found in spec["phases"][0]["steps"]] == [
        "build web", "build web-2", "build web-2-2", "deploy shop/web", "confirmation", "confirmation platform",
        "webhook-trigger chat.example.org", "tag-release production",
    ]  # fmt: skip
    assert spec["phases"][1]["steps"][0]["name"] == "build web"


def test_defaults_depend_on_the_type(effective: Effective) -> None:
    """A confirmation waits a week; a deploy declares nothing."""
    texts = [
        step("confirmation"),
        step("deploy"),
        step("tag-release"),
        step("confirmation", "allow_self_approval: false"),
    ]
    found = effective("Pipeline", METADATA, steps(*texts))["phases"][0]["steps"]
    assert (found[0]["timeout_seconds"], found[0]["allow_self_approval"]) == (604800, True)
    assert (found[1]["update_version"], found[1]["ignore_failure"]) == ("dont-update", False)
    assert found[2]["tag_version"] == "last-version-in-pipeline"
    assert found[3]["allow_self_approval"] is False


def test_a_pipeline_may_name_itself_and_a_build_without_environment(grow: Grow, shop: str) -> None:
    """Whether a run would wait for itself is told when it does."""
    text = (
        f"{HEAD}Pipeline\nmetadata: {{{METADATA}}}\nspec: "
        + steps("{type: pipeline-trigger, pipeline: p}", "{type: build, environment: dev, build: lint}",
                "{type: pipeline-trigger, project: other, pipeline: theirs}")
        + "\n"
    )  # fmt: skip
    tree = grow({"shop.yaml": shop, "x.yaml": text})
    assert tree.errors == ()
    expected = {
        "Pipeline/shop/p",
        "Build/shop/_/lint",
        "Environment/shop/dev",
        "Pipeline/other/theirs",
        "Project/other",
    }
    assert expected <= tree.declared["Pipeline/shop/p"].references


def test_a_service_account_needs_its_team_only_beside_a_namesake(grow: Grow) -> None:
    """It comes and goes with the second one."""
    account = f"{HEAD}ServiceAccount\nmetadata: {{name: bot, team: %s}}\n"
    files = {
        "p.yaml": f"{HEAD}Project\nmetadata: {{name: shop}}\n",
        "t.yaml": f"{HEAD}Team\nmetadata: {{name: one}}\n---\n{HEAD}Team\nmetadata: {{name: two}}\n",
        "a.yaml": account % "one",
        "x.yaml": f"{HEAD}Pipeline\nmetadata: {{{METADATA}}}\nspec: {{service_account_name: bot}}\n",
    }
    tree = grow(files)
    assert tree.errors == ()
    assert "ServiceAccount/one/bot" in tree.declared["Pipeline/shop/p"].references
    tree = grow({"b.yaml": account % "two"}, onto=tree)
    assert [str(error) for error in tree.errors] == [
        "x.yaml:4:30: several teams have one: ServiceAccount/one/bot, ServiceAccount/two/bot; "
        "name service_account_team too"
    ]
    tree = grow({"a.yaml": "\n"}, onto=tree)
    assert "ServiceAccount/two/bot" in tree.declared["Pipeline/shop/p"].references
    tree = grow({"b.yaml": "\n"}, onto=tree)
    assert [str(error) for error in tree.errors] == ["x.yaml:4:30: ServiceAccount/*/bot is not declared"]


def test_a_pipeline_learns_that_a_deployment_follows(grow: Grow, shop: str) -> None:
    """And that it no longer does."""
    text = (
        f"{HEAD}Pipeline\nmetadata: {{{METADATA}}}\nspec: "
        f"{steps(step('deploy', 'update_version: latest-version'))}\n"
    )
    tree = grow({"shop.yaml": shop, "x.yaml": text})
    assert tree.errors == ()
    swapped = shop.replace("{dev: {}, prod: {follow: dev}}", "{dev: {follow: prod}, prod: {}}")
    tree = grow({"shop.yaml": swapped}, onto=tree)
    assert [error.key for error in tree.errors] == ["Pipeline/shop/p"]
    assert grow({"shop.yaml": shop}, onto=tree).errors == ()


def test_an_invalid_build_does_not_harm_a_pipeline(grow: Grow, shop: str) -> None:
    """Its step would fail; one that is gone is told."""
    text = f"{HEAD}Pipeline\nmetadata: {{{METADATA}}}\nspec: {steps(step('build'))}\n"
    tree = grow({"shop.yaml": shop.replace("steps: [{}]", "steps: [{run_tests: no}]"), "x.yaml": text})
    assert [error.key for error in tree.errors] == ["Build/shop/dev/web"]
    gone = shop.replace("Build\nmetadata: {name: web,", "Build\nmetadata: {name: other,")
    assert [error.key for error in grow({"shop.yaml": gone}, onto=tree).errors] == ["Pipeline/shop/p"]
