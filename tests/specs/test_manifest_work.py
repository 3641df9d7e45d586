"""What a manifest means (builds-srht 5.2 to 5.7), and the generated scripts run by the real shells with real Git
repositories (cases 11, 14 to 18 and 28 of its section 10).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.globs import matches
from specs.manifest import Manifest, ManifestTask, Trigger, parse
from specs.manifest_work import (
    MARK,
    SET_UP,
    JobFacts,
    Source,
    artifact_file,
    build_environment,
    kept_artifacts,
    set_up,
    source,
    work,
)

JO = JobFacts("jo")
PATH = os.environ["PATH"]
Ran = dict[str, str]


class Home:
    """A home in which the scripts of a specification run as an executor runs them: in order, by their conditions,
    in a fresh environment each, until one has passed and the mark is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs: dict[str, str] = {}
        path.mkdir()

    def run(self, specification: Mapping[str, Any]) -> Ran:
        """The state of each script, a skipped one with its reason."""
        (task,) = specification["tasks"]
        states: Ran = {}
        completed = False
        for script in task["scripts"]:
            unmet = [when for when in script["start_when"] if states[when["script"]] not in when["states"]]
            if completed or unmet:
                states[script["name"]] = f"skipped: {'completed' if completed else 'not-reached'}"
                continue
            states[script["name"]] = self._one(script, task["environment_variables"])
            passed = states[script["name"]] == "passed"
            completed = passed and (self.path / task["completed_by"]).exists()
        return states

    def _one(self, script: Mapping[str, Any], variables: Mapping[str, str]) -> str:
        file = self.path.with_name(f"script-{len(self.logs)}")
        file.write_text(script["run"], encoding="utf-8")
        file.chmod(0o755)
        environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": str(self.path),
            "STEERSMAN_JOB": "41",
            "STEERSMAN_SERVER": "https://ci.example/",
            "STEERSMAN_TOKEN": "the-token",
            **variables,
        }
        done = subprocess.run(
            [str(file)],
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.logs[script["name"]] = done.stdout
        return "failed" if done.returncode else "passed"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty one, whose path needs quotes."""
    return Home(tmp_path / "a home's place")


def of(tasks: Mapping[str, str], **fields: Any) -> Manifest:
    """A manifest of these tasks."""
    return Manifest(
        text="", image="host", tasks=tuple(ManifestTask(*each) for each in tasks.items()), **fields
    )


def ran(home: Home, tasks: Mapping[str, str], **fields: Any) -> list[str]:
    """The states of the tasks after a set-up that passed."""
    states = home.run(work(of(tasks, **fields), job=JO))
    assert states.pop(SET_UP) == "passed", home.logs
    return list(states.values())


def git(where: Path, *words: str) -> str:
    """What Git says there."""
    identity = ["-c", "user.name=Jo", "-c", "user.email=jo@example.org", "-c", "protocol.file.allow=always"]
    environment = {"PATH": PATH, "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *identity, *words], cwd=where, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository: tag v1, then a commit on branch `side`, then one on main."""
    path = tmp_path / "repo.git"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for text, after in (("1", ("tag", "v1")), ("2", ("branch", "side")), ("3", ("status",))):
        (path / "file").write_text(text)
        git(path, "add", "file")
        git(path, "commit", "-q", "-m", text)
        git(path, *after)
    return path


# -- the form


def test_a_manifest_becomes_one_task_with_a_script_for_each_of_its_own() -> None:
    """The set-up comes first; each starts when the one before it has passed."""
    text = (
        "image: alpine/edge\npackages: [bash]\nrepositories: {a: b}\nsecrets: [key]\nartifacts: ['./out/a[1].txt']\n"
        "oauth: x\ntasks:\n- one: a\n- two: ''\ntriggers:\n- {action: email, condition: always, to: a@b}\n"
    )
    more = Trigger("webhook", "failure", url="https://x.example")
    found = work(parse(text), job=JobFacts("jo", triggers=(more,)))
    (task,) = found["tasks"]
    scripts = task.pop("scripts")
    assert task == {
        "name": "build",
        "directory": "home",
        "completed_by": ".complete-build",
        "max_trials": 1,
        "eager_trials": 1,
        "aggregate": "satisfy-any",
        "lost_retries": 0,
        "timeout_seconds": None,
        "load": 1.0,
        "traits": [],
        "exclusive": [],
        "priority": 0,
        "environment_variables": {"STEERSMAN_OWNER": "jo"},
        "image": "alpine/edge",
        "packages": ["bash"],
        "repositories": {"a": "b"},
        "secrets": ["key"],
        "packages_optional": True,
        "attachments_required": True,
        "attachments": ["out/a\\[1].txt"],
    }
    assert [(script["name"], script["start_when"]) for script in scripts] == [
        ("(setup)", []),
        ("one", [{"script": "(setup)", "states": ["passed"]}]),
        ("two", [{"script": "one", "states": ["passed"]}]),
    ]
    assert all(
        (script["terminate_when"], script["timeout_seconds"], script["exclusive"]) == ([], None, None)
        for script in scripts
    )
    assert found["timeout_seconds"] == 2700
    assert {
        "text": text,
        "artifacts": ["./out/a[1].txt"],
        "secrets": True,
        "oauth": "x",
        "triggers": [
            {"action": "email", "condition": "always", "to": "a@b"},
            {"action": "webhook", "condition": "failure", "url": "https://x.example"},
        ],
    } == found["manifest"]


def test_equal_manifests_of_one_owner_give_equal_work() -> None:
    """And another owner's differs in one variable only."""
    manifest = of({"a": "true"})
    assert work(manifest, job=JO) == work(manifest, job=JobFacts("jo"))
    mine, theirs = (work(manifest, job=JobFacts(owner))["tasks"][0] for owner in ("jo", "ana"))
    assert mine.pop("environment_variables") != theirs.pop("environment_variables")
    assert mine == theirs


def test_without_the_flag_neither_secrets_nor_a_token_are_given() -> None:
    """The set-up log says so."""
    manifest = of({}, secrets=("key",), oauth="x", shell=True)
    found = work(manifest, job=JobFacts("jo", secrets=False))
    assert (found["tasks"][0]["secrets"], found["manifest"]["oauth"]) == ([], None)
    text = found["tasks"][0]["scripts"][0]["run"]
    assert "OAUTH2_TOKEN" not in text
    assert "submitted without them" in text
    assert "export OAUTH2_TOKEN=" in set_up(manifest, secrets=True)


def test_more_than_eight_artifacts_are_not_kept(home: Home) -> None:
    """Which the set-up log says; eight are."""
    eight = of({"a": "true"}, artifacts=tuple("abcdefgh"))
    nine = of({"a": "true"}, artifacts=tuple("abcdefghi"))
    assert kept_artifacts(eight) == eight.artifacts
    assert work(eight, job=JO)["tasks"][0]["attachments"] == list("abcdefgh")
    assert work(nine, job=JO)["tasks"][0]["attachments"] == []
    assert home.run(work(nine, job=JO)) == {SET_UP: "passed", "a": "passed"}
    assert "artifacts: 9 are more than 8; none is kept" in home.logs[SET_UP]


@settings(deadline=None)
@given(st.text(st.sampled_from("ab.*?[]\\!/{}- "), min_size=1, max_size=12))
def test_an_artifact_is_one_file_and_never_a_pattern(path: str) -> None:
    """Its attachment fits the file of this name, and none that a wildcard would."""
    (pattern,) = work(of({}, artifacts=(path,)), job=JO)["tasks"][0]["attachments"]
    assert matches(pattern, artifact_file(path))
    if "*" in artifact_file(path):
        assert not matches(pattern, artifact_file(path).replace("*", "zz"))


def test_11_the_largest_manifest_is_carried_out(home: Home) -> None:
    """16,383 characters, most of them one script."""
    head = "image: host\ntasks:\n- a: |\n    echo "
    text = head + "x" * (16_383 - len(head))
    assert len(text) == 16_383
    assert home.run(work(parse(text), job=JO)) == {SET_UP: "passed", "a": "passed"}


# -- 14 to 18: tasks


def test_14_a_failed_task_ends_the_job(home: Home) -> None:
    """Later ones are not reached."""
    assert ran(home, {"a": "true", "b": "false", "c": "true"}) == ["passed", "failed", "skipped: not-reached"]


def test_14_the_first_failing_command_ends_its_task(home: Home) -> None:
    """Commands are echoed into the log; what follows is not run."""
    assert ran(home, {"a": "echo one\nfalse\necho two\n"}) == ["failed"]
    assert home.logs["a"] == "+ set -e\n+ echo one\none\n+ false\n"


def test_15_complete_build_ends_the_build_well(home: Home) -> None:
    """Nothing after it runs, in its task and after it."""
    tasks = {"a": "true", "b": "complete-build\ntouch never", "c": "touch never", "d": "touch never"}
    assert ran(home, tasks) == ["passed", "passed", "skipped: completed", "skipped: completed"]
    assert (home.path / MARK).exists()
    assert not (home.path / "never").exists()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("false || complete-build", ["passed", "skipped: completed"]),
        ("true || complete-build", ["passed", "passed"]),
        ("complete-build || true; false", ["passed", "skipped: completed"]),
        ("(complete-build); true", ["passed", "skipped: completed"]),
        ("(complete-build); false", ["failed", "skipped: not-reached"]),
        ("trap 'exit 3' EXIT; complete-build", ["failed", "skipped: not-reached"]),
        ("export HOME=/nowhere; cd /; complete-build", ["passed", "skipped: completed"]),
        ("set -C; touch ~/.complete-build; complete-build", ["passed", "skipped: completed"]),
    ],
)
def test_16_complete_build_counts_only_where_its_task_passes(
    home: Home, script: str, expected: list[str]
) -> None:
    """In conditions, subshells, with traps and with another home."""
    assert expected == ran(home, {"a": script, "b": "true"})


