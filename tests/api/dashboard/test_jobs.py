"""The pages of jobs over HTTP: what they show, to whom, what their forms do, and how heavy they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from api.dashboard import assets
from tests.api.conftest import build
from tests.api.dashboard.people import Pages
from tests.support import SpecRepository

STYLES = Path(assets.__file__).parent / "static"
EVIL = "<script>alert(1)</script>"
MANY = 300
FILES = {
    "ok.yaml": build("ok", "[{name: main, run: 'printf \"\\033[31mred\\033[0m\\n\"; seq 1 500'}]"),
    "web.yaml": build(
        "web",
        "[{name: lint, run: 'true'}, {name: test, needs: [lint], max_trials: 2, run: 'echo bad; exit 3'}, "
        "{name: docs, needs: [lint], run: 'true'}, {name: wheel, needs: [test, docs], run: 'true'}]",
    ),
    "worse.yaml": build(
        "worse",
        "[{name: unit, run: 'exit 3'}, {name: lint, run: 'exit 4'}, {name: types, run: 'exit 5'}, "
        "{name: shy, needs: [lint], run: 'true', ignore_failure: true}, {name: good, run: 'true'}, "
        "{name: mourn, needs: [good], when: failed, run: 'true'}]",
    ),
    "sleeps.yaml": build("sleeps", "[{name: main, run: 'echo up; sleep 600'}]", "  concurrency: allow\n"),
    "replaced.yaml": build(
        "replaced", "[{name: main, traits: [nowhere], run: x}]", "  concurrency: replace\n"
    ),
    "evil.yaml": build(
        "evil", f"[{{name: main, run: 'echo \"{EVIL}\"'}}]", "  inputs: [{id: text, default: none}]\n"
    ),
    "many.yaml": build(
        "many",
        "["
        + ", ".join(
            f"{{name: 't{n}', needs: {[f't{n - 1}'] if n % 7 else []}, run: 'true'}}" for n in range(MANY)
        )
        + "]",
        "  task_defaults: {traits: [nowhere]}\n",
    ),
    "files.yaml": build(
        "files", "[{name: main, attachments: ['out/**'], run: \"mkdir out; echo x > 'out/a b.txt'\"}]"
    ),
}
CIDER = f"""\
jobs:
  evil:
    name: "{EVIL}"
    run_when: {{all: {{type: branch, include_match: "^.*$"}}}}
    tasks: {{"{EVIL}": "true"}}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A daemon with people, a code repository of hostile names, and nothing that has run."""
    folder = tmp_path_factory.mktemp("pages")
    code = SpecRepository(folder / "code")
    code.commit({"cider-ci.yml": CIDER}, EVIL)
    code.git("branch", "-m", "main", EVIL)
    repository = (
        "apiVersion: steersman/v1\nkind: Repository\nmetadata: {name: code, project: shop}\n"
        f'spec: {{url: "{code.path}", cider_ci: {{enabled: true, branch_include_match: "^.*$"}}}}\n'
    )
    with Pages.of(folder, FILES | {"refs.yaml": repository}) as found:
        yield found


def test_styles_use_what_is_defined() -> None:
    """A colour that is not is none, and nobody is told."""
    texts = {path.name: path.read_text() for path in STYLES.glob("*.css")}
    defined = {name: set(re.findall(r"(--[\w-]+):", text)) for name, text in texts.items()}
    for name, text in texts.items():
        used = set(re.findall(r"var\((--[\w-]+)\)", text))
        assert used <= defined["dashboard.css"] | defined[name], name


def rows(page: str) -> list[int]:
    """Numbers of the jobs that a list shows."""
    return [int(number) for number in re.findall(r'<tr><td class="nowrap"><a href="/ui/jobs/(\d+)"', page)]


def test_the_list_is_filtered_and_goes_on(pages: Pages) -> None:
    """By KEY, state, project and branch, newest first, page by page."""
    made = [pages.ends(pages.trigger("ok")) for _ in range(3)]
    key = "Build/shop/_/ok"
    assert rows(pages.page(f"/ui/jobs?key={key}")) == made[::-1]
    assert rows(pages.page(f"/ui/jobs?key={key}&after={made[1]}")) == made[:1]
    assert rows(pages.page(f"/ui/jobs?key={key}&state=failed")) == []
    assert set(made) <= set(rows(pages.page("/ui/jobs?state=passed")))
    assert set(made) <= set(rows(pages.page("/ui/jobs?project=shop")))
    assert rows(pages.page("/ui/jobs?project=sho")) == []
    assert rows(pages.page("/ui/jobs?branch=%00main")) == []  # what they build has no repository
    assert 'name="branch" value="main"' in pages.page("/ui/jobs?branch=main")
    told = pages.page("/ui/jobs?key=shop/_/o")
    assert f'href="/ui/jobs?key={key.replace("/", "%2F")}"' in told
    assert rows(pages.page("/ui/jobs", who="foreign")) == []
    assert rows(pages.page("/ui/jobs?key=%00&state=%00")) == rows(pages.page("/ui/jobs"))


def test_the_tasks_are_a_picture_and_a_list(pages: Pages) -> None:
    """Both with states and ways to the logs; what has failed stands on top."""
    number = pages.ends(pages.trigger("web"))
    page = pages.page(f"/ui/jobs/{number}")
    picture = page[page.index("<svg") : page.index("</svg>")]
    assert picture.count("<rect") == 4
    assert picture.count("<path") == 4
    assert f'href="/ui/jobs/{number}?task=test#log" aria-label="test: failed"' in picture
    places = dict(
        re.findall(r'aria-label="(\w+): \w+"><g class="box \w+" transform="translate\((\d+)', picture)
    )
    assert int(places["lint"]) < int(places["test"]) == int(places["docs"]) < int(places["wheel"])
    assert (
        f'<strong>test</strong>: exit 3. <a href="/ui/jobs/{number}?task=test&amp;trial=2&amp;script=run#log"'
        in page
    )
    assert page.count('<div class="trial">') == 4
    assert "what it needs did not pass" in page
    assert pages.page(f"/ui/jobs/{number}?show=failed").count('<div class="trial">') == 2


def test_every_task_that_failed_is_named(pages: Pages) -> None:
    """On top, with ways to their logs; the picture says in few words why the others did not start."""
    number = pages.ends(pages.trigger("worse"))
    page = pages.page(f"/ui/jobs/{number}")
    note = page.partition('<div class="note bad">')[2].partition("</div>")[0]
    assert re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", note)).strip() == (
        "unit: exit 3. See its log Also failed: lint, types."
    )
    assert f'href="/ui/jobs/{number}?task=lint&amp;trial=1&amp;script=run#log">lint</a>' in note
    picture = page[page.index("<svg") : page.index("</svg>")]
    told = re.findall(r'class="told">([^<]+)<', picture)
    assert sorted(told) == [
        *(["failed: exit status"] * 3),
        "passed",
        "skipped: by its when",
        "skipped: needs not passed",
    ]
    assert "its condition <code>when</code> is not met" in page


def test_what_jobs_say_is_text(pages: Pages) -> None:
    """Logs, inputs, names of tasks and jobs, branches."""
    number = pages.ends(pages.trigger("evil", inputs={"text": EVIL}))
    found = pages.running.wait_for(
        lambda c: [
            j for j in c.get("/reconciler/jobs").json()["items"] if j["key"].startswith("Configuration/")
        ]
    )
    configured = pages.ends(found[0]["number"])
    shown = [pages.page(f"/ui/jobs/{each}") for each in (number, configured)] + [pages.page("/ui/jobs")]
    assert not any(EVIL in page for page in shown)
    assert unescape(shown[0]).count(EVIL) >= 2
    assert f"Job {configured}: {EVIL}" in unescape(shown[1])
    assert f'on <span class="mono">{EVIL}' in unescape(shown[1])
    assert f"?task={EVIL}" not in shown[1]
    assert EVIL in unescape(shown[2])


def test_the_end_of_the_log_is_there_without_scripts(pages: Pages) -> None:
    """The last 200 lines without what is meant for terminals, and where the whole is."""
    number = pages.ends(pages.trigger("ok"))
    page = pages.page(f"/ui/jobs/{number}")
    text = page[page.index('<pre class="log-text"') : page.index("</pre>")].partition(">")[2]
    assert text.splitlines() == [str(line) for line in range(301, 501)]
    assert f'href="/reconciler/jobs/{number}/log" download' in page
    with pages.browser() as browser:  # a page that asks for itself again has it already
        assert "\n500</pre>" not in browser.get(f"/ui/jobs/{number}", headers={"X-Renew": "1"}).text


def test_a_script_is_chosen(pages: Pages) -> None:
    """By the form, whose address then is the plain one."""
    number = pages.ends(pages.trigger("web"))
    page = pages.page(f"/ui/jobs/{number}")
    values = [unescape(value) for value in re.findall(r'<option value="(task=[^"]+)"', page)]
    assert values == [f"task={task}&trial={trial}&script=run" for task, trial in
                      (("lint", 1), ("test", 1), ("test", 2), ("docs", 1))]  # fmt: skip
    with pages.browser() as browser:
        answer = browser.get(f"/ui/jobs/{number}", params={"log": values[2], "x": "y"})
        assert answer.headers["location"] == f"/ui/jobs/{number}?{values[2]}#log"
        chosen = browser.get(answer.headers["location"]).text
        assert f'data-query="{values[2].replace("&", "&amp;")}"' in chosen
        assert ">bad</pre>" in chosen
        assert browser.get(f"/ui/jobs/{number}?task=nothing").status_code == 404
        assert browser.get(f"/ui/jobs/{number}?log=to%3Dhttps://evil.example").headers["location"] == (
            f"/ui/jobs/{number}#log"
        )


def test_lines_have_places_and_times(pages: Pages) -> None:
    """By number and by offset, and each place has a time."""
    number = pages.ends(pages.trigger("ok"))
    path = f"/ui/jobs/{number}/log/index"
    log = pages.client.get(f"/reconciler/jobs/{number}/log").content
    begins = [0] + [found.end() for found in re.finditer(b"\n", log)]
    for line in (1, 2, 100, 501):
        assert pages.get(path, line=line) == {
            "size": len(log), "final": True, "line": line, "offset": begins[line - 1]
        }  # fmt: skip
    assert pages.get(path, line=10**9)["line"] == 501
    for line in (2, 100, 501):
        assert pages.get(path, offset=begins[line - 1])["line"] == line
        assert pages.get(path, offset=begins[line - 2] + 1)["line"] == line
    assert pages.get(path, offset=10**9)["offset"] == len(log)
    times = pages.get(path, times=True)["times"]
    job = pages.get(f"/reconciler/jobs/{number}")
    assert times[0][0] == 0
    assert [at for at, _ in times] == sorted({at for at, _ in times})
    assert all(abs(at / 1000 - _seconds(job["started_at"])) < 60 for _, at in times)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_cancel_and_retry(pages: Pages) -> None:
    """By forms; what is no longer possible is told on the page."""
    number = pages.trigger("sleeps")
    pages.running.job(number, "executing")
    with pages.browser() as browser:
        assert f'action="/ui/jobs/{number}/cancel"' in browser.get(f"/ui/jobs/{number}").text
        early = browser.post(f"/ui/jobs/{number}/retry")
        assert (early.status_code, "still executing" in early.text) == (409, True)
        answer = browser.post(f"/ui/jobs/{number}/cancel")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/jobs/{number}")
        pages.ends(number)
        late = browser.post(f"/ui/jobs/{number}/cancel")
        assert (late.status_code, 'role="alert"' in late.text, "aborted already" in late.text) == (
            409,
            True,
            True,
        )
        page = browser.get(f"/ui/jobs/{number}").text
        assert f'action="/ui/jobs/{number}/cancel"' not in page
        assert f'action="/ui/jobs/{number}/retry"' in page
        again = browser.post(f"/ui/jobs/{number}/retry").headers["location"]
        assert f'<a href="{again}">' in browser.get(f"/ui/jobs/{number}").text
        assert f'retry of <a href="/ui/jobs/{number}">' in browser.get(again).text
        browser.post(f"{again}/cancel")


def test_rights_hold(pages: Pages) -> None:
    """There is no job for who has no role; who may only read gets no buttons, and a page that says what is missing."""
    number = pages.ends(pages.trigger("ok"))
    pages.page(f"/ui/jobs/{number}", status=404, who="foreign")
    page = pages.page(f"/ui/jobs/{number}", who="reader")
    assert f'action="/ui/jobs/{number}' not in page
    with pages.browser("reader") as browser:
        answer = browser.post(f"/ui/jobs/{number}/retry")
        assert (answer.status_code, "takes the role write on" in answer.text) == (403, True)
        assert browser.get(f"/ui/jobs/{number}/log/index").status_code == 200
    with pages.browser("foreign") as browser:
        for path in ("retry", "cancel", "start"):
            assert browser.post(f"/ui/jobs/{number}/{path}").status_code == 404
        assert browser.get(f"/ui/jobs/{number}/log/index").status_code == 404
    with pages.browser() as browser:
        del browser.headers["Origin"]
        assert browser.post(f"/ui/jobs/{number}/retry").status_code == 403


def test_what_waits_says_for_what_and_what_was_replaced_by_what(pages: Pages) -> None:
    """A pending job names its cause; a superseded one its successor."""
    old = pages.trigger("replaced")
    pages.running.wait_for(lambda _: "waits: " in pages.page(f"/ui/jobs/{old}"))
    assert "nowhere" in pages.page(f"/ui/jobs/{old}")
    new = pages.trigger("replaced")
    pages.ends(old)
    assert f'<dt>Replaced by</dt><dd><a href="/ui/jobs/{new}">' in pages.page(f"/ui/jobs/{old}")
    assert f'before: <a href="/ui/jobs/{old}">' in pages.page(f"/ui/jobs/{new}")
    pages.client.post(f"/reconciler/jobs/{new}/cancel")


def test_many_tasks_come_in_pages(pages: Pages) -> None:
    """Each of them small, and each task on one of them."""
    number = pages.trigger("many")
    seen: list[str] = []
    for part in range(1, MANY // 50 + 1):
        page = pages.page(f"/ui/jobs/{number}?part={part}")
        seen += re.findall(rf'href="/ui/jobs/{number}\?task=(t\d+)#log"', page)
    assert seen == [f"t{n}" for n in range(MANY)]
    assert "<svg" not in page
    pages.client.post(f"/reconciler/jobs/{number}/cancel")


def test_attachments_are_downloads(pages: Pages) -> None:
    """With their sizes, by links that work."""
    number = pages.ends(pages.trigger("files"))
    page = pages.page(f"/ui/jobs/{number}")
    found = re.search(rf'<a href="(/reconciler/jobs/{number}/attachments/[^"]+)" download', page)
    assert found is not None
    answer = pages.client.get(unescape(found[1]))
    assert (answer.text, "attachment" in answer.headers["content-disposition"]) == ("x\n", True)
    assert ">2 B</td>" in page


def test_a_manifest_waits_for_its_start(pages: Pages) -> None:
    """Its page has the button, its note and its tags."""
    manifest: dict[str, Any] = {
        "manifest": "image: host\ntasks:\n  - one: |\n      echo hello\n",
        "note": EVIL,
    }
    made = pages.client.post("/api/jobs", json={**manifest, "tags": ["a", "b"], "execute": False}).json()[
        "id"
    ]
    page = pages.page(f"/ui/jobs/{made}")
    assert "Somebody has to start it" in page
    assert EVIL not in page
    assert EVIL in unescape(page)
    assert f'action="/ui/jobs/{made}' in page
    assert f'action="/ui/jobs/{made}' not in pages.page(f"/ui/jobs/{made}", who="reader")
    with pages.browser() as browser:
        assert browser.post(f"/ui/jobs/{made}/start").status_code == 303
        pages.ends(made)
        assert browser.post(f"/ui/jobs/{made}/start").status_code == 409
