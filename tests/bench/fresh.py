"""Daemons that are measured start from nothing, as a user's do."""

from __future__ import annotations

from functools import partial

from tests.support import start as start_or_fork

start = partial(start_or_fork, fresh=True)
