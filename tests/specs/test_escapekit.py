"""`escapekit.yml`: the steps of a Build in its own repository (escape-state, 8.5)."""

from __future__ import annotations

from typing import Any

import pytest

from specs.build_step import BuildStep
from specs.escapekit import read_steps

WHOLE = """\
escapekit_version: 1
build:
  steps:
    - escape_plan_location: web/escape.yml
      skip_build: false
      skip_tests: true
      skip_deploy: true
      skip_destroy: false
      skip_smoke: true
      skip_build_destroy: true
      skip_deploy_destroy: true
      skip_cache: true
      skip_push: true
      skip_if_exists: true
      tag_git: true
      force_overwrite: true
      variables: {level: debug}
    - build_on_file_changes: ["docs/**"]
      scripts: {build: make}
"""


def test_keys_become_the_fields_of_a_step() -> None:
    steps, errors = read_steps(WHOLE)
    assert errors == []
    expected: dict[str, Any] = BuildStep().model_dump(mode="json")
    first = expected | {
        "plan_location": "web/escape.yml",
        "run_tests": False,
        "run_deploy": False,
        "run_smoke": False,
        "run_destroy_build": False,
        "run_destroy_deploy": False,
        "cache_release": False,
        "push_release": False,
        "skip_if_exists": True,
        "tag_git": True,
        "force_overwrite": True,
        "variables": {"level": "debug"},
    }
    assert steps[0] == first
    assert steps[1] == expected | {
        "build_on_file_changes": ["docs/**"],
        "scripts": {"build": {"script": "make"}},
    }


HEAD = "escapekit_version: 1\nbuild:\n  steps:\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + '    - force_overwrite: "true,"\n',
            'escapekit.yml:4:24: force_overwrite must be true or false, not "true,"',
        ),
        (
            HEAD + '    - skip_push: "yes"\n',
            "escapekit.yml:4:18: skip_push must be true or false, without quotes",
        ),
        (
            HEAD + "    - {skip_build: true, run_build: true}\n",
            "escapekit.yml:4:8: skip_build and run_build say the same",
        ),
        (HEAD + "    - {escape_plan_location: a, plan_location: b}\n", "say the same in two ways"),
        (
            HEAD + "    - escape_plan_location: ../../etc/passwd\n",
            "escapekit.yml:4:29: plan_location must be a relative",
        ),
        (
            HEAD + "    - skip_tets: true\n",
            'escapekit.yml:4:7: unknown field "skip_tets"; did you mean "skip_tests"?',
        ),
        (HEAD + "    - make\n", "escapekit.yml:4:7: build.steps[0] must be a mapping"),
        (HEAD.replace("1", "2", 1) + "    - {}\n", "escapekit.yml:1:20: escapekit_version must be 1"),
        (HEAD.replace("1", '"1"', 1) + "    - {}\n", "escapekit_version must be 1"),
        (HEAD.replace("1", "true", 1) + "    - {}\n", "escapekit_version must be 1"),
        (
            "escapekit_version: 1\nbuild: {steps: []}\n",
            "escapekit.yml:2:16: build.steps must be a list of 1 to 50",
        ),
        ("escapekit_version: 1\n", "build must be a mapping with steps"),
        (
            "escapekit_version: 1\nbuilds: {}\n",
            'escapekit.yml:2:1: unknown field "builds"; did you mean "build"?',
        ),
        (HEAD + "    - scripts: {build: {inline_file: a}}\n", "inline_file stands in specifications only"),
        (HEAD + "    - {variables: {level: 3}}\n", 'write "3"'),
        ("", "escapekit.yml:1:1: the file is empty"),
        ("- a\n", "escapekit.yml:1:1: the file must hold a mapping"),
        ("a: [\n", "escapekit.yml:"),
        (HEAD + "    - {}\n---\na: b\n", "a second document begins here"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    steps, errors = read_steps(text)
    assert steps == []
    assert message in "\n".join(errors)


def test_all_faults_are_told_at_once() -> None:
    _, errors = read_steps(HEAD + "    - run_build: 1\n    - tag_git: no\n")
    assert len(errors) == 2
