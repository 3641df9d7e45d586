"""Project configurations (cider-ci, section 6): which file counts, what spoils the whole, what one job only."""

from __future__ import annotations

import itertools
import json
import textwrap
from typing import Any

import pytest

from specs.configuration import FILES, Configuration, read
from specs.configuration_conditions import BranchCondition, CronCondition, JobCondition
from specs.configuration_faults import MOST_FAULTS, BadConfiguration, NoConfiguration
from specs.configuration_work import work


def reading(text: str, **more: str) -> Configuration:
    """The configuration of a tree with this cider-ci.yml."""
    files = {"cider-ci.yml": text, **more}
    encoded = {path: textwrap.dedent(content).encode() for path, content in files.items()}
    return read(encoded.get)


def refusal(text: str) -> list[str]:
    """The faults of a configuration that is refused as a whole."""
    with pytest.raises(BadConfiguration) as refused:
        reading(text)
    return [str(fault) for fault in refused.value.faults]


def job_faults(text: str, key: str = "unit") -> list[str]:
    """The faults of one job of a configuration that is read."""
    return [str(fault) for fault in reading(text).jobs[key].faults]


def test_the_names_are_sought_in_the_order_of_the_contract() -> None:
    versioned = ["cider-ci_v5.yml", ".cider-ci_v5.yml", "cider-ci_v5.json", ".cider-ci_v5.json"]
    plain = ["cider-ci.yml", ".cider-ci.yml", "cider-ci.json", ".cider-ci.json"]
    assert [*versioned, *(name.replace("5", "4") for name in versioned), *plain] == list(FILES)


@pytest.mark.parametrize(("first", "second"), itertools.pairwise(FILES))
def test_the_first_file_that_is_there_counts(first: str, second: str) -> None:
    files = {first: b'{"jobs": {"mine": {"task": "x"}}}', second: b"not: {even: yaml"}
    assert (first, ["mine"]) == (read(files.get).file, list(read(files.get).jobs))


def test_a_tree_without_a_file_has_no_configuration() -> None:
    with pytest.raises(NoConfiguration) as refused:
        read({"README": b"x"}.get)
    assert "no project configuration" in str(refused.value)


def test_yaml_and_json_say_the_same() -> None:
    value = {"name": "demo", "jobs": {"unit": {"task": {"body": "make ✓", "load": 0.5, "max_trials": 3}}}}
    as_json = read({"cider-ci.json": json.dumps(value).encode()}.get)
    as_yaml = read({"cider-ci.yml": json.dumps(value, ensure_ascii=False).encode()}.get)
    assert as_yaml.jobs["unit"].context == as_json.jobs["unit"].context
    assert work(as_yaml.jobs["unit"])["tasks"] == work(as_json.jobs["unit"])["tasks"]


def test_a_whole_configuration_is_read() -> None:
    found = reading("""
        name: Demo
        description: what it is
        jobs:
          unit:
            name: Unit tests
            description: fast ones
            priority: 7
            run_when:
              any branch: {type: branch, include_match: '^.*$', exclude_match: '^wip/'}
              after lint: {type: job, job_key: lint, states: [passed, failed]}
              nightly: {type: cron, value: '0 3 * * ?', branch_include_match: ^master$, rerun: true}
            depends_on:
              lint: {type: job, job_key: lint, states: [passed]}
              released: {type: branch, include_match: true}
            task: make test
          lint: {task: make lint}
    """)
    assert (found.file, found.name, found.description) == ("cider-ci.yml", "Demo", "what it is")
    assert list(found.jobs) == ["unit", "lint"]
    unit = found.jobs["unit"]
    assert (unit.name, unit.description, unit.priority, unit.faults) == ("Unit tests", "fast ones", 7, ())
    assert unit.run_when == (
        BranchCondition("any branch", "^.*$", "^wip/"),
        JobCondition("after lint", "lint", ("passed", "failed")),
        CronCondition("nightly", "0 3 * * ?", "^master$", None, True),
    )
    assert unit.depends_on == (
        JobCondition("lint", "lint", ("passed",)),
        BranchCondition("released", True, None),
    )
    lint = found.jobs["lint"]
    assert (
        lint.name, lint.description, lint.priority, lint.run_when, lint.depends_on,
    ) == ("lint", None, 0, (), ())  # fmt: skip


