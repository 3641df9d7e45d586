"""Defaults of Projects and Environments: how they merge, what they may hold, and whose fault a wrong one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.tree import Tree

Grow = Callable[..., Tree]

BUILD = "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: web, project: shop, environment: dev}\n"
TASKS = "  tasks: [{name: a, run: make}]\n"


def files(project: str, environment: str, build: str) -> dict[str, str]:
    """Three files; each argument is the flow text of a `spec`, or block text for the build."""
    return {
        "p.yaml": f"apiVersion: steersman/v1\nkind: Project\nmetadata: {{name: shop}}\nspec: {project}\n",
        "e.yaml": "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\n"
        f"spec: {environment}\n",
        "b.yaml": f"{BUILD}spec:\n{TASKS}{build}",
    }


def effective(tree: Tree) -> dict[str, Any]:
    """The build's effective specification."""
    spec = tree.declared["Build/shop/dev/web"].spec
    assert spec is not None, tree.errors
    return dict(spec)


def test_the_nearest_wins_and_maps_merge(grow: Grow) -> None:
    """Document over environment over project; mappings by key, lists as a whole."""
    tree = grow(
        files(
            "{defaults: {Build: {timeout_seconds: 100, ignore_file_changes: [a], repo: 'https://e.org/x', "
            "environment_variables: {A: p, B: p, C: p}}}}",
            "{defaults: {Build: {timeout_seconds: 200, environment_variables: {B: e, C: e}}}}",
            "  ignore_file_changes: [b]\n  environment_variables: {C: d}\n",
        )
    )
    spec = effective(tree)
    assert (
        spec["timeout_seconds"],
        spec["ignore_file_changes"],
        spec["environment_variables"],
    ) == (200, ["b"], {"A": "p", "B": "e", "C": "d"})


def test_null_means_the_built_in(grow: Grow) -> None:
    """Also for one key of a mapping; and in the environment against the project."""
    tree = grow(
        files(
            "{defaults: {Build: {timeout_seconds: 100, concurrency: allow, environment_variables: {A: p, B: p}}}}",
            "{defaults: {Build: {concurrency: null}}}",
            "  timeout_seconds: null\n  environment_variables: {A: null}\n",
        )
    )
    spec = effective(tree)
    assert (
        spec["timeout_seconds"],
        spec["concurrency"],
        spec["environment_variables"],
    ) == (3600, "queue", {"B": "p"})


@pytest.mark.parametrize(
    ("project", "error"),
    [
        (
            "{defaults: {Buidl: {}}}",
            'p.yaml:4:19: a Project has no defaults for Buidl; did you mean "Build"?',
        ),
        ("{defaults: {Executor: {}}}", "p.yaml:4:19: a Project has no defaults for Executor"),
        (
            "{defaults: {Build: {taskss: []}}}",
            'p.yaml:4:27: unknown field "taskss" of a Build; did you mean "tasks"?',
        ),
        ("{defaults: {Build: {disabled: 'no'}}}", 'p.yaml:4:37: disabled must be true or false, not "no"'),
        ("{defaults: {Build: {timeout_seconds: 1}}}", "p.yaml:4:44: timeout_seconds must be at least 10"),
        (
            "{defaults: {Build: {services: []}}}",
            "p.yaml:4:27: `services` is a field of a task, not of a build; move it to a task or to task_defaults",
        ),
        (
            "{defaults: {Build: {environment_variables: {A: 1}}}}",
            'environment_variables.A must be a quoted string: write "1"',
        ),
        (
            "{defaults: {Build: {triggers: [{type: schedule, cron: x}]}}}",
            "triggers[0].cron must be five fields",
        ),
        ("{defaults: {Environment: {defaults: {}}}}", "defaults of an Environment cannot be defaulted"),
        ("{defaults: {Build: []}}", "p.yaml:4:26: defaults.Build must be a mapping, not a list"),
    ],
)
def test_a_wrong_default_is_the_projects_fault(grow: Grow, project: str, error: str) -> None:
    """It is told where it stands, as an error of the Project."""
    tree = grow(files(project, "{}", ""))
    own = [str(each) for each in tree.errors if each.key == "Project/shop"]
    assert len(own) == 1
    assert error in own[0]


def test_a_faulty_default_leaves_the_last_good_one_in_force(grow: Grow) -> None:
    """The build keeps its effective specification; only the Project is invalid."""
    good = {"Project/shop": {"defaults": {"Build": {"timeout_seconds": 100}}}}
    tree = grow(files("{defaults: {Build: {timeout_seconds: x}}}", "{}", ""), in_force=good)
    assert [error.key for error in tree.errors] == ["Project/shop"]
    assert effective(tree)["timeout_seconds"] == 100


def test_a_default_that_breaks_a_resource_is_told_at_the_default(grow: Grow) -> None:
    """Right in itself, wrong together: the error points at the default and names the resource."""
    tree = grow(
        files("{defaults: {Build: {branches: [a]}}}", "{}", "  repo: 'https://e.org/x'\n  branch: main\n")
    )
    (error,) = tree.errors
    assert error.key == "Build/shop/dev/web"
    assert str(error).startswith("p.yaml:4:")
    assert (
        "this default makes Build/shop/dev/web invalid: branch and branches exclude each other"
        in error.message
    )


def test_an_environment_has_defaults_for_what_is_inside_it_only(grow: Grow) -> None:
    """A Repository is not inside an environment."""
    tree = grow(files("{}", "{defaults: {Repository: {}}}", ""))
    known = "Secret, RoleBinding, Build, Deployment"
    assert f"e.yaml:4:19: an Environment has no defaults for Repository; known here: {known}" in [
        str(e) for e in tree.errors
    ]


def test_tasks_of_a_default_find_their_texts_beside_the_default(grow: Grow) -> None:
    """run_file is relative to the document that holds it."""
    sources = files("{defaults: {Build: {tasks: [{name: d, run_file: d.sh}]}}}", "{}", "  tags: []\n")
    sources["b.yaml"] = sources["b.yaml"].replace(TASKS, "")
    sources = {"deep/p.yaml": sources.pop("p.yaml"), **sources}
    tree = grow(sources, texts={"deep/d.sh": "echo d\n"})
    assert [(task["name"], task["run"]) for task in effective(tree)["tasks"]] == [("d", "echo d\n")]


def test_defaults_of_a_project_in_an_unreadable_file_stay_in_force_after_a_restart(grow: Grow) -> None:
    """A tree grown afresh and one that saw the file break agree."""
    good = {"Project/shop": {"defaults": {"Build": {"timeout_seconds": 100}}}, "Environment/shop/dev": {}}
    whole = files("{defaults: {Build: {timeout_seconds: 100}}}", "{}", "")
    broken = {**whole, "p.yaml": "kind: [\n"}
    seen = grow({"p.yaml": broken["p.yaml"]}, in_force=good, onto=grow(whole, in_force=good))
    assert [effective(tree)["timeout_seconds"] for tree in (seen, grow(broken, in_force=good))] == [100, 100]
