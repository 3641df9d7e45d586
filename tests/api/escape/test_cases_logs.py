"""The numbered edge cases of the contract about logs and external workers (escape-state, 12, 17)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.escape.conftest import document, refused
from tests.api.escape.releasing import Build, Works, works
from tests.escape_worker import Handed, Worker, worker
from tests.support import eventually_now, stop

LINES = "for i in $(seq 1 200); do echo line $i; done"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """One daemon for all cases that need none of their own."""
    with works(tmp_path_factory.mktemp("logs")) as found:
        yield found


@contextmanager
def handed(shop: Works, name: str, work: Any = None, **spec: Any) -> Iterator[tuple[Build, Worker]]:
    """A build that an external worker runs."""
    with worker(work) as found:
        fields = shop.released(name, build="exit 1")
        yield shop.declare(name, remote_escape_worker_url=found.url, **fields, **spec), found
        assert found.failed == []


def socket(build: Build, execution: str, who: str = "rita", query: str = "", **more: Any) -> ClientConnection:
    """A WebSocket on the log of an execution."""
    url = build.works.url.replace("http", "ws") + f"{build.path}/executions/{execution}/logs_ws{query}"
    headers = {"X-Escape-Token": build.works.secrets[who]} if who else {}
    return connect(url, additional_headers=headers, max_size=None, **more)


def frames(live: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """Everything up to the close, and its code."""
    found = []
    while True:
        try:
            found.append(json.loads(live.recv(timeout=60)))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return found, closed.rcvd.code


def logged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries among frames."""
    return [{k: v for k, v in frame.items() if k != "type"} for frame in found if frame["type"] == "log"]


def entries(build: Build, execution: str, **query: Any) -> list[dict[str, Any]]:
    """The same by HTTP."""
    answer = build.works["rita"].get(
        f"{build.path}/executions/{execution}/logs", params={"limit": 10000} | query
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def test_case_68_the_commit_that_a_worker_tells(shop: Works) -> None:
    """39 digits: 400; the same twice: 200 and 200; then another: 409."""
    with handed(shop, "c68") as (build, _):
        execution = build.trigger()

        def commit(revision: str, **more: Any) -> Any:
            body = {"git_revision": revision} | more
            return shop["wendy"].put(f"{build.path}/executions/{execution}/commit", json=body)

        refused(commit("a" * 39), 400, "invalid-field")
        refused(commit("a" * 40, branch=3), 400, "invalid-field")
        assert build.get(execution)["commit"] is None
        for _ in range(2):
            answer = commit(
                "A" * 40,
                branch="main",
                revision_author="Alice <a@e.org>",
                committed_at="2030-01-02T03:00:00+01:00",
            )
            assert (answer.status_code, answer.content) == (200, b"")
        refused(commit("b" * 40), 409, "commit-mismatch")
        assert build.get(execution)["commit"] == {
            "git_revision": "a" * 40,
            "branch": "main",
            "revision_author": "Alice <a@e.org>",
            "committed_at": "2030-01-02T02:00:00.000Z",
        }
        refused(
            shop["rita"].put(f"{build.path}/executions/{execution}/commit", json={"git_revision": "a" * 40}),
            403,
            "forbidden",
        )
        assert build.post(execution, "logs", json={"entries": [], "status": "failed"}).status_code == 200
        refused(commit("a" * 40), 409, "already-finished")
    local = shop.declare("c68-local", **shop.released("c68", build="sleep 20"))
    execution = local.trigger()
    local.when(execution, "running")
    path = f"{local.path}/executions/{execution}/commit"
    assert shop["wendy"].put(path, json={"git_revision": shop.code.head()}).status_code == 200
    refused(shop["wendy"].put(path, json={"git_revision": "b" * 40}), 409, "commit-mismatch")
    local.post(execution, "cancel")


def test_case_69_entries_that_are_sent_again_are_taken_once(shop: Works) -> None:
    with handed(shop, "c69") as (build, _):
        execution = build.trigger()
        body = {"entries": [{"message": f"m{n}"} for n in range(3)], "offset": 0}
        answer = build.post(execution, "logs", json=body)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "last_seq": 3})
        assert build.post(execution, "logs", json=body).json() == {"accepted": 0, "last_seq": 3}
        more = body | {"entries": [*body["entries"], {"message": "m3"}]}  # type: ignore[misc]
        assert build.post(execution, "logs", json=more).json() == {"accepted": 1, "last_seq": 4}
        assert build.post(execution, "logs", json={"entries": [{"message": "m4"}], "offset": 4}).json() == {
            "accepted": 1,
            "last_seq": 5,
        }
        refused(build.post(execution, "logs", json=body | {"offset": 9}), 400, "invalid-field")
        assert [(each["seq"], each["message"]) for each in entries(build, execution)] == [
            (n + 1, f"m{n}") for n in range(5)
        ]
        build.post(execution, "logs", json={"entries": [], "status": "ok"})


