"""What a team does in the two seconds in which its daemon is killed: what is declared, and the steps that are taken.

Read by `tests.crash.drive`, which takes the steps. Every script appends one line to a file, with its trial, before it
does anything else, and prints a known text; nothing in it depends on time, on load, or on which job came first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.crash import released
from tests.crash.pushed import Pushed
from tests.support import SpecRepository, database_for

TOKEN = "stm_this-secret-is-masked-in-every-log"
WEBHOOK_SECRET = "what-the-forge-knows"
GRACE_SECONDS = 5.0
STARTS = "starts"
_MARK = (
    'mark() { printf "%s\\t%s\\t%s\\t%s\\t%s\\n" '
    '"$STEERSMAN_BUILD" "$STEERSMAN_JOB" "$STEERSMAN_TASK" "$STEERSMAN_ATTEMPT" "$STEERSMAN_TRIAL" '
    f'>>"$MARKS/{STARTS}"; }}; mark\n'
)
Task = Mapping[str, Any]


def _task(name: str, run: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "run": _MARK + run, "traits": ["boxed"]} | more


# A chain over a matrix: outputs and files are handed on, rows share a lock, the last one has all of it.
_WIDE = (
    _task(
        "prepare",
        'seq -f "prepared %06g" 1 5000; echo "colour=green" >>"$STEERSMAN_OUTPUTS"; echo made >plan.txt',
        attachments=["plan.txt"],
        cache=[{"key": "wide", "paths": ["plan.txt"]}],
    ),
    _task(
        "row",
        'cat "$STEERSMAN_NEEDS"/prepare/plan.txt; '
        'echo "$MATRIX_SIDE $MATRIX_LEVEL $OUTPUT_prepare_colour" | tee row.txt',
        needs=["prepare"],
        matrix={"side": ["left", "right"], "level": ["1", "2", "3"]},
        attachments=["row.txt"],
    ),
    _task(
        "join",
        'for folder in "$STEERSMAN_NEEDS"/row*/; do cat "$folder/row.txt"; done | sort | tee all.txt',
        needs=["row"],
        attachments=["all.txt"],
    ),
)
_CODE = (
    _task(
        "compile",
        "cat main.c; mkdir -p build; echo object >build/main.o; sleep 0.1; echo compiled",
        cache=[{"key": "build-{files:main.c}", "paths": ["build"]}],
        attachments=["build/*"],
    ),
    _task("one", "echo one; sleep 0.05", exclusive=["board"]),
    _task("two", "echo two; sleep 0.05", exclusive=["board"]),
)
_FAILING = (
    _task("lint", "echo about to fail; exit 3", attachments=["nothing.txt"]),
    _task("never", "echo never", needs=["lint"]),
    _task("clean", "echo cleaned", needs=["lint"], when="always"),
    _task(
        "flaky",
        'echo "try $STEERSMAN_ATTEMPT"; [ "$STEERSMAN_ATTEMPT" = 2 ]',
        max_trials=2,
        ignore_failure=True,
    ),
)
_LOUD = (
    _task("masked", f'seq -f "%05g not {TOKEN}" 1 2500; sleep 0.15; echo end', traits=["bare"]),
    _task("quiet", "echo quiet", traits=["bare"], needs=["masked"], attachments=["nothing.txt"]),
)
_SERVED = (
    _task(
        "asks",
        "cat answer.txt; echo served",
        services=[
            {
                "name": "db",
                "run": "echo up; echo 42 >answer.txt; exec sleep 60",
                "ready": "test -s answer.txt",
            }
        ],
    ),
)
_ENDLESS = (_task("waits", "echo waiting; exec sleep 60"), _task("later", "echo later", needs=["waits"]))
_MANY = (
    _task("many", 'echo "number $MATRIX_NUMBER"', matrix={"number": [f"{n:02}" for n in range(26)]}),
    _task("last", "echo all done", needs=["many"]),
)
_GREET = (_task("greet", 'echo "hello $INPUT_WHO"', attachments=["nothing.txt"]),)
_AFTER = (_task("follow", 'echo "after $STEERSMAN_TRIGGER"'),)


# Scripts one after the other in one home: the second writes down its start, the last shows what each of them left.
_MANIFEST = """\
image: box
environment: {{MARKS: '{marks}'}}
tasks:
- first: |
    {{ set +x; }} 2>/dev/null
    echo first >>~/trace; sleep 0.1; echo one
- second: |
    {{ set +x; }} 2>/dev/null
    STEERSMAN_BUILD=build
    {mark}
    echo second >>~/trace; sleep 0.1; echo two
- third: |
    {{ set +x; }} 2>/dev/null
    echo third >>~/trace; cat ~/trace; complete-build