PROJECT_FAULTS = {
    "": "cider-ci.yml: the file is empty",
    "[]": "must be a map, not a list",
    "text": "must be a map, not a text",
    "{}": "`jobs` is missing",
    "jobs:": "jobs: must be a map, not nothing",
    "jobs: [a]": "jobs: must be a map, not a list",
    "{jobs: {}, job: {}}": 'unknown key "job"; did you mean "jobs"?',
    "{jobs: {}, name: 5}": "name: must be a text, not a number; put it in quotes",
    "{jobs: {}, name: ''}": "name: must be one line of 1 to 500 characters",
    "{jobs: {}, description: [a]}": "description: must be a text, not a list",
    "jobs: {a: {task: x}": "cider-ci.yml:2:1: not valid YAML",
    "jobs: {a: x, a: y}": 'cider-ci.yml:1:14: "a" stands here twice; keep one',
    "jobs: {1: {task: x}}": "cider-ci.yml:1:8: a key must be text",
    "a: &a {x: 1}\njobs: {b: {<<: *a}}": "merge keys (<<) are not allowed",
    "jobs: !!map {}": "tags are not allowed",
    "jobs: {}\n---\njobs: {}": "cider-ci.yml:3:1: a second document begins here",
    "jobs: " + "[" * 60 + "]" * 60: "nested deeper than 50 levels",
    "a: &a [1,1]\nb: [" + "*a," * 25 + "]\njobs: {}": "more than 20 aliases",
    "jobs: {a: {include: gone.yml}}\nx: 1": 'unknown key "x"',
    "include: gone.yml": "include: gone.yml: there is no such file in the tree",
    "jobs: {include: gone.yml}": "jobs → include: gone.yml: there is no such file in the tree",
}


@pytest.mark.parametrize("text", PROJECT_FAULTS)
def test_a_fault_above_the_jobs_refuses_the_configuration(text: str) -> None:
    assert PROJECT_FAULTS[text] in " | ".join(refusal(text))


JSON_FAULTS = {
    b'{"jobs": {}': "cider-ci.json:1:12: not valid JSON",
    b'{"jobs": {}, "jobs": {}}': '"jobs" stands in an object twice',
    b'{"jobs": NaN}': "NaN is no JSON number",
    b'{"jobs": 1e999}': "too large",
    b'{"jobs": 9999999999999999999999}': "does not fit 64 bits",
    b'{"jobs": ' + b"9" * 5000 + b"}": "does not fit 64 bits",
    b'{"jobs": {"a": {"task": "\\ud800"}}}': "half of a character",
    b'{"jobs": ' + b"[" * 60 + b"]" * 60 + b"}": "nested deeper than 50 levels",
    b"[" * 100_000: "nested deeper than 50 levels",
    b"": "not valid JSON",
    b"jobs: {}": "not valid JSON",
    b"\xff\xfe{}": "not UTF-8",
    b'{"jobs": "\x00"}': "NUL character",
    b" " * (1024 * 1024 + 1): "the limit is 1048576",
}


@pytest.mark.parametrize("data", JSON_FAULTS, ids=range(len(JSON_FAULTS)))
def test_json_that_cannot_be_read_is_told(data: bytes) -> None:
    with pytest.raises(BadConfiguration) as refused:
        read({"cider-ci.json": data}.get)
    assert JSON_FAULTS[data] in str(refused.value)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert list(read({"cider-ci.yml": b"\xef\xbb\xbfjobs: {a: {task: x}}"}.get).jobs) == ["a"]


