"""Escape plans compiled, and plans without a file (escape-state, 8.2)."""

from __future__ import annotations

import pytest

from specs.plan import Compiled, compile_plan, of_release, with_scripts
from specs.release import Release
from specs.stage_scripts import StageScripts

WHOLE = """\
name: shop/web
version: "1.4.@"
description: Storefront
logo:
license: MIT
metadata: {team: shop, motto: $dependency.metadata.motto}
depends:
  - shop/lib-v1.2.@
  - release_id: shop/base-latest
    variable: base
    mapping: {a: b}
includes: ["deploy/**"]
generates: [dist/web.tar]
provides: [http, {name: metrics}]
consumes: [kubernetes, {name: postgres as db, scopes: [deploy]}]
build_consumes: [registry]
inputs:
  - region
  - {id: replicas, type: int, default: 2, friendly: Replicas}
build_inputs: [{id: level, default: info, items: [info, debug]}]
deploy_inputs: [{id: password, sensitive: true, description: Of the database}]
outputs: [url]
deploy_outputs: [{id: port, type: string}]
extends: [shop/extension-latest]
build:
test: ci/test.sh
deploy: {inline: "echo deploy"}
smoke: {cmd: curl, args: [-f, localhost]}
check: {script: ci/check.sh}
errands:
  backup: {description: Dump it, script: ci/backup.sh, inputs: [bucket]}
  restore: {run: {cmd: ci/restore}}
"""


def test_a_plan_is_compiled_whole() -> None:
    found = compile_plan(WHOLE, "web/escape.yml")
    assert found.errors == ()
    assert found.warnings == (
        "web/escape.yml:24:1: extends is not carried out",
        "web/escape.yml:19:43: friendly is not carried out",
        "web/escape.yml:11:5: mapping is not carried out",
        'web/escape.yml:6:31: "$dependency.metadata.motto" is taken as it stands; expressions are not carried out',
    )
    both = ["build", "deploy"]

    def variable(name: str, **fields: object) -> dict[str, object]:
        return {
            "id": name,
            "type": "string",
            "default": None,
            "description": "",
            "sensitive": False,
            "items": [],
            "scopes": both,
        } | fields

    assert found.plan == {
        "namespace": "shop",
        "application": "web",
        "version": "1.4.@",
        "description": "Storefront",
        "logo": "",
        "license": "MIT",
        "metadata": {"team": "shop", "motto": "$dependency.metadata.motto"},
        "depends": ["shop/lib-v1.2.@", "shop/base-latest as base"],
        "includes": ["deploy/**"],
        "generates": ["dist/web.tar"],
        "provides": ["http", "metrics"],
        "consumes": [
            {"name": "kubernetes", "variable": "kubernetes", "scopes": both},
            {"name": "postgres", "variable": "db", "scopes": ["deploy"]},
            {"name": "registry", "variable": "registry", "scopes": ["build"]},
        ],
        "inputs": [
            variable("region"),
            variable("replicas", type="integer", default=2),
            variable("level", default="info", items=["info", "debug"], scopes=["build"]),
            variable("password", sensitive=True, description="Of the database", scopes=["deploy"]),
        ],
        "outputs": [variable("url"), variable("port", scopes=["deploy"])],
        "scripts": {
            "test": {"script": "ci/test.sh"},
            "deploy": {"inline": "echo deploy"},
            "smoke": {"cmd": "curl", "args": ["-f", "localhost"]},
            "check": {"script": "ci/check.sh"},
        },
        "errands": {
            "backup": {
                "description": "Dump it",
                "run": {"script": "ci/backup.sh"},
                "inputs": [variable("bucket", scopes=["deploy"])],
            },
            "restore": {"description": "", "run": {"cmd": "ci/restore"}, "inputs": []},
        },
    }


def test_a_plan_needs_a_name_and_a_version_only() -> None:
    found = compile_plan("name: web\nversion: 0.0.@\nbuild:\n", "escape.yml")
    assert found.errors == found.warnings == ()
    assert found.plan is not None
    assert (found.plan["namespace"], found.plan["application"]) == ("_", "web")
    assert found.plan["scripts"] == found.plan["errands"] == {}


