"""Who a Notification names is told, in order and each thing once: real receivers of webhooks and mail on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from reconciler import sealing
from reconciler.access import ROOT, Caller
from reconciler.apply import notifications as apply
from reconciler.commands import notifications as door
from reconciler.commands.triggers import Order, trigger
from reconciler.daemon import Daemon
from reconciler.errors import Forbidden, NotFound, Refused
from reconciler.installation import utcnow
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Rights, Scope
from reconciler.queries import notifications as query
from reconciler.queries.why import why
from reconciler.store import events, notified
from reconciler.store.database import Write
from reconciler.store.notified import Cursor
from tests.conftest import NewDatabase
from tests.receiver import Receiver
from tests.running import finished
from tests.support import SpecRepository, daemon, eventually, settings_for

SECRET = b"a shared secret"
HOOK = "Secret/shop/_/hook"
ALERTS = "Notification/shop/alerts"
WORK, OTHER, FAR = "Build/shop/_/work", "Build/shop/_/other", "Build/far/_/work"


def document(kind: str, name: str, spec: dict[str, Any], **scope: str) -> str:
    """One, as JSON, which is YAML."""
    return json.dumps(
        {"apiVersion": "steersman/v1", "kind": kind, "metadata": {"name": name, **scope}, "spec": spec}
    )


def build(name: str, project: str) -> str:
    """Passes where its input says so."""
    task = {"name": "t", "run": 'test "$INPUT_verdict" = ok'}
    inputs = [{"id": "verdict", "default": "ok"}]
    return document("Build", name, {"inputs": inputs, "tasks": [task]}, project=project)


class Team:
    """Two projects with Builds, a Secret, and the Notifications that a test declares."""

    def __init__(self, tmp_path: Path, database: str) -> None:
        self.data = tmp_path / "data"
        self.data.mkdir()
        self.database = database
        sealing.make(self.data / "server.key")
        self.recipient = sealing.load(self.data / "server.key").recipient
        self.specs = SpecRepository(tmp_path / "specs")
        self.documents = {
            "Project/shop": document("Project", "shop", {}),
            "Project/far": document("Project", "far", {}),
            WORK: build("work", "shop"),
            OTHER: build("other", "shop"),
            FAR: build("work", "far"),
        }
        self.seal(SECRET)

    def seal(self, value: bytes, kind: str = "value") -> None:
        """What signs."""
        spec = {"type": kind, "sealed": sealing.seal(value, self.recipient, HOOK)}
        self.documents[HOOK] = document("Secret", "hook", spec, project="shop")

    def notify(self, name: str = "alerts", project: str | None = "shop", **spec: Any) -> None:
        """A Notification."""
        scope = {"project": project} if project else {}
        self.documents[f"Notification/{project or '_'}/{name}"] = document(
            "Notification", name, spec, **scope
        )

    def run(self, work: Callable[[Open], Awaitable[None]], **settings: Any) -> None:
        """With a daemon in this process."""
        self.commit()
        flags: dict[str, Any] = {"private_addresses": True, "allow_unsandboxed": True} | settings

        async def go() -> None:
            settings_ = settings_for(self.specs, self.data, database=self.database, **flags)
            async with daemon(settings_) as running:
                await asyncio.wait_for(work(Open(self, running)), 100)

        asyncio.run(go())

    def commit(self) -> None:
        """All that is declared."""
        self.specs.commit({"all.yaml": "\n---\n".join(self.documents.values())})


class Open:
    """A team whose daemon runs."""

    def __init__(self, team: Team, running: Daemon) -> None:
        self.team = team
        self.daemon = running
        self.installation = running.installation

    async def apply(self) -> None:
        """Commit what is declared, and wait for it."""
        self.team.commit()
        await self.installation.run_now("source")
        await self.installation.run_now("notifications")

    async def job(self, verdict: str, key: str = WORK) -> int:
        """One that has ended; its number."""
        made = await trigger(self.installation, ROOT, key, Order(inputs={"verdict": verdict}))
        await finished(self.daemon, made["number"])
        number: int = made["number"]
        return number

    async def cursor(self, receiver: str = "webhook", key: str = ALERTS) -> Cursor:
        """How far it has been told."""
        found = await self.installation.database.read(lambda c: notified.load(c, key, receiver))
        assert found is not None
        return found

    async def seen(self, receiver: str = "webhook", key: str = ALERTS) -> dict[str, Any]:
        """What people are shown of a receiver."""
        items = await query.receivers(self.installation, ROOT)
        return next(each for each in items if (each["key"], each["receiver"]) == (key, receiver))

    async def until(self, receiver: str = "webhook", key: str = ALERTS, **shown: Any) -> dict[str, Any]:
        """That, once it is so."""

        async def check() -> dict[str, Any] | None:
            found = await self.seen(receiver, key)
            return found if found.items() >= shown.items() else None

        found: dict[str, Any] = await eventually(check, 40)
        return found

    def resource(self, key: str = ALERTS) -> Resource:
        """As it is known now."""
        return self.installation.snapshot.current.resources[key]

    def condition(self, type: str, key: str = ALERTS) -> str | None:
        """What it says."""
        return next((c.message for c in self.resource(key).conditions if c.type == type), None)

    async def later(self, receiver: str = "webhook", key: str = ALERTS, **time: float) -> None:
        """So much time goes by, and none after that; then the receiver has its turn."""
        moment = self.installation.now() + timedelta(**time)
        self.installation.now = lambda: moment
        await self.installation.run_now(f"notify/{receiver}/{key}")


@pytest.fixture
def team(tmp_path: Path, new_database: NewDatabase) -> Team:
    return Team(tmp_path, new_database())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


class Mailbox:
    """A mail server's handler that keeps everything, unless it is full."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.full = False
        self.busy = False

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        if address.startswith("later") and self.busy:
            return "451 try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.full:
            return "452 no room"
        self.to.append(envelope.rcpt_tos)
        self.got.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, dict[str, Any]]]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
    controller.start()
    yield (
        box,
        {"host": "127.0.0.1", "port": port, "security": "none", "sender": "steersman@ci.example.org"},
    )
    controller.stop()