def test_17_files_carry_over_and_nothing_else(home: Home) -> None:
    """Lines added to ~/.buildenv count for later tasks; variables and the directory do not."""
    tasks = {
        "a": "echo 'export X=7' >> ~/.buildenv; Y=1; export Z=1; cd /tmp; umask 000",
        "b": 'test "$X" = 7; test -z "$Y"; test -z "$Z"; test "$PWD" = "$HOME"; test "$(pwd)" = "$HOME"',
        "c": "bash -c 'test \"$X\" = 7'",
    }
    assert ran(home, tasks) == ["passed"] * 3, home.logs


def test_18_the_environment_reaches_tasks_by_type(home: Home) -> None:
    """Lists become arrays, which are not exported; the service's own variables are stronger."""
    text = """\
image: host
environment:
  L: [p, q r, "it's"]
  M: [a, 5, b]
  B: true
  F: false
  N: null
  S: "it's"
  I: 0x10
  D: 1.50
  W: 2.0
  T: "a\\nb\\tc $HOME `false` \\\\"
  CI_NAME: mine
  JOB_ID: 7
  a.b: x
  STEERSMAN_JOB: 9
  STEERSMAN_COMPLETED: /tmp/x
  UID: 0
  IFS: ","
tasks:
- a: |
    test "${L[1]}" = "q r"; test "${L[2]}" = "it's"; test "${#L[@]}" = 3
    test "${#M[@]}" = 2; test "${M[1]}" = b
    test "$B" = true; test "$F" = false; test -z "$N"; test "${N+set}" = set
    test "$S" = "it's"; test "$I" = 16; test "$D" = 1.5; test "$W" = 2
    test "$T" = $'a\\nb\\tc $HOME `false` \\\\'
    test "$CI_NAME" = sourcehut; test "$JOB_ID" = 41
    test "$JOB_URL" = https://ci.example/~jo/job/41
    bash -c 'test "$S$CI_NAME$JOB_ID" = "it'"'"'ssourcehut41"; test -z "$L"'
    complete-build
- b: "false"
"""
    found = home.run(work(parse(text), job=JO))
    assert found == {SET_UP: "passed", "a": "passed", "b": "skipped: completed"}, home.logs
    log = home.logs[SET_UP]
    assert 'left out: "a.b" is not a variable name' in log
    assert "left out: STEERSMAN_JOB, as variables that begin with STEERSMAN_ are set by the server" in log
    assert "left out: UID, which bash keeps for itself" in log
    assert "left out: 1 of M in the list, which are no strings; quote them" in log


