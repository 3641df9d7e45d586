"""Scripts of project configurations with real processes: what they are told, and what is kept of what they leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from reconciler.apply.jobs import insert as insert_job
from reconciler.daemon import Daemon
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Checkout, Job, Origin, Reason, State, Trial, configuration_key
from reconciler.store import attachments, jobs
from reconciler.store.attachments import StoredFile, of_tree, of_trial
from reconciler.store.database import Connection, Write
from reconciler.store.history import heads_with
from reconciler.store.jobs import NewJob
from reconciler.store.tables import branches
from specs.configuration import read
from specs.configuration_work import work as work_of
from tests.api.escape.conftest import document
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
SPECS = build("tasks: [{name: unused, run: echo}]\n")
CODE = "Repository/shop/code"
FILES = {"README": "hello\n"}


def code(tmp_path: Path) -> SpecRepository:
    """The repository that the jobs are of."""
    repo = SpecRepository(tmp_path / "code")
    repo.commit(dict(FILES))
    return repo


async def submit(
    running: Daemon, repo: SpecRepository, text: str, *, key: str = "unit", days: dict[str, int] | None = None
) -> int:
    """A job of this declaration; its number."""
    configuration = read({"cider-ci.yml": f"jobs: {{{key}: {text}}}".encode()}.get)
    data = work_of(configuration.jobs[key]) | {"concurrency": "allow", "priority": 0}
    if days is not None:
        data["configuration"] = {**data["configuration"], "attachment_days": days}
    await running.installation.mirrors.fetched(str(repo.path), 0)
    head, tree = repo.head(), repo.git("rev-parse", "HEAD^{tree}")
    new = NewJob(
        configuration_key("shop", key), data, key, Checkout(str(repo.path), head, tree, "main"),
        {"type": "api", "repository": CODE, "url": str(repo.path)}, {}, "User/alice",
        origin=Origin.CONFIGURATION, name=key,
    )  # fmt: skip
    number: int = await running.installation.database.write(lambda w: insert_job(w, new))
    running.installation.wake("dispatch")
    return number


def head(write: Write, name: str, tree: str) -> None:
    """A branch that has this tree."""
    row = {
        "repository": CODE, "name": name, "folded": name, "commit": "c" * 40, "tree": tree,
        "moved_at": write.now,
    }  # fmt: skip
    write.connection.execute(insert(branches).values(row))


async def kept(running: Daemon, job: Job) -> tuple[list[StoredFile], list[StoredFile]]:
    """Files of the newest trial, and of the tree."""

    def look(c: Connection) -> tuple[list[StoredFile], list[StoredFile]]:
        trial = of_trial(job.tasks[0].trials[-1].id)
        tree = of_tree("shop", job.checkout.tree or "")
        return (attachments.page(c, trial, limit=99, offset=0), attachments.page(c, tree, limit=99, offset=0))

    return await running.installation.database.read(look)


def run(
    tmp_path: Path,
    new_database: NewDatabase,
    work: Callable[[Daemon, SpecRepository], Awaitable[None]],
    **settings: Any,
) -> None:
    """In a daemon, beside a repository of code."""
    repo = code(tmp_path)

    async def inside(running: Daemon, _specs: SpecRepository) -> None:
        await work(running, repo)

    live(tmp_path, new_database, SPECS, inside, **settings)


PRINTED = "env | grep -E '^(CIDER_CI|CONTINUOUS|OWN|STEERSMAN_CONFIG)' | sort"


def test_what_scripts_are_told(tmp_path: Path, new_database: NewDatabase) -> None:
    """The ids, the branches and the working directory; own variables name them, and go before them."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        tree = repo.git("rev-parse", "HEAD^{tree}")
        for name, of in (("next", tree), ("main", tree), ("other", "a" * 40)):
            await running.installation.database.write(lambda w, n=name, t=of: head(w, n, t))
        text = (
            "{task: {environment_variables: {own_dir: '{{cider_ci_working_dir}}/x', OWN_NONE: null, "
            "OWN_TRIAL: 't-{{CIDER_CI_TRIAL_ID}}', OWN_OTHER: '{{NOBODY}}', CONTINUOUS_INTEGRATION: mine}, "
            "scripts: {main: %s, plain: {body: 'echo \"$OWN_TRIAL\"', template_environment_variables: false}}}}"
        )
        number = await submit(running, repo, text % json.dumps(PRINTED + "; pwd"))
        job = await finished(running, number)
        assert job.state is State.PASSED, job.tasks
        (task,) = job.tasks
        (trial,) = task.trials
        assert (await text_of(running, number, script="main")).splitlines() == [
            "CIDER_CI=true",
            'CIDER_CI_CURRENT_BRANCH_HEADS=["main", "next"]',
            f"CIDER_CI_JOB_ID={job.id}",
            f"CIDER_CI_TASK_ID={task.id}",
            f"CIDER_CI_TREE_ID={tree}",
            f"CIDER_CI_TRIAL_ID={trial.id}",
            "CIDER_CI_WORKING_DIR=/workspace",
            "CONTINUOUS_INTEGRATION=mine",
            "OWN_DIR=/workspace/x",
            "OWN_OTHER={{NOBODY}}",
            f"OWN_TRIAL=t-{trial.id}",
            "STEERSMAN_CONFIGURATION=unit",
            "/workspace",
        ]
        assert await text_of(running, number, script="plain") == "t-{{CIDER_CI_TRIAL_ID}}\n"

    run(tmp_path, new_database, work)