def told(receiver: Receiver) -> list[tuple[str, int | None]]:
    """What a receiver was told: (type, number), as it came."""
    bodies = [json.loads(body) for _, body in receiver.got]
    return [(body["type"], body["data"]["number"]) for body in bodies]


def ids(receiver: Receiver) -> list[str]:
    """What tells one from another."""
    return [headers["webhook-id"] for headers, _ in receiver.got]


def test_failures_and_the_first_pass_are_told_in_order_and_signed(team: Team, receiver: Receiver) -> None:
    """Of this project only, and nothing of what was before the Notification."""

    async def work(open_: Open) -> None:
        await open_.job("bad")
        team.notify(webhook={"url": receiver.url, "secret_ref": "hook"})
        await open_.apply()
        assert (await open_.seen())["state"] == "idle"
        numbers = [await open_.job(verdict) for verdict in ("ok", "ok", "bad", "bad", "ok", "ok")]
        await open_.job("bad", FAR)
        last = await open_.job("bad", OTHER)
        await open_.until(delivered=5, waiting=0, error=None, next_try=None)
        assert told(receiver) == [
            ("recovered", numbers[0]),
            ("failed", numbers[2]),
            ("failed", numbers[3]),
            ("recovered", numbers[4]),
            ("failed", last),
        ]
        assert len(set(ids(receiver))) == 5
        assert open_.condition("Failing") is None
        assert open_.condition("Delivered") == "all receivers took what was sent to them last"
        assert (await why(open_.installation, ROOT, ALERTS))["causes"] == []

    team.run(work)
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/json"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = hmac.new(SECRET, signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
        assert abs(int(headers["webhook-timestamp"]) - utcnow().timestamp()) < 600
        assert json.loads(body)["data"]["url"].startswith("http://127.0.0.1:8080/ui/jobs/")