def test_case_70_the_last_word_closes_the_log(shop: Works) -> None:
    """200 and the execution is `ok`; then 409."""
    with handed(shop, "c70") as (build, _):
        execution = build.trigger()
        said = {
            "entries": [{"message": "done"}],
            "step": 0,
            "step_status": "ok",
            "status": "ok",
            "releases": ["shop/c70-v1.0.0"],
        }
        answer = build.post(execution, "logs", json=said)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "last_seq": 1})
        found = build.get(execution)
        assert (found["status"], found["status_reason"], found["log_seq"]) == ("ok", "", 1)
        assert found["releases"] == ["shop/c70-v1.0.0"]
        assert found["steps"][0]["status"] == "ok"
        refused(
            build.post(execution, "logs", json={"entries": [{"message": "more"}]}), 409, "already-finished"
        )
        failing = build.trigger()
        build.post(
            failing, "logs", json={"entries": [], "status": "failed", "status_reason": "missing-input"}
        )
        found = build.get(failing)
        assert (found["status"], found["status_reason"]) == ("failed", "missing-input")


def test_a_worker_whose_last_word_was_not_answered_is_told_that_it_was_heard(shop: Works) -> None:
    """409 by the token of the execution, where it tells how that goes; and that token opens nothing else any more."""
    with handed(shop, "again") as (build, found), handed(shop, "again-other") as (other, _):
        execution, elsewhere = build.trigger(), other.trigger()
        eventually_now(lambda: found.told)
        told = Handed(found.told[0])
        with told.client as client:
            assert client.get(f"{told.told['callback']}/").status_code == 200
            assert told.push("done", offset=0, status="ok").status_code == 200
            for _ in range(2):
                refused(told.push("done", offset=0, status="ok"), 409, "already-finished")
                refused(told.commit("a" * 40), 409, "already-finished")
            for path in ("/", "/logs", "/logs_ws"):
                assert client.get(f"{told.told['callback']}{path}").status_code == 401
            assert client.post(f"{told.told['callback']}/cancel").status_code == 401
            there = f"{shop.url}{other.path}/executions/{elsewhere}"
            refused(client.post(f"{there}/logs", json={"entries": []}), 404, "not-found")
            refused(client.put(f"{there}/commit", json={"git_revision": "a" * 40}), 404, "not-found")
            for path in ("/api/v1/state/", "/reconciler/jobs", "/api/jobs", "/cider-ci/api/jobs/"):
                assert client.get(f"{shop.url}{path}").status_code == 401, path
        assert build.messages(execution) == ["done"]
        other.post(elsewhere, "logs", json={"entries": [], "status": "ok"})


