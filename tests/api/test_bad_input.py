"""Bad input in both served APIs of jobs: the error body of the API that was asked, and never a fault of the server.

Texts, numbers and bodies that nobody means well, manifests and project configurations with mistakes, ids of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.cider.configured import Configured, cases
from tests.api.cider.conftest import A
from tests.api.srht.conftest import M, World, absent, refused, tasks
from tests.support import eventually_now

__all__ = ["cases"]

JSON = {"Content-Type": "application/json"}
DEEP = 30_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "broken": b'{"manifest": ',
    "not UTF-8": b'{"manifest": "\xff\xfe"}',
    "half a surrogate pair": b'{"manifest": "\\ud800", "tree_id": "\\ud800", "key": "\\ud800", "jobs": "\\ud800"}',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "a word": b'"x"',
    "deep lists": b'{"manifest":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep mappings": b'{"manifest":' * DEEP + b"1" + b"}" * DEEP,
    "lists too deep to be shown": b'{"manifest":' + b"[" * 955 + b"]" * 955 + b"}",
    "just too deep": b'{"manifest":' + b"[" * 100 + b"]" * 100 + b"}",
    "a number of ten thousand digits": b'{"manifest": ' + b"9" * 10_000 + b"}",
    "a huge exponent": b'{"manifest": 1e999}',
    "NaN": b'{"manifest": NaN}',
    "odd keys": b'{"": 1, "__class__": 2, "\\u0000": 3}',
    "two values": b"{}{}",
}
VALUES = (
    b"%00",
    b"%FF",
    b"%C3%28",
    b"%ED%A0%80",
    b"9" * 30,
    b"9" * 5000,
    b"-1",
    b"1e3",
    b"%27%22%3B--",
    b"%0D%0A",
    b"%2e%2e%2f",
    b"a%2fb",
)


@pytest.fixture(autouse=True)
def sound(cases: Configured) -> Iterator[None]:
    """Whatever was sent, no request has crashed, and the daemon still answers."""
    data = cases.running.data
    place = data.parent / f"{data.name}.err"
    begun = len(place.read_text(errors="replace"))
    yield
    assert cases.native.get("/health").status_code == 200
    assert "request-crashed" not in place.read_text(errors="replace")[begun:]


def told(answer: httpx.Response, *statuses: int) -> str:
    """The message of a refusal of Cider-CI."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert body.keys() in ({"message"}, {"message", "error"})
    assert body.get("error", body["message"]) == body["message"]
    assert "Traceback" not in answer.text
    assert body["message"]
    found: str = body["message"]
    return found