def test_a_receiver_that_is_down_for_an_hour_gets_each_event_once_in_order(team: Team) -> None:
    """Its tries become rarer, and are told; none is begun before its time."""
    first = Receiver()
    team.notify(webhook={"url": first.url})

    async def work(open_: Open) -> None:
        before = await open_.job("bad")
        await open_.until(delivered=1)
        await open_.later(seconds=0)
        first.close()
        numbers = [await open_.job("bad"), await open_.job("ok")]
        await open_.until(tries=1, waiting=2, state="failing")
        delays = []
        for _ in range(12):
            cursor = await open_.cursor()
            assert cursor.again_at is not None
            assert cursor.failing_since is not None
            delays.append((cursor.again_at - open_.installation.now()).total_seconds())
            await open_.later(seconds=delays[-1] - 3)
            assert (await open_.cursor()).tries == cursor.tries
            await open_.later(seconds=4)
            assert (await open_.cursor()).tries == cursor.tries + 1
        whole = (5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600)
        assert all(0.8 * most - 1 <= delay <= most for delay, most in zip(delays, whole, strict=True))
        numbers.append(await open_.job("bad", OTHER))
        shown = await open_.until(waiting=3, tries=13)
        assert "could not be reached" in shown["error"]
        (cause,) = (await why(open_.installation, ROOT, ALERTS))["causes"]
        assert cause["reason"] == "NotDelivered"
        assert cause["message"].startswith("webhook, try 13, again at ")
        assert open_.resource().health == "Degraded"
        again = Receiver(first.port)
        try:
            await open_.later(minutes=10)
            await open_.until(delivered=4, waiting=0, error=None, failing_since=None, next_try=None)
            assert told(again) == [("failed", numbers[0]), ("recovered", numbers[1]), ("failed", numbers[2])]
            assert len({*ids(first), *ids(again)}) == 4
            assert open_.resource().health == "Healthy"
        finally:
            again.close()
        assert told(first) == [("failed", before)]

    team.run(work)


def test_a_kill_between_sending_and_storing_sends_the_same_id_again(team: Team, receiver: Receiver) -> None:
    """A write that never came is as if the power had gone; who comes next sends what is still to be sent."""
    team.notify(webhook={"url": receiver.url})

    async def sent(open_: Open) -> None:
        async def dies(*_: Any, **__: Any) -> None:
            raise asyncio.CancelledError

        database = open_.installation.database
        write = database.write

        async def only_others(work: Any, *more: Any, **options: Any) -> Any:
            if isinstance(work, partial) and work.func.__name__ == "_delivered":
                await dies()
            return await write(work, *more, **options)

        database.write = only_others  # type: ignore[method-assign]
        await open_.job("bad")
        await eventually(lambda: receiver.got)
        assert (await open_.cursor()).delivered == 0

    async def again(open_: Open) -> None:
        await open_.until(delivered=1, waiting=0)

    team.run(sent)
    team.run(again)
    first, *more = ids(receiver)
    assert more
    assert set(more) == {first}
    assert {kind for kind, _ in told(receiver)} == {"failed"}


