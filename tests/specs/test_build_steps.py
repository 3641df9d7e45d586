"""Builds in the steps form, releases and stage scripts: each mistake with its place and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.build import effective_tasks, work_digest
from specs.tree import Tree, origins

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

DEV = "name: bb, project: shop, environment: dev"
LEAKED = "is never written in Git: the value must be considered leaked"
INSIDE = "must be a relative path inside the checkout, without .."
ONE_OF = "must have exactly one of script, inline, inline_file and cmd"
BOOLEAN = "must be true or false"

# Fields beside `repo: web`, with a step.
STEPS_CASES = [
    ("steps: [{plan_location: §../../etc/passwd}]", f"§steps[0].plan_location {INSIDE}"),
    ("steps: [{plan_location: §/etc/passwd}]", f"§steps[0].plan_location {INSIDE}"),
    ('steps: [{plan_location: §"a\\0b"}]', "§steps[0].plan_location must not hold a NUL character"),
    ("steps: [{skip_if_exists: §'true'}]", f'§steps[0].skip_if_exists {BOOLEAN}, not "true"'),
    ("steps: [{force_overwrite: §'true,'}]", f'§steps[0].force_overwrite {BOOLEAN}, not "true,"'),
    ("steps: [{run_tests: §no}]", f'§steps[0].run_tests {BOOLEAN}, not "no"'),
    ("steps: [{§run_test: false}]", '§unknown field "run_test"; did you mean "run_tests"?'),
    ("steps: [{override_namespace: §Foreign}]", "§steps[0].override_namespace must have 2 to 100 lower-case"),
    ("steps: [{build_on_file_changes: [§/src]}]", "§steps[0].build_on_file_changes[0] must be relative"),
    ("steps: [{ignore_file_changes: [§'']}]", "§steps[0].ignore_file_changes[0] must not be empty"),
    ("steps: [{providers: {k: §1bad}}]", "§steps[0].providers.k must be the name of a Deployment"),
    ("steps: [{providers: {k: §a//b}}]", "§steps[0].providers.k must be the name of a Deployment"),
    ("steps: [{variables: {level: §1}}]", '§steps[0].variables.level must be a quoted string: write "1"'),
    ("steps: [{variables: {§a-b: x}}]", '"a-b" is not a variable name'),
    (
        "steps: [{scripts: {build: §{script: a, inline: b}}}]",
        f"§steps[0].scripts.build {ONE_OF}, not script and inline",
    ),
    ("steps: [{§token: x}]", f"§`token` {LEAKED}"),
    (
        "steps: §[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},"
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]",
        "§steps must have at most 50 items",
    ),
    ("steps: §[{}], steps_from_yml: true", "§steps and steps_from_yml exclude each other; keep one"),
    ("steps_from_yml: §'true'", f"§steps_from_yml {BOOLEAN}"),
    (
        "steps: [{}], concurrency: §allow",
        "§concurrency belongs to the tasks form, and this Build has steps; remove it",
    ),
    (
        "steps: [{}], branches: §[a]",
        "§branches belongs to the tasks form, and this Build has steps; remove it",
    ),
    (
        "steps: [{}], secrets: §[key]",
        "§secrets belongs to the tasks form, and this Build has steps; name them in run_on",
    ),
    (
        "steps: [{}], environment_variables: §{A: b}",
        "§environment_variables belongs to the tasks form, and this Build",
    ),
    (
        "steps: [{}], build_on_file_changes: §[a]",
        "§build_on_file_changes belongs to the tasks form, and this Build has",
    ),
    ("steps: [{}], task_defaults: §{load: 2}", "§task_defaults belongs to the tasks form"),
    ("steps: [{}], inputs: §[{id: a, default: b}]", "§inputs belongs to the tasks form"),
    ("steps: [{}], branch: §'--upload-pack=x'", "§branch must be a branch name that Git allows"),
    ("steps: [{}], branch: §'a b'", "§branch must be a branch name that Git allows"),
    ("steps: [{}], branch: §a..b", "§branch must be a branch name that Git allows"),
    (
        "steps: [{}], service_account_name: §deployer",
        "§service_account_name needs service_account_team beside it",
    ),
    (
        "steps: [{}], service_account_team: §platform",
        "§service_account_team needs service_account_name beside it",
    ),
    (
        "steps: [{}], service_account_name: §nobody, service_account_team: platform",
        "§ServiceAccount/platform/nobody is not declared",
    ),
    (
        "steps: [{}], remote_escape_worker_url: §ftp://e.org",
        "§remote_escape_worker_url must be an address that begins",
    ),
    (
        "steps: [{}], remote_escape_worker_url: §'https://u:p@e.org'",
        "§remote_escape_worker_url must not hold credentials",
    ),
    ("steps: [{}], webhook_rotation: §-1", "§webhook_rotation must be at least 0"),
    ("steps: [{}], §private_key: abc", f"§`private_key` {LEAKED}"),
    ("steps: [{}], §escape_auth_token: abc", f"§`escape_auth_token` {LEAKED}"),
    ("steps: [{}], disabled: §no", f'§disabled {BOOLEAN}, not "no"'),
    ("steps: [{}], timeout_seconds: §9", "§timeout_seconds must be at least 10"),
    ("steps: [{}], run_on: {traits: [a, §a]}", '§"a" stands in traits twice; remove one'),
    ("steps: [{}], run_on: {load: §0}", "§run_on.load must be more than 0"),
    ("steps: [{}], run_on: {§trait: [a]}", '§unknown field "trait"; did you mean "traits"?'),
    ("steps: [{}], tasks: [{name: a, run: x}]", "steps and tasks exclude each other; keep one"),
    (
        "steps_from_yml: §true, tasks: [{name: a, run: x}]",
        "§steps_from_yml and tasks exclude each other; keep one",
    ),
    (
        "tasks: [{name: a, run: x}], run_on: §{load: 1}",
        "§run_on belongs to the steps form; a task has traits, image",
    ),
    (
        "tasks: [{name: a, run: x}], remote_escape_worker_url: §'https://e.org'",
        "§remote_escape_worker_url belongs to the steps form; remove it",
    ),
    (
        "tasks: [{name: a, run: x}], scripts: §{deploy: d.sh}",
        "§scripts go with the release that tasks make; add release",
    ),
    (
        "tasks: [{name: a, run: x}], release: {namespace: shop, version: '1.@'}, scripts: {test: §t.sh}",
        "§test is not run in the tasks form; make a task of it",
    ),
]

# Fields of `release`, beside its namespace.
RELEASE_CASES = [
    (
        "version: §1.10",
        "§release.version must be a quoted string: put quotes around what stands here; without them, 3.10",
    ),
    ("version: §1", '§release.version must be a quoted string: write "1"'),
    ("version: §v1.0", '§release.version must be a version ("1.4.12") or a prefix ("1.4.@"), not "v1.0"'),
    ("version: §latest", '§release.version must be a version ("1.4.12") or a prefix ("1.4.@"), not "latest"'),
    ("version: '1', application: §W", "§release.application must have 2 to 100 lower-case letters"),
    ("version: '1', application: §_", "§release.application must have 2 to 100 lower-case letters"),
    ("version: '1', §includs: []", '§unknown field "includs"; did you mean "includes"?'),
    ("version: '1', includes: [§../x]", "§release.includes[0] must not hold .. as a part"),
    ("version: '1', inputs: [{id: §a-b}]", '§release.inputs[0].id: "a-b" is not a variable name'),
    ("version: '1', inputs: [aa, §aa]", '§"aa" stands in inputs twice; remove one'),
    ("version: '1', inputs: [aa], deploy_inputs: [§aa]", '§"aa" stands in inputs twice; remove one'),
    (
        "version: '1', inputs: [§{id: a, type: integer, default: x}]",
        "§release.inputs[0] has type integer, but default",
    ),
    (
        "version: '1', inputs: [§{id: a, type: integer, default: true}]",
        "§release.inputs[0] has type integer, but",
    ),
    (
        "version: '1', inputs: [§{id: a, default: x, items: [y]}]",
        "§release.inputs[0] has a default that is not one of",
    ),
    (
        "version: '1', consumes: [§'a as']",
        '§release.consumes[0] must be the name of an interface, or "NAME as VARIABLE"',
    ),
    (
        "version: '1', consumes: [{name: a, scopes: [§smoke]}]",
        "§release.consumes[0].scopes[0] must be build or deploy",
    ),
    ("version: '1', depends: [§'a b']", "§release.depends[0] must be a release such as shop/lib-v1.2.3"),
    ("version: '1', metadata: {a: §1}", '§release.metadata.a must be a quoted string: write "1"'),
]

# Fields of `scripts`.
SCRIPT_CASES = [
    ("deploy: §{}", f"§scripts.deploy {ONE_OF}"),
    ("deploy: {§zzz: x}", '§unknown field "zzz"; known here: script, inline, inline_file, cmd, args'),
    ("deploy: {script: §/x}", f"§scripts.deploy.script {INSIDE}"),
    ("deploy: §../x", f"§scripts.deploy {INSIDE}"),
    ("deploy: §{inline: a, args: [b]}", "§scripts.deploy has args, which need cmd"),
    ("deploy: {inline: §''}", "§scripts.deploy.inline must not be empty"),
    ("deploy: {inline_file: §none.sh}", "§none.sh is missing or cannot be read as text"),
    ("deploy: {inline_file: §../../x.sh}", '§"../../x.sh" is outside the source; name a file inside it'),
    ("§deplyo: x", '§unknown field "deplyo"; did you mean "deploy"?'),
    ("errands: {b: §{}}", "§scripts.errands.b.run is missing"),
    ("errands: {§a/b: {run: x}}", "must have 1 to 100 letters, digits, _ . and -"),
    (
        "errands: {b: {run: x, inputs: [{id: a, type: §text}]}}",
        "§scripts.errands.b.inputs[0].type must be string, list",
    ),
]


@pytest.mark.parametrize(("fields", "error"), STEPS_CASES)
def test_a_mistake_in_a_build_with_steps_is_told(told: Told, fields: str, error: str) -> None:
    """One error, at its place (cases 20, 28, 35 to 39 and 43 at the time of writing)."""
    found = told("Build", DEV, f"{{repo: web, {fields}}}")
    assert len(found) == 1, found
    assert error in found[0]


@pytest.mark.parametrize(("fields", "error"), RELEASE_CASES)
def test_a_mistake_in_a_release_is_told(told: Told, fields: str, error: str) -> None:
    """One error, at its place; never a version 1.1 for 1.10."""
    found = told("Build", DEV, f"{{repo: web, steps: [{{}}], release: {{namespace: shop, {fields}}}}}")
    assert len(found) == 1, found
    assert found[0].startswith(error)


@pytest.mark.parametrize(("fields", "error"), SCRIPT_CASES)
def test_a_mistake_in_scripts_is_told(told: Told, fields: str, error: str) -> None:
    """One error, at its place."""
    found = told("Build", DEV, f"{{repo: web, steps: [{{}}], scripts: {{{fields}}}}}")
    assert len(found) == 1, found
    assert error in found[0]


def test_steps_need_a_repository_and_an_environment(told: Told) -> None:
    """Tasks do without both."""
    assert told("Build", DEV, "§{steps: [{}]}") == ["§repo is missing: steps need a checkout"]
    assert told("Build", "name: bb, project: shop", "{repo: web, steps: [{}]}") == [
        "x.yaml:3:11: metadata.environment is missing: only a Build in the tasks form does without one"
    ]
    missing = "tasks is missing: a Build has tasks, or at least one of steps, or steps_from_yml: true"
    assert told("Build", DEV, "§{repo: web, steps: []}") == [f"§{missing}"]
    assert told("Build", "name: bb, project: shop", "{tasks: [{name: a, run: x}], steps: []}") == []


def test_a_step_has_every_flag(effective: Effective) -> None:
    """With the defaults of the client's `release` command."""
    spec = effective("Build", DEV, "{repo: web, steps: [{}]}")
    assert spec["steps"] == [
        {
            "plan_location": "escape.yml", "run_build": True, "run_tests": True, "run_deploy": True,
            "run_smoke": True, "run_destroy": True, "run_destroy_build": True, "run_destroy_deploy": True,
            "skip_if_exists": False, "force_overwrite": False, "fat_package": False, "cache_release": True,
            "push_release": True, "tag_git": False, "override_namespace": "", "build_on_file_changes": [],
            "ignore_file_changes": [], "providers": {}, "variables": {}, "scripts": None,
        }
    ]  # fmt: skip
    (task,) = effective_tasks(spec)
    assert (spec["tasks"], task["name"], task["lost_retries"]) == ([], "build", 0)
    assert task["stages"]["steps"] == spec["steps"]