def test_no_variable_of_bash_breaks_the_environment(home: Home) -> None:
    """Whatever name bash knows may be set, as text or list; what comes after it still counts."""
    names = subprocess.run(
        ["bash", "-c", "compgen -v"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "BASH_VERSINFO" in names
    others = [name for name in names if name not in ("PATH", "HOME")]
    for value in ("x", ("x", "y")):
        variables = {**dict.fromkeys(others, value), "LAST": "there"}
        shutil.rmtree(home.path)
        home.path.mkdir()
        assert ran(home, {"a": 'test "$LAST" = there; test "$JOB_ID" = 41'}, environment=variables) == [
            "passed"
        ]


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(st.sampled_from("AB_'$\n END"), min_size=1, max_size=4),
        st.text(
            st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",))
            | st.sampled_from("'\"$`\\\n #!END;&|<"),
            max_size=20,
        ),
        max_size=4,
    )
)
def test_values_are_data_whatever_they_hold(values: dict[str, str]) -> None:
    """Bash reads back what was put in, and the set-up's shell writes the very file."""
    manifest = of({}, environment=values)
    text = build_environment(manifest, secrets=True)
    printing = "".join(f'printf "%s\\0" "${name}"\n' for name in values if _usable(name))
    done = subprocess.run(
        ["bash", "-c", f"{text}\n{printing}"],
        env={"PATH": PATH, "HOME": "/nowhere", "STEERSMAN_SERVER": "", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    expected = [value for name, value in values.items() if _usable(name)]
    assert expected == done.stdout.decode().split("\0")[:-1]
    lines = set_up(manifest, secrets=True).split("\n")
    begin = next(number for number, line in enumerate(lines) if line.startswith("cat >~/.buildenv <<'"))
    end = lines[begin].split("'")[1]
    assert text == "\n".join(lines[begin + 1 : lines.index(end, begin)]) + "\n"


def test_the_set_up_log_names_each_step(home: Home, repository: Path) -> None:
    """Also what was done before it and what this server does not offer."""
    manifest = of(
        {"a": "true"},
        packages=("git", "make"),
        repositories={"extra": "x"},
        secrets=("key",),
        oauth="jobs:RW",
        sources=(f"d::{repository}#v1",),
        shell=True,
        arch=os.uname().machine,
    )
    home.run(work(manifest, job=JO))
    steps = [line[4:] for line in home.logs[SET_UP].splitlines() if line.startswith("==> ")]
    assert [
        "image: host",
        f"architecture: {os.uname().machine}",
        "environment: ~/.buildenv",
        "secrets: 1",
        "oauth: OAUTH2_TOKEN, for jobs:RW",
        "repositories: extra",
        "packages: git, make",
        f"source: d::{repository}#v1",
        "shell: this server offers no interactive shell; the job ends after its tasks",
        "tasks: a",
    ] == steps


def test_shell_without_tasks_succeeds_after_the_set_up(home: Home) -> None:
    """There is only the set-up."""
    assert home.run(work(parse("image: host\nshell: true\n"), job=JO)) == {SET_UP: "passed"}


def test_another_architecture_fails_the_set_up(home: Home) -> None:
    """Told in its log."""
    states = home.run(work(of({"a": "true"}, arch="pdp11"), job=JO))
    assert list(states.values()) == ["failed", "skipped: not-reached"]
    assert "steersman: the manifest asks for pdp11; this is " in home.logs[SET_UP]


def test_the_token_is_named_and_not_written_down(home: Home) -> None:
    """Tasks have it, the file does not hold it, and acurl shows it to nobody."""
    curl = '#!/bin/sh\n[ $1 = --config ] && cat $2 && shift 2 && echo "$@"\n'
    tasks = {
        "a": f"mkdir bin; cat >bin/curl <<'END'\n{curl}END\nchmod +x bin/curl; echo 'PATH=~/bin:$PATH' >>~/.buildenv",
        "b": 'test "$OAUTH2_TOKEN" = "$STEERSMAN_TOKEN"' + " 2>/dev/null\n: silent",
        "c": "acurl -s https://x.example >out\n: still traced",
    }
    assert ran(home, tasks, oauth="x") == ["passed"] * 3, home.logs
    assert "the-token" not in (home.path / ".buildenv").read_text()
    assert (
        home.path / "out"
    ).read_text() == 'header = "Authorization: Bearer the-token"\n-s https://x.example\n'
    assert "the-token" not in home.logs["c"]
    assert "+ : still traced" in home.logs["c"]


# -- 28: sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://x/~jo/y", Source("git", "https://x/~jo/y", "y", None)),
        ("https://x/y.git", Source("git", "https://x/y.git", "y", None)),
        ("https://x/y.git/", Source("git", "https://x/y.git/", "y", None)),
        ("https://x/y.git#v1", Source("git", "https://x/y.git", "y", "v1")),
        ("https://x/y#", Source("git", "https://x/y", "y", None)),
        ("https://x/y#a#b", Source("git", "https://x/y#a#b", "y#a#b", None)),
        ("d::https://x/y.git#a/b", Source("git", "https://x/y.git", "d", "a/b")),
        ("::https://x/y.git", Source("git", "https://x/y.git", "y.git", None)),
        ("a::b::https://x/y.git", Source("git", "a::b::https://x/y.git", "y.git", None)),
        ("git@x:~jo/y.git", Source("git", "git@x:~jo/y.git", "y", None)),
        ("git@x:y.git", Source("git", "git@x:y.git", "y", None)),
        ("git+ssh://git@x/y", Source("git", "ssh://git@x/y", "y", None)),
        ("d::git+https://x/y", Source("git", "https://x/y", "d", None)),
        ("hg+https://x/y.git", Source("hg", "https://x/y.git", "y.git", None)),
        ("svn+https://x/y", Source("svn", "https://x/y", "y", None)),
        ("https://x/c++/y", Source("git", "https://x/c++/y", "y", None)),
        ("/srv/y.git", Source("git", "/srv/y.git", "y", None)),
        ("https://x/..", Source("git", "https://x/..", "", None)),
        ("", Source("git", "", "", None)),
    ],
)
def test_28_forms_of_sources(text: str, expected: Source) -> None:
    """[dir::][scm+]url[#ref]."""
    assert expected == source(text)