def test_receivers_do_not_wait_for_each_other(
    team: Team, receiver: Receiver, mailbox: tuple[Mailbox, dict[str, Any]]
) -> None:
    """One that is broken, one that has no secret, one without a mail server's room; all others are told."""
    box, smtp = mailbox
    box.full = True
    receiver.before = lambda path: 500 if path == "/broken" else None
    server = receiver.url.removesuffix("/hook")
    receiver.body = b"no\n\x00 <b>thanks</b>"
    mail = {"to": ["d@example.org", "e@example.org"]}
    team.seal(b"whsec_###")
    team.notify("broken", webhook={"url": f"{server}/broken"}, email=mail)
    team.notify("bad-secret", webhook={"url": f"{server}/bad-secret", "secret_ref": "hook"})
    team.notify("bad-name", webhook={"url": "http://a..b/x"})
    team.notify("good", webhook={"url": f"{server}/good"})
    team.notify("everywhere", None, webhook={"url": f"{server}/all"}, keys=["Build/far/**"])

    async def work(open_: Open) -> None:
        await open_.job("bad")
        await open_.job("bad", FAR)
        await open_.until(key="Notification/shop/good", delivered=1)
        await open_.until(key="Notification/_/everywhere", delivered=1)
        shown = await open_.until(key="Notification/shop/broken", state="failing")
        assert shown["error"] == f"{server}/broken answered 500 Internal Server Error"
        shown = await open_.until("email", "Notification/shop/broken", state="failing")
        assert "452 no room" in shown["error"]
        assert shown["to"] == mail["to"]
        shown = await open_.until(key="Notification/shop/bad-secret", state="failing")
        assert "whsec_, but what follows is not base64" in shown["error"]
        assert "###" not in shown["error"]
        shown = await open_.until(key="Notification/shop/bad-name", state="failing")
        assert shown["error"] == "http://a..b/x is no address that there can be"
        assert open_.installation.troubles == {}
        assert "/bad-secret" not in receiver.paths
        told = open_.condition("Failing", "Notification/shop/broken")
        assert told is not None
        assert re.search(r"email, try \d.*webhook, try \d", told)
        items = await query.receivers(open_.installation, ROOT)
        assert [each["state"] for each in items] == ["failing"] * 4 + ["delivered"] * 2
        box.full = False
        team.seal(b"whsec_" + base64.b64encode(SECRET))
        team.notify(
            "bad-secret", webhook={"url": f"{server}/bad-secret", "secret_ref": "hook"}, keys=["*/shop/**"]
        )
        await open_.apply()  # what was put right is tried at once
        await open_.until(key="Notification/shop/bad-secret", delivered=1)
        await open_.later("email", "Notification/shop/broken", seconds=6)
        await open_.until("email", "Notification/shop/broken", delivered=1)

    team.run(work, smtp=smtp)
    (mail_,) = box.got
    assert mail_["subject"] == f"[steersman] failed: {WORK}"
    assert mail_["to"] == "d@example.org, e@example.org"
    assert f"{WORK}: job 1 has failed (exit-status)" in mail_.get_content()
    by = {path: headers for (headers, _), path in zip(receiver.got, receiver.paths, strict=True)}
    assert mail_["message-id"] == f"<{by['/good']['webhook-id']}@ci.example.org>"
    assert by["/all"]["webhook-id"] != by["/good"]["webhook-id"] == by["/bad-secret"]["webhook-id"]
    assert "webhook-signature" in by["/bad-secret"]


def test_cdevents_go_in_the_media_type_of_a_cloud_event(team: Team, receiver: Receiver) -> None:
    """One id for the delivery, the envelope and the event."""
    team.notify(webhook={"url": receiver.url, "format": "cdevents"}, events=["failed"])

    async def work(open_: Open) -> None:
        await open_.job("bad")
        await open_.job("ok")
        await open_.until(delivered=1, waiting=0)

    team.run(work)
    ((headers, body),) = receiver.got
    event = json.loads(body)
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-id"] == event["id"] == event["data"]["context"]["id"]
    assert event["type"] == "dev.cdevents.pipelinerun.finished.0.3.0"
    assert event["data"]["subject"]["content"]["outcome"] == "failure"
    assert "webhook-signature" not in headers


def test_private_addresses_are_for_operators_to_allow(team: Team, receiver: Receiver) -> None:
    """It fails, says by which setting, and nothing was sent."""
    team.notify(webhook={"url": receiver.url})

    async def work(open_: Open) -> None:
        await open_.job("bad")
        shown = await open_.until(state="failing")
        assert "an operator allows such by the setting private_addresses" in shown["error"]

    team.run(work, private_addresses=False)
    assert receiver.got == []


