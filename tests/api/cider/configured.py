"""A daemon that watches two repositories with project configurations, for the numbered cases of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.cider.conftest import A, Cider
from tests.api.escape.conftest import document
from tests.api.srht.conftest import FILES, SETTINGS, World
from tests.support import SpecRepository, eventually_now, once, process

FINAL = ("passed", "failed", "aborted", "defective")
SCRIPTED = """
jobs:
  unit: {name: Unit tests, task: 'echo unit'}
  ten: {task: 'echo ten'}
  'Ünit: all & more': {description: Every one of them., task: 'true'}
  bodies: {task: 'echo bodies'}
  empty: {tasks: {}}
  misspelt: {tasks: {a: {aggregate_state: satisfy-some, body: 'true'}}}
  sorted: {tasks: {b: 'true', a: 'exit 1', C: 'true'}}
  flaky: {task: 'echo x >> SHARED/flaky; test $(wc -l < SHARED/flaky) -ge 3'}
  last:
    task:
      aggregate_state: satisfy-last
      body: 'echo x >> SHARED/last; test $(wc -l < SHARED/last) -eq 2'
  eager:
    task:
      eager_trials: 2
      max_trials: 2
      dispatch_storm_delay_duration: 1 millisecond
      body: |
        n=2; mkdir SHARED/first 2>/dev/null && n=1
        echo "n=$n"
        until [ -e SHARED/go$n ]; do sleep 0.05; done
        exit 1
  long:
    context:
      task_defaults: {exclusive_global_resources: {lane: true}}
      tasks:
        one: &long
          scripts:
            main:
              timeout: 10 minutes
              body: |
                trap '' TERM; touch SHARED/trapped
                test -e SHARED/resumed || while true; do sleep 0.2; done
        two: *long
  slow: {task: {scripts: {main: {body: 'sleep 10', timeout: 1 second}}}}
  skipped: &skipped
    task:
      scripts:
        main: 'true'
        never: {body: 'true', start_when: {other: {script_key: main, states: [failed]}}}
  ignored:
    task:
      scripts:
        main: 'true'
        never: {body: 'true', ignore_state: true, start_when: {other: {script_key: main, states: [failed]}}}
  kept:
    task:
      body: |
        mkdir -p out; printf 'whole report' > 'out/re port.xml'; printf shared > shared.txt
        echo '{"score": 7}' > result.json
      trial_attachments: {reports: {include_match: '^out/', content_type: text/xml}}
      tree_attachments: {shared: {include_match: '^shared\\.txt$', content_type: text/x-shared}}
  also: {task: 'true'}
  environment: {task: 'env | grep ^CIDER_CI | sort; echo $CONTINUOUS_INTEGRATION; pwd'}
  two_tasks: {tasks: {Build It: {scripts: {main: 'echo built', 'and so': 'echo so'}}, test: 'echo tested'}}