def test_28_sources_are_cloned_into_their_directories(home: Home, repository: Path) -> None:
    """By tag, branch, abbreviated commit, and as they are."""
    commit = git(repository, "rev-parse", "--short", "side")
    url = f"file://{repository}"
    sources = (
        url,
        f"d::{url}#v1",
        f"b::{repository}#side",
        f"c::git+{url}#{commit}",
        f"-x::{url}#v1",
        f"::{url}",
    )
    read = 'test "$(cat repo/file) $(cat d/file) $(cat b/file) $(cat c/file) $(cat ./-x/file)" = "3 1 2 2 1"'
    tasks = {"a": f'{read}\ntest -d repo.git\ntest "$(git -C b branch --show-current)" = side'}
    assert ran(home, tasks, sources=sources) == ["passed"], home.logs


def test_28_submodules_are_fetched(home: Home, repository: Path, tmp_path: Path) -> None:
    """Recursively, as they are at the ref."""
    outer = repository
    for name in ("inner", "outer"):
        above = tmp_path / name
        above.mkdir()
        git(above, "init", "-q", "-b", "main")
        git(above, "submodule", "add", "-q", str(outer), "sub")
        git(above, "commit", "-q", "-m", "sub")
        outer = above
    assert ran(home, {"a": "test -f outer/sub/sub/file"}, sources=(str(outer),)) == ["passed"], home.logs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("svn+https://x/y", "svn is not a kind of source; git is: svn+https://x/y"),
        ("hg+https://x/y", "Mercurial is not offered here: hg+https://x/y"),
        ("https:///", "the URL names no directory; write directory:: in front of it: https:///"),
        ("{url}#nope", "the source has no ref nope"),
        ("{url}#file", "the source has no ref file"),
        ("{url}#--orphan=x", "no branch, tag or commit begins with -: {url}#--orphan=x"),
        ("{url}/absent", "the source could not be cloned: {url}/absent"),
        ("--upload-pack=touch never;x/y", "the source could not be cloned: --upload-pack=touch never;x/y"),
        ("d::ext::sh -c touch% never", "transport 'd' not allowed"),
        ("x::ext::sh -c touch% never", "transport 'x' not allowed"),
        ("y::git+ext::sh -c touch% never", "transport 'y' not allowed"),
        ("git+ext::sh -c touch% never", "the source could not be cloned"),
        ("'; touch never; '", "the source could not be cloned"),
        ("d'$(touch never)::{url}#'$(touch never)'", "the source has no ref '$(touch never)'"),
    ],
)
def test_28_bad_sources_fail_the_set_up(home: Home, repository: Path, text: str, said: str) -> None:
    """With a sentence; no task begins, nothing of the text is run."""
    url = f"file://{repository}"
    states = home.run(work(of({"a": "true"}, sources=(text.format(url=url),)), job=JO))
    assert list(states.values()) == ["failed", "skipped: not-reached"]
    assert said.format(url=url) in home.logs[SET_UP]
    assert not list(home.path.rglob("never"))


