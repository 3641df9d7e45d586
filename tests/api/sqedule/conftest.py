"""One daemon for the cases of the Sqedule API, and one whose writes go to branches; callers of either."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests import databases
from tests.api.escape.conftest import document
from tests.support import Process, SpecRepository, once, process, start, stop

PEOPLE = ("jo", "ana", "lee", "max")
SETTINGS = {
    "STEERSMAN_ALLOW_UNSANDBOXED": "1",
    "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
    "STEERSMAN_PRIVATE_ADDRESSES": "1",
}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_numbers = itertools.count(1)


def roles(name: str, role: str, project: str | None = None) -> str:
    """A user with one role."""
    scope = f", project: {project}" if project else ""
    return (
        document("User", f"name: {name}", f"{{email: {name}@example.org}}")
        + "---\n"
        + document(
            "RoleBinding",
            f"name: {name}{scope}",
            f"{{role: {role}, subjects: [{{kind: User, name: {name}}}]}}",
        )
    )


FILES = {
    "people.yaml": "---\n".join(
        (
            roles("jo", "owner"),
            roles("ana", "write"),
            roles("lee", "read", "shop"),
            roles("max", "write", "shop"),
            document("User", "name: kim"),
        )
    ),
    "project.yaml": document("Project", "name: shop"),
}
SCHEDULE = {"type": "schedule"}
EMPTY = {"type": "schedule", "days_of_week": ""}
"""A rule that always holds, and one that never does."""


class World:
    """A daemon and its callers: jo owns everything, ana writes everything, lee reads a project, max writes it."""

    def __init__(self, running: Process, repo: SpecRepository) -> None:
        self.running, self.repo, self.url = running, repo, running.url
        self.native = running.client()
        self.nobody = httpx.Client(base_url=self.url, timeout=60)
        self.secrets = {name: self.token(name) for name in PEOPLE}
        self.clients = {name: self.client(secret) for name, secret in self.secrets.items()}

    def moved(self, running: Process) -> World:
        """The same with the daemon elsewhere."""
        self.running, self.url = running, running.url
        for client in (self.native, self.nobody, *self.clients.values()):
            client.base_url = httpx.URL(running.url)
        return self

    def token(self, name: str) -> str:
        """A new token of a user."""
        body = {"name": "t", "level": "owner", "subject": f"User/{name}"}
        found: str = self.native.post("/reconciler/tokens", json=body).raise_for_status().json()["token"]
        return found

    def client(self, secret: str) -> httpx.Client:
        """A caller with this token as the password of Basic credentials."""
        return httpx.Client(base_url=self.url, auth=("me", secret), timeout=60)

    def __getitem__(self, name: str) -> httpx.Client:
        return self.clients[name]

    def close(self) -> None:
        """All connections."""
        for client in (self.native, self.nobody, *self.clients.values()):
            client.close()

    def name(self, word: str = "app") -> str:
        """An id that nothing else has."""
        return f"{word}-{next(_numbers)}"

    def ask(self, method: str, path: str, body: Any = None, *, expect: int, by: str = "ana") -> Any:
        """JSON of an answer with this status."""
        more: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": body}
        answer = self[by].request(method, f"/v1{path}", **more)
        assert answer.status_code == expect, (method, path, answer.status_code, answer.text)
        return answer.json()

    def get(self, path: str, by: str = "ana") -> Any:
        """JSON of a GET."""
        return self.ask("GET", path, expect=200, by=by)

    def application(self, step: str = "final", **version: Any) -> str:
        """A new application."""
        name = self.name()
        self.ask(
            "POST",
            "/applications",
            {"id": name, "version": {"proposal_state": step, **version}},
            expect=201,
        )
        return name

    def ruleset(self, *rules: Mapping[str, Any], name: str | None = None, **version: Any) -> str:
        """A new ruleset with these rules."""
        name = name or self.name("rules")
        given = {"proposal_state": "final", "approval_rules": list(rules), **version}
        self.ask("POST", "/approval-rulesets", {"id": name, "version": given}, expect=201)
        return name

    def bind(self, application: str, ruleset: str, mode: str = "enforcing", **version: Any) -> Any:
        """A new binding."""
        given = {"mode": mode, "proposal_state": "final", **version}
        path = f"/application-approval-ruleset-bindings/{application}/{ruleset}"
        return self.ask("POST", path, {"version": given}, expect=201)

    def bind_again(self, application: str, ruleset: str, **version: Any) -> Any:
        """A binding with other content."""
        path = f"/application-approval-ruleset-bindings/{application}/{ruleset}"
        return self.ask("PATCH", path, {"version": {"proposal_state": "final", **version}}, expect=200)

    def judged_by(self, *bound: tuple[str, str]) -> str:
        """A new application with these (ruleset, mode) bound to it."""
        name = self.application()
        for ruleset, mode in bound:
            self.bind(name, ruleset, mode)
        return name

    def release(self, application: str, **body: Any) -> dict[str, Any]:
        """A release as it is registered."""
        found: dict[str, Any] = self.ask("POST", f"/applications/{application}/releases", body, expect=201)
        return found

    def final(self, application: str, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A new release once it has a verdict, and what was processed of it."""
        made = self.release(application, **body)
        assert (made["state"], made["finalized_at"]) == ("pending", None)
        path = f"/applications/{application}/releases/{made['id']}"
        found = self.once(path, lambda each: each["state"] != "pending")
        events = self.get(f"{path}/events")["items"]
        assert events[0] == {"type": "created", "id": made["id"], "created_at": made["created_at"]}
        assert {each["type"] for each in events[1:]} <= {"rule_processed"}
        return found, events[1:]

    def once(self, path: str, check: Callable[[dict[str, Any]], Any], seconds: float = 20) -> dict[str, Any]:
        """What a GET shows as soon as something is so."""
        return dict(once(lambda: self.get(path), check, seconds, self.running.log))

    def declared(self, path: str) -> str:
        """A file as the newest commit has it."""
        return self.repo.git("show", f"main:{path}")


