"""The only door to Git: one `Mirror` is one repository, read through one thread.

Passes and the doors open the specifications' repository with `direct=True` when it is local;
`reconciler.source.mirrors` opens one mirror for each code repository; `reconciler.source.commit` commits
beside a mirror, with its commands. Commands are run through gitpython, in a hardened environment
(`environment.py`), and what they say when they fail becomes an error that says what happens next
(`failures.py`). Never blocks the event loop, never runs a hook, a filter or a remote helper,
never writes to a `direct` repository, and never puts a credential into an argument, a URL or a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import stat
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import TypeVar
from urllib.parse import urlsplit

import git

from reconciler.errors import Stalled, SteersmanError, Transient, UnknownCommit
from reconciler.model.history import Commit
from reconciler.source import parse
from reconciler.source.environment import (
    LOCAL,
    NOTHING,
    REMOTE,
    beside_hooks,
    forget_inherited,
    hardened,
)
from reconciler.source.failures import GitFailed, explain, is_corrupt, is_malformed_branch
from reconciler.source.names import (
    check_branch,
    check_url,
    common_dir_of,
    git_dir_of,
    is_object_id,
    local_path,
    redact,
)
from reconciler.source.repository import Repository
from reconciler.source.secrets import PrivateKey
from reconciler.source.values import Change, CommitFacts, Credentials, Entry

__all__ = ["Change", "Commands", "CommitFacts", "Credentials", "Entry", "Mirror", "UnknownCommit"]

T = TypeVar("T")
_OLDEST = (2, 32)
_LOCAL_SECONDS = 120.0
_ENDING_SECONDS = 2.0
_MARKER = "steersman-mirror"
_MIRROR_CONFIG = (
    "[uploadpack]\n\tallowAnySHA1InWant = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
)
_CHECKOUTS_AT_ONCE = 4
_QUIETLY = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
_FETCH = (*_QUIETLY, "--prune", "--force", "--update-shallow")
_COPY = (*_QUIETLY, "--depth=1")
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


class Commands:
    """Git commands in one directory with one environment, each in its own process group."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._git = git.Git(directory)
        self._git.update_environment(**environment)
        self._running: Popen[bytes] | None = None

    def start(self, *arguments: str) -> Popen[bytes]:
        """A process that stays; its owner ends it."""
        # gitpython's own wrapper ends the process when it is collected, so only what it wraps is kept.
        wrapper = self._git.execute(
            ["git", *arguments], istream=PIPE, as_process=True, start_new_session=True
        )
        process: Popen[bytes] | None = wrapper.proc
        if process is None:
            raise OSError("git did not start")
        wrapper.proc = None
        return process

    def run(
        self, *arguments: str, timeout_seconds: float = _LOCAL_SECONDS, feed: bytes | None = None
    ) -> bytes:
        """Standard output of the command, fed with `feed`; GitFailed when it fails, Transient when it takes
        too long.
        """
        process = self._running = self.start(*arguments)
        try:
            output, complaints = process.communicate(feed, timeout_seconds)
        except TimeoutExpired as error:
            _end(process)
            raise Transient(
                "GitTimeout", f"git {arguments[0]} took longer than {timeout_seconds:g} s"
            ) from error
        finally:
            self._running = None
        if process.returncode != 0:
            raise GitFailed(process.returncode, complaints.decode("utf-8", "replace"), output)
        return output

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """End what runs now, with its children; callable from another thread."""
        if (process := self._running) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)