@pytest.mark.parametrize(
    ("name", "sent"),
    [("lines-lf", ["a\n", "b\n"]), ("lines-bare", ["a", "b"]), ("lines-crlf", ["a\r\n", "b"])],
)
def test_an_entry_with_the_end_of_its_line_is_one_line(shop: Works, name: str, sent: list[str]) -> None:
    """As one without it; of several lines in an entry each is one, also those that are empty."""
    with handed(shop, name) as (build, _):
        execution = build.trigger()
        body = {"entries": [{"message": message} for message in sent]}
        assert build.post(execution, "logs", json=body).json() == {"accepted": 2, "last_seq": 2}
        more = {"entries": [{"message": "c\n\nd\n"}, {"message": "\n"}, {"message": ""}]}
        assert build.post(execution, "logs", json=more).json() == {"accepted": 3, "last_seq": 7}
        assert build.messages(execution) == ["a", "b", "c", "", "d", "", ""]
        build.post(execution, "logs", json={"entries": [], "status": "ok"})


def test_case_71_lines_of_the_client_s_logger(shop: Works) -> None:
    """Levels are kept, sections become a prefix; the other forms of a body are taken as well."""
    lines = [
        {
            "timestamp": "2030-01-02T03:04:05.123456789Z",
            "message": "Starting",
            "level": level,
            "log_key": "k",
            "log_values": {"a": "b"},
            "log_sections": ["build", "web"],
            "log_section_start": True,
        }
        for level in ("debug", "info", "success", "warn", "error")
    ]
    with handed(shop, "c71") as (build, _):
        execution = build.trigger()
        body = "\n".join(json.dumps(line) for line in lines) + "\n"
        sent = build.post(execution, "logs", content=body, headers={"Content-Type": "application/x-ndjson"})
        assert sent.json() == {"accepted": 5, "last_seq": 5}
        found = entries(build, execution)
        assert [each["level"] for each in found] == ["debug", "info", "success", "warn", "error"]
        assert found[0] == {
            "seq": 1, "timestamp": "2030-01-02T03:04:05.123Z", "level": "debug", "stream": "stdout", "step": 0,
            "stage": "", "message": "build / web: Starting",
        }  # fmt: skip
        text = {"Content-Type": "text/plain"}
        assert build.post(execution, "logs", content="one\ntwo\r\n{\n", headers=text).json()["accepted"] == 3
        array = [{"message": "three", "level": "warn", "stream": "stderr", "step": 2, "stage": "test"}]
        assert build.post(execution, "logs", json=array).json()["last_seq"] == 9
        assert [each["message"] for each in entries(build, execution, from_seq=6)] == [
            "one",
            "two",
            "{",
            "three",
        ]
        assert entries(build, execution, step=2, stage="test", level="warn")[0]["stream"] == "stderr"
        for wrong, field in (
            ({"entries": {}}, "entries"),
            ({"entries": [{"message": 1}]}, "entries[0].message"),
            ({"entries": [{"message": "x", "level": "loud"}]}, "entries[0].level"),
            ({"entries": [{"message": "x", "timestamp": "noon"}]}, "entries[0].timestamp"),
            ({"entries": [{"message": "x", "step": 50}]}, "entries[0].step"),
            ({"entries": [], "status": "pending"}, "status"),
            ({"entries": [], "status_reason": "No!"}, "status_reason"),
            ({"entries": [], "step_status": "ok"}, "step"),
            ({"entries": [], "releases": ["web"]}, "releases[0]"),
            ({"entries": [], "offset": -1}, "offset"),
        ):
            told = refused(build.post(execution, "logs", json=wrong), 400, "invalid-field")
            assert field in told["fields"]
        refused(build.post(execution, "logs", content=b"{"), 400, "invalid-json")
        assert build.post(execution, "logs", content=b" " * ((4 << 20) + 1)).status_code == 413
        refused(build.post(execution, "logs", content=b"\n" * 20_001, headers=text), 413, "too-large")
        long = "x" * (40 << 10)
        assert build.post(execution, "logs", json=[{"message": long}]).json()["accepted"] == 1
        parts = [each["message"] for each in entries(build, execution, from_seq=10)]
        assert "".join(parts) == long
        assert len(parts) == 3
        build.post(execution, "logs", json={"entries": [], "status": "ok"})


