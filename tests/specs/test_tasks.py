"""Tasks of a Build: each mistake with its place and its sentence, and what they mean with everything merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.build import effective_tasks
from specs.build_work import built_in

Errors = Callable[[str], list[str]]

REPO = "  repo: web\n"
QUOTE = "must be a quoted string: put quotes around what stands here; without them, 3.10 is read as 3.1"
LONG = "v" * 100

# Fields of the one task of a Build, in flow text that begins at column 29 -> the error, without its path.
CASES: list[tuple[str, str]] = [
    ("matrix: []", "5:37: tasks[0].matrix must be a mapping, not a list"),
    ("matrix: {v: []}", "5:41: tasks[0].matrix.v must have at least 1 item(s)"),
    ("matrix: {v: x}", '5:41: tasks[0].matrix.v must be a list, not "x"'),
    ("matrix: {v: ['']}", "5:42: tasks[0].matrix.v[0] must not be empty"),
    ("matrix: {v: [3.10]}", f"5:42: tasks[0].matrix.v[0] {QUOTE}"),
    ("matrix: {v: [3]}", '5:42: tasks[0].matrix.v[0] must be a quoted string: write "3"'),
    ("matrix: {v: [true]}", '5:42: tasks[0].matrix.v[0] must be a quoted string: write "true"'),
    ("matrix: {v: [a], exclude: [{v: 3.10}]}", f"5:60: tasks[0].matrix.exclude[0].v {QUOTE}"),
    ("matrix: {v: [a, b, a]}", '5:48: "a" stands in v twice; remove one'),
    ("matrix: {v-1: [a]}", '5:43: "v-1" is not a variable name: letters, digits and _'),
    (
        "matrix: {db: [a], DB: [b]}",
        '5:51: "db" and "DB" differ only in case, and both would be MATRIX_DB; rename one',
    ),
    (
        "matrix: {exclude: [a, b]}",
        "5:47: tasks[0].matrix.exclude must be a list of rows to leave out; an axis cannot be named exclude",
    ),
    ("matrix: {v: [a], exclude: [{}]}", "5:56: tasks[0].matrix.exclude[0] must have at least 1 item(s)"),
    (
        "matrix: {python: [a], exclude: [{pyton: a}]}",
        '5:69: the matrix has no axis "pyton"; did you mean "python"?',
    ),
    ("matrix: {v: [a], exclude: [{v: b}]}", '5:60: "b" is not a value of v; known here: a'),
    (
        "matrix: {v: [a, b], exclude: [{v: a}, {v: a}]}",
        "5:67: this excludes nothing that the entries above leave; remove it",
    ),
    ("matrix: {v: [a], exclude: [{v: a}]}", "5:55: exclude leaves no row of the matrix; remove an entry"),
    (
        f"matrix: {{v: [{', '.join(f'a{i}' for i in range(257))}]}}",
        "5:37: the matrix has 257 rows; a task has at most 256",
    ),
    (
        f"matrix: {{v: [{', '.join(f'a{i}' for i in range(33))}], w: [{', '.join(f'a{i}' for i in range(32))}]}}",
        "5:37: the axes have 1056 combinations; at most 1024 are allowed, of which exclude leaves at most 256",
    ),
    (
        f"matrix: {{v: [{LONG}], w: [{LONG}]}}",
        f'5:37: the row task "a" with v: {LONG}, w: {"v" * 12}… would have a name of 203 characters; '
        "at most 200 are allowed, so shorten the task's name or the values",
    ),
    (
        "matrix: {v: [x/y, x+y]}",
        '5:37: task "a" with v: x/y and task "a" with v: x+y would both be named "a-x_y"; rename one',
    ),
    ("when: never, needs: []", '5:35: tasks[0].when must be passed, failed or always, not "never"'),
    (
        "when: always",
        '5:35: task "a" needs no other, so when: always says nothing; add needs, or remove when',
    ),
    (
        "when: failed",
        '5:35: task "a" needs no other, so when: failed says nothing; add needs, or remove when',
    ),
    ("ignore_failure: 'yes'", '5:45: tasks[0].ignore_failure must be true or false, not "yes"'),
    ("branches: [main]", "5:39: branches needs a repo; name one, or remove branches"),
    ("tags: [v*]", "5:35: tags needs a repo; name one, or remove tags"),
    ("branches: ['/x']", "5:40: tasks[0].branches[0] must be relative; leave the leading / out"),
    ("priority: 101", "5:39: tasks[0].priority must be at most 100"),
    ("priority: -101", "5:39: tasks[0].priority must be at least -100"),
    ("priority: 0.5", "5:39: tasks[0].priority must be a whole number, not 0.5"),
    ("exclusive: ['']", "5:41: tasks[0].exclusive[0] must not be empty"),
    (f"exclusive: [{LONG}v]", "5:41: tasks[0].exclusive[0] must have at most 100 characters"),
    ("exclusive: [db, db]", '5:45: "db" stands in exclusive twice; remove one'),
    ("eager_trials: 21, max_trials: 30", "5:43: tasks[0].eager_trials must be at most 20"),
    ("eager_trials: 0", "5:43: tasks[0].eager_trials must be at least 1"),
    (
        "max_trials: 2, eager_trials: 3",
        '5:58: task "a" has eager_trials 3 but max_trials 2; raise max_trials to 3',
    ),
    (
        "max_trials: 2, eager_trials: 2, exclusive: [db]",
        '5:58: task "a" has eager_trials 2 and exclusive, but trials side by side cannot hold the same lock; '
        "remove one of the two",
    ),
    (
        "retry_on: [faild]",
        '5:40: tasks[0].retry_on[0] must be failed, timeout or defective, not "faild"; did you mean "failed"?',
    ),
    ("retry_on: [failed, failed]", '5:48: "failed" stands in retry_on twice; remove one'),
    (
        "retry_on: [], max_trials: 2",
        '5:39: task "a" retries on nothing but has max_trials 2; set max_trials to 1, or name some of '
        "failed, timeout, defective",
    ),
    ("retry_delay_seconds: 3601", "5:50: tasks[0].retry_delay_seconds must be at most 3600"),
    ("retry_delay_seconds: -1", "5:50: tasks[0].retry_delay_seconds must be at least 0"),
    ("cache: [{paths: [x]}]", "5:37: tasks[0].cache[0].key is missing"),
    ("cache: [{key: k}]", "5:37: tasks[0].cache[0].paths is missing"),
    ("cache: [{key: k, paths: []}]", "5:53: tasks[0].cache[0].paths must have at least 1 item(s)"),
    ("cache: [{key: '', paths: [x]}]", "5:43: tasks[0].cache[0].key must not be empty"),
    (
        f"cache: [{{key: {LONG}{LONG}x, paths: [x]}}]",
        "5:43: tasks[0].cache[0].key must have at most 200 characters",
    ),
    (
        "cache: [{key: 'a{branch}', paths: [x]}]",
        "5:43: tasks[0].cache[0].key must hold braces only as {files:GLOB}, which stands for the content",
    ),
    ("cache: [{key: 'a}', paths: [x]}]", "must hold braces only as {files:GLOB}"),
    ("cache: [{key: '{files:a{b}}', paths: [x]}]", "must hold braces only as {files:GLOB}"),
    (
        "cache: [{key: '{files:}', paths: [x]}]",
        "5:43: tasks[0].cache[0].key has the glob {files:}, which must not be empty",
    ),
    (
        "cache: [{key: '{files:../x}', paths: [x]}]",
        "5:43: tasks[0].cache[0].key has the glob {files:../x}, which must not hold .. as a part",
    ),
    (
        "cache: [{key: k, paths: [/x]}]",
        "5:54: tasks[0].cache[0].paths[0] must be a relative path inside the workspace, without ..",
    ),
    ("cache: [{key: k, paths: [a/../b]}]", "must be a relative path inside the workspace, without .."),
    (
        "cache: [{key: k, paths: [./.]}]",
        "5:54: tasks[0].cache[0].paths[0] must not be the workspace itself; name a folder inside it",
    ),
    (
        "cache: [{key: k, paths: [./.git/hooks]}]",
        "5:54: tasks[0].cache[0].paths[0] must not be in .git; name a folder of the workspace",
    ),
    ("cache: [{key: k, paths: [a, ./a/]}]", '5:57: "a" stands in paths twice; remove one'),
    (
        "cache: [{key: k, paths: [a]}, {key: k, paths: [b]}]",
        '5:65: a cache "k" stands above; put the paths together',
    ),
    ("services: [{run: x}]", "5:40: tasks[0].services[0].name is missing"),
    ("services: [{name: db}]", '5:40: service "db" says nothing to start; write image or run'),
    (
        "services: [{name: db, image: a, run: b}]",
        "5:66: image and run exclude each other; keep one",
    ),
    (
        "services: [{name: run, run: x}]",
        "5:47: tasks[0].services[0].name must not be run, which is the name of the task's own script",
    ),
    (
        "services: [{name: a b, run: x}]",
        "5:47: tasks[0].services[0].name must have 1 to 100 letters, digits, _ . : and -",
    ),
    (
        "services: [{name: db, run: x}, {name: db, run: y}]",
        '5:67: a service named "db" stands above; names are unique in a task',
    ),
    (
        "services: [{name: db, run: x, readdy: y}]",
        '5:59: unknown field "readdy"; did you mean "ready"?',
    ),
    ("services: [{name: db, run: x, ready: ''}]", "5:66: tasks[0].services[0].ready must not be empty"),
    (
        "services: [{name: db, run: x, environment_variables: {A: 1}}]",
        '5:86: tasks[0].services[0].environment_variables.A must be a quoted string: write "1"',
    ),
    (
        f"services: [{', '.join(f'{{name: s{i}, run: x}}' for i in range(11))}]",
        "5:39: tasks[0].services must have at most 10 items",
    ),
    (
        "packages: [-y]",
        "5:40: tasks[0].packages[0] must have 1 to 200 letters, digits and + . _ : @ / = ~ -, beginning with",
    ),
    ("packages: ['a b']", "5:40: tasks[0].packages[0] must have 1 to 200 letters"),
    (f"packages: [{LONG}{LONG}x]", "5:40: tasks[0].packages[0] must have 1 to 200 letters"),
    ("repositories: {--x: y}", "5:49: tasks[0].repositories.--x must have 1 to 200 letters"),
    ("repositories: {x: ''}", "5:47: tasks[0].repositories.x must not be empty"),
    (
        "repositories: {x: --root=/}",
        "5:47: tasks[0].repositories.x must not begin with -, which would make it an option of the image's",
    ),
    ('repositories: {x: "a\\nb"}', "5:47: tasks[0].repositories.x must not hold control characters"),
    (f"exclusive: [{LONG}], matrix: {{v: [a]}}, needs: [a-a]", '"a-a" is a row of the task "a"; write a'),
]


@pytest.mark.parametrize(("fields", "error"), CASES)
def test_a_mistake_in_a_task_is_told(build_errors: Errors, fields: str, error: str) -> None:
    """One error, at its place."""
    errors = build_errors(f"  tasks: [{{name: a, run: x, {fields}}}]\n")
    assert len(errors) == 1, errors
    assert error in errors[0]


@pytest.mark.parametrize(
    ("defaults", "error"),
    [
        ("matrix: {v: [a, a]}", '5:35: "a" stands in v twice; remove one'),
        ("when: always", '5:25: task "a" needs no other, so when: always says nothing'),
        ("branches: [main]", "5:29: branches needs a repo; name one, or remove branches"),
        ("eager_trials: 2", '5:33: task "a" has eager_trials 2 but max_trials 1; raise max_trials to 2'),
        ("exclusive: [a, a]", '5:34: "a" stands in exclusive twice; remove one'),
        (
            "matrix: {v: [x/y, x+y]}",
            '5:27: task "a" with v: x/y and task "a" with v: x+y would both be named',
        ),
        ("services: [{name: run, run: x}]", "5:37: task_defaults.services[0].name must not be run"),
        ("needs: [a]", '5:19: unknown field "needs"'),
        ("run: x", '5:19: unknown field "run"'),
        ("run_file: x", '5:19: unknown field "run_file"'),
        ("script: x", '5:19: unknown field "script"'),
        ("name: x", '5:19: unknown field "name"'),
    ],
)
def test_a_mistake_in_task_defaults_is_told_there(build_errors: Errors, defaults: str, error: str) -> None:
    """Not at the tasks that take the value from there."""
    (found,) = build_errors(f"  task_defaults: {{{defaults}}}\n  tasks: [{{name: a, run: x}}]\n")
    assert error in found


def test_names_of_rows_and_tasks_are_unique(build_errors: Errors) -> None:
    """Told at the later one, with both."""
    spec = "  tasks: [{name: a, run: x, matrix: {v: [b]}}, {name: a-b, run: x}]\n"
    assert build_errors(spec) == [
        '5:55: task "a" with v: b and task "a-b" would both be named "a-b"; rename one'
    ]


def test_a_build_has_at_most_1000_tasks_after_expansion(build_errors: Errors) -> None:
    """Each task is within its limit."""
    values = ", ".join(f"a{number}" for number in range(251))
    tasks = ", ".join(f"{{name: t{number}, run: x}}" for number in range(4))
    spec = f"  task_defaults: {{matrix: {{v: [{values}]}}}}\n  tasks: [{tasks}]\n"
    assert build_errors(spec) == ["6:10: the matrices make 1004 tasks of these; a build has at most 1000"]
    assert build_errors(spec.replace(", a250", "")) == []


def test_a_full_task_is_valid(build_errors: Errors) -> None:
    """Every field, once; also those that are only right together."""
    assert (
        build_errors(
            REPO
            + """\
  task_defaults:
    matrix: {python: ["3.11", "3.12"], db: [sqlite, "post/gres"], exclude: [{python: "3.11", db: "post/gres"}]}
    retry_on: [failed, timeout]
  tasks:
    - name: lint
      run: make lint
      matrix: {}
      retry_on: []
    - name: test
      needs: [lint]
      when: always
      ignore_failure: true
      branches: [main, "feature/*"]
      tags: ["v*"]
      script: ci/test.sh
      traits: [linux]
      image: docker.io/library/python:3.12
      network: none
      load: 0.5
      priority: -100
      exclusive: [db, other]
      max_trials: 3
      lost_retries: 0
      retry_delay_seconds: 3600
      timeout_seconds: 60
      environment_variables: {A: b}
      attachments: ["dist/*"]
      cache:
        - {key: "pip-{files:constraints.txt}-{files:**/*.lock}", paths: [.cache/pip, build/]}
        - {key: plain, paths: [x]}
      services:
        - {name: db, image: "docker.io/library/postgres:16", ready: pg_isready}
        - {name: web, run: ./serve, environment_variables: {PORT: "80"}}
      packages: [g++, libssl-dev=3.0~1, python3.11]
      repositories: {universe: "deb http://e.org/ stable main"}
    - {name: eager, run: x, max_trials: 20, eager_trials: 20}