def test_the_working_directory_is_as_the_script_sees_it(tmp_path: Path, new_database: NewDatabase) -> None:
    """Without a sandbox it is that of the host."""
    bare = "---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {name: bare}\nspec: {sandbox: 'off'}\n"
    repo = code(tmp_path)

    async def work(running: Daemon, _specs: SpecRepository) -> None:
        text = "{task: {environment_variables: {OWN: '{{CIDER_CI_WORKING_DIR}}'}, body: 'pwd; echo $OWN'}}"
        number = await submit(running, repo, text)
        job = await finished(running, number)
        assert job.state is State.PASSED, job.tasks
        here, own = (await text_of(running, number)).splitlines()
        assert here == own
        assert here.startswith(str(tmp_path / "data/workspaces"))

    live(tmp_path, new_database, SPECS + bare, work, allow_unsandboxed=True)


def test_variables_without_an_end_are_told(tmp_path: Path, new_database: NewDatabase) -> None:
    """They become so only by what is known at the start: here by the name of a branch."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        tree = repo.git("rev-parse", "HEAD^{tree}")
        await running.installation.database.write(lambda w: head(w, "{{OWN}}{{OWN}}", tree))
        text = "{task: {environment_variables: {OWN: '{{CIDER_CI_CURRENT_BRANCH_HEADS}}'}, max_trials: 1, body: x}}"
        job = await finished(running, await submit(running, repo, text))
        trial = job.tasks[0].trials[0]
        assert (job.state, trial.state, trial.reason) == (
            State.DEFECTIVE, State.DEFECTIVE, Reason.CONFIGURATION,
        )  # fmt: skip
        assert trial.error is not None
        assert trial.error.startswith("main: ")
        assert "{{…}}" in trial.error

    run(tmp_path, new_database, work)


def test_a_restart_tells_the_same(tmp_path: Path, new_database: NewDatabase) -> None:
    """To scripts that begin after it."""
    specs, repo = SpecRepository(tmp_path / "specs"), code(tmp_path)
    declared = document("Repository", "name: code, project: shop", f"{{url: '{repo.path}', cider_ci: {{}}}}")
    specs.commit({"work.yaml": SPECS, "project.yaml": PROJECT, "code.yaml": declared})
    settings = settings_for(specs, tmp_path / "data", database=new_database())
    wait = json.dumps(PRINTED + "; while [ ! -e ~/go ]; do sleep 0.02; done")
    after = f"b: {{body: {json.dumps(PRINTED)}, start_when: {{a: {{script_key: a}}}}}}"
    text = f"{{task: {{scripts: {{a: {wait}, {after}}}}}}}"

    async def first() -> int:
        async with Daemon(settings) as running:
            await running.installation.run_now("source")
            tree = repo.git("rev-parse", "HEAD^{tree}")

            async def fetched() -> bool:
                return bool(await running.installation.database.read(lambda c: heads_with(c, CODE, tree)))

            await eventually(fetched)
            number = await submit(running, repo, text)

            async def told() -> bool:
                return "CIDER_CI=true" in await text_of(running, number)

            await eventually(told)
            return number

    async def second(number: int) -> None:
        async with daemon(settings) as running:
            (home,) = (tmp_path / "data/workspaces").glob("*/home")
            (home / "go").touch()
            job = await finished(running, number)
            assert job.state is State.PASSED, job.tasks
            before = await text_of(running, number, script="a")
            assert before == await text_of(running, number, script="b")
            assert 'CIDER_CI_CURRENT_BRANCH_HEADS=["main"]' in before
            assert len(job.tasks[0].trials) == 1

    asyncio.run(second(asyncio.run(first())))


ATTACHED = """{task: {
  trial_attachments: {
    logs: {include_match: '\\.log$', exclude_match: ^old/, content_type: text/x-log},
    all: {include_match: ^out/, content_type: application/octet-stream}},
  tree_attachments: {pack: {include_match: '^out/.*\\.txt$', content_type: text/plain}},
  max_trials: 1, body: %s}}"""


def test_files_are_kept_by_rules_whatever_the_outcome(tmp_path: Path, new_database: NewDatabase) -> None:
    """Of the rules that fit the first counts; a file may be kept for the trial and for the tree; links never."""
    text = (
        "mkdir -p out old; echo 1 >a.log; echo 2 >old/b.log; echo 3 >out/c.log; echo 4 >'out/d e.txt'; "
        "ln -s /etc/passwd out/e.txt; ln -s /etc out/f; mkfifo out/g.txt; exit 3"
    )

    async def work(running: Daemon, repo: SpecRepository) -> None:
        number = await submit(running, repo, ATTACHED % json.dumps(text))
        job = await finished(running, number)
        trial = job.tasks[0].trials[0]
        assert (job.state, trial.reason, trial.error) == (State.FAILED, Reason.EXIT_STATUS, None)
        of_the_trial, of_the_tree = await kept(running, job)
        assert [(file.path, file.content_type, file.size) for file in of_the_trial] == [
            ("a.log", "text/x-log", 2),
            ("out/c.log", "text/x-log", 2),
            ("out/d e.txt", "application/octet-stream", 2),
        ]
        assert [(file.path, file.content_type) for file in of_the_tree] == [("out/d e.txt", "text/plain")]
        store = running.installation.attachments
        assert store.open(of_the_tree[0].digest).read_bytes() == b"4\n"
        assert of_the_tree[0].digest == of_the_trial[2].digest

    run(tmp_path, new_database, work)


def test_a_tree_keeps_the_newest_of_each_path(tmp_path: Path, new_database: NewDatabase) -> None:
    """Whichever job of the tree left it; one that is replaced gets another id; others stay."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        text = ATTACHED
        one = text % json.dumps("mkdir out; echo one >out/a.txt; echo kept >out/b.txt")
        first = await finished(running, await submit(running, repo, one, key="one"))
        before = {file.path: file for file in (await kept(running, first))[1]}
        two = text % json.dumps("mkdir out; echo two >out/a.txt")
        second = await finished(running, await submit(running, repo, two, key="two"))
        after = {file.path: file for file in (await kept(running, second))[1]}
        assert set(before) == set(after) == {"out/a.txt", "out/b.txt"}
        assert before["out/b.txt"] == after["out/b.txt"]
        assert before["out/a.txt"].id != after["out/a.txt"].id
        store = running.installation.attachments
        assert store.open(after["out/a.txt"].digest).read_bytes() == b"two\n"

    run(tmp_path, new_database, work)


