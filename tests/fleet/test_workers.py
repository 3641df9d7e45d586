"""Workers: trials run where the leader says, with their secrets, and what becomes of them when a worker is gone."""

from __future__ import annotations

import json

from tests.fleet.fleet import build, fleet
from tests.support import eventually_now

HELLO = build("hello", "echo hello from $STEERSMAN_JOB", "echo done")


def test_a_worker_runs_what_the_daemon_does_not(tmp_path):
    """A daemon without executors waits for somebody who serves them, and says so; then the worker runs it."""
    with fleet(tmp_path, HELLO) as crew:
        daemon = crew.daemon()
        number = crew.trigger("Build/shop/_/hello")
        why = daemon.wait_for(
            lambda c: "steersman worker" in (told := c.get("/reconciler/why/Build/shop/_/hello").text) and told
        )
        assert "nobody serves it" in why
        crew.worker()
        job = crew.ended(number)
        assert job["state"] == "passed"
        ((signature,),) = crew.ask("SELECT worker FROM trials")
        assert signature.startswith("worker@")
