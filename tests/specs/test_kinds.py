"""Builds, projects and repositories: each mistake with its place and its sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from specs.kinds import KINDS
from specs.meta import SCOPES
from specs.refused import REFUSED
from specs.repository import is_local_url, url_fault
from specs.tree import Tree

Errors = Callable[[str], list[str]]
Grow = Callable[..., Tree]

TASK = "  tasks: [{name: a, run: make}]\n"
REPO = "  repo: web\n"

CASES: list[tuple[str, str]] = [
    # spec of a Build -> the error, without its path
    ("  repo: web\n", "5:3: tasks is missing"),
    ("  tasks: []\n", "5:10: tasks must have at least 1 item(s)"),
    ("  tasks: [{run: make}]\n", "5:11: tasks[0].name is missing"),
    ("  tasks: [{name: a}]\n", '5:11: task "a" says nothing to do; write run, run_file or script'),
    ("  tasks: [{name: a, run: x, run_file: y}]\n", "5:39: run and run_file exclude each other; keep one"),
    (
        "  tasks: [{name: a, script: x}]\n",
        "5:29: script is a file of the checkout and needs a repo; use run or run_file",
    ),
    (
        "  tasks: [{name: -a, run: x}]\n",
        "5:18: tasks[0].name must have 1 to 100 letters, digits, _ . : and -",
    ),
    (
        "  tasks: [{name: a, run: x}, {name: a, run: y}]\n",
        '5:37: a task named "a" stands above; names are unique in a build',
    ),
    ("  tasks: [{name: a, run: x, needs: [b]}]\n", '5:37: no task is named "b"'),
    (
        "  tasks: [{name: a-b, run: x}, {name: a_b, run: x}, {name: c, run: x, needs: [a-b, a_b]}]\n",
        '5:84: the outputs of "a-b" and "a_b" would both be OUTPUT_a_b_…; rename one',
    ),
    (
        "  tasks: [{name: a, run: x, matrix: {v: ['1.2', 1-2, '3']}}, {name: c, run: x, needs: [a]}]\n",
        '5:88: the outputs of "a-1.2" and "a-1-2" would both be OUTPUT_a_1_2_…; rename one',
    ),
    ("  tasks: [{name: a, run: x, needs: [a]}]\n", "5:36: tasks need each other in a circle: a → a"),
    (f"{TASK}  repo: webb\n", "6:9: Repository/shop/webb is not declared"),
    (f"{TASK}  repo: 'ext::sh -c id'\n", "6:9: repo must not hold spaces or control characters"),
    (f"{TASK}  repo: 'ext::sh'\n", "6:9: repo must not name a transport helper"),
    (f"{TASK}  branch: main\n", "6:11: branch needs a repo; name one, or remove branch"),
    (f"{TASK}{REPO}  branch: -x\n", "7:11: branch must be a branch name that Git allows"),
    (f"{TASK}{REPO}  branch: a\n  branches: [b]\n", "8:13: branch and branches exclude each other; keep one"),
    (f"{TASK}{REPO}  tags: ['/a']\n", "7:10: tags[0] must be relative"),
    (
        f"{TASK}{REPO}  concurrency: paralel\n",
        '7:16: concurrency must be queue, replace or allow, not "paralel"',
    ),
    (f"{TASK}{REPO}  disabled: 'false'\n", '7:13: disabled must be true or false, not "false"'),
    (f"{TASK}  timeout_seconds: 5\n", "6:20: timeout_seconds must be at least 10"),
    (f"{TASK}  timeout_seconds: 60.5\n", "6:20: timeout_seconds must be a whole number, not 60.5"),
    (f"{TASK}  timeout_seconds: '60'\n", '6:20: timeout_seconds must be a whole number, not "60"'),
    (f"{TASK}  timeout_seconds: true\n", "6:20: timeout_seconds must be a whole number, not true"),
    (
        f"{TASK}  environment_variables: {{A: 1}}\n",
        '6:30: environment_variables.A must be a quoted string: write "1"',
    ),
    (f"{TASK}  environment_variables: {{1A: x}}\n", '"1A" is not a variable name'),
    (
        f"{TASK}  environment_variables: {{STEERSMAN_X: x}}\n",
        "variables that begin with STEERSMAN_ are set by Steersman",
    ),
    (
        f"{TASK}  triggers: [{{type: poll}}]\n",
        "6:21: a poll trigger needs a repo; name one, or remove the trigger",
    ),
    (f"{TASK}  triggers: [{{}}]\n", "6:14: triggers[0] must have a type"),
    (f"{TASK}  triggers: [{{type: schedule}}]\n", "6:14: a schedule trigger needs cron or interval_seconds"),
    (
        f"{TASK}  triggers: [{{type: schedule, cron: '@daily', interval_seconds: 5}}]\n",
        "cron and interval_seconds exclude",
    ),
    (f"{TASK}  triggers: [{{type: schedule, cron: '0 0 30 2 *'}}]\n", "6:37: triggers[0].cron never happens"),
    (
        f"{TASK}  triggers: [{{type: schedule, cron: '@daily', timezone: Mars}}]\n",
        "triggers[0].timezone must be a time zone",
    ),
    (f"{TASK}  triggers: [{{type: change, inputs: {{a: b}}}}]\n", '6:41: this build has no input "a"'),
    (
        f"{TASK}  triggers: [{{type: change}}]\n  inputs: [{{id: a}}]\n",
        'input "a" has no default, so this trigger must give it',
    ),
    (f"{TASK}  inputs: [{{id: a, default: x, items: [y]}}]\n", '6:29: "x" is not one of y'),
    (f"{TASK}  inputs: [{{id: a, default: x}}, {{id: a}}]\n", 'an input "a" stands above'),
    (f"{TASK}  task_defaults: {{name: x}}\n", '6:19: unknown field "name"'),
    (
        f"{TASK}  task_defaults: {{max_trails: 1}}\n",
        '6:19: unknown field "max_trails"; did you mean "max_trials"?',
    ),
    (
        f"{TASK}  build_on_file_change: []\n",
        '6:3: unknown field "build_on_file_change"; did you mean "build_on_file_changes"?',
    ),
    (
        "  tasks: [{name: a, run: x, attachments: ['../x']}]\n",
        "tasks[0].attachments[0] must not hold .. as a part",
    ),
    ("  tasks: [{name: a, run: x, load: 0}]\n", "tasks[0].load must be more than 0"),
    ("  tasks: [{name: a, run: x, traits: linux}]\n", 'tasks[0].traits must be a list, not "linux"'),
    ("  tasks: [{name: a, run: x, image: ''}]\n", "5:36: tasks[0].image must not be empty"),
    (
        "  tasks: [{name: a, run: x, image: 'docker.io/*'}]\n",
        "5:36: tasks[0].image must name one image; *, ? and [ make patterns, which only an Executor's images may be",
    ),
    (
        "  tasks: [{name: a, run: x, image: --privileged}]\n",
        "5:36: tasks[0].image must not begin with - or hold spaces or control characters",
    ),
    (
        f"{TASK}  matrix: {{}}\n",
        "6:3: `matrix` is a field of a task, not of a build; move it to a task or to task_defaults",
    ),
    (
        "  tasks: [{name: a, run: x, secrets: [k]}]\n",
        "5:39: neither Secret/shop/_/k nor Secret/_/_/k is declared",
    ),
    (
        "  tasks: [{name: a, run: x, run_on: {}}]\n",
        "5:29: `run_on` is a field of a build, not of a task; move it there",
    ),
    (f"{TASK}  priority: 101\n", "6:13: priority must be at most 100"),
    (f"{TASK}  priority: -101\n", "6:13: priority must be at least -100"),
    (f"{TASK}  priority: high\n", '6:13: priority must be a whole number, not "high"'),
    (
        f"{TASK}  cancel_running: true\n",
        "6:19: cancel_running needs concurrency: replace, not queue; write that, or remove cancel_running",
    ),
    (f"{TASK}  triggers: [{{type: build}}]\n", "6:14: triggers[0].builds is missing"),
    (
        f"{TASK}  triggers: [{{type: build, builds: []}}]\n",
        "6:36: triggers[0].builds must have at least 1 item(s)",
    ),
    (
        f"{TASK}  triggers: [{{type: build, builds: [shop/x]}}]\n",
        "6:37: triggers[0].builds[0] must be the name of a Build: a name has at most 100 letters",
    ),
    (
        f"{TASK}  triggers: [{{type: build, builds: [x]}}]\n",
        "6:37: Build/shop/_/x is not declared",
    ),
    (f"{TASK}  triggers: [{{type: biuld}}]\n", "triggers[0] must have a type that is one of"),
    (
        f"{TASK}  private_key: abc\n",
        "6:3: `private_key` is never written in Git: the value must be considered leaked",
    ),
    (f"{TASK}  escape_auth_token: abc\n", "`escape_auth_token` is never written in Git"),
    (f"{TASK}  name: x\n", '6:3: unknown field "name"'),
]


@pytest.mark.parametrize(("spec", "error"), CASES)
def test_a_mistake_in_a_build_is_told(build_errors: Errors, spec: str, error: str) -> None:
    """One error, at its place."""
    errors = build_errors(spec)
    assert len(errors) == 1, errors
    assert error in errors[0]


def test_all_mistakes_are_told_at_once(build_errors: Errors) -> None:
    """Unknown, refused and wrong fields together; one that is missing because it is misspelt is told once."""
    assert len(build_errors("  tasks: [{nam: a, run: 1}]\n  matrix: {}\n")) == 3
    assert len(build_errors("  tasks: [{zzz: a, run: 1}]\n  matrix: {}\n")) == 4


def test_a_full_build_is_valid(build_errors: Errors) -> None:
    """Every field that is carried out, once."""
    spec = """\
  repo: web
  branches: [main, "feature/*"]
  tags: ["v*"]
  disabled: false
  concurrency: replace
  cancel_running: true
  priority: -5
  environment_variables: {CC: gcc, EMPTY: ""}
  timeout_seconds: 1800
  triggers:
    - {type: poll, interval_seconds: 60}
    - {type: schedule, cron: "15 3 * * 1-5", timezone: Europe/Amsterdam, missed: skip, inputs: {suite: slow}}
    - {type: schedule, interval_seconds: 600, jitter_seconds: 30}
    - {type: webhook}
    - {type: change}
  build_on_file_changes: ["src/**"]
  ignore_file_changes: ["**/*.md"]
  inputs: [{id: suite, default: fast, items: [fast, slow], description: Which tests}]
  task_defaults: {image: host, max_trials: 2, traits: [linux], environment_variables: {LEVEL: "1"}}
  tasks:
    - {name: test, needs: [lint], script: ci/test.sh, network: none, load: 0.5, lost_retries: 0, timeout_seconds: 900}
    - {name: lint, run: ruff check ., max_trials: 1, attachments: ["dist/*.whl"], environment_variables: {LEVEL: "2"}}
