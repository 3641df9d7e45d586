"""What a failed Git command means: its words turned into an error that says what happens next.

Called by `reconciler.source.git` with standard error and exit status. Pure; what it returns never holds a
secret.
"""

from __future__ import annotations

import re

from reconciler.errors import Stalled, SteersmanError, Transient
from reconciler.source.names import redact

# Ordered: the first rule whose words are found wins. Git's messages are asked for in English (LC_ALL=C).
_RULES: tuple[tuple[str, type[SteersmanError], str, str], ...] = (
    (
        r"dubious ownership|is owned by someone else",
        Stalled,
        "GitRefused",
        "{where} belongs to another user; allow it with: git config --global --add safe.directory {where}",
    ),
    (
        r"reftable|unknown repository extension|[Ee]xpected git repo version",
        Stalled,
        "GitTooOld",
        "{where} uses a repository format that this Git cannot read; reftable needs Git 2.45: {said}",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        Transient,
        "DiskFull",
        "no space left for {where}: {said}",
    ),
    (
        r"\.lock': File exists|Unable to create .*\.lock|cannot lock ref",
        Transient,
        "GitLocked",
        "{where} is locked: {said}",
    ),
    (
        r"Host key verification failed|host key .*changed|REMOTE HOST IDENTIFICATION",
        Stalled,
        "GitRefused",
        "the host key of {where} is not the known one; add it to known_hosts: {said}",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|terminal prompts disabled"
        r"|Permission denied|HTTP Basic: Access denied|error: 40[13]"
        r"|[Ii]nvalid (credentials|username or password)",
        Stalled,
        "GitRefused",
        "{where} refuses these credentials: {said}",
    ),
    (
        r"repository '?.*'? not found|Repository not found|does not appear to be a git repository"
        r"|not a git repository|error: 404|is this a git repository\?|does not exist"
        r"|not valid: could not determine hash algorithm|No such file or directory",
        Stalled,
        "GitRefused",
        "{where} is not a Git repository, or is not there: {said}",
    ),
    (
        r"update url base from redirection|error: 30[1278]",
        Stalled,
        "GitRefused",
        "{where} redirects elsewhere; use the new URL: {said}",
    ),
    (
        r"transport '.*' not allowed|SSL certificate problem|certificate verification|is a Disallowed"
        r"|Unable to find remote helper|URL rejected|Port number was not",
        Stalled,
        "GitRefused",
        "{where} cannot be used: {said}",
    ),
)
_CORRUPT = re.compile(
    r"(?<!remote: )(?:is corrupt|object file .* is empty|does not point to a valid object|bad object"
    r"|missing blob|missing tree|bad tree object|inflate: |did not send all necessary objects"
    r"|does not match index|packfile .* cannot be|unable to (?:read|unpack)|not a git repository|bad config"
    r"|bad signature|not a valid object)"
)


def is_corrupt(stderr: str) -> bool:
    """Whether the words speak of a damaged repository on our side."""
    return _CORRUPT.search(stderr) is not None


def is_malformed_branch(stderr: str) -> bool:
    """Whether the words speak of nothing but branches that are to be something else than a commit."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return bool(lines) and all("trying to write non-commit object" in line for line in lines)


def explain(stderr: str, where: str, *secrets: str | None, done: str = "read") -> SteersmanError:
    """The error for a failed command on the repository `where` (a URL or a path) that was to be `done`."""
    shown, said = redact(where, *secrets), _said(redact(stderr, *secrets))
    for pattern, error, reason, sentence in _RULES:
        if re.search(pattern, stderr):
            return error(reason, sentence.format(where=shown, said=said))
    return Transient("GitUnavailable", f"{shown} could not be {done}: {said}")


def _said(stderr: str) -> str:
    """The lines that matter, in one line of bounded length."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("hint:")]
    return " ".join(lines)[-500:] or "Git gave no reason"


class GitFailed(Exception):
    """A Git command that failed: exit status, standard error, and what it wrote before."""

    def __init__(self, status: int, stderr: str, stdout: bytes = b"") -> None:
        super().__init__(status, stderr)
        self.status = status
        self.stderr = stderr
        self.stdout = stdout
