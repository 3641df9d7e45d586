"""Jobs over HTTP: by hand, in lists, their logs by offset and live, their attachments."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from httpx_sse import connect_sse

from api.cli import client
from tests.api.conftest import FILES, FINISHED, Api
from tests.api.test_access import is_problem
from tests.support import PROJECT, SpecRepository, start, stop

# Number, id, key, …: design 14.7.
JOB = {"number", "id", "key", "state", "reason", "held", "created_at", "started_at", "finished_at", "tasks"}


def test_a_job_has_the_shape_of_the_design(api: Api) -> None:
    """Job, tasks, trials and scripts with their fields; a list shows the same without tasks."""
    job = api.run("two")
    assert set(job) >= JOB
    assert (job["key"], job["state"], job["reason"], job["held"]) == (
        "Build/shop/_/two",
        "passed",
        None,
        False,
    )
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert [task["name"] for task in job["tasks"]] == ["first", "second"]
    for task in job["tasks"]:
        assert set(task) >= {"name", "state", "reason", "trials"}
        (trial,) = task["trials"]
        assert set(trial) >= {"number", "state", "reason", "executor", "scripts"}
        assert (trial["number"], trial["state"], trial["executor"]) == (1, "passed", "Executor/local")
        (script,) = trial["scripts"]
        assert (script["state"], script["exit_status"]) == ("passed", 0)
        assert set(script) == {"name", "state", "exit_status"}
    listed = next(i for i in api.get("/reconciler/jobs")["items"] if i["number"] == job["number"])
    assert listed == {name: value for name, value in job.items() if name not in ("tasks", "issues")}
    assert job["issues"] == []


def test_a_failed_job_says_where(api: Api) -> None:
    """The exit status is at the script, the state at all above it, and `why` names the job."""
    job = api.run("fails")
    assert job["state"] == "failed"
    assert job["tasks"][0]["trials"][0]["scripts"][0]["exit_status"] == 3
    cause = api.get("/reconciler/why/Build/shop/_/fails")["causes"][0]
    assert cause["where"] == f"job/{job['number']}"
    api.running.wait_for(
        lambda c: c.get("/reconciler/resources/Build/shop/_/fails").json()["health"] == "Degraded"
    )


def test_lists_of_jobs_are_filtered_and_paged(api: Api) -> None:
    """Newest first; by key and state; `next` leads through all without loss or duplicates."""
    numbers = [api.run("ok")["number"] for _ in range(5)][::-1]
    found: list[int] = []
    after: int | None = None
    while True:
        params = {"key": "Build/shop/_/ok", "limit": 2} | ({"after": after} if after else {})
        page = api.get("/reconciler/jobs", **params)
        assert len(page["items"]) <= 2
        found += [item["number"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found[:5] == numbers
    assert sorted(set(found), reverse=True) == found
    api.run("fails")
    failed = api.get("/reconciler/jobs", state="failed")["items"]
    assert {item["state"] for item in failed} == {"failed"}
    assert api.get("/reconciler/jobs", key="Build/shop/_/nothing") == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("body", "status", "title", "words"),
    [
        ({"key": "Build/shop/_/nothing"}, 404, "NoSuchResource", "Build/shop/_/nothing"),
        ({"key": "Project/shop"}, 422, "NotRunnable", "Project"),
        ({"key": "Build/shop/_/off"}, 409, "Disabled", "off.yaml:1"),
        ({"key": "Build/shop/_/never"}, 409, "Invalid", "steersman why"),
        ({"key": "Build/shop/_/ok", "inputs": {"x": "1"}}, 422, "UnknownInput", "'x'"),
        ({"key": "Build/shop/_/inputs", "inputs": {"where": "nowhere"}}, 422, "InvalidInput", "here, there"),
        ({"key": "Build/shop/_/inputs"}, 422, "MissingInput", "where"),
        ({"key": "Build/shop/_/ok", "branch": "main"}, 422, "NoRepository", "no repo"),
        ({"key": "Build/shop/_/ok", "commit": "--help"}, 400, "BadRequest", "commit"),
        ({"key": "Build/shop/_/ok", "inputs": {"x": 1}}, 400, "BadRequest", "inputs"),
        ({"key": 7}, 400, "BadRequest", "key"),
        ({}, 400, "BadRequest", "key"),
        ({"key": "Build/shop/_/ok", "colour": "red"}, 400, "BadRequest", "colour"),
    ],
)
def test_a_trigger_that_cannot_be_is_told(
    api: Api, body: dict[str, Any], status: int, title: str, words: str
) -> None:
    """Status, a word for programs, and a sentence that names what is wrong; no job is made."""
    before = api.get("/reconciler/jobs", limit=1)["items"]
    answer = api.client.post("/reconciler/trigger", json=body)
    problem = is_problem(answer)
    assert (answer.status_code, problem["title"]) == (status, title)
    assert words in problem["detail"]
    assert api.get("/reconciler/jobs", limit=1)["items"] == before


def test_inputs_reach_the_script_as_they_are(api: Api) -> None:
    """Given ones and defaults, as environment: nothing of them is ever shell."""
    nasty = '$(id) `id` "; exit 7 #'
    job = api.run("inputs", inputs={"where": "there", "text": nasty})
    assert (job["state"], job["inputs"]) == ("passed", {"where": "there", "text": nasty})
    assert api.client.get(f"/reconciler/jobs/{job['number']}/log").text == f"there {nasty}\n"


def test_a_job_is_cancelled_once(api: Api) -> None:
    """202, then `aborted/cancelled`; cancelled again, or a passed one: 409; one that is not there: 404."""
    number = api.trigger("sleeps")
    api.running.job(number, "executing")
    early = api.client.post(f"/reconciler/jobs/{number}/retry")
    assert (early.status_code, is_problem(early)["title"]) == (409, "NotFinished")
    answer = api.client.post(f"/reconciler/jobs/{number}/cancel")
    assert (answer.status_code, answer.json()["number"]) == (202, number)
    job = api.running.job(number, *FINISHED)
    assert (job["state"], job["reason"]) == ("aborted", "cancelled")
    again = api.client.post(f"/reconciler/jobs/{number}/cancel")
    assert (again.status_code, is_problem(again)["title"]) == (409, "Finished")
    gone = api.client.post("/reconciler/jobs/987654/cancel")
    assert (gone.status_code, is_problem(gone)["title"]) == (404, "NoSuchJob")


def test_a_retry_is_a_new_job_of_the_same_version(api: Api) -> None:
    """Same specification, commit and inputs, also after the Build has changed."""
    first = api.run("inputs", inputs={"where": "here"})
    answer = api.client.post(f"/reconciler/jobs/{first['number']}/retry")
    assert answer.status_code == 202
    second = api.running.job(answer.json()["number"], *FINISHED)
    assert second["number"] > first["number"]
    assert second["id"] != first["id"]
    assert (second["state"], second["retry_of"]) == ("passed", first["number"])
    assert second["inputs"] == first["inputs"]
    assert second["trigger"] == {"type": "retry", "of": first["number"]}
    assert api.client.post("/reconciler/jobs/987654/retry").status_code == 404


def test_a_log_is_read_from_any_byte(api: Api) -> None:
    """Every offset gives the rest, also inside a character; behind the end there is nothing."""
    number = api.run("ok")["number"]
    path = f"/reconciler/jobs/{number}/log"
    whole = api.client.get(path)
    assert whole.content == "hello\nwörld\n".encode()
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    for offset in range(len(whole.content) + 2):
        assert api.client.get(path, params={"offset": offset}).content == whole.content[offset:]
    assert api.client.get(path, params={"offset": 2**61}).content == b""
    one = api.client.get(path, params={"task": "main", "trial": 1})
    assert one.content == whole.content
    wrong = api.client.get(path, params={"task": "nothing"})
    assert (wrong.status_code, is_problem(wrong)["title"]) == (404, "NoSuchLog")


def test_logs_of_several_tasks_stand_under_headings(api: Api) -> None:
    """In the order in which they ran; one task alone has no heading."""
    number = api.run("two")["number"]
    whole = api.client.get(f"/reconciler/jobs/{number}/log").text
    assert whole == "==> first #1 run <==\none\n==> second #1 run <==\ntwo\n"
    second = api.client.get(f"/reconciler/jobs/{number}/log", params={"task": "second"}).text
    assert second == "two\n"


def _stream(
    api: Api, number: int, stop: int | None = None, last: str | None = None
) -> tuple[list[tuple[str, str]], dict[str, Any] | None]:
    """(id, text) of up to `stop` messages of a live log, and what `end` said."""
    found: list[tuple[str, str]] = []
    headers = {"Last-Event-ID": last} if last else {}
    with (
        api.running.client() as client,
        connect_sse(client, "GET", f"/reconciler/jobs/{number}/log/stream", headers=headers) as source,
    ):
        assert source.response.headers["content-type"].startswith("text/event-stream")
        for message in source.iter_sse():
            if message.event == "end":
                return found, json.loads(message.data)
            found.append((message.id, json.loads(message.data)["text"]))
            if stop is not None and len(found) >= stop:
                return found, None
    raise AssertionError(f"the stream ended without its end: {found}")


def test_a_live_log_is_resumed_without_loss_or_duplicates(api: Api) -> None:
    """Broken off again and again while a script writes: ids are offsets, characters are whole, `end` comes."""
    number = api.trigger("slow")
    api.running.job(number, "executing")
    found: list[tuple[str, str]] = []
    end = None
    while end is None:
        more, end = _stream(api, number, 3, found[-1][0] if found else None)
        found += more
    assert end == {"state": "passed", "reason": None}
    expected = "".join(f"{i}-häßlich-✓-𝄞\n" for i in range(1, 41))
    assert "".join(text for _, text in found) == expected
    assert len(found) > 1, "it was not live"
    position = 0
    for id_, text in found:
        position += len(text.encode())
        assert id_ == str(position)
    assert api.client.get(f"/reconciler/jobs/{number}/log").text == expected


def test_a_live_log_of_a_finished_job_is_whole_from_any_message(api: Api) -> None:
    """Headings count as bytes; every id leads on to exactly the rest."""
    number = api.run("two")["number"]
    whole = api.client.get(f"/reconciler/jobs/{number}/log").content
    found, end = _stream(api, number)
    assert end == {"state": "passed", "reason": None}
    assert "".join(text for _, text in found).encode() == whole
    for id_, _ in found:
        rest, _ = _stream(api, number, None, id_)
        assert "".join(text for _, text in rest).encode() == whole[int(id_) :]


def test_a_live_log_ends_with_the_state_of_a_cancelled_job(api: Api) -> None:
    """Somebody follows, somebody else cancels: the stream ends and says so."""
    number = api.trigger("sleeps")
    api.running.job(number, "executing")
    found, end = _stream(api, number, 1)
    assert (found, end) == ([("3", "up\n")], None)
    assert api.client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
    found, end = _stream(api, number)
    assert "".join(text for _, text in found).startswith("up\n")
    assert end == {"state": "aborted", "reason": "cancelled"}


@pytest.mark.parametrize("last", ["x", "-1", "1e3", "9" * 30, "٣", "1.5", "%00"])
def test_a_bad_last_event_id_begins_anew(api: Api, last: str) -> None:
    """It is not ours, so it is not believed."""
    number = api.run("ok")["number"]
    headers = [(b"Last-Event-ID", last.encode())]
    answer = api.client.get(f"/reconciler/jobs/{number}/log/stream", headers=headers)
    assert answer.status_code == 200
    assert "hello" in answer.text


def test_attachments_are_downloads(api: Api) -> None:
    """Listed with size and digest; served whole as a download that no browser shows; names are quoted."""
    number = api.run("files")["number"]
    path = f"/reconciler/jobs/{number}/attachments"
    items = {item["path"]: item for item in api.get(path)["items"]}
    assert set(items) == {"out/sub/a.txt", "out/page.html", "out/sp ace.txt"}
    for name, item in items.items():
        answer = api.client.get(f"{path}/{name}")
        assert answer.status_code == 200
        assert len(answer.content) == item["size"]
        assert item["digest"] == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith("attachment")
        assert name.rsplit("/", 1)[-1] in unquote(unquote(disposition))
        assert "%25" not in disposition
    assert api.client.get(f"{path}/out/sub/a.txt", params={"task": "main", "trial": 1}).text == "data\n"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "out",
        "out/",
        "%00",
    ],
)
def test_an_attachment_that_is_not_kept_is_404(api: Api, name: str) -> None:
    """Only names of the list are served, whatever the path looks like."""
    number = api.run("files")["number"]
    with api.running.client() as client:
        request = client.build_request("GET", f"/reconciler/jobs/{number}/attachments/x")
        request.url = httpx.URL(f"{api.url}/reconciler/jobs/{number}/attachments/").copy_with(
            raw_path=f"/reconciler/jobs/{number}/attachments/{name}".encode()
        )
        answer = client.send(request)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    is_problem(answer)


def test_a_job_that_is_not_there_is_404_everywhere(api: Api) -> None:
    """Job, log, live log, attachments."""
    for path in ("", "/log", "/log/stream", "/attachments", "/attachments/x"):
        answer = api.client.get(f"/reconciler/jobs/987654{path}")
        assert (answer.status_code, is_problem(answer)["title"]) == (404, "NoSuchJob"), path


def test_events_are_paged_and_live(api: Api) -> None:
    """`next` leads through all; a follower gets what is new at once, and goes on after a broken line."""
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = api.get("/reconciler/events", after=after, limit=7)
        seen += [event["seq"] for event in page["items"]]
        after = page["next"]
    assert seen == list(range(1, len(seen) + 1))
    with (
        api.running.client() as client,
        connect_sse(client, "GET", "/reconciler/events/stream", params={"after": seen[-1]}) as source,
    ):
        made = api.token()
        for message in source.iter_sse():
            event = json.loads(message.data)
            if event["kind"] == "token-created" and made["id"] in message.data:
                break
        assert (message.event, message.id) == ("token-created", str(event["seq"]))
        assert event["actor"] == "User/admin"
        assert made["token"] not in message.data
    with (
        api.running.client() as client,
        connect_sse(
            client, "GET", "/reconciler/events/stream", headers={"Last-Event-ID": str(event["seq"] - 1)}
        ) as source,
    ):
        assert next(source.iter_sse()).id == message.id


class Line:
    """A port that leads to one daemon after the other, and breaks after as many bytes as one likes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.target: int | None = None
        self.limit: int | None = None
        self.requests: list[str] = []
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Nobody answers any more."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        """Both ways, until the answer was cut off at `limit` bytes; the next one gets further."""
        limit = self.limit
        self.limit = None if limit is None else limit + 100
        with near, contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.target or 9)) as far:
                self._ends.append(far)
                threading.Thread(target=self._ask, args=(near, far), daemon=True).start()
                sent = 0
                while (chunk := far.recv(512)) and (limit is None or sent < limit):
                    near.sendall(chunk if limit is None else chunk[: limit - sent])
                    sent += len(chunk)
            near.shutdown(socket.SHUT_RDWR)  # a close alone wakes no thread that reads

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        asked = b""
        with contextlib.suppress(OSError):
            while chunk := near.recv(65536):
                far.sendall(chunk)
                asked += chunk
        self.requests.append(asked.decode())


@pytest.fixture
def line() -> Iterator[Line]:
    """A line that leads nowhere yet."""
    made = Line()
    yield made
    made.close()


def _port(url: str) -> int:
    port = httpx.URL(url).port
    assert port is not None
    return port


def test_following_goes_on_over_a_broken_line(api: Api, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off every few hundred bytes, in the middle of messages: no character is lost or repeated, told once."""
    monkeypatch.setattr(client, "_RETRY", 0.01)
    line.target, line.limit = _port(api.url), 500
    number = api.trigger("slow")
    done = api.cli("logs", str(number), "-f", STEERSMAN_SERVER=line.url)
    assert done.stdout == "".join(f"{i}-häßlich-✓-𝄞\n" for i in range(1, 41))
    assert done.returncode == 0
    assert len(line.requests) > 2, "it was not broken"
    assert done.stderr.count("trying again for a minute") == 1
    assert done.stderr.endswith(f"job {number} passed\n")
    told = ["last-event-id: " in asked.lower() for asked in line.requests]
    assert told == sorted(told)  # from the first message on, and always after it
    assert told[-1]


