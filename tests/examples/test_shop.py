"""The shop, from a push to production and back to nothing, while its daemon dies on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.example_shop import PORTS, Shop, hook
from tests.support import stop

RUNS = "/api/v1/pipelines/by-project/shop/by-name/release/executions/"


class Watch:
    """The daemon as it is now: killed and started again at will."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.running = shop.daemon()

    def die(self) -> None:
        """Kill -9, and start again."""
        self.running.kill()
        self.shop.kills += 1
        self.running = self.shop.daemon()

    def until(self, check: Callable[[httpx.Client], Any], seconds: float = 60) -> Any:
        """The first true value."""
        return self.running.wait_for(check, seconds)

    def get(self, path: str) -> Any:
        """An answer."""
        with self.running.client() as client:
            return client.get(path).raise_for_status().json()

    def run(self, number: int, phase: str, status: str) -> dict[str, Any]:
        """A run of the pipeline once one of its phases has a status."""

        def check(client: httpx.Client) -> Any:
            found = [run for run in client.get(RUNS).json() if run["run_nr"] == number]
            phases = {each["name"]: each for each in found[0]["pipeline"]["phases"]} if found else {}
            return found[0] if found and phases[phase]["status"] == status else None

        found: dict[str, Any] = self.until(check, 90)
        return found

    def approve(self, run: dict[str, Any]) -> None:
        """By the administrator, who may."""
        (step,) = next(p["steps"] for p in run["pipeline"]["phases"] if p["name"] == "approve")
        code = step["confirmation"]["code"]
        with self.running.client() as client:
            client.get(f"{RUNS}{run['id']}/confirmation/{code}/approve").raise_for_status()


@pytest.mark.slow
def test_from_a_push_to_production_and_back(tmp_path: Path) -> None:
    with hook() as (address, told):
        shop = Shop(tmp_path, address)
        watch = Watch(shop)
        try:
            _to_production(shop, watch, told)
            _astray(shop, watch)
            _back(shop, watch)
            _to_nothing(shop, watch)
        finally:
            stop(watch.running)
            for port in PORTS:
                if shop.page(port):
                    shop.quit(port)


def _to_production(shop: Shop, watch: Watch, told: list[Any]) -> None:
    """Two releases, each through staging, a question, and production; the daemon dies five times on the way."""
    watch.until(
        lambda c: any(job["state"] == "executing" for job in c.get("/reconciler/jobs").json()["items"])
    )
    watch.die()  # while something is built
    run = watch.run(1, "approve", "pending")
    assert shop.page("7102").startswith("Shop 1.0.0, 0 orders")
    assert shop.page("7202") == ""
    watch.die()  # while it waits for a person
    watch.approve(watch.run(1, "approve", "pending"))
    watch.die()  # while it goes to production
    run = watch.run(1, "announce", "ok")
    assert (run["status"], run["releases"]) == ("ok", ["shop/web-v1.0.0"])
    assert shop.page("7202").startswith("Shop 1.0.0, 0 orders")
    assert [body["run_nr"] for body in told] == [1]
    assert "refs/tags/shop/web-v1.0.0" in shop.code.git("ls-remote", "origin")

    httpx.post(f"http://127.0.0.1:{shop.ports['7202']}/order", timeout=5)
    source = (shop.code.path / "web/web.py").read_text().replace("orders\\n", "orders!\\n")
    shop.push(shop.code, {"web/web.py": source}, "Louder")
    watch.run(2, "staging", "running")
    watch.die()  # while staging is deployed
    run = watch.run(2, "approve", "pending")
    assert shop.page("7102") == "Shop 1.0.1, 0 orders!\n"
    watch.approve(run)
    watch.run(2, "production", "running")
    watch.die()  # while production is
    watch.run(2, "announce", "ok")
    assert (
        shop.page("7202") == "Shop 1.0.1, 1 orders!\n"
    )  # the database is another deployment, and was not touched
    assert shop.kills == 5
    log = shop.specs.git("ls-remote", "origin", "main")
    shop.specs.git("pull", "-q", "--rebase", "origin", "main")
    assert "Steersman-Pipeline-Run: shop/release#2" in shop.specs.git("log", "-3", "--format=%B"), log


def _astray(shop: Shop, watch: Watch) -> None:
    """What is deployed is ended behind everybody's back: it is found, and put right."""
    watch.until(lambda c: _healthy(c, "shop/web"))
    shop.quit("7202")
    _eventually(lambda: shop.page("7202") == "Shop 1.0.1, 1 orders!\n", 60)
    kinds = [job["trigger"]["type"] for job in _jobs(watch, "Deployment/shop/production/shop/web")]
    assert {"check", "reconcile"} <= set(kinds)


def _back(shop: Shop, watch: Watch) -> None:
    """A revert of the commit is a rollback."""
    shop.specs.git("pull", "-q", "--rebase", "origin", "main")
    last = shop.specs.git("log", "-1", "--format=%H", "--", "production.yaml")
    shop.specs.git("revert", "--no-edit", last)
    shop.push(shop.specs, None, "")
    _eventually(lambda: shop.page("7202") == "Shop 1.0.0, 1 orders\n", 60)


def _to_nothing(shop: Shop, watch: Watch) -> None:
    """The environment goes from Git: the brake asks, and then all of it is destroyed, what consumes first."""
    watch.until(lambda c: _healthy(c, "shop/web"))
    before = {job["number"] for job in watch.get("/reconciler/jobs?limit=200")["items"]}
    shop.push(shop.specs, {"production.yaml": None, "release.yaml": None}, "No more")

    def brake(client: httpx.Client) -> Any:
        found = client.get("/reconciler/status").json()["held"]  # of what is applied: a plan is ahead of that
        return next((each for each in found if each["reason"] == "RemovalBrake"), None)

    held = watch.until(brake, 30)
    assert shop.page("7202") and shop.page("7201")
    with watch.running.client() as client:
        client.post("/reconciler/sync", json={"confirm": held["digest"]}).raise_for_status()
    _eventually(lambda: not shop.page("7202") and not shop.page("7201"), 60)

    def over(client: httpx.Client) -> Any:
        found = client.get("/reconciler/jobs?limit=200").json()["items"]
        mine = [job for job in found if job["number"] not in before and job["state"] == "passed"]
        keys = [job["key"] for job in sorted(mine, key=lambda job: job["number"])]
        wanted = [f"Deployment/shop/production/shop/{name}" for name in ("web", "database")]
        return [key for key in keys if key in wanted][-2:] == wanted

    watch.until(over, 30)
    assert shop.page("7102")  # staging stands


def _healthy(client: httpx.Client, name: str) -> bool:
    found = client.get("/reconciler/resources", params={"limit": 200}).json()["items"]
    one = [each for each in found if each["key"] == f"Deployment/shop/production/{name}"]
    return bool(one) and (one[0]["sync"], one[0]["health"]) == ("Synced", "Healthy")


def _jobs(watch: Watch, key: str) -> list[dict[str, Any]]:
    return list(watch.get(f"/reconciler/jobs?limit=200&key={key}")["items"])


def _eventually(check: Callable[[], Any], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.1)
