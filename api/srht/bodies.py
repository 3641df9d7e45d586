"""The body of a submission, field by field (builds-srht, 2.4 and 3.1): all that is wrong with it is told at once.

Called by the route with a decoded object; what its manifest must be is `specs.manifest`'s matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from api.srht.errors import BadRequest, Fault
from reconciler.commands.job_groups import GroupRequest
from reconciler.commands.manifests import Submission
from specs.manifest import BadManifest, Manifest, Trigger, check_triggers, parse

LONGEST_MANIFEST = 16_383
LONGEST_NOTE = 4_096
LONGEST_LIST = 1_000

_TAG = re.compile(r"[a-z0-9_.:-]+", re.ASCII)
_USER = re.compile(r"~?[A-Za-z0-9_.-]+", re.ASCII)
_EVERYBODY = "*"
Check = Callable[[str], str | None]
"""What is wrong with one string of a list, or None."""


def submission(data: Mapping[str, Any]) -> Submission:
    """What a body asks for; BadRequest. Unknown keys are left alone."""
    fields = _Fields(data)
    text = fields.text("manifest", longest=LONGEST_MANIFEST, required=True)
    note = fields.text("note", longest=LONGEST_NOTE)
    tags = fields.texts("tags", (), _tag)
    readers = fields.texts("access:read", (_EVERYBODY,), _reader)
    writers = fields.texts("access:write", (), _writer)
    triggers = fields.triggers()
    execute = fields.boolean("execute", default=True)
    secrets = fields.boolean("secrets", default=True)
    if fields.faults:
        raise BadRequest(fields.faults)
    return Submission(_manifest(text or ""), note, tags, readers, writers, triggers, execute, secrets)


def group(data: Mapping[str, Any]) -> GroupRequest:
    """What a body of a group asks for; BadRequest."""
    fields = _Fields(data)
    numbers = fields.numbers("jobs")
    note = fields.text("note", longest=LONGEST_NOTE)
    triggers = fields.triggers()
    execute = fields.boolean("execute", default=False)
    if fields.faults:
        raise BadRequest(fields.faults)
    return GroupRequest(numbers, note, triggers, execute)


def _manifest(text: str) -> Manifest:
    try:
        return parse(text)
    except BadManifest as error:
        raise BadRequest([("manifest", reason) for reason in error.reasons]) from None


def _tag(tag: str) -> str | None:
    if not tag:
        return "a tag must not be empty"
    return None if _TAG.fullmatch(tag) else f"tag {_short(tag)} has a character that is not allowed"


def _reader(name: str) -> str | None:
    if not name:
        return "a user's name must not be empty"
    if name == _EVERYBODY or _USER.fullmatch(name):
        return None
    return f"{_short(name)} is no user's name"


def _writer(name: str) -> str | None:
    return "not everybody can have write access" if name == _EVERYBODY else _reader(name)


class _Fields:
    """Takes the known fields of a body one by one, and gathers what is wrong."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self.faults: list[Fault] = []

    def text(self, name: str, *, longest: int, required: bool = False) -> str | None:
        value = self._of_type(name, str, "a string")
        if required and not value:
            self.faults.append((name, "is required"))
        if value is None:
            return None
        if len(value) > longest:
            self.faults.append((name, f"must have at most {longest:,} characters, not {len(value):,}"))
        elif fault := _unstorable(value):
            self.faults.append((name, fault))
        found: str = value
        return found

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._of_type(name, bool, "true or false")
        return default if value is None else bool(value)

    def texts(self, name: str, default: tuple[str, ...], check: Check) -> tuple[str, ...]:
        value = self._of_type(name, list, "a list of strings")
        if value is None:
            return default
        if len(value) > LONGEST_LIST:
            self.faults.append((name, f"must have at most {LONGEST_LIST:,} items, not {len(value):,}"))
            return default
        self.faults += ((name, reason) for reason in dict.fromkeys(_of_items(value, check)))
        return tuple(str(item) for item in value)

    def numbers(self, name: str) -> tuple[int, ...]:
        value = self._of_type(name, list, "a list of integers")
        if name not in self._data:
            self.faults.append((name, "is required"))
        if value is None:
            return ()
        if not value or len(value) > LONGEST_LIST:
            self.faults.append((name, f"must have 1 to {LONGEST_LIST:,} items, not {len(value):,}"))
            return ()
        wrong = next((item for item in value if not _is_number(item)), None)
        if wrong is not None:
            self.faults.append((name, f"must be a list of integers from 1 on, and has {_kind(wrong)}"))
            return ()
        return tuple(value)

    def triggers(self) -> tuple[Trigger, ...]:
        if "triggers" not in self._data:
            return ()
        found, faults = check_triggers(self._data["triggers"])
        self.faults += ((fault.field, fault.reason) for fault in faults)
        if not faults and (fault := _unstorable(*_strings([each.data() for each in found]))):
            self.faults.append(("triggers", fault))
        return found

    def _of_type(self, name: str, kind: type, wanted: str) -> Any:
        """The value of a field; None where it is absent or not of the type."""
        if name not in self._data:
            return None
        value = self._data[name]
        if isinstance(value, kind):
            return value
        told = "may not be null" if value is None else f"must be {wanted}, not {_kind(value)}"
        self.faults.append((name, told))
        return None


def _of_items(items: Iterable[Any], check: Check) -> Iterable[str]:
    for item in items:
        reason = check(item) if isinstance(item, str) else f"must be a list of strings, and has {_kind(item)}"
        if reason is not None:
            yield reason


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 53


def _strings(value: Any) -> Iterable[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inside in value.items():
            yield name
            yield from _strings(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _strings(inside)


def _unstorable(*texts: str) -> str | None:
    """What no store can hold."""
    return "must not hold a NUL character" if any("\0" in text for text in texts) else None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _short(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return f"'{shown}'" if len(shown) <= 40 else f"'{shown[:40]}…'"
