"""The part of the scenario that is pushed: a Repository with a project configuration and a manifest in its trees.

Made by `tests.crash.scenario`, once for each run. Two trees come after each other on one branch, of which the second
declares only one job; a branch beside it, whose configuration is bad, goes with the second push. Ids of commits and
trees differ from run to run, their names do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import SpecRepository

BAD_BRANCH = "aside"
USER = "jo"
FIRST_JOBS = {"unit": 1, "follows": 1, "last": 1, "pushed": 1}
"""Jobs of the first tree, by what `tests.crash.drive` calls their Build; `pushed` is that of the manifest."""
ALL_JOBS = FIRST_JOBS | {"unit": 2, "pushed": 2}

_ON_PUSH = {"push": {"type": "branch", "include_match": "^main$"}}


def _passed(key: str) -> dict[str, Any]:
    return {"it": {"type": "job", "job_key": key, "states": ["passed"]}}


def _script(mark: str, name: str, run: str, **more: Any) -> dict[str, Any]:
    """Scripts of one trial write a start line each."""
    own = (
        'STEERSMAN_BUILD="$STEERSMAN_CONFIGURATION"\n'
        f'STEERSMAN_TASK="$STEERSMAN_TASK/{name}"; STEERSMAN_TRIAL="$STEERSMAN_TRIAL/{name}"\n'
    )
    return {"body": own + mark + run} | more


def _configuration(mark: str, marks: Path) -> dict[str, dict[str, Any]]:
    """The jobs by key."""
    after = {"it": {"script_key": "main", "states": ["passed"]}}
    main = 'mkdir out; cp tree.txt out/report.txt; echo shared >shared.txt; sleep 0.05; echo "main $CIDER_CI"'
    unit = {
        "scripts": {
            "main": _script(mark, "main", main),
            "then": _script(
                mark, "then", "cat out/report.txt; echo '{\"score\": 7}' >result.json", start_when=after
            ),
        },
        "trial_attachments": {"reports": {"include_match": "^out/", "content_type": "text/plain"}},
        "tree_attachments": {"shared": {"include_match": "^shared\\.txt$", "content_type": "text/x-shared"}},
    }
    flaky = 'echo "try $STEERSMAN_ATTEMPT"; [ "$STEERSMAN_ATTEMPT" = 2 ]'
    common = {
        "environment_variables": {"MARKS": str(marks)},
        "traits": {"boxed": True},
        "dispatch_storm_delay_duration": "1 millisecond",
    }
    jobs: dict[str, dict[str, Any]] = {
        "unit": {"run_when": _ON_PUSH, "task": unit},
        "follows": {
            "run_when": _passed("unit"),
            "task": {"scripts": {"flaky": _script(mark, "flaky", flaky)}, "traits": {"bare": True}},
        },
        "last": {
            "run_when": _ON_PUSH,
            "depends_on": _passed("follows"),
            "task": {"scripts": {"only": _script(mark, "only", "echo last of all")}},
        },
    }
    for job in jobs.values():
        job["task"] = common | job["task"]
    return jobs


def _manifest(mark: str, marks: Path) -> dict[str, Any]:
    run = "{ set +x; } 2>/dev/null\nSTEERSMAN_BUILD=pushed\n" + mark + "sleep 0.05; echo manifest"
    return {"image": "box", "environment": {"MARKS": str(marks)}, "tasks": [{"says": run}]}


class Pushed:
    """The code repository as its team pushes to it. `mark`: what each script begins with."""

    def __init__(self, folder: Path, mark: str, marks: Path) -> None:
        self.code = SpecRepository(folder)
        self._names: dict[str, str] = {}
        self._jobs = _configuration(mark, marks)
        files = {
            "cider-ci.yml": json.dumps({"jobs": self._jobs}),
            ".build.yml": json.dumps(_manifest(mark, marks)),
            "tree.txt": "one\n",
        }
        self._commit(files, "one")
        self.code.git("checkout", "-q", "-b", BAD_BRANCH)
        self._commit({"cider-ci.yml": '{"jobs": {}, "job": 1}'}, BAD_BRANCH)
        self.code.git("checkout", "-q", "main")

    def declared(self) -> Sequence[Mapping[str, Any]]:
        """The Repository, and the User who submits its manifests."""
        spec = {
            "url": str(self.code.path),
            "fetch_interval_seconds": 3600,
            "cider_ci": {},
            "srht": {"manifests": [".build.yml"], "submit_as": USER},
        }
        user = {"kind": "User", "metadata": {"name": USER}, "spec": {}}
        repository = {"kind": "Repository", "metadata": {"name": "web", "project": "shop"}, "spec": spec}
        return [{"apiVersion": "steersman/v1"} | document for document in (user, repository)]

    def second(self) -> None:
        """Push once more: another tree on the branch, which is the only one then. Done once."""
        if "two" not in self._names.values():
            fewer = json.dumps({"jobs": {"unit": self._jobs["unit"]}})
            self._commit({"cider-ci.yml": fewer, "tree.txt": "two\n"}, "two")
            self.code.git("branch", "-q", "-D", BAD_BRANCH)

    def name(self, id_: str | None) -> str:
        """What a commit or a tree is called in each run; nothing for one that is not of here."""
        return self._names.get(id_ or "", "")

    def _commit(self, files: Mapping[str, str | bytes | None], name: str) -> None:
        commit = self.code.commit(files, name)
        self._names |= {commit: name, self.code.git("rev-parse", "HEAD^{tree}"): f"tree {name}"}
