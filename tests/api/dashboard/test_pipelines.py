"""The pages of pipelines over HTTP: runs with their phases, decisions by form, what is refused and what then stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest

from tests.api.dashboard.people import Pages

EVIL = "<script>alert(1)</script>"
DEV = "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\n"


def build(name: str, run: str) -> str:
    """A Build in dev."""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop, environment: dev}}\n"
        f"spec: {{concurrency: allow, tasks: [{{name: main, run: '{run}'}}]}}\n"
    )


def pipeline(name: str, *phases: str, spec: str = "") -> str:
    """A Pipeline of phases in flow form."""
    return (
        f"apiVersion: steersman/v1\nkind: Pipeline\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n{spec}  phases: [{', '.join(phases)}]\n"
    )


def phase(name: str, *steps: str) -> str:
    """A phase in flow form."""
    return f"{{name: {name}, steps: [{', '.join(steps)}]}}"


GOOD = "{type: build, environment: dev, build: good}"
BAD = "{type: build, environment: dev, build: bad}"
FILES = {
    "dev.yaml": DEV,
    "good.yaml": build("good", "true"),
    "bad.yaml": build("bad", "exit 1"),
    "ask.yaml": pipeline(
        "ask",
        phase("first", GOOD, "{type: build, environment: dev, build: bad, ignore_failure: true}"),
        phase("question", "{type: confirmation, name: go, timeout_seconds: 86400}"),
        phase("last", GOOD),
    ),
    "own.yaml": pipeline("own", phase("q", "{type: confirmation, name: '" + EVIL + "', user: writer}")),
    "fails.yaml": pipeline("fails", phase("first", GOOD), phase("second", BAD), phase("third", GOOD)),
    "nested.yaml": pipeline("nested", phase("call", "{type: pipeline-trigger, pipeline: own}")),
    "off.yaml": pipeline("off", spec="  disabled: true\n"),
    "many.yaml": pipeline(
        "many",
        phase("q", *(f"{{type: confirmation, name: 'question {n}'}}" for n in range(100))),
        *(phase(f"p{n}", *[f"{{type: confirmation, name: 'c {m}'}}" for m in range(100)]) for n in range(5)),
    ),
}


class Runs(Pages):
    """The pages of pipelines."""

    def start(self, name: str, **fields: str) -> str:
        """A new run's page."""
        answer = self.post(f"/ui/pipelines/shop/{name}/start", **fields)
        assert answer.status_code == 303, answer.text
        path: str = answer.headers["location"]
        return path

    def until(self, path: str, text: str) -> str:
        """A page once it has a text."""
        page: str = self.running.wait_for(lambda _: text in (page := self.page(path)) and page)
        return page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A daemon with pipelines of which none has run."""
    with Runs.of(tmp_path_factory.mktemp("pipelines"), FILES) as found:
        yield found


def states(page: str) -> list[tuple[str, str]]:
    """(name, state) of phases and steps, in order."""
    found = re.findall(
        r'<(?:h3|strong class="grow")>([^<]*?) ?(?:</strong>)?<span class="badge \w+">([^<]+)</span>', page
    )
    return [(unescape(name), state) for name, state in found]


def test_an_approval_lets_the_run_go_on(pages: Runs) -> None:
    """With its comment, in place; what may fail and what is not reached yet are shown as such."""
    path = pages.start("ask", reason=EVIL, payload='{"why": "<b>"}')
    page = pages.until(path, 'value="approve"')
    assert EVIL not in page
    assert f"by hand ({EVIL})" in unescape(page)
    assert '{\n  "why": "<b>"\n}' in unescape(page)
    assert states(page) == [
        ("first", "ok"), ("build good", "ok"), ("build bad", "failed"), ("question", "waiting"), ("go", "waiting"),
        ("last", "not yet"), ("build good", "not yet"),
    ]  # fmt: skip
    assert "its failure is ignored" in page
    assert re.search(r'Asks somebody who may write in shop, until <time datetime="\d{4}', page)
    assert re.search(r'<a href="/ui/jobs/\d+">job \d+</a>', page)
    answer = pages.post(f"{path}/decide", phase="1", step="0", decision="approve", comment=f"fine {EVIL}")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = pages.until(path, "<dt>Finished</dt>")
    assert states(page)[-3:] == [("go", "ok"), ("last", "ok"), ("build good", "ok")]
    assert "Approved by <strong>admin</strong>" in page
    assert f"<blockquote>fine {EVIL}</blockquote>" in unescape(page)
    assert EVIL not in page
    assert 'value="approve"' not in page


def test_a_rejection_ends_the_run(pages: Runs) -> None:
    """And who comes later is told, with their comment still there."""
    path = pages.start("ask")
    pages.until(path, 'value="approve"')
    assert pages.post(f"{path}/decide", phase="1", step="0", decision="reject").status_code == 303
    page = pages.until(path, "<dt>Finished</dt>")
    assert ("go", "failed") in states(page)
    assert "Rejected by <strong>admin</strong>" in page
    late = pages.post(f"{path}/decide", phase="1", step="0", decision="approve", comment="too late, then")
    assert late.status_code == 409
    assert "has decided to disapprove this already" in late.text
    assert ">too late, then</textarea>" in late.text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"decision": "approve", "comment": "x" * 2001}, "at most 2000 characters; this one has 2001"),
        ({"decision": "perhaps", "comment": "kept <b>"}, "Choose: approve or reject."),
        ({"comment": "kept"}, "Choose: approve or reject."),
    ],
)
def test_a_refused_decision_keeps_its_comment(pages: Runs, fields: dict[str, str], told: str) -> None:
    """And says why; the question stays open."""
    path = pages.start("own")
    pages.until(path, 'value="approve"')
    answer = pages.post(f"{path}/decide", phase="0", step="0", **fields)
    assert answer.status_code == 422
    assert told in answer.text
    assert f">{fields['comment']}</textarea>" in unescape(answer.text)
    assert 'value="approve"' in answer.text
    for phase_, step in (("1", "0"), ("0", "9"), ("x", "0"), ("", "")):
        given = {"phase": phase_, "step": step, "decision": "approve"}
        assert pages.post(f"{path}/decide", **given).status_code == 404
    assert pages.post(f"{path}/cancel").status_code == 303


def test_rights_hold(pages: Runs) -> None:
    """Nothing is there for who has no role; who is not asked gets no form, and a refusal that says who is."""
    path = pages.start("own")
    pages.until(path, 'value="approve"')
    page = pages.page(path, "reader")
    assert '<form method="post" action="/ui/pipelines' not in page
    assert "The user writer decides this." in page
    refused = pages.post(f"{path}/decide", "reader", phase="0", step="0", decision="approve", comment="me")
    assert (refused.status_code, ">me</textarea>" in refused.text) == (403, True)
    assert "You may not decide this" in refused.text
    for action in ("cancel", "retry"):
        assert pages.post(f"{path}/{action}", "reader").status_code == 403
    refused = pages.post("/ui/pipelines/shop/own/start", "reader", reason="please")
    assert (refused.status_code, "takes the role write" in refused.text) == (403, True)
    for each in (path, "/ui/pipelines/shop/own", "/ui/pipelines/shop/nothing", "/ui/pipelines/a b/%3Cb%3E"):
        pages.page(each, "foreign", 404)
    for action in ("decide", "cancel", "retry"):
        assert pages.post(f"{path}/{action}", "foreign").status_code == 404
    assert pages.post("/ui/pipelines/shop/own/start", "foreign").status_code == 404
    assert "Pipeline/shop" not in pages.page("/ui/pipelines", "foreign")
    with pages.browser("writer") as browser:
        del browser.headers["Origin"]
        given = {"phase": "0", "step": "0", "decision": "approve"}
        assert browser.post(f"{path}/decide", data=given).status_code == 403
    assert pages.post(f"{path}/decide", "writer", phase="0", step="0", decision="approve").status_code == 303
    pages.until(path, "Approved by <strong>writer</strong>")


def test_a_run_starts_by_hand(pages: Runs) -> None:
    """With a payload of JSON; what is none comes back as it was typed."""
    answer = pages.post("/ui/pipelines/shop/own/start", payload="{no <json>", reason="a reason")
    assert answer.status_code == 422
    assert "The payload is no JSON" in answer.text
    assert ">{no <json></textarea>" in unescape(answer.text)
    assert 'value="a reason"' in answer.text
    answer = pages.post("/ui/pipelines/shop/own/start", payload="[" * 955 + "]" * 955)
    assert (answer.status_code, "nested deeper than" in answer.text) == (422, True)
    off = pages.post("/ui/pipelines/shop/off/start")
    assert (off.status_code, "says `disabled: true`" in off.text) == (409, True)
    assert "/start" not in pages.page("/ui/pipelines/shop/off")


def test_a_retry_goes_on_from_the_failed_phase(pages: Runs) -> None:
    """What was right is carried over; and all of it again, if that is asked for."""
    path = pages.start("fails")
    page = pages.until(path, "<dt>Finished</dt>")
    assert ("third", "not yet") in states(page)
    assert "Retry from the failed phase" in page
    again = pages.post(f"{path}/retry", **{"from": "failed"}).headers["location"]
    page = pages.until(again, "<dt>Finished</dt>")
    assert page.count("carried over") == 1
    assert f'of <a href="{path}"><span class="mono">Pipeline/shop/fails</span>' in page
    whole = pages.post(f"{path}/retry", **{"from": "start"}).headers["location"]
    assert "carried over" not in pages.until(whole, "<dt>Finished</dt>")
    runs = pages.page("/ui/pipelines/shop/fails")
    order = [runs.index(f'href="{each}"') for each in (whole, again, path)]
    assert order == sorted(order)
    late = pages.post(f"{path}/cancel")
    assert (late.status_code, "has ended already" in late.text) == (409, True)


def test_a_nested_run_and_its_job_lead_back(pages: Runs) -> None:
    """From the step to the run it has started, and from that to the run that has."""
    path = pages.start("nested")
    page = pages.until(path, '<span class="mono">Pipeline/shop/own</span> run')
    found = re.search(r'<a href="(/ui/pipelines/shop/own/\w+)"><span', page)
    assert found is not None
    assert f'another pipeline: <a href="{path}">' in pages.page(found[1])
    done = pages.start("fails")
    job = re.search(r'href="(/ui/jobs/\d+)"', pages.until(done, "<dt>Finished</dt>"))
    assert job is not None
    assert f'<a href="{done}"><span class="mono">Pipeline/shop/fails</span> run' in pages.page(job[1])


def test_many_steps_are_a_small_page(pages: Runs) -> None:
    """Those at work are shown before others."""
    path = pages.start("many")
    page = pages.until(path, 'value="approve"')
    assert "450 steps are not shown" in page
    pages.page("/ui/pipelines/shop/many")
    pages.page("/ui/pipelines")
    assert pages.post(f"{path}/cancel").status_code == 303