def _end(process: Popen[bytes]) -> None:
    """End the process and its children, first so that Git takes its locks away, and forget what they wrote."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(TimeoutExpired):
            process.communicate(timeout=_ENDING_SECONDS)
            return
    # Somebody who left the group still holds the pipes.
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Mirror:
    """One Git repository, read through one thread; made by `open`, ended by `close`.

    Every method raises Stalled or Transient when Git cannot do its work, with a sentence naming the
    repository.
    """

    def __init__(
        self,
        url: str,
        place: Path,
        credentials: Credentials | None,
        private_key: PrivateKey | None,
        timeout_seconds: float,
    ) -> None:
        self.url = url
        self.place = place
        self.direct = False
        self._credentials = credentials
        self._private_key = private_key
        self._timeout_seconds = timeout_seconds
        self._damaged = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="git")
        self._checkouts = ThreadPoolExecutor(
            max_workers=_CHECKOUTS_AT_ONCE, thread_name_prefix="git-checkout"
        )

    @classmethod
    async def open(
        cls,
        url: str,
        directory: Path,
        *,
        credentials: Credentials | None = None,
        private_key: PrivateKey | None = None,
        direct: bool = False,
        timeout_seconds: float = 120,
    ) -> Mirror:
        """Open a local repository in place (`direct`), or the bare mirror of `url` in `directory`.

        A missing, half-made or damaged mirror is made anew; nothing is fetched yet. A `private_key` is opened
        anew for each fetch.
        """
        forget_inherited()
        mirror = cls(url, directory, credentials, private_key, timeout_seconds)
        try:
            await mirror._in_thread(mirror._open_direct if direct else mirror._open_mirror)
        except BaseException:
            await mirror.close()
            raise
        return mirror

    @property
    def local(self) -> bool:
        """Whether the repository is on this machine."""
        return local_path(self.url) is not None

    @property
    def timeout_seconds(self) -> float:
        """How long one conversation with another machine may take."""
        return self._timeout_seconds

    @property
    def awake(self) -> bool:
        """Whether reading processes are kept for it."""
        return self._repository.awake

    async def fetch(self) -> None:
        """Bring branches and tags up to date, forced and pruned; nothing for a `direct` repository."""
        await self._in_thread(self._fetch)

    async def head(self, branch: str | None = None) -> str | None:
        """Commit id of the branch, of the default branch for None; None when there is none."""
        return await self._in_thread(lambda: self._repository.head(branch))

    async def default_branch(self) -> str | None:
        """The branch that HEAD names, also while it has no commit; None for a detached HEAD."""
        return await self._in_thread(lambda: self._repository.default_branch())

    async def heads(self) -> dict[str, str]:
        """Branch → commit id."""
        return await self._in_thread(lambda: self._repository.refs("heads"))

    async def tags(self) -> dict[str, str]:
        """Tag → commit id, peeled; tags of other things are left out."""
        return await self._in_thread(lambda: self._repository.refs("tags"))

    async def resolve(self, ref: str) -> str | None:
        """A branch, a tag, or a full or abbreviated commit id → commit id."""
        return await self._in_thread(lambda: self._repository.resolve(ref))

    async def tree_of(self, commit: str, path: str = "") -> str | None:
        """Id of the tree at the path; None when there is none. UnknownCommit when the commit is gone."""
        return await self._in_thread(lambda: self._repository.tree_of(commit, path))

    async def entries(self, commit: str, path: str = "") -> list[Entry]:
        """All files below the path, relative to it, with sizes in bytes; links and submodules as they are."""
        return await self._in_thread(lambda: self._repository.entries(commit, path))

    async def diff(self, old: str, new: str, path: str = "") -> list[Change]:
        """What differs below the path, renames as removal and addition. UnknownCommit when either is gone."""
        return await self._in_thread(lambda: self._repository.diff(old, new, path))

    async def read(self, blobs: Sequence[str], limit: int) -> dict[str, bytes]:
        """Contents by blob id; larger ones than `limit` bytes, and unknown ones, are left out."""
        return await self._in_thread(lambda: self._repository.read(blobs, limit))

    async def facts(self, commit: str) -> CommitFacts | None:
        """What the commit says about itself; None when it is unknown."""
        return await self._in_thread(lambda: self._repository.facts(commit))

    async def known(self, commits: Collection[str]) -> set[str]:
        """Those of the commit ids that are there."""
        return await self._in_thread(lambda: self._repository.known(commits))

    async def history(
        self, heads: Collection[str], without: Collection[str] = (), *, portion: int = 2_500
    ) -> AsyncGenerator[list[Commit], None]:
        """The commits that lead to the heads and to none of the others, newest first, in portions.

        All of these must be known. To be closed by who does not read to the end.
        """
        if not heads:
            return
        history = await self._in_thread(lambda: self._repository.history(heads, without))
        try:
            while found := await self._in_thread(lambda: history.portion(portion)):
                yield found
        finally:
            history.close()

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` contains `old`."""
        return await self._in_thread(lambda: self._repository.is_ancestor(old, new))

    async def checkout(self, commit: str, directory: Path, *, branch: str | None, url: str) -> None:
        """A clean work tree of the commit in `directory`, whatever was there before.

        It shares nothing with this repository: objects are copied, one commit deep. HEAD is the local branch
        of that name, or detached for None; the remote `origin` is `url` without credentials. UnknownCommit
        when the commit is gone.
        """
        await self._in_thread(lambda: self._checkout(commit, directory, branch, url), self._checkouts)

    async def adopt(self, place: Path, branch: str, commit: str) -> None:
        """Take over a commit that was just pushed, from the private repository at `place`, as the branch's
        head; nothing when the branch is further already, or when this is the repository itself.
        """
        await self._in_thread(lambda: self._adopt(place, branch, commit))

    def commands(self, git_dir: Path) -> Commands:
        """Commands in a private repository that speak to this one's URL, with its credentials."""
        if self.local:
            return Commands(git_dir, beside_hooks(git_dir))
        return Commands(
            git_dir, hardened(REMOTE, git_dir=git_dir, credentials=self._credentials, url=self.url)
        )

    async def beside(self, work: Callable[[Callable[[Path], Commands]], T]) -> T:
        """Run `work` in a thread, given what makes commands that speak to this one's URL from a private repository.

        They do so as this mirror does, with its credentials or its private key, which is in memory meanwhile.
        """
        return await self._in_thread(lambda: self._with_key(work), self._checkouts)

    def redacted(self, text: str) -> str:
        """The text without this repository's credentials."""
        return redact(text, self._credentials.token if self._credentials else None)

    async def rest(self) -> None:
        """End the kept reading processes until they are needed again."""
        await self._in_thread(lambda: self._repository.rest())

    async def close(self) -> None:
        """End everything that runs for it; the mirror cannot be used afterwards."""
        if hasattr(self, "_commands"):
            self._network.kill()
            self._commands.kill()
            with contextlib.suppress(SteersmanError):
                await self._in_thread(lambda: self._repository.rest())
        self._thread.shutdown(wait=False)
        self._checkouts.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(pool or self._thread, self.guarded, work)
        except RuntimeError as error:
            raise Transient("GitClosed", f"{redact(self.url)} is closed") from error
        return await running

    def guarded(self, work: Callable[[], T]) -> T:
        """In a thread: what Git or the system refuses becomes an error of ours."""
        try:
            return work()
        except GitFailed as failure:
            if not self.direct and is_corrupt(failure.stderr):
                self._damaged = True
            raise self._explained(failure) from failure
        except (OSError, git.GitCommandNotFound) as error:
            raise Transient("GitUnavailable", f"{self.place}: {redact(str(error))[:300]}") from error

    def _explained(self, failure: GitFailed) -> SteersmanError:
        token = self._credentials.token if self._credentials else None
        where = self.url if self._private_key is None else f"{self.url} (with {self._private_key.key})"
        return explain(failure.stderr, where, token)

    def _use(self, git_dir: Path, directory: Path) -> None:
        """Read this Git directory from now on, by its full name: no discovery can find another one."""
        self._commands = Commands(directory, hardened(NOTHING, git_dir=git_dir))
        self._network = self._speaking(git_dir, directory, self._credentials)
        self._repository = Repository(self._commands, git_dir)

    def _speaking(self, git_dir: Path, directory: Path, credentials: Credentials | None) -> Commands:
        """Commands that speak to the other side."""
        transports = LOCAL if self.local else REMOTE
        return Commands(
            directory, hardened(transports, git_dir=git_dir, credentials=credentials, url=self.url)
        )

    def _open_direct(self) -> None:
        _check_version()
        path = (local_path(self.url) or Path("/dev/null")).resolve()
        git_dir = git_dir_of(path)
        if git_dir is None:
            what = "is not a Git repository" if path.exists() else "does not exist"
            raise Stalled("GitRefused", f"{path} {what}")
        self.direct, self.place, self.url = True, path, str(path)
        directory = path if path.is_dir() else path.parent
        # Found by looking around, as the user would, so that Git checks who owns it; never in a directory
        # above.
        around = hardened(NOTHING) | {"GIT_CEILING_DIRECTORIES": str(directory.parent)}
        Commands(directory, around).run("rev-parse", "--git-dir")
        self._use(git_dir, directory)

    def _open_mirror(self) -> None:
        _check_version()
        self.url = check_url(self.url)
        git.Git.check_unsafe_protocols(self.url)
        self._use(self.place, self.place)
        if not self._healthy():
            self._create()
        self._clear_locks()

    def _healthy(self) -> bool:
        """Whether the mirror was made to its end, for this URL, and its branches' tips can be opened."""
        try:
            if (self.place / _MARKER).read_text(encoding="utf-8") != self.url:
                return False
            self._commands.run("for-each-ref", "--format=%(objecttype)")
        except (OSError, GitFailed, UnicodeDecodeError):
            return False
        return True

    def _create(self) -> None:
        self._repository.rest()
        _remove(self.place)
        self.place.mkdir(parents=True)
        making = Commands(self.place.parent, hardened(NOTHING))
        making.run("init", "--quiet", "--bare", "--template=", "--", str(self.place))
        with (self.place / "config").open("a", encoding="utf-8") as config:
            config.write(_MIRROR_CONFIG)
        # Last: a mirror without it was interrupted while it was made.
        (self.place / _MARKER).write_text(self.url, encoding="utf-8")
        self._damaged = False

    def _clear_locks(self) -> None:
        """Remove locks of killed processes; the daemon is the only writer here."""
        for lock in (*self.place.glob("*.lock"), *self.place.glob("refs/**/*.lock")):
            with contextlib.suppress(OSError):
                lock.unlink()

    def _fetch(self) -> None:
        if self.direct:
            return
        with self._signed_in():
            self._fetch_mirror()

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[None]:
        """The private key, if there is one, is in memory for as long as Git speaks to the other side."""
        if self._private_key is None:
            yield
            return
        with self._private_key.lent() as key_file:
            self._network = self._speaking(self.place, self.place, Credentials(key_file=key_file))
            yield

    def _with_key(self, work: Callable[[Callable[[Path], Commands]], T]) -> T:
        if self._private_key is None:
            return work(self.commands)
        with self._private_key.lent() as key_file:
            credentials = Credentials(key_file=key_file)
            return work(lambda git_dir: self._speaking(git_dir, git_dir, credentials))

    def _fetch_mirror(self) -> None:
        if self._damaged or not self.place.is_dir():
            self._create()
        try:
            self._bring()
        except Transient:
            self._clear_locks()
            raise
        except GitFailed as failure:
            self._clear_locks()
            if not is_corrupt(failure.stderr):
                raise
            self._create()
            self._bring()

    def _adopt(self, place: Path, branch: str, commit: str) -> None:
        if self.direct:
            return
        commands = Commands(self.place, hardened(LOCAL, git_dir=self.place))
        try:
            commands.run(*_QUIETLY, "--", str(place), f"{commit}:refs/heads/{check_branch(branch)}")
        except GitFailed:
            self._clear_locks()
            head = self._repository.head(branch)
            if head is None or not self._repository.is_ancestor(commit, head):
                raise

    def _bring(self) -> None:
        """Ask what is there, and fetch when that differs from what is here."""
        asked = ("--symref", "--", self.url, "HEAD", "refs/heads/*", "refs/tags/*")
        output = self._network.run("ls-remote", *asked, timeout_seconds=self._timeout_seconds)
        symbolic, head, refs = parse.advertised(output)
        if refs != self._repository.raw_refs():
            with _without_malformed_branches():
                self._network.run(
                    *_FETCH, "--", self.url, *_EVERYTHING, timeout_seconds=self._timeout_seconds
                )
        self._follow_head(symbolic or _branch_at(head, refs))

    def _follow_head(self, name: str | None) -> None:
        """Let HEAD name the default branch of the other side."""
        if name is None or not name.startswith("refs/heads/"):
            return
        branch = check_branch(name.removeprefix("refs/heads/"))
        if self._repository.default_branch() != branch:
            self._commands.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def _checkout(self, commit: str, directory: Path, branch: str | None, url: str) -> None:
        if not is_object_id(commit):
            raise UnknownCommit("UnknownCommit", f"{commit[:64]!r} is not a full commit id")
        on = ("--detach",) if branch is None else ("-B", check_branch(branch))
        _remove(directory)
        directory.mkdir(parents=True)
        # Without the user's configuration: a filter in it would run on files of a stranger.
        alone = {"GIT_CONFIG_GLOBAL": "/dev/null"}
        Commands(directory, hardened(NOTHING) | alone).run("init", "--quiet", "--template=")
        inside = {"GIT_DIR": str(directory / ".git"), "GIT_WORK_TREE": str(directory)}
        self._copy(commit, Commands(directory, hardened(LOCAL) | inside))
        commands = Commands(directory, hardened(NOTHING) | alone | inside)
        commands.run("checkout", "--quiet", "--no-recurse-submodules", *on, commit, "--")
        commands.run("remote", "add", "--", "origin", _without_credentials(url))

    def _copy(self, commit: str, commands: Commands) -> None:
        """Copy one commit's objects through Git's own protocol, so that no object is shared."""
        source = str(common_dir_of(git_dir_of(self.place) or self.place))
        try:
            commands.run(*_COPY, "--", source, commit)
        except GitFailed as failure:
            if "not our ref" in failure.stderr or "no such remote ref" in failure.stderr:
                raise UnknownCommit("UnknownCommit", f"Git does not have the commit {commit}") from failure
            raise