def test_case_72_a_token_is_good_for_its_own_execution(shop: Works) -> None:
    """403 on another one; and it reads nothing else."""
    with handed(shop, "c72") as (build, found), handed(shop, "c72-other") as (other, _):
        execution, elsewhere = build.trigger(), other.trigger()
        eventually_now(lambda: found.told)
        with shop.client(found.told[0]["token"]) as client:
            path = f"{other.path}/executions/{elsewhere}"
            refused(client.post(f"{path}/logs", json={"entries": []}), 403, "forbidden")
            refused(client.put(f"{path}/commit", json={"git_revision": "a" * 40}), 403, "forbidden")
            assert client.get(f"{path}/").status_code == 404
            own = f"{build.path}/executions/{execution}"
            assert client.post(f"{own}/logs", json={"entries": [{"message": "mine"}]}).status_code == 200
            assert client.post(f"{own}/cancel").status_code == 404
            token = found.told[0]["token"]
            client.post(f"{own}/logs", json={"entries": [{"message": f"it is {token}!"}]})
            assert build.messages(execution) == ["mine", "it is ***!"]
            client.post(f"{own}/logs", json={"entries": [], "status": "ok"})
            assert client.get(f"{own}/").status_code == 401
        other.post(elsewhere, "logs", json={"entries": [], "status": "ok"})


def test_case_73_a_plain_request_is_told_to_upgrade(shop: Works) -> None:
    build = shop.declare("c73", **shop.released("c73", build="echo 1"))
    execution = build.run()["id"]
    answer = shop["rita"].get(f"{build.path}/executions/{execution}/logs_ws")
    assert answer.status_code == 426
    assert answer.json()["code"] == "upgrade-required"
    assert answer.headers["upgrade"] == "websocket"
    assert shop["nobody"].get(f"{build.path}/executions/{execution}/logs_ws").status_code == 404


def test_case_74_a_finished_execution_over_a_websocket(shop: Works) -> None:
    """Status, all entries in order, `end`, close 1000."""
    build = shop.declare("c74", **shop.released("c74", build=LINES))
    execution = build.run()["id"]
    with socket(build, execution) as live:
        found, code = frames(live)
    assert code == 1000
    assert found[0] == {"type": "status", "status": "ok", "status_reason": ""}
    whole = entries(build, execution)
    assert [each["seq"] for each in whole] == list(range(1, len(whole) + 1))
    assert logged(found) == whole
    assert found[-1] == {"type": "end", "status": "ok", "last_seq": len(whole)}
    assert {"type": "step", "step": 0, "status": "ok"} in found
    with socket(build, execution, query="?from_seq=-3") as live:
        assert logged(frames(live)[0]) == whole[-3:]
    with socket(build, execution, query=f"?from_seq={len(whole) + 5}") as live:
        found, code = frames(live)
        assert ([each["type"] for each in found if each["type"] != "step"], code) == (["status", "end"], 1000)


def test_case_75_opened_in_the_middle_it_replays_and_goes_on(shop: Works) -> None:
    """Without gap or duplicate; five clients that join at different times have the same."""
    script = "for i in $(seq 1 40); do echo line $i; sleep 0.05; done"
    build = shop.declare("c75", **shop.released("c75", build=script))
    execution = build.trigger()
    got: list[list[dict[str, Any]]] = [[] for _ in range(5)]
    codes: list[int] = []

    def follow(place: int) -> None:
        with socket(build, execution, query="?from_seq=1") as live:
            got[place], code = frames(live)
            codes.append(code)

    threads = [threading.Thread(target=follow, args=(place,)) for place in range(5)]
    for thread in threads:
        thread.start()
        time.sleep(0.4)
    with socket(build, execution) as live:
        assert json.loads(live.recv(timeout=30))["status"] in ("pending", "running")
        live.send('{"type": "ping"}')
        live.send("nonsense")
        live.send(b"\xff")
        while json.loads(live.recv(timeout=30)) != {"type": "pong"}:
            pass
    for thread in threads:
        thread.join(60)
    whole = entries(build, execution)
    assert [each["message"] for each in whole if each["stage"] == "build"] == [
        f"line {n}" for n in range(1, 41)
    ]
    assert codes == [1000] * 5
    for found in got:
        assert json.dumps(logged(found)) == json.dumps(whole)
        told = [each["status"] for each in found if each["type"] == "status"]
        assert told[-1] == "ok"
        assert len(told) == len(set(told))


