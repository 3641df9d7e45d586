"""One daemon with the project of the contract's edge cases, and a client for each of its people."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import Process, SpecRepository, process

SHOP = "/api/v1/state/shop"
DEV = f"{SHOP}/environments/dev"
WEB = f"{DEV}/builds/by-name/web/"
PEOPLE = ("alice", "wendy", "rita", "pia", "nobody")


def document(kind: str, metadata: str, spec: str = "{}") -> str:
    """One document in flow form."""
    return f"apiVersion: steersman/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"


def binding(name: str, role: str, scope: str, subject: str) -> str:
    """One subject with one role."""
    return document("RoleBinding", f"name: {name}, {scope}", f"{{role: {role}, subjects: [{subject}]}}")


WEB_YAML = """\
# The storefront.
apiVersion: steersman/v1
kind: Build
metadata: {name: web, project: shop, environment: dev}
spec:
  repo: web            # by name

  steps:
    - plan_location: escape.yml
      run_tests:   true     # always
      tag_git: true
      providers: {kubernetes: infra/cluster}
  timeout_seconds: 1800
"""
FILES = {
    "project.yaml": document(
        "Project",
        "name: shop",
        "{description: Web shop, environment_order: [dev, staging, prod], namespaces: [{name: shop}]}",
    ),
    "environments.yaml": "---\n".join(
        [
            document("Environment", "name: dev, project: shop"),
            document("Environment", "name: staging, project: shop"),
            document(
                "Environment",
                "name: prod, project: shop",
                "{description: Live, protected: true, inputs: {region: eu-west-1}, "
                "approval_ruleset_bindings: [{approval_ruleset: everything}]}",
            ),
            document("ApprovalRuleset", "name: everything"),
        ]
    ),
    "web.yaml": WEB_YAML,
    "tasks.yaml": document(
        "Build",
        "name: nightly, project: shop, environment: staging",
        "{tasks: [{name: main, run: 'sleep 600'}]}",
    ),
    "deployments.yaml": "---\n".join(
        [
            document(
                "Deployment",
                "name: shop/web, project: shop, environment: dev",
                "{version: '1.4.12', inputs: {replicas: 4}, providers: {kubernetes: infra/cluster}}",
            ),
            document("Deployment", "name: infra/cluster, project: shop, environment: dev"),
        ]
    ),
    "repository.yaml": document(
        "Repository",
        "name: web, project: shop",
        "{url: 'https://git.example.org/web.git', description: Storefront}",
    ),
    "people.yaml": "---\n".join(
        [
            document("User", "name: alice", "{display_name: Alice Example, email: alice@example.org}"),
            *(document("User", f"name: {name}") for name in PEOPLE[1:]),
            document("Team", "name: platform", "{members: [alice]}"),
            document("Team", "name: ops", "{members: [alice, rita]}"),
            document("ServiceAccount", "name: deployer, team: platform"),
            document("ServiceAccount", "name: deployer, team: ops"),
            document("ServiceAccount", "name: builder, team: platform"),
            binding("owners", "owner", "project: shop", "{kind: User, name: alice}"),
            binding("writers", "write", "project: shop", "{kind: User, name: wendy}"),
            binding("readers", "read", "project: shop", "{kind: User, name: rita}"),
            binding("prod", "write", "project: shop, environment: prod", "{kind: User, name: pia}"),
            binding("ops", "read", "project: shop", "{kind: Team, name: ops}"),
        ]
    ),
    "other.yaml": document("Project", "name: tools", "{namespaces: [{name: tools}]}"),
}
"""The spec repository of a test. alice owns, wendy writes, rita reads; pia writes in prod only."""


class World:
    """A daemon, its spec repository, and its callers."""

    def __init__(self, running: Process, repo: SpecRepository) -> None:
        self.running, self.repo, self.url = running, repo, running.url
        self.native = {"Authorization": f"Bearer {running.token}"}
        self.admin = httpx.Client(
            base_url=running.url,
            headers={"X-Escape-Token": running.token, "Accept": "application/json"},
            timeout=60,
        )
        self.secrets = {name: self.token(f"User/{name}") for name in PEOPLE}
        self.clients = {name: self.client(secret) for name, secret in self.secrets.items()}

    def client(self, secret: str) -> httpx.Client:
        """A caller with this token."""
        headers = {"X-Escape-Token": secret, "Accept": "application/json"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def token(self, subject: str, **more: Any) -> str:
        """A new token of a subject."""
        body = {"name": "t", "level": "owner", "subject": subject} | more
        answer = self.admin.post("/reconciler/tokens", json=body, headers=self.native)
        found: str = answer.raise_for_status().json()["token"]
        return found

    def __getitem__(self, name: str) -> httpx.Client:
        return self.admin if name == "admin" else self.clients[name]

    def reset(self) -> None:
        """The specs as they were."""
        self.repo.git("reset", "-q", "--hard")
        self.repo.git("clean", "-qfd")
        there = self.repo.git("ls-files").split("\n")
        removals: dict[str, str | bytes | None] = {name: None for name in there if name and name not in FILES}
        self.commit({**removals, **FILES})
        assert self.admin.get("/reconciler/status", headers=self.native).json()["held"] == []

    def commit(self, files: dict[str, str | bytes | None]) -> None:
        """As a person does it; returns when it is applied."""
        self.repo.commit(files)
        self.applied()

    def applied(self) -> None:
        """Wait until the head is applied."""
        answer = self.admin.post("/reconciler/sync", json={}, headers=self.native)
        found = answer.raise_for_status().json()
        assert found["revision"] == self.repo.head(), found

    def git(self, *arguments: str) -> str:
        """Standard output of Git in the spec repository."""
        command = ["git", "-C", str(self.repo.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def commits(self) -> int:
        """How many there are."""
        return int(self.git("rev-list", "--count", "main"))

    def diff(self) -> list[str]:
        """The lines that the newest commit changed."""
        shown = self.git("show", "--format=", "-U0", "main").splitlines()
        return [line for line in shown if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")]

    def files(self) -> list[str]:
        """The paths at the head."""
        return self.git("ls-tree", "-r", "--name-only", "main").split()

    def text(self, path: str) -> str:
        """A file at the head."""
        return self.git("show", f"main:{path}")


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """An error body of the contract's form."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body.keys() <= {"error", "code", "fields"}
    return body


@pytest.fixture(scope="session")
def daemon_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for all tests."""
    folder = tmp_path_factory.mktemp("escape")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000"}
    settings |= {"STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
    with process(repo.path, folder / "data", **settings) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        world = World(running, repo)
        with contextlib.ExitStack() as stack:
            for client in (world.admin, *world.clients.values()):
                stack.callback(client.close)
            yield world


@pytest.fixture
def world(daemon_world: World) -> World:
    """The same specs for every test."""
    daemon_world.reset()
    return daemon_world