def test_following_goes_on_when_the_daemon_is_started_again(tmp_path: Path, line: Line) -> None:
    """Killed while its script writes: the script goes on, and so does `trigger -f` with the new daemon."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"all.yaml": PROJECT + "---\n" + FILES["slow.yaml"].replace("seq 1 40", "seq 1 100")})
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1"}
    running = start(repo.path, tmp_path / "data", **settings)
    try:
        running.wait_for(lambda c: c.get("/reconciler/resources/Build/shop/_/slow").status_code == 200)
        line.target = _port(running.url)
        verb = ["trigger", "Build/shop/_/slow", "-f", "--server", line.url, "--token", running.token]
        command = [sys.executable, "-c", "from api.cli import main; main()", *verb]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
            try:
                running.job(1, "executing")
                time.sleep(1)
                running.kill()
                time.sleep(1)
                running = start(repo.path, tmp_path / "data", **settings)
                line.target = _port(running.url)
                out, err = (part.decode() for part in follower.communicate(timeout=60))
            finally:
                follower.kill()
    finally:
        stop(running)
    assert out.split("\n", 1)[1] == "".join(f"{i}-häßlich-✓-𝄞\n" for i in range(1, 101))
    assert err.count("trying again for a minute") == 1
    assert (follower.returncode, err.endswith("job 1 passed\n")) == (0, True)


def test_following_gives_up_with_a_sentence(api: Api, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server stays away: what was shown stays, exit 1, no traceback."""
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    line.target = _port(api.url)
    number = api.trigger("sleeps")
    api.running.job(number, "executing")
    threading.Timer(1.0, line.close).start()
    line.limit = 500
    done = api.cli("logs", str(number), "-f", STEERSMAN_SERVER=line.url)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert "trying again" in first
    assert last.startswith(f"steersman: cannot reach {line.url} any more: ")
    api.client.post(f"/reconciler/jobs/{number}/cancel")


def test_following_a_task_says_which(api: Api) -> None:
    """`end` carries the state of what was selected, and so does the last line."""
    number = api.run("two")["number"]
    done = api.cli("logs", str(number), "-f", "--task", "second")
    assert (done.stdout, done.stderr) == ("two\n", f"job {number} second passed\n")
