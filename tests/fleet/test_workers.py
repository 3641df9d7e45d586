"""Workers: trials run where the leader says, with their secrets, and what becomes of them when a worker is gone."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from reconciler.sealing import seal
from tests import databases
from tests.fleet.fleet import TOKEN, build, fleet
from tests.support import eventually_now

HELLO = build("hello", "echo hello from $STEERSMAN_JOB", "echo done")


def test_a_worker_runs_what_the_daemon_does_not(tmp_path):
    """A daemon without executors waits for somebody who serves them, and says so; then the worker runs it."""
    with fleet(tmp_path, HELLO) as crew:
        daemon = crew.daemon()
        number = crew.trigger("Build/shop/_/hello")
        why = daemon.wait_for(
            lambda c: (
                "steersman worker" in (told := c.get("/reconciler/why/Build/shop/_/hello").text) and told
            )
        )
        assert "nobody serves it" in why
        crew.worker()
        job = crew.ended(number)
        assert job["state"] == "passed"
        assert crew.text(number) == f"hello from {number}\ndone\n"
        ((signature,),) = crew.ask("SELECT worker FROM trials")
        assert signature.startswith("worker@")


def _secret(crew, name: str, value: str) -> str:
    """A Secret as a document, sealed with the server's public key."""
    with crew.client() as client:
        recipient = client.get("/reconciler/secrets/key").json()["recipient"]
    key = f"Secret/shop/_/{name}"
    spec = {"type": "value", "sealed": seal(value.encode(), recipient, key)}
    body = {"apiVersion": "steersman/v1", "kind": "Secret", "metadata": {"name": name, "project": "shop"}}
    return f"---\n{json.dumps(body | {'spec': spec})}\n"


def test_secrets_and_the_token_reach_a_worker_sealed_to_it(tmp_path):
    """The value works there; in the database it is nowhere in clear, and the worker has no key of the server."""
    with fleet(tmp_path, HELLO) as crew:
        crew.daemon()
        crew.worker()
        task = {"environment_variables": {"TOKEN": {"secret_ref": "token"}}}
        mark = hashlib.sha256(b"correct horse").hexdigest()
        script = f'test $(printf %s "$TOKEN" | sha256sum | cut -c1-64) = {mark} && '
        script += 'test -n "$STEERSMAN_TOKEN" && echo "$STEERSMAN_SERVER"'
        secret = _secret(crew, "token", "correct horse")
        crew.repo.commit({"more.yaml": secret + build("guarded", script, **task)})
        crew.daemons[0].wait_for(lambda c: "guarded" in c.get("/reconciler/resources").text)
        job = crew.ended(crew.trigger("Build/shop/_/guarded"))
        assert job["state"] == "passed", json.dumps(job)
        assert b"correct horse" not in databases.everything(crew.database)
        assert not (tmp_path / "worker" / "server.key").exists()
        (run,) = (tmp_path / "worker" / "runs").glob("*/*")
        assert crew.daemons[0].url in (run / "log").read_text()


def test_a_job_is_ended_where_it_runs(tmp_path):
    """`cancel` at the daemon ends the script at the worker."""
    with fleet(tmp_path, build("long", "exec sleep 600")) as crew:
        crew.daemon()
        crew.worker()
        number = crew.trigger("Build/shop/_/long")
        crew.until(number, lambda job: job["state"] == "executing")
        eventually_now(lambda: _scripts_at_work(tmp_path / "worker"), 60)
        with crew.client() as client:
            assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
        job = crew.ended(number)
        assert (job["state"], job["reason"]) == ("aborted", "cancelled")
        assert _scripts_at_work(tmp_path / "worker") == []


