"""One daemon with images for manifests, and a client for each of its people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from reconciler.sealing import seal
from tests.api.escape.conftest import document
from tests.support import Process, SpecRepository, once, process

PEOPLE = ("jo", "ana", "bob", "lee")
FINAL = ("success", "failed", "timeout", "cancelled")
IMAGES = "{debian/stable: {type: host}, host: {type: host}}"
FILES = {
    "people.yaml": "---\n".join(document("User", f"name: {name}") for name in PEOPLE),
    "executor.yaml": document("Executor", "name: exec-1", f"{{max_load: 8, images: {IMAGES}}}"),
    "project.yaml": document("Project", "name: shop")
    + "---\n"
    + document(
        "RoleBinding", "name: bob, project: shop", "{role: write, subjects: [{kind: User, name: bob}]}"
    ),
    "builds.yaml": document(
        "Build",
        "name: two, project: shop",
        "{tasks: [{name: Lint, run: 'echo lint'}, {name: test, run: 'echo test'}]}",
    ),
}
SETTINGS = {
    "STEERSMAN_ALLOW_UNSANDBOXED": "1",
    "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
    "STEERSMAN_STOP_GRACE_SECONDS": "0.5",
    "STEERSMAN_PRIVATE_ADDRESSES": "1",
    "STEERSMAN_ANONYMOUS_READ": '["builds.sr.ht"]',
}
SECRETS = {
    "jo": (
        ("by-name", "{type: plaintext_file, path: ~/.tool/token, mode: '640', %s}", "first-secret-of-jo"),
        (
            "by-uuid",
            "{type: ssh_key, uuid: 5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10, %s}",
            "second-secret-of-jo",
        ),
    ),
    "ana": (("of-ana", "{type: plaintext_file, path: ~/ana, mode: '600', %s}", "secret-of-ana"),),
}


class World:
    """A daemon and its callers."""

    def __init__(self, running: Process, repo: SpecRepository) -> None:
        self.running, self.repo, self.url = running, repo, running.url
        self.native = running.client()
        self.nobody = httpx.Client(base_url=self.url, timeout=60)
        self.secrets = {name: self.token(name) for name in PEOPLE}
        self.clients = {name: self.client(secret) for name, secret in self.secrets.items()}

    def token(self, name: str, level: str = "write", **more: Any) -> str:
        """A new token of a user."""
        body = {"name": "t", "level": level, "subject": f"User/{name}"} | more
        answer = self.native.post("/reconciler/tokens", json=body)
        found: str = answer.raise_for_status().json()["token"]
        return found

    def client(self, secret: str) -> httpx.Client:
        """A caller with this token."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"token {secret}"}, timeout=60)

    def __getitem__(self, name: str) -> httpx.Client:
        return self.clients[name]

    def close(self) -> None:
        """All connections."""
        for client in (self.native, self.nobody, *self.clients.values()):
            client.close()

    def applied(self) -> None:
        """Wait until the head is applied."""
        found = self.native.post("/reconciler/sync", json={}).raise_for_status().json()
        assert found["revision"] == self.repo.head(), found

    def submit(self, text: str, name: str = "jo", **more: Any) -> dict[str, Any]:
        """A new job."""
        answer = self[name].post("/api/jobs", json={"manifest": text} | more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def job(self, number: int, name: str = "jo") -> dict[str, Any]:
        """A job as somebody sees it."""
        found: dict[str, Any] = self[name].get(f"/api/jobs/{number}").raise_for_status().json()
        return found

    def once(
        self, number: int, check: Callable[[dict[str, Any]], Any], seconds: float = 30
    ) -> dict[str, Any]:
        """A job as soon as something is so."""
        return once(lambda: self.job(number), check, seconds, self.running.log)

    def ended(self, number: int, seconds: float = 30) -> dict[str, Any]:
        """A job once its status is final."""
        return self.once(number, lambda job: job["status"] in FINAL, seconds)

    def run(self, text: str, name: str = "jo", **more: Any) -> dict[str, Any]:
        """Submit a manifest and wait for its end."""
        return self.ended(self.submit(text, name, **more)["id"])

    def log(self, address: str, name: str = "jo") -> str:
        """What stands at the address of a log."""
        answer = self[name].get(address)
        assert answer.status_code == 200, (address, answer.text)
        return answer.text


def tasks(*scripts: str, more: str = "") -> str:
    """A manifest with tasks a, b, c …, each of one line."""
    lines = "".join(f"- {name}: |\n    {script}\n" for name, script in zip("abcdefgh", scripts, strict=False))
    return f"image: debian/stable\n{more}tasks:\n{lines}"


M = tasks("true")


def states(job: dict[str, Any]) -> list[str]:
    """Of its tasks."""
    return [task["status"] for task in job["tasks"]]


def refused(answer: httpx.Response, status: int, field: str | None = None) -> list[str]:
    """The reasons of an error body in which every error has this field, or none has one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"errors"}
    assert body["errors"]
    for error in body["errors"]:
        assert error.keys() == ({"reason"} if field is None else {"field", "reason"}), error
        assert error.get("field") == field, error
        assert isinstance(error["reason"], str)
        assert error["reason"]
    return [error["reason"] for error in body["errors"]]


def absent(answer: httpx.Response) -> None:
    """The one answer for what is not there, or not to be seen."""
    assert refused(answer, 404) == ["404 not found"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for all tests."""
    folder = tmp_path_factory.mktemp("srht")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    with process(repo.path, folder / "data", **SETTINGS) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo)) as made:
            recipient = made.native.get("/reconciler/secrets/key").json()["recipient"]
            sealed = [
                document(
                    "Secret",
                    f"name: {name}, owner: {owner}",
                    spec % f"sealed: '{seal(value.encode(), recipient, f'Secret/~{owner}/_/{name}')}'",
                )
                for owner, found in SECRETS.items()
                for name, spec, value in found
            ]
            repo.commit({"secrets.yaml": "---\n".join(sealed)})
            made.applied()
            yield made
