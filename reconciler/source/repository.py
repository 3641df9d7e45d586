"""Reading one Git repository: blocking, in one thread, from the object store only.

Held by `reconciler.source.git.Mirror`, which puts every call into its thread. Keeps two `cat-file` processes
between calls, one for names and one for contents. Never writes, never looks at a work tree, and starts Git
only through the two functions it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Protocol, TypeVar

from reconciler.errors import UnknownCommit
from reconciler.source import parse
from reconciler.source.batch import Batch, Header
from reconciler.source.failures import GitFailed
from reconciler.source.history import ARGUMENTS, History
from reconciler.source.names import check_branch, check_path, common_dir_of, is_object_id
from reconciler.source.values import Change, CommitFacts, Entry

EMPTY_TREE = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
T = TypeVar("T")
_HEX = frozenset("0123456789abcdef")


class Git(Protocol):
    """How commands are run: to their end, or as a process that stays."""

    def run(self, *arguments: str, timeout_seconds: float = ...) -> bytes:
        """Standard output; GitFailed on another exit status than 0."""

    def start(self, *arguments: str) -> Popen[bytes]:
        """The running process, with pipes, leading its own group."""


class Repository:
    """One repository, read."""

    def __init__(self, git: Git, git_dir: Path) -> None:
        self._git = git
        self._git_dir = git_dir
        self._common = common_dir_of(git_dir)
        self._batches: dict[str, Batch] = {}
        self._seen: tuple[int, int] | None = None

    @property
    def awake(self) -> bool:
        """Whether processes are kept."""
        return bool(self._batches)

    def rest(self) -> None:
        """End the kept processes; the next reading starts them again."""
        while self._batches:
            self._batches.popitem()[1].close()

    def head(self, branch: str | None) -> str | None:
        """Commit id of the branch; of HEAD for None."""
        name = "HEAD" if branch is None else f"refs/heads/{check_branch(branch)}"
        return self._commit(name) or self._surely(name)

    def default_branch(self) -> str | None:
        """The branch HEAD names, whether it has a commit or not; None for a detached HEAD."""
        name = self._maybe("symbolic-ref", "--quiet", "HEAD")
        return name.removeprefix("refs/heads/") if name and name.startswith("refs/heads/") else None

    def refs(self, kind: str) -> dict[str, str]:
        """Name → commit id of all `refs/<kind>/`, those of tags peeled; what is no commit is left out."""
        prefix, found, nested = f"refs/{kind}/", {}, {}
        output = self._git.run("for-each-ref", f"--format={parse.REFS_FORMAT}", "--", prefix)
        for name, target, target_type in parse.peeled_refs(output):
            if target_type == "commit":
                found[name.removeprefix(prefix)] = target
            elif target_type == "tag":
                nested[name.removeprefix(prefix)] = f"{target}^{{commit}}"
        peeled = self._headers(list(nested.values()))
        return found | {name: header.id for name, header in zip(nested, peeled, strict=True) if header}

    def raw_refs(self) -> dict[str, str]:
        """Full name → object id of all branches and tags, not peeled, objects not opened."""
        output = self._git.run(
            "for-each-ref", "--format=%(objectname) %(refname)", "--", "refs/heads/", "refs/tags/"
        )
        pairs = (parse.text(line).split(" ", 1) for line in output.split(b"\n") if line)
        return {name: target for target, name in pairs}

    def resolve(self, ref: str) -> str | None:
        """A branch, a tag, or a full or abbreviated commit id (4 characters at least) → commit id."""
        check_branch(ref)
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", *([ref] if ref.startswith("refs/") else [])):
            if found := self._commit(name):
                return found
        if not 4 <= len(ref) <= 64 or not set(ref.lower()) <= _HEX:
            return None
        return self._maybe(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref.lower()}^{{commit}}"
        )

    def tree_of(self, commit: str, path: str = "") -> str | None:
        """Id of the tree at the path; None when there is none. An unknown commit raises UnknownCommit."""
        self._known(commit)
        inside = check_path(path)
        header = self._headers([f"{commit}:{inside}" if inside else f"{commit}^{{tree}}"])[0]
        return header.id if header and header.type == "tree" else None

    def entries(self, commit: str, path: str = "") -> list[Entry]:
        """All files below the path, paths relative to it, in Git's order; none when the path is not there."""
        tree = self.tree_of(commit, path)
        if tree is None:
            return []
        return parse.entries(
            self._git.run("ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", tree)
        )

    def diff(self, old: str, new: str, path: str = "") -> list[Change]:
        """What differs below the path; a path that is not there counts as empty."""
        sides = [self.tree_of(commit, path) or EMPTY_TREE[len(commit)] for commit in (old, new)]
        if sides[0] == sides[1]:
            return []
        options = ("-r", "-z", "--no-renames", "--ignore-submodules=none", "--end-of-options")
        return parse.changes(self._git.run("diff-tree", *options, *sides))

    def read(self, blobs: Sequence[str], limit: int) -> dict[str, bytes]:
        """Contents by id; what is unknown, no blob, or larger than `limit` bytes is left out."""
        wanted = [blob for blob in dict.fromkeys(blobs) if is_object_id(blob)]
        headers = self._headers(wanted)
        fit = [header.id for header in headers if header and header.type == "blob" and header.size <= limit]
        return {
            blob: content
            for blob, content in zip(fit, self._contents(fit), strict=True)
            if content is not None
        }

    def facts(self, commit: str) -> CommitFacts | None:
        """What the commit says about itself; None when it is unknown."""
        if not is_object_id(commit) or self._commit(commit) != commit:
            return None
        content = self._contents([commit])[0]
        return parse.commit(commit, content) if content is not None else None

    def known(self, commits: Collection[str]) -> set[str]:
        """Those of the commits that are there."""
        wanted = [commit for commit in dict.fromkeys(commits) if is_object_id(commit)]
        headers = self._headers([f"{commit}^{{commit}}" for commit in wanted])
        return {
            commit for commit, header in zip(wanted, headers, strict=True) if header and header.id == commit
        }

    def history(self, heads: Collection[str], without: Collection[str]) -> History:
        """The commits that lead to the heads, less those that lead to others; all of them must be known."""
        return History(self._git.start(*ARGUMENTS), heads, without)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` contains `old`; an `old` that is gone is in nothing."""
        self._known(new)
        if not is_object_id(old) or self._commit(old) is None:
            return False
        return self._maybe("merge-base", "--is-ancestor", "--end-of-options", old, new) is not None

    def _surely(self, name: str) -> str | None:
        """Ask again for a ref without a commit: a damaged one must never look like a deleted one."""
        if name == "HEAD" and (branch := self.default_branch()) is not None:
            name = f"refs/heads/{branch}"
        listed = self._git.run("for-each-ref", "--format=%(refname)", "--", name).split()
        if name.encode("utf-8", "surrogateescape") not in listed and not (self._common / name).is_file():
            return None
        if found := self._commit(name):
            return found
        raise GitFailed(128, f"bad object {name}")

    def _maybe(self, *arguments: str) -> str | None:
        """Output of a command that answers "no" with exit status 1 or by calling an id ambiguous."""
        try:
            return parse.text(self._git.run(*arguments)).strip()
        except GitFailed as failure:
            if failure.status == 1 or "is ambiguous" in failure.stderr:
                return None
            raise

    def _known(self, commit: str) -> None:
        if not is_object_id(commit) or self._commit(commit) is None:
            raise UnknownCommit("UnknownCommit", f"Git does not have the commit {commit[:64]!r}")

    def _commit(self, name: str) -> str | None:
        header = self._headers([f"{name}^{{commit}}"])[0]
        return header.id if header else None

    def _headers(self, names: Sequence[str]) -> list[Header | None]:
        return self._talk("--batch-check", lambda batch: list(batch.headers(names))) if names else []

    def _contents(self, names: Sequence[str]) -> list[bytes | None]:
        return self._talk("--batch", lambda batch: list(batch.contents(names))) if names else []

    def _talk(self, option: str, ask: Callable[[Batch], T]) -> T:
        """Ask the kept process; one that has died, or knows a repository replaced since, is started again."""
        self._notice_replacement()
        if option in self._batches:
            with contextlib.suppress(GitFailed):
                return ask(self._batches[option])
            self._batches.pop(option).close()
        batch = Batch(self._git.start("cat-file", option))
        self._batches[option] = batch
        try:
            return ask(batch)
        except GitFailed:
            self._batches.pop(option).close()
            raise

    def _notice_replacement(self) -> None:
        try:
            facts = self._git_dir.stat()
        except OSError as error:
            self.rest()
            raise GitFailed(128, f"{self._git_dir} is not there any more: {error.strerror}") from error
        if self._seen != (facts.st_dev, facts.st_ino):
            self.rest()
            self._seen = (facts.st_dev, facts.st_ino)