def test_a_killed_worker_that_comes_back_goes_on_with_its_scripts(tmp_path):
    """Within its lease: the script never notices, nothing is started twice, its log is whole."""
    lines = "i=0; while [ $i -lt 12 ]; do i=$((i+1)); echo line $i; sleep 0.5; done"
    with fleet(tmp_path, build("steady", lines)) as crew:
        crew.daemon()
        worker = crew.worker(STEERSMAN_LEASE_SECONDS="60")
        number = crew.trigger("Build/shop/_/steady")
        crew.until(number, lambda job: job["tasks"][0]["trials"][0]["state"] == "executing")
        worker.kill()
        crew.worker(STEERSMAN_LEASE_SECONDS="60")
        job = crew.ended(number)
        assert job["state"] == "passed"
        assert len(job["tasks"][0]["trials"]) == 1
        assert crew.text(number) == "".join(f"line {i}\n" for i in range(1, 13))


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_lost_worker_loses_no_job(tmp_path, how):
    """Killed or standing still: its script ends with the lease, then another worker has the trial that follows it."""
    out = tmp_path / "out"
    out.mkdir()
    second = f"[ $(wc -l < {out}/starts) -gt 1 ]"
    script = f"echo begin >> {out}/starts; {second} || sleep 60; sleep 1; echo end >> {out}/ends"
    writable = {"max_load": 1, "writable": [str(out)]}
    executor = {
        "apiVersion": "steersman/v1",
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": writable,
    }
    specs = f"---\n{json.dumps(executor)}\n" + build("long", script)
    with fleet(tmp_path, specs) as crew:
        crew.daemon()
        first = crew.worker("first")
        number = crew.trigger("Build/shop/_/long")
        eventually_now(lambda: (out / "starts").exists())
        crew.worker("second")
        getattr(first, how)()
        job = crew.until(number, lambda job: len(job["tasks"][0]["trials"]) == 2, 60)
        trial = job["tasks"][0]["trials"][0]
        assert (trial["state"], trial["reason"]) == ("defective", "lost")
        assert "first" in trial["error"]
        eventually_now(lambda: len((out / "starts").read_text().splitlines()) == 2)
        assert _scripts_at_work(tmp_path / "first") == []
        if how == "freeze":
            first.thaw()
        job = crew.ended(number, 90)
        assert job["state"] == "passed"
        assert [trial["state"] for trial in job["tasks"][0]["trials"]] == ["defective", "passed"]
        assert len((out / "starts").read_text().splitlines()) == 2
        assert len((out / "ends").read_text().splitlines()) == 1


def test_what_was_not_begun_goes_to_another_worker_without_an_attempt(tmp_path):
    """A worker that stands still takes nothing up: what was claimed for it is claimed anew."""
    with fleet(tmp_path, HELLO) as crew:
        crew.daemon()
        first = crew.worker("first")
        first.freeze()
        number = crew.trigger("Build/shop/_/hello")
        eventually_now(lambda: crew.ask("SELECT 1 FROM trials WHERE state = 'dispatching'"))
        crew.worker("second")
        job = crew.ended(number)
        first.thaw()
        assert job["state"] == "passed"
        assert len(job["tasks"][0]["trials"]) == 1
        ((epoch,),) = crew.ask("SELECT epoch FROM trials")
        assert epoch > 1


def test_a_worker_that_drains_ends_when_its_scripts_have(tmp_path):
    """TERM: nothing more is given to it, what runs ends as ever, and it is no more."""
    with fleet(tmp_path, build("some", "sleep 4")) as crew:
        daemon = crew.daemon()
        worker = crew.worker()
        number = crew.trigger("Build/shop/_/some")
        crew.until(number, lambda job: job["tasks"][0]["trials"][0]["state"] == "executing")
        drain = crew.worker("drain", drain=True)
        drain.popen.terminate()
        assert drain.popen.wait(30) == 0
        worker.popen.terminate()
        assert worker.popen.wait(30) == 0
        again = crew.worker(drain=True)
        again.popen.terminate()
        assert again.popen.wait(60) == 0
        assert crew.ended(number)["state"] == "passed"
        daemon.wait_for(lambda _: len(crew.ask("SELECT 1 FROM workers")) == 1)