@pytest.mark.parametrize(
    ("days", "expected"), [(None, (10, 90)), ({"trial": 3, "tree": 400}, (3, 400)), ({"tree": 7}, (10, 7))]
)
def test_how_long_files_are_kept(
    tmp_path: Path, new_database: NewDatabase, days: dict[str, int] | None, expected: tuple[int, int]
) -> None:
    """As the job says; by default those of a trial for 10 days, those of a tree for 90."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        text = ATTACHED % json.dumps("mkdir out; echo 1 >out/a.txt")
        job = await finished(running, await submit(running, repo, text, days=days))
        now = datetime.now(UTC)

        def left(c: Connection) -> dict[str, timedelta]:
            table = attachments.attachments
            rows = c.execute(table.select().with_only_columns(table.c.owner_kind, table.c.expires))
            return {row.owner_kind: row.expires - now for row in rows}

        assert job.state is State.PASSED
        found = await running.installation.database.read(left)
        for kind, wanted in zip(("trial", "tree"), expected, strict=True):
            assert abs(found[kind] - timedelta(days=wanted)) < timedelta(minutes=1)

    run(tmp_path, new_database, work)


RESULTS: list[tuple[str, Any, str | None]] = [
    ("""echo '{"summary": "3 of 4", "value": [1, null, true]}' >result.json""",
     {"summary": "3 of 4", "value": [1, None, True]}, None),
    ("true", None, None),
    ("echo '{' >result.json", None, "not valid JSON"),
    ("echo '[NaN]' >result.json", None, "NaN is no JSON number"),
    ("printf '\\377' >result.json", None, "not UTF-8"),
    ("printf '\"%065534d\"' 0 >result.json", "0" * 65_534, None),
    ("printf '\"%065535d\"' 0 >result.json", None, "the limit is 65536"),
    ("head -c 60000 /dev/zero | tr '\\0' '[' >result.json", None, "nested deeper than"),
    ("echo 1 >r; ln -s r result.json", None, "is a link or cannot be read"),
    ("mkdir result.json", None, "is no regular file"),
    ("mkfifo result.json", None, "is no regular file"),
    ("""echo "\\"$STEERSMAN_TOKEN\\"" >result.json""", None, "holds a secret"),
]  # fmt: skip


async def result_of(running: Daemon, trial: Trial) -> Any:
    return await running.installation.database.read(lambda c: jobs.result_of(c, trial.id))


def test_a_file_becomes_the_result(tmp_path: Path, new_database: NewDatabase) -> None:
    """Any JSON; what is not taken is told, and changes no state."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        tasks = ", ".join(
            f"t{number:02}: {{body: {json.dumps(text)}, dispatch_storm_delay_duration: 1 millisecond}}"
            for number, (text, _, _) in enumerate(RESULTS)
        )
        job = await finished(running, await submit(running, repo, f"{{tasks: {{{tasks}}}}}"))
        assert job.state is State.PASSED
        for task, (text, value, told) in zip(job.tasks, RESULTS, strict=True):
            (trial,) = task.trials
            assert await result_of(running, trial) == value, text
            assert (trial.error is None) == (told is None), (text, trial.error)
            assert told is None or told in (trial.error or ""), (text, trial.error)

    run(tmp_path, new_database, work)


