"""From a job of a project configuration to its specification (cider-ci, sections 5 and 6): contexts, defaults,
generated tasks, and every field that a trial is run by.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import pytest

from specs.configuration import read
from specs.configuration_faults import BadConfiguration
from specs.configuration_tasks import MOST_TASKS, MOST_TRIED
from specs.configuration_work import MOST_SCRIPTS, described, work


def specification(text: str, paths: Sequence[str] = (), **files: str) -> dict[str, Any]:
    """The specification of the job `unit`, given the text below its key."""
    whole = "jobs:\n  unit:\n" + textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    encoded = {"cider-ci.yml": whole.encode()} | {path: content.encode() for path, content in files.items()}
    return work(read(encoded.get).jobs["unit"], paths)


def tasks(text: str, paths: Sequence[str] = (), **files: str) -> dict[str, dict[str, Any]]:
    """Its tasks by name, in order."""
    return {task["name"]: task for task in specification(text, paths, **files)["tasks"]}


def scripts(text: str, paths: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The scripts of its only task by name."""
    (task,) = tasks(text, paths).values()
    return {script["name"]: script for script in task["scripts"]}


def refusal(text: str, paths: Sequence[str] = ()) -> list[str]:
    """The faults of a job that is defective."""
    with pytest.raises(BadConfiguration) as refused:
        specification(text, paths)
    return [str(fault) for fault in refused.value.faults]


def test_the_smallest_job_has_all_defaults() -> None:
    assert specification("task: make test") == {
        "tasks": [
            {
                "key": "0",
                "name": "0",
                "description": None,
                "scripts": [
                    {
                        "name": "main",
                        "title": "main",
                        "description": None,
                        "run": "make test",
                        "start_when": [],
                        "terminate_when": [],
                        "timeout_seconds": 180,
                        "environment_variables": {},
                        "template_environment_variables": True,
                        "ignore_abort": False,
                        "ignore_state": False,
                        "exclusive": None,
                    }
                ],
                "directory": "workspace",
                "completed_by": None,
                "max_trials": 2,
                "eager_trials": 1,
                "aggregate": "satisfy-any",
                "lost_retries": 2,
                "timeout_seconds": None,
                "load": 1.0,
                "traits": [],
                "exclusive": [],
                "priority": 0,
                "dispatch_storm_delay_seconds": 1,
                "environment_variables": {},
                "image": None,
                "packages": [],
                "repositories": {},
                "secrets": [],
                "attachments": [],
                "trial_attachments": [],
                "tree_attachments": [],
                "result": "result.json",
            }
        ],
        "timeout_seconds": None,
        "configuration": {
            "file": "cider-ci.yml",
            "key": "unit",
            "name": "unit",
            "description": None,
            "priority": 0,
        },
    }


def test_every_field_of_a_task_arrives() -> None:
    found = tasks("""
        task:
          key: t
          name: the task
          description: what it does
          aggregate_state: satisfy-last
          max_trials: 5
          eager_trials: 2
          priority: -1
          load: 2
          traits: {linux: true, mac: false, jvm: true}
          exclusive_global_resources: {db: true, gpu: false}
          dispatch_storm_delay_duration: 2 seconds
          trial_attachments:
            logs: {include_match: '\\.log$', exclude_match: ^old/, content_type: text/plain}
          tree_attachments:
            pack: {include_match: '^dist/', content_type: application/gzip}
          body: make
    """)["the task"]
    expected = {
        "key": "t",
        "description": "what it does",
        "aggregate": "satisfy-last",
        "max_trials": 5,
        "eager_trials": 2,
        "priority": -1,
        "load": 2.0,
        "traits": ["linux", "jvm"],
        "exclusive": ["db"],
        "dispatch_storm_delay_seconds": 2,
        "trial_attachments": [
            {"include_match": "\\.log$", "exclude_match": "^old/", "content_type": "text/plain"}
        ],
        "tree_attachments": [
            {"include_match": "^dist/", "exclude_match": None, "content_type": "application/gzip"}
        ],
    }
    assert expected == {name: found[name] for name in expected}


