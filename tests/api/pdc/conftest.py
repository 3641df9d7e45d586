"""One daemon, on 2031-04-09 until told otherwise, with releases that are looked at and releases to write to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from tests import support
from tests.api.pdc import clocked
from tests.support import Process, SpecRepository, once, process

BASE = "/rest_api/v1/"
S = "release-schedules/"
SLAS = ("development", "bug_fixes", "security_fixes")
TODAY = datetime(2031, 4, 9, 12, tzinfo=UTC)
SPARE = 60


def document(kind: str, name: str, spec: str = "{}") -> str:
    """One document in flow form."""
    return f'apiVersion: steersman/v1\nkind: {kind}\nmetadata: {{name: "{name}"}}\nspec: {spec}\n'


def release(short: str, version: str, more: str = "") -> str:
    """A release."""
    spec = f"{{short: {short}, version: '{version}', display_name: Fedora, release_type: ga{more}}}"
    return document("ProductRelease", f"{short}-{version}", spec)


def person(name: str, role: str | None) -> str:
    """A user, with a role on the installation or with none."""
    bound = f"{{role: {role}, subjects: [{{kind: User, name: {name}}}]}}"
    return document("User", name, f"{{email: {name}@example.org}}") + (
        "---\n" + document("RoleBinding", name, bound) if role else ""
    )


FILES = {
    "people.yaml": "---\n".join(
        [person("alice", "write"), person("reader", "read"), person("stranger", None)]
    ),
    "slas.yaml": "---\n".join(document("SLA", name) for name in SLAS),
    "products.yaml": document("Product", "fedora", "{display_name: Fedora}")
    + "---\n"
    + document("ProductVersion", "fedora-44", "{product: fedora, version: '44', display_name: Fedora 44}"),
    "f44.yaml": "# kept\n"
    + release(
        "fedora",
        "44",
        ", product_version: fedora-44, schedule: {development: '2031-04-08', bug_fixes: '2031-04-09'}",
    ),
    "f45.yaml": release("fedora", "45"),
    "paged.yaml": release(
        "paged",
        "1",
        f", schedule: {{{', '.join(f'{name}: 2099-01-0{n}' for n, name in enumerate(SLAS, 1))}}}",
    ),
    **{f"spare/{number}.yaml": release("spare", str(number)) for number in range(1, SPARE + 1)},
}


class World:
    """A daemon and its callers."""

    def __init__(self, running: Process, repo: SpecRepository, clock: Path) -> None:
        self.running, self.repo, self.url, self._clock = running, repo, running.url, clock
        self.native = running.client()
        self._spare = itertools.count(1)
        self.nobody = httpx.Client(base_url=self.url + BASE, timeout=60)
        self.empty = httpx.Response(500)

    def begin(self) -> None:
        """Declare the ground, and sign people in."""
        self.empty = httpx.get(self.url + BASE + S)
        self.repo.commit(FILES, "Ground")
        self.sync()
        self.clients = {name: self.client(self.token(name)) for name in ("alice", "reader", "stranger")}
        found = self.alice.get("component-sla-types/").json()["results"]
        self.slas = {each["name"]: each["id"] for each in found}
        rows = self.alice.get(S, params={"release": "fedora-44"}).json()["results"]
        self.first, self.second = (row["id"] for row in rows)

    @property
    def alice(self) -> httpx.Client:
        """Somebody who may write."""
        return self.clients["alice"]

    def token(self, name: str) -> str:
        """A new token of a user."""
        body = {"name": "t", "level": "write", "subject": f"User/{name}"}
        found: str = self.native.post("/reconciler/tokens", json=body).raise_for_status().json()["token"]
        return found

    def client(self, secret: str) -> httpx.Client:
        """A caller with this token."""
        headers = {"Authorization": f"Token {secret}"}
        return httpx.Client(base_url=self.url + BASE, headers=headers, timeout=60)

    def sync(self) -> None:
        """Wait until the head is applied."""
        found = self.native.post("/reconciler/sync", json={}).raise_for_status().json()
        assert found["revision"] == self.repo.head(), found

    def spare(self) -> str:
        """A release that nobody else writes to."""
        return f"spare-{next(self._spare)}"

    def made(self, *slas: str, release: str | None = None, date: str = "2040-01-01") -> list[int]:
        """New entries of a spare release, by one commit; their ids."""
        name = release or self.spare()
        body = [{"release": name, "sla": sla, "date": date} for sla in slas]
        answer = self.alice.post(S, json=body)
        assert answer.status_code == 201, answer.text
        return [each["id"] for each in answer.json()]

    def shown(self, number: int) -> dict[str, Any]:
        """An entry."""
        found: dict[str, Any] = self.alice.get(f"{S}{number}/").raise_for_status().json()
        return found

    def changesets(self) -> int:
        """How many there are."""
        found: int = self.alice.get("changesets/").json()["count"]
        return found

    def at(self, moment: datetime) -> None:
        """Set the clock."""
        self._clock.write_text(str((moment - datetime.now(UTC)).total_seconds()))

    def once(self, check: Callable[[], Any], seconds: float = 5) -> Any:
        """As soon as something is so: answers are given again for half a second."""
        return once(check, bool, seconds, self.running.log)

    def close(self) -> None:
        """All connections."""
        for client in (self.native, self.nobody, *getattr(self, "clients", {}).values()):
            client.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for all tests."""
    folder = tmp_path_factory.mktemp("pdc")
    repo = SpecRepository(folder / "specs")
    repo.commit({"README.md": "Specifications\n"}, "First")
    repo.git("config", "receive.denyCurrentBranch", "updateInstead")
    clock = folder / "clock"
    clock.write_text(str((TODAY - datetime.now(UTC)).total_seconds()))
    settings = {
        clocked.CLOCK: str(clock),
        "STEERSMAN_ANONYMOUS_READ": '["pdc"]',
        "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
    }
    with (
        patch.object(support.forked, "daemon", clocked.daemon),
        process(repo.path, folder / "data", **settings) as running,
    ):
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo, clock)) as made:
            made.begin()
            yield made
