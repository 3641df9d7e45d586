"""Fields that people write at a place where they cannot be: refused with a sentence that says more than "unknown".

One table. Called before a specification is validated; fields refused here are taken out first, so that they are not
reported as unknown too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specs.model import Steps

EACH = "*"
"""Stands for every item of a list or every value of a mapping."""

LEAKED = (
    "`{field}` is never written in Git: the value must be considered leaked; revoke it, and remove the field"
)
MISPLACED = "`{field}` is a field of a task, not of a build; move it to a task or to task_defaults"
OF_BUILDS = "`{field}` is a field of a build, not of a task; move it there"


@dataclass(frozen=True, slots=True)
class Refused:
    """Fields refused at one place of a kind."""

    kind: str
    where: tuple[str, ...]
    fields: tuple[str, ...]
    sentence: str


_TASK_FIELDS = ("run_on", "scripts", "steps", "release")
_TASK_PLACES = (("tasks", EACH), ("task_defaults",))

_LITERAL_SECRETS = ("private_key", "escape_auth_token", "password", "token")

# Fields of tasks that a Build does not have itself.
_MISPLACED = (
    "run", "run_file", "script", "needs", "matrix", "when", "ignore_failure", "traits", "image", "network",
    "load", "exclusive", "max_trials", "lost_retries", "eager_trials", "retry_on", "retry_delay_seconds",
    "attachments", "cache", "services", "packages", "repositories",
)  # fmt: skip

REFUSED: tuple[Refused, ...] = (
    *(
        Refused(kind, (), _LITERAL_SECRETS, LEAKED)
        for kind in ("User", "ServiceAccount", "Environment", "Repository", "Build", "Deployment", "Pipeline")
    ),
    Refused("Secret", (), ("value", "data", *_LITERAL_SECRETS), LEAKED),
    Refused("Build", (), _MISPLACED, MISPLACED),
    *(Refused("Build", place, _TASK_FIELDS, OF_BUILDS) for place in _TASK_PLACES),
    *(Refused("Build", place, _LITERAL_SECRETS, LEAKED) for place in _TASK_PLACES),
    Refused("Build", ("steps", EACH), _LITERAL_SECRETS, LEAKED),
    Refused("Pipeline", ("phases", EACH, "steps", EACH), _LITERAL_SECRETS, LEAKED),
    Refused("Pipeline", ("triggers", EACH), ("webhooktoken", *_LITERAL_SECRETS), LEAKED),
)


def take_refused(kind: str, spec: dict[str, Any]) -> list[tuple[Steps, str]]:
    """Where a specification has refused fields, and the sentence. They are taken out of `spec`, which is
    changed in place.
    """
    found: list[tuple[Steps, str]] = []
    for row in REFUSED:
        if row.kind == kind:
            for steps, part in _parts(spec, row.where, ()):
                found.extend(_take(row, steps, part))
    return found


def _take(row: Refused, steps: Steps, part: dict[str, Any]) -> Iterator[tuple[Steps, str]]:
    for field in row.fields:
        if field in part:
            del part[field]
            yield (*steps, field), row.sentence.format(field=field)


def _parts(value: Any, where: tuple[str, ...], steps: Steps) -> Iterator[tuple[Steps, dict[str, Any]]]:
    if not where:
        if isinstance(value, dict):
            yield steps, value
        return
    head, rest = where[0], where[1:]
    if head == EACH:
        for step, item in _items(value):
            yield from _parts(item, rest, (*steps, step))
    elif isinstance(value, dict) and head in value:
        yield from _parts(value[head], rest, (*steps, head))


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
