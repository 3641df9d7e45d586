"""A daemon is killed while requests for approval wait on each type of rule: each verdict comes, and comes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest

from reconciler.model.request import PREFIX, Copied, Outcome, Request, Verdict
from reconciler.store import requests as rows
from reconciler.store.approvals import Approval
from reconciler.store.approvals import add as approve
from reconciler.store.database import Connection, connect
from reconciler.store.requests import NewRequest
from tests.receiver import Receiver
from tests.requesting import ALWAYS, asks, copied, manual
from tests.support import (
    PROJECT,
    Process,
    SpecRepository,
    daemon,
    end_scripts,
    eventually_now,
    settings_for,
    start,
    stop,
)

T = TypeVar("T")


class Ground:
    """A specification repository, a data directory, a server that is asked, and the daemon that runs now, if any."""

    def __init__(self, folder: Path) -> None:
        self.repository = SpecRepository(folder / "spec")
        self.repository.commit({"project.yaml": PROJECT})
        self.settings = settings_for(self.repository, folder / "data", private_addresses=True)
        self.receiver, self.goes_on = Receiver(), Event()
        self.receiver.before = self._answer
        self.running: Process | None = None

    def _answer(self, path: str) -> int:
        """`slow` hangs, `often` fails at first."""
        if path.endswith("slow"):
            self.goes_on.wait(30)
        return 503 if path.endswith("often") and self.asked("often") == 1 else 200

    def asked(self, end: str) -> int:
        """How often this was asked."""
        return sum(path.endswith(end) for path in self.receiver.paths)

    def start(self) -> None:
        self.running = start(self.repository.path, self.settings.data, STEERSMAN_PRIVATE_ADDRESSES="1")

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()

    def end(self) -> None:
        self.goes_on.set()
        if self.running is not None:
            stop(self.running)
        self.receiver.close()
        end_scripts(self.settings.data)

    def read(self, query: Callable[[Connection], T]) -> T:
        """From the database beside the daemon."""

        async def once() -> T:
            database = connect(self.settings.database_url)
            try:
                return await database.read(query)
            finally:
                await database.close()

        return asyncio.run(once())

    def of(self, number: int) -> tuple[Request, list[Outcome]]:
        found = self.read(lambda c: (rows.find(c, number), rows.outcomes(c, number)))
        assert found[0] is not None
        return found[0], found[1]

    def told(self, number: int) -> tuple[str, list[int]]:
        """State, and the rules that were judged."""
        request, judged = self.of(number)
        return request.state.value, [each.rule for each in judged]

    def final(self, number: int) -> None:
        eventually_now(lambda: self.of(number)[0].state is not Verdict.PENDING)

    def ask(self, *asked: tuple[Copied, ...]) -> None:
        """Requests 1, 2, 3 …, by a daemon that ends then; the second is being judged meanwhile."""

        async def once() -> None:
            async with daemon(self.settings) as it:
                it.installation.describe_request = lambda _: {}
                for bindings in asked:
                    new = NewRequest("shop", bindings, "User/admin")
                    made = await it.installation.database.write(lambda w, new=new: rows.register(w, new))
                    if made.id != 2:
                        await it.installation.run_now(f"{PREFIX}{made.id}")

        asyncio.run(once())

    def decide(self, number: int) -> None:
        """As the transaction of a decision leaves it, when nothing comes after."""
        asked = self.of(number)[0]

        async def once() -> None:
            database = connect(self.settings.database_url)
            about = rows.approval_subject(number, 1)
            said = Approval(about, "", "User/admin", "approved", "", asked.created_at)
            await database.write(lambda w: approve(w.connection, said))
            await database.close()

        asyncio.run(once())


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_each_verdict_comes_once_whenever_the_daemon_is_killed(ground: Ground) -> None:
    url, by_people, by_server, often = ground.receiver.url, 1, 2, 3
    ground.ask(
        (copied("people", manual()),),
        (copied("hours", ALWAYS), copied("server", asks(f"{url}/slow"), first=5)),
        (copied("often", asks(f"{url}/often", 5)),),
    )
    assert (ground.told(often), ground.of(often)[0].posted) == (("pending", []), 1)
    before = ground.asked("slow")
    ground.start()
    eventually_now(lambda: ground.asked("slow") > before)  # it is being asked …
    ground.kill()  # … and who asks is gone
    ground.goes_on.set()
    assert ground.told(by_server) == ("pending", [1])

    ground.start()
    ground.final(by_server)
    assert ground.told(by_server) == ("approved", [1, 6])
    assert ground.told(by_people) == ("pending", [])
    ground.kill()
    ground.decide(by_people)
    ground.start()
    ground.final(by_people)
    ground.final(often)
    assert ground.told(by_people) == ("approved", [1])
    assert ground.told(often) == ("approved", [1])