def test_a_full_build_with_steps_is_valid(effective: Effective) -> None:
    """Every field of the form; a script that is a text alone is a path."""
    spec = effective(
        "Build",
        DEV,
        "{repo: 'https://example.org/x.git', branch: main, steps: [{scripts: "
        "{build: b.sh, test: {cmd: make, args: [t]}}}], "
        "triggers: [{type: poll}, {type: schedule, cron: '@daily'}], timeout_seconds: 60, priority: 3, "
        "service_account_name: deployer, service_account_team: platform, private_key_ref: key, "
        "escape_auth_token_ref: key, remote_escape_worker_url: 'https://e.org/worker', webhook_rotation: 2, "
        "run_on: {traits: [linux], image: host, network: none, load: 2, secrets: [key]}, "
        "scripts: {deploy: {script: d.sh}, errands: {dump: {description: d, run: {inline: x}, inputs: [bucket]}}}, "
        "release: {namespace: shop, version: '1.4.@', description: d, "
        "license: MIT, metadata: {a: b}, depends: [shop/lib-v1], "
        "includes: ['dist/**'], generates: [x], provides: [kubernetes], "
        "consumes: [db, {name: c as d, scopes: [deploy]}], "
        "inputs: [{id: n, type: integer, default: 3, items: [3, 4], "
        "sensitive: true, scopes: [build]}], outputs: [url]}}",
    )
    assert spec["steps"][0]["scripts"] == {
        "build": {"script": "b.sh"},
        "test": {"cmd": "make", "args": ["t"]},
    }
    assert spec["release"]["application"] == "bb"
    assert [item["name"] for item in spec["release"]["consumes"]] == ["db", "c as d"]
    assert spec["scripts"]["errands"]["dump"]["inputs"][0]["id"] == "bucket"
    assert effective("Build", DEV, "{repo: web, steps_from_yml: true}")["steps_from_yml"] is True