def test_every_field_of_a_script_arrives() -> None:
    found = scripts("""
        task:
          scripts:
            setup: prepare
            main:
              key: work
              name: The work
              description: what it does
              body: |
                #!/usr/bin/env python3
                print(1)
              timeout: 2 minutes and 30 seconds
              start_when:
                ready: {script_key: setup}
                up: {script_key: server, states: [executing, passed, executing]}
              terminate_when:
                over: {script_key: setup, states: [failed]}
              exclusive_executor_resource: port-80
              ignore_abort: true
              ignore_state: true
              template_environment_variables: false
              environment_variables: {a: '{{B}}', B: b}
    """)
    assert list(found) == ["setup", "work"]
    assert found["work"] == {
        "name": "work",
        "title": "The work",
        "description": "what it does",
        "run": "#!/usr/bin/env python3\nprint(1)\n",
        "timeout_seconds": 150,
        "start_when": [
            {"script": "setup", "states": ["passed"]},
            {"script": "server", "states": ["executing", "passed"]},
        ],
        "terminate_when": [{"script": "setup", "states": ["failed"]}],
        "exclusive": "port-80",
        "ignore_abort": True,
        "ignore_state": True,
        "template_environment_variables": False,
        "environment_variables": {"A": "{{B}}", "B": "b"},
    }


@pytest.mark.parametrize(
    "text", ["{}", "tasks: {}", "context: {}", "contexts: {a: {}}", "task_defaults: {body: x}"]
)
def test_case_17_a_job_may_have_no_tasks(text: str) -> None:
    assert specification(text)["tasks"] == []


def test_case_29_a_condition_on_an_unknown_script_is_carried_on() -> None:
    found = scripts("""
        task:
          scripts:
            main: 'true'
            never: {body: x, start_when: {a: {script_key: gone}}, ignore_state: true}
    """)
    assert found["never"]["start_when"] == [{"script": "gone", "states": ["passed"]}]
    assert (found["main"]["ignore_state"], found["never"]["ignore_state"]) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "task: x",
        "tasks: {'0': x}",
        "task: {body: x}",
        "task: {scripts: {main: x}}",
        "task: {scripts: {main: {body: x}}}",
        "context: {tasks: {'0': {scripts: {main: {body: x}}}}}",
        "contexts: {any: {tasks: {'0': x}}}",
        "{task: {}, task_defaults: {body: x}}",
        "{task: {scripts: {main: {}}}, script_defaults: {body: x}}",
    ],
)
def test_all_notations_mean_the_same(text: str) -> None:
    assert specification("task: x") == specification(text)


def test_defaults_go_from_outer_to_inner() -> None:
    found = tasks("""
        task_defaults: {load: 2, max_trials: 9, traits: {linux: true, jvm: true}}
        script_defaults: {timeout: 1 minute, ignore_abort: true}
        tasks: {outer: x}
        contexts:
          first:
            task_defaults: {max_trials: 3, traits: {jvm: false}}
            script_defaults: {timeout: 2 minutes}
            tasks:
              inner: {load: 3, body: x}
              own: {script_defaults: {timeout: 3 minutes}, scripts: {a: x, b: {body: x, timeout: 4 minutes}}}
          second:
            tasks: {beside: x}
    """)

    def seen(name: str) -> tuple[float, int, list[str], list[int]]:
        task = found[name]
        return (
            task["load"],
            task["max_trials"],
            task["traits"],
            [script["timeout_seconds"] for script in task["scripts"]],
        )

    assert list(found) == ["beside", "inner", "outer", "own"]
    assert seen("outer") == (2, 9, ["linux", "jvm"], [60])
    assert seen("inner") == (3, 3, ["linux"], [120])
    assert seen("own") == (2, 3, ["linux"], [180, 240])
    assert seen("beside") == (2, 9, ["linux", "jvm"], [60])
    assert all(script["ignore_abort"] for task in found.values() for script in task["scripts"])


def test_script_defaults_of_task_defaults_are_over_those_of_the_context() -> None:
    found = scripts("""
        script_defaults: {timeout: 1 minute, ignore_abort: true}
        task_defaults: {script_defaults: {timeout: 2 minutes}}
        task: {script_defaults: {ignore_abort: false}, scripts: {main: x}}
    """)["main"]
    assert (found["timeout_seconds"], found["ignore_abort"]) == (120, False)


