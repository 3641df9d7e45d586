"""Stand-ins for requests for approval: bindings as they are copied, and requests without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reconciler.model.request import Copied, Mode, Request, Subject, Verdict

MADE = datetime(2031, 4, 9, 17, 20, 1, 250413, tzinfo=UTC)
"""A Wednesday."""

NEVER = {"type": "schedule", "begin_time": "03:00", "end_time": "03:01"}
ALWAYS = {"type": "schedule"}
_AT = "2031-01-01T00:00:00+00:00"


def copied(
    ruleset: str,
    *rules: dict[str, Any],
    mode: Mode = Mode.ENFORCING,
    timezone: str | None = None,
    first: int = 0,
) -> Copied:
    """A binding of a ruleset with these rules, whose ids begin after `first`."""
    whole = [
        {"enabled": True, "created_at": _AT, "id": first + at, **rule} for at, rule in enumerate(rules, 1)
    ]
    version = {
        "id": 1,
        "version_number": 1,
        "created_at": _AT,
        "updated_at": _AT,
        "approved_at": _AT,
        "display_name": "",
        "description": "",
        "enabled": True,
        "rules": whole,
    }
    return Copied(ruleset, mode, _AT, _AT, timezone, version)


def request(*bindings: Copied, **more: Any) -> Request:
    """A request without a verdict."""
    told: dict[str, Any] = {
        "id": 1,
        "application": "shop",
        "state": Verdict.PENDING,
        "source_identity": None,
        "metadata": {},
        "comments": None,
        "bindings": bindings,
        "actor": "User/alice",
        "authors": ("User/alice",),
        "digest": None,
        "subject": None,
        "tried": 0,
        "posted": 0,
        "trouble": None,
        "again_at": None,
        "created_at": MADE,
        "updated_at": MADE,
        "finalized_at": None,
    }
    return Request(**told | more)


def subject(target: str = "Deployment/shop/prod/web") -> Subject:
    """What a deploy there would deploy."""
    return Subject(target, "p" * 8, "i" * 8, "s" * 8, "1.0")


def manual(policy: str = "any", **more: Any) -> dict[str, Any]:
    """A manual rule."""
    return {"type": "manual", "approval_policy": policy, "minimum": None, "approvers": None, **more}


def asks(url: str, limit: int | None = None, **more: Any) -> dict[str, Any]:
    """A rule that asks another server; with a limit it asks so many more times."""
    policy = "never" if limit is None else "retry_on_fail"
    return {"type": "http_api", "url": url, "retry_policy": policy, "retry_limit": limit or 0, **more}