def of_srht(answer: httpx.Response) -> None:
    """A refusal of builds.sr.ht, whichever."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"errors"}
    assert body["errors"]
    assert all(error["reason"] and error.keys() <= {"field", "reason"} for error in body["errors"])
    assert "Traceback" not in answer.text


def raw(client: httpx.Client, method: str, target: bytes) -> httpx.Response:
    """A request whose path and query are sent as they are."""
    request = client.build_request(method, "/")
    request.url = request.url.copy_with(raw_path=target)
    return client.send(request)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none(cases: Configured, name: str) -> None:
    """Every call that takes a body; nothing is made."""
    before = cases["jo"].get("/api/jobs").json()["total"]
    for path in ("/api/jobs", "/api/job-group"):
        of_srht(cases["jo"].post(path, content=BODIES[name], headers=JSON))
    assert told(cases["bob"].post(f"{A}/jobs/create", content=BODIES[name], headers=JSON), 422)
    assert cases["jo"].get("/api/jobs").json()["total"] == before


@pytest.mark.parametrize("name", ["broken", "a list", "not UTF-8", "a word", "two values"])
def test_the_fault_of_a_body_is_nobodys_field(cases: Configured, name: str) -> None:
    """It is no JSON, or no object."""
    assert refused(cases["jo"].post("/api/jobs", content=BODIES[name], headers=JSON), 400)


@pytest.mark.parametrize(
    "name", ["deep lists", "deep mappings", "lists too deep to be shown", "just too deep"]
)
def test_a_body_that_is_nested_too_deeply(cases: Configured, name: str) -> None:
    """It is told as the fault of the body, by both."""
    (reason,) = refused(cases["jo"].post("/api/jobs", content=BODIES[name], headers=JSON), 400)
    assert "nested" in reason
    assert "nested" in told(cases["bob"].post(f"{A}/jobs/create", content=BODIES[name], headers=JSON), 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-yaml", "multipart/form-data; boundary=x", "x"])
def test_a_body_of_another_type(cases: Configured, kind: str) -> None:
    """400 in the one, 415 in the other, with the type that is wanted."""
    headers = {"Content-Type": kind}
    (reason,) = refused(cases["jo"].post("/api/jobs", content=M.encode(), headers=headers), 400)
    assert "application/json" in reason
    assert "application/json" in told(
        cases["bob"].post(f"{A}/jobs/create", content=b"{}", headers=headers), 415
    )


FIELDS: dict[str, tuple[Any, str]] = {
    "a manifest with a NUL": ({"manifest": "image: a\0b\ntasks: [{a: b}]\n"}, "manifest"),
    "a note with a NUL": ({"note": "a\0b"}, "note"),
    "a note that is a list": ({"note": ["a"]}, "note"),
    "a note that is too long": ({"note": "x" * 4097}, "note"),
    "tags out of the alphabet": ({"tags": ["Ä", "a b", "A", "", "a\0", "\U0001f600"]}, "tags"),
    "tags that are numbers": ({"tags": [1, None, True]}, "tags"),
    "tags that are a mapping": ({"tags": {"a": 1}}, "tags"),
    "too many tags": ({"tags": ["a"] * 1001}, "tags"),
    "a reader with a slash": ({"access:read": ["../etc"]}, "access:read"),
    "a writer for everybody": ({"access:write": ["*"]}, "access:write"),
    "an execute that is a number": ({"execute": 1}, "execute"),
    "secrets that are null": ({"secrets": None}, "secrets"),
    "triggers that are a number": ({"triggers": 9}, "triggers"),
    "a trigger that is none": ({"triggers": [7]}, "triggers[0]"),
    "a trigger without an action": ({"triggers": [{"condition": "always"}]}, "triggers[0].action"),
    "a trigger of a file": (
        {"triggers": [{"action": "webhook", "condition": "always", "url": "file:///etc/passwd"}]},
        "triggers[0].url",
    ),
    "a trigger with a NUL": (
        {"triggers": [{"action": "email", "condition": "always", "to": "a@b.c", "x": "\0"}]},
        "triggers",
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_wrong(cases: Configured, name: str) -> None:
    """Told with its name, and nothing else is."""
    more, field = FIELDS[name]
    assert refused(cases["jo"].post("/api/jobs", json={"manifest": M} | more), 400, field)


MANIFESTS: dict[str, tuple[str, str]] = {
    "no image": ("tasks: [{a: b}]", "image is required"),
    "an image that is a list": ("image: [a]\ntasks: [{a: b}]", "image must be a string"),
    "no tasks": ("image: a", "tasks is required"),
    "tasks that are a mapping": ("image: a\ntasks: {a: b}", "tasks must be a list of tasks"),
    "a task's name": ("image: a\ntasks: [{A.b: c}]", "128 characters a-z, 0-9, _ and -"),
    "a task without a script": ("image: a\ntasks: [{a: }]", "tasks[0].a may not be null"),
    "two tasks in one": ("image: a\ntasks: [{a: b, c: d}]", "exactly one name, not 2: a, c"),
    "a task twice": ("image: a\ntasks: [{a: b}, {a: c}]", "is a task's name already"),
    "packages that are a text": ("image: a\npackages: b\ntasks: [{a: b}]", "packages must be a list"),
    "a source that is a number": ("image: a\nsources: [1]\ntasks: [{a: b}]", "sources[0] must be a string"),
    "an environment of mappings": (
        "image: a\nenvironment: {A: {b: c}}\ntasks: [{a: b}]",
        "environment.A must be a string, a number, a boolean or a list, not a mapping",
    ),
    "a secret's name": ("image: a\nsecrets: [x]\ntasks: [{a: b}]", "secrets[0] must be a uuid or a name"),
    "artifacts of one name": (
        "image: a\nartifacts: [x/a, y/a]\ntasks: [{a: b}]",
        "artifacts[1] has the name",
    ),
    "a trigger": (
        "image: a\ntriggers: [{action: irc, condition: always}]\ntasks: [{a: b}]",
        "triggers[0].action",
    ),
    "oauth": ("image: a\noauth: [x]\ntasks: [{a: b}]", "oauth must be a string"),
    "a shell": ("image: a\nshell: maybe\ntasks: [{a: b}]", "shell must be true or false"),
    "no YAML": ("image: [\n", "not valid YAML"),
    "a tab": ("image: a\n\ttasks: []", "tab"),
    "two documents": ("image: a\ntasks: [{a: b}]\n---\nimage: a", "a manifest is one document"),
    "a tag of a language": ("image: !!python/object:os.system a\ntasks: [{a: b}]", "the tag"),
    "deep": ("image: a\nenvironment: {A: " + "[" * 5000 + "]" * 5000 + "}", "nested deeper"),
    "itself": ("image: a\ntasks: &a [*a]", "alias"),
    "many aliases": (
        "a: &a [x, x]\n" + "".join(f"b{n}: [{', '.join(['*a'] * 50)}]\n" for n in range(50)),
        "alias",
    ),
    "a control character": ('image: a\ntasks: [{a: "b\\0"}]', "NUL"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_with_a_mistake(cases: Configured, name: str) -> None:
    """The reason names the line and what is wrong there."""
    text, part = MANIFESTS[name]
    reasons = refused(cases["jo"].post("/api/jobs", json={"manifest": text}), 400, "manifest")
    assert any(part in reason and reason.startswith("line ") for reason in reasons), reasons
    assert all("\n" not in reason and len(reason) < 400 for reason in reasons)


def test_numbers_that_no_shell_holds(cases: Configured) -> None:
    """They are texts, as they stand there."""
    digits = "9" * 5000
    text = tasks(f'test "$BIG" = {digits}', more=f"environment: {{BIG: {digits}, INF: .inf, EXP: 1e999}}\n")
    assert cases.run(text)["status"] == "success"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value[:12]))
@pytest.mark.parametrize("who", ["jo", "bob"])
def test_odd_bytes_in_paths_and_queries(cases: Configured, who: str, value: bytes) -> None:
    """Neither a fault of the server nor another API's error body."""
    client = cases[who]
    for target in (
        b"/api/jobs/@",
        b"/api/jobs/@/artifacts",
        b"/api/jobs/@/manifest",
        b"/api/job-group/@",
        b"/logs/@/log",
        b"/logs/1/@/log",
    ):
        of_srht(raw(client, "GET", target.replace(b"@", value)))
    listed = raw(client, "GET", b"/api/jobs?start=" + value)
    assert listed.status_code in (200, 400)
    if listed.status_code == 400:
        refused(listed, 400, "start")
    for target in (
        b"jobs/@",
        b"jobs/@/stats",
        b"jobs/@/tasks/",
        b"tasks/@",
        b"tasks/@/trials/",
        b"trials/@",
        b"scripts/@",
        b"commits/@",
        b"job-specifications/@",
        b"tree-attachments/@",
    ):
        told(raw(client, "GET", A.encode() + b"/" + target.replace(b"@", value)), 404)
    for name in (b"key", b"state", b"tree_id", b"branch_head", b"branch_descendants", b"repository_url"):
        found = raw(client, "GET", A.encode() + b"/jobs/?" + name + b"=" + value)
        assert (found.status_code, found.json()["jobs"]) == (200, []), (name, found.text)
    for kind in (b"tree", b"trial"):
        told(raw(client, "GET", b"/cider-ci/storage/" + kind + b"-attachments/" + value + b"/x"), 404, 422)


