"""What is sent when a job has ended: real receivers of webhooks and mail on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from reconciler.access import ROOT
from reconciler.commands.manifests import Submission, submit
from reconciler.daemon import Daemon
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Job
from reconciler.sending.webhook import public_key
from reconciler.store import deliveries
from reconciler.store.deliveries import FAILED, PENDING, SENT, Delivery
from specs.manifest import parse
from tests.conftest import NewDatabase
from tests.receiver import Receiver
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


class Mailbox:
    """A mail server's handler that keeps everything, and takes nothing for one address."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.got.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"


def described(job: Job) -> dict[str, Any]:
    """As a served API would show it."""
    names = [script["name"] for script in job.specification["tasks"][0]["scripts"][1:]]
    return {
        "id": job.number,
        "status": "success" if job.state == "passed" else "failed",
        "note": job.specification["note"],
        "tasks": [{"name": name, "status": "success"} for name in names],
        "owner": {"canonical_name": "~admin", "name": "admin"},
    }


def run(
    tmp_path: Path, new_database: NewDatabase, manifest: str, note: str | None = None, **settings: Any
) -> tuple[list[Delivery], Daemon]:
    """What became of the deliveries of one job of this manifest."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})

    async def work() -> tuple[list[Delivery], Daemon]:
        settings_ = settings_for(repo, tmp_path / "data", database=new_database(), **settings)
        async with daemon(settings_) as running:
            running.installation.describe_job = described
            job = await submit(running.installation, ROOT, Submission(parse(manifest), note=note))

            async def ended() -> list[Delivery] | None:
                found = await running.installation.database.read(lambda c: deliveries.of(c, job.number))
                return found if found and all(each.state != PENDING for each in found) else None

            return await eventually(ended, 40), running

    return asyncio.run(work())


def hook(url: str, condition: str = "always") -> str:
    """A trigger."""
    return f"- {{action: webhook, condition: {condition}, url: '{url}'}}\n"


def test_a_webhook_is_sent_once_and_signed(
    tmp_path: Path, new_database: NewDatabase, receiver: Receiver
) -> None:
    """Those whose condition holds, in their order."""
    text = "image: host\ntasks: [{a: 'true'}]\ntriggers:\n"
    text += (
        hook(f"{receiver.url}?1")
        + hook(f"{receiver.url}?2", "failure")
        + hook(f"{receiver.url}?3", "success")
    )
    found, running = run(tmp_path, new_database, text, "try it", private_addresses=True)
    assert [each.state for each in found] == [SENT, SENT]
    assert [each.note for each in found] == [f"{receiver.url}?{n} answered 200: thanks" for n in (1, 3)]
    assert len(receiver.got) == 2
    headers, body = receiver.got[0]
    assert json.loads(body) == {
        "id": 1, "status": "success", "note": "try it", "tasks": [{"name": "a", "status": "success"}],
        "owner": {"canonical_name": "~admin", "name": "admin"},
    }  # fmt: skip
    assert headers["content-type"] == "application/json"
    nonce = headers["x-payload-nonce"]
    assert len(nonce) == 16
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key(running.installation.keys)))
    key.verify(base64.b64decode(headers["x-payload-signature"]), body + nonce.encode())


def test_a_failure_of_the_receiver_changes_nothing(
    tmp_path: Path, new_database: NewDatabase, receiver: Receiver
) -> None:
    """Neither a refusal, nor nobody there, nor a redirect to elsewhere, which is not followed."""
    receiver.status, receiver.location = 307, "http://127.0.0.1:1/else"
    text = "image: host\ntasks: [{a: exit 1}]\ntriggers:\n"
    text += (
        hook(receiver.url, "failure") + hook("http://127.0.0.1:1/nobody") + hook("http://no.such.invalid/x")
    )
    found, _ = run(tmp_path, new_database, text, private_addresses=True)
    assert [each.state for each in found] == [SENT, FAILED, FAILED]
    assert "answered 307" in str(found[0].note)
    assert "http://127.0.0.1:1/nobody could not be reached" in str(found[1].note)
    assert "http://no.such.invalid/x could not be reached" in str(found[2].note)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
def test_inside_addresses_are_not_for_others(
    tmp_path: Path, new_database: NewDatabase, receiver: Receiver, host: str
) -> None:
    """Unless the operator says so."""
    port = receiver.url.split(":")[2]
    text = "image: host\ntasks: [{a: 'true'}]\ntriggers:\n" + hook(f"http://{host}:{port}")
    found, _ = run(tmp_path, new_database, text)
    assert (found[0].state, "is no public address" in str(found[0].note)) == (FAILED, True)
    assert receiver.got == []


def test_a_mail_is_sent(tmp_path: Path, new_database: NewDatabase) -> None:
    """Its subject has the status, its text the job and its tasks; who is not taken is told."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        text = (
            "image: host\ntasks: [{a: 'true'}, {_hidden: 'true'}]\ntriggers:\n"
            "- {action: email, condition: always, to: 'Jo <jo@example.org>', cc: ana@example.org, "
            "in_reply_to: '<x@y>'}\n"
            "- {action: email, condition: always, to: nobody@example.org}\n"
        )
        smtp = {"host": "127.0.0.1", "port": port, "sender": "builds@example.org"}
        found, _ = run(tmp_path, new_database, text, "try it", smtp=smtp)
    finally:
        controller.stop()
    assert [each.state for each in found] == [SENT, FAILED]
    assert "takes none of the addresses" in str(found[1].note)
    (mail,) = box.got
    assert mail["subject"] == "[builds] success"
    assert (mail["from"], mail["to"], mail["cc"]) == (
        "builds@example.org", "Jo <jo@example.org>", "ana@example.org",
    )  # fmt: skip
    assert mail["in-reply-to"] == "<x@y>"
    lines = mail.get_content().splitlines()
    assert lines[0].startswith("Job #1: SUCCESS after ")
    assert "try it" in lines
    assert "http://127.0.0.1:8080/~admin/job/1" in lines
    assert lines[-1] == "✓ a"


def test_without_a_mail_server_it_is_told(tmp_path: Path, new_database: NewDatabase) -> None:
    text = "image: host\ntasks: [{a: 'true'}]\ntriggers:\n- {action: email, condition: always, to: jo@example.org}\n"
    found, _ = run(tmp_path, new_database, text)
    assert found[0].state == FAILED
    assert "no mail server" in str(found[0].note)


def test_what_was_not_sent_before_a_restart_is_sent_after_it(
    tmp_path: Path, new_database: NewDatabase, receiver: Receiver
) -> None:
    """It is stored with the end of the job, and sent by whoever comes next."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    settings = settings_for(repo, tmp_path / "data", database=new_database(), private_addresses=True)
    text = "image: host\ntasks: [{a: 'true'}]\ntriggers:\n" + hook(receiver.url)

    async def first() -> None:
        async with daemon(settings) as running:  # nobody knows how to show it
            job = await submit(running.installation, ROOT, Submission(parse(text)))

            async def due() -> bool:
                return bool(await running.installation.database.read(lambda c: deliveries.of(c, job.number)))

            await eventually(due, 40)

    async def second() -> None:
        async with Daemon(settings) as running:
            await running.installation.run_now("deliveries")
            assert receiver.got == []
            # as the server does, a moment after the daemon began
            running.installation.describe_job = described

            async def sent() -> bool:
                return not await running.installation.database.read(deliveries.pending)

            await eventually(sent, 40)

    asyncio.run(first())
    assert receiver.got == []
    asyncio.run(second())
    assert len(receiver.got) == 1