"""
    assert build_errors(spec) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.git",
        "ssh://git@example.org:22/a",
        "git@example.org:a/b.git",
        "example.org:a",
        "git://example.org/a",
        "/srv/git/a",
        "file:///srv/git/a",
        "https://[::1]:8443/a",
    ],
)
def test_an_address_that_git_may_fetch_is_allowed(url: str) -> None:
    """https, ssh, scp-like, git and local ones."""
    assert url_fault(url) is None
    assert url.startswith(("/", "file:")) is is_local_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-oProxyCommand=x",
        "--upload-pack=x",
        "ext::sh -c x",
        "ext::x",
        "file::x",
        "fd::1",
        "http://example.org/a",
        "ftp://example.org/a",
        "https://user:pw@example.org/a",
        "https://token@example.org/a",
        "ssh://git:pw@example.org/a",
        "relative/path",
        "../up",
        "~/home",
        "https://",
        "ssh://-oX/a",
        "git@-x:a",
        "https://example.org/a b",
        "a\nb:c",
        "https://example.org:99999/a",
        "file://host/a",
        "file://rel",
        "-a@example.org:x",
        "ssh://-x@example.org/a",
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    """Options, helpers, credentials, unknown schemes and relative paths."""
    assert url_fault(url)


@pytest.mark.parametrize(
    ("kind", "spec", "error"),
    [
        ("Project", "{is_public: 'true'}", '4:19: is_public must be true or false, not "true"'),
        ("Project", "{logo_file: x}", "4:19: x is missing or cannot be read"),
        ("Project", "{environment_order: [a, a]}", '4:31: "a" stands in environment_order twice'),
        (
            "Project",
            "{org_url: 'javascript:x'}",
            "4:17: org_url must be an address that begins with https://",
        ),
        ("Project", "{description: 1}", '4:21: description must be a quoted string: write "1"'),
        ("Repository", "{}", "url is missing"),
        (
            "Repository",
            "{url: /x, private_key_ref: k}",
            "4:34: neither Secret/shop/_/k nor Secret/_/_/k is declared",
        ),
        ("Repository", "{url: /x, private_key: k}", "`private_key` is never written in Git"),
        ("Repository", "{url: /x, srht: {}}", "srht.submit_as is missing"),
        ("Repository", "{url: /x, srht: {submit_as: jo}}", "4:35: User/jo is not declared"),
        ("Repository", "{url: /x, srht: {submit_as: admin}}", '"admin" is built in'),
        ("Repository", "{url: /x, srht: {submit_as: jo, manifests: []}}", "must have at least 1 item"),
        (
            "Repository",
            "{url: /x, srht: {submit_as: jo, manifests: [a.yml, a.yml]}}",
            '"a.yml" stands in manifests twice',
        ),
        ("Repository", "{url: /x, fetch_interval_seconds: 9}", "fetch_interval_seconds must be at least 10"),
        (
            "Repository",
            "{url: /x, cider_ci: {branch_include_match: '('}}",
            "cider_ci.branch_include_match must be a regular expression",
        ),
        (
            "Repository",
            "{url: /x, cider_ci: {branch_include_match: 3}}",
            "cider_ci.branch_include_match must be true or false, not 3",
        ),
        (
            "Repository",
            "{url: /x, cider_ci: {branch_exclude_match: ''}}",
            "cider_ci.branch_exclude_match must not be empty",
        ),
        (
            "Repository",
            "{url: /x, cider_ci: {attachment_days: {trial: 0}}}",
            "cider_ci.attachment_days.trial must be more than 0",
        ),
        ("Repository", "{url: /x, cider_ci: {enable: true}}", 'did you mean "enabled"?'),
        ("Repository", "{url: 'https://u:p@e.org/x'}", "url must not hold credentials; consider them leaked"),
    ],
)
def test_projects_environments_and_repositories_are_checked(
    grow: Grow, kind: str, spec: str, error: str
) -> None:
    """The fields of the contract that are not carried out are refused by name."""
    scope = "" if kind == "Project" else ", project: shop"
    text = f"apiVersion: steersman/v1\nkind: {kind}\nmetadata: {{name: shop{scope}}}\nspec: {spec}\n"
    tree = grow({"x.yaml": text})
    assert any(error in str(each) for each in tree.errors), tree.errors


def test_no_value_that_is_refused_as_leaked_is_shown(build_errors: Errors) -> None:
    """Also not in the message."""
    assert "hunter2" not in " ".join(build_errors(f"{TASK}  private_key: hunter2\n"))


def test_refused_fields_are_in_no_model() -> None:
    """A field is either carried out or refused, never both."""
    for row in REFUSED:
        if not row.where:
            assert not set(row.fields) & set(KINDS[row.kind].model.model_fields)
    assert set(KINDS) == set(SCOPES)


def test_what_a_repository_leaves_out_of_its_dialects(grow: Grow) -> None:
    """Everything but who submits manifests has a built-in value."""
    text = (
        "apiVersion: steersman/v1\nkind: Repository\nmetadata: {name: web, project: shop}\n"
        "spec: {url: 'https://e.org/x', cider_ci: {}, srht: {submit_as: jo}}\n"
        "---\napiVersion: steersman/v1\nkind: User\nmetadata: {name: jo}\nspec: {}\n"
        "---\napiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\nspec: {}\n"
    )
    tree = grow({"x.yaml": text})
    assert tree.errors == ()
    spec = tree.declared["Repository/shop/web"].spec
    assert spec is not None
    assert spec["fetch_interval_seconds"] == 60
    assert spec["cider_ci"] == {
        "enabled": True,
        "branch_include_match": True,
        "branch_exclude_match": None,
        "max_head_age_seconds": 43_200,
        "cron": False,
        "attachment_days": {"trial": 10, "tree": 90},
    }
    assert spec["srht"] == {"manifests": [".build.yml", ".builds/*.yml"], "submit_as": "jo"}
