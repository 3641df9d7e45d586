"""Links to lines of specs, where the repository is at a forge that shows files."""

from __future__ import annotations

import re
from urllib.parse import quote

_REMOTE = re.compile(
    r"(?:https?://(?:[^@/]+@)?|ssh://(?:[^@/]+@)?|[\w.-]+@)(?P<host>[\w.-]+)(?::\d+)?[:/](?P<path>.+?)(?:\.git)?/?"
)
_FORMS = (
    ("github", "https://{host}/{path}/blob/{revision}/{file}#L{line}"),
    ("gitlab", "https://{host}/{path}/-/blob/{revision}/{file}#L{line}"),
    ("bitbucket", "https://{host}/{path}/src/{revision}/{file}#lines-{line}"),
    ("git.sr.ht", "https://{host}/{path}/tree/{revision}/item/{file}#L{line}"),
    ("codeberg", "https://{host}/{path}/src/commit/{revision}/{file}#L{line}"),
    ("gitea", "https://{host}/{path}/src/commit/{revision}/{file}#L{line}"),
    ("forgejo", "https://{host}/{path}/src/commit/{revision}/{file}#L{line}"),
)


def address(repository: str, revision: str | None, location: str) -> str | None:
    """The page of a line, `location` being FILE:LINE; None where no forge is known by its host's name."""
    remote = _REMOTE.fullmatch(repository)
    file, _, line = location.rpartition(":")
    if remote is None or not revision or not line.isdecimal():
        return None
    host = remote["host"].lower()
    for name, form in _FORMS:
        if name in host:
            return form.format(
                host=host, path=quote(remote["path"]), revision=revision, file=quote(file), line=line
            )
    return None


def commit(repository: str, revision: str) -> str | None:
    """The page of a commit."""
    remote = _REMOTE.fullmatch(repository)
    if remote is None:
        return None
    host = remote["host"].lower()
    known = next((name for name, _ in _FORMS if name in host), None)
    if known is None:
        return None
    between = {"gitlab": "-/commit", "bitbucket": "commits"}.get(known, "commit")
    return f"https://{host}/{quote(remote['path'])}/{between}/{revision}"
