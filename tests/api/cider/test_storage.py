"""Bytes of attachments: stored, given out, replaced, removed, by whom (cider-ci, 4.12–4.14, 4.17)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from reconciler import sealing
from reconciler.credentials import Execution, execution_token
from reconciler.execution.attachments import MOST_FILES
from reconciler.model.attachment import NOBODY
from reconciler.store import attachments
from reconciler.store.attachments import File, of_tree
from reconciler.store.database import connect
from tests import databases
from tests.api.cider.conftest import A, Cider, expand
from tests.api.srht.conftest import FILES, SETTINGS, World, tasks
from tests.support import SpecRepository, process

STORAGE = "/cider-ci/storage"


class Place:
    """A job of shop's, its trial, and a client of somebody who may write there."""

    def __init__(self, world: World, job: dict[str, Any]) -> None:
        self.api = Cider(world["bob"])
        self.client = world["bob"]
        self.number = job["number"]
        self.job = self.api.get(f"{A}/jobs/{job['id']}")
        (task,) = self.api.every(f"{A}/jobs/{job['id']}/tasks/", "tasks")
        (trial,) = self.api.every(f"{A}/tasks/{task['id']}/trials/", "trials")
        self.trial = str(trial["id"])
        self.of_tree = f"{STORAGE}/tree-attachments/{self.job['tree_id']}"
        self.of_trial = f"{STORAGE}/trial-attachments/{self.trial}"


@pytest.fixture(scope="module")
def place(world: World, filled: dict[str, dict[str, Any]]) -> Place:
    """Of a job that has ended."""
    return Place(world, filled["files"])


def raw(world: World, method: str, path: str, length: int = 0) -> int:
    """The status of a request whose path is sent as it stands, and whose body only as it says."""
    connection = HTTPConnection(world.url.removeprefix("http://"), timeout=60)
    try:
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"token {world.secrets['bob']}")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def put(client: httpx.Client, path: str, content: Any, status: int = 204, **headers: str) -> httpx.Response:
    """Store something."""
    answer = client.put(path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


@pytest.mark.parametrize("kind", ["tree", "trial"])
def test_stored_shown_replaced_and_removed(place: Place, kind: str) -> None:
    """Case 30."""
    base = place.of_tree if kind == "tree" else place.of_trial
    index = f"{A}/jobs/{place.job['id']}/attachments/"
    index = index if kind == "tree" else f"{A}/trials/{place.trial}/trial-attachments/"
    path = f"{base}/a/b%20c.txt"
    content = b"\x00\xff<script>"
    answer = put(place.client, path, content, **{"Content-Type": "text/x-demo"})
    assert answer.content == b""
    (item,) = place.api.get(index, pathsegment="b c")[f"{kind}_attachments"]
    assert item["path"] == "a/b c.txt"
    found = place.api.get(f"{A}/{kind}-attachments/{item['id']}")
    assert (found["content_type"], found["content_length"]) == ("text/x-demo", str(len(content)))
    assert found[f"{kind}_id"] == (place.job["tree_id"] if kind == "tree" else place.trial)
    href = found["_json-roa"]["relations"][f"{kind}-attachment-data-stream"]["href"]
    assert href == (f"{path}?owner=shop" if kind == "tree" else path)
    assert place.client.get(href).content == content
    for method in ("GET", "HEAD"):
        data = place.client.request(method, path)
        assert (data.status_code, data.headers["content-type"]) == (200, "text/x-demo")
        assert (data.content, data.headers["content-length"]) == (
            content if method == "GET" else b"",
            str(len(content)),
        )
    put(place.client, f"{path}?x=1", b"other")
    (again,) = place.api.get(index, pathsegment="b c")[f"{kind}_attachments"]
    assert again["id"] != item["id"]
    assert place.client.get(f"{A}/{kind}-attachments/{item['id']}").status_code == 404
    data = place.client.get(path)
    assert (data.content, data.headers["content-type"]) == (b"other", "application/octet-stream")
    for status in (204, 404):
        assert place.client.delete(path).status_code == status
    assert place.client.get(path).status_code == 404


def test_all_jobs_of_a_tree_share_its_files(place: Place) -> None:
    """Case 31, of both paths; by path."""
    names = ("z", "B/x", "a", "é")
    for name in names:
        put(place.client, f"{place.of_tree}/{name}", name.encode())
    for path in ("attachments", "tree-attachments"):
        found = place.api.every(f"{A}/jobs/{place.job['id']}/{path}/", "tree_attachments")
        assert [item["path"] for item in found if item["path"] in names] == ["B/x", "a", "z", "é"]
    listed = place.api.get(f"{A}/jobs/{place.job['id']}/attachments/", pathsegment="A")
    assert listed["tree_attachments"] == []
    (item, *_) = place.api.get(f"{A}/jobs/{place.job['id']}/attachments/")["tree_attachments"]
    found = place.api.get(f"{A}/tree-attachments/{item['id']}")
    jobs = place.api.get(expand(found["_json-roa"]["relations"]["jobs"]["href"]))["jobs"]
    assert [job["id"] for job in jobs] == [place.job["id"]]


def test_no_browser_shows_it_as_a_page(place: Place) -> None:
    """A file that says it is HTML is a download, not sniffed, and in a sandbox."""
    put(
        place.client,
        f"{place.of_trial}/page.html",
        b"<script>alert(1)</script>",
        **{"Content-Type": "text/html"},
    )
    headers = place.client.get(f"{place.of_trial}/page.html").headers
    assert headers["content-type"] == "text/html"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")
    assert headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "path",
    ["a/../b", "..", "a/./b", "%2e%2e/x", "a/%2E%2E", "", "a//b", "a/", "%FF", "%00", "a%0Ab", "x" * 1001],
)
def test_paths_that_are_refused(world: World, place: Place, path: str) -> None:
    """422, and nothing is stored; what names no file at all is no path of ours."""
    for base in (place.of_tree, place.of_trial):
        for method in ("PUT", "GET", "DELETE"):
            status = raw(world, method, f"{base}/{path}")
            assert status == 422 or (path in ("", ".") and status in (404, 405)), (method, path, status)