def test_scripts_of_defaults_and_of_the_task_are_merged() -> None:
    found = scripts("""
        task_defaults:
          scripts:
            setup: ./setup
            main: {body: ./test, start_when: {ready: {script_key: setup}}}
        task: {scripts: {main: {timeout: 1 hour}, teardown: ./teardown}}
    """)
    assert {name: script["run"] for name, script in found.items()} == {
        "setup": "./setup",
        "main": "./test",
        "teardown": "./teardown",
    }
    assert (found["main"]["timeout_seconds"], len(found["main"]["start_when"])) == (3600, 1)


def test_required_parts_may_come_from_defaults() -> None:
    found = tasks("""
        task_defaults: {trial_attachments: {logs: {content_type: text/plain}}}
        task: {body: x, trial_attachments: {logs: {include_match: log}}}
    """)["0"]
    assert found["trial_attachments"] == [
        {"include_match": "log", "exclude_match": None, "content_type": "text/plain"}
    ]


def test_equal_names_get_their_contexts() -> None:
    found = tasks("""
        tasks: {test: x, lint: x}
        contexts:
          ruby: {name: Ruby 3, tasks: {test: x}, contexts: {jit: {tasks: {test: x, only: x}}}}
    """)
    assert set(found) == {"test", "lint", "Ruby 3 » test", "Ruby 3 » jit » test", "only"}


def test_tasks_are_in_the_order_of_their_names() -> None:
    """Those of one job are tried in this order (5.7)."""
    assert list(tasks("tasks: {b: x, a: x, C: x}")) == ["C", "a", "b"]


def test_names_that_stay_equal_are_refused() -> None:
    told = refusal("""
        context:
          tasks: {a: {name: same, body: x}, b: {name: same, body: x}, c: x}
    """)
    assert told == [
        'jobs → unit → context → tasks → a: another task of the job is named "same" too; choose another name',
        'jobs → unit → context → tasks → b: another task of the job is named "same" too; choose another name',
    ]


def test_scripts_with_one_key_are_refused() -> None:
    told = refusal("task: {scripts: {a: x, b: {key: a, body: y}}}")
    assert told == ['jobs → unit → task → scripts → b: another script of the task has the key "a" too']


PATHS = ["spec/b_spec.rb", "spec/a_spec.rb", "lib/a.rb", "spec/slow/c_spec.rb", "spec/evil\n_spec.rb"]


def test_a_task_is_generated_for_each_matching_file() -> None:
    found = tasks(
        """
        generate_tasks: {include_match: ^spec/.*_spec, exclude_match: /slow/}
        task_defaults: {body: rspec $CIDER_CI_TASK_FILE, load: 2}
        """,
        PATHS,
    )
    assert list(found) == ["spec/a_spec.rb", "spec/b_spec.rb"]
    for path, task in found.items():
        assert (path, 2, path) == (
            task["key"],
            task["load"],
            task["scripts"][0]["environment_variables"]["CIDER_CI_TASK_FILE"],
        )


def test_tasks_of_the_same_name_are_merged_over_generated_ones() -> None:
    found = tasks(
        """
        generate_tasks: {include_match: _spec}
        task_defaults: {body: rspec $CIDER_CI_TASK_FILE}
        tasks:
          spec/a_spec.rb: {load: 3, environment_variables: {MORE: '1'}}
          other: {name: spec/b_spec.rb, load: 4}
          lint: make lint
        """,
        PATHS[:3],
    )
    assert {name: t["load"] for name, t in found.items()} == {
        "spec/a_spec.rb": 3,
        "spec/b_spec.rb": 4,
        "lint": 1,
    }
    variables = {name: task["scripts"][0]["environment_variables"] for name, task in found.items()}
    assert variables == {
        "spec/a_spec.rb": {"CIDER_CI_TASK_FILE": "spec/a_spec.rb", "MORE": "1"},
        "spec/b_spec.rb": {"CIDER_CI_TASK_FILE": "spec/b_spec.rb"},
        "lint": {},
    }


