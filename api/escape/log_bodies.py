"""What workers send: entries of a log in all their forms, how an execution goes, and its commit (escape-state, 12.2).

Pure but for the request that it reads. What is known of an execution is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar.exceptions import HTTPException

from api.escape.errors import BadRequest
from api.escape.requests import Asked, decoded, wrong
from reconciler.commands.execution_logs import Push
from reconciler.queries.log_entries import LEVELS, STREAMS
from specs.versions import split

LARGEST_PUSH = 4 << 20
MOST_ENTRIES = 20_000
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_REASON = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_STATUSES = ("running", "ok", "failed")
_FACTS = ("branch", "repository", "revision_message", "revision_author")
_LONGEST_FACT = 10_000
_LAST_STEP = 49
_LONGEST_STAGE = 200


async def push_of(request: Asked) -> Push:
    """What a worker says, in whichever form."""
    said = _said(await request.body(), request)
    if len(said.entries) > MOST_ENTRIES:
        raise HTTPException(status_code=413, detail=f"Send at most {MOST_ENTRIES:,} entries at once.")
    return said


def _said(raw: bytes, request: Asked) -> Push:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/plain":
        lines = _lines(raw)
        return Push([_entry({"message": line}, f"line {n}") for n, line in enumerate(lines, 1)])
    if kind in ("application/x-ndjson", "application/ndjson", "application/jsonl"):
        return Push(
            [_entry(decoded(line), f"line {n}") for n, line in enumerate(_lines(raw), 1) if line.strip()]
        )
    value = decoded(raw)
    if isinstance(value, list):
        return Push(_entries(value, {}))
    if not isinstance(value, dict):
        raise BadRequest("invalid-json", "The body must be a JSON object, or a list of entries.")
    return _push(value)


def commit_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """A CommitInfo (7.14)."""
    revision = data.get("git_revision")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision.lower()):
        raise wrong("git_revision", "must be 40 or 64 hexadecimal digits")
    found: dict[str, Any] = {"git_revision": revision.lower()}
    for name in _FACTS:
        value = data.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or len(value) > _LONGEST_FACT:
            raise wrong(name, f"must be a text of at most {_LONGEST_FACT} characters")
        found[name] = value
    if data.get("committed_at") not in (None, ""):
        found["committed_at"] = _moment(data["committed_at"], "committed_at")
    return found


def _push(data: Mapping[str, Any]) -> Push:
    entries = data.get("entries")
    if not isinstance(entries, list):
        raise wrong("entries", "is required, and is a list")
    step, step_status = _step(data, "step", "step"), _word(data, "step_status")
    if step_status is not None and step is None:
        raise wrong("step", "is required with step_status")
    offset = data.get("offset")
    if offset is not None and (type(offset) is not int or offset < 0):
        raise wrong("offset", "must be a whole number from 0 on")
    reason = data.get("status_reason") or ""
    if not isinstance(reason, str) or (reason and not _REASON.fullmatch(reason)):
        raise wrong("status_reason", "must be a word such as script-failed")
    return Push(
        _entries(entries, {} if step is None else {"step": step}),
        offset,
        step,
        step_status,
        _word(data, "status"),
        reason,
        _releases(data),
    )


def _releases(data: Mapping[str, Any]) -> list[str]:
    releases = data.get("releases")
    releases = [] if releases is None else releases
    if not isinstance(releases, list):
        raise wrong("releases", "must be a list of releases")
    for number, release in enumerate(releases):
        try:
            split(release if isinstance(release, str) else "")
        except ValueError as error:
            raise wrong(f"releases[{number}]", str(error)) from None
    return releases


def _word(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value in (None, ""):
        return None
    if value not in _STATUSES:
        raise wrong(name, f"must be one of {', '.join(_STATUSES)}")
    return str(value)


def _step(data: Mapping[str, Any], name: str, where: str) -> int | None:
    value = data.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= _LAST_STEP):
        raise wrong(where, f"must be a whole number from 0 to {_LAST_STEP}")
    return value


def _entries(values: list[Any], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_entry(value, f"entries[{number}]", defaults) for number, value in enumerate(values)]


def _entry(value: Any, where: str, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One entry; of a line of the client's own logger, what there is room for."""
    if not isinstance(value, dict):
        raise wrong(where, "must be an object with a message")
    message = value.get("message")
    if not isinstance(message, str):
        raise wrong(f"{where}.message", "is required, and is a text")
    sections = value.get("log_sections")
    if isinstance(sections, list) and sections:
        message = f"{' / '.join(str(section) for section in sections)}: {message}"
    level, stream = value.get("level") or "info", value.get("stream") or "stdout"
    for name, given, known in (("level", level, LEVELS), ("stream", stream, STREAMS)):
        if given not in known:
            raise wrong(f"{where}.{name}", f"must be one of {', '.join(known)}")
    stage = value.get("stage") or ""
    if not isinstance(stage, str) or len(stage) > _LONGEST_STAGE:
        raise wrong(f"{where}.stage", f"must be a text of at most {_LONGEST_STAGE} characters")
    step = _step(value, "step", f"{where}.step")
    at = value.get("timestamp")
    return {
        "timestamp": None if at in (None, "") else _moment(at, f"{where}.timestamp"),
        "level": level,
        "stream": stream,
        "step": (defaults or {}).get("step", 0) if step is None else step,
        "stage": stage,
        "message": message,
    }


def _moment(value: Any, where: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise wrong(where, "must be a time such as 2030-01-02T03:04:05.678Z") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(raw: bytes) -> list[str]:
    """Lines without their ends; of too many as many as show that."""
    text = raw.decode("utf-8", "replace")
    lines = text.split("\n", MOST_ENTRIES + 1)
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