def test_encoded_once(place: Place) -> None:
    """An encoded slash is one, an encoded per cent sign stays."""
    put(place.client, f"{place.of_trial}/deep%2Ffile%2525", b"x")
    listed = place.api.get(f"{A}/trials/{place.trial}/trial-attachments/", pathsegment="%")
    assert [item["path"] for item in listed["trial_attachments"]] == ["deep/file%25"]
    (item,) = listed["trial_attachments"]
    found = place.api.get(f"{A}/trial-attachments/{item['id']}")
    href = found["_json-roa"]["relations"]["trial-attachment-data-stream"]["href"]
    assert place.client.get(href).content == b"x"


def test_a_large_one_streams(place: Place) -> None:
    """Larger than any body that is held in memory, and of unknown length."""
    piece = b"0123456789abcdef" * 65536

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield piece

    put(place.client, f"{place.of_trial}/large", pieces())
    digest = hashlib.sha256()
    with place.client.stream("GET", f"{place.of_trial}/large") as answer:
        for chunk in answer.iter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(piece * 20).hexdigest()


def test_too_large_is_413(world: World, place: Place) -> None:
    """By what its length says; nothing of it is read."""
    assert raw(world, "PUT", f"{place.of_trial}/huge", length=1 << 40) == 413
    assert place.client.get(f"{place.of_trial}/huge").status_code == 404


def test_a_type_that_is_none(place: Place) -> None:
    """422: it would stand in a header."""
    put(place.client, f"{place.of_trial}/t", b"x", 422, **{"Content-Type": "no type"})


def test_who_may_store(world: World, place: Place, filled: dict[str, dict[str, Any]]) -> None:
    """Who may try the job again; for the tree of nobody, who may write everywhere."""
    for name, status in (("jo", 404), ("bob", 204)):
        put(world[name], f"{place.of_trial}/who", b"x", status)
        assert (world[name].get(f"{place.of_trial}/who").status_code == 200) == (status == 204)
    for name, status in (("jo", 403), ("bob", 204)):
        put(world[name], f"{place.of_tree}/who", b"x", status)
    assert world["jo"].get(f"{place.of_tree}/who").status_code == 404
    nowhere = f"{STORAGE}/tree-attachments/{'9' * 40}/x"
    put(world["bob"], nowhere, b"x", 403)
    put(world.native, nowhere, b"x", 204)
    assert world["bob"].get(nowhere).status_code == 404
    assert world.native.get(nowhere).content == b"x"
    assert world.native.delete(nowhere).status_code == 204
    put(world.nobody, f"{place.of_tree}/who", b"x", 401)
    hidden = f"{STORAGE}/trial-attachments/{uuid4()}/x"
    put(world.native, hidden, b"x", 404)