def test_what_waits_for_days_is_given_up_and_recorded(team: Team, receiver: Receiver) -> None:
    """The newest events go on waiting; what was given up is in the log, and not sent later."""
    receiver.status = 503
    team.notify(webhook={"url": receiver.url})

    async def work(open_: Open) -> None:
        await open_.job("bad")
        await open_.job("bad")
        await open_.until(waiting=2, tries=1)
        await open_.later(days=3, minutes=1)
        shown = await open_.until(waiting=0)
        assert (shown["state"], shown["delivered"]) == ("failing", 0)
        found = await open_.installation.database.read(
            lambda c: events.of_kinds(c, 0, ["notification-given-up", "job-finished"], 10)
        )
        *jobs, given_up = found
        assert given_up.event.key == ALERTS
        assert given_up.event.body["events"] == [each.seq for each in jobs]
        assert given_up.event.body["cause"] == "it could not be delivered for three days"
        assert (given_up.event.body["receiver"], given_up.event.body["count"]) == ("webhook", 2)
        receiver.status = 200
        open_.installation.now = utcnow
        number = await open_.job("bad", OTHER)
        await open_.until(delivered=1, waiting=0, state="delivered")
        assert told(receiver)[-1] == ("failed", number)

    team.run(work)


def test_what_waited_goes_to_the_mended_address_in_order(team: Team, receiver: Receiver) -> None:
    """And to nobody who is named only then; of one that goes or is renamed it is recorded what waited."""
    receiver.before = lambda path: 500 if path == "/old" else None
    server = receiver.url.removesuffix("/hook")
    team.notify(webhook={"url": f"{server}/old"})

    async def given_up(open_: Open) -> list[tuple[str | None, str, int]]:
        found = await open_.installation.database.read(
            lambda c: events.of_kinds(c, 0, ["notification-given-up"], 10)
        )
        return [(each.event.key, each.event.body["cause"], each.event.body["count"]) for each in found]

    async def work(open_: Open) -> None:
        numbers = [await open_.job("bad"), await open_.job("bad", OTHER)]
        await open_.until(state="failing", waiting=2)
        team.notify(webhook={"url": f"{server}/new"}, email={"to": ["d@example.org"]})
        await open_.apply()
        await open_.until(state="delivered", waiting=0, delivered=2, error=None)
        assert [
            number for (_, number), path in zip(told(receiver), receiver.paths, strict=True) if path == "/new"
        ] == (numbers)
        assert (await open_.seen("email"))["state"] == "idle"
        team.notify(webhook={"url": f"{server}/old"})
        await open_.apply()
        await open_.job("bad")
        await open_.until(state="failing", waiting=1)
        assert await given_up(open_) == []
        team.documents["Notification/shop/renamed"] = document(
            "Notification", "renamed", {"webhook": {"url": f"{server}/new"}}, project="shop"
        )
        del team.documents[ALERTS]
        await open_.apply()
        assert await given_up(open_) == [(ALERTS, "it is declared no more", 1)]
        left = await open_.installation.database.read(notified.load_all)
        assert [each.key for each in left] == ["Notification/shop/renamed"]

    team.run(work)


def test_a_new_filter_sends_nothing_old(team: Team, receiver: Receiver) -> None:
    """What waited by the old one is told, and what that left out is not."""
    receiver.status = 500
    team.notify(webhook={"url": receiver.url}, keys=["Build/shop/_/other"])

    async def work(open_: Open) -> None:
        await open_.job("bad")
        waited = await open_.job("bad", OTHER)
        await open_.until(state="failing", waiting=1)
        team.notify(webhook={"url": receiver.url}, keys=["Build/shop/_/work"])
        await open_.apply()
        assert (await open_.seen())["waiting"] == 1
        await open_.job("bad", OTHER)
        receiver.got.clear()
        receiver.status = 200
        number = await open_.job("bad")
        await open_.later(minutes=10)
        await open_.until(delivered=2, waiting=0)
        assert dict.fromkeys(told(receiver)) == dict.fromkeys([("failed", waited), ("failed", number)])

    team.run(work)


