"""Requests for approval are judged by a running daemon: each rule once, in order, whatever goes wrong between."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
import pytest

from api.sqedule.answers import Shown, whole_release
from reconciler.access import Caller
from reconciler.commands import requests as door
from reconciler.daemon import Daemon
from reconciler.errors import Conflict, Forbidden, NotFound
from reconciler.model.gate import NAME as GATE
from reconciler.model.request import PREFIX, Copied, Mode, Outcome, Request, Verdict
from reconciler.model.rights import INSTALLATION, Level, Rights, Scope
from reconciler.passes import requests as passes
from reconciler.queries import requests as query
from reconciler.sealing import seal
from reconciler.sending.rule_check import LARGEST
from reconciler.store import events
from reconciler.store import requests as rows
from reconciler.store.requests import NewRequest
from tests.receiver import Receiver
from tests.requesting import ALWAYS, NEVER, asks, copied, manual, subject
from tests.support import SpecRepository, daemon, eventually, settings_for

PEOPLE = """\
apiVersion: steersman/v1
kind: User
metadata: {name: %s}
spec: {email: %s@example.org}
---
"""
TEAM = """\
apiVersion: steersman/v1
kind: Team
metadata: {name: ops}
spec: {members: [bob, carol]}
"""
NAMES = ("alice", "bob", "carol")
ROLES = """\
apiVersion: steersman/v1
kind: Project
metadata: {name: shop}
---
apiVersion: steersman/v1
kind: Environment
metadata: {name: prod, project: shop}
spec: {}
---
apiVersion: steersman/v1
kind: RoleBinding
metadata: {name: owners, project: shop, environment: prod}
spec: {role: owner, subjects: [{kind: User, name: bob}]}
---
apiVersion: steersman/v1
kind: RoleBinding
metadata: {name: writers}
spec: {role: write, subjects: [{kind: User, name: alice}]}
"""


def caller(name: str, level: Level = Level.WRITE, scope: Scope = INSTALLATION) -> Caller:
    return Caller(f"User/{name}", Rights({scope: level}))


ROOT = caller("admin", Level.OWNER)


def run(tmp_path: Path, story: Any, files: dict[str, str] | None = None, **settings: Any) -> None:
    """Tell a story to a daemon."""
    repository = SpecRepository(tmp_path / "spec")
    repository.commit({"people.yaml": "".join(PEOPLE % (n, n) for n in NAMES) + TEAM, **(files or {})})

    async def all_of_it() -> None:
        flags = {"private_addresses": True} | settings
        async with daemon(settings_for(repository, tmp_path / "data", **flags)) as it:
            await it.installation.run_now(GATE)  # which ends what no deploy waits for, at a start too
            it.installation.describe_request = partial(whole_release, Shown(ZoneInfo("UTC"), "pending"))
            await story(it)

    asyncio.run(all_of_it())


async def registered(it: Daemon, *bindings: Copied, **more: Any) -> Request:
    """A request whose first pass is over."""
    new = NewRequest("Shop", bindings, "User/alice", ("User/alice",), **more)
    request = await it.installation.database.write(lambda w: rows.register(w, new))
    await it.installation.run_now(f"{PREFIX}{request.id}")
    return request


async def seen(it: Daemon, request: Request) -> tuple[Request, list[Outcome]]:
    return await query.events(it.installation, ROOT, request.id)


def test_each_rule_is_judged_once_and_in_order(tmp_path: Path) -> None:
    async def story(it: Daemon) -> None:
        first = await registered(it)
        assert first.state is Verdict.PENDING
        assert first.application == "shop"
        done, judged = await seen(it, first)
        assert done.state is Verdict.APPROVED
        assert done.finalized_at is not None
        assert judged == []

        cases = [
            ((copied("never", NEVER),), [("rejected", False)]),
            ((copied("never", NEVER, mode=Mode.PERMISSIVE),), [("approved", True)]),
            (
                (copied("z-never", NEVER, mode=Mode.PERMISSIVE), copied("always", ALWAYS, first=5)),
                [("pending", False), ("approved", True)],
            ),
            ((copied("never", NEVER), copied("z-open", ALWAYS, first=5)), [("rejected", False)]),
            ((copied("off", {**NEVER, "enabled": False}),), []),
        ]
        for bindings, told in cases:
            done, judged = await seen(it, await registered(it, *bindings))
            assert [(each.result_state.value, each.ignored_error) for each in judged] == told
            assert done.state.value == (told[-1][0] if told else "approved")
            await it.installation.run_now(f"{PREFIX}{done.id}")
            assert await seen(it, done) == (done, judged)
        found = await query.of_application(it.installation, ROOT, "SHOP", 2, 1)
        assert [each.id for each in found] == [5, 4]

    run(tmp_path, story)


def test_people_decide_a_manual_rule(tmp_path: Path) -> None:
    two = manual(
        "minimum", minimum=2, approvers={"users": ["alice"], "teams": ["ops"]}, allow_self_approval=False
    )

    async def story(it: Daemon) -> None:
        installation = it.installation
        request = await registered(it, copied("two", two), copied("z", manual(), first=5), digest="d1")
        assert (await seen(it, request))[0].state is Verdict.PENDING
        assert await query.waits(installation, ROOT, request.id) == (
            "two: 0 of 2 approvals; alice or the team ops may decide, but not who asked for it",
            "z: 0 of 1 approvals; who may write on the installation may decide",
        )
        refused = [
            (caller("alice"), 1, Forbidden, "NotEligible"),
            (caller("admin", Level.OWNER), 1, Forbidden, "NotEligible"),
            (caller("dave", Level.READ), 6, Forbidden, "NotEligible"),
            (caller("bob"), 9, NotFound, "NoSuchRule"),
        ]
        for who, rule, error, reason in refused:
            with pytest.raises(error) as found:
                await door.decide(installation, who, request.id, rule, "approved", None)
            assert found.value.reason == reason
        with pytest.raises(NotFound):
            await door.decide(installation, caller("bob"), 99, 1, "approved", None)
        with pytest.raises(Conflict) as stale:
            await door.decide(installation, caller("bob"), request.id, 1, "approved", None, "d0")
        assert stale.value.reason == "Changed"

        first = await door.decide(installation, caller("bob"), request.id, 1, "approved", "fine", "d1")
        assert first.state is Verdict.PENDING
        with pytest.raises(Conflict) as twice:
            await door.decide(installation, caller("bob"), request.id, 1, "rejected", None)
        assert twice.value.reason == "DecidedAlready"
        await door.decide(installation, caller("alice"), request.id, 6, "approved", None)  # before its turn
        last = await door.decide(installation, caller("carol"), request.id, 1, "approved", "me too")
        assert last.comment == "me too"
        done, judged = await eventually(lambda: _final(it, request))
        assert done.state is Verdict.APPROVED
        assert [each.rule for each in judged] == [1, 6]
        assert judged[0].detail["comments"] == "me too"
        with pytest.raises(Conflict) as over:
            await door.decide(installation, caller("dave"), request.id, 6, "approved", None)
        assert over.value.reason == "AlreadyFinished"
        said = await query.decisions(installation, ROOT, request.id)
        assert [(each.actor, each.rule) for each in said] == [
            ("User/bob", 1),
            ("User/alice", 6),
            ("User/carol", 1),
        ]

        refused_by = await registered(it, copied("two", two))
        told = await door.decide(installation, caller("bob"), refused_by.id, 1, "rejected", "no")
        assert told.state is Verdict.REJECTED
        kinds = [e.event.kind for e in await installation.database.read(lambda c: events.after(c, 0, 500))]
        assert kinds.count("release-rule-rejected") == 1
        assert kinds.count("release-judged") == 3

    run(tmp_path, story, {"roles.yaml": ROLES})


def test_owners_of_the_environment_decide_where_nobody_is_named(tmp_path: Path) -> None:
    prod = Scope("shop", "prod")

    async def story(it: Daemon) -> None:
        rule = copied("owners", manual(allow_self_approval=False))
        request = await registered(it, rule, subject=subject(), digest="d")
        for who, error in [
            (caller("bob", Level.WRITE, prod), Forbidden),
            (caller("carol", Level.OWNER, Scope("other")), NotFound),
            (caller("alice", Level.OWNER, prod), Forbidden),
        ]:
            with pytest.raises(error):
                await door.decide(it.installation, who, request.id, 1, "approved", None)
            shown = await query.of_application(it.installation, who, None, 10, 0)
            assert bool(shown) == (error is Forbidden)
        told = await door.decide(
            it.installation, caller("bob", Level.OWNER, prod), request.id, 1, "approved", ""
        )
        assert told.state is Verdict.APPROVED

    run(tmp_path, story, {"roles.yaml": ROLES})


async def _final(it: Daemon, request: Request) -> tuple[Request, list[Outcome]] | None:
    found = await seen(it, request)
    return found if found[0].final else None


def sealed(it: Daemon, name: str, value: bytes) -> str:
    """A Secret's document."""
    text = seal(value, it.installation.keys.recipient, f"Secret/_/_/{name}")
    head = f"apiVersion: steersman/v1\nkind: Secret\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {{type: value, sealed: {text}}}\n"


