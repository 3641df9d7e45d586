"""What Git says, as values: entries of a tree, changes between two trees, facts of a commit, credentials.

Made by `reconciler.source.git`, read by passes and apply; an `Author` is made by who commits. Holds no
behaviour and never touches a repository.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

FILE, EXECUTABLE, SYMLINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "040000"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree.

    `path` is relative to what was asked for; bytes that are not UTF-8 appear as lone surrogates, so that
    `readable` can refuse them. `size` is in bytes, None for submodules and in a `Change`.
    """

    path: str
    mode: str
    blob: str
    size: int | None

    @property
    def regular(self) -> bool:
        """Whether this is a plain file, neither a symbolic link nor a submodule."""
        return self.mode in (FILE, EXECUTABLE)

    @property
    def readable(self) -> bool:
        """Whether the path is UTF-8 without control characters, so that it can be shown and stored."""
        return not any(
            ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in self.path
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees: `old` is None when added, `new` is None when removed."""

    path: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What a commit says about itself; names, subject and body are text of a stranger."""

    id: str
    tree: str
    author_name: str
    author_email: str
    author_date: datetime
    committer_name: str
    committer_email: str
    committer_date: datetime
    subject: str
    body: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Author:
    """Who a commit says has written it, or has committed it. Any text; what Git forbids is left out."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to sign in at one host: a key file for ssh, a token for https. Never part of a URL."""

    key_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    username: str = "git"
