"""Bad files in a spec repository: each has a clear error at its place, and nothing else is harmed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support import PROJECT, Process, SpecRepository, process

VICTIM = "Build/shop/_/victim"
_marks = itertools.count(1)


def build(name: str, command: str = "echo", *, spec: str = "", task: str = "") -> str:
    """A Build; `spec` and `task` are further lines of its specification and of its task."""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n{spec}  tasks:\n    - name: main\n      run: {command}\n{task}"
    )


def bomb() -> str:
    """Nine levels of nine aliases each: 387 million values if somebody expands them."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for upper, lower in itertools.pairwise("abcdefghij"):
        lines.append(f"{lower}: &{lower} [{', '.join([f'*{upper}'] * 9)}]")
    return "\n".join(lines) + "\n"


# name: (what victim.yaml becomes, line:column, part of the sentence)
CASES: dict[str, tuple[str | bytes, str, str]] = {
    "not YAML": ("apiVersion: steersman/v1\nkind: [\n", "3:1", "not valid YAML"),
    "a tab": ("apiVersion: steersman/v1\n\tkind: Build\n", "2:1", "tab"),
    "an unknown kind": (build("victim").replace("Build", "Buidl"), "2:7", 'did you mean "Build"?'),
    "an unknown field": (build("victim", spec="  colour: red\n"), "5:3", 'unknown field "colour"'),
    "a misspelt field": (
        build("victim", task="      tiemout_seconds: 3\n"),
        "8:7",
        'unknown field "tiemout_seconds"; did you mean "timeout_seconds"?',
    ),
    "a misspelt field of the envelope": (
        build("victim").replace("spec:", "spce:"),
        "4:1",
        'did you mean "spec"?',
    ),
    "a field of the wrong type": (build("victim", spec="  timeout_seconds: soon\n"), "5:20", "whole number"),
    "a duplicate key": (build("victim") + "kind: Build\n", "8:1", '"kind" stands here twice'),
    "a duplicate key in a specification": (
        build("victim", task="      run: false\n"),
        "8:7",
        '"run" stands here twice',
    ),
    "a dangling reference": (
        build("victim", spec="  repo: nowhere\n"),
        "5:9",
        "Repository/shop/nowhere is not declared",
    ),
    "a dangling task": (build("victim", task="      needs: [before]\n"), "8:15", "before"),
    "an alias bomb": (bomb(), "3:12", "aliases"),
    "deep nesting": ("a: " + "[" * 5000 + "]" * 5000, "1:53", "nested deeper than 50 levels"),
    "another encoding": (build("victim").encode() + b"# caf\xe9\n", "8:6", "not UTF-8"),
    "UTF-16": (build("victim").encode("utf-16"), "1:1", "UTF-8"),
    "a NUL": (build("victim").encode() + b"# \x00\n", "8:3", "NUL"),
    "cron that never was": (
        build("victim", spec="  triggers: [{type: schedule, cron: '61 * * * *'}]\n"),
        "5:37",
        'a minute "61"; it goes from 0 to 59',
    ),
    "a cron text of four fields": (
        build("victim", spec="  triggers: [{type: schedule, cron: '* * * *'}]\n"),
        "5:37",
        "triggers[0].cron",
    ),
    "a time zone that is not there": (
        build("victim", spec="  triggers: [{type: schedule, cron: '@daily', timezone: Europe/Amsterdma}]\n"),
        "5:57",
        'did you mean "Europe/Amsterdam"?',
    ),
    "a field for later versions": (build("victim", spec="  matrix: {}\n"), "5:3", "matrix"),
    "a repository address that runs commands": (
        build("victim", spec="  repo: 'ext::sh -c true'\n"),
        "5:9",
        "must",
    ),
    "a document that is not ours": ("version: 2\njobs: {}\n", "1:1", "apiVersion"),
    "a list": ("- a\n- b\n", "1:1", "a document is a mapping"),
}


