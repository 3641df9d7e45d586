"""What a commit of the spec repository says of itself: a value.

Read by `passes.commits`; whatever keeps a history of its own notes it when the commit is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Told:
    """One commit. `subject`: who made it by its trailer, else the User with the author's address; None: a stranger.

    `title` is its first line; `comment` what a caller of an API said of it; `renamed` are (old, new), in order;
    `at`: when an API was asked for it, None for what was pushed.
    """

    commit: str
    subject: str | None
    name: str
    email: str
    title: str
    comment: str | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    at: datetime | None = None
