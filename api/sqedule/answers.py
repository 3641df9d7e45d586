"""Answers of this API: releases, and what is reviewed with its versions (sqedule, 2, 4, 5).

From values to JSON; `Shown` holds what an answer depends on beside them.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from api.sqedule.requests import Asked
from reconciler.installation import Installation
from reconciler.model.request import Copied, Mode, Outcome, Request, Verdict
from reconciler.model.review import Bound, Kind, Named, Stage, Version, Whole
from reconciler.queries.requests import Decision

_CLIENT = "sqedule-cli/"
_NOT_FINAL, _FOR_CLIENT = "pending", "in_progress"
_SCHEDULE = ("begin_time", "end_time", "days_of_week", "days_of_month", "months_of_year")
_HTTP = ("url", "username", "tls_ca_certificate", "retry_policy", "retry_limit")
_GROUPS = ("http_api", "schedule", "manual")


@dataclass(frozen=True, slots=True)
class Shown:
    """For whom: in which time zone, and how the state is spelled that is not final (sqedule, 8)."""

    zone: ZoneInfo
    not_final: str

    def time(self, at: datetime) -> str:
        """As RFC 3339, with six digits and a numeric offset."""
        return at.astimezone(self.zone).isoformat(timespec="microseconds")

    def stored(self, at: str | None) -> str | None:
        """The same, of a time that is kept as a text."""
        return None if at is None else self.time(datetime.fromisoformat(at))

    def state(self, verdict: Verdict) -> str:
        """Of a release."""
        return self.not_final if verdict is Verdict.PENDING else verdict.value


def shown_to(installation: Installation, request: Asked) -> Shown:
    """The published client knows another word for what is not final."""
    theirs = request.headers.get("user-agent", "").startswith(_CLIENT)
    return Shown(ZoneInfo(installation.settings.timezone), _FOR_CLIENT if theirs else _NOT_FINAL)


def release(shown: Shown, request: Request) -> dict[str, Any]:
    """As in lists."""
    return {
        "id": request.id,
        "state": shown.state(request.state),
        "source_identity": request.source_identity,
        "metadata": dict(request.metadata),
        "comments": request.comments,
        "created_at": shown.time(request.created_at),
        "updated_at": shown.time(request.updated_at),
        "finalized_at": None if request.finalized_at is None else shown.time(request.finalized_at),
    }


def whole_release(shown: Shown, request: Request) -> dict[str, Any]:
    """With the bindings that it was made with."""
    copied = [_copied(shown, each) for each in request.bindings]
    return {**release(shown, request), "approval_ruleset_bindings": copied}


def release_of(shown: Shown, request: Request, application: Named | None) -> dict[str, Any]:
    """With its application."""
    told = None if application is None else named(shown, application)
    return {**release(shown, request), "application": told}


def events(shown: Shown, request: Request, outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """What has happened to a release."""
    made = {"type": "created", "id": request.id, "created_at": shown.time(request.created_at)}
    return [made, *(_processed(shown, each) for each in outcomes)]


def decision(shown: Shown, given: Decision) -> dict[str, Any]:
    """What somebody has said of a manual rule."""
    return {
        "approval_rule_id": given.rule,
        "decision": given.decision,
        "comments": given.comment,
        "decided_by": given.actor.partition("/")[2],
        "created_at": shown.time(given.at),
        "release_state": shown.state(given.state),
    }


def named(shown: Shown, found: Named) -> dict[str, Any]:
    """Form B, without what hangs on it."""
    latest = None if found.latest is None else _version(shown, found.latest)
    return {**_unversioned(shown, found), "latest_approved_version": latest}


def listed_ruleset(shown: Shown, found: Named, applications: int, releases: int) -> dict[str, Any]:
    """A ruleset in the list of all."""
    latest = (
        None if found.latest is None else {**_version(shown, found.latest), "num_bound_releases": releases}
    )
    return {
        **_unversioned(shown, found),
        "num_bound_applications": applications,
        "latest_approved_version": latest,
    }


def binding(shown: Shown, bound: Bound, *without: str) -> dict[str, Any]:
    """A binding in form B, `without` what the context says already."""
    ends = {"application": bound.application, "approval_ruleset": bound.ruleset}
    told = {name: named(shown, end) for name, end in ends.items() if name not in without}
    return {**named(shown, bound.named), **told}


def form_a(shown: Shown, whole: Whole, *, made: bool = False) -> dict[str, Any]:
    """With the version that was made or asked for. `made`: the thing itself is new."""
    version = None if whole.version is None else _version_of(shown, whole, whole.version)
    around = {} if made and whole.named.reviewed.kind is Kind.APPLICATION else _around(shown, whole)
    return {**_unversioned(shown, whole.named), **around, "version": version}


def form_b(shown: Shown, whole: Whole) -> dict[str, Any]:
    """With the version in force."""
    latest = whole.named.latest
    told = None if latest is None else _version_of(shown, whole, latest)
    return {**_unversioned(shown, whole.named), **_around(shown, whole), "latest_approved_version": told}


def listed_version(shown: Shown, version: Version, copied: Counter[int]) -> dict[str, Any]:
    """A version in a list of its kind."""
    found = _version(shown, version)
    if version.kind is Kind.RULESET:
        found |= {"approval_rules": rules(shown, version), "num_bound_releases": copied[version.id]}
    return found


def rules(shown: Shown, version: Version) -> list[dict[str, Any]]:
    """Rules by type, each in the order given."""
    return [
        rule(shown, each) for group in _GROUPS for each in version.content["rules"] if each["type"] == group
    ]


def rule(shown: Shown, found: Mapping[str, Any]) -> dict[str, Any]:
    """A rule; a password is never shown."""
    told = {
        "type": found["type"],
        "id": found["id"],
        "enabled": found.get("enabled", True),
        "created_at": shown.stored(found.get("created_at")),
    }
    if found["type"] == "schedule":
        return told | {name: found.get(name) for name in _SCHEDULE}
    if found["type"] == "manual":
        return told | {"approval_policy": found["approval_policy"], "minimum": found.get("minimum")}
    return told | {name: found.get(name) for name in _HTTP} | {"password": None}


def _unversioned(shown: Shown, found: Named) -> dict[str, Any]:
    about = found.reviewed
    name = {} if about.kind is Kind.BINDING else {"id": about.name}
    return {**name, "created_at": shown.time(about.created_at), "updated_at": shown.time(about.updated_at)}


def _around(shown: Shown, whole: Whole) -> dict[str, Any]:
    kind = whole.named.reviewed.kind
    if kind is Kind.BINDING:
        bound = whole.bindings[0]
        return {
            "application": named(shown, bound.application),
            "approval_ruleset": named(shown, bound.ruleset),
        }
    if kind is Kind.APPLICATION:
        told = [binding(shown, each, "application") for each in whole.bindings]
        return {"approval_ruleset_bindings": told}
    told = [binding(shown, each, "approval_ruleset") for each in whole.bindings]
    return {"application_approval_ruleset_bindings": told}


def _version_of(shown: Shown, whole: Whole, version: Version) -> dict[str, Any]:
    found = _version(shown, version)
    if version.kind is not Kind.RULESET:
        return found
    copied = [_with_mode(shown, mode, each, of) for mode, each, of in whole.releases]
    return found | {"approval_rules": rules(shown, version), "release_approval_ruleset_bindings": copied}


def _with_mode(shown: Shown, mode: Mode, request: Request, application: Named) -> dict[str, Any]:
    return {"mode": mode.value, "release": release_of(shown, request, application)}


def _version(shown: Shown, version: Version) -> dict[str, Any]:
    """The envelope and what is versioned, without rules."""
    content = version.content
    told = {
        "id": version.id,
        "version_state": "approved" if version.stage is Stage.APPROVED else "proposal",
        "version_number": version.number,
        "proposal_state": version.stage.value,
        "created_at": shown.time(version.created_at),
        "updated_at": shown.time(version.updated_at),
        "approved_at": None if version.approved_at is None else shown.time(version.approved_at),
    }
    if version.kind is Kind.BINDING:
        return told | {"mode": content["mode"]}
    told |= {"display_name": content["display_name"]}
    if version.kind is Kind.RULESET:
        told |= {"description": content["description"], "globally_applicable": False}
    return told | {"enabled": content["enabled"]}


def _copied(shown: Shown, copied: Copied) -> dict[str, Any]:
    version = copied.version
    return {
        "mode": copied.mode.value,
        "approval_ruleset": {
            "id": copied.ruleset,
            "created_at": shown.stored(copied.created_at),
            "updated_at": shown.stored(copied.updated_at),
            "latest_approved_version": {
                "id": version["id"],
                "version_state": "approved",
                "version_number": version["version_number"],
                "proposal_state": "approved",
                "created_at": shown.stored(version["created_at"]),
                "updated_at": shown.stored(version["updated_at"]),
                "approved_at": shown.stored(version["approved_at"]),
                "display_name": version["display_name"],
                "description": version["description"],
                "globally_applicable": False,
                "enabled": version["enabled"],
            },
        },
    }


def _processed(shown: Shown, outcome: Outcome) -> dict[str, Any]:
    found = outcome.detail["rule"]
    told = {
        "type": found["type"],
        "id": outcome.outcome,
        "success": outcome.success,
        "created_at": shown.time(outcome.at),
        "rule": rule(shown, found),
    }
    if found["type"] == "http_api":
        told |= {
            "response_code": outcome.detail.get("response_code", 0),
            "response_content_type": outcome.detail.get("response_content_type") or "",
            "response_body_base64": outcome.detail.get(
                "response_body_base64", base64.b64encode(b"").decode()
            ),
        }
    if found["type"] == "manual":
        told |= {"comments": outcome.detail.get("comments")}
    return {
        "type": "rule_processed",
        "id": outcome.event,
        "created_at": shown.time(outcome.at),
        "result_state": shown.state(outcome.result_state),
        "ignored_error": outcome.ignored_error,
        "approval_rule_outcome": told,
    }
