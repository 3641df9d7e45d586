"""Notices as CDEvents 0.5.1, each in a CloudEvent 1.0 in structured mode (cdevents.dev, cloudevents.io).

What that vocabulary has no word for (a deploy that is held, an approval that is asked for) is a custom event, as it
provides. Pure; called by the pass that sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.controllers.notifications import link
from reconciler.model.execution import Type
from reconciler.model.notice import Happening, Notice

SPECIFICATION = "0.5.1"
CONTENT_TYPE = "application/cloudevents+json"
_DATA_TYPE = "application/cdevents+json"
_VERSION = "0.3.0"
"""Of the types of events used here, in that release of the specification."""

_OWN_VERSION = "0.1.0"
_OWN: Mapping[Happening, str] = {
    Happening.HELD: "deployment.held",
    Happening.APPROVAL_WANTED: "approval.requested",
    Happening.TEST: "notification.tested",
}


def cloud_event(notice: Notice, url: str) -> dict[str, Any]:
    """The whole body. `url`: this server's address, which is the source."""
    event = cd_event(notice, url)
    context = event["context"]
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": context["source"],
        "type": context["type"],
        "subject": event["subject"]["id"],
        "time": context["timestamp"],
        "datacontenttype": _DATA_TYPE,
        "data": event,
    }


def cd_event(notice: Notice, url: str) -> dict[str, Any]:
    """The CDEvent alone."""
    type, subject, content = _said(notice, url)
    return {
        "context": {
            "specversion": SPECIFICATION,
            "id": notice.id,
            "source": url,
            "type": type,
            "timestamp": notice.at.isoformat(),
        },
        "subject": {"id": subject, "source": url, "content": content},
        "customData": {
            "event": notice.happening.value,
            "key": notice.key,
            "message": notice.message,
            "number": notice.number,
            "url": link(notice, url),
        },
        "customDataContentType": "application/json",
    }


def _said(notice: Notice, url: str) -> tuple[str, str, dict[str, Any]]:
    """Type, the subject's id and content."""
    if notice.happening in _OWN:
        own = f"dev.cdeventsx.steersman-{_OWN[notice.happening]}.{_OWN_VERSION}"
        return own, notice.key, {"message": notice.message, "number": notice.number}
    if notice.drift:
        predicate = "detected" if notice.happening is Happening.DRIFTED else "resolved"
        content = {"description": notice.message, **_place(notice, "environment", "service")}
        return _type("incident", predicate), f"{notice.key}/drift", content
    if notice.happening is Happening.RECOVERED and notice.act in (Type.DEPLOY.value, Type.DESTROY.value):
        return _of_service(notice)
    return _of_run(notice, url)


def _of_service(notice: Notice) -> tuple[str, str, dict[str, Any]]:
    content = _place(notice, "environment")
    if notice.act == Type.DESTROY.value:
        return _type("service", "removed"), notice.key, content
    name, version = _parts(notice)[1], notice.version
    content["artifactId"] = f"pkg:generic/{quote(name)}" + (f"@{quote(version, safe='')}" if version else "")
    return _type("service", "upgraded" if notice.upgrade else "deployed"), notice.key, content


def _of_run(notice: Notice, url: str) -> tuple[str, str, dict[str, Any]]:
    """Of a Build, a pipeline, or something done to a Deployment."""
    failed = notice.happening is Happening.FAILED
    outcome = ("error" if notice.unexpected else "failure") if failed else "success"
    subject = f"{notice.key}#{notice.number}"
    if notice.act == Type.SMOKE.value:
        suite = {"testSuite": {"id": notice.key, "name": "smoke"}, **_place(notice, "environment")}
        return _type("testsuiterun", "finished"), subject, {**suite, "outcome": outcome}
    errors = {"errors": notice.message} if failed else {}
    if notice.act == Type.ERRAND.value:
        return _type("taskrun", "finished"), subject, {"taskName": notice.key, "outcome": outcome, **errors}
    content = {"pipelineName": notice.key, "uri": link(notice, url), "outcome": outcome, **errors}
    return _type("pipelinerun", "finished"), subject, content


def _type(subject: str, predicate: str) -> str:
    return f"dev.cdevents.{subject}.{predicate}.{_VERSION}"


def _place(notice: Notice, *names: str) -> dict[str, Any]:
    """Where a Deployment is, and what it is, as references."""
    environment, name = _parts(notice)
    found = {"environment": {"id": f"{notice.project}/{environment}"}, "service": {"id": name}}
    return {each: found[each] for each in names}


def _parts(notice: Notice) -> tuple[str, str]:
    """Environment and name in the KEY of a Deployment."""
    _, _, environment, name = notice.key.split("/", 3)
    return environment, name