def refused(answer: httpx.Response, status: int) -> str:
    """The text of a refusal."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert body.keys() == {"error"}
    text: str = body["error"]
    assert text
    return text


@contextlib.contextmanager
def served(folder: Any, **more: str) -> Iterator[World]:
    """A daemon that has applied `FILES`."""
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    with process(repo.path, folder / "data", **SETTINGS, **more) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo)) as made:
            yield made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for all tests."""
    with served(tmp_path_factory.mktemp("sqedule")) as made:
        yield made


@pytest.fixture(scope="session")
def reviewing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Writes go to branches here; it is open to readers without credentials, and stands in another time zone."""
    more = {
        "STEERSMAN_WRITE_MODE": "branch",
        "STEERSMAN_ANONYMOUS_READ": '["sqedule"]',
        "STEERSMAN_TIMEZONE": "Asia/Kolkata",
    }
    with served(tmp_path_factory.mktemp("reviewing"), **more) as made:
        yield made


@dataclass(frozen=True)
class Restarted:
    """A daemon that was killed while two releases waited for people; each manual rule by its release's path.

    Of `yesterday`, which was made a day before by the clock, a schedule rule holds on that day of the week only;
    `waiting` wants two people.
    """

    world: World
    yesterday: str
    waiting: str
    rules: Mapping[str, int]


@pytest.fixture(scope="session")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    """Started, killed and started again once."""
    with served(tmp_path_factory.mktemp("restarted")) as world:
        day = DAYS[(datetime.now(UTC) - timedelta(days=1)).weekday()]
        manual: dict[str, Any] = {"type": "manual", "approval_policy": "any"}
        paths, rules = [], {}
        for given in (
            ({"type": "schedule", "days_of_week": day}, manual),
            ({**manual, "approval_policy": "minimum", "minimum": 2},),
        ):
            ruleset = world.ruleset(*given)
            shown = world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]["approval_rules"]
            application = world.judged_by((ruleset, "enforcing"))
            path = f"/applications/{application}/releases/{world.release(application)['id']}"
            paths.append(path)
            rules[path] = next(each["id"] for each in shown if each["type"] == "manual")
        world.running.kill()
        databases.execute(
            world.running.data,
            "UPDATE requests SET created_at = created_at - 86400000000 WHERE id = :first",
            first=int(paths[0].rpartition("/")[2]),
        )
        running = start(world.repo.path, world.running.data, **SETTINGS)
        try:
            yield Restarted(world.moved(running), *paths, rules)
        finally:
            stop(running)