def test_load_is_each_workers_own(tmp_path):
    """Two workers with room for two each: four at once, and never more than two on one."""
    out = tmp_path / "out"
    out.mkdir()
    mark = f"touch {out}/$STEERSMAN_JOB; until [ $(ls {out} | wc -l) -ge 4 ]; do sleep 0.2; done; sleep 1"
    executor = {
        "apiVersion": "steersman/v1",
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": {"max_load": 1, "writable": [str(out)]},
    }
    with fleet(tmp_path, f"---\n{json.dumps(executor)}\n" + build("meet", mark)) as crew:
        crew.daemon()
        for name in ("first", "second"):
            crew.worker(name, STEERSMAN_MAX_LOAD="2")
        numbers = [crew.trigger("Build/shop/_/meet") for _ in range(5)]
        for number in numbers:
            assert crew.ended(number)["state"] == "passed"
        rows = crew.ask("SELECT worker, count(*) FROM trials GROUP BY worker")
        assert sorted(count for _, count in rows)[-1] <= 3
        assert len(rows) == 2


def _run_manifest(crew) -> None:
    """A manifest of two scripts with a secret and an artifact, to its end; the artifact is asked of the daemon."""
    tasks = [{"first": "echo 41 > number"}, {"then": "test $(cat number) = 41; echo kept > out.txt"}]
    manifest = {"image": "alpine/edge", "tasks": tasks, "artifacts": ["out.txt"]}
    headers = {"Authorization": f"token {TOKEN}"}
    with crew.client() as client:
        made = client.post("/api/jobs", json={"manifest": json.dumps(manifest)}, headers=headers)
        assert made.status_code == 200, made.text
        number = made.json()["id"]

        def ended(asked):
            found = asked.get(f"/api/jobs/{number}", headers=headers).json()
            return found["status"] in ("success", "failed") and found

        job = crew.daemons[0].wait_for(ended, 60)
        assert job["status"] == "success", json.dumps(job) + crew.workers[0].log()
        kept = client.get(f"/api/jobs/{number}/artifacts", headers=headers).json()
        (url,) = [each["url"] for each in kept["results"]]
        assert client.get(url, headers=headers).text == "kept\n"
        assert "==> build #1 then <==\n" in crew.text(number)


MANIFESTS = {
    "apiVersion": "steersman/v1",
    "kind": "Executor",
    "metadata": {"name": "local"},
    "spec": {"max_load": 2, "default_image": "alpine/edge", "images": {"alpine/edge": {"type": "host"}}},
}


def test_a_manifest_of_several_scripts_runs_on_one_worker(tmp_path):
    """In one home, one after the other, each with its log; what it keeps is served by the daemon."""
    with fleet(tmp_path, f"---\n{json.dumps(MANIFESTS)}\n") as crew:
        crew.daemon()
        crew.worker()
        _run_manifest(crew)


def test_a_worker_works_with_the_least_rights(tmp_path):
    """Under the role of examples/deploy it runs, hands on logs and files, and is heard of; it can read no token."""
    grants = (Path(__file__).parents[2] / "examples/deploy/worker-role.sql").read_text()
    with fleet(tmp_path, f"---\n{json.dumps(MANIFESTS)}\n" + build("long", "sleep 600")) as crew:
        name = databases.grant(crew.database, "steersman_worker", grants)
        crew.daemon()
        crew.worker(STEERSMAN_DATABASE=name)
        _run_manifest(crew)
        number = crew.trigger("Build/shop/_/long")
        crew.until(number, lambda job: job["tasks"][0]["trials"][0]["state"] == "executing")
        with crew.client() as client:
            assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
        assert crew.ended(number)["state"] == "aborted"
        engine = create_engine(databases.internal(name), poolclass=NullPool)
        for table in ("tokens", "deployments", "numbers", "approvals", "sources"):
            with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(f"SELECT * FROM {table}"))
        for query in ("UPDATE jobs SET actor = 'x'", "DELETE FROM events", "INSERT INTO jobs DEFAULT VALUES"):
            with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(query))
        for query in (  # else requests of people came to it, with their tokens
            "UPDATE workers SET leads = true WHERE kind = 'worker'",
            "UPDATE workers SET address = 'http://192.0.2.1' WHERE kind = 'worker'",
            "UPDATE workers SET kind = 'daemon' WHERE kind = 'worker'",
        ):
            with engine.connect() as connection, pytest.raises(ProgrammingError, match="row-level security"):
                connection.execute(text(query))
        with engine.connect() as connection:
            for query in ("UPDATE workers SET address = 'http://192.0.2.1'", "DELETE FROM workers"):
                assert connection.execute(text(f"{query} WHERE kind = 'daemon'")).rowcount == 0