def test_case_76_who_may_not_is_told_by_the_code(shop: Works) -> None:
    """4404 without a role (not 4403), 4401 without a credential, 4403 with another execution's token."""
    build = shop.declare("c76", **shop.released("c76", build="echo 1"))
    execution = build.run()["id"]
    for who, expected in (("nobody", 4404), ("pia", 4404)):
        with socket(build, execution, who) as live:
            assert frames(live) == ([], expected)
    with socket(build, "0" * 26, "rita") as live:
        assert frames(live) == ([], 4404)
    with socket(build, execution, "") as live:
        assert frames(live) == ([], 4401)
    with socket(build, execution, "", query="?ticket=wrong") as live:
        assert frames(live) == ([], 4401)
    secret = shop.secrets["rita"]
    with socket(build, execution, "", query=f"?ticket={secret}") as live:
        assert frames(live)[1] == 1000
    with socket(build, execution, "", subprotocols=["escape.logs.v1", f"escape.token.{secret}"]) as live:
        assert live.subprotocol == "escape.logs.v1"
        assert frames(live)[1] == 1000
    url = build.works.url.replace("http", "ws") + f"{build.path}/executions/{execution}/logs_ws"
    cookie = {"Cookie": f"X-Escape-Token={secret}"}
    with connect(url, additional_headers=cookie, origin="https://evil.example") as live:  # type: ignore[arg-type]
        assert frames(live) == ([], 4401)
    with connect(url, additional_headers=cookie, origin=build.works.url) as live:  # type: ignore[arg-type]
        assert frames(live)[1] == 1000
    with handed(shop, "c76-handed") as (other, found):
        made = other.trigger()
        eventually_now(lambda: found.told)
        with socket(build, execution, "", query=f"?ticket={found.told[0]['token']}") as live:
            assert frames(live) == ([], 4403)
        other.post(made, "logs", json={"entries": [], "status": "ok"})


