"""The published Python client, `pdc_client`, with what it stands on; and each write of it as Git has it (pdc, 8).

Its Kerberos library wants headers of the system; here it is a module that signs requests with a token instead, as
a sign-in in front of the server would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from beanbag import BeanBagException

from tests.api.pdc.conftest import S, World

Client = Any
_WORDS = (
    "class HTTPKerberosAuth:\n"
    "    def __init__(self, **_):\n        pass\n"
    "    def __call__(self, request):\n        return request\n"
    "DISABLED = None\n"
)


class _SignedIn(requests.auth.AuthBase):
    """What a request has no credentials of its own, it has those of the sign-in."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.setdefault("Authorization", self._token)
        return request


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """It asks for its token first."""
    kerberos = ModuleType("requests_kerberos")
    token = world.alice.headers["authorization"]
    kerberos.__dict__.update(DISABLED=None, HTTPKerberosAuth=lambda **_: _SignedIn(token))
    monkeypatch.setitem(sys.modules, "requests_kerberos", kerberos)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for its version with a module that is out of use
        pytest.importorskip(
            "pkg_resources", reason="pdc_client needs setuptools, which this Python comes without"
        )
        pdc_client = pytest.importorskip(
            "pdc_client", reason="pdc_client is not installed; `make install` does it"
        )
    found = pdc_client.PDCClient(f"{world.url}/rest_api/v1/")
    found.set_comment("by the client")
    yield found
    found.session.close()


def changed(world: World) -> list[str]:
    """The lines that the last commit changed, and nobody else's commit."""
    shown = world.repo.git("show", "--format=%an%n%b", "-U0")
    assert shown.startswith("alice")
    assert "Steersman-Comment: by the client" in shown
    return [
        line for line in shown.splitlines() if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")
    ]


def test_lists_and_filters(client: Client, world: World) -> None:
    """Python's words for true, lists as repeated keys, pages one after the other."""
    active = client["release-schedules"]._(active=True, release="fedora-44")
    assert [row["id"] for row in active["results"]] == [world.second]
    both = client["release-schedules"]._(sla=["bug_fixes", "development"], release="fedora-44")
    assert both["count"] == 2
    assert len(list(client["release-schedules"].results(release="paged-1", page_size=2))) == 3
    assert len(list(client.get_paged(client["release-schedules"]._, release="paged-1", page_size=2))) == 3
    assert client["releases"]["fedora-44"]._()["version"] == "44"
    assert client["release-variants"]._(release="fedora-44")["count"] == 0
    with pytest.raises(BeanBagException) as refused:
        client["release-schedules"]._(foo=1)
    assert refused.value.response.status_code == 400


def test_each_write_is_a_commit(client: Client, world: World) -> None:
    """Whose difference is what a person would have written."""
    schedules, one, two = client["release-schedules"], world.spare(), world.spare()
    made = schedules._({"release": one, "sla": "bug_fixes", "date": "2040-1-1"})
    assert made["date"] == "2040-01-01"
    assert [line for line in changed(world) if "bug_fixes" in line and line[0] == "+"]
    several = [{"release": name, "sla": "development", "date": "2041-01-01"} for name in (one, two)]
    first, second = (each["id"] for each in schedules._(several))
    assert len([line for line in changed(world) if "development" in line]) == 2
    schedules._("PATCH", {str(first): {"date": "2042-01-01"}, str(second): {"date": "2042-01-02"}})
    assert len(changed(world)) == 4
    entry = schedules[str(first)]
    entry._ += {"date": "2043-01-01"}
    (gone, come) = changed(world)
    assert ("2042-01-01" in gone, "2043-01-01" in come) == (True, True)
    schedules[str(first)]._ = {"release": one, "sla": "security_fixes", "date": "2043-01-01"}
    assert world.shown(first)["sla"] == "security_fixes"
    del schedules[str(first)]._
    assert world.nobody.get(f"{S}{first}/").status_code == 404
    head = world.repo.head()
    assert schedules._("DELETE", [made["id"], second]) is None
    assert world.repo.git("rev-list", "--count", f"{head}..HEAD") == "1"
    assert not [line for line in changed(world) if line.startswith("+") and "20" in line]
    with pytest.raises(BeanBagException) as refused:
        schedules._("PATCH", {str(world.first): {"date": "soon"}})
    assert refused.value.response.json()["id_of_invalid_data"] == str(world.first)


def test_the_command_of_the_client(world: World, tmp_path: Path) -> None:
    """`pdc_client` reads and writes, with a comment."""
    program = Path(sys.executable).with_name("pdc_client")
    if not program.exists():
        pytest.skip("pdc_client is not installed; `make install` does it")
    (tmp_path / "requests_kerberos.py").write_text(_WORDS)
    secret = world.alice.headers["authorization"].split()[-1]
    config = {"here": {"host": f"{world.url}/rest_api/v1/", "token": secret}}
    (tmp_path / ".config/pdc").mkdir(parents=True)
    (tmp_path / ".config/pdc/client_config.json").write_text(json.dumps(config))
    own = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}

    def run(*words: str) -> Any:
        command = [sys.executable, "-W", "ignore", str(program), "-s", "here", *words]
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    found = run("-x", "GET", "-r", "release-schedules", "-d", '{"release": "fedora-44", "active": true}')
    assert [row["id"] for row in found["results"]] == [world.second]
    wish = json.dumps({"release": world.spare(), "sla": "bug_fixes", "date": "2040-01-01"})
    made = run("-x", "POST", "-r", "release-schedules", "-d", wish, "-c", "by the client")
    assert world.shown(made["id"])["date"] == "2040-01-01"
    assert [line for line in changed(world) if "bug_fixes" in line]