def _scripts_at_work(data) -> list[int]:
    """Supervisors of scripts with run folders below a data directory."""
    return [
        found.pid
        for found in psutil.process_iter(["cmdline"])
        if any("supervisor.sh" in part for part in found.info["cmdline"] or ())
        and any(str(data) in part for part in found.info["cmdline"] or ())
    ]


def test_a_job_that_was_cancelled_while_its_daemon_was_away_does_not_run_on(tmp_path):
    """Its end was stored without that daemon, whose script ends when it is back."""
    with fleet(tmp_path, build("long", "sleep 600")) as crew:
        crew.daemon()
        second = crew.daemon("second", STEERSMAN_EXECUTORS='["local"]')
        number = crew.trigger("Build/shop/_/long")
        crew.until(number, lambda job: job["tasks"][0]["trials"][0]["state"] == "executing")
        eventually_now(lambda: _scripts_at_work(tmp_path / "second"))
        psutil.Process(second.popen.pid).suspend()
        away = (
            "SELECT 1 FROM workers WHERE name = 'second' AND seen_at / 1e6 < extract(epoch FROM now()) - 18"
        )
        eventually_now(lambda: crew.ask(away), 60)
        with crew.client() as client:
            assert "nothing was heard of second" in client.get("/reconciler/why/Build/shop/_/long").text
            assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
        assert crew.ended(number)["state"] == "aborted"
        assert _scripts_at_work(tmp_path / "second")
        psutil.Process(second.popen.pid).resume()
        eventually_now(lambda: _scripts_at_work(tmp_path / "second") == [], 60)


@pytest.mark.parametrize("killed", [False, True], ids=["seen", "daemon-killed"])
def test_what_was_claimed_for_one_that_has_left_goes_to_others(tmp_path, killed):
    """It was claimed while the worker said that it leaves; the daemon sees it gone, or has been killed by then."""
    with fleet(tmp_path, HELLO) as crew:
        daemon = crew.daemon()
        first = crew.worker("first")
        first.freeze()
        number = crew.trigger("Build/shop/_/hello")
        eventually_now(lambda: crew.ask("SELECT 1 FROM trials WHERE state = 'dispatching'"))
        if killed:
            daemon.kill()
            crew.daemons.remove(daemon)
        databases.execute_on(crew.database, "DELETE FROM workers WHERE name = 'first'")
        first.kill()
        if killed:
            crew.daemon()
        crew.worker("second")
        job = crew.ended(number)
        assert job["state"] == "passed"
        assert len(job["tasks"][0]["trials"]) == 1


def test_a_copy_of_a_data_directory_on_another_machine_is_refused(tmp_path):
    """It would take the trials of the first one for its own."""
    with fleet(tmp_path, HELLO) as crew:
        crew.daemon()
        crew.worker("first")
        shutil.copytree(tmp_path / "first", tmp_path / "copy")
        databases.execute_on(crew.database, "UPDATE workers SET boot = 'another' WHERE name = 'first'")
        copy = crew.worker("copy", wait=False)
        assert copy.popen.wait(60) == 1
        assert "first works with a copy of this data directory" in copy.log()
        assert "Traceback" not in copy.log()
        assert crew.ended(crew.trigger("Build/shop/_/hello"))["state"] == "passed"