def test_generated_tasks_are_the_same_whatever_the_order_of_files() -> None:
    text = "{generate_tasks: {include_match: .}, task_defaults: {body: x}}"
    assert specification(text, PATHS) == specification(text, PATHS[::-1])


def test_generated_tasks_without_a_script_are_refused() -> None:
    assert refusal("generate_tasks: {include_match: lib}", PATHS) == [
        "jobs → unit → generate_tasks: has no script; write `body` or `scripts`"
    ]


def test_tasks_and_scripts_are_limited() -> None:
    generated = "{generate_tasks: {include_match: .}, task_defaults: %s}"
    many = [f"f{n}" for n in range(MOST_TASKS + 1)]
    assert [f"jobs → unit: has more than {MOST_TASKS} tasks"] == refusal(generated % "{body: x}", many)
    six = "{scripts: {a: x, b: x, c: x, d: x, e: x, f: x}}"
    assert [f"jobs → unit: has more than {MOST_SCRIPTS} scripts"] == refusal(generated % six, many[:-1])
    large = "{body: x, environment_variables: {A: %s}}" % ("y" * 20_000)
    assert "characters in its scripts" in refusal(generated % large, many[:-1])[0]
    assert (
        "`generate_tasks` would look at more than" in refusal(generated % "{}", ["f"] * (MOST_TRIED + 1))[0]
    )


def test_files_are_not_looked_at_without_a_rule() -> None:
    assert len(specification("task: x", ["f"] * (MOST_TRIED + 1))["tasks"]) == 1


def test_a_script_has_all_variables_of_its_task() -> None:
    found = scripts("""
        task_defaults: {environment_variables: {a: default, b: default, gone: x}}
        script_defaults: {environment_variables: {S: script default}}
        task:
          environment_variables: {B: task, gone: null, C: '{{A}}/{{s}}/{{CIDER_CI_JOB_ID}}'}
          scripts:
            one: x
            two: {body: x, environment_variables: {b: own, A: null, D: '{{C}}'}}
    """)
    assert found["one"]["environment_variables"] == {
        "A": "default",
        "B": "task",
        "C": "default/script default/{{CIDER_CI_JOB_ID}}",
        "S": "script default",
    }
    assert found["two"]["environment_variables"] == {
        "B": "own",
        "C": "{{A}}/script default/{{CIDER_CI_JOB_ID}}",
        "D": "{{A}}/script default/{{CIDER_CI_JOB_ID}}",
        "S": "script default",
    }


def test_variables_without_an_end_name_their_script() -> None:
    told = refusal("task: {scripts: {a: {body: x, environment_variables: {A: '{{A}}x'}}}}")
    assert told[0].startswith("jobs → unit → task → scripts → a → environment_variables: ")


def test_what_a_faulty_job_keeps() -> None:
    job = read({"cider-ci.yml": b"jobs: {unit: {name: U, description: d, priority: 3, task: 5}}"}.get).jobs[
        "unit"
    ]
    assert described(job) == {
        "file": "cider-ci.yml",
        "key": "unit",
        "name": "U",
        "description": "d",
        "priority": 3,
    }


def test_jobs_that_differ_in_their_key_only_have_different_specifications() -> None:
    jobs = read({"cider-ci.yml": b"jobs: {a: {task: x}, b: {task: x}}"}.get).jobs
    assert work(jobs["a"]) != work(jobs["b"])