def test_of_a_manifest(world: World, filled: dict[str, dict[str, Any]]) -> None:
    """Its owner's; who may only read it may not."""
    jo = Cider(world["jo"])
    tree = jo.job(filled["manifest"]["number"])["tree_id"]
    path = f"{STORAGE}/tree-attachments/{tree}/note"
    put(world["jo"], path, b"mine")
    assert world["ana"].get(path).content == b"mine"
    put(world["ana"], path, b"hers", 403)
    assert world["ana"].delete(path).status_code == 403
    assert world["jo"].delete(path).status_code == 204


def test_one_tree_of_two_people(world: World) -> None:
    """Links lead to the file of the job's owner; a path alone does not say whose is meant."""
    name, text = "private/report.txt", tasks("echo the same for both")
    hidden = {"access:read": [], "execute": False}
    jobs = {who: Cider(world[who]).job(world.submit(text, who, **hidden)["id"]) for who in ("jo", "ana")}
    (tree,) = {job["tree_id"] for job in jobs.values()}
    path = f"{STORAGE}/tree-attachments/{tree}/{name}"
    admin = Cider(world.native)
    for who in jobs:
        put(world[who], path, who.encode())
        assert world[who].get(path).text == who
    for who, job in jobs.items():
        listed = admin.get(f"{A}/jobs/{job['id']}/attachments/")
        template = listed["_json-roa"]["relations"]["tree-attachment-data-stream"]["href"]
        assert template.endswith(f"{{+path}}?owner=~{who}")
        assert world.native.get(expand(template, path=name)).text == who
        (item,) = listed["tree_attachments"]
        found = admin.get(f"{A}/tree-attachments/{item['id']}")
        href = found["_json-roa"]["relations"]["tree-attachment-data-stream"]["href"]
        assert (href, world.native.get(href).text) == (f"{path}?owner=~{who}", who)
    for method in ("GET", "PUT", "DELETE"):
        answer = world.native.request(method, path, content=b"x" if method == "PUT" else None)
        assert answer.status_code == 409, (method, answer.text)
        assert "`owner` (of ~ana, ~jo)" in answer.json()["message"]
    of_jo = f"{path}?owner=~jo"
    assert world["ana"].get(of_jo).status_code == 404
    put(world["ana"], of_jo, b"x", 403)
    assert world["ana"].delete(of_jo).status_code == 404
    put(world.native, of_jo, b"changed")
    assert [world[who].get(path).text for who in jobs] == ["changed", "ana"]
    assert world.native.delete(of_jo).status_code == 204
    assert world.native.get(of_jo).status_code == 404
    assert world.native.get(path).text == "ana"
    for nowhere in ("shop", "x", ""):
        assert world["jo"].get(path, params={"owner": nowhere}).status_code == 404
        put(world["jo"], f"{path}?owner={nowhere}", b"x", 403)


