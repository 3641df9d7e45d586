"""One daemon with jobs of Builds and of manifests, and clients that check the hyperlinks of every answer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.escape.conftest import document
from tests.api.srht.conftest import FILES as PEOPLE
from tests.api.srht.conftest import SETTINGS, World, tasks
from tests.support import SpecRepository, process

A = "/cider-ci/api"
ROA = "application/json-roa+json"
PLAIN = "application/json"
LEAVES = "{name: leaves, run: 'mkdir out; echo kept >\"out/a b.txt\"; echo printed', attachments: ['out/**']}"
FILES = {
    **PEOPLE,
    "files.yaml": document("Build", "name: files, project: shop", f"{{tasks: [{LEAVES}]}}"),
    "three.yaml": document(
        "Build",
        "name: three, project: shop",
        "{tasks: [{name: b, run: 'true'}, {name: a, run: 'exit 3', needs: [b]}, {name: C, run: 'true'},"
        " {name: last, run: 'true', needs: [a]}]}",
    ),
}


_METHODS = {"get", "put", "patch", "post", "delete"}


def check_roa(found: Any) -> None:
    """The object `_json-roa` is as JSON-ROA says (3.3), with all that is below it."""
    allowed = {"version", "json-roa_version", "name", "self-relation", "relations", "collection"}
    assert found.keys() - {"collection"} == allowed - {"collection"}, found.keys()
    assert found["version"] == found["json-roa_version"] == "1.0.0"
    assert isinstance(found["name"], str)
    check_relation(found["self-relation"], template=False)
    assert found["relations"]["root"]["href"] == f"{A}/"
    for relation in found["relations"].values():
        check_relation(relation)
    if "collection" in found:
        page = found["collection"]
        assert {"relations"} <= page.keys() <= {"relations", "next"}
        numbers = [int(number) for number in page["relations"]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        for member in page["relations"].values():
            check_relation(member, template=False)
        if "next" in page:
            assert page["next"].keys() == {"href"}
            check_relation(page["next"], template=False)


def check_relation(found: Any, *, template: bool = True) -> None:
    """One relation object (3.3.2)."""
    assert {"href"} <= found.keys() <= {"href", "name", "methods", "relations"}, found
    href = found["href"]
    assert href.startswith("/cider-ci/"), href
    assert re.fullmatch(r"(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]|\{[+?&]?[a-z_,]+\})+", href), href
    assert template or "{" not in href, href
    assert isinstance(found.get("name", ""), str)
    for method, told in found.get("methods", {}).items():
        assert method in _METHODS
        assert told == {}
    for inner in found.get("relations", {}).values():
        check_relation(inner, template=False)


class Cider:
    """The API as one of its callers sees it; every answer's hyperlinks are checked."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str, /, **params: Any) -> dict[str, Any]:
        """An answer with hyperlinks."""
        answer = self.client.get(path, params=params or None)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        found: dict[str, Any] = answer.json()
        check_roa(found["_json-roa"])
        return found

    def every(self, path: str, key: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages of a list."""
        page = self.get(path, **params)
        while True:
            yield from page[key]
            following = page["_json-roa"]["collection"].get("next")
            if following is None:
                return
            page = self.get(following["href"])

    def job(self, number: int) -> dict[str, Any]:
        """The job with a number, which this API does not show."""
        found = self.client.get(f"/reconciler/jobs/{number}").raise_for_status().json()
        return self.get(f"{A}/jobs/{found['id']}")


def expand(template: str, **values: str) -> str:
    """RFC 6570, as far as it is used; a variable that the template does not name is refused."""
    names = {name for _, found in re.findall(r"\{([+?&]?)([^}]*)\}", template) for name in found.split(",")}
    assert values.keys() <= names, f"{template} has no {values.keys() - names}"

    def filled(found: re.Match[str]) -> str:
        operator, variables = found[1], found[2].split(",")
        given = [(name, values[name]) for name in variables if name in values]
        if operator in ("?", "&"):
            pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in given)
            return f"{operator}{pairs}" if pairs else ""
        safe = ":/?#[]@!$&'()*+,;=" if operator == "+" else ""
        return ",".join(quote(value, safe=safe) for _, value in given)

    return re.sub(r"\{([+?&]?)([^}]*)\}", filled, template)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for all tests."""
    folder = tmp_path_factory.mktemp("cider")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    with process(repo.path, folder / "data", **SETTINGS) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo)) as made:
            yield made


@pytest.fixture(scope="session")
def admin(world: World) -> Cider:
    """Who sees everything."""
    return Cider(world.native)


@pytest.fixture(scope="session")
def jo(world: World) -> Cider:
    """Somebody without any role."""
    return Cider(world["jo"])


@pytest.fixture(scope="session")
def filled(world: World) -> dict[str, dict[str, Any]]:
    """Finished jobs by what they are for, as the native API shows them."""
    numbers = {}
    for name in ("files", "three"):
        answer = world.native.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"})
        numbers[name] = answer.raise_for_status().json()["number"]
    numbers["manifest"] = world.submit(tasks("echo first", "exit 7"), note="of jo")["id"]
    numbers["hidden"] = world.submit(tasks("echo hidden"), name="ana", **{"access:read": []})["id"]
    return {
        name: world.running.job(number, "passed", "failed", "defective", "aborted")
        for name, number in numbers.items()
    }
