"""Logs over HTTP and on the command line: parts, codings, times, search, and streams that stay alive."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import zstandard
from litestar.response import ServerSentEventMessage

from api.live import kept_alive
from tests.api.conftest import Api, build
from tests.api.test_access import is_problem as problem_of
from tests.support import PROJECT, SpecRepository, process

LINES = "".join(f"line {n} of 30000, Übung\n" for n in range(30_000)).encode()
FILES = {
    "project.yaml": PROJECT,
    "big.yaml": build("big", "[{name: main, run: 'seq 0 29999 | sed \"s/.*/line & of 30000, Übung/\"'}]"),
    "small.yaml": build("small", "[{name: main, run: 'echo hello; echo needle'}]"),
    "two.yaml": build(
        "two", "[{name: a, run: 'echo first needle'}, {name: b, needs: [a], run: 'echo; echo second needle'}]"
    ),
    "runs.yaml": build("runs", "[{name: main, run: 'seq 1 3000; sleep 600'}]", "  concurrency: allow\n"),
    "times.yaml": build("times", "[{name: main, run: 'echo early; sleep 6; echo late; sleep 600'}]"),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A daemon whose jobs print a lot."""
    folder = tmp_path_factory.mktemp("logs")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    settings = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_STOP_GRACE_SECONDS": "0.5"}
    with process(repo.path, folder / "data", **settings) as running, running.client() as client:
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == repo.head()
        )
        yield Api(running, repo, client)


@pytest.fixture(scope="module")
def big(logs: Api) -> str:
    """The log of a finished job of 800 KB, which has been compressed."""
    number = logs.run("big")["number"]
    logs.running.wait_for(lambda _: list((logs.running.data / "runs").glob("*/*/log.zst")))
    return f"/reconciler/jobs/{number}/log"


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return problem_of(answer)