RAILS = """
name: Leihs
jobs:
  tests:
    name: All tests
    description: Runs all the tests; depends on the code check.
    depends_on:
      code-check: {type: job, job_key: code-check, states: [passed]}
    run_when:
      'code check has passed': {type: job, job_key: code-check, states: [passed]}
    context:
      task_defaults:
        include: cider-ci/task-defaults.yml
        max_trials: 3
      script_defaults: {timeout: 20 minutes}
      contexts:
        rspec:
          generate_tasks: {include_match: '^spec/.*_spec\\.rb$'}
        cucumber:
          task_defaults: {load: 2, scripts: {test: {body: {read_and_replace_with: cider-ci/cucumber.sh}}}}
          generate_tasks: {include_match: '^features/.*\\.feature$', exclude_match: '/wip/'}
          tasks:
            features/slow.feature: {max_trials: 5, script_defaults: {timeout: 1 hour}}
  code-check:
    name: Code check
    priority: 5
    run_when:
      'some branch': {type: branch, include_match: '^.*$', exclude_match: '^dependabot/'}
    task: ./bin/check
  nightly:
    run_when:
      'every night': {type: cron, value: 0 3 * * ?, branch_include_match: ^master$, rerun: true}
    tasks:
      deploy:
        traits: {deploy: true}
        exclusive_global_resources: {staging: true}
        scripts:
          server:
            body: ./serve
            terminate_when: {done: {script_key: test, states: [passed, failed]}}
            ignore_state: true
          test: {body: ./deploy && ./probe, start_when: {up: {script_key: server, states: [executing]}}}
"""  # fmt: skip
DEFAULTS = """
traits: {Ruby: true, Postgresql: true}
environment_variables:
  RAILS_ENV: test
  DB_NAME: 'leihs_{{CIDER_CI_TRIAL_ID}}'
  DATABASE_URL: 'postgresql:///{{DB_NAME}}'
scripts:
  create-db: {include: cider-ci/create-db.yml}
  test:
    body: bundle exec rspec "$CIDER_CI_TASK_FILE"
    start_when: {db: {script_key: create-db}}
  drop-db:
    body: dropdb "$DB_NAME"
    start_when: {over: {script_key: test, states: [passed, failed, aborted, skipped, defective]}}
    ignore_abort: true
    ignore_state: true
trial_attachments:
  logs: {include_match: '^log/.*\\.log$', content_type: text/plain}
"""


def test_a_configuration_as_teams_have_it() -> None:
    files = {
        ".cider-ci.yml": RAILS,
        "cider-ci/task-defaults.yml": DEFAULTS,
        "cider-ci/create-db.yml": "{body: createdb $DB_NAME, timeout: 1 minute, exclusive_executor_resource: postgres}",
        "cider-ci/cucumber.sh": "\nbundle exec cucumber $CIDER_CI_TASK_FILE\n",
    }
    paths = [
        *files,
        "spec/models/a_spec.rb",
        "features/a.feature",
        "features/slow.feature",
        "features/wip/b.feature",
    ]
    found = read({path: text.encode() for path, text in files.items()}.get)
    assert [str(fault) for job in found.jobs.values() for fault in job.faults] == []
    of_tests = {task["name"]: task for task in work(found.jobs["tests"], paths)["tasks"]}
    assert list(of_tests) == ["features/a.feature", "features/slow.feature", "spec/models/a_spec.rb"]
    assert [(task["max_trials"], task["load"]) for task in of_tests.values()] == [(3, 2), (5, 2), (3, 1)]
    create, test, drop = of_tests["features/slow.feature"]["scripts"]
    assert (test["run"], test["timeout_seconds"]) == ("bundle exec cucumber $CIDER_CI_TASK_FILE", 3600)
    assert (
        create["run"],
        create["timeout_seconds"],
        create["exclusive"],
    ) == ("createdb $DB_NAME", 60, "postgres")
    assert (
        drop["ignore_abort"],
        drop["ignore_state"],
        len(drop["start_when"][0]["states"]),
    ) == (True, True, 5)
    assert drop["environment_variables"]["DATABASE_URL"] == "postgresql:///leihs_{{CIDER_CI_TRIAL_ID}}"
    assert [s["run"] for task in work(found.jobs["code-check"])["tasks"] for s in task["scripts"]] == [
        "./bin/check"
    ]
    assert [(task["traits"], task["exclusive"]) for task in work(found.jobs["nightly"])["tasks"]] == [
        (["deploy"], ["staging"])
    ]


def test_a_name_that_no_index_takes() -> None:
    """Of a task with all contexts around it."""
    text = f"{{tasks: {{{'t' * 490}: 'true'}}}}"
    for letter in "abcd":
        text = f"{{contexts: {{{letter * 490}: {text}, twin {letter}: {{tasks: {{{'t' * 490}: 'true'}}}}}}}}"
    fault = refusal(text)[0]
    assert "has a name of more than 2000 bytes" in fault
