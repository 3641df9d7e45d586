"""The commands of the page about HTTP, against a real daemon; and the names that the page about operations gives."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.cli.starter import write_starter
from api.docs.contents import FOLDER
from tests import databases
from tests.support import Process, SpecRepository, process

BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, info: str) -> list[str]:
    """The fenced blocks of a page with exactly this after the fence."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    return [found["text"] for found in BLOCK.finditer(text) if found["info"] == info]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A daemon that follows what `init` writes, its first job done."""
    folder = tmp_path_factory.mktemp("docs")
    write_starter(folder / "specs")
    specs = SpecRepository(folder / "specs")
    specs.commit()
    with process(specs.path, folder / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as daemon:
        daemon.job(1, "passed")
        yield daemon


def curl(running: Process, script: str) -> str:
    """A block as a person runs it; curl fails where the server refuses."""
    environment = {**os.environ, "SERVER": running.url, "TOKEN": running.token}
    words = ["bash", "-e", "-c", script.replace("curl -s", "curl -sS --fail-with-body")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("script", blocks("http-api", "sh"))
def test_the_commands_work(running: Process, script: str) -> None:
    assert curl(running, script)


def test_a_request_under_one_key_is_carried_out_once(running: Process) -> None:
    (script,) = (each for each in blocks("http-api", "sh") if "Idempotency-Key" in each)
    numbers = re.findall(r'"number":(\d+)', curl(running, script))

    assert len(numbers) == 2
    assert len(set(numbers)) == 1


def test_an_error_is_the_problem_that_is_shown(running: Process) -> None:
    (script,) = blocks("http-api", "sh problem")
    (shown,) = blocks("http-api", "json")
    environment = {**os.environ, "SERVER": running.url, "TOKEN": running.token}
    words = ["bash", "-e", "-c", script]
    body = yaml.safe_load(subprocess.run(words, env=environment, capture_output=True, text=True).stdout)

    assert body.pop("detail")
    assert {**yaml.safe_load(shown), "detail": None} == {**body, "detail": None}


def test_alerts_and_the_table_name_real_metrics(running: Process) -> None:
    with running.client() as client:
        text = client.get("/metrics").raise_for_status().text
    served = {
        name
        for family in text_string_to_metric_families(text)
        for name in (family.name, *(each.name for each in family.samples))
    }
    (alerts,) = blocks("operations", "yaml alerts")
    rules = [rule for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"steersman_\w+", rule["expr"])}
    page = (FOLDER / "operations.md").read_text(encoding="utf-8")
    table = page.split("## Metrics")[1].split("## Alerts")[0].splitlines()
    # what there is only with several processes is not served by a daemon on SQLite
    lines = [line for line in table if databases.chosen_for(running.data) or "on PostgreSQL" not in line]
    told, anywhere = (
        set(re.findall(r"`((?:steersman|process)_[a-z_]+)`", "\n".join(part))) for part in (lines, table)
    )

    assert len(rules) >= 5
    assert all(rule["alert"] and rule["annotations"]["summary"] for rule in rules)
    assert named - served == set()
    assert told - served == set()
    assert {name for name in served if name.startswith("steersman_")} - anywhere == set()


def test_the_table_names_real_paths(running: Process) -> None:
    text = (FOLDER / "http-api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(/(?:reconciler/|metrics|health)[^`{]*)`", text))
    known = [("/VERB/", "/read/"), ("KEY", "Build/demo/_/hello"), ("/N/", "/1/")]
    assert len(named) > 15
    with running.client() as client:
        for path in sorted(named):
            for word, real in known:
                path = path.replace(word, real)
            answer = client.request("HEAD" if path.endswith("/stream") else "OPTIONS", path)
            assert answer.status_code != 404, path
