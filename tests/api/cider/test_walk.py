"""A client that knows the root's address, and nothing else, walks everywhere (cider-ci, 3.3.5, cases 32, 33)."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import pytest

from tests.api.cider.conftest import ROA, A, Cider, check_roa, expand
from tests.api.srht.conftest import World

# What stands in templates of the root, which lead to single things that somebody else names.
_ID = re.compile(r"\{(id|tree_id|\+path)\}")
STATES = {
    "job": {"pending", "executing", "aborting", "passed", "failed", "aborted", "defective"},
    "script": {"pending", "waiting", "executing", "passed", "failed", "aborted", "defective", "skipped"},
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Walk:
    """Follows every relation of every answer, each address once."""

    def __init__(self, api: Cider) -> None:
        self.api = api
        self.seen: dict[str, Any] = {}
        self.followed: set[str] = set()
        self.waiting: deque[str] = deque([f"{A}/"])

    def run(self) -> None:
        """Until nothing is left."""
        while self.waiting:
            href = self.waiting.popleft()
            if href in self.seen or _ID.search(href):
                continue
            answer = self.api.client.get(href)
            assert answer.status_code == 200, (href, answer.text)
            self.seen[href] = None
            if not answer.headers["content-type"].startswith(ROA):
                continue
            self.seen[href] = answer.json()
            self._read(answer.json()["_json-roa"])

    def _read(self, roa: dict[str, Any]) -> None:
        check_roa(roa)
        collection = roa.get("collection", {})
        self._follow("self-relation", roa["self-relation"])
        for name, relation in roa["relations"].items():
            self._follow(name, relation)
        for member in collection.get("relations", {}).values():
            self._follow("member", member)
        if "next" in collection:
            self._follow("next", collection["next"])

    def _follow(self, name: str, relation: dict[str, Any]) -> None:
        self.followed.add(name)
        for documented in relation.get("relations", {}).values():
            self.waiting.append(documented["href"].partition("#")[0])
        if "get" in relation.get("methods", {"get": {}}):
            self.waiting.append(expand(relation["href"]) if not _ID.search(relation["href"]) else "{id}")


def test_every_link_leads_somewhere(admin: Cider, filled: dict[str, Any]) -> None:
    """Of every answer, as it is and expanded with nothing."""
    walk = Walk(admin)
    walk.run()
    assert walk.followed >= {
        "root", "jobs", "job", "create_job", "job-specification", "tasks", "task", "task-specification", "trial",
        "trials", "scripts", "trial-attachments", "trial-attachment-data-stream", "tree-attachments", "commits",
        "projects", "retry", "abort", "retry-and-resume", "stats", "member", "self-relation",
    }  # fmt: skip
    assert "/cider-ci/docs" in walk.seen
    for body in walk.seen.values():
        _check_values(body)


def test_from_the_root_to_the_bytes(admin: Cider, filled: dict[str, Any]) -> None:
    """Case 32, along the way of 3.3.5."""

    def go(found: dict[str, Any], name: str, **values: str) -> dict[str, Any]:
        return admin.get(expand(found["_json-roa"]["relations"][name]["href"], **values))

    def members(found: dict[str, Any]) -> list[dict[str, Any]]:
        collection = found["_json-roa"]["collection"]["relations"]
        return [admin.get(member["href"]) for member in collection.values()]

    root = admin.get(f"{A}/")
    listed = go(root, "jobs", state="passed", key=f"Build/shop/_/files#{filled['files']['number']}")
    (job,) = members(listed)
    (task,) = members(go(job, "tasks"))
    (trial,) = members(go(task, "trials"))
    (script,) = members(go(trial, "scripts"))
    assert script["stdout"] == "printed\n"
    (attachment,) = members(go(trial, "trial-attachments", pathsegment="a b"))
    assert (attachment["path"], attachment["content_length"]) == ("out/a b.txt", "5")
    href = attachment["_json-roa"]["relations"]["trial-attachment-data-stream"]["href"]
    assert admin.client.get(href).content == b"kept\n"
    everywhere = go(trial, "trial-attachments")["_json-roa"]["relations"]["trial-attachment-data-stream"]
    assert expand(everywhere["href"], path=attachment["path"]) == href


def test_a_variable_that_is_not_in_the_template(admin: Cider) -> None:
    """Case 33: every parameter of section 4 is."""
    relations = admin.get(f"{A}/")["_json-roa"]["relations"]
    with pytest.raises(AssertionError, match="foo"):
        expand(relations["jobs"]["href"], foo="1")
    names = ("repository_url", "branch_head", "branch_descendants", "key", "state", "tree_id")
    values = dict.fromkeys(names, "x")
    found = admin.get(expand(relations["jobs"]["href"], **values, job_specification_id="x", page="0"))
    assert found["jobs"] == []


def test_what_is_hidden_is_nowhere(world: World, jo: Cider, filled: dict[str, Any]) -> None:
    """Case 34: neither in lists nor by any id, for everybody but its owner."""
    ana, job = Cider(world["ana"]), filled["hidden"]["id"]
    assert ana.get(f"{A}/jobs/{job}")["key"] == f"srht-{filled['hidden']['number']}"
    assert job in [each["id"] for each in ana.every(f"{A}/jobs/", "jobs")]
    assert job not in [each["id"] for each in jo.every(f"{A}/jobs/", "jobs")]
    hidden = Walk(ana)
    hidden.waiting = deque([f"{A}/jobs/{job}"])
    hidden.run()
    addresses = [href for href in hidden.seen if job in href]
    seen = hidden.seen.values()
    (task,) = {
        item["id"] for body in seen if body and body.get("job_id") == job for item in [body] if "id" in body
    }
    trials = [body for body in seen if body and body.get("task_id") == task]
    addresses += [f"{A}/tasks/{task}", f"{A}/tasks/{task}/trials/"]
    for trial in trials:
        addresses += [f"{A}/trials/{trial['id']}", f"{A}/trials/{trial['id']}/scripts/"]
    specification = ana.get(f"{A}/jobs/{job}")["job_specification_id"]
    addresses.append(f"{A}/job-specifications/{specification}")
    assert trials
    for href in addresses:
        assert jo.client.get(href).status_code == 404, href
    assert task not in [each["id"] for each in jo.every(f"{A}/tasks/", "tasks")]
    assert jo.get(f"{A}/tasks/", job_id=job)["tasks"] == []
    walk = Walk(jo)
    walk.run()
    assert not any(job in href or task in href for href in walk.seen)


def _check_values(body: Any) -> None:
    if not isinstance(body, dict):
        return
    for name, value in body.items():
        if name.endswith("_at") and value is not None:
            assert TIME.fullmatch(value), (name, value)
    assert "token" not in body
    if "state" in body:
        assert body["state"] in STATES["script" if "stdout" in body else "job"]