def test_a_fault_inside_a_job_harms_that_job_only() -> None:
    found = reading("""
        jobs:
          unit: {name: Unit, priority: high, run_when: {b: {type: branch, include_match: true}}, task: {bodi: x}}
          lint: {task: make lint}
    """)
    unit = found.jobs["unit"]
    assert [str(fault) for fault in unit.faults] == [
        "jobs → unit → priority: must be a whole number, not a text",
        'jobs → unit → task: unknown key "bodi"; did you mean "body"?',
    ]
    assert (unit.name, unit.priority, unit.context) == ("Unit", 0, {})
    assert unit.run_when == (BranchCondition("b", True, None),)
    with pytest.raises(BadConfiguration) as refused:
        work(unit)
    assert unit.faults == refused.value.faults
    assert [script["run"] for script in work(found.jobs["lint"])["tasks"][0]["scripts"]] == ["make lint"]


def test_a_job_keeps_those_of_its_conditions_that_are_valid() -> None:
    unit = reading("""
        jobs:
          unit:
            task: x
            run_when:
              good: {type: branch, include_match: ^a}
              bad: {type: branch, include_match: '('}
            depends_on: nothing
    """).jobs["unit"]
    assert [condition.name for condition in unit.run_when] == ["good"]
    assert unit.depends_on == ()
    assert len(unit.faults) == 2


def test_a_job_with_more_faults_than_are_kept_is_read() -> None:
    conditions = ", ".join(f"c{n}: {{type: job}}" for n in range(MOST_FAULTS + 5))
    text = f"{{run_when: {{{conditions}, good: {{type: branch}}}}, name: 5, priority: x, task: x}}"
    unit = reading(f"jobs: {{unit: {text}}}").jobs["unit"]
    assert [condition.name for condition in unit.run_when] == ["good"]
    assert (unit.name, unit.priority, len(unit.faults)) == ("unit", 0, MOST_FAULTS + 1)
    assert str(unit.faults[-1]) == "jobs → unit: there are more faults than these"


def test_the_chain_of_keys_leads_to_the_fault() -> None:
    text = "jobs: {unit: {context: {tasks: {a: {scripts: {main: {bodi: x}}}}}}}"
    assert job_faults(text) == [
        'jobs → unit → context → tasks → a → scripts → main: unknown key "bodi"; did you mean "body"?'
    ]


def test_what_is_included_in_a_job_can_spoil_that_job_only() -> None:
    found = reading("jobs: {unit: {include: gone.yml}, lint: {task: x}}")
    assert [str(fault) for fault in found.jobs["unit"].faults] == [
        "jobs → unit → include: gone.yml: there is no such file in the tree"
    ]
    assert found.jobs["lint"].faults == ()


def test_faults_are_told_up_to_a_number() -> None:
    keys = ", ".join(f"key{n}: 1" for n in range(MOST_FAULTS + 1))
    told = refusal(f"{{jobs: {{}}, {keys}}}")
    assert (len(told), told[-1]) == (MOST_FAULTS + 1, "there are more faults than these")


@pytest.mark.parametrize(("expression", "number"), [("a%d", 1001), (r"\\w{50}%d", 20)])
def test_there_may_be_only_so_many_expressions(expression: str, number: int) -> None:
    rules = {f"r{n}": {"include_match": expression % n, "content_type": "x"} for n in range(number)}
    text = json.dumps({"jobs": {"unit": {"task": {"body": "x", "trial_attachments": rules}}}})
    assert refusal(text)[0].startswith("has too many regular expressions, or too large ones")


def test_there_may_be_only_so_many_jobs() -> None:
    jobs = ", ".join(f"j{n}: {{}}" for n in range(501))
    assert refusal(f"jobs: {{{jobs}}}") == ["jobs: must be at most 500"]


CONDITION = "jobs: {unit: {task: x, run_when: {c: %s}}}"
DEPENDENCY = "jobs: {unit: {task: x, depends_on: {c: %s}}}"
JOB = "jobs: {unit: %s}"
TASK = "jobs: {unit: {task: %s}}"
SCRIPT = "jobs: {unit: {task: {scripts: {main: %s}}}}"