async def later(it: Daemon, request: Request, hours: int) -> tuple[Request, list[Outcome]]:
    """Look again, some hours later."""
    it.installation.now = lambda: request.created_at + timedelta(hours=hours)
    await it.installation.run_now(f"{PREFIX}{request.id}")
    return await seen(it, request)


def test_another_server_is_asked(tmp_path: Path) -> None:
    receiver = Receiver()
    secret = {"username": "steersman", "password": {"secret_ref": "change-api"}}

    async def story(it: Daemon) -> None:
        spec = tmp_path / "spec"
        SpecRepository(spec).commit({"secret.yaml": sealed(it, "change-api", b"hunter2")})
        await it.installation.run_now("source")
        receiver.body = b"hunter2 " + base64.b64encode(b"steersman:hunter2") + b"x" * 70_000
        request = await registered(it, copied("c", asks(receiver.url, **secret)), metadata={"build": 8})
        done, judged = await seen(it, request)
        assert done.state is Verdict.APPROVED
        headers, body = receiver.got.pop()
        assert headers["authorization"] == "Basic " + base64.b64encode(b"steersman:hunter2").decode()
        sent = msgspec.json.decode(body)
        assert (sent["id"], sent["application_id"], sent["state"]) == (request.id, "shop", "pending")
        assert sent["metadata"] == {"build": 8}
        assert sent["approval_ruleset_bindings"][0]["approval_ruleset"]["id"] == "c"
        kept = base64.b64decode(judged[0].detail["response_body_base64"])
        assert kept.startswith(b"*** ***xxx")
        assert len(kept) < 65_536
        assert judged[0].detail["response_code"] == 200
        assert "hunter2" not in str(judged)

        receiver.status, receiver.location = 302, receiver.url
        done, judged = await seen(it, await registered(it, copied("c", asks(receiver.url))))
        assert (done.state, judged[0].detail["response_code"]) == (Verdict.REJECTED, 302)
        receiver.status, receiver.location = 307, "http://127.0.0.2:9/hook"
        done, judged = await seen(it, await registered(it, copied("c", asks(receiver.url))))
        assert (done.state, judged[0].detail["response_code"]) == (Verdict.REJECTED, 307)
        receiver.location = receiver.url.replace("/hook", "/other")
        receiver.before = lambda path: 200 if path == "/other" else 307
        done, judged = await seen(it, await registered(it, copied("c", asks(receiver.url))))
        assert (done.state, judged[0].detail["response_code"]) == (Verdict.APPROVED, 200)

    try:
        run(tmp_path, story)
    finally:
        receiver.close()