@contextlib.contextmanager
def _without_malformed_branches() -> Iterator[None]:
    """A fetch leaves out branches that are no commits, with all others brought up to date, and then fails."""
    try:
        yield
    except GitFailed as failure:
        if not is_malformed_branch(failure.stderr):
            raise


@functools.cache
def _check_version() -> None:
    """Refuse a Git that lacks what the environment relies on."""
    try:
        version = git.Git().version_info
    except git.GitCommandNotFound as error:
        raise Stalled("GitMissing", "the program git was not found in PATH") from error
    if version < _OLDEST:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST))
        raise Stalled("GitTooOld", f"git {found} is too old, {needed} or newer is needed")


def _branch_at(head: str | None, refs: Mapping[str, str]) -> str | None:
    """The likely default branch of a server that names only HEAD's commit."""
    at = [name for name, target in sorted(refs.items()) if target == head and name.startswith("refs/heads/")]
    liked = [name for name in ("refs/heads/main", "refs/heads/master") if name in at]
    return next(iter([*liked, *at]), None)


def _without_credentials(url: str) -> str:
    """The URL as it may be seen by a script."""
    if not url.startswith(("http://", "https://", "ssh://")):
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    keep = f"{user.partition(':')[0]}@" if user and parts.scheme == "ssh" else ""
    return parts._replace(netloc=keep + host).geturl()


def _remove(path: Path) -> None:
    """Remove whatever is there; directories that a script closed are opened first, links are not followed."""

    def opened(function: Callable[[str], object], name: str, _: object) -> None:
        parent = Path(name).parent
        for closed in (parent, Path(name)):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(closed.lstat().st_mode):
                    closed.chmod(0o700)
        if function in (os.open, os.scandir, os.lstat):
            shutil.rmtree(name)
        else:
            function(name)

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=opened)
