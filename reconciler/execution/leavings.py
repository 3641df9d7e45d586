"""What scripts leave in their working directory and is kept: files by rules, and a result (cider-ci 5.6, section 6).

Called by `execution.run` in a thread once no script of a trial runs any more. What a script left is data, and the
directory hostile: no link is followed, all is bounded, and what holds a secret is left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.execution.attachments import AttachmentStore, Kept
from reconciler.execution.handover import hides
from reconciler.execution.masking import Masker, Unmaskable
from reconciler.model.job import Job
from reconciler.store.attachments import File, Owner, of_tree, of_trial
from reconciler.store.jobs import LiveTrial
from specs.configuration_matches import matches
from specs.configuration_text import UnreadableFile, document

_LARGEST_RESULT = 64 << 10  # bytes: it is kept in the database, and handed up to the task and the job
_DAYS = {"trial": 10, "tree": 90}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Rule = Mapping[str, Any]
"""{include_match, exclude_match, content_type}"""


@dataclass(frozen=True, slots=True)
class Lot:
    """Kept files of one owner, for so many days."""

    owner: Owner
    files: tuple[File, ...]
    days: float


@dataclass(frozen=True, slots=True)
class Left:
    """What a trial left: its lots, its result (any JSON), and sentences about what was not kept."""

    lots: tuple[Lot, ...] = ()
    result: Any = None
    complaints: tuple[str, ...] = ()


def lot_of(trial: str, kept: Iterable[Kept], days: float) -> Lot:
    """Files of a trial of which nothing more is known."""
    return Lot(of_trial(trial), tuple(File(k.path, k.digest, k.size, k.executable) for k in kept), days)


def by_rules(
    store: AttachmentStore, directory: Path, job: Job, trial: LiveTrial, stopped: Callable[[], bool]
) -> Left:
    """The trial and tree attachments of a task; a file may be both. Blocks; OSError when it cannot be stored.

    Once it is `stopped` the rest is left.
    """
    owners = {"trial": of_trial(trial.id), "tree": of_tree(job.key.split("/", 2)[1], job.checkout.tree or "")}
    rules = {kind: tuple(trial.policy.get(f"{kind}_attachments") or ()) for kind in owners}
    if not any(rules.values()):
        return Left()

    def chosen(path: str) -> bool:
        return any(_first(those, path) is not None for those in rules.values())

    kept, complaints = store.keep_chosen(directory, chosen, stopped)
    days = _DAYS | dict((job.specification.get("configuration") or {}).get("attachment_days") or {})
    lots = (Lot(owners[kind], tuple(_files(rules[kind], kept)), days[kind]) for kind in owners)
    return Left(tuple(lot for lot in lots if lot.files), complaints=tuple(complaints))


def _files(rules: Sequence[Rule], kept: Iterable[Kept]) -> Iterable[File]:
    for item in kept:
        rule = _first(rules, item.path)
        if rule is not None:
            yield File(item.path, item.digest, item.size, item.executable, rule["content_type"])


def _first(rules: Sequence[Rule], path: str) -> Rule | None:
    """The rule that counts for a path."""
    fits = (rule for rule in rules if matches(rule["include_match"], rule.get("exclude_match"), path))
    return next(fits, None)


def result(directory: Path, name: str, masker: Callable[[], Masker]) -> tuple[Any, tuple[str, ...]]:
    """The JSON value of a file of at most 64 KiB, None where there is none; what is wrong with it. Blocks.

    `masker`: knows the secrets that it must not hold, or raises Unmaskable.
    """
    try:
        data = _content(directory, name)
        if data is None:
            return None, ()
        value = document(name, data)
    except (UnreadableFile, _NoFile) as error:
        return None, (f"the result was left out: {error}",)
    try:
        known = masker()
    except Unmaskable:
        return None, (f"the result was left out: {name} may hold secrets",)
    if hides(known, data):
        return None, (f"the result was left out: {name} holds a secret",)
    return value, ()


class _NoFile(Exception):
    """Something else stands in the place of the file, or more than it may hold."""


def _content(directory: Path, name: str) -> bytes | None:
    """All of it; None: there is nothing of this name."""
    try:
        folder = os.open(directory, _DIRECTORY)
    except OSError:
        return None
    try:
        handle = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        raise _NoFile(f"{name} is a link or cannot be read") from None
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _NoFile(f"{name} is no regular file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(_LARGEST_RESULT + 1)
    if len(data) > _LARGEST_RESULT:
        raise _NoFile(f"{name} is too large; the limit is {_LARGEST_RESULT} bytes")
    return data
