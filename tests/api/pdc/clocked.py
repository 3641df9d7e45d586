"""A daemon in a process of its own whose day is the one that a file says: an offset in seconds, read at each look."""

from __future__ import annotations

import datetime as dates
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import forked
from tests.forked import Forked, fork, quiet

CLOCK = "CLOCK_FILE"
_PLAIN = forked.daemon


def daemon(arguments: Sequence[str], environment: Mapping[str, str], errors: Path) -> Forked:
    """As `tests.forked.daemon`; for those who name no file, just that."""
    if CLOCK not in environment:
        return _PLAIN(arguments, environment, errors)
    return Forked(fork(_steersman, tuple(arguments), dict(environment), errors))


def _steersman(arguments: Sequence[str], environment: Mapping[str, str], errors: Path) -> None:
    quiet(errors)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["steersman", *arguments]
    from api.cli import main
    from reconciler import installation

    file = Path(environment[CLOCK])

    class Moved(dates.datetime):
        """Only doors and passes ask this one."""

        @classmethod
        def now(cls, tz: dates.tzinfo | None = None) -> Any:
            return dates.datetime.now(tz) + dates.timedelta(seconds=float(file.read_text()))

    installation.datetime = Moved  # type: ignore[misc]
    main()
