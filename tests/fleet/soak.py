"""Jobs on two daemons and three workers while all of them, and PostgreSQL, are killed and stopped in turn.

    python -m tests.fleet.soak [--jobs 2000] [--minutes 10] [--seed 1]      (`make soak`)

Every script writes down that it began, holds a lock for as long as any process of it lives, prints numbered lines and
writes down its end. Afterwards: each job asked for is there and has passed, no trial began twice, no two attempts
at a job ran at the same time, the lock of the lead never had two holders, and each log is whole, at both daemons.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.store import migrate
from tests import databases
from tests.fleet.fleet import TOKEN, Fleet, fleet
from tests.support import Process

POSTGRESQL = "PostgreSQL"
_LINES = 40
_LOAD = "4"
_DAEMONS, _WORKERS = ("north", "south"), ("one", "two", "three")
_SCRIPT = """\
exec 9>>"{out}/lock-$STEERSMAN_JOB"
flock -n 9 || echo "overlap $STEERSMAN_JOB $STEERSMAN_TRIAL" >>"{out}/marks"
echo "begin $STEERSMAN_JOB $STEERSMAN_TRIAL" >>"{out}/marks"
i=0
while [ $i -lt {lines} ]; do
  i=$((i+1)); echo "line $i of $STEERSMAN_JOB"
  [ $((i % 10)) -ne 0 ] || sleep 0.$((STEERSMAN_JOB % 7))