VALID = [
    (JOB, "{}"),
    (JOB, "{tasks: {}}"),
    (JOB, "{key: unit, name: Unit, description: '', priority: -3, context: {}}"),
    (JOB, "{context: {name: C, key: c, tasks: {a: x}, contexts: {d: {tasks: {a: y}}}}}"),
    (JOB, "{task_defaults: {body: x}, script_defaults: {timeout: 1 hour}, tasks: {a: {}, b: y}}"),
    (JOB, "{generate_tasks: {include_match: _spec, exclude_match: slow}}"),
    (TASK, "make"),
    (TASK, "{body: make, key: k, name: n, description: d}"),
    (TASK, "{body: x, aggregate_state: satisfy-last, max_trials: 5, eager_trials: 2, priority: 3, load: 0.1}"),
    (TASK, "{body: x, traits: {linux: true, mac: false}, exclusive_global_resources: {db: true}}"),
    (TASK, "{body: x, environment_variables: {A: b, c: null, D_1: ''}}"),
    (TASK, "{body: x, dispatch_storm_delay_duration: 500 milliseconds}"),
    (TASK, "{body: x, trial_attachments: {l: {include_match: log, exclude_match: old, content_type: text/x}}}"),
    (TASK, "{body: x, dispatch_storm_delay_duration: 1 hour}"),
    (TASK, "{body: x, tree_attachments: {l: {include_match: log, content_type: text/plain}}}"),
    (TASK, "{body: x, tree_attachments: {l: {include_match: l, content_type: text/html; charset=utf-8}}}"),
    (TASK, "{body: x, tree_attachments: {l: {include_match: l, content_type: application/vnd.a+json}}}"),
    (SCRIPT, "make"),
    (SCRIPT, "{body: make, key: k, name: n, description: d, timeout: 3 minutes}"),
    (SCRIPT, "{body: x, start_when: {a: {script_key: gone}, b: {script_key: y, states: [executing]}}}"),
    (SCRIPT, "{body: x, terminate_when: {a: {script_key: y, states: [passed, failed]}}}"),
    (SCRIPT, "{body: x, exclusive_executor_resource: db, ignore_abort: true, ignore_state: true}"),
    (SCRIPT, "{body: x, template_environment_variables: false, environment_variables: {A: '{{B}}'}}"),
    (CONDITION, "{type: job, job_key: other, states: [passed, failed, aborted, defective, pending]}"),
    (CONDITION, "{type: branch}"),
    (CONDITION, "{type: branch, include_match: '', exclude_match: false}"),
    (CONDITION, "{type: cron, value: '*/5 * ? * 1-5'}"),
    (CONDITION, "{type: cron, value: 0 3 * * *, branch_include_match: a, branch_exclude_match: b, rerun: true}"),
    (DEPENDENCY, "{type: job, job_key: other, states: [passed]}"),
    (DEPENDENCY, "{type: branch, include_match: ^release/}"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "text"), VALID)
def test_what_the_contract_allows_has_no_faults(place: str, text: str) -> None:
    assert job_faults(place % text) == []
    work(reading(place % text).jobs["unit"])