def test_all_files_of_an_owner_have_a_bound(tmp_path: Path) -> None:
    """As many bytes, and as many files, as scripts may leave; what is replaced does not count."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(FILES)
    sized, counted = (f"{STORAGE}/tree-attachments/{digit * 40}" for digit in "12")
    narrow = SETTINGS | {"STEERSMAN_ATTACHMENT_BYTES": "1000"}
    with process(repo.path, tmp_path / "data", **narrow) as running, running.client() as client:
        put(client, f"{sized}/a", b"x" * 600)
        answer = put(client, f"{sized}/b", b"x" * 600, 413)
        assert "1,000 bytes" in answer.json()["message"]
        assert client.get(f"{sized}/b").status_code == 404
        put(client, f"{sized}/a", b"x" * 1000)
        put(client, f"{sized}/b", b"")
        asyncio.run(_full(running.data, "2" * 40))
        answer = put(client, f"{counted}/one-more", b"", 413)
        assert "10,000 attachments" in answer.json()["message"]
        put(client, f"{counted}/0", b"")
        assert client.delete(f"{counted}/1").status_code == 204
        put(client, f"{counted}/one-more", b"")


async def _full(data: Path, tree: str) -> None:
    """Note as many files of a tree of nobody as there may be."""
    database = connect(databases.url_of(data))
    now = datetime.now(UTC)
    files = [File(str(number), "0" * 64, 0) for number in range(MOST_FILES)]
    owner, until = of_tree(NOBODY, tree), now + timedelta(days=1)
    try:
        await database.write(lambda w: attachments.save(w.connection, owner, files, now, until))
    finally:
        await database.close()


def test_what_is_no_id(world: World) -> None:
    """Of a tree: 40 digits, of either case; of a trial: as if there were none."""
    for of in ("x", "9" * 39, "9" * 41, "g" * 40, "9" * 64):
        for method in ("GET", "PUT", "DELETE"):
            for kind, status in (("tree", 422), ("trial", 404)):
                answer = world.native.request(method, f"{STORAGE}/{kind}-attachments/{of}/x")
                assert answer.status_code == status, (method, kind, of, answer.text)
    put(world.native, f"{STORAGE}/tree-attachments/{'Ab' * 20}/x", b"either")
    for case in ("Ab", "ab"):
        assert world.native.get(f"{STORAGE}/tree-attachments/{case * 20}/x").content == b"either"


@pytest.mark.sqlite  # elsewhere the bytes are kept in the database too, and come back from there
def test_one_whose_bytes_are_gone_is_removed(world: World, place: Place) -> None:
    """It is known still, and its bytes are not there."""
    for base in (place.of_tree, place.of_trial):
        content = f"lost of {base}".encode()
        put(place.client, f"{base}/lost", content)
        digest = hashlib.sha256(content).hexdigest()
        (world.running.data / "attachments" / digest[:2] / digest[2:]).unlink()
        assert place.client.get(f"{base}/lost").status_code == 404
        for status in (204, 404):
            assert place.client.delete(f"{base}/lost").status_code == status


def test_with_the_token_of_a_trial(world: World, place: Place) -> None:
    """For that trial, and for the tree of its job; a wrong one is no better than none."""
    keys = sealing.load(world.running.data / "server.key")

    def token(trial: str = place.trial) -> dict[str, str]:
        return {"trial-token": execution_token(keys, Execution(place.number, trial))}

    put(world.nobody, f"{place.of_trial}/by-token", b"x", **token())
    put(world.nobody, f"{place.of_tree}/by-token", b"x", **token())
    assert place.client.get(f"{place.of_tree}/by-token").content == b"x"
    put(world.nobody, f"{place.of_tree}/by-token?owner=shop", b"x", **token())
    for path in (
        f"{STORAGE}/trial-attachments/{uuid4()}/x",
        f"{STORAGE}/tree-attachments/{'9' * 40}/x",
        f"{place.of_tree}/by-token?owner=other",
    ):
        put(world.nobody, path, b"x", 403, **token())
    for wrong in ({"trial-token": "wrong"}, token(str(uuid4()))):
        put(world.nobody, f"{place.of_trial}/by-token", b"y", 403, **wrong)
        put(world.native, f"{place.of_trial}/by-token", b"y", 403, **wrong)
    for method in ("GET", "DELETE"):
        assert world.nobody.request(method, f"{place.of_trial}/by-token", headers=token()).status_code == 401


SENDS = """\
python3 - <<'END'
import os, urllib.request as web
token = os.environ["STEERSMAN_TOKEN"]
trial = token.split(".")[1]
for name, headers in (("a", {"trial-token": token}), ("b", {"Authorization": "token " + token})):
    path = f"{os.environ['STEERSMAN_SERVER']}/cider-ci/storage/trial-attachments/{trial}/{name}"
    with web.urlopen(web.Request(path, name.encode(), headers, method="PUT")) as answer:
        print(answer.status)
END
"""


def test_a_running_script_stores(world: World) -> None:
    """With what it has in its environment."""
    indented = "".join(f"    {line}\n" for line in SENDS.splitlines())
    found = world.run(f"image: host\ntasks:\n- a: |\n{indented}")
    assert found["status"] == "success", world.log(found["tasks"][0]["log"])
    jo = Cider(world["jo"])
    (task,) = jo.every(f"{A}/jobs/{jo.job(found['id'])['id']}/tasks/", "tasks")
    (trial,) = jo.every(f"{A}/tasks/{task['id']}/trials/", "trials")
    listed = jo.get(f"{A}/trials/{trial['id']}/trial-attachments/")["trial_attachments"]
    assert [item["path"] for item in listed] == ["a", "b"]


def test_more_than_a_page(place: Place) -> None:
    """Each once, in the order of their paths."""
    names = [f"page/{number:02}" for number in range(23)]
    for name in names:
        put(place.client, f"{place.of_trial}/{name}", b"")
    path = f"{A}/trials/{place.trial}/trial-attachments/"
    found = [item["path"] for item in place.api.every(path, "trial_attachments", pathsegment="page/")]
    assert found == names