class Site:
    """A daemon with one spec repository, in which `victim.yaml` is good again and again."""

    def __init__(self, running: Process, repo: SpecRepository) -> None:
        self.running = running
        self.repo = repo

    def get(self, path: str) -> Any:
        with self.running.client() as client:
            return client.get(path).json()

    def applied(self) -> dict[str, Any]:
        """The status once the newest commit has been applied."""
        head = self.repo.head()

        def check(client: httpx.Client) -> Any:
            body = client.get("/reconciler/status").json()
            return body["source"]["last_applied_revision"] == head and body

        found: dict[str, Any] = self.running.wait_for(check)
        return found

    def errors(self) -> list[tuple[str, str]]:
        return [(e["location"], e["message"]) for e in self.applied()["source"]["errors"]]

    def victim(self) -> tuple[str, list[str]]:
        """The command in force, and the types of its conditions."""
        body = self.get(f"/reconciler/resources/{VICTIM}")
        conditions = [c["type"] for c in body["conditions"] if c["status"]]
        return body["spec"]["tasks"][0]["run"], conditions

    def heal(self) -> str:
        """Commit a good tree again and check that all is well; the command of the victim."""
        mark = f"echo good-{next(_marks)}"
        self.repo.git("rm", "-rqf", "--ignore-unmatch", ".")
        self.repo.commit({"project.yaml": PROJECT, "victim.yaml": build("victim", mark)})
        assert self.errors() == []
        assert self.victim() == (mark, [])
        health = self.get("/health")
        assert (health["status"], health["revision"]) == ("ok", self.repo.head())
        return mark

    def harmed(self, files: dict[str, str | bytes | None]) -> list[tuple[str, str]]:
        """Commit bad files beside a good new one; only they may suffer. Gives the errors."""
        mark = f"echo beside-{next(_marks)}"
        self.repo.commit(files | {"beside.yaml": build("beside", mark)})
        errors = self.errors()
        beside = self.get("/reconciler/resources/Build/shop/_/beside")
        assert (beside["spec"]["tasks"][0]["run"], beside["sync"]) == (mark, "Synced")
        health = self.get("/health")
        assert (health["status"], health["revision"]) == ("degraded", self.repo.head())
        assert health["checks"]["spec"] == "invalid"
        return errors


@pytest.fixture(scope="module")
def daemon_with_repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One daemon for all tests of this file."""
    folder = tmp_path_factory.mktemp("bad-input")
    repo = SpecRepository(folder / "specs")
    repo.commit({"project.yaml": PROJECT, "victim.yaml": build("victim")})
    with process(repo.path, folder / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        yield Site(running, repo)


@pytest.fixture
def site(daemon_with_repository: Site) -> Site:
    """The daemon with everything in good order."""
    daemon_with_repository.heal()
    return daemon_with_repository


def check(errors: list[tuple[str, str]], place: str, sentence: str) -> None:
    """One error at the place with the sentence, no error elsewhere, each of them one line."""
    assert [text for where, text in errors if where == f"victim.yaml:{place}" and sentence in text], errors
    assert all(where.startswith("victim.yaml:") and "\n" not in text for where, text in errors)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_has_an_error_at_its_place_and_its_last_good_version_stays(site: Site, case: str) -> None:
    """File, line, column and sentence; `Invalid` on what it declared; what stands beside it is applied."""
    content, place, sentence = CASES[case]
    before, _ = site.victim()
    errors = site.harmed({"victim.yaml": content})
    check(errors, place, sentence)
    assert site.victim() == (before, ["Invalid"])
    why = site.get(f"/reconciler/why/{VICTIM}")["causes"]
    assert any(f"victim.yaml:{place}" in cause["message"] + str(cause["where"]) for cause in why)
    site.heal()


def test_all_errors_of_a_commit_are_told_at_once(site: Site) -> None:
    """Ten bad files and a file with two faults: twelve errors, in order of their places."""
    files: dict[str, str | bytes | None] = {
        f"bad{i}.yaml": build(f"b{i}", task="      rnu: x\n") for i in range(10)
    }
    files["two.yaml"] = build("two", spec="  one: 1\n", task="      two: 2\n")
    errors = site.harmed(files)
    expected = [f"bad{i}.yaml:8:7" for i in range(10)] + ["two.yaml:5:3", "two.yaml:9:7"]
    assert [location for location, _ in errors] == expected


def test_a_resource_declared_twice_has_an_error_at_both_places(site: Site) -> None:
    """Neither of the two wins: the last good version stays."""
    before, _ = site.victim()
    errors = site.harmed({"other.yaml": build("victim", "echo usurper")})
    assert errors == [
        ("other.yaml:1:1", f"{VICTIM} is declared twice; it also stands at victim.yaml:1"),
        ("victim.yaml:1:1", f"{VICTIM} is declared twice; it also stands at other.yaml:1"),
    ]
    assert site.victim() == (before, ["Invalid"])


def test_a_file_of_fifty_megabytes_is_not_read(site: Site) -> None:
    """One error with its size; the daemon's memory does not see it."""
    before, _ = site.victim()
    peak = _peak(site.running.popen.pid)
    line = b"# " + b"x" * 1021 + b"\n"
    errors = site.harmed({"victim.yaml": build("victim").encode() + line * (50 * 1024)})
    assert [location for location, _ in errors] == ["victim.yaml:1:1"]
    assert "split it" in errors[0][1]
    assert "1,048,576" in errors[0][1]
    assert _peak(site.running.popen.pid) - peak < 20 << 20
    assert site.victim() == (before, ["Invalid"])


