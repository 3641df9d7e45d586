"""Numbered cases 1 to 27 of the contract (sqedule, 11): releases and how they are judged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.controllers.requests import Rule, in_time
from reconciler.model.request import Copied, Mode, Request, Verdict
from reconciler.passes import requests as passes
from reconciler.store import requests as rows
from reconciler.store import reviews
from reconciler.store.requests import NewRequest
from tests.api.escape.conftest import document
from tests.api.sqedule.conftest import DAYS, EMPTY, SCHEDULE, Restarted, World, refused
from tests.support import SpecRepository, daemon, settings_for

_CLIENT = {"User-Agent": "sqedule-cli/0.1.0"}


def elsewhen() -> dict[str, str]:
    """A schedule rule of one minute, six hours from now."""
    begin = datetime.now(UTC) + timedelta(hours=6)
    end = begin + timedelta(minutes=1)
    return {"type": "schedule", "begin_time": f"{begin:%H:%M}", "end_time": f"{end:%H:%M}"}


def test_case_01_no_bindings(world: World) -> None:
    """Approved, as nothing judges it."""
    application = world.application()
    made = world.release(application)
    assert {**made, "id": 0, "created_at": "", "updated_at": ""} == {
        "id": 0,
        "state": "pending",
        "source_identity": None,
        "metadata": {},
        "comments": None,
        "created_at": "",
        "updated_at": "",
        "finalized_at": None,
        "approval_ruleset_bindings": [],
    }
    found = world.once(
        f"/applications/{application}/releases/{made['id']}", lambda each: each["state"] != "pending"
    )
    assert found["state"] == "approved"
    assert found["finalized_at"] is not None
    events = world.get(f"/applications/{application}/releases/{made['id']}/events")["items"]
    assert [each["type"] for each in events] == ["created"]
    instant = datetime.fromisoformat(made["created_at"])
    assert made["created_at"] == instant.isoformat(timespec="microseconds")
    assert made["created_at"].endswith("+00:00")


def test_case_02_an_enforcing_rule_that_does_not_hold(world: World) -> None:
    """Rejected, with one event."""
    found, events = world.final(world.judged_by((world.ruleset(elsewhen()), "enforcing")))
    assert found["state"] == "rejected"
    assert [(each["result_state"], each["ignored_error"]) for each in events] == [("rejected", False)]
    assert events[0]["approval_rule_outcome"]["success"] is False


def test_case_03_a_permissive_rule_that_does_not_hold(world: World) -> None:
    """Approved; the failure is noted."""
    found, events = world.final(world.judged_by((world.ruleset(elsewhen()), "permissive")))
    assert found["state"] == "approved"
    assert [(each["result_state"], each["ignored_error"]) for each in events] == [("approved", True)]


def test_case_04_both(world: World) -> None:
    """Two events, in the order of the rulesets."""
    always, never = (
        world.ruleset(SCHEDULE, name=world.name("a")),
        world.ruleset(elsewhen(), name=world.name("b")),
    )
    found, events = world.final(world.judged_by((always, "enforcing"), (never, "permissive")))
    assert found["state"] == "approved"
    assert [(each["result_state"], each["ignored_error"]) for each in events] == [
        ("pending", False),
        ("approved", True),
    ]


def test_case_05_the_first_rejection_is_the_last_word(world: World) -> None:
    """What comes after it is not judged."""
    never, further = (
        world.ruleset(elsewhen(), name=world.name("n")),
        world.ruleset(SCHEDULE, name=world.name("z")),
    )
    found, events = world.final(world.judged_by((never, "enforcing"), (further, "enforcing")))
    assert (found["state"], len(events)) == ("rejected", 1)
    assert len(found["approval_ruleset_bindings"]) == 2


def test_case_06_the_published_client_is_told_in_progress(world: World) -> None:
    """In every place where a state stands; everybody else is told pending."""
    manual = world.ruleset({"type": "manual", "approval_policy": "any"})
    application = world.judged_by((manual, "enforcing"))
    path = f"/v1/applications/{application}/releases"
    for headers, word in ((_CLIENT, "in_progress"), ({"User-Agent": "curl/8"}, "pending")):
        made = world["ana"].post(path, json={}, headers=headers)
        assert (made.status_code, made.json()["state"]) == (201, word)
        one = world["ana"].get(f"{path}/{made.json()['id']}", headers=headers)
        some = world["ana"].get(path, headers=headers)
        assert one.json()["state"] == word
        assert {each["state"] for each in some.json()["items"]} == {word}
        assert {"user-agent"} == {each.headers["vary"].lower() for each in (made, one, some)}
    both = world.judged_by(
        (world.ruleset(SCHEDULE, name=world.name("a")), "enforcing"),
        (world.ruleset(SCHEDULE, name=world.name("b")), "enforcing"),
    )
    found, _ = world.final(both)
    events = world["ana"].get(f"/v1/applications/{both}/releases/{found['id']}/events", headers=_CLIENT)
    assert [each["result_state"] for each in events.json()["items"][1:]] == ["in_progress", "approved"]


def test_case_07_bodies_that_are_no_object(world: World) -> None:
    """An empty one is none; null is an empty object."""
    path = f"/v1/applications/{world.application()}/releases"
    for content in (b"", b"  ", b"[]", b'"x"', b"{bad", b"\xff"):
        assert refused(world["ana"].post(path, content=content), 400).startswith("Invalid input: ")
    assert world["ana"].post(path, content=b"null").status_code == 201


def test_case_08_fields_of_another_type(world: World) -> None:
    """Refused; null is as good as absent."""
    path = f"/v1/applications/{world.application()}/releases"
    for body in ({"metadata": [1]}, {"comments": 5}, {"source_identity": {}}):
        assert next(iter(body)) in refused(world["ana"].post(path, json=body), 400)
    found = world["ana"].post(path, json={"metadata": None, "comments": None})
    assert (found.status_code, found.json()["metadata"], found.json()["comments"]) == (201, {}, None)


def test_case_09_unknown_keys_are_ignored(world: World) -> None:
    """Also those that only the server sets."""
    made = world.release(world.application(), state="approved", id=9, zzz=1)
    assert made["state"] == "pending"
    assert world.release(world.application(), id=9)["id"] == made["id"] + 1


def test_case_10_an_unknown_application(world: World) -> None:
    """The body is looked at first."""
    path = "/v1/applications/nope/releases"
    assert refused(world["ana"].post(path, json={}), 404) == "application not found"
    refused(world["ana"].post(path, content=b"{bad"), 400)
    assert refused(world["ana"].get(path), 404) == "application not found"


def test_case_11_ids_in_another_case(world: World) -> None:
    """The same application."""
    application = world.application()
    made = world.release(application.upper())
    listed = world.get(f"/applications/{application}/releases")["items"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert listed[0].keys() == made.keys() - {"approval_ruleset_bindings"}
    everywhere = next(each for each in world.get("/releases")["items"] if each["id"] == made["id"])
    assert everywhere["application"]["id"] == application
    assert everywhere["application"]["latest_approved_version"]["version_number"] == 1


def test_case_12_numbers_of_releases(world: World) -> None:
    """Unsigned, of 64 bits; leading zeros are fine."""
    made = world.release(application := world.application())
    path = f"/v1/applications/{application}/releases"
    for wrong in ("abc", "-1", "18446744073709551616", "1.0", "%D9%A1", "9" * 400):
        assert "id" in refused(world["ana"].get(f"{path}/{wrong}"), 400)
        refused(world["ana"].get(f"{path}/{wrong}/events"), 400)
    assert world["ana"].get(f"{path}/00{made['id']}").json()["id"] == made["id"]
    for absent in ("0", "18446744073709551615", "9223372036854775808"):
        assert refused(world["ana"].get(f"{path}/{absent}"), 404) == "release not found"


def test_case_13_a_release_is_found_under_its_own_application_only(world: World) -> None:
    """The text is the same where there is no such application."""
    made = world.release(world.application())
    for other in (world.application(), "nope"):
        path = f"/v1/applications/{other}/releases/{made['id']}"
        assert refused(world["ana"].get(path), 404) == "release not found"
        assert refused(world["ana"].get(f"{path}/events"), 404) == "release not found"
        assert refused(world["ana"].patch(path, json={}), 404) == "release not found"


def test_case_14_pages(world: World) -> None:
    """From 1; of 100, unless told otherwise; 0 is no limit."""
    application = world.application()
    ids = [world.release(application)["id"] for _ in range(3)]
    path = f"/v1/applications/{application}/releases"
    for wrong in ("per_page=1001", "page=0", "page=x", "per_page=-1", "page=", "page=1.5"):
        assert wrong.partition("=")[0] in refused(world["ana"].get(f"{path}?{wrong}"), 400)
    for query, expected in (
        ("per_page=0", ids[::-1]),
        ("per_page=2", ids[:0:-1]),
        ("per_page=2&page=2", ids[:1]),
        ("page=99", []),
        ("page=99999999999999999999", []),
        ("per_page=0&page=2", []),
        ("foo=bar", ids[::-1]),
        ("per_page=1000", ids[::-1]),
    ):
        assert [each["id"] for each in world["ana"].get(f"{path}?{query}").json()["items"]] == expected, query


def test_case_15_slashes_at_the_end(world: World) -> None:
    """The way to the path without it."""
    path = f"/v1/applications/{world.application()}/releases"
    for method, status in (("GET", 301), ("POST", 307), ("PATCH", 307)):
        answer = world["ana"].request(method, f"{path}/?page=1")
        assert (answer.status_code, answer.headers["location"]) == (status, f"{path}?page=1")
        assert "json" not in answer.headers.get("content-type", "")
    assert world["ana"].get(f"{path}/", follow_redirects=True).json() == {"items": []}


def test_case_16_methods_that_there_are_not(world: World) -> None:
    """A page that is not found, in plain text, like any unknown path."""
    path = f"/v1/applications/{world.application()}"
    for method, where in (("PUT", path), ("DELETE", path), ("GET", "/v1/nothing"), ("POST", "/v1/about")):
        answer = world["ana"].request(method, where)
        assert (answer.status_code, answer.text) == (404, "404 page not found")
        assert answer.headers["content-type"].startswith("text/plain")


def test_case_17_a_final_release_may_be_described_anew(world: World) -> None:
    """Its verdict stays."""
    application = world.judged_by((world.ruleset(EMPTY), "enforcing"))
    found, _ = world.final(application)
    path = f"/applications/{application}/releases/{found['id']}"
    changed = world.ask("PATCH", path, {"comments": "late", "state": "approved"}, expect=200)
    assert changed["updated_at"] > found["updated_at"]
    assert changed == {**found, "comments": "late", "updated_at": changed["updated_at"]}
    again = world.ask("PATCH", path, {}, expect=200)
    assert again["updated_at"] > changed["updated_at"]


def test_case_18_what_a_patch_replaces(world: World) -> None:
    """Metadata whole; null changes nothing."""
    made = world.release(application := world.application(), metadata={"a": 1}, comments="first")
    path = f"/applications/{application}/releases/{made['id']}"
    assert world.ask("PATCH", path, {"metadata": {"b": 2}}, expect=200)["metadata"] == {"b": 2}
    assert world.ask("PATCH", path, {"comments": None}, expect=200)["comments"] == "first"
    for body in ({"metadata": 1}, {"comments": []}):
        refused(world["ana"].patch(f"/v1{path}", json=body), 400)


def test_case_19_a_release_keeps_the_versions_of_its_moment(world: World) -> None:
    """And the ruleset's version tells by which releases it was copied."""
    application = world.judged_by((ruleset := world.ruleset(SCHEDULE), "enforcing"))
    made = world.release(application)
    changed = {"proposal_state": "final", "display_name": "second"}
    world.ask("PATCH", f"/approval-rulesets/{ruleset}", {"version": changed}, expect=200)
    found = world.get(f"/applications/{application}/releases/{made['id']}")
    bound = found["approval_ruleset_bindings"]
    assert [
        (each["mode"], each["approval_ruleset"]["latest_approved_version"]["version_number"])
        for each in bound
    ] == [("enforcing", 1)]
    assert "approval_rules" not in bound[0]["approval_ruleset"]["latest_approved_version"]
    second = world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]
    assert (second["version_number"], second["release_approval_ruleset_bindings"]) == (2, [])
    first = world.get(f"/approval-rulesets/{ruleset}/versions/1")["version"]
    told = first["release_approval_ruleset_bindings"]
    assert [(each["mode"], each["release"]["id"]) for each in told] == [("enforcing", made["id"])]
    assert told[0]["release"]["application"]["id"] == application
    counted = {
        each["version_number"]: each["num_bound_releases"]
        for each in world.get(f"/approval-rulesets/{ruleset}/versions")["items"]
    }
    assert counted == {2: 0, 1: 1}