def test_a_recovery_is_known_after_many_other_ends(team: Team, receiver: Receiver) -> None:
    """Cancelled jobs, other acts and other branches are none of its own; and what does not concern it is not kept."""
    team.notify(webhook={"url": receiver.url}, events=["recovered"])
    body = {"number": 1, "state": "passed", "reason": None, "ref": None}

    async def work(open_: Open) -> None:
        await open_.job("bad")

        def others(write: Write) -> None:
            for number in range(70):
                for more in (
                    {"state": "aborted", "reason": "cancelled"},
                    {"ref": f"b{number}"},
                    {"type": "check"},
                ):
                    ended = {**body, **more}
                    write.record("job-finished", WORK, ended | apply.ended(write, WORK, ended))

        await open_.installation.database.write(others)
        await open_.installation.run_now(f"notify/webhook/{ALERTS}")
        last = await open_.installation.database.read(events.last)
        assert last - (await open_.cursor()).seq < 50
        number = await open_.job("ok")
        await open_.job("ok")
        await open_.until(delivered=1)
        assert told(receiver) == [("recovered", number)]
        await open_.job("bad")
        declared = team.documents.pop(WORK)
        await open_.apply()
        team.documents[WORK] = declared
        await open_.apply()
        await open_.job("ok")
        await open_.job("bad", OTHER)
        number = await open_.job("ok", OTHER)
        await open_.until(delivered=2)
        assert told(receiver)[1:] == [("recovered", number)]

    team.run(work)


def test_410_stops_a_receiver_until_it_is_declared_anew(team: Team, receiver: Receiver) -> None:
    """It says so, and is not asked again; then it gets what waited."""
    receiver.status = 410
    server = receiver.url.removesuffix("/hook")
    team.notify(webhook={"url": receiver.url})

    async def work(open_: Open) -> None:
        numbers = [await open_.job("bad")]
        shown = await open_.until(state="stopped", next_try=None)
        assert shown["error"].startswith(f"{receiver.url} answered 410 Gone: it wants no more")
        receiver.status = 200
        numbers.append(await open_.job("bad", OTHER))
        await open_.later(hours=1)
        await open_.apply()
        await open_.later()
        assert (len(receiver.got), (await open_.seen())["state"]) == (1, "stopped")
        assert "it wants no more" in (open_.condition("Failing") or "")
        team.notify(webhook={"url": f"{server}/new"})
        await open_.apply()
        await open_.until(state="delivered", delivered=2)
        assert [number for _, number in told(receiver)][1:] == numbers

    team.run(work)


def test_an_address_that_is_put_off_gets_the_same_mail_later_and_alone(
    team: Team, mailbox: tuple[Mailbox, dict[str, Any]]
) -> None:
    """The others do not wait for it; who is refused for good is told of, and tried no more."""
    box, smtp = mailbox
    team.notify(email={"to": ["later@example.org", "d@example.org", "nobody@example.org"]})
    box.busy = True

    async def work(open_: Open) -> None:
        await open_.job("bad")
        shown = await open_.until("email", delivered=1)
        assert shown["state"] == "failing"
        assert shown["put_off"] == {"later@example.org": "451 try later"}
        assert shown["refused"] == {"nobody@example.org": "550 no such user"}
        await eventually(lambda: open_.condition("Failing"))
        assert open_.condition("Delivered") is None
        assert "nobody@example.org (550 no such user)" in str(open_.condition("Failing"))
        await open_.later("email", seconds=6)
        assert (await open_.seen("email"))["put_off"] != {}
        box.busy = False
        await open_.later("email", seconds=11)
        await open_.until("email", state="refused", put_off={}, waiting=0, delivered=1)
        (found,) = await open_.installation.database.read(
            lambda c: events.of_kinds(c, 0, ["notification-refused"], 10)
        )
        assert found.event.body["addresses"] == {"nobody@example.org": "550 no such user"}

    team.run(work, smtp=smtp)
    first, second = box.got
    assert box.to == [["d@example.org"], ["later@example.org"]]
    assert first["message-id"] == second["message-id"]
    assert first["auto-submitted"] == "auto-generated"