def test_a_password_that_is_said_back_is_kept_in_no_spelling(tmp_path: Path) -> None:
    """Nor the beginning of it, where the answer is cut off; of a whole answer all else is kept."""
    receiver = Receiver()
    password = 'pa"ss/w+rd-9'
    secret = {"username": "steersman", "password": {"secret_ref": "change-api"}}
    spellings = [
        json.dumps({"p": password}).encode(),
        base64.b64encode(password.encode()),
        quote(password, safe="").encode(),
        base64.b64encode(f"steersman:{password}".encode()),
        password.encode().hex().encode(),
    ]

    async def story(it: Daemon) -> None:
        spec = tmp_path / "spec"
        SpecRepository(spec).commit({"secret.yaml": sealed(it, "change-api", password.encode())})
        await it.installation.run_now("source")

        async def kept(body: bytes) -> bytes:
            receiver.body = body
            request = await registered(it, copied("c", asks(receiver.url, **secret)))
            _, judged = await seen(it, request)
            return base64.b64decode(judged[0].detail["response_body_base64"])

        assert await kept(b" ".join([*spellings, b"end"])) == b'{"p": "***"} *** *** *** *** end'
        assert await kept(b"x" * (LARGEST - 7) + password.encode() * 2) == b"x" * (LARGEST - 7)

    try:
        run(tmp_path, story)
    finally:
        receiver.close()