def test_case_20_a_binding_that_is_only_proposed(world: World) -> None:
    """It binds nothing."""
    application, ruleset = world.application(), world.ruleset(EMPTY)
    made = world.bind(application, ruleset, proposal_state="draft")
    assert (made["version"]["version_state"], made["version"]["mode"]) == ("proposal", "enforcing")
    found, events = world.final(application)
    assert (found["state"], found["approval_ruleset_bindings"], events) == ("approved", [], [])


@pytest.mark.parametrize("what", ["binding", "ruleset", "rule"])
def test_case_21_what_is_not_enabled(world: World, what: str) -> None:
    """It leaves no event."""
    ruleset = world.ruleset({**EMPTY, "enabled": what != "rule"}, enabled=what != "ruleset")
    application = world.application()
    world.bind(application, ruleset, enabled=what != "binding")
    found, events = world.final(application)
    assert (found["state"], events) == ("approved", [])
    assert len(found["approval_ruleset_bindings"]) == (1 if what == "rule" else 0)


def test_case_22_rules_that_cannot_be(world: World) -> None:
    """Refused at once, with what is wrong; the server stays up."""
    ruleset = world.ruleset()
    for rule in (
        {"type": "schedule", "begin_time": "9:00"},
        {"type": "schedule", "end_time": "9:00"},
        {"type": "schedule", "begin_time": "zz", "end_time": "10:00"},
        {"type": "schedule", "days_of_month": "32"},
        {"type": "schedule", "months_of_year": "foo"},
        {},
        {"type": "zz"},
        {"type": []},
        {"type": "manual"},
        {"type": "manual", "approval_policy": "some"},
        {"type": "manual", "approval_policy": "minimum"},
        {"type": "manual", "approval_policy": "minimum", "minimum": 0},
        {"type": "manual", "approval_policy": "any", "minimum": 1},
        {"type": "http_api"},
        {"type": "http_api", "url": "https://example.org", "retry_policy": "often"},
        {"type": "http_api", "url": "https://example.org", "retry_limit": -1},
    ):
        body = {"version": {"approval_rules": [SCHEDULE, rule], "proposal_state": "final"}}
        text = refused(world["ana"].patch(f"/v1/approval-rulesets/{ruleset}", json=body), 400)
        assert text.startswith("Invalid input: approval_rules[1]"), text
    assert world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]["version_number"] == 1