def test_a_build_with_tasks_may_make_a_release(effective: Effective, told: Told) -> None:
    """From a checkout; the application is the build's name."""
    fields = "tasks: [{name: a, run: x}], release: {namespace: shop, version: '1.4.@', includes: ['dist/*']}"
    spec = effective(
        "Build", "name: web-app, project: shop", f"{{repo: web, {fields}, scripts: {{deploy: d.sh}}}}"
    )
    assert spec["release"]["application"] == "web-app"
    found = told(
        "Build", "name: web-app, project: shop", f"{{{fields.replace('release: {', 'release: §{')}}}"
    )
    assert found == ["§release needs a repo; name one, or remove release"]


def test_a_name_that_is_no_application_is_told(told: Told) -> None:
    """The build's name stands for it otherwise."""
    found = told(
        "Build",
        "name: Web, project: shop",
        "{repo: web, tasks: [{name: a, run: x}], release: §{namespace: shop, version: '1'}}",
    )
    assert len(found) == 1
    assert found[0].startswith("§release.application must have 2 to 100 lower-case letters")


def test_the_namespace_must_be_the_projects_own(told: Told, grow: Grow, shop: str) -> None:
    """And when the project takes it, or lets it go, the build knows."""
    release = "{repo: web, tasks: [{name: a, run: x}], release: {namespace: §foreign, version: '1'}}"
    sentence = "is not a namespace of Project/shop; add it to namespaces there, or name one of its own"
    assert told("Build", "name: bb, project: shop", release) == [f'§"foreign" {sentence}']
    text = (
        "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: bb, project: shop}\n"
        f"spec: {release.replace('§foreign', 'shop')}\n"
    )
    tree = grow({"shop.yaml": shop, "b.yaml": text})
    assert tree.errors == ()
    tree = grow({"shop.yaml": shop.replace("[{name: shop}]", "[{name: store}]")}, onto=tree)
    assert [error.message for error in tree.errors] == [f'"shop" {sentence}']
    assert grow({"shop.yaml": shop}, onto=tree).errors == ()