"""


class Configured(World):
    """A daemon, its callers, and the repositories that it watches; `shared`: a folder that scripts write."""

    def __init__(self, *parts: Any, web: SpecRepository, other: SpecRepository, shared: Path) -> None:
        super().__init__(*parts)
        self.web, self.other, self.shared = web, other, shared
        self.bob = Cider(self["bob"])

    def tree(self, revision: str = "HEAD", of: SpecRepository | None = None) -> str:
        """The id of a tree."""
        return (of or self.web).git("rev-parse", f"{revision}^{{tree}}")

    def ask(self, tree: str, key: str, name: str = "bob") -> httpx.Response:
        """Ask for a job."""
        return self[name].post(f"{A}/jobs/create", json={"tree_id": tree, "key": key})

    def create(self, key: str, tree: str | None = None) -> dict[str, Any]:
        """A new job."""
        answer = self.ask(tree or self.tree(), key)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def run_job(self, key: str, tree: str | None = None, seconds: float = 60) -> dict[str, Any]:
        """A new job once it has ended."""
        return self.final(self.create(key, tree)["id"], seconds)

    def wait(self, path: str, check: Callable[[dict[str, Any]], Any], seconds: float = 60) -> dict[str, Any]:
        """A resource as soon as something is so."""
        found: dict[str, Any] = once(lambda: self.bob.get(path), check, seconds, self.running.log)
        return found

    def final(self, job: str, seconds: float = 60) -> dict[str, Any]:
        """A job once its state is final."""
        return self.wait(f"{A}/jobs/{job}", lambda found: found["state"] in FINAL, seconds)

    def tasks_of(self, job: str) -> dict[str, dict[str, Any]]:
        """Its tasks by name."""
        ids = self.bob.every(f"{A}/jobs/{job}/tasks/", "tasks")
        return {task["name"]: task for task in (self.bob.get(f"{A}/tasks/{each['id']}") for each in ids)}

    def trials_of(self, task: str) -> list[dict[str, Any]]:
        """As they are listed."""
        ids = self.bob.every(f"{A}/tasks/{task}/trials/", "trials")
        return [self.bob.get(f"{A}/trials/{each['id']}") for each in ids]

    def scripts_of(self, trial: str) -> dict[str, dict[str, Any]]:
        """By key."""
        ids = self.bob.every(f"{A}/trials/{trial}/scripts/", "scripts")
        return {each["key"]: each for each in (self.bob.get(f"{A}/scripts/{each['id']}") for each in ids)}

    def only(self, job: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The only task of a job, and its trials."""
        (task,) = self.tasks_of(job).values()
        return task, self.trials_of(task["id"])

    def listed(self, **params: Any) -> set[str]:
        """Ids of all jobs that fit."""
        return {job["id"] for job in self.bob.every(f"{A}/jobs/", "jobs", **params)}


def specifications(web: Path, other: Path, shared: Path) -> dict[str, str]:
    """What is declared."""
    images = "{debian/stable: {type: host}, host: {type: host}}"
    executor = f"{{max_load: 8, images: {images}, writable: ['{shared}']}}"
    return {
        **FILES,
        "executor.yaml": document("Executor", "name: exec-1", executor),
        "repositories.yaml": "---\n".join(
            document(
                "Repository",
                f"name: {name}, project: shop",
                f"{{url: '{path}', cider_ci: {{}}, fetch_interval_seconds: 10}}",
            )
            for name, path in (("web", web), ("other", other))
        ),
        "readers.yaml": document(
            "RoleBinding", "name: ana, project: shop", "{role: read, subjects: [{kind: User, name: ana}]}"
        ),
    }


CASE_SETTINGS = SETTINGS | {"STEERSMAN_STOP_GRACE_SECONDS": "3"}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """History A–B–C in one repository: `next` is at B, `master` at C, `copy` at another commit with the tree of C."""
    folder = tmp_path_factory.mktemp("cases")
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    web, other = SpecRepository(folder / "web", "master"), SpecRepository(folder / "other", "dev")
    text = SCRIPTED.replace("SHARED", str(shared))
    web.commit({"cider-ci.yml": text, "file": "A"}, "A")
    web.git("tag", "A")
    web.commit({"file": "B"}, "B")
    web.git("branch", "next")
    web.commit({"file": "C"}, "C")
    web.git("branch", "copy")
    web.git("checkout", "-q", "copy")
    web.commit(message="the same tree")
    web.git("checkout", "-q", "master")
    other.commit({"cider-ci.yml": text, "elsewhere": "1"})
    repo = SpecRepository(folder / "specs")
    repo.commit(specifications(web.path, other.path, shared))
    with process(repo.path, folder / "data", **CASE_SETTINGS) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        made = Configured(running, repo, web=web, other=other, shared=shared)
        with contextlib.closing(made):
            heads = {made.tree(), made.tree(of=other)}
            eventually_now(
                lambda: heads <= {c["tree_id"] for c in made.bob.every(f"{A}/commits/", "commits")}
            )
            yield made
