"""Confirmations of pipelines, decided by the native API and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Api, steersman
from tests.support import PROJECT, SpecRepository, process

KEY = "Pipeline/shop/ask"
FILES = {
    "project.yaml": PROJECT,
    "people.yaml": (
        "apiVersion: steersman/v1\nkind: User\nmetadata: {name: foreign}\n---\n"
        "apiVersion: steersman/v1\nkind: User\nmetadata: {name: reader}\n---\n"
        "apiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {name: r, project: shop}\n"
        "spec: {role: read, subjects: [{kind: User, name: reader}]}\n"
    ),
    "ask.yaml": (
        "apiVersion: steersman/v1\nkind: Pipeline\nmetadata: {name: ask, project: shop}\n"
        "spec:\n  concurrency: allow\n"
        "  phases: [{name: q, steps: [{type: confirmation, name: go}]}]\n"
    ),
    "two.yaml": (
        "apiVersion: steersman/v1\nkind: Pipeline\nmetadata: {name: two, project: shop}\n"
        "spec:\n  phases: [{name: a, steps: [{type: confirmation, name: go}]}, "
        "{name: b, steps: [{type: confirmation, name: go}]}]\n"
    ),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A daemon with a pipeline that asks one question."""
    folder = tmp_path_factory.mktemp("asked")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    with process(repo.path, folder / "data") as running, running.client() as client:
        head = repo.head()
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )
        yield Api(running, repo, client)


def begin(asked: Api) -> int:
    """A run that waits."""
    made = asked.client.post("/reconciler/trigger", json={"key": KEY})
    number: int = made.raise_for_status().json()["number"]
    asked.running.wait_for(lambda _: any(run == number for run in waiting(asked)))
    return number


def waiting(asked: Api) -> list[int]:
    """Numbers of the runs that have asked and are not decided."""
    events = asked.get("/reconciler/events", key=KEY, limit=1000)["items"]
    of = {kind: {e["body"]["number"] for e in events if e["kind"] == kind} for kind in KINDS}
    return sorted(of[KINDS[0]] - of[KINDS[1]])


KINDS = ("pipeline-confirmation-requested", "pipeline-run-finished")


def decide(asked: Api, **body: Any) -> Any:
    """An answer of the native API."""
    return asked.client.post("/reconciler/approvals", json={"key": KEY, "decision": "approved", **body})


def test_a_confirmation_is_decided_from_anywhere(asked: Api) -> None:
    """Of several runs one is named; who may not is told why, and who sees nothing finds nothing."""
    for name, status in (("foreign", 404), ("reader", 403)):
        number = begin(asked)
        made = asked.token("owner", subject=f"User/{name}")
        headers = {"Authorization": f"Bearer {made['token']}"}
        answer = asked.client.post(
            "/reconciler/approvals", json={"key": KEY, "decision": "approved", "run": number}, headers=headers
        )
        assert answer.status_code == status, answer.text
    first, second = waiting(asked)
    several = decide(asked)
    assert several.status_code == 409
    assert f"`--run {first} --step q/go`; `--run {second} --step q/go`" in several.json()["detail"]
    for wrong in ({"digest": "x"}, {"rule": 1}):
        assert decide(asked, **wrong).status_code == 422
    assert (
        asked.client.post(
            "/reconciler/approvals", json={"request": 1, "decision": "approved", "run": 1}
        ).status_code
        == 400
    )
    done = decide(asked, run=second, comment="yes")
    assert done.status_code == 201, done.text
    (said,) = done.json()["decisions"]
    assert (said["by"], said["decision"], said["run"], said["step"]) == (
        "User/admin",
        "approved",
        second,
        "q/go",
    )
    asked.running.wait_for(lambda _: waiting(asked) == [first])
    own = {"STEERSMAN_SERVER": asked.url, "STEERSMAN_TOKEN": asked.running.token}
    told = steersman("reject", KEY, "-m", "no", **own)
    assert told.returncode == 0, told.stderr
    assert f"rejected q/go of run {first}; the run is failed" in told.stdout
    again = steersman("approve", KEY, **own)
    assert again.returncode != 0
    assert "nothing of Pipeline/shop/ask waits for people" in again.stderr


def test_nobody_decides_the_next_one_by_saying_it_twice(asked: Api) -> None:
    """Where a run asks more than once, which one is meant must be said."""
    key = "Pipeline/shop/two"
    assert asked.client.post("/reconciler/trigger", json={"key": key}).status_code == 202

    def open_() -> list[str]:
        found = asked.get("/reconciler/approvals")["confirmations"]
        return [item["step"] for item in found if item["key"] == key]

    asked.running.wait_for(lambda _: open_() == ["a/go"])
    own = {"STEERSMAN_SERVER": asked.url, "STEERSMAN_TOKEN": asked.running.token}
    assert "a/go" in steersman("approvals", **own).stdout
    assert decide(asked, key=key).status_code == 409
    assert decide(asked, key=key, step="a/go").status_code == 201
    asked.running.wait_for(lambda _: open_() == ["b/go"])
    for _ in range(2):
        again = decide(asked, key=key, step="a/go")
        assert (again.status_code, again.json()["title"]) == (409, "NothingToDecide")
    assert open_() == ["b/go"]
    told = steersman("approve", key, "--step", "b/go", **own)
    assert "approved b/go of run 1; the run is ok" in told.stdout
