"""Several daemons on one PostgreSQL, each in a process of its own: one leads, the others follow and take over."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.store import migrate
from tests.databases import Server, internal
from tests.support import PROJECT, Process, SpecRepository, eventually_now, start, stop

TOKEN = "stm_administrator_of_both_daemons_0123456789"
BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: %s, project: shop}
spec: {concurrency: allow, tasks: [{name: t, run: "%s"}]}
"""
FINAL = ("passed", "failed", "defective", "aborted")
_LEAD = 0x57EE26


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that may be killed."""
    with tempfile.TemporaryDirectory(prefix="steersman-test-daemons-") as folder:
        made = Server(Path(folder) / "data")
        try:
            yield made
        finally:
            made.close()


@dataclass
class Daemons:
    """Those of one installation, by name."""

    server: Server
    url: str
    repo: SpecRepository
    folder: Path
    running: dict[str, Process] = field(default_factory=dict)

    def start(self, name: str, **more: str) -> Process:
        """With a data directory of its own, and the server's key."""
        own = {
            "STEERSMAN_DATABASE": self.url,
            "STEERSMAN_ADMIN_TOKEN": TOKEN,
            "STEERSMAN_KEY_FILE": str(self.folder / "server.key"),
            "STEERSMAN_POLL_SECONDS": "1",
        }
        made = start(self.repo.path, self.folder / name, **own | more)
        self.running[name] = made
        return made

    def leads(self, name: str) -> bool | None:
        """What it says itself; None: it does not answer."""
        with suppress(httpx.HTTPError):
            return bool(httpx.get(f"{self.running[name].url}/health", timeout=1).json()["leads"])
        return None

    def leader(self, *among: str) -> str:
        """Its name, once there is one among these."""
        names = among or tuple(self.running)
        found: str = eventually_now(lambda: next((name for name in names if self.leads(name)), None), 60)
        return found


@pytest.fixture
def daemons(server: Server, tmp_path: Path) -> Iterator[Daemons]:
    """None yet, with something declared."""
    url = server.new()
    migrate.run(internal(url))
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT, "b.yaml": BUILD % ("quick", "echo hello")})
    made = Daemons(server, url, repo, tmp_path)
    with ExitStack() as stack:
        stack.callback(lambda: [stop(each) for each in made.running.values()])
        yield made


def trigger(running: Process, key: str = "Build/shop/_/quick") -> int:
    """A job by hand, through this daemon; it is tried again where no daemon leads, as a client should."""

    def ask(client: httpx.Client) -> Any:
        answer = client.post("/reconciler/trigger", json={"key": key})
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
            return None
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()["number"]

    number: int = running.wait_for(ask, 60)
    return number


def test_the_second_daemon_follows_and_serves(daemons: Daemons) -> None:
    """It shows the same, writes go through it and are seen on it at once, and jobs asked of it run."""
    first, second = daemons.start("one"), daemons.start("two")
    assert (daemons.leads("one"), daemons.leads("two")) == (True, False)
    with first.client() as one, second.client() as two:
        second.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
        for number in range(20):
            body = {"spec": {"tasks": [{"name": "t", "run": "echo x"}]}}
            done = two.put(f"/reconciler/resources/Build/shop/_/b{number}", json=body)
            assert done.status_code in (200, 201), done.text
            seen = two.get(f"/reconciler/resources/Build/shop/_/b{number}")
            assert seen.status_code == 200
        assert (
            one.get("/reconciler/status").json()["resources"]
            == two.get("/reconciler/status").json()["resources"]
        )
        made = trigger(second)
        assert two.get(f"/reconciler/jobs/{made}").status_code == 200
        assert second.job(made, *FINAL)["state"] == "passed"
        assert two.delete("/reconciler/resources/Build/shop/_/b3").status_code in (200, 202, 204)
        assert two.get("/reconciler/resources/Build/shop/_/b3").status_code == 404
        assert two.get("/reconciler/audit").json()["sound"]


def test_errors_of_the_leader_come_back_as_they_are(daemons: Daemons) -> None:
    """In the form of each served API: wrong tokens, what is not there, what is no JSON."""
    first, second = daemons.start("one"), daemons.start("two")
    with first.client() as one, second.client() as two:
        for method, path, body in (
            ("POST", "/reconciler/trigger", {"key": "Build/shop/_/none"}),
            ("POST", "/api/v1/projects/", {"name": "Not A Name"}),
            ("POST", "/api/jobs", {}),
            ("POST", "/rest_api/v1/products/", {"short": 1}),
            ("PUT", "/v1/applications/none", {}),
            ("DELETE", "/reconciler/resources/Build/shop/_/none", None),
        ):
            answers = [client.request(method, path, json=body) for client in (one, two)]
            assert answers[0].status_code == answers[1].status_code, path
            assert answers[0].content == answers[1].content, path
            assert answers[0].headers["content-type"] == answers[1].headers["content-type"], path
        assert "steersman-version" not in two.post("/reconciler/trigger", json={}).headers
    bare = httpx.post(f"{second.url}/reconciler/trigger", json={"key": "Build/shop/_/quick"})
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Bearer realm="steersman"')