def test_a_job_of_another_user(cases: Configured) -> None:
    """Private: as if it were not there, whatever is asked of it; public: to be read, and no more."""
    private = cases.submit(M, execute=False, **{"access:read": []})["id"]
    ids = cases.native.get(f"/reconciler/jobs/{private}").json()["id"]
    for path in ("", "/artifacts", "/manifest"):
        absent(cases["ana"].get(f"/api/jobs/{private}{path}"))
    for path in ("start", "cancel"):
        absent(cases["ana"].post(f"/api/jobs/{private}/{path}"))
    for path in ("", "/stats", "/tasks/", "/attachments/"):
        told(cases["ana"].get(f"{A}/jobs/{ids}{path}"), 404)
    for path in ("abort", "retry-and-resume"):
        told(cases["ana"].post(f"{A}/jobs/{ids}/{path}"), 404)
    public = cases.submit(M, execute=False)["id"]
    assert cases["ana"].get(f"/api/jobs/{public}").status_code == 200
    refused(cases["ana"].post(f"/api/jobs/{public}/start"), 401)
    refused(cases["ana"].post("/api/job-group", json={"jobs": [public]}), 400)
    ids = cases.native.get(f"/reconciler/jobs/{public}").json()["id"]
    told(cases["ana"].post(f"{A}/jobs/{ids}/abort"), 403)
    assert cases.job(public)["status"] == cases.job(private)["status"] == "pending"