- never: exit 1
artifacts: [trace]
"""


def _build(name: str, tasks: tuple[Task, ...], marks: Path, **spec: Any) -> dict[str, Any]:
    body = {"environment_variables": {"MARKS": str(marks)}, "triggers": [{"type": "change"}]} | spec
    return {
        "apiVersion": "steersman/v1",
        "kind": "Build",
        "metadata": {"name": name, "project": "shop"},
        "spec": body | {"tasks": list(tasks)},
    }


def _executors(marks: Path) -> list[dict[str, Any]]:
    """One in a sandbox; one without, whose logs go through the recorder."""
    common = {"max_load": 6, "writable": [str(marks)]}
    images = {"host": {"type": "host"}, "box": {"type": "host"}}
    specs = {
        "boxed": common | {"traits": ["boxed"], "images": images},
        "bare": common | {"sandbox": "off", "traits": ["bare"]},
    }
    return [
        {"apiVersion": "steersman/v1", "kind": "Executor", "metadata": {"name": name}, "spec": spec}
        for name, spec in specs.items()
    ]


class World:
    """The repositories and folders of one run; made anew for each, outside of the daemon's reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True)
        (self.marks / STARTS).touch()
        self.specs = SpecRepository(folder / "specs")
        self.code = SpecRepository(folder / "code")
        self.code.commit({"main.c": "int main(void) { return 0; }\n"})
        self.pushed = Pushed(folder / "web", _MARK, self.marks)
        self._heads: dict[str, str] = {}
        self.first()

    @property
    def environment(self) -> dict[str, str]:
        """Settings of its daemon."""
        return {
            "STEERSMAN_REPO": str(self.specs.path),
            "STEERSMAN_DATA": str(self.data),
            "STEERSMAN_PORT": "0",
            "STEERSMAN_ADMIN_TOKEN": TOKEN,
            "STEERSMAN_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STEERSMAN_STOP_GRACE_SECONDS": str(GRACE_SECONDS),
            "STEERSMAN_ALLOW_LOCAL_REPOSITORIES": "1",
            "STEERSMAN_ALLOW_UNSANDBOXED": "1",
        } | database_for(self.data)

    def starts(self) -> list[list[str]]:
        """What the scripts wrote when they began: build, job, task, attempt, trial."""
        text = (self.marks / STARTS).read_text(encoding="utf-8")
        return [line.split("\t") for line in text.splitlines()]

    @property
    def manifest(self) -> str:
        """What somebody submits."""
        return _MANIFEST.format(marks=self.marks, mark=_MARK.strip())

    def first(self) -> str:
        """The commit that is there before the daemon is."""
        change = _build("code", _CODE, self.marks, repo=str(self.code.path), branch="main")
        change["spec"]["triggers"] = [{"type": "poll", "interval_seconds": 3600}]
        after = [{"type": "build", "builds": ["wide", "loud"]}]
        documents: dict[str, Sequence[Mapping[str, Any]]] = {
            "executors.yaml": _executors(self.marks),
            "pushed.yaml": self.pushed.declared(),
            "released.yaml": released.declared(str(self.code.path), _MARK, self.marks),
            "wide.yaml": [_build("wide", _WIDE, self.marks)],
            "code.yaml": [change],
            "failing.yaml": [_build("failing", _FAILING, self.marks)],
            "loud.yaml": [_build("loud", _LOUD, self.marks)],
            "endless.yaml": [_build("endless", _ENDLESS, self.marks, priority=9)],
            "after.yaml": [_build("after", _AFTER, self.marks, triggers=after)],
            "gone.yaml": [_build("gone", _AFTER, self.marks, triggers=[])],
        }
        return self._commit("first", {"project.yaml": released.PROJECT} | _texts(documents))

    def second(self) -> str:
        """More is declared, one Build is changed, one removed."""
        inputs = [{"id": "WHO", "default": "world"}]
        documents = {
            "served.yaml": [_build("served", _SERVED, self.marks)],
            "many.yaml": [_build("many", _MANY, self.marks)],
            "greet.yaml": [_build("greet", _GREET, self.marks, triggers=[], inputs=inputs)],
            "endless.yaml": [_build("endless", (_task("ends", "echo no longer endless"),), self.marks)],
        }
        return self._commit("second", {**_texts(documents), "gone.yaml": None})

    def third(self) -> str:
        """A file that cannot be read: the last good state stays in force."""
        return self._commit("third", {"many.yaml": "kind: [\n"})

    def fourth(self) -> str:
        """It is mended, and says something else."""
        many = [_build("many", _MANY[1:2], self.marks)]
        many[0]["spec"]["tasks"] = [_task("few", "echo few")]
        return self._commit("fourth", _texts({"many.yaml": many}))

    def _commit(self, name: str, files: Mapping[str, str | None]) -> str:
        """Committed once, however often it is asked for."""
        if name not in self._heads:
            self._heads[name] = self.specs.commit(files, name)
        return self._heads[name]


def _texts(documents: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """As YAML, of which JSON is a part."""
    return {
        name: "".join(f"---\n{json.dumps(document, indent=1)}\n" for document in found)
        for name, found in documents.items()
    }
