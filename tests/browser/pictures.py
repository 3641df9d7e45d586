"""`make screenshots`: a picture of each page, light, dark and as a phone shows it, in the folder `pictures`.

The shop's example, with a schedule and a freeze besides, while its pipeline asks whether it may go to production.
`--overview FILE` writes the README's picture too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser.conftest import chromium
from tests.example_shop import PORTS, Shop, hook
from tests.support import Process, stop

_FREEZE = """\
apiVersion: steersman/v1
kind: Freeze
metadata: {name: year-end, project: shop}
spec:
  reason: Nobody is there to mend anything
  environments: [production]
  recurrence: [{days_of_week: "sat sun", timezone: Europe/Amsterdam}]
"""
_NIGHTLY = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: nightly, project: shop}
spec:
  triggers: [{type: schedule, cron: "15 3 * * 1-5", timezone: Europe/Amsterdam}]
  tasks:
    - {name: fetch, run: "printf '\\\\033[32mfetched\\\\033[0m %s lines\\\\n' 1200"}
    - {name: check, needs: [fetch], matrix: {part: [orders, stock]}, run: "echo checking $MATRIX_PART; sleep 1"}
    - {name: report, needs: [check], run: "echo all is well | tee report.txt", attachments: ["report.txt"]}
"""
_SIZES = {"": (1280, 800), "phone": (390, 844)}
_ENDED = ("passed", "failed", "defective", "aborted")


def pages(running: Process) -> dict[str, str]:
    """Name of the picture → path of the page."""
    with running.client() as client:

        def get(path: str) -> Any:
            return client.get(path).raise_for_status().json()

        runs = get("/api/v1/pipelines/by-project/shop/by-name/release/executions/")
        revision = get("/reconciler/status")["source"]["last_applied_revision"]
        jobs = get("/reconciler/jobs?key=Build/shop/_/nightly")["items"]
    return {
        "overview": "/",
        "projects": "/ui/projects",
        "project": "/ui/projects/shop",
        "resources": "/ui/resources",
        "resource": "/ui/resources/Deployment/shop/staging/shop/web",
        "build": "/ui/resources/Build/shop/_/nightly",
        "jobs": "/ui/jobs",
        "job": f"/ui/jobs/{jobs[0]['number']}",
        "pipelines": "/ui/pipelines",
        "pipeline": "/ui/pipelines/shop/release",
        "run": f"/ui/pipelines/shop/release/{runs[0]['id']}",
        "releases": "/ui/releases",
        "approvals": "/ui/approvals",
        "calendar": "/ui/calendar",
        "changes": "/ui/changes",
        "change": f"/ui/changes/{revision}",
        "plan": "/ui/plan?ref=bigger",
        "executors": "/ui/executors",
        "events": "/ui/events?kind=deployed",
        "tokens": "/ui/tokens",
        "docs": "/ui/docs/first-pipeline",
    }


def set_up(shop: Shop) -> Process:
    """The shop's daemon, once its pipeline waits for people."""
    files = {"freeze.yaml": _FREEZE, "nightly.yaml": _NIGHTLY}
    shop.push(shop.specs, files, "A freeze over weekends, and a nightly check")
    running = shop.daemon()
    running.wait_for(
        lambda c: c.get("/reconciler/events", params={"kind": "pipeline-confirmation-requested"}).json()[
            "items"
        ],
        90,
    )
    with running.client() as client:
        made = (
            client.post("/reconciler/trigger", json={"key": "Build/shop/_/nightly"}).raise_for_status().json()
        )
    running.job(made["number"], *_ENDED)
    shop.specs.git("pull", "-q", "--rebase", "origin", "main")
    shop.specs.git("checkout", "-q", "-b", "bigger")
    path = shop.specs.path / "nightly.yaml"
    path.write_text(path.read_text().replace("15 3", "45 4").replace("sleep 1", "sleep 2"))
    shop.specs.git("commit", "-qam", "Later")
    shop.specs.git("push", "-q", "origin", "bigger")
    return running


def take(browser: Browser, running: Process, folder: Path) -> None:
    """All pages in all forms."""
    for colours in ("light", "dark"):
        for form, (width, height) in _SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=colours, device_scale_factor=1
            )
            page = context.new_page()
            page.goto(f"{running.url}/ui/sign-in")
            page.screenshot(path=folder / f"sign-in-{colours}{form and '-'}{form}.png")
            cookie = {"name": "X-Escape-Token", "value": running.token, "url": running.url}
            context.add_cookies([cookie])  # type: ignore[list-item]
            for name, path in pages(running).items():
                answer = page.goto(f"{running.url}{path}")
                assert answer is not None
                assert answer.status == 200, path
                page.wait_for_timeout(300)
                page.screenshot(
                    path=folder / f"{name}-{colours}{form and '-'}{form}.png", full_page=name != "events"
                )
            context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("pictures"))
    parser.add_argument("--overview", type=Path)
    wanted = parser.parse_args()
    wanted.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made, hook() as (address, _), chromium() as browser:
        shop = Shop(Path(made), address)
        running = set_up(shop)
        try:
            take(browser, running, wanted.folder)
        finally:
            stop(running)
            for port in PORTS:
                if shop.page(port):
                    shop.quit(port)
    if wanted.overview is not None:
        wanted.overview.write_bytes((wanted.folder / "overview-light.png").read_bytes())
    sys.stdout.write(f"{len(list(wanted.folder.glob('*.png')))} pictures are in {wanted.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