def test_what_is_put_off_for_days_is_given_up(team: Team, mailbox: tuple[Mailbox, dict[str, Any]]) -> None:
    """And recorded, with whom it is about; one that is declared no more is not tried."""
    box, smtp = mailbox
    team.notify(email={"to": ["later@example.org", "d@example.org"]})
    box.busy = True

    async def causes(open_: Open) -> list[tuple[str, str | None]]:
        found = await open_.installation.database.read(
            lambda c: events.of_kinds(c, 0, ["notification-given-up"], 10)
        )
        return [(each.event.body["cause"], each.event.body["error"]) for each in found]

    async def work(open_: Open) -> None:
        await open_.job("bad")
        await open_.until("email", delivered=1)
        await open_.later("email", days=3, minutes=1)
        await open_.until("email", put_off={}, state="delivered")
        old = ("it could not be delivered for three days", "later@example.org (451 try later)")
        assert await causes(open_) == [old]
        open_.installation.now = utcnow
        await open_.job("bad")
        await open_.until("email", delivered=2)
        team.notify(email={"to": ["d@example.org"]})
        await open_.apply()
        assert (await open_.seen("email"))["put_off"] == {}
        assert await causes(open_) == [old, ("the addresses are declared no more", None)]

    team.run(work, smtp=smtp)
    assert box.to == [["d@example.org"]] * 2


def test_a_test_goes_to_each_receiver_and_past_what_waits(
    team: Team, receiver: Receiver, mailbox: tuple[Mailbox, dict[str, Any]]
) -> None:
    """It moves nothing, and is recorded; it takes the role write, and others are told of no such thing."""
    box, smtp = mailbox
    receiver.status = 500
    team.notify(webhook={"url": receiver.url}, email={"to": ["nobody@example.org", "d@example.org"]})

    def caller(level: Level, project: str = "shop") -> Caller:
        return Caller("User/wim", Rights({Scope(project): level}))

    async def work(open_: Open) -> None:
        await open_.job("bad")
        await open_.until(state="failing")
        before = await open_.cursor()
        done = await door.send_test(open_.installation, caller(Level.WRITE), ALERTS)
        by = {each["receiver"]: each for each in done["receivers"]}
        assert by["email"]["taken"] is True
        assert (
            by["email"]["message"]
            == "127.0.0.1 has taken it, but not for nobody@example.org (550 no such user)"
        )
        assert by["webhook"]["taken"] is False
        assert by["webhook"]["message"].endswith("/hook answered 500 Internal Server Error")
        assert await open_.cursor() == before
        with pytest.raises(Forbidden):
            await door.send_test(open_.installation, caller(Level.READ), ALERTS)
        for who, key in ((caller(Level.OWNER, "far"), ALERTS), (ROOT, "Notification/shop/none")):
            with pytest.raises(NotFound):
                await door.send_test(open_.installation, who, key)
        with pytest.raises(Refused, match="is a Build"):
            await door.send_test(open_.installation, ROOT, WORK)
        assert await query.receivers(open_.installation, caller(Level.OWNER, "far")) == []
        (tested,) = await open_.installation.database.read(
            lambda c: events.of_kinds(c, 0, ["notification-tested"], 10)
        )
        assert (tested.event.key, tested.event.body["taken"]) == (ALERTS, ["email"])

    team.run(work, smtp=smtp)
    assert "test" in {json.loads(body)["type"] for _, body in receiver.got}
    assert any(each["subject"] == f"[steersman] test: {ALERTS}" for each in box.got)