def test_case_23_months_with_a_dash(world: World) -> None:
    """The client's way to write it."""
    ruleset = world.ruleset({"type": "schedule", "months-of-year": "apr"})
    found = world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]["approval_rules"]
    assert [each["months_of_year"] for each in found] == ["apr"]
    assert "months-of-year" not in found[0]


def holds(rule: dict[str, str], at: datetime) -> bool:
    """A schedule rule as the engine judges it for a release of this moment."""
    whole = {"type": "schedule", "id": 1, **rule}
    copied = Copied("r", Mode.ENFORCING, "", "", None, {"rules": [whole]})
    nothing = dict.fromkeys(Request.__dataclass_fields__)
    request = Request(**{**nothing, "state": Verdict.PENDING, "created_at": at})  # type: ignore[arg-type]
    return in_time(Rule(copied, whole), request, "UTC")


def test_case_24_the_ends_of_a_window(world: World) -> None:
    """Both are in it, to the microsecond."""
    office = {"begin_time": "09:00", "end_time": "18:00"}
    day = datetime(2031, 4, 9, tzinfo=UTC)
    at_six, at_nine = day.replace(hour=18), day.replace(hour=9)
    tick = timedelta(microseconds=1)
    assert holds(office, at_six)
    assert not holds(office, at_six + tick)
    assert holds(office, at_nine)
    assert not holds(office, at_nine - tick)
    assert holds({"begin_time": "09:00", "end_time": "24:00"}, day + timedelta(days=1, milliseconds=-100))
    whole_day = {"type": "schedule", "begin_time": "0:0", "end_time": "24:00"}
    assert world.final(world.judged_by((world.ruleset(whole_day), "enforcing")))[0]["state"] == "approved"


