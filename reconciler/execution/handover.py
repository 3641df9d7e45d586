"""What a task hands on to those that need it: values by $STEERSMAN_OUTPUTS, files by $STEERSMAN_NEEDS (own-kinds).

Called by `execution.run` before and after a script. A script's outputs are data: bounded, checked, never evaluated.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.execution import processes
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.masking import Masker, Unmaskable
from reconciler.model.job import Job, State, Task, Trial
from reconciler.store.attachments import Attachment
from specs.build_work import as_word

_LARGEST = 256 << 10  # all of them become variables of other scripts, which the kernel bounds
_LARGEST_VALUE = 64 << 10
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Values by name, and a sentence for every line that was none."""

    values: Mapping[str, str]
    complaints: tuple[str, ...] = ()


_NO_FILE = Outputs({}, ("its outputs were not read: $STEERSMAN_OUTPUTS is no file any more",))


def read_outputs(path: Path) -> Outputs:
    """The NAME=value lines that a script wrote. Blocks; a file that is not as it was made gives nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Outputs({})
    except OSError:
        return _NO_FILE
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        return _NO_FILE
    with os.fdopen(handle, "rb") as file:
        if found.st_size > _LARGEST:
            return Outputs({}, (f"its outputs were not read: they are larger than {_LARGEST:,} bytes",))
        content = file.read(_LARGEST)
    values: dict[str, str] = {}
    complaints = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        pair = _pair(line)
        if pair is not None and len(line) > _LARGEST_VALUE:
            complaints.append(
                f"line {number} of its outputs is longer than {_LARGEST_VALUE:,} bytes and was left out"
            )
        elif pair is None:
            complaints.append(f"line {number} of its outputs is not NAME=value and was left out{_why(line)}")
        else:
            values[pair[0]] = pair[1]
    return Outputs(values, tuple(complaints[:20]))


def without_secrets(outputs: Outputs, masker: Callable[[], Masker]) -> Outputs:
    """Only those that hold no secret: they are stored, and shown. `masker` may raise Unmaskable."""
    if not outputs.values:
        return outputs
    try:
        known = masker()
    except Unmaskable:
        return Outputs({}, (*outputs.complaints, "its outputs were left out: they may hold secrets"))
    shown = {name: value for name, value in outputs.values.items() if not hides(known, value.encode())}
    left = [name for name in outputs.values if name not in shown]
    told = (f"its output {name} was left out: it holds a secret" for name in left[:20])
    return Outputs(shown, (*outputs.complaints, *told))


def hides(masker: Masker, text: bytes) -> bool:
    """Does a text hold a secret?"""
    fresh = masker.again()
    return fresh.feed(text) + fresh.flush() != text


def _pair(line: bytes) -> tuple[str, str] | None:
    try:
        name, mark, value = line.rstrip(b"\r").decode().partition("=")
    except UnicodeDecodeError:
        return None
    return (name, value) if mark and _NAME.fullmatch(name) and "\0" not in value else None


def _why(line: bytes) -> str:
    """Of a line whose name is none, how one is."""
    name, mark, _ = line.partition(b"=")
    if not mark or _NAME.fullmatch(name.decode("ascii", "replace")):
        return ""
    return ": a name has the letters A-Z and a-z, digits and _, and begins with no digit"


def givers(job: Job, needs: Iterable[str]) -> dict[str, Trial]:
    """Of each needed task the trial whose work counts: the one that passed, else the newest that ended."""
    wanted = set(needs)
    found = {task.name: _counting(task) for task in job.tasks if task.name in wanted}
    return {name: trial for name, trial in found.items() if trial is not None}


def _counting(task: Task) -> Trial | None:
    passed = next((trial for trial in task.trials if trial.state is State.PASSED), None)
    return passed or next((trial for trial in reversed(task.trials) if trial.state.finished), None)


def variables(trials: Mapping[str, Trial]) -> dict[str, str]:
    """OUTPUT_<TASK>_<NAME> of the needed tasks."""
    return {
        f"OUTPUT_{as_word(task)}_{name}": value
        for task, trial in trials.items()
        for name, value in trial.outputs.items()
    }


def place(
    folder: Path,
    files: Iterable[Attachment],
    store: AttachmentStore,
    *,
    share: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Lay out attachments as FOLDER/TASK/path. Blocks. `share`: the script cannot write them, so they are links.

    Once it is `stopped` the rest is left. NotFound when a file is no longer kept.
    """
    for item in files:
        if stopped():
            return
        target = folder / item.task / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = store.open(item.digest)
        if not (share and not item.executable and _linked(source, target)):
            shutil.copyfile(source, target)
            target.chmod(0o755 if item.executable else 0o644)
            if item.executable:
                processes.await_copies(target)


def _linked(source: Path, target: Path) -> bool:
    """A link to the kept file itself; not possible between two disks."""
    try:
        target.hardlink_to(source)
    except OSError:
        return False
    return True
