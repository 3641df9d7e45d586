"""A daemon, and how people of every sort see its pages: for the tests of the dashboard over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from tests.api.conftest import FINISHED, Api
from tests.support import PROJECT, SpecRepository, process

_HEADER = "apiVersion: steersman/v1\nkind: "
PEOPLE = "---\n".join(
    (
        *(f"{_HEADER}User\nmetadata: {{name: {name}}}\n" for name in ("reader", "writer", "foreign")),
        *(
            f"{_HEADER}RoleBinding\nmetadata: {{name: {level}ers, project: {project}}}\n"
            f"spec: {{role: {level}, subjects: [{{kind: User, name: {name}}}]}}\n"
            for name, level, project in (
                ("reader", "read", "shop"),
                ("writer", "write", "shop"),
                ("foreign", "owner", "tools"),
            )
        ),
        f"{_HEADER}Project\nmetadata: {{name: tools}}\n",
    )
)
"""Users with roles in the project `shop`, and one, `foreign`, without any there."""


class Pages(Api):
    """The daemon, and what people see of it. `nobody` is not signed in."""

    secrets: Mapping[str, str]

    def browser(self, who: str = "admin") -> httpx.Client:
        """The browser of somebody."""
        cookies = {} if who == "nobody" else {"X-Escape-Token": self.secrets[who]}
        headers = {"Accept": "text/html", "Origin": self.url}
        return httpx.Client(base_url=self.url, cookies=cookies, headers=headers, timeout=60)

    def page(self, path: str, who: str = "admin", status: int = 200) -> str:
        """The text of a page, which is small."""
        with self.browser(who) as browser:
            answer = browser.get(path)
        assert answer.status_code == status, answer.text
        assert len(answer.content) < 200_000
        return answer.text

    def post(self, path: str, who: str = "admin", **fields: Any) -> httpx.Response:
        """What a form does."""
        with self.browser(who) as browser:
            return browser.post(path, data=fields)

    def ends(self, number: int) -> int:
        """The same job, once it has."""
        self.running.job(number, *FINISHED)
        return number

    @classmethod
    @contextmanager
    def of(
        cls, folder: Path, files: Mapping[str, str], message: str = "change", **more: str
    ) -> Iterator[Self]:
        """The pages of a daemon that has applied these files, and people."""
        repo = SpecRepository(folder / "specs")
        head = repo.commit({"project.yaml": PROJECT, "people.yaml": PEOPLE, **files}, message)
        settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
        with process(repo.path, folder / "data", **settings | more) as running, running.client() as client:
            running.wait_for(
                lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
            )
            found = cls(running, repo, client)
            people = ("reader", "writer", "foreign")
            found.secrets = {"admin": running.token} | {
                name: found.token("owner", subject=f"User/{name}")["token"] for name in people
            }
            yield found