done
echo "end $STEERSMAN_JOB $STEERSMAN_TRIAL" >>"{out}/marks"
"""


@dataclass
class Report:
    """What came of it; `faults` is empty when all is well."""

    jobs: int = 0
    seconds: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    made_twice: int = 0
    trials: int = 0
    lost: int = 0
    leads: int = 0
    longest_without_lead: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """For people."""
        blows = ", ".join(f"{count} {name}" for name, count in sorted(self.blows.items()))
        lines = [
            f"{self.jobs} jobs in {self.seconds:.0f} s; {blows}",
            f"{self.trials} trials, {self.lost} of them lost and tried again",
            f"{self.unanswered} requests were not answered and asked again; {self.made_twice} of them had been done",
            f"the lead changed hands {self.leads} times, nobody had it for at most {self.longest_without_lead:.1f} s",
            *(f"FAULT: {fault}" for fault in self.faults),
        ]
        return "\n".join(lines if self.faults else [*lines, "nothing lost, nothing twice, every log whole"])


@dataclass(frozen=True)
class Blow:
    """What is done to a process: `kill`, `stop` or (PostgreSQL) `restart`; it is back after so many seconds."""

    target: str
    how: str
    seconds: float


class Soak:
    """One run. `plan`: what is done to it; None: each in turn, as `seed` has it, until the time is over."""

    def __init__(
        self,
        crew: Fleet,
        server: databases.Server,
        jobs: int,
        seconds: float,
        seed: int = 1,
        plan: Sequence[Blow] | None = None,
    ) -> None:
        self._crew = crew
        self._plan = plan
        self._calm = (2.0, 6.0) if plan is None else (1.0, 1.0)
        self._server = server
        self._jobs = jobs
        self._seconds = seconds
        self._random = random.Random(seed)
        self._out = crew.folder / "out"
        self._over = threading.Event()
        self._daemons: dict[str, Process] = {}
        self.report = Report(jobs=jobs)

    def run(self) -> Report:
        """From the first start to the last look."""
        for name in _DAEMONS:
            self._daemons[name] = self._crew.daemon(name)
        for name in _WORKERS:
            self._crew.worker(name, STEERSMAN_MAX_LOAD=_LOAD)
        watching = threading.Thread(target=self._watch_lead, daemon=True)
        striking = threading.Thread(target=self._strike_on, daemon=True)
        begun = time.monotonic()
        watching.start()
        striking.start()
        numbers = [self._ask_for(number, begun) for number in range(self._jobs)]
        striking.join()
        self._wait_for_all(numbers)
        self.report.seconds = time.monotonic() - begun
        self._over.set()
        watching.join()
        self._look(numbers)
        return self.report

    # -- what is asked of it

    def _ask_for(self, number: int, begun: float) -> int:
        """One more job, through either daemon, as often as it takes: the key makes it one."""
        due = begun + self._seconds * number / self._jobs
        time.sleep(max(0.0, due - time.monotonic()))
        for name in itertools.cycle(self._random.sample(_DAEMONS, len(_DAEMONS))):
            if time.monotonic() - due > 300:
                raise AssertionError(f"job {number} was not taken in five minutes")
            try:
                with self._client(name) as client:
                    answer = client.post(
                        "/reconciler/trigger",
                        json={"key": "Build/shop/_/work"},
                        headers={"Idempotency-Key": f"soak-{number}"},
                    )
                if answer.status_code in (200, 201, 202):
                    return int(answer.json()["number"])
                if answer.status_code not in (409, 502, 503, 504):
                    raise AssertionError(f"{answer.status_code}: {answer.text}")
            except httpx.HTTPError:
                pass
            # a kill between the work and the note of it ends the key's promise (`api.idempotency`)
            self.report.unanswered += 1
            time.sleep(0.2)
        raise AssertionError("there are no daemons")

    def _client(self, name: str) -> httpx.Client:
        return httpx.Client(
            base_url=self._daemons[name].url,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=15,
            trust_env=False,
        )

    # -- what is done to it

    def _strike_on(self) -> None:
        """One blow after the other, as planned, or until the time is over."""
        until = time.monotonic() + self._seconds
        for blow in self._plan or self._endless(until):
            if self._plan is None and time.monotonic() > until:
                return
            time.sleep(self._random.uniform(*self._calm))
            self._strike(blow)

    def _endless(self, until: float) -> Iterator[Blow]:
        """Each process in turn, and PostgreSQL twice."""
        crashes = [until - self._seconds * part for part in (0.66, 0.33)]
        for name in itertools.cycle([*_WORKERS, *_DAEMONS]):
            if crashes and time.monotonic() > crashes[0]:
                crashes.pop(0)
                yield Blow(POSTGRESQL, "restart", self._random.uniform(0.5, 3))
            if self._random.random() < 0.5:
                yield Blow(name, "stop", self._random.choice([1, 5, 12, 20]))
            else:
                yield Blow(name, "kill", self._random.choice([0, 1, 4, 18]))

    def _strike(self, blow: Blow) -> None:
        what = (
            {POSTGRESQL: POSTGRESQL} | dict.fromkeys(_DAEMONS, "daemons") | dict.fromkeys(_WORKERS, "workers")
        )
        self.report.blows[f"{blow.how}s of {what[blow.target]}"] += 1
        if blow.target == POSTGRESQL:
            self._server.kill()
            time.sleep(blow.seconds)
            self._server.start()
            return
        is_daemon = blow.target in _DAEMONS
        struck: Any = self._daemons[blow.target] if is_daemon else self._worker(blow.target)
        if blow.how == "stop":
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(struck.popen.pid)
                process.send_signal(signal.SIGSTOP)
                time.sleep(blow.seconds)
                process.send_signal(signal.SIGCONT)
            return
        struck.kill()
        time.sleep(blow.seconds)
        self._again(blow.target)

    def _again(self, name: str) -> None:
        """Start it once more, as often as it takes: the database may be away just now."""
        for _ in range(60):
            try:
                if name in _DAEMONS:
                    self._crew.daemons.remove(self._daemons[name])
                    self._daemons[name] = self._crew.daemon(name)
                else:
                    self._crew.workers.remove(self._worker(name))
                    self._crew.worker(name, STEERSMAN_MAX_LOAD=_LOAD)
                return
            except (AssertionError, ValueError):
                time.sleep(1)
        self.report.faults.append(f"{name} did not start again")

    def _worker(self, name: str) -> Any:
        return next(each for each in self._crew.workers if each.data.name == name)

    # -- what is seen meanwhile

    def _watch_lead(self) -> None:
        """Who holds the lock of the lead, ten times a second."""
        holder, since = None, time.monotonic()
        query = text(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
        )
        while not self._over.is_set():
            time.sleep(0.1)
            try:
                engine = create_engine(databases.internal(self._crew.database), poolclass=NullPool)
                with engine.connect() as connection:
                    pids = [row.pid for row in connection.execute(query)]
            except DBAPIError:
                continue  # it is just being restarted
            now = time.monotonic()
            if len(pids) > 1:
                self.report.faults.append(f"the lead had {len(pids)} holders at once")
            if pids:
                self.report.leads += holder is not None and pids[0] != holder
                holder, since = pids[0], now
            self.report.longest_without_lead = max(self.report.longest_without_lead, now - since)

    def _wait_for_all(self, numbers: Sequence[int]) -> None:
        def left() -> list[Any]:
            return self._crew.ask("SELECT number FROM jobs WHERE finished_at IS NULL")

        deadline = time.monotonic() + 300
        while left():
            if time.monotonic() > deadline:
                self.report.faults.append(f"{len(left())} of {len(numbers)} jobs did not end")
                return
            time.sleep(0.5)

    # -- what is there afterwards

    def _look(self, numbers: Sequence[int]) -> None:
        fault = self.report.faults.append
        for number, count in Counter(numbers).items():
            if count > 1:
                fault(f"job {number} was given out {count} times")
        states = dict(tuple(row) for row in self._crew.ask("SELECT number, state FROM jobs"))
        more = states.keys() - set(numbers)
        self.report.made_twice = len(more)
        if not states.keys() >= set(numbers) or len(more) > self.report.unanswered:
            fault(f"{len(set(numbers))} jobs were asked for, {len(states)} are there")
        wrong = {number: state for number, state in states.items() if state != "passed"}
        if wrong:
            fault(f"jobs that have not passed: {wrong}")
        trials = self._crew.ask("SELECT state, reason FROM trials")
        self.report.trials = len(trials)
        self.report.lost = sum(reason == "lost" for _, reason in trials)
        self._look_at_marks()
        self._look_at_logs(sorted(states))

    def _look_at_marks(self) -> None:
        marks = Counter((self._out / "marks").read_text().splitlines())
        for line, count in marks.items():
            if line.startswith("overlap"):
                self.report.faults.append(f"two attempts at once: {line}")
            elif count > 1:
                self.report.faults.append(f"{count} times: {line}")
        # one that had done its work when its worker was lost, before that was stored, is tried again as declared
        lost = {row[0] for row in self._crew.ask("SELECT id FROM trials WHERE reason = 'lost'")}
        ended = Counter(
            words[1] for line in marks if (words := line.split())[0] == "end" and words[2] not in lost
        )
        for number, count in ended.items():
            if count > 1:
                self.report.faults.append(f"job {number} was done {count} times")

    def _look_at_logs(self, numbers: Sequence[int]) -> None:
        for name in _DAEMONS:
            with self._client(name) as client:
                for number in numbers:
                    expected = "".join(f"line {i} of {number}\n" for i in range(1, _LINES + 1))
                    last = self._crew.ask(
                        "SELECT max(r.number) FROM trials r JOIN tasks t ON t.id = r.task WHERE t.job = :n",
                        n=number,
                    )[0][0]
                    found = client.get(
                        f"/reconciler/jobs/{number}/log", params={"trial": last, "task": "main"}
                    )
                    if found.text != expected:
                        self.report.faults.append(
                            f"log of job {number} at {name}: {found.status_code} {found.text[-200:]!r}"
                        )


def soak(
    folder: Path,
    jobs: int,
    seconds: float,
    seed: int = 1,
    plan: Sequence[Blow] | None = None,
    *,
    fresh: bool = True,
) -> Report:
    """On a PostgreSQL of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    server = databases.Server(folder / "postgres")
    try:
        url = server.new()
        migrate.prepare(databases.internal(url), may_migrate=True)
        out = folder / "out"
        out.mkdir()
        out.chmod(0o777)
        with fleet(folder, _specs(out), url, fresh=fresh) as crew:
            return Soak(crew, server, jobs, seconds, seed, plan).run()
    finally:
        server.close()


def _specs(out: Path) -> str:
    head = {"apiVersion": "steersman/v1"}
    executor = head | {
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": {"max_load": 4, "writable": [str(out)]},
    }
    task = {"name": "main", "run": _SCRIPT.format(out=out, lines=_LINES), "lost_retries": 50}
    build = head | {
        "kind": "Build",
        "metadata": {"name": "work", "project": "shop"},
        "spec": {"tasks": [task], "concurrency": "allow"},
    }
    return f"---\n{json.dumps(executor)}\n---\n{json.dumps(build)}\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="steersman-soak-"))
    sys.stdout.write(f"{given.jobs} jobs over {given.minutes:g} minutes, seed {given.seed}\n")
    sys.stdout.flush()
    report = soak(folder, given.jobs, given.minutes * 60, given.seed)
    sys.stdout.write(f"{report}\n")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