def test_trees_and_keys_of_nothing(cases: Configured) -> None:
    """Each says what is missing."""
    assert "40 hexadecimal digits" in told(cases.ask("zz", "unit"), 422)
    assert "no repository that is known here has the tree" in told(cases.ask("0" * 40, "unit"), 422)
    assert "has no job 'nope'; its jobs: unit, " in told(cases.ask(cases.tree(), "nope"), 422)
    for key in ("\0", "x" * 100_000, "../..", "\U0001f600"):
        told(cases.ask(cases.tree(), key), 422)
    for wrong in ({"tree_id": 1, "key": "unit"}, {"tree_id": cases.tree(), "key": ["unit"]}):
        told(cases["bob"].post(f"{A}/jobs/create", json=wrong), 422)


CONFIGURATIONS: dict[str, tuple[str | bytes, str]] = {
    "misspelt": ("jbos:\n  unit: {task: 'true'}\n", "jbos"),
    "no-yaml": ("jobs: [\n", "YAML"),
    "a-list": ("- jobs\n", "must be a map, not a list"),
    "not-utf-8": (b"jobs: {a: {task: '\xff'}}\n", "UTF-8"),
    "a-nul": ("jobs: {a: {task: 'x\0'}}\n", "NUL"),
    "deep": ("jobs: " + "[" * 5000 + "]" * 5000 + "\n", "nested"),
    "aliases": ("a: &a [x]\nb: [" + ", ".join(["*a"] * 500) + "]\njobs: {}\n", "alias"),
    "no-jobs": ("name: x\n", "jobs"),
    "itself": ("include: cider-ci.yml\njobs: {}\n", "include"),
    "not-there": ("include: nowhere.yml\njobs: {}\n", "nowhere.yml"),
    "outside": ("include: ../../etc/passwd\njobs: {}\n", "include: must be a path from the root of the tree"),
}
JOB = "jobs:\n  unit:\n    taks: 'true'\n  fine: {task: 'true'}\n"
MENDED = "0-mended"
"""The branch that is told first, by its name."""
OTHER = "Repository/shop/other"


@pytest.fixture(scope="module")
def bad_trees(cases: Configured) -> dict[str, str]:
    """A branch with each bad configuration, and one with a bad job; their trees, once they are known."""
    found = {}
    bad = {name: text for name, (text, _) in CONFIGURATIONS.items()}
    for name, content in {**bad, MENDED: "jobs: {}\nextra: 1\n", "job": JOB}.items():
        cases.other.git("checkout", "-q", "-b", name, "dev")
        cases.other.commit({"cider-ci.yml": content})
        found[name] = cases.tree(of=cases.other)
    cases.other.git("checkout", "-q", "dev")
    wanted = set(found.values())
    eventually_now(lambda: wanted <= {c["tree_id"] for c in cases.bob.every(f"{A}/commits/", "commits")}, 60)
    return found


def condition(cases: Configured) -> str:
    """What the Repository says of configurations; empty if nothing."""
    found = cases.native.get(f"/reconciler/resources/{OTHER}").json()["conditions"]
    told = (each["message"] for each in found if each["type"] == "ConfigurationInvalid" and each["status"])
    return next(told, "")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_with_a_mistake(cases: Configured, bad_trees: dict[str, str], name: str) -> None:
    """The create call says what it is."""
    _, part = CONFIGURATIONS[name]
    assert part in told(cases.ask(bad_trees[name], "unit"), 422)


def test_a_mistake_is_told_where_people_look(cases: Configured, bad_trees: dict[str, str]) -> None:
    """On the Repository, by `why` and in the event log, with file, branch and commit; other trees are not harmed; what
    is mended is told no more.
    """
    message = eventually_now(lambda: condition(cases))
    commit = cases.other.git("rev-parse", "--short=12", MENDED)
    assert message.startswith(f"cider-ci.yml on {MENDED} ({commit}): ")
    assert message.endswith(f"; and {len(CONFIGURATIONS) - 2} more")
    causes = cases.native.get(f"/reconciler/why/{OTHER}").json()["causes"]
    assert any(message == cause["message"] for cause in causes), causes
    events = cases.native.get(f"/reconciler/events?key={OTHER}&limit=500").json()["items"]
    for name, (_, part) in CONFIGURATIONS.items():
        assert any(bad_trees[name] in str(event) and part in str(event) for event in events), name
    assert cases.ask(cases.tree("dev", cases.other), "also").status_code == 201
    cases.other.git("checkout", "-q", MENDED)
    cases.other.commit({"cider-ci.yml": "jobs: {}\n"})
    cases.other.git("checkout", "-q", "dev")
    assert MENDED not in eventually_now(lambda: MENDED not in (found := condition(cases)) and found)