INVALID = [
    (JOB, "text", "unit: must be a map, not a text"),
    (JOB, "[]", "unit: must be a map, not a list"),
    (JOB, "{key: other}", 'key: must be "unit", as in the map of jobs'),
    (JOB, "{name: 7}", "name: must be a text, not a number; put it in quotes"),
    (JOB, '{name: "a\\nb"}', "name: must be one line"),
    (JOB, "{priority: 1.5}", "priority: must be a whole number, not a number"),
    (JOB, "{priority: true}", "priority: must be a whole number, not true or false"),
    (JOB, "{priority: 99999999}", "priority: must be between"),
    (JOB, "{description: null}", "description: must be a text, not nothing"),
    (JOB, "{context: {}, tasks: {}}", "unit: has `tasks` beside `context`"),
    (JOB, "{context: {}, task_defaults: {}}", "unit: has `task_defaults` beside `context`"),
    (JOB, "{task: x, tasks: {}}", "unit: has `task` together with `tasks`; keep one"),
    (JOB, "{context: {task: x}}", 'context: unknown key "task"; write it as one of the `tasks`'),
    (JOB, "{context: []}", "context: must be a map, not a list"),
    (JOB, "{context: {subcontexts: {}}}", 'unknown key "subcontexts"; did you mean "contexts"?'),
    (JOB, "{tasks: [x]}", "tasks: must be a map, not a list"),
    (JOB, "{contexts: {a: {contexts: {b: 7}}}}", "contexts → a → contexts → b: must be a map, not a number"),
    (JOB, "{task_defaults: x}", "task_defaults: must be a map, not a text"),
    (JOB, "{task_defaults: {name: x}}", 'task_defaults: unknown key "name"'),
    (JOB, "{script_defaults: {key: x}}", 'script_defaults: unknown key "key"'),
    (JOB, "{generate_tasks: {}}", "generate_tasks: `include_match` is missing"),
    (JOB, "{generate_tasks: {include_match: true}}", "include_match: must be a regular expression as a text"),
    (JOB, "{generate_tasks: {include_match: x, submodule: [a]}}", "`submodule` is not yet carried out"),
    (JOB, "{run_when: []}", "run_when: must be a map, not a list"),
    (TASK, "null", "task: must be a text or a map, not nothing"),
    (TASK, "''", "task: must not be empty"),
    (TASK, "{}", "task: has no script"),
    (TASK, "{scripts: {}}", "has no script"),
    (TASK, "{body: x, scripts: {}}", "has `body` beside `scripts`"),
    (TASK, "{body: 5}", "body: must be a text, not a number; put it in quotes"),
    (TASK, "{body: x, timeout: 1 minute}", 'unknown key "timeout"; it is a key of a script'),
    (TASK, "{body: x, aggregate_state: satisfy-al}", '"satisfy-al" is not known here; did you mean "satisfy-'),
    (TASK, "{body: x, aggregate_state: true}", "aggregate_state: must be one of satisfy-any, satisfy-last"),
    (TASK, "{body: x, max_trials: 0}", "max_trials: must be between 1 and 100"),
    (TASK, "{body: x, max_trials: '2'}", "max_trials: must be a whole number, not a text"),
    (TASK, "{body: x, eager_trials: 0}", "eager_trials: must be between 1 and 100"),
    (TASK, "{body: x, load: 0}", "load: must be greater than 0"),
    (TASK, "{body: x, load: much}", "load: must be a number, not a text"),
    (TASK, "{body: x, traits: [linux]}", "traits: must be a map, not a list"),
    (TASK, "{body: x, traits: {linux: yes}}", "traits → linux: must be true or false, not a text"),
    (TASK, "{body: x, exclusive_global_resources: {db: 1}}", "db: must be true or false, not a number"),
    (TASK, "{body: x, environment_variables: {A: 1}}", "A: must be a text, not a number; put it in quotes"),
    (TASK, "{body: x, environment_variables: {A: true}}", "A: must be a text, not true or false; put it in"),
    (TASK, "{body: x, environment_variables: {a-b: x}}", '"a-b" is not a variable name'),
    (TASK, "{body: x, environment_variables: {a: x, A: y}}", "a and A are one variable; keep one"),
    (TASK, "{body: x, environment_variables: {Steersman_X: y}}", "are set by Steersman"),
    (TASK, '{body: x, environment_variables: {A: "\\0"}}', "A: must not hold a NUL character"),
    (TASK, "{body: x, environment_variables: {A: '{{A}}{{A}}'}}", "is replaced"),
    (TASK, "{body: x, ports: {P: {min: 1, max: 2}}}", "`ports` is not yet carried out by this version"),
    (TASK, "{body: x, templates: {t: {src: a, dest: b}}}", "`templates` is not yet carried out"),
    (TASK, "{body: x, git_options: {submodules: {}}}", "submodules are not checked out by this server"),
    (JOB, "{task_defaults: {git_options: {}}, task: x}", "git_options: submodules are not checked out"),
    (TASK, "{body: x, dispatch_storm_delay_duration: 61 minutes}", "must be at most 3600 seconds"),
    (TASK, "{body: x, dispatch_storm_delay_duration: 5}", "must be a text with a unit"),
    (TASK, "{body: x, trial_attachments: {l: {include_match: a}}}", "l: `content_type` is missing"),
    (TASK, "{body: x, tree_attachments: {l: {content_type: a/b}}}", "l: `include_match` is missing"),
    (TASK, "{body: x, trial_attachments: {l: {include_match: '(', content_type: a/b}}}", "unclosed group"),
    (TASK, "{body: x, trial_attachments: {l: {include_match: a, content_type: text}}}", "must be a media type"),
    (TASK, '{body: x, trial_attachments: {l: {include_match: a, content_type: "a/b\\nX: y"}}}', "must be a media"),
    (SCRIPT, "[]", "main: must be a text or a map, not a list"),
    (SCRIPT, "{}", "main: `body` is missing"),
    (SCRIPT, "{body: ' '}", "body: must not be empty"),
    (SCRIPT, f"{{body: {'x' * 10_241}}}", "body: must have at most 10240 characters; this one has 10241"),
    (SCRIPT, '{body: "a\\0b"}', "body: must not hold a NUL character"),
    (SCRIPT, "{body: x, timeout: 180}", 'timeout: must be a text with a unit such as "3 minutes"'),
    (SCRIPT, "{body: x, timeout: 3 parsecs}", '"3 parsecs" is not'),
    (SCRIPT, "{body: x, start_when: [{script_key: a}]}", "start_when: must be a map, not a list"),
    (SCRIPT, "{body: x, start_when: {a: {states: [passed]}}}", "start_when → a: `script_key` is missing"),
    (SCRIPT, "{body: x, start_when: {a: {script_key: b, states: []}}}", "states: must not be empty"),
    (SCRIPT, "{body: x, terminate_when: {a: {script_key: b, states: [pased]}}}", 'did you mean "passed"?'),
    (SCRIPT, "{body: x, terminate_when: {a: {script_key: b, states: passed}}}", "must be a list, not a text"),
    (SCRIPT, "{body: x, ignore_state: 'true'}", "ignore_state: must be true or false, not a text"),
    (SCRIPT, "{body: x, ignore_abort: 1}", "ignore_abort: must be true or false, not a number"),
    (SCRIPT, "{body: x, template_environment_variables: x}", "must be true or false"),
    (SCRIPT, "{body: x, exclusive_executor_resource: ''}", "must be one line"),
    (SCRIPT, "{body: x, traits: {}}", 'main: unknown key "traits"'),
    (CONDITION, "text", "c: must be a map, not a text"),
    (CONDITION, "{}", "c: `type` is missing"),
    (CONDITION, "{type: brunch}", 'type: "brunch" is not known here; did you mean "branch"?'),
    (CONDITION, "{type: []}", "type: must be one of job, branch, cron, not a list"),
    (CONDITION, "{type: job, states: [passed]}", "c: `job_key` is missing"),
    (CONDITION, "{type: job, job_key: a}", "c: `states` is missing"),
    (CONDITION, "{type: job, job_key: a, states: [waiting]}", '"waiting" is not known here'),
    (CONDITION, "{type: job, job_key: a, states: [passed], submodule: [x]}", "`submodule` is not yet carried"),
    (CONDITION, "{type: branch, include_match: 5}", "include_match: must be a regular expression as a text"),
    (CONDITION, "{type: branch, include_match: '^(?!master)'}", "look-ahead and look-behind are not supported"),
    (CONDITION, "{type: branch, includes_match: x}", 'did you mean "include_match"?'),
    (CONDITION, "{type: cron}", "c: `value` is missing"),
    (CONDITION, "{type: cron, value: '@daily'}", "value: must be five fields"),
    (CONDITION, "{type: cron, value: 0 3 1 * *}", "must have * or ? as day of month and as month"),
    (CONDITION, "{type: cron, value: 0 3 * 2 *}", "must have * or ? as day of month and as month"),
    (CONDITION, "{type: cron, value: 0 25 * * *}", 'has a hour "25"; it goes from 0 to 23'),
    (CONDITION, "{type: cron, value: 5}", "value: must be a text"),
    (CONDITION, "{type: cron, value: 0 3 * * *, rerun: often}", "rerun: must be true or false"),
    (DEPENDENCY, "{type: cron, value: 0 3 * * *}", '"cron" is not known here'),
]  # fmt: skip