def wire(logs: Api, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer and its body as it came over the wire."""
    own = {"Accept-Encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
    with logs.client.stream("GET", path, headers=own) as answer:
        return answer, b"".join(answer.iter_raw())


def running_job(logs: Api, name: str, ending: str) -> str:
    """A job that goes on after it has printed."""
    path = f"/reconciler/jobs/{logs.trigger(name)}/log"
    logs.running.wait_for(lambda c: c.get(path).text.endswith(ending))
    return path


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-0", 0, 1),
        ("5-70000", 5, 70001),
        ("300000-", 300_000, None),
        ("-9", -9, None),
        ("1-99999999", 1, None),
    ],
)
def test_a_part_of_a_finished_log(logs: Api, big: str, asked: str, start: int, end: int | None) -> None:
    answer, body = wire(logs, big, Range=f"bytes={asked}", Accept_Encoding="zstd")
    expected = LINES[start:end]
    first = start % len(LINES)
    assert (answer.status_code, body) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(LINES)}"
    assert answer.headers["content-length"] == str(len(expected))
    assert "content-encoding" not in answer.headers


def test_ranges_count_from_the_offset(logs: Api, big: str) -> None:
    answer, body = wire(logs, f"{big}?offset=700000", Range="bytes=10-19")
    assert body == LINES[700_010:700_020]
    assert answer.headers["content-range"] == f"bytes 10-19/{len(LINES) - 700_000}"
    assert answer.headers["x-log-offset"] == "700000"


def test_several_ranges_and_nonsense_are_answered_with_everything(logs: Api, big: str) -> None:
    for asked in ("bytes=0-1,5-6", "bytes=9-1", "lines=1-2", "bytes=x"):
        answer, body = wire(logs, big, Range=asked)
        assert (answer.status_code, body) == (200, LINES)
        assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("path", ["", "?offset=99999999"])
def test_a_part_that_is_not_there_is_416(logs: Api, big: str, path: str) -> None:
    answer = logs.client.get(big + path, headers={"Range": f"bytes={len(LINES)}-"})
    size = 0 if path else len(LINES)
    assert "bytes" in is_problem(answer, 416)["detail"]
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_part_of_a_running_log_has_no_total(logs: Api) -> None:
    """Nor is there an entity tag, so that a condition never holds."""
    path = running_job(logs, "runs", "3000\n")
    answer, body = wire(logs, path, Range="bytes=2-3")
    assert (answer.status_code, body, answer.headers["content-range"]) == (206, b"2\n", "bytes 2-3/*")
    assert "etag" not in answer.headers
    answer, _ = wire(logs, path, Range="bytes=2-3", If_Range='"x"')
    assert answer.status_code == 200
    answer, body = wire(logs, path, Range="bytes=-5")
    assert body == b"3000\n"
    assert logs.client.get(path, headers={"Range": "bytes=99999999-"}).status_code == 416


def test_an_entity_tag_holds_a_part_together(logs: Api, big: str) -> None:
    """A finished text has one for each coding; with the right one parts go on, and nothing is sent twice."""
    tag = wire(logs, big)[0].headers["etag"]
    assert wire(logs, big, Range="bytes=0-3", If_Range=tag)[0].status_code == 206
    for other in ('"other"', f"W/{tag}", "Wed, 01 Jul 2026 00:00:00 GMT"):
        assert wire(logs, big, Range="bytes=0-3", If_Range=other)[0].status_code == 200
    packed = wire(logs, big, Accept_Encoding="zstd")[0].headers["etag"]
    assert packed != tag
    for known in (tag, packed, f'"x", W/{tag}', "*"):
        answer, body = wire(logs, big, If_None_Match=known)
        assert (answer.status_code, body, answer.headers["etag"]) == (304, b"", tag)
    assert wire(logs, big, If_None_Match='"x"')[0].status_code == 200


@pytest.mark.parametrize("offset", [0, 1, 300_000])
def test_a_log_is_compressed_on_the_way(logs: Api, big: str, offset: int) -> None:
    """The coding that the client likes best; proxies are told."""
    path = f"{big}?offset={offset}"
    answer, body = wire(logs, path, Accept_Encoding="gzip;q=0.9, zstd;q=0.5")
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(body) == LINES[offset:]
    answer, body = wire(logs, path, Accept_Encoding="gzip, zstd")
    assert answer.headers["content-encoding"] == "zstd"
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    assert reader.readall() == LINES[offset:]
    assert len(body) < len(LINES) / 3
    answer, body = wire(logs, path, Accept_Encoding="br")
    assert "content-encoding" not in answer.headers
    assert (body, answer.headers["vary"]) == (LINES[offset:], "Accept-Encoding")


def test_stored_frames_are_sent_as_they_are(logs: Api, big: str) -> None:
    answer, body = wire(logs, big, Accept_Encoding="zstd")
    stored = next(iter((logs.running.data / "runs").glob("*/*/log.zst"))).read_bytes()
    assert stored.startswith(body)
    assert answer.headers["content-length"] == str(len(body))
    assert int.from_bytes(stored[len(body) :][:4], "little") == 0x184D2A5E


def test_small_texts_and_texts_under_headings_are_sent_plainly(logs: Api) -> None:
    number = logs.run("two")["number"]
    answer, body = wire(logs, f"/reconciler/jobs/{number}/log", Accept_Encoding="zstd")
    assert "content-encoding" not in answer.headers
    assert body == b"==> a #1 run <==\nfirst needle\n==> b #1 run <==\n\nsecond needle\n"


def test_a_time_picks_what_was_printed_since(logs: Api) -> None:
    path = running_job(logs, "times", "early\n")
    between = datetime.now(UTC) + timedelta(seconds=1.5)  # times are told to the second
    now = logs.running.wait_for(lambda c: c.get(path).text == "early\nlate\n" and datetime.now(UTC))

    def since(moment: datetime) -> str:
        answer = logs.client.get(path, params={"since": moment.isoformat()})
        assert answer.status_code == 200
        assert answer.text == "early\nlate\n"[int(answer.headers["x-log-offset"]) :]
        return answer.text

    assert since(now - timedelta(hours=1)) == "early\nlate\n"
    logs.running.wait_for(lambda _: since(between) == "late\n")
    assert since(now + timedelta(seconds=9)) == ""
    assert logs.client.get(path, params={"since": "2026-07-01T12:00:00Z", "offset": 7}).text in ("", "ate\n")
    number = path.split("/")[3]
    done = logs.cli("logs", number, "--since", "1h")
    assert done.stdout == "early\nlate\n"
    assert logs.cli("logs", number, "--since", "2099-01-01").stdout == ""


@pytest.mark.parametrize("since", ["yesterday", "2026-07-01T12:00:00", "", "9" * 40])
def test_a_time_that_is_none_is_400(logs: Api, big: str, since: str) -> None:
    is_problem(logs.client.get(big, params={"since": since}), 400)
    is_problem(logs.client.get(f"{big}/stream", params={"since": since}), 400)


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_far_away_is_a_time(logs: Api, big: str, since: str) -> None:
    assert len(logs.client.get(big, params={"since": since}).content) in (0, len(LINES))


def test_a_log_is_searched(logs: Api, big: str) -> None:
    """Pages lead through all lines; what is found stands at its offset."""
    found: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        page = logs.get(f"{big}/search", q="99 OF", ignore_case=True, limit=7, offset=offset)
        assert len(page["items"]) <= 7
        found += page["items"]
        offset = page["next"]
    assert [item["line"] for item in found] == [n + 1 for n in range(30_000) if n % 100 == 99]
    for item in found:
        assert LINES[item["offset"] :].split(b"\n", 1)[0].decode() == item["text"]
    assert {(item["task"], item["trial"], item["script"]) for item in found} == {("main", 1, "run")}
    assert logs.get(f"{big}/search", q="99 OF")["items"] == []
    assert logs.get(f"{big}/search", q="übung", ignore_case=True, limit=1)["items"][0]["line"] == 1


def test_a_search_can_be_narrowed(logs: Api) -> None:
    number = logs.run("two")["number"]
    path = f"/reconciler/jobs/{number}/log/search"
    both = logs.get(path, q="needle")["items"]
    assert [(i["task"], i["line"], i["text"]) for i in both] == [
        ("a", 1, "first needle"),
        ("b", 2, "second needle"),
    ]
    text = logs.client.get(f"/reconciler/jobs/{number}/log").content
    assert [text[i["offset"] :].split(b"\n")[0].decode() for i in both] == [i["text"] for i in both]
    assert [i["task"] for i in logs.get(path, q="needle", task="b", trial=1, script="run")["items"]] == ["b"]
    is_problem(logs.client.get(path, params={"q": "needle", "task": "z"}), 404)


@pytest.mark.parametrize(
    "params",
    [{}, {"q": ""}, {"q": "x" * 201}, {"q": "a\nb"}, {"q": "a", "limit": 0}, {"q": "a", "offset": -1}],
)
def test_a_search_that_cannot_be_is_400(logs: Api, big: str, params: dict[str, Any]) -> None:
    is_problem(logs.client.get(f"{big}/search", params=params), 400)


@pytest.mark.parametrize("bad", ["", "/stream", "/search?q=x"])
def test_logs_of_no_job_are_404(logs: Api, bad: str) -> None:
    is_problem(logs.client.get(f"/reconciler/jobs/999999/log{bad}"), 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=" + "9" * 5000 + "-"},
        {"Range": "bytes=\xff-"},
        {"Accept-Encoding": "gzip;q=" + "1" * 500},
        {"Accept-Encoding": "," * 5000},
        {"If-Range": '"' * 99, "Range": "bytes=0-1"},
        {"If-None-Match": "\xff" * 99},
    ],
)
def test_poisoned_headers_are_never_a_fault_of_the_server(
    logs: Api, big: str, headers: dict[str, str]
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = logs.client.get(big, headers=raw)
    assert (answer.status_code, answer.content) == (200, LINES)


def test_a_client_that_goes_away_is_let_go(logs: Api, big: str) -> None:
    """In the middle of an answer; the next one is served."""
    where = urlsplit(logs.url)
    for coding in ("identity", "gzip", "zstd"):
        with socket.create_connection((where.hostname, where.port)) as line:
            request = f"GET {big} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {logs.running.token}\r\n"
            line.sendall(f"{request}Accept-Encoding: {coding}\r\n\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 200")
    assert wire(logs, big)[1] == LINES
    assert "request-crashed" not in logs.running.log()


def test_the_command_line_searches(logs: Api) -> None:
    number = str(logs.run("two")["number"])
    done = logs.cli("logs", number, "--search", "NEEDLE", "--ignore-case")
    assert (done.returncode, done.stdout) == (0, "a #1 run:1: first needle\nb #1 run:2: second needle\n")
    done = logs.cli("logs", number, "--search", "second", "--task", "b", "--output", "json")
    assert [item["text"] for item in json.loads(done.stdout)["items"]] == ["second needle"]
    done = logs.cli("logs", number, "--search", "NEEDLE")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert logs.cli("logs", number, "--script", "run", "--task", "a").stdout == "first needle\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--search", "x", "-f"), "without --follow"),
        (("--search", "x", "--since", "1h"), "without --since"),
        (("--ignore-case",), "--search TEXT"),
        (("--since", "soon"), "--since: 'soon' is no time"),
    ],
)
def test_options_that_do_not_go_together_are_told(logs: Api, arguments: tuple[str, ...], words: str) -> None:
    done = logs.cli("logs", "1", *arguments)
    assert done.returncode == 1
    assert words in done.stderr


async def allowed() -> bool:
    """As for who may follow on."""
    return True


def test_a_stream_ends_with_the_right_to_it() -> None:
    """Before the next message, and where there is none, at the next comment."""
    closed, answers = [], iter([True, True, False])

    async def source(pause: float) -> AsyncGenerator[ServerSentEventMessage, None]:
        try:
            for number in range(10):
                yield ServerSentEventMessage(data=str(number))
                await asyncio.sleep(pause)
        finally:
            closed.append(pause)

    async def until_it_is_over() -> bool:
        return next(answers)

    async def work(pause: float) -> list[bytes]:
        return [
            m.encode() async for m in kept_alive(source(pause), until_it_is_over, asyncio.Event(), every=0.1)
        ]

    assert asyncio.run(work(0)) == [b"data: 0\r\n\r\n", b"data: 1\r\n\r\n"]
    answers = iter([True, True, False])
    assert asyncio.run(work(60)) == [b"data: 0\r\n\r\n", b": keep-alive\r\n\r\n"]
    assert closed == [0, 60]


def test_a_quiet_stream_is_kept_alive() -> None:
    """By comments, which clients pass over; what comes is neither delayed nor lost, and the source is closed."""
    closed = []

    async def source() -> AsyncGenerator[ServerSentEventMessage, None]:
        try:
            yield ServerSentEventMessage(data="one")
            await asyncio.sleep(0.25)
            yield ServerSentEventMessage(data="two")
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def work() -> list[bytes]:
        seen: list[bytes] = []
        async with aclosing(kept_alive(source(), allowed, asyncio.Event(), every=0.1)) as live:
            async for message in live:
                seen.append(message.encode())
                if len(seen) >= 5:
                    break
        return seen

    comment = b": keep-alive\r\n\r\n"
    assert asyncio.run(work()) == [b"data: one\r\n\r\n", comment, comment, b"data: two\r\n\r\n", comment]
    assert closed == [True]


def test_a_stream_that_breaks_says_so() -> None:
    async def source() -> AsyncGenerator[ServerSentEventMessage, None]:
        yield ServerSentEventMessage(data="one")
        raise RuntimeError("broken")

    async def work() -> None:
        async for _ in kept_alive(source(), allowed, asyncio.Event()):
            pass

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(work())


def test_a_live_stream_can_begin_at_a_time(logs: Api, big: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with logs.client.stream("GET", f"{big}/stream", params={"since": later}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[0] == "event: end"