def _peak(pid: int) -> int:
    """The most memory a process ever had, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) * 1024


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside.yaml", "project.yaml", "victim.yaml"])
def test_a_symbolic_link_is_never_followed(site: Site, target: str) -> None:
    """Out of the tree, into it or onto itself: an error, and nothing of what it points to is declared."""
    before, _ = site.victim()
    (site.repo.path / "victim.yaml").unlink()
    os.symlink(target, site.repo.path / "victim.yaml")
    errors = site.harmed({})
    assert [location for location, _ in errors] == ["victim.yaml:1:1"]
    assert "symbolic link" in errors[0][1]
    assert site.victim() == (before, ["Invalid"])


def test_a_linked_folder_declares_nothing(site: Site) -> None:
    """A link to a folder outside with specs in it is no way in."""
    outside = site.repo.path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "in.yaml").write_text(build("smuggled"))
    os.symlink(outside, site.repo.path / "folder")
    site.repo.commit()
    site.applied()
    assert "smuggled" not in str(site.get("/reconciler/resources"))


def test_a_script_file_that_links_out_of_the_tree_is_refused(site: Site) -> None:
    """`run_file` reads plain files of the repository only."""
    os.symlink("/etc/passwd", site.repo.path / "script.sh")
    spec = build("victim").replace("run: echo", "run_file: script.sh")
    errors = site.harmed({"victim.yaml": spec})
    assert [location for location, _ in errors] == ["victim.yaml:7:17"]
    assert "script.sh" in errors[0][1]
    assert "root:" not in str(site.get(f"/reconciler/resources/{VICTIM}"))


def test_a_removed_reference_holds_what_refers_to_it(site: Site) -> None:
    """A Repository in use leaves Git: it is kept (`InUse`), its Build is `Invalid`, and both heal."""
    repository = (
        "apiVersion: steersman/v1\nkind: Repository\nmetadata: {name: code, project: shop}\n"
        "spec: {url: 'https://git.example.org/code.git'}\n"
    )
    site.repo.commit(
        {"code.yaml": repository, "victim.yaml": build("victim", "echo r", spec="  repo: code\n")}
    )
    assert site.errors() == []
    errors = site.harmed({"code.yaml": None})
    assert [location for location, _ in errors] == ["victim.yaml:5:9"]
    held = site.applied()["held"]
    assert [(h["reason"], h["keys"]) for h in held] == [("InUse", ["Repository/shop/code"])]
    assert site.victim() == ("echo r", ["Invalid"])
    assert site.get("/reconciler/resources/Repository/shop/code")["spec"]["url"]
    site.heal()
    assert site.applied()["held"] == []
    with site.running.client() as client:
        assert client.get("/reconciler/resources/Repository/shop/code").status_code == 404


def test_removals_wait_while_a_file_never_parsed(site: Site) -> None:
    """A renamed file with a typo in it does not remove what it declares: `PruneHeld` names the file."""
    before, _ = site.victim()
    site.harmed({"victim.yaml": None, "renamed.yaml": "kind: [\n"})
    held = site.applied()["held"]
    assert [(h["reason"], h["keys"]) for h in held] == [("PruneHeld", [VICTIM])]
    assert "renamed.yaml" in held[0]["message"]
    assert site.victim()[0] == before
    site.repo.commit({"renamed.yaml": build("victim", "echo moved")})
    assert site.errors() == []
    assert site.applied()["held"] == []
    assert site.victim() == ("echo moved", [])
    assert site.get(f"/reconciler/resources/{VICTIM}")["location"] == "renamed.yaml:1"


def test_a_bad_file_that_is_bad_in_another_way_next_tells_the_newer_error(site: Site) -> None:
    """Error after error: the newest is told, the last good version is still the first one."""
    before, _ = site.victim()
    for content, place, sentence in list(CASES.values())[:6]:
        site.repo.commit({"victim.yaml": content})
        check(site.errors(), place, sentence)
        assert site.victim() == (before, ["Invalid"])
    site.heal()


def test_the_daemon_is_as_small_after_all_of_this_as_before(site: Site) -> None:
    """No bad file leaves its bytes in memory."""
    before = psutil.Process(site.running.popen.pid).memory_info().rss
    for _ in range(3):
        site.repo.commit({"victim.yaml": bomb()})
        site.errors()
        site.heal()
    assert psutil.Process(site.running.popen.pid).memory_info().rss - before < 20 << 20