def test_a_script_may_stand_beside_the_specification(grow: Grow, shop: str) -> None:
    """Of the build, of a step and of an errand; a change of it changes the build."""
    text = (
        "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: bb, project: shop, environment: dev}\n"
        "spec: {repo: web, steps: [{scripts: {build: {inline_file: b.sh}}}], "
        "scripts: {deploy: {inline_file: /d.sh}, errands: {e: {run: {inline_file: b.sh}}}}}\n"
    )
    tree = grow({"shop.yaml": shop, "a/b.yaml": text}, texts={"a/b.sh": "make\n", "d.sh": "deploy\n"})
    assert tree.errors == ()
    spec = tree.declared["Build/shop/dev/bb"].spec or {}
    assert spec["steps"][0]["scripts"]["build"] == {"inline_file": "b.sh", "inline": "make\n"}
    assert spec["scripts"]["deploy"]["inline"] == "deploy\n"
    assert spec["scripts"]["errands"]["e"]["run"]["inline"] == "make\n"
    after = tree.update({}, {"d.sh": "other\n"}, {})
    assert frozenset({"Build/shop/dev/bb"}) == after.changed


def test_defaults_of_the_other_form_are_ignored(grow: Grow) -> None:
    """A project may have defaults for both forms."""
    head = "apiVersion: steersman/v1\nkind: "
    files = {
        "p.yaml": f"{head}Project\nmetadata: {{name: shop}}\nspec:\n  defaults:\n    Build:\n"
        "      repo: https://example.org/x\n      steps_from_yml: true\n      run_on: {load: 2}\n"
        "      task_defaults: {max_trials: 2}\n      concurrency: allow\n",
        "e.yaml": f"{head}Environment\nmetadata: {{name: dev, project: shop}}\n",
        "t.yaml": f"{head}Build\nmetadata: {{name: t, project: shop}}\nspec: {{tasks: [{{name: a, run: x}}]}}\n",
        "s.yaml": f"{head}Build\nmetadata: {{name: s, project: shop, environment: dev}}\nspec: {{}}\n",
    }
    tree = grow(files)
    assert tree.errors == ()
    tasks, steps = (tree.declared[key].spec or {} for key in ("Build/shop/_/t", "Build/shop/dev/s"))
    assert ("run_on" in tasks, "steps_from_yml" in tasks, tasks["task_defaults"]) == (
        False,
        False,
        {"max_trials": 2},
    )
    assert (steps["run_on"], steps["task_defaults"], steps["concurrency"]) == ({"load": 2}, {}, "queue")
    assert origins(tree, "Build/shop/_/t")["concurrency"] == "p.yaml:11"
    assert origins(tree, "Build/shop/dev/s")["concurrency"] == "built-in"


