"""A private repository for one commit: it borrows the objects of another one, and is thrown away afterwards.

Made by `reconciler.source.commit`, in a folder of its own. Here the commit is made, without an index, a work
tree or a hook. It never writes to the repository it borrows from and never speaks to another one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from reconciler.errors import Moved, Stalled
from reconciler.source import parse
from reconciler.source.environment import NOTHING, hardened, signing
from reconciler.source.failures import GitFailed
from reconciler.source.git import Commands
from reconciler.source.names import common_dir_of
from reconciler.source.stream import FileChange, ancestors, quoted, stamp, stream, tidy
from reconciler.source.values import Author, Entry

# Small packs stay packs: to take them apart is one process more for each commit.
_CONFIG = """[core]
\trepositoryformatversion = {version}
\tbare = true
[fastimport]
\tunpackLimit = 1
"""
_SHA256 = "[extensions]\n\tobjectformat = sha256\n"
_ONE_BY_ONE = 200  # paths that are asked for by name; for more the whole tree is listed


class Scratch:
    """One private repository, at `place`."""

    def __init__(self, place: Path, git_dir: Path, object_format: str) -> None:
        """Make it, in a directory that is there and empty, with the objects of the repository at `git_dir`."""
        self.place = place
        common = common_dir_of(git_dir)
        (place / "refs/heads").mkdir(parents=True)
        (place / "objects/info").mkdir(parents=True)
        lent = quoted(str(common / "objects")) + "\n"
        (place / "objects/info/alternates").write_bytes(os.fsencode(lent))
        config = _CONFIG.format(version=0 if object_format == "sha1" else 1)
        (place / "config").write_text(config if object_format == "sha1" else config + _SHA256)
        if (common / "shallow").is_file():
            shutil.copyfile(common / "shallow", place / "shallow")
        # Last: without it this is no repository.
        (place / "HEAD").write_text("ref: refs/heads/main\n")
        self._commands = Commands(place, hardened(NOTHING, git_dir=place))

    def entries(self, commit: str, paths: Iterable[str]) -> dict[str, Entry]:
        """What the commit has at these paths and at the folders above them; Moved when it is gone."""
        asked = {name for path in paths for name in (path, *ancestors(path))}
        which = sorted(asked) if len(asked) <= _ONE_BY_ONE else []
        options = ("-z", "-t", "--full-tree", *(() if which else ("-r",)), "--end-of-options")
        try:
            output = self._commands.run("ls-tree", *options, commit, *which)
        except GitFailed as failure:
            if "not a tree object" in failure.stderr or "Not a valid object name" in failure.stderr:
                raise Moved("SourceMoved", f"the commit {commit} is not there any more") from failure
            raise
        return dict(_entries(output, asked))

    def commit(
        self,
        base: str | None,
        changed: Sequence[FileChange],
        people: tuple[Author, Author],
        when: datetime,
        message: str,
    ) -> str:
        """Make the commit on `base`, by author and committer; its id."""
        text = stream(base, changed, people, when, message)
        output = self._commands.run("fast-import", "--quiet", "--date-format=raw", "--done", feed=text)
        return parse.text(output).strip()

    def sign(
        self,
        commit: str,
        base: str | None,
        people: tuple[Author, Author],
        when: datetime,
        message: str,
        key: Path,
    ) -> str:
        """The same commit signed with the SSH key; Stalled when that cannot be done."""
        environment = hardened(NOTHING, git_dir=self.place, settings=signing(key))
        for role, person in zip(("AUTHOR", "COMMITTER"), people, strict=True):
            environment[f"GIT_{role}_NAME"] = person.name
            environment[f"GIT_{role}_EMAIL"] = person.email
            environment[f"GIT_{role}_DATE"] = "@" + stamp(when)
        parents = () if base is None else ("-p", base)
        arguments = ("commit-tree", "-S", *parents, "-F", "-", f"{commit}^{{tree}}")
        try:
            output = Commands(self.place, environment).run(*arguments, feed=tidy(message))
        except GitFailed as failure:
            said = " ".join(failure.stderr.split())[-300:]
            raise Stalled("SigningFailed", f"the commit could not be signed with {key}: {said}") from failure
        return parse.text(output).strip()


def _entries(output: bytes, asked: set[str]) -> Iterator[tuple[str, Entry]]:
    """Those of the paths that `ls-tree -z` has listed."""
    names = {name.encode(): name for name in asked}
    for record in output.split(b"\0"):
        head, _, path = record.partition(b"\t")
        if (name := names.get(path)) is not None:
            mode, _, blob = head.decode("ascii").split(" ")
            yield name, Entry(name, mode, blob, None)
