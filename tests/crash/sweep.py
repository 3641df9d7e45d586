"""The sweep: one undisturbed run that counts the points, then one run a kill, each compared with it.

`tests.crash.__main__` (`make sweep`) kills at all points, `test_crash_sweep` at a sample. Runs share nothing but the
fork server, so some go on side by side.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import outcome, points
from tests.crash.drive import FINAL, Drive, Stuck, driven, play
from tests.crash.outcome import Faults, Outcome
from tests.crash.points import AFTER, BEFORE, Kill, Point
from tests.crash.scenario import World

AT_ONCE = 2
_TIDY_SECONDS = 5.0
_TAKING_UP = 23


@dataclass(frozen=True, slots=True)
class Dry:
    """The undisturbed run: its points and what came of it."""

    points: tuple[Point, ...]
    outcome: Outcome

    @property
    def count(self) -> int:
        """N."""
        return len(self.points)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}s" for kind, count in points.by_kind(list(self.points)).items())
        return f"N = {self.count} kill points: {kinds}"


@dataclass(frozen=True, slots=True)
class Run:
    """One disturbed run: the first daemon was to die at the first of `kills`, the next one at the next.

    `died`: the first point at which one did; None, there were fewer points than its number.
    """

    kills: tuple[Kill, ...]
    died: Point | None
    faults: Faults
    errors: str = ""

    def __str__(self) -> str:
        return ", then ".join(map(str, self.kills))

    def lines(self) -> Iterator[str]:
        """What was different in it, and what the daemon said where that may explain it."""
        yield f"killed {self}: {_about(self.died)}"
        yield from (f"    {sentence[:1500]}" for sentence in self.faults)
        if self.faults.lost or self.faults.other:
            yield from (f"    | {line[:400]}" for line in self.errors.splitlines()[-12:])


@dataclass(slots=True)
class Report:
    """All runs."""

    dry: Dry
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faulty(self) -> list[Run]:
        """Those that were not as the undisturbed one."""
        return [run for run in self.runs if run.faults]

    def lines(self) -> Iterator[str]:
        """The report in text; its last line has the totals."""
        for run in sorted(self.faulty, key=lambda run: run.kills[0].number):
            yield from run.lines()
        yield str(self.dry)
        killed = [run for run in self.runs if run.died is not None]
        for when in (BEFORE, AFTER):
            points_of = (run.died for run in killed if run.kills[0].when == when)
            kinds = Counter(point.kind for point in points_of if point is not None)
            yield f"killed {when}: " + (
                ", ".join(f"{n} {kind}s" for kind, n in sorted(kinds.items())) or "none"
            )
        undisturbed = len(self.runs) - len(killed)
        yield f"{len(self.runs)} runs in {self.seconds:.0f} s, of which {undisturbed} ended before their point"
        yield self.total

    @property
    def total(self) -> str:
        """The figures that count."""
        lost = sum(bool(run.faults.lost) for run in self.runs)
        doubled = sum(bool(run.faults.doubled) for run in self.runs)
        missing = sum(run.faults.missing_bytes for run in self.runs)
        other = sum(bool(run.faults.left or run.faults.other) for run in self.runs)
        return (
            f"{self.dry.count} kill points, {lost} lost, {doubled} doubled, {missing} bytes missing, "
            f"{other} otherwise different"
        )


def dry_run(folder: Path) -> Dry:
    """Play it undisturbed. AssertionError when already that leaves something behind."""
    world = World(folder)
    with driven(world, ()) as drive:
        play(drive)
        passed = tuple(drive.points())
        found = outcome.collect(drive)
        left = _left(drive)
    assert left == [], left
    shutil.rmtree(folder)
    return Dry(passed, found)


def disturbed(folder: Path, dry: Dry, kills: tuple[Kill, ...]) -> Run:
    """Play it with its kills, and compare."""
    world = World(folder)
    with driven(world, kills) as drive:
        try:
            play(drive)
            faults = outcome.compare(dry.outcome, outcome.collect(drive))
            faults.left += _left(drive)
        except Stuck as error:
            faults = Faults(lost=[f"it never came to {error}", *_unfinished(drive)])
        faults.other += drive.ends
        passed = drive.points()
        died = passed[kills[0].number - 1] if drive.happened else None
        run = Run(kills, died, faults, drive.errors() if faults else "")
        outcome.clear(world)
    shutil.rmtree(folder, ignore_errors=True)
    return run


def sweep(
    dry: Dry, plans: Sequence[tuple[Kill, ...]], told: Callable[[Run], None], at_once: int = AT_ONCE
) -> Report:
    """One run for each plan of kills; `told` hears of each as it ends."""
    report, began = Report(dry), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="steersman-sweep-") as name, ThreadPoolExecutor(at_once) as pool:
        folders = [Path(name, f"{index}") for index in range(len(plans))]
        for run in pool.map(disturbed, folders, [dry] * len(plans), plans):
            report.runs.append(run)
            told(run)
    report.seconds = time.monotonic() - began
    return report


def every(dry: Dry) -> list[Kill]:
    """Before and after each point."""
    return [Kill(point.number, when) for point in dry.points for when in (BEFORE, AFTER)]


def sample(dry: Dry, count: int) -> list[Kill]:
    """So many, evenly over the whole, before and after in turns; always the same for the same N."""
    return [Kill(1 + index * dry.count // count, (BEFORE, AFTER)[index % 2]) for index in range(count)]


def again(kill: Kill) -> tuple[Kill, ...]:
    """That kill, and a second one while the next daemon takes up what the first one left."""
    return kill, Kill(1 + kill.number % _TAKING_UP, AFTER if kill.when == BEFORE else BEFORE)


def _left(drive: Drive) -> list[str]:
    """What is left once the daemon is dead; what was just ending gets a moment."""
    drive.stop()
    until = time.monotonic() + _TIDY_SECONDS
    while (found := outcome.left_behind(drive.world)) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _unfinished(drive: Drive) -> list[str]:
    """What hangs, and in which trial."""
    try:
        found = [job for job in drive.jobs() if not job.ended]
        details = [drive.get(f"/reconciler/jobs/{job.number}").json()["tasks"] for job in found]
        return [
            f"job {job.build} {job.ordinal} is {job.state}: "
            + str([task for task in tasks if task["state"] not in FINAL])
            for job, tasks in zip(found, details, strict=True)
        ]
    except Exception as error:  # it is a report about a daemon that may not answer
        return [f"and it does not answer: {error}"]


def _about(point: Point | None) -> str:
    return "never" if point is None else f"{point.kind} {point.what[:160]}"
