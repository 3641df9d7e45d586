"""Requests for approval with their outcomes, on SQLite and PostgreSQL alike (sqedule, 2.1, 2.8)."""

from __future__ import annotations

import asyncio

from reconciler.model.request import PREFIX, Mode, Verdict
from reconciler.store import requests
from reconciler.store.database import Write, connect
from reconciler.store.requests import Judged, NewRequest
from tests.conftest import NewDatabase
from tests.requesting import ALWAYS, copied, subject

BOUND = (copied("hours", ALWAYS, mode=Mode.PERMISSIVE, timezone="Europe/Amsterdam"),)


def test_a_request_is_registered_judged_and_found(new_database: NewDatabase) -> None:
    async def story() -> None:
        database = connect(new_database())
        woken: list[str] = []
        database.wake = woken.append
        try:
            deploy = NewRequest(
                "Web", BOUND, "User/a", ("User/b",), metadata={"build": 8}, digest="d1", subject=subject()
            )
            first = await database.write(lambda w: requests.register(w, deploy))
            again = await database.write(lambda w: requests.register(w, deploy))
            other = await database.write(lambda w: requests.register(w, NewRequest("other", (), "User/a")))
            assert woken == [f"{PREFIX}{number}" for number in (1, 2, 3)]
            assert (first.application, first.bindings, first.subject, first.state) == (
                "web",
                BOUND,
                subject(),
                Verdict.PENDING,
            )
            assert (other.subject, other.digest, dict(other.metadata)) == (None, None, {})
            assert await database.read(lambda c: requests.find(c, 1)) == first
            assert await database.read(lambda c: requests.find(c, 1 << 64)) is None
            assert await database.read(lambda c: requests.newest_for(c, "WEB", "d1")) == again
            newest = await database.read(lambda c: requests.newest_of_all(c, ["d1", "d2"]))
            assert newest == {("web", "d1"): again}
            page = await database.read(lambda c: requests.of_application(c, None, 2, 1))
            assert [each.id for each in page] == [2, 1]

            woken.clear()
            judged = Judged(1, False, True, Verdict.APPROVED, {"rule": {"type": "schedule"}})
            await database.write(lambda w: requests.judge(w, first, judged))
            assert woken == ["gate", subject().target]
            (outcome,) = await database.read(lambda c: requests.outcomes(c, 1))
            assert (outcome.rule, outcome.event, outcome.outcome, outcome.ignored_error) == (1, 1, 1, True)
            done = await database.read(lambda c: requests.find(c, 1))
            assert done is not None
            assert (done.state, done.finalized_at) == (Verdict.APPROVED, outcome.at)
            assert await database.read(requests.live) == [2, 3]

            patched = await database.write(lambda w: requests.patch(w, 1, comments="late"))
            assert (patched.comments, patched.finalized_at, dict(patched.metadata)) == (
                "late",
                outcome.at,
                {"build": 8},
            )
            assert patched.updated_at > done.updated_at

            def postpone(write: Write) -> None:
                requests.postpone(write, again, None, tried=11, posted=0, trouble="broken")
                requests.postpone(write, other, write.now, tried=11, posted=2, trouble="later")

            await database.write(postpone)
            assert await database.write(lambda w: requests.take_up(w, 10)) == [2, 3]
            tries = [await database.read(lambda c, n=number: requests.find(c, n)) for number in (2, 3)]
            assert [(each.tried, each.trouble) for each in tries if each] == [(0, "broken"), (11, "later")]
        finally:
            await database.close()

    asyncio.run(story())