def test_a_result_is_kept_of_what_failed_too(tmp_path: Path, new_database: NewDatabase) -> None:
    async def work(running: Daemon, repo: SpecRepository) -> None:
        text = "{task: {max_trials: 1, body: 'echo 0 >result.json; exit 1'}}"
        job = await finished(running, await submit(running, repo, text))
        trial = job.tasks[0].trials[0]
        assert (trial.state, await result_of(running, trial)) == (State.FAILED, 0)

    run(tmp_path, new_database, work)


def test_starts_of_one_executor_are_apart(tmp_path: Path, new_database: NewDatabase) -> None:
    """By the delay of who is to start, and what asks for none does not wait."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        slow = "{body: 'true', dispatch_storm_delay_duration: 2 seconds}"
        job = await finished(
            running, await submit(running, repo, f"{{tasks: {{a: {slow}, b: {slow}, c: {slow}}}}}")
        )
        assert job.state is State.PASSED
        starts = [task.trials[0].started_at for task in job.tasks]
        found = [start for start in starts if start is not None]
        assert found == sorted(found)
        apart = [(after - before).total_seconds() for before, after in pairwise(found)]
        # from one's dispatch to the next one's; under load, each may be late by itself
        assert all(seconds > 1 for seconds in apart), apart

    run(tmp_path, new_database, work)


def test_names_of_branches_are_bounded(tmp_path: Path, new_database: NewDatabase) -> None:
    """The kernel takes no variable of more than 128 KiB."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        tree = repo.git("rev-parse", "HEAD^{tree}")

        def fill(write: Write) -> None:
            for number in range(1000):
                head(write, f"{number:04}-{'x' * 200}", tree)

        await running.installation.database.write(fill)
        text = "{task: {max_trials: 1, body: 'printf %s \"$CIDER_CI_CURRENT_BRANCH_HEADS\"'}}"
        number = await submit(running, repo, text)
        assert (await finished(running, number)).state is State.PASSED
        names = json.loads(await text_of(running, number))
        assert names == [f"{number:04}-{'x' * 200}" for number in range(len(names))]
        assert 300 < len(names) < 400

    run(tmp_path, new_database, work)