def test_logs_are_read_in_parts(shop: Works) -> None:
    """By number, from the end, by step and stage; as text; faults are told (BX7)."""
    build = shop.declare("parts", **shop.released("parts", build=LINES, test="echo tested"))
    execution = build.run()["id"]
    path = f"{build.path}/executions/{execution}/logs"
    whole = entries(build, execution)
    first = shop["rita"].get(path, params={"limit": 10}).json()
    assert (len(first["entries"]), first["next_seq"], first["complete"], first["status"]) == (
        10,
        11,
        False,
        "ok",
    )
    rest = shop["rita"].get(path, params={"from_seq": first["next_seq"]}).json()
    assert first["entries"] + rest["entries"] == whole
    assert (rest["complete"], rest["next_seq"]) == (True, len(whole) + 1)
    assert entries(build, execution, tail=5) == whole[-5:]
    assert entries(build, execution, from_seq=-5) == whole[-5:]
    assert (
        entries(build, execution, stage="build", tail=2)
        == [each for each in whole if each["stage"] == "build"][-2:]
    )
    assert [each["message"] for each in entries(build, execution, stage="test", step=0)] == ["tested"]
    assert entries(build, execution, step=1) == entries(build, execution, level="error") == []
    text = shop["rita"].get(path, headers={"Accept": "text/plain"}, params={"stage": "build"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == "".join(f"line {n}\n" for n in range(1, 201))
    for query in (
        {"limit": "x"},
        {"limit": 0},
        {"from_seq": "1.5"},
        {"tail": -1},
        {"level": "loud"},
        {"step": "a"},
    ):
        refused(shop["rita"].get(path, params=query), 400, "invalid-field")
    assert shop["nobody"].get(path).status_code == 404
    assert build.get(execution)["log_seq"] == len(whole)
    refused(build.post(execution, "logs", json={"entries": []}), 409, "not-external")


def test_a_slow_reader_loses_entries_and_slows_nobody(shop: Works) -> None:
    """It is told of the gap, and reads it by HTTP; the script ends while nobody reads."""
    lines = "seq 1 2000 | sed 's/$/ of a line that takes some room/'"
    script = f"i=0; while [ $i -lt 60 ]; do {lines}; sleep 0.1; i=$((i+1)); done"
    build = shop.declare("slow", **shop.released("slow", build=script))
    execution = build.trigger()
    build.when(execution, "running")
    with socket(build, execution, max_queue=1) as live:
        json.loads(live.recv(timeout=30))
        assert build.when(execution, "ok", seconds=60)["status"] == "ok"
        found, code = frames(live)
    whole = {each["seq"] for each in logged(found)}
    gaps = [(each["from"], each["to"]) for each in found if each["type"] == "gap"]
    assert code == 1000
    assert gaps
    last = found[-1]["last_seq"]
    assert whole | {seq for low, high in gaps for seq in range(low, high + 1)} == set(range(1, last + 1))
    assert last > 120_000
    for low, high in gaps:
        assert entries(build, execution, from_seq=low, limit=1)[0]["seq"] == low
        assert high not in whole


def test_a_worker_runs_a_build(shop: Works) -> None:
    """It is told all that it needs, and tells the commit, its steps, the log and the end (12.4)."""

    def work(job: Handed) -> None:
        assert job.commit("c" * 40, branch="main").status_code == 200
        assert job.push("one", status="running", step=0, step_status="running").json()["accepted"] == 1
        assert "cancel_requested" not in job.push("two", offset=1).json()
        last = job.push("three", step=0, step_status="ok", status="ok", releases=["shop/lib-v7"])
        assert last.status_code == 200, last.text

    with handed(shop, "worked", work, steps=[{"run_tests": False}]) as (build, found):
        execution = build.trigger(variables={"level": "debug"}, commit=shop.code.head()[:10])
        whole = build.when(execution, "ok", "failed")
        (told,) = found.told
    assert (told["kind"], told["execution_id"], told["branch"]) == ("build", execution, "")
    assert told["callback"] == f"{shop.url}{build.path}/executions/{execution}"
    assert (told["commit"], told["variables"]) == (shop.code.head(), {"level": "debug"})
    assert (told["build"]["name"], told["build"]["project"], told["build"]["environment"]) == (
        "worked",
        "shop",
        "dev",
    )
    assert told["build"]["steps"][0]["run_tests"] is False
    assert told["build"]["repo"] == str(shop.code.path)
    assert told["token"].startswith("stm_")
    assert told["deadline"] > whole["created_at"][:19]
    assert "private_key" not in told
    assert (whole["status"], whole["worker"], whole["releases"]) == ("ok", found.url, ["shop/lib-v7"])
    assert whole["commit"] == {"git_revision": "c" * 40, "branch": "main"}
    assert [step["status"] for step in whole["steps"]] == ["ok"]
    assert build.messages(execution) == ["one", "two", "three"]
    assert "started_at" in whole


def test_a_worker_is_told_of_a_cancel(shop: Works) -> None:
    """By a POST, and by the answer to what it says; what it has finished before that stands."""
    with handed(shop, "stopped") as (build, found):
        execution, waits = build.trigger(), build.trigger()
        eventually_now(lambda: found.told)
        assert build.get(waits)["status"] == "pending"
        assert build.post(execution, "cancel").status_code == 200
        eventually_now(lambda: len(found.told) > 1)
        assert (found.told[1]["kind"], found.told[1]["execution_id"]) == ("cancel", execution)
        job = Handed(found.told[0])
        assert job.push("stopping").json()["cancel_requested"] is True
        assert build.get(execution)["status"] == "running"
        job.push(status="failed", status_reason="cancelled")
        whole = build.get(execution)
        assert (whole["status"], whole["status_reason"], whole["cancel_requested"]) == (
            "failed",
            "cancelled",
            True,
        )
        eventually_now(lambda: len(found.told) > 2)
        second = Handed(found.told[2])
        assert build.post(waits, "cancel").status_code == 200
        second.push(status="ok")
        assert build.get(waits)["status"] == "ok"
        job.client.close()
        second.client.close()


def test_a_worker_that_does_not_take_it(shop: Works) -> None:
    """Three attempts, then `worker-lost`; one that it takes at the third is run."""
    with handed(shop, "refusing") as (build, found):
        found.answer = 503
        execution = build.trigger()
        whole = build.when(execution, "failed")
        assert (whole["status_reason"], len(found.told)) == ("worker-lost", 3)
        again = build.post(execution, "retry").json()["id"]
        eventually_now(lambda: len(found.told) > 3)
        found.answer = 204
        eventually_now(lambda: len(found.told) > 4)
        build.post(again, "logs", json={"entries": [], "status": "ok"})
        assert build.get(again)["status"] == "ok"


def test_a_followed_log_ends_with_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """1001: reconnect with the last number and one; nothing is told twice then."""
    with works(tmp_path_factory.mktemp("leaving")) as shop:
        build = shop.declare("long", **shop.released("long", build="echo begun; sleep 60"))
        execution = build.trigger()
        with socket(build, execution) as live:
            while json.loads(live.recv(timeout=30)).get("message") != "begun":
                pass
            shop.running.popen.terminate()
            assert frames(live)[1] == 1001
        stop(shop.running)


def test_the_log_of_a_deployment_job(shop: Works) -> None:
    """Read, refused, and followed in the same ways (DX4 to DX6)."""
    spec = {"scripts": {"deploy": {"inline": "echo one; echo two"}}, "reconcile": "manual"}
    metadata = "name: shop/site, project: shop, environment: dev"
    shop.commit({"site.yaml": document("Deployment", metadata, json.dumps(spec))})
    path = "/api/v1/deployment-jobs/by-project/shop/by-environment/dev/by-name/shop%2Fsite"
    execution = shop["wendy"].post(f"{path}/trigger").raise_for_status().json()["id"]
    one = f"{path}/executions/{execution}"
    eventually_now(lambda: shop["rita"].get(f"{one}/").json()["status"] == "ok")
    page = shop["rita"].get(f"{one}/logs").json()
    assert [each["message"] for each in page["entries"] if each["stage"] == "deploy"] == ["one", "two"]
    assert (page["complete"], page["status"]) == (True, "ok")
    text = shop["rita"].get(f"{one}/logs", headers={"Accept": "text/plain"}, params={"stage": "deploy"})
    assert text.text == "one\ntwo\n"
    refused(shop["rita"].get(f"{one}/logs_ws"), 426, "upgrade-required")
    refused(shop["wendy"].post(f"{one}/logs", json={"entries": []}), 409, "not-external")
    refused(shop["rita"].post(f"{one}/logs", json={"entries": []}), 403, "forbidden")
    assert shop["nobody"].get(f"{one}/logs").status_code == 404
    url = shop.url.replace("http", "ws") + f"{one}/logs_ws"
    with connect(url, additional_headers={"X-Escape-Token": shop.secrets["rita"]}) as live:
        found, code = frames(live)
    assert (logged(found), code) == (page["entries"], 1000)
    build = f"/api/v1/state/shop/environments/dev/builds/by-name/site/executions/{execution}"
    assert shop["rita"].get(f"{build}/logs").status_code == 404