@pytest.mark.parametrize(("place", "text", "sentence"), INVALID)
def test_what_the_contract_does_not_allow_is_told(place: str, text: str, sentence: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        work(reading(place % text).jobs["unit"])
    told = [str(fault) for fault in refused.value.faults]
    assert any(sentence in line for line in told), told
    assert all(line.startswith("jobs → unit") for line in told), told


def test_case_18_a_misspelt_aggregate_state_spoils_its_job_only() -> None:
    found = reading("""
        jobs:
          unit: {task: {body: x, aggregate_state: satisfy-some}}
          lint: {task: x}
    """)
    assert found.jobs["unit"].faults
    assert work(found.jobs["lint"])["tasks"][0]["aggregate"] == "satisfy-any"


def test_long_and_unprintable_keys_are_cut_in_messages() -> None:
    told = refusal(json.dumps({"jobs": {"a\x1bb" + "x" * 500: 5}}))
    assert all("\x1b" not in fault and len(fault) < 300 for fault in told)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("a\0b", "jobs → a?b: must be one line of 1 to 500 characters"),
        ("a\nb", "jobs → a?b: must be one line of 1 to 500 characters"),
        ("\ufeffa", "jobs → ?a: must be one line of 1 to 500 characters"),
        ("", 'jobs → "": must be one line of 1 to 500 characters'),
        ("✓" * 201, f"jobs → {'✓' * 100}…: must have at most 600 bytes in UTF-8"),
    ],
    ids=["nul", "two lines", "a mark", "empty", "too long"],
)
def test_a_key_that_no_job_can_be_kept_by_spoils_the_configuration(key: str, sentence: str) -> None:
    """A faulty job is made as defective; this one could not even be that."""
    good = "✓" * 200
    assert list(reading(json.dumps({"jobs": {good: {"task": "x"}}}, ensure_ascii=False)).jobs) == [good]
    value = {"jobs": {key: {"task": "x"}, good: {"task": "x"}}}
    assert refusal(json.dumps(value, ensure_ascii=False)) == [sentence]