def test_case_25_words_of_days(world: World) -> None:
    """In any case, parted by any number of spaces; none at all never holds."""
    monday = datetime(2031, 4, 7, 12, tzinfo=UTC)
    rule = {"days_of_week": "  Mon   FRIDAY 0 "}
    found = [holds(rule, monday + timedelta(days=day)) for day in range(7)]
    assert found == [True, False, False, False, True, False, True]
    body = {
        "id": world.name(),
        "version": {"approval_rules": [{"type": "schedule", "days_of_week": "mon,fri"}]},
    }
    refused(world["ana"].post("/v1/approval-rulesets", json=body), 400)
    today = datetime.now(UTC).weekday()
    around = f" {DAYS[today].upper()}   {DAYS[(today + 1) % 7]} "
    kept = world.ruleset({"type": "schedule", "days_of_week": around})
    assert (
        world.get(f"/approval-rulesets/{kept}")["latest_approved_version"]["approval_rules"][0][
            "days_of_week"
        ]
        == around
    )
    assert world.final(world.judged_by((kept, "enforcing")))[0]["state"] == "approved"
    assert world.final(world.judged_by((world.ruleset(EMPTY), "enforcing")))[0]["state"] == "rejected"


def test_case_26_judged_by_the_moment_it_was_made(restarted: Restarted) -> None:
    """Though the server stands still for a day in between; each rule has one event."""
    world, path = restarted.world, restarted.yesterday
    assert world.get(path)["state"] == "pending"
    body = {"approval_rule_id": restarted.rules[path], "decision": "approved"}
    world.ask("POST", f"{path}/manual-approvals", body, expect=201)
    found = world.once(path, lambda each: each["state"] != "pending")
    assert found["state"] == "approved"
    events = world.get(f"{path}/events")["items"][1:]
    assert [each["approval_rule_outcome"]["type"] for each in events] == ["manual", "schedule"]
    assert all(each["approval_rule_outcome"]["success"] for each in events)