def test_transports_that_run_commands_are_refused(home: Home) -> None:
    """Also where the environment's Git would allow them."""
    (home.path / ".gitconfig").write_text(
        '[protocol]\n\tallow = always\n[url "ext::sh -c touch% never%;"]\n\tinsteadOf = https://x/\n'
    )
    states = home.run(work(of({"a": "true"}, sources=("https://x/y",)), job=JO))
    assert states[SET_UP] == "failed"
    assert "transport 'ext' not allowed" in home.logs[SET_UP]


@pytest.mark.parametrize(("missing", "sources"), [("bash", ()), ("git", ("https://x.example/y",))])
def test_an_image_without_what_is_needed_says_so(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, sources: tuple[str, ...]
) -> None:
    """Instead of a failure that nobody understands."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "uname", "bash", "git"):
        if name != missing:
            (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setattr(f"{__name__}.PATH", str(tools))
    assert home.run(work(of({}, shell=True, sources=sources), job=JO)) == {SET_UP: "failed"}
    assert f"steersman: this image has no {missing}, which" in home.logs[SET_UP]


def test_the_generated_shell_is_accepted_by_both_shells(repository: Path) -> None:
    """Syntax of the set-up for sh and bash, of the environment for bash."""
    manifest = of(
        {"a": "true"}, sources=(str(repository),), oauth="x", arch="arm64", environment={"L": ("a",)}
    )
    _check("sh", set_up(of({"a": "true"}, sources=(str(repository),), arch="arm64"), secrets=True))
    _check("bash", set_up(manifest, secrets=True))
    _check("bash", build_environment(manifest, secrets=True))


def _check(shell: str, text: str) -> None:
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


def _usable(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name != "_"