@pytest.mark.parametrize(
    ("jobs", "names"),
    [
        ({"a": "x", "b": "x"}, {"a": "x", "b": "b!"}),
        ({"a": "b", "b": None}, {"a": "a!", "b": "b"}),
        ({"a": "b", "b": "a"}, {"a": "b", "b": "a"}),
        ({"c": "x", "b": "a", "a": "x"}, {"c": "x", "b": "b!", "a": "a!"}),
        ({"a": "x", "b": 5, "c": "b"}, {"a": "x", "b": "b!", "c": "c!"}),
    ],
)
def test_of_jobs_with_one_name_the_later_one_is_faulty(jobs: dict[str, Any], names: dict[str, str]) -> None:
    """It goes by its key, so that both can be made."""
    given = {key: {"task": "x"} | ({"name": name} if name else {}) for key, name in jobs.items()}
    found = reading(json.dumps({"jobs": given})).jobs
    assert names == {key: job.name + ("!" if job.faults else "") for key, job in found.items()}


def test_jobs_with_one_name_are_told() -> None:
    text = '{"jobs": {"a": {"name": "x", "task": "y"}, "b": {"name": "x", "task": "y"}}}'
    assert job_faults(text, "b") == [
        'jobs → b → name: the jobs a and b have the same name "x"; choose another one'
    ]