def test_a_worker_that_cannot_keep_its_lease_stays(tmp_path):
    """Its disk may be full: it says so, and goes on when there is room."""
    with fleet(tmp_path, HELLO) as crew:
        crew.daemon()
        worker = crew.worker()
        (tmp_path / "worker" / "lease.new").mkdir()
        eventually_now(lambda: "not-heard-of" in worker.log())
        (tmp_path / "worker" / "lease.new").rmdir()
        eventually_now(lambda: "heard-of-again" in worker.log())
        assert worker.popen.poll() is None
        assert crew.ended(crew.trigger("Build/shop/_/hello"))["state"] == "passed"


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        ("GRANT SELECT ON alembic_version, meta TO {role}", "permission denied for table"),
        ("{all}; REVOKE ALL ON procrastinate_jobs FROM {role}", "tables of Procrastinate"),
    ],
    ids=["few", "no Procrastinate"],
)
def test_a_worker_without_rights_says_so_in_a_sentence(tmp_path, rights, told):
    """And ends, instead of looking as if it served."""
    grants = (Path(__file__).parents[2] / "examples/deploy/worker-role.sql").read_text()
    role = "steersman_few"
    with fleet(tmp_path, HELLO) as crew:
        grants = grants.replace("steersman_worker", role)
        name = databases.grant(crew.database, role, rights.format(role=role, all=grants))
        worker = crew.worker(wait=False, STEERSMAN_DATABASE=name)
        assert worker.popen.wait(60) == 1
        assert told in worker.log()
        assert worker.log().startswith("steersman: ")
        assert "Traceback" not in worker.log()
        assert crew.ask("SELECT 1 FROM workers") == []


def test_a_worker_that_cannot_hand_on_files_says_so_and_gets_nothing(tmp_path):
    """Its object store does not answer: what ended waits there, the rest goes to others."""
    with fleet(tmp_path, build("kept", "echo x > file", attachments=["file"]) + HELLO) as crew:
        daemon = crew.daemon()
        options = {
            "endpoint": "http://127.0.0.1:9",
            "access_key_id": "a",
            "secret_access_key": "b",
            "region": "x",
        }
        crew.worker(
            "first",
            STEERSMAN_OBJECT_STORE="s3://bucket/place",
            STEERSMAN_OBJECT_STORE_OPTIONS=json.dumps(options),
        )
        crew.trigger("Build/shop/_/kept")
        daemon.wait_for(lambda c: "the object store" in c.get("/reconciler/executors").text, 90)
        crew.worker("second")
        job = crew.ended(crew.trigger("Build/shop/_/hello"))
        assert job["state"] == "passed"
        ((signature,),) = crew.ask("SELECT worker FROM trials WHERE state = 'passed'")
        (second,) = crew.ask("SELECT id FROM workers WHERE name = 'second'")
        assert second[0] in signature


def test_a_daemon_with_the_documented_rights_carries_trials(tmp_path):
    """Its role owns nothing: what api/docs/databases.md grants is enough, also beside the role of workers."""
    docs = (Path(__file__).parents[2] / "api/docs/databases.md").read_text()
    (grants,) = [part.split("```")[0] for part in docs.split("```sql\n") if part.startswith("GRANT")]
    role = "steersman_daemon"
    with fleet(tmp_path, HELLO) as crew:
        ours = (Path(__file__).parents[2] / "examples/deploy/worker-role.sql").read_text()
        of_worker = databases.grant(crew.database, "steersman_worker", ours)
        name = databases.grant(crew.database, role, re.sub(r"\bTO steersman\b", f"TO {role}", grants))
        crew.daemon(STEERSMAN_DATABASE=name)
        crew.worker(STEERSMAN_DATABASE=of_worker)
        assert crew.ended(crew.trigger("Build/shop/_/hello"))["state"] == "passed"


def test_workers_are_counted_for_monitoring(tmp_path):
    """With those that are away, and who leads."""
    with fleet(tmp_path, HELLO) as crew:
        daemon = crew.daemon()
        crew.worker()
        lines = (
            'steersman_workers{kind="daemon",state="open"} 1.0',
            'steersman_workers{kind="worker",state="open"} 1.0',
        )
        told = daemon.wait_for(
            lambda c: all(line in (told := c.get("/metrics").text) for line in lines) and told
        )
        assert "steersman_leads 1.0" in told
        assert "steersman_take_overs 1.0" in told