"""
        )
        == []
    )


def test_effective_tasks_have_everything_merged() -> None:
    """Needed tasks first; own values over the defaults over the built-in."""
    spec = {
        "timeout_seconds": 100,
        "environment_variables": {"A": "b", "B": "b"},
        "task_defaults": {
            "max_trials": 3,
            "environment_variables": {"B": "d", "C": "d"},
            "repositories": {"x": "d", "y": "d"},
        },
        "tasks": [
            {
                "name": "z",
                "needs": ["y"],
                "run": "z",
                "environment_variables": {"C": "t"},
                "repositories": {"y": "t"},
                "timeout_seconds": 5,
            },
            {"name": "y", "needs": [], "script": "y", "max_trials": 1},
            {"name": "x", "needs": [], "run": "x"},
        ],
    }
    tasks = effective_tasks(spec)
    assert [task["name"] for task in tasks] == ["y", "z", "x"]
    assert [task["max_trials"] for task in tasks] == [1, 3, 3]
    assert [task["timeout_seconds"] for task in tasks] == [100, 5, 100]
    assert tasks[1]["environment_variables"] == {"A": "b", "B": "d", "C": "t"}
    assert tasks[1]["repositories"] == {"x": "d", "y": "t"}


def test_an_effective_task_has_every_field() -> None:
    """Those that say nothing have the built-in values."""
    (task,) = effective_tasks({"timeout_seconds": 60, "tasks": [{"name": "a", "needs": [], "run": "x"}]})
    assert task == {
        "name": "a", "task": "a", "matrix": {}, "needs": [], "when": "passed", "ignore_failure": False,
        "branches": [], "tags": [], "traits": [], "image": None, "network": None, "load": 1, "priority": 0,
        "exclusive": [], "max_trials": 1, "lost_retries": 2, "eager_trials": 1,
        "retry_on": ["failed", "timeout", "defective"], "retry_delay_seconds": 0, "timeout_seconds": 60,
        "environment_variables": {}, "secrets": [], "attachments": [], "cache": [], "services": [], "packages": [],
        "repositories": {}, "run": "x", "run_file": None, "script": None,
    }  # fmt: skip


def test_every_field_of_a_task_has_a_built_in_value() -> None:
    """Or a task would be given out without it."""
    from specs.task import Task

    assert set(Task.model_fields) - {"name"} == set(built_in({}))


def test_rows_stand_in_for_their_task_where_it_is_needed() -> None:
    """In the order of the axes; each after all that it needs."""
    spec: dict[str, Any] = {
        "task_defaults": {"matrix": {"exclude": [], "v": ["1", "2"]}},
        "tasks": [
            {"name": "pack", "needs": ["test", "lint"], "run": "x", "matrix": {"exclude": []}},
            {"name": "lint", "needs": [], "run": "x"},
            {
                "name": "test",
                "needs": ["lint"],
                "run": "x",
                "matrix": {
                    "exclude": [{"py": "3.11", "db": "a/b"}],
                    "py": ["3.11", "3.12"],
                    "db": ["c", "a/b"],
                },
            },
        ],
    }
    tasks = {task["name"]: task for task in effective_tasks(spec)}
    lint, test = ["lint-1", "lint-2"], ["test-3.11-c", "test-3.12-c", "test-3.12-a_b"]
    assert [*lint, *test, "pack"] == list(tasks)
    assert [[], [], lint, lint, lint, [*test, *lint]] == [task["needs"] for task in tasks.values()]
    assert tasks["test-3.12-a_b"]["matrix"] == {"py": "3.12", "db": "a/b"}
    assert [task["task"] for task in tasks.values()] == ["lint", "lint", "test", "test", "test", "pack"]
    assert tasks["pack"]["matrix"] == {}