def test_case_27_the_same_job_twice_at_once(tmp_path: Path) -> None:
    """One verdict, and one event for each rule."""
    repo = SpecRepository(tmp_path / "specs")
    rules = "{rules: [{type: schedule}, {type: schedule}, {type: schedule}]}"
    repo.commit(
        {
            "a.yaml": document("ApprovalRuleset", "name: r", rules)
            + "---\n"
            + document("Application", "name: shop", "{approval_ruleset_bindings: [{approval_ruleset: r}]}")
        }
    )

    async def run() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", allow_unsandboxed=True)) as running:
            installation = running.installation
            bound = await installation.database.read(lambda c: reviews.copies(c, "SHOP"))
            assert bound is not None
            new = NewRequest("shop", bound, "User/admin")
            made = await installation.database.write(lambda w: rows.register(w, new))
            await asyncio.gather(*(passes.run(installation, f"request/{made.id}") for _ in range(4)))
            found = await installation.database.read(lambda c: rows.find(c, made.id))
            outcomes = await installation.database.read(lambda c: rows.outcomes(c, made.id))
        assert found is not None
        assert (found.state, len(outcomes), len({each.rule for each in outcomes})) == (Verdict.APPROVED, 3, 3)
        assert [each.result_state.value for each in outcomes] == ["pending", "pending", "approved"]

    asyncio.run(run())