def test_without_a_leader_writes_are_refused_for_now(daemons: Daemons) -> None:
    """503 with Retry-After in the form of each served API, reads go on; it leads as soon as it can."""
    engine = create_engine(internal(daemons.url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as holder:
        assert holder.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LEAD}).scalar()
        only = daemons.start("two")
        with only.client() as two:
            bodies = set()
            for path in (
                "/reconciler/trigger",
                "/api/v1/projects/",
                "/rest_api/v1/products/",
                "/v1/applications/a",
            ):
                answer = two.post(path, json={"key": "Build/shop/_/quick"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
                assert "no daemon leads" in answer.text
                bodies.add(tuple(sorted(answer.json())))
            assert len(bodies) > 1  # each has its own form
            assert two.get("/reconciler/resources").status_code == 200
            assert daemons.leads("two") is False
            assert two.get("/reconciler/events").json()["items"] == []  # nothing was decided either
    assert daemons.leader() == "two"
    assert only.job(trigger_when_declared(only), *FINAL)["state"] == "passed"


def trigger_when_declared(running: Process) -> int:
    """As soon as the first look at the repository is over."""
    running.wait_for(lambda c: c.get("/reconciler/resources/Build/shop/_/quick").status_code == 200)
    return trigger(running)


def test_a_leader_that_is_killed_is_replaced(daemons: Daemons) -> None:
    """Twice, in turn: the one that comes back follows; what is committed and asked meanwhile is done."""
    daemons.start("one")
    daemons.start("two")
    for turn, (dies, takes) in enumerate((("one", "two"), ("two", "one"))):
        assert daemons.leader() == dies
        daemons.running[dies].kill()
        daemons.repo.commit({f"more{turn}.yaml": BUILD % (f"more{turn}", "echo more")})
        assert daemons.leader(takes) == takes
        survivor = daemons.running[takes]
        survivor.wait_for(
            lambda c, n=turn: c.get(f"/reconciler/resources/Build/shop/_/more{n}").status_code == 200, 60
        )
        # it may have been given to the dead one, which is found out after a while
        assert survivor.job(trigger(survivor), *FINAL, seconds=90)["state"] == "passed"
        back = daemons.start(dies)
        assert (daemons.leads(dies), daemons.leads(takes)) == (False, True)
        assert back.job(trigger(back), *FINAL)["state"] == "passed"
    with daemons.running["one"].client() as client:
        assert client.get("/reconciler/audit").json()["sound"]


def test_a_leader_that_ends_in_order_is_replaced(daemons: Daemons) -> None:
    """Its lock goes with it."""
    daemons.start("one")
    daemons.start("two")
    stop(daemons.running.pop("one"))
    assert daemons.leader("two") == "two"
    assert (
        daemons.running["two"].job(trigger(daemons.running["two"]), *FINAL, seconds=90)["state"] == "passed"
    )


def test_a_stopped_leader_loses_the_lead_and_follows_when_it_goes_on(daemons: Daemons) -> None:
    """The server ends its session; there was never more than one who held the lock or said that it leads."""
    first, second = daemons.start("one"), daemons.start("two")
    with watched(daemons) as seen:
        eventually_now(lambda: ("one",) in seen.claims)
        first.popen.send_signal(signal.SIGSTOP)
        try:
            assert daemons.leader("two") == "two"
            number = trigger(second)
            assert second.job(number, *FINAL, seconds=90)["state"] == "passed"
        finally:
            first.popen.send_signal(signal.SIGCONT)
        eventually_now(lambda: daemons.leads("one") is False, 60)
        first.wait_for(lambda c: c.get(f"/reconciler/jobs/{number}").status_code == 200)
        assert first.job(trigger(first), *FINAL)["state"] == "passed"
        assert daemons.leads("two")
    assert seen.holders
    assert max(map(len, seen.holders)) == 1
    assert seen.claims.count(("one", "two")) == 0
    assert {("one",), ("two",)} <= set(seen.claims)


def test_a_database_that_is_restarted_keeps_one_leader(daemons: Daemons) -> None:
    """Twice: one of the two leads afterwards, and both go on."""
    first, second = daemons.start("one"), daemons.start("two")
    for turn in range(2):
        daemons.server.kill()
        daemons.repo.commit({f"after{turn}.yaml": BUILD % (f"after{turn}", "echo more")})
        daemons.server.start()
        leader = daemons.leader()
        for running in (first, second):
            running.wait_for(
                lambda c, n=turn: c.get(f"/reconciler/resources/Build/shop/_/after{n}").status_code == 200, 60
            )
            assert running.job(trigger(running), *FINAL, seconds=60)["state"] == "passed"
        other = {"one": "two", "two": "one"}[leader]
        assert daemons.leads(leader) != daemons.leads(other)
    with first.client() as client:
        assert client.get("/reconciler/audit").json()["sound"]


def test_events_are_followed_on_a_follower(daemons: Daemons) -> None:
    """Live, each once, in order."""
    daemons.start("one")
    second = daemons.start("two")
    second.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
    ids: list[int] = []
    ready = threading.Event()

    def follow() -> None:
        with (
            suppress(httpx.HTTPError),
            second.client() as client,
            client.stream("GET", "/reconciler/events/stream", timeout=60) as answer,
        ):
            ready.set()
            ids.extend(int(line[3:]) for line in answer.iter_lines() if line.startswith("id:"))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert ready.wait(30)
    numbers = [trigger(daemons.running["one"]) for _ in range(3)]
    second.job(numbers[-1], *FINAL)
    with second.client() as client:
        last = max(each["seq"] for each in client.get("/reconciler/events?limit=500").json()["items"])
    eventually_now(lambda: ids and ids[-1] >= last)
    assert ids == list(range(ids[0], ids[-1] + 1))


def test_the_second_daemon_takes_the_first_ones_token(daemons: Daemons) -> None:
    """With a data directory of its own, and no token in it: it makes none, and the first one's holds on both."""
    (daemons.folder / "two").mkdir()
    first = daemons.start("one")
    url, key = daemons.url, str(daemons.folder / "server.key")
    (daemons.folder / "two" / "admin.token").write_text(
        TOKEN + "\n"
    )  # only so that `start` finds one to show
    second = start(daemons.repo.path, daemons.folder / "two", STEERSMAN_DATABASE=url, STEERSMAN_KEY_FILE=key)
    daemons.running["two"] = second
    for running in (first, second):
        with running.client() as client:
            assert client.get("/reconciler/whoami").status_code == 200
    stop(daemons.running.pop("two"))


def test_a_body_of_many_megabytes_is_handed_on_as_it_comes(daemons: Daemons) -> None:
    """It is refused by the leader's own limit, and not by the follower's memory."""
    daemons.start("one")
    second = daemons.start("two")

    def large() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 20)

    with second.client() as two:
        answer = two.post(
            "/reconciler/trigger", content=large(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413


def test_who_is_no_daemon_cannot_say_where_a_request_comes_from(daemons: Daemons) -> None:
    """A header without the proof changes nothing; what a follower is sent as forwarded it does not send on."""
    first, second = daemons.start("one"), daemons.start("two")
    forged = {"steersman-forwarded": f"{int(time.time())} 192.0.2.9 http {'0' * 64}"}
    with first.client() as one, second.client() as two:
        answer = two.post("/reconciler/trigger", json={"key": "Build/shop/_/quick"}, headers=forged)
        assert (answer.status_code, answer.json()["title"]) == (503, "NoLeader")
        done = one.post("/reconciler/trigger", json={"key": "Build/shop/_/quick"}, headers=forged)
        assert done.status_code in (200, 201, 202)
        trigger(second)
        found = one.get("/reconciler/events?kind=job-created&limit=500").json()["items"]
        assert {each["address"] for each in found} == {"127.0.0.1"}


def test_a_migration_refuses_while_a_follower_runs(daemons: Daemons) -> None:
    """Also while nobody leads."""
    from reconciler.errors import Stalled
    from reconciler.store import ownership

    first = daemons.start("one")
    daemons.start("two")
    first.kill()
    with pytest.raises(Stalled) as caught:
        ownership.take(internal(daemons.url))
    assert caught.value.reason == "DatabaseHeld"


@dataclass
class Seen:
    """Over time: whose sessions held the lead, and which daemons said that they lead."""

    holders: list[tuple[int, ...]] = field(default_factory=list)
    claims: list[tuple[str, ...]] = field(default_factory=list)


@contextmanager
def watched(daemons: Daemons) -> Iterator[Seen]:
    """Look again and again, in a thread."""
    seen, end = Seen(), threading.Event()
    engine = create_engine(internal(daemons.url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    query = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted")

    def look() -> None:
        while not end.wait(0.05):
            with suppress(DBAPIError), engine.connect() as connection:
                seen.holders.append(tuple(connection.execute(query, {"key": _LEAD}).scalars()))
            seen.claims.append(tuple(name for name in sorted(daemons.running) if daemons.leads(name)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()