def test_a_failure_is_tried_again_as_often_as_the_rule_says(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.status = 503

    async def story(it: Daemon) -> None:
        request = await registered(it, copied("c", asks(receiver.url, 2)))
        for hours, posts in ((1, 2), (2, 3)):
            waiting, judged = await seen(it, request)
            assert (waiting.state, judged, waiting.posted) == (Verdict.PENDING, [], posts - 1)
            assert (
                f"answered 503, try {posts - 1} of 3"
                in (await query.waits(it.installation, ROOT, request.id))[0]
            )
            await it.installation.run_now(f"{PREFIX}{request.id}")
            assert len(receiver.got) == posts - 1  # not before its time
            done, judged = await later(it, request, hours)
            assert len(receiver.got) == posts
        assert (done.state, len(judged), done.trouble) == (Verdict.REJECTED, 1, None)

        done, judged = await seen(it, await registered(it, copied("c", asks("http://127.0.0.1:9/"))))
        assert (done.state, judged[0].detail["response_code"]) == (Verdict.REJECTED, 0)

    try:
        run(tmp_path, story)
    finally:
        receiver.close()


def test_what_cannot_be_judged_stays_pending_and_harms_nobody_else(tmp_path: Path) -> None:
    receiver = Receiver()
    secret = {"username": "me", "password": {"secret_ref": "nowhere"}}

    async def story(it: Daemon) -> None:
        bad = copied("bad", {**ALWAYS, "begin_time": "25:61", "end_time": "27:00"})
        poisoned = [
            await registered(it, copied("c", asks(receiver.url, **secret), mode=Mode.PERMISSIVE)),
            await registered(it, bad),
            await registered(it, copied("c", asks("https://127.0.0.1:9/", tls_ca_certificate="none"))),
        ]
        done, _ = await seen(it, await registered(it, copied("always", ALWAYS)))
        assert done.state is Verdict.APPROVED
        for request in poisoned:
            for hours in range(1, 12):
                found, judged = await later(it, request, hours)
                assert (found.state, judged) == (Verdict.PENDING, [])
            assert (found.tried, found.again_at) == (11, None)
            assert "cannot be judged" in (await query.waits(it.installation, ROOT, request.id))[0]
            found, _ = await later(it, request, 20)
            assert found.tried == 11  # left, until the next start
        SpecRepository(tmp_path / "spec").commit({"secret.yaml": sealed(it, "nowhere", b"x")})
        await it.installation.run_now("source")
        await it.installation.run_now("requests")  # as a start does
        done, _ = await eventually(lambda: _final(it, poisoned[0]))
        assert (done.state, done.tried, done.trouble) == (Verdict.APPROVED, 0, None)
        assert (await seen(it, poisoned[1]))[0].state is Verdict.PENDING

    try:
        run(tmp_path, story)
    finally:
        receiver.close()


def test_judged_twice_at_once_there_is_one_verdict(tmp_path: Path) -> None:
    receiver = Receiver()

    async def story(it: Daemon) -> None:
        installation, bindings = it.installation, (copied("c", ALWAYS, asks(receiver.url), NEVER),)
        new = NewRequest("shop", bindings, "User/alice")
        installation.wake = lambda *_: None
        request = await installation.database.write(lambda w: rows.register(w, new))
        await asyncio.gather(*(passes.run(installation, f"{PREFIX}{request.id}") for _ in range(4)))
        done, judged = await eventually(lambda: _final(it, request))
        assert (done.state, [each.rule for each in judged]) == (Verdict.REJECTED, [1, 3])
        assert receiver.got == []

        new = NewRequest("shop", (copied("c", asks(receiver.url)),), "User/alice")
        request = await installation.database.write(lambda w: rows.register(w, new))
        await asyncio.gather(*(passes.run(installation, f"{PREFIX}{request.id}") for _ in range(4)))
        done, judged = await eventually(lambda: _final(it, request))
        assert (done.state, len(judged)) == (Verdict.APPROVED, 1)
        kinds = [e.event.kind for e in await installation.database.read(lambda c: events.after(c, 0, 500))]
        assert kinds.count("release-judged") == 3

    try:
        run(tmp_path, story)
    finally:
        receiver.close()


def test_inside_addresses_are_not_asked(tmp_path: Path) -> None:
    receiver = Receiver()

    async def story(it: Daemon) -> None:
        found, judged = await seen(it, await registered(it, copied("c", asks(receiver.url))))
        assert (found.state, judged) == (Verdict.PENDING, [])
        assert "private_addresses" in str(found.trouble)

    try:
        run(tmp_path, story, private_addresses=False)
    finally:
        receiver.close()
    assert receiver.got == []


def test_a_server_with_an_authority_of_its_own_is_asked_only_if_the_rule_names_that(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.url = receiver.url.replace("http://", "https://")
    authority = receiver.encrypt(tmp_path)

    async def story(it: Daemon) -> None:
        named = copied("c", asks(receiver.url, tls_ca_certificate=authority))
        assert (await seen(it, await registered(it, named)))[0].state is Verdict.APPROVED
        done, judged = await seen(it, await registered(it, copied("c", asks(receiver.url))))
        assert (done.state, judged[0].detail["response_code"]) == (Verdict.REJECTED, 0)

    try:
        run(tmp_path, story)
    finally:
        receiver.close()
    assert len(receiver.got) == 1
