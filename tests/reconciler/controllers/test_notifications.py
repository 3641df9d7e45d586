"""What Notifications tell of what was recorded, to whom, in which form, and when it is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers import notifications
from reconciler.controllers.cdevents import cloud_event
from reconciler.controllers.notifications import chosen, delay, receivers, refiltered, stale, verdict, waits
from reconciler.model.event import SYSTEM, Event, Recorded
from reconciler.model.notice import Notice
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
BUILD, WEB, PIPELINE = "Build/shop/_/work", "Deployment/shop/prod/shop/web", "Pipeline/shop/release"
URL = "https://ci.example.org"
HOOK = {"url": "https://hooks.example.org/x", "secret_ref": None, "format": "json"}
ALL = ["failed", "recovered", "held", "drifted", "approval-wanted"]


def notification(project: str | None = "shop", **spec: Any) -> Resource:
    """One in force."""
    whole = {"events": ALL, "keys": None, "email": None, "webhook": HOOK, **spec}
    return Resource(
        key=f"Notification/{project or '_'}/n", kind="Notification", project=project, environment=None, name="n",
        labels={}, annotations={}, path="n.yaml", line=1, revision="r", digest="d", spec=whole, references=(), files=(),
        generation=1, observed_generation=1, sync=Sync.SYNCED, health=Health.HEALTHY, conditions=(), uuid="u",
    )  # fmt: skip


def event(kind: str, key: str | None, seq: int = 7, at: datetime = NOW, **body: Any) -> Recorded:
    """One in the log."""
    return Recorded(seq, at, SYSTEM, Event(kind, key, body), "0123456789abcdef" * 4)


def told(notification: Resource, recorded: Recorded) -> Notice | None:
    """What one has to tell, by what it declares now."""
    assert notification.spec is not None
    return notifications.told(notification.key, [chosen(notification.spec)], recorded)


def job(state: str, key: str = BUILD, **more: Any) -> Recorded:
    """A job has ended."""
    return event("job-finished", key, **{"number": 12, "state": state, "reason": None, "ref": None, **more})


def run(status: str, reason: str = "", **more: Any) -> Recorded:
    """A run of a pipeline has ended."""
    return event("pipeline-run-finished", PIPELINE, number=3, id="x", status=status, reason=reason, **more)


TOLD: list[tuple[Recorded, str, str]] = [
    (job("failed", reason="timeout", ref="main"), "failed", "job 12 has failed on main (timeout)"),
    (job("defective", reason="lost"), "failed", "job 12 could not be run (lost)"),
    (job("passed", ref="main", recovered=True), "recovered", "job 12 has passed on main, after a failure"),
    (job("failed", WEB, type="deploy", version="1.0"), "failed", "job 12 (deploy) has failed"),
    (job("failed", type="build"), "failed", "job 12 has failed"),
    (job("failed", "Configuration/shop/web/test"), "failed", "job 12 has failed"),
    (run("failed", "disapproved"), "failed", "run 3 has failed (disapproved)"),
    (run("ok", recovered=True), "recovered", "run 3 has passed, after a failure"),
    (
        event("deploy-held", WEB, number=4, causes=["Freeze", "NeedsApproval"], digest="d"),
        "held",
        "job 4 is held: Freeze, NeedsApproval",
    ),
    (event("drifted", WEB, message="gone"), "drifted", "it is not as it was deployed: gone"),
    (event("drift-resolved", WEB, number=4), "recovered", "it is again as it was deployed"),
    (
        event("pipeline-confirmation-requested", PIPELINE, number=3, id="x", phase="prod", step="ok?"),
        "approval-wanted",
        "run 3 waits for somebody to confirm ok? in prod",
    ),
    (
        event("release-requested", WEB, request=5, application="web", digest="d", people=True),
        "approval-wanted",
        "request 5 waits for approval, in the name of web",
    ),
]
NOT_TOLD = [
    job("aborted", reason="cancelled"),
    job("failed", reason="superseded"),
    job("passed"),  # as before
    run("ok"),
    job("failed", WEB, type="check"),
    job("passed", WEB, type="check"),
    job("failed", "~alice/12"),  # of a manifest, which is its owner's
    run("failed", "cancelled"),
    event("drifted", WEB, message="gone", again=True),
    event("release-requested", WEB, request=5, application="web", digest="d", people=False),
    event("job-created", BUILD, number=12),
    event("job-finished", BUILD, state="failed"),  # of another version
    event("pipeline-confirmation-requested", PIPELINE, number="x", phase=None),
    event("revision-applied", None),
]


@pytest.mark.parametrize(("recorded", "happening", "words"), TOLD)
def test_what_happens_is_told_in_words(recorded: Recorded, happening: str, words: str) -> None:
    """Each by its word, and by nobody who does not ask for it."""
    found = told(notification(), recorded)
    assert found is not None
    assert (found.happening, found.message) == (happening, f"{recorded.event.key}: {words}")
    assert told(notification(events=[each for each in ALL if each != happening]), recorded) is None


@pytest.mark.parametrize("recorded", NOT_TOLD)
def test_what_is_no_news_is_not_told(recorded: Recorded) -> None:
    """Not even to who is told of everything."""
    assert told(notification(None), recorded) is None


@pytest.mark.parametrize(
    ("project", "keys", "key", "seen"),
    [
        ("shop", None, BUILD, True),
        ("shop", None, "Build/other/_/work", False),
        ("shop", ["Build/*/_/*"], "Build/other/_/work", False),
        ("shop", ["Build/shop/_/*"], BUILD, True),
        ("shop", ["Build/shop/_/*"], "Build/shop/dev/work", False),
        ("shop", None, "Configuration/other/web/test", False),
        (None, None, "Build/other/_/work", True),
        (None, ["Build/shop/**"], "Build/other/_/work", False),
        (None, ["*/*/prod/**"], WEB, True),
        ("shop", ["Deployment/shop/prod/*"], WEB, False),
        ("shop", ["Deployment/shop/prod/**"], WEB, True),
    ],
)
def test_a_project_sees_itself_only(
    project: str | None, keys: list[str] | None, key: str, seen: bool
) -> None:
    """Whatever its patterns say; and of that what they say."""
    assert (told(notification(project, keys=keys), job("failed", key)) is not None) is seen


@pytest.mark.parametrize(
    ("recorded", "passed"),
    [
        (job("passed"), True),
        (job("failed", WEB, type="deploy"), False),
        (job("defective", "Configuration/shop/web/test"), False),
        (job("aborted"), None),
        (job("failed", reason="superseded"), None),
        (job("failed", WEB, type="check"), None),
        (job("failed", "~alice/12"), None),
        (run("ok"), True),
        (run("failed", "disapproved"), False),
        (run("failed", "cancelled"), None),
    ],
)
def test_what_was_taken_back_or_only_looks_is_neither_pass_nor_failure(
    recorded: Recorded, passed: bool | None
) -> None:
    """Nor is what there is nothing to tell of."""
    assert verdict(recorded.event.key or "", recorded.event.body) is passed


def test_a_receiver_is_declared_anew_by_its_own_fields() -> None:
    """And by nothing that another one or the filter says."""
    both = receivers({"email": {"to": ["a@b.c", "d@e.f"]}, "webhook": HOOK, "events": ["failed"]})
    assert receivers({"email": None, "webhook": HOOK, "events": ["held"]}) == {"webhook": both["webhook"]}
    for changed in ({"url": "https://e.org"}, {"format": "cdevents"}, {"secret_ref": "hook"}):
        assert receivers({"email": None, "webhook": HOOK | changed}) != {"webhook": both["webhook"]}
    assert receivers(None) == {}


def test_a_filter_begins_at_the_commit_that_declares_it() -> None:
    """What happened before is judged by the one that was declared then; one that is needed no more goes."""
    first, second = ({"events": [each], "keys": None} for each in ("failed", "held"))
    filters = [chosen(first)]
    assert refiltered(filters, first, 5, 20) == filters
    assert refiltered(filters, second, 20, 20) == [chosen(second)]
    both = refiltered(filters, second, 5, 20)
    assert both == [chosen(first, 20), chosen(second)]
    assert refiltered(both, second, 19, 30) == both
    assert refiltered(both, second, 20, 30) == [chosen(second)]
    back = refiltered(both, first, 5, 30)
    assert back == [chosen(first, 20), chosen(second, 30), chosen(first)]
    seen = [
        notifications.told("Notification/shop/n", back, event("job-finished", BUILD, seq, **_FAILED_BODY))
        is not None
        for seq in (6, 20, 21, 30, 31)
    ]
    assert seen == [True, True, False, False, True]


_FAILED_BODY = {"number": 12, "state": "failed", "reason": None, "ref": None}


@given(st.integers(1, 10_000), st.text(max_size=20))
def test_the_time_between_tries_doubles_up_to_ten_minutes(tries: int, of: str) -> None:
    """Less up to a fifth, which is the same for the same try and differs between others."""
    whole = min(timedelta(seconds=5) * 2 ** min(tries - 1, 20), timedelta(minutes=10))
    assert whole * 0.8 <= delay(tries, of) <= whole
    assert delay(tries, of) == delay(tries, of)
    assert len({delay(3, f"{of}{each}") for each in range(10)}) > 1


def test_a_clock_that_was_wrong_keeps_nobody_waiting() -> None:
    """It waits for a time that a delay can have given, and for no other."""
    assert waits(NOW + timedelta(minutes=10), NOW)
    assert not waits(NOW + timedelta(minutes=11), NOW)
    assert not waits(NOW, NOW)
    assert not waits(None, NOW)


def test_what_has_waited_for_days_is_given_up() -> None:
    """All of it at once."""
    ages = (timedelta(days=4), timedelta(days=3, seconds=1), timedelta(days=3), timedelta())
    found = [event("job-finished", BUILD, seq, NOW - age) for seq, age in enumerate(ages, 1)]
    assert stale(found, NOW) == 2
    assert stale(found[2:], NOW) is None


def test_our_own_body_has_a_type_a_time_and_data() -> None:
    """As Standard Webhooks recommends."""
    found = told(notification(), job("failed", reason="timeout", ref="main"))
    assert found is not None
    assert notifications.body(found, URL) == {
        "type": "failed",
        "timestamp": "2026-03-01T12:30:15.250000+00:00",
        "data": {
            "key": BUILD,
            "project": "shop",
            "message": f"{BUILD}: job 12 has failed on main (timeout)",
            "number": 12,
            "version": None,
            "ref": "main",
            "url": f"{URL}/ui/jobs/12",
            "event": 7,
        },
    }


# CDEvents 0.5.1: what each type of event may and must say. "?" marks what may be left out.
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_URI = {**_TEXT, "format": "uri"}
_OUTCOME = {"enum": ["success", "failure", "cancel", "error"]}


def _object(**fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name.rstrip("_"): schema for name, schema in fields.items()},
        "required": [name for name in fields if not name.endswith("_")],
        "additionalProperties": False,
    }


_REFERENCE = _object(id=_TEXT, source_=_TEXT)
_INCIDENT = _object(description_=_TEXT, environment=_REFERENCE, service_=_REFERENCE, artifactId_=_TEXT)
_PURL = {"type": "string", "pattern": r"^pkg:[a-z]+/[^@?#]+@[^@/?#]+$"}
_SERVICE = _object(environment=_REFERENCE, artifactId=_PURL)
CONTENTS = {
    "dev.cdevents.pipelinerun.finished.0.3.0": _object(
        pipelineName_=_TEXT, uri_=_URI, outcome_=_OUTCOME, errors_=_TEXT
    ),
    "dev.cdevents.taskrun.finished.0.3.0": _object(
        taskName_=_TEXT, pipelineRun_=_REFERENCE, outcome_=_OUTCOME, errors_=_TEXT
    ),
    "dev.cdevents.testsuiterun.finished.0.3.0": _object(
        outcome=_OUTCOME, environment=_REFERENCE, testSuite_=_object(id=_TEXT, name_=_TEXT), reason_=_TEXT
    ),
    "dev.cdevents.service.deployed.0.3.0": _SERVICE,
    "dev.cdevents.service.upgraded.0.3.0": _SERVICE,
    "dev.cdevents.service.removed.0.3.0": _object(environment=_REFERENCE),
    "dev.cdevents.incident.detected.0.3.0": _INCIDENT,
    "dev.cdevents.incident.resolved.0.3.0": _INCIDENT,
}
CUSTOM = r"^dev\.cdeventsx\.[a-zA-Z0-9]+-[a-zA-Z]+\.[a-zA-Z]+\.[0-9]\.[0-9]\.[0-9]$"


def cd_event_schema(kind: str) -> dict[str, Any]:
    """Of the whole event; a custom one says what it likes."""
    content = CONTENTS.get(kind, {"type": "object"})
    type_ = {"const": kind} if kind in CONTENTS else {"type": "string", "pattern": CUSTOM}
    return _object(
        context=_object(
            specversion={"const": "0.5.1"},
            id=_TEXT,
            source={**_TEXT, "format": "uri-reference"},
            type=type_,
            timestamp={"type": "string", "format": "date-time"},
        ),
        subject=_object(id=_TEXT, source_={**_TEXT, "format": "uri-reference"}, content=content),
        customData_={"type": "object"},
        customDataContentType_=_TEXT,
    )


def _cloud_event(recorded: Recorded) -> dict[str, Any]:
    found = told(notification(), recorded)
    assert found is not None
    return cloud_event(found, URL)


_AGAIN = {"recovered": True}
CDEVENTS: list[tuple[Recorded, str, str, Mapping[str, Any]]] = [
    (job("failed"), "pipelinerun.finished.0.3.0", f"{BUILD}#12", {"outcome": "failure", "pipelineName": BUILD}),
    (job("defective"), "pipelinerun.finished.0.3.0", f"{BUILD}#12", {"outcome": "error"}),
    (job("passed", **_AGAIN), "pipelinerun.finished.0.3.0", f"{BUILD}#12", {"outcome": "success"}),
    (run("failed"), "pipelinerun.finished.0.3.0", f"{PIPELINE}#3", {"outcome": "failure"}),
    (
        job("failed", WEB, type="deploy"), "pipelinerun.finished.0.3.0", f"{WEB}#12",
        {"outcome": "failure", "pipelineName": WEB},
    ),
    (
        job("passed", WEB, type="deploy", version="1.0", **_AGAIN), "service.deployed.0.3.0", WEB,
        {"environment": {"id": "shop/prod"}, "artifactId": "pkg:generic/shop/web@1.0"},
    ),
    (
        job("passed", WEB, type="deploy", version="1.1+b/c", upgrade=True, **_AGAIN), "service.upgraded.0.3.0", WEB,
        {"artifactId": "pkg:generic/shop/web@1.1%2Bb%2Fc"},
    ),
    (
        job("passed", WEB, type="destroy", **_AGAIN), "service.removed.0.3.0", WEB,
        {"environment": {"id": "shop/prod"}},
    ),
    (
        job("failed", WEB, type="smoke"), "testsuiterun.finished.0.3.0", f"{WEB}#12",
        {"outcome": "failure", "testSuite": {"id": WEB, "name": "smoke"}, "environment": {"id": "shop/prod"}},
    ),
    (job("failed", WEB, type="errand"), "taskrun.finished.0.3.0", f"{WEB}#12", {"outcome": "failure"}),
    (
        event("drifted", WEB, message="gone"), "incident.detected.0.3.0", f"{WEB}/drift",
        {"environment": {"id": "shop/prod"}, "service": {"id": "shop/web"}},
    ),
    (event("drift-resolved", WEB), "incident.resolved.0.3.0", f"{WEB}/drift", {"service": {"id": "shop/web"}}),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "kind", "subject", "content"), CDEVENTS)
def test_cdevents_use_the_published_words(
    recorded: Recorded, kind: str, subject: str, content: Mapping[str, Any]
) -> None:
    """Each in the type that is published for it, with what that must and may say."""
    found = _cloud_event(recorded)
    assert (found["type"], found["subject"]) == (f"dev.cdevents.{kind}", subject)
    assert found["data"]["subject"]["content"].items() >= content.items()


@pytest.mark.parametrize("recorded", [recorded for recorded, _, _ in TOLD])
def test_all_that_is_told_is_a_cdevent_in_a_cloudevent(recorded: Recorded) -> None:
    """The envelope repeats what the event says of itself."""
    found = _cloud_event(recorded)
    data = found["data"]
    schema = cd_event_schema(found["type"])
    jsonschema.validate(data, schema, format_checker=jsonschema.FormatChecker())
    assert found == {
        "specversion": "1.0",
        "id": "7-0123456789abcdef01234567",
        "source": URL,
        "type": data["context"]["type"],
        "subject": data["subject"]["id"],
        "time": data["context"]["timestamp"],
        "datacontenttype": "application/cdevents+json",
        "data": data,
    }
    assert data["context"]["id"] == found["id"]
    assert urlsplit(data["customData"]["url"]).netloc == "ci.example.org"


@pytest.mark.parametrize("recorded", [each[0] for each in CDEVENTS])
def test_each_type_holds_to_its_schema(recorded: Recorded) -> None:
    """Nothing is missing, and nothing is in it that is not known there."""
    found = _cloud_event(recorded)
    jsonschema.validate(
        found["data"], cd_event_schema(found["type"]), format_checker=jsonschema.FormatChecker()
    )


def test_a_test_is_a_custom_event() -> None:
    """It says that it is one."""
    notice = notifications.for_test(notification(), NOW, "test-1")
    found = cloud_event(notice, URL)
    assert found["type"] == "dev.cdeventsx.steersman-notification.tested.0.1.0"
    jsonschema.validate(found["data"], cd_event_schema(found["type"]))
