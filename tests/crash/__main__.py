"""`make sweep`: kills the daemon before and after each point there is, and prints what differed and the totals."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from reconciler.execution.sandbox import bubblewrap, why_not
from tests.crash.points import AFTER, BEFORE, Kill
from tests.crash.sweep import AT_ONCE, Run, again, dry_run, every, sample, sweep

_console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """0 when nothing was lost, doubled or missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--sample", type=int, help="only so many kills, evenly over the whole")
    parser.add_argument("--at", type=int, nargs="*", help="only before and after these points")
    parser.add_argument("--twice", action="store_true", help="kill the daemon that takes up the rest as well")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="runs side by side")
    given = parser.parse_args()
    if bubblewrap() is None:
        _console.print(why_not())
        return 2
    with tempfile.TemporaryDirectory() as folder:
        dry = dry_run(Path(folder, "dry"))
    _console.print(str(dry))
    if given.at is not None:
        kills = [Kill(number, when) for number in given.at for when in (BEFORE, AFTER)]
    else:
        kills = every(dry) if given.sample is None else sample(dry, given.sample)
    plans = [again(kill) if given.twice else (kill,) for kill in kills]
    report = sweep(dry, plans, _tell, given.at_once)
    _console.print()
    _console.print("\n".join(report.lines()))
    return 1 if report.faulty else 0


def _tell(run: Run) -> None:
    """One character a run; of one that differed, all of it."""
    if run.faults:
        _console.print("\n" + "\n".join(run.lines()))
    else:
        _console.print("." if run.died else "-", end="")


if __name__ == "__main__":
    raise SystemExit(main())