def test_a_job_with_a_mistake_of_its_own(cases: Configured, bad_trees: dict[str, str]) -> None:
    """It is made, and defective, and says why; the job beside it runs."""
    job = cases.create("unit", bad_trees["job"])
    assert job["state"] == "defective"
    (native,) = (
        each
        for each in cases.native.get("/reconciler/jobs?limit=500").json()["items"]
        if each["id"] == job["id"]
    )
    why = cases.native.get(f"/reconciler/jobs/{native['number']}").json()
    assert "taks" in str(why), why
    specification = cases.bob.get(f"{A}/job-specifications/{job['job_specification_id']}")
    assert "taks" in str(specification["data"])
    assert cases.run_job("fine", bad_trees["job"])["state"] == "passed"


def test_a_manifest_of_ten_megabytes(cases: Configured) -> None:
    """Refused by its size, before it is held as a whole; with its length said and without."""
    peak = _peak(cases)
    body = b'{"manifest": "' + b"x" * (10 << 20) + b'"}'
    for path, who in (("/api/jobs", "jo"), ("/api/job-group", "jo"), (f"{A}/jobs/create", "bob")):
        answer = cases[who].post(path, content=body, headers=JSON)
        of_srht(answer) if path.startswith("/api/") else told(answer, 413)
        assert answer.status_code == 413
        try:
            answer = cases[who].post(
                path, content=iter([body[:65536]] * 160), headers=JSON | {"Expect": "100-continue"}
            )
        except httpx.TransportError:
            continue  # it was closed while we were still sending
        assert answer.status_code == 413
    assert _peak(cases) - peak < 40 << 20
    assert cases["jo"].get("/api/jobs").status_code == 200


def test_a_manifest_just_below_the_limit_of_bodies(cases: Configured) -> None:
    """A million characters are too many for a manifest, and are told so."""
    (reason,) = refused(cases["jo"].post("/api/jobs", json={"manifest": "x" * 1_000_000}), 400, "manifest")
    assert "at most 16,383 characters, not 1,000,000" in reason


def _peak(cases: World) -> int:
    """The most memory that the daemon ever had, in bytes."""
    text = Path(f"/proc/{cases.running.popen.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) * 1024


@pytest.mark.parametrize(
    "value",
    [b"token \xff\xfe", b"token " + b"x" * 8000, b"Basic " + b"Og==" * 1000, b"\xe9", b"", b"Basic \xff"],
)
def test_headers_that_are_no_credentials(cases: Configured, value: bytes) -> None:
    """Refused by each API in its own words."""
    headers = [(b"Authorization", value)]
    of_srht(answer := cases.nobody.get("/api/jobs", headers=headers))
    assert answer.status_code == 401
    told(cases.nobody.get(f"{A}/jobs/", headers=headers), 401, 422)
    assert cases.nobody.get("/reconciler/jobs", headers=headers).status_code == 401


def test_attachments_with_odd_names(cases: Configured) -> None:
    """Neither out of their place nor with control characters; nothing is stored."""
    tree = cases.tree()
    for path in (
        b"a/%2e%2e/b",
        b"a%2f..%2fb",
        b"%2e%2e/x",
        b"a//b",
        b"a/%2E",
        b"%00",
        b"%0a",
        b"%ff",
        b"a" * 1001,
    ):
        target = b"/cider-ci/storage/tree-attachments/" + tree.encode() + b"/" + path
        request = cases["bob"].build_request("PUT", "/", content=b"x")
        request.url = request.url.copy_with(raw_path=target)
        told(cases["bob"].send(request), 422)
        told(raw(cases["bob"], "DELETE", target), 404, 422)
    for kind in ("text", "a/b/c", "x" * 300):
        answer = cases["bob"].put(
            f"/cider-ci/storage/tree-attachments/{tree}/x", content=b"x", headers={"Content-Type": kind}
        )
        told(answer, 422)
    told(cases["ana"].put(f"/cider-ci/storage/tree-attachments/{tree}/x", content=b"x"), 403)