HEAD = 'name: shop/web\nversion: "1.0.@"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: shop/web\nversion: 1.10\n",
            "escape.yml:2:10: version must be a quoted string: put quotes around",
        ),
        ("version: 0.0.@\n", "name is missing"),
        (
            "name: Shop/web\nversion: 0.0.@\n",
            "escape.yml:1:7: name is not NAMESPACE/APPLICATION: the namespace must",
        ),
        ("name: a/b/c\nversion: 0.0.@\n", "escape.yml:1:7: name must be NAMESPACE/APPLICATION"),
        ("name: web\nversion: next\n", "escape.yml:2:10: version must be a version"),
        (HEAD + "biuld: make\n", 'escape.yml:3:1: unknown field "biuld"; did you mean "build"?'),
        (HEAD + "build: 3\n", "escape.yml:3:8: build must be a mapping"),
        (HEAD + "build: ../x.sh\n", "escape.yml:3:8: build must be a relative path"),
        (
            HEAD + "build: {script: a, inline: b}\n",
            "escape.yml:3:8: build must have exactly one of script, inline",
        ),
        (HEAD + "build: {inline_file: a}\n", "escape.yml:3:9: inline_file stands in specifications only"),
        (HEAD + "depends: [shop/lib]\n", "escape.yml:3:11: depends[0] must be a release such as"),
        (
            HEAD + 'inputs: [{id: a, sensitive: "yes"}]\n',
            "escape.yml:3:29: inputs[0].sensitive must be true or false",
        ),
        (
            HEAD + "inputs: [a]\nbuild_inputs: [a]\n",
            'escape.yml:4:16: "a" stands in inputs twice; remove one',
        ),
        (HEAD + 'includes: ["../x"]\n', "escape.yml:3:12: includes[0] must not hold .."),
        (HEAD + "metadata: {a: 1}\n", 'escape.yml:3:15: metadata.a must be a quoted string: write "1"'),
        (HEAD + "errands: {a: {description: b}}\n", "escape.yml:3:14: errands.a.run is missing"),
        (HEAD + "name: x\n", 'escape.yml:3:1: "name" stands here twice; keep one'),
        ("- a\n", "escape.yml:1:1: the file must hold a mapping"),
        ("a: {\n", "escape.yml:"),
        ("", "escape.yml:1:1: the file is empty"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    found = compile_plan(text, "escape.yml")
    assert found.plan is None
    assert message in "\n".join(found.errors)


def test_a_script_is_taken_from_the_first_that_has_it() -> None:
    plan = compile_plan(HEAD + "build: a\ntest: a\nsmoke: a\nerrands: {x: {script: a}}\n", "e").plan
    assert plan is not None
    given = [
        StageScripts.model_validate(each).model_dump(mode="json")
        for each in (
            {"build": "s"},
            {"build": "b", "test": {"inline": "b"}, "errands": {"x": {"run": "b"}, "y": {"run": "b"}}},
        )
    ]
    found = with_scripts(plan, given[0], None, given[1])
    assert found["scripts"] == {"build": {"script": "s"}, "test": {"inline": "b"}, "smoke": {"script": "a"}}
    assert {name: errand["run"] for name, errand in found["errands"].items()} == {
        "x": {"script": "b"},
        "y": {"script": "b"},
    }
    assert plan["scripts"]["build"] == {"script": "a"}
    beside = with_scripts(plan, {"deploy": {"inline_file": "deploy.sh", "inline": "echo"}})
    assert beside["scripts"]["deploy"] == {"inline": "echo"}


def test_a_release_without_a_file_has_the_same_form() -> None:
    """What a Build's `release` says compiles to what a plan file that says the same does, but for scripts."""
    fields = """\
description: Storefront
consumes: [kubernetes, {name: postgres as db, scopes: [deploy]}]
inputs: [a, {id: b, default: c}]
deploy_outputs: [url]
depends: [shop/lib-v1 as lib]
includes: [x]
"""
    compiled = compile_plan(HEAD + fields, "escape.yml")
    assert compiled.plan is not None
    spec = {
        "namespace": "shop",
        "application": "web",
        "version": "1.0.@",
        "description": "Storefront",
        "consumes": ["kubernetes", {"name": "postgres as db", "scopes": ["deploy"]}],
        "inputs": ["a", {"id": "b", "default": "c"}],
        "deploy_outputs": ["url"],
        "depends": ["shop/lib-v1 as lib"],
        "includes": ["x"],
    }
    release = Release.model_validate(spec).model_dump(mode="json")
    assert of_release(release) == compiled.plan


def test_an_empty_release_has_all_fields() -> None:
    release = Release.model_validate({"namespace": "shop", "application": "web", "version": "1"})
    found = of_release(release.model_dump(mode="json"))
    assert found == Compiled(found, (), ()).plan
    assert set(found) == set(compile_plan(HEAD, "e").plan or {})