def test_a_default_cannot_name_the_application(grow: Grow) -> None:
    """Every build would be the same one."""
    text = (
        "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
        "spec: {defaults: {Build: {release: {application: web}}}}\n"
    )
    assert "p.yaml:4:37: release.application of a Build cannot be defaulted; remove it here" in [
        str(error) for error in grow({"p.yaml": text}).errors
    ]


def test_steps_and_releases_are_work(effective: Effective) -> None:
    """Other steps, scripts or another release make another job; who runs it and how it is fetched do not."""
    spec = effective("Build", DEV, "{repo: web, steps: [{}]}")
    same = {
        **spec,
        "service_account_name": "x",
        "webhook_rotation": 1,
        "remote_escape_worker_url": "https://e.org",
    }
    assert work_digest(spec) == work_digest(same)
    others = [
        {**spec, "steps": [{**spec["steps"][0], "run_tests": False}]},
        {**spec, "scripts": {"build": {"inline": "x"}}},
        {**spec, "release": {"namespace": "shop"}},
        {**spec, "run_on": {"image": "host"}},
    ]
    assert len({work_digest(spec), *(work_digest(other) for other in others)}) == 5


def test_secrets_of_a_build_are_those_of_all_its_tasks() -> None:
    """Its own first, each once."""
    spec = {
        "secrets": ["a", "b"],
        "task_defaults": {"secrets": ["c"]},
        "tasks": [
            {"name": "x", "needs": [], "run": "x"},
            {"name": "y", "needs": [], "run": "x", "secrets": ["d", "a"]},
        ],
    }
    assert [task["secrets"] for task in effective_tasks(spec)] == [["a", "b", "c"], ["a", "b", "d"]]


def test_variables_may_be_secrets(effective: Effective, told: Told) -> None:
    """By name; nothing else than a text or a secret."""
    fields = "tasks: [{name: a, run: x, environment_variables: {B: text, C: {secret_ref: key}}}]"
    spec = effective(
        "Build", "name: bb, project: shop", f"{{{fields}, environment_variables: {{A: {{secret_ref: key}}}}}}"
    )
    (task,) = effective_tasks(spec)
    assert task["environment_variables"] == {
        "A": {"secret_ref": "key"},
        "B": "text",
        "C": {"secret_ref": "key"},
    }
    for value, error in (
        ("{§secret_reff: key}", '§unknown field "secret_reff"; did you mean "secret_ref"?'),
        ("{secret_ref: §1}", '§environment_variables.A.secret_ref must be a quoted string: write "1"'),
        ("{secret_ref: §a/b}", "§environment_variables.A.secret_ref must be the name of a Secret"),
        ("§{}", "§environment_variables.A.secret_ref is missing"),
        ("§[x]", "§environment_variables.A must be text, not a list"),
    ):
        found = told(
            "Build", "name: bb, project: shop", f"{{{fields}, environment_variables: {{A: {value}}}}}"
        )
        assert len(found) == 1, found
        assert found[0].startswith(error)
