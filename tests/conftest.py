"""What all tests share: databases of both kinds, and no silent skips in CI."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import httpx._transports.default as transports
import pytest
from hypothesis import settings

from reconciler.execution import processes
from reconciler.store import engine
from tests import databases

# Each new client reads all certificates of the world, though tests speak to this machine only: 50 ms, thousandfold.
transports.create_ssl_context = lru_cache(transports.create_ssl_context)  # type: ignore[attr-defined]

engine.create_engine = databases.sharing(engine.create_engine)  # each would compile all statements anew

NewDatabase = Callable[[], str]
# A CI run is the same each time; runs by hand go on looking for new examples. Neither looks at the clock.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("by-hand", deadline=None)
settings.load_profile("ci" if os.environ.get("STEERSMAN_NO_SKIPS") else "by-hand")
_numbers = itertools.count(1)
_DEMO = "test_the_demo_runs_whole"
_DATABASES = ("sqlite", "postgresql")
_WAITING = (
    "tests/fleet/test_workers.py",
    "tests/fleet/test_network.py",
    "tests/daemons/",
    "tests/fleet/",
    "tests/end_to_end/test_trouble.py",
)
_ON_BOTH = ("tests/reconciler/store/", "test_convergence.py", "test_running.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What takes longer than a run should is asked for."""
    parser.addoption(
        "--database",
        choices=_DATABASES,
        help="everything on this one; without it daemons take SQLite, the store is tested on both, and what lies upon "
        "it on one of the two",
    )
    parser.addoption(
        "--demo", action="store_true", help="also the whole of `make demo`, which takes a minute"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before the first test is made; until all are, the collector of garbage finds none."""
    if hasattr(config, "workerinput"):
        gc.disable()
    processes.spare_children()
    databases.choose(config.getoption("--database"))


def pytest_unconfigure() -> None:
    """After the last one."""
    databases.end()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The store is tested on both databases; what only lies upon it, on one of the two, the same in each run."""
    left = set() if config.getoption("--demo") else {item for item in items if item.name == _DEMO}
    only = config.getoption("--database")
    left |= {item for item in items if _elsewhere(item, only)}
    if left:
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]
    items[:] = _spread(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _spread(items: list[pytest.Item], count: int) -> list[pytest.Item]:
    """Tests that mostly wait come first in half of the processes, beside others that work all the time.

    Each process gets an equal part in this order to begin with (`worksteal`).
    """
    hands: list[list[pytest.Item]] = [[] for _ in range(max(1, count // 2))]
    for number, part in enumerate(_WAITING):
        hands[number % len(hands)] += [item for item in items if _part_of(item) == part]
    others = iter([item for item in items if _part_of(item) is None])
    size = len(items) // count
    spread = [item for hand in hands for item in (*hand, *itertools.islice(others, max(0, size - len(hand))))]
    return [*spread, *others]


def _part_of(item: pytest.Item) -> str | None:
    return next((part for part in _WAITING if item.nodeid.startswith(part)), None)


def _elsewhere(item: pytest.Item, only: str | None) -> bool:
    if only == "postgresql" and item.get_closest_marker("sqlite") is not None:
        return True
    name, mark, parameters = item.nodeid.partition("[")
    own = getattr(item, "callspec", None)
    chosen = own.params.get("new_database") if own is not None else None
    if chosen is None or only is not None:
        return chosen not in (None, only)
    if not mark or any(part in name for part in _ON_BOTH):
        return False
    rest = "-".join(part for part in parameters.rstrip("]").split("-") if part not in _DATABASES)
    return chosen != _DATABASES[zlib.crc32(f"{name}[{rest}".encode()) % 2]


def pytest_collection_finish() -> None:
    """What is there now stays to the end: the collector of garbage need not look at it, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


@pytest.hookimpl(trylast=True)  # its daemons are gone then
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Databases of a module go with it: each takes 8 MB."""
    if nextitem is None or nextitem.path != item.path:
        databases.drop_unused()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With STEERSMAN_NO_SKIPS (set by CI) a skipped test has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("STEERSMAN_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report


@pytest.fixture(params=_DATABASES)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Makes migrated, empty databases; see `pytest_collection_modifyitems` for which of the two kinds."""
    if request.param == "sqlite":
        return lambda: _copied(tmp_path / f"store-{next(_numbers)}.db")
    return lambda: databases.internal(databases.new_postgresql())


def _copied(target: Path) -> str:
    shutil.copy(databases.sqlite_template(), target)
    return f"sqlite:///{target}"
