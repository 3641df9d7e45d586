"""One commit pushed to one branch, or one tag, as a compare-and-swap, and what came of it.

Called by `reconciler.source.commit` and `.tagging` in their threads. The other side takes the commit only while the
branch is where it is expected; what it says otherwise becomes an error that says what happens next. When its answer is
lost, it is asked where the branch is now before anything is called failed. Never forces a branch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.errors import Conflict, Moved, PushRefused, Stalled, SteersmanError, Transient
from reconciler.source import parse
from reconciler.source.failures import GitFailed, explain
from reconciler.source.git import Commands, Mirror

_OPTIONS = (
    "--porcelain",
    "--no-verify",
    "--no-signed",
    "--no-follow-tags",
    "--recurse-submodules=no",
    "--no-mirror",
)
# A constant for the shell of this machine: a clean work tree that has the branch checked out follows.
_FOLLOWING = "--receive-pack=git -c receive.denyCurrentBranch=updateInstead receive-pack"
_LOOK_SECONDS = 10.0
_PROBE = "refs/steersman/there"

_STALE = re.compile(r"stale info|fetch first|non-fast-forward|needs force")
_DIRTY = re.compile(r"Working directory has (unstaged|staged) changes")
_BUSY = re.compile(r"Up-to-date check failed")
_IN_THE_WAY = re.compile(r"Could not update (?:the )?working tree")
_UNPACK = re.compile(r"unpacker error|unpack failed|missing necessary objects")
_UNSURE = re.compile(
    r"failed to update ref|cannot lock ref|failed to lock|reference already exists|incorrect old value"
    r"|failed to report status|remote failure"
)
_UNREACHED = re.compile(
    r"Could not resolve host|Failed to connect|Connection refused|unable to connect|No route to host"
)
_READ_ONLY = re.compile(
    r"error: 403|marked as read only|not allowed to (?:push|upload)|[Pp]ermission to .* denied"
    r"|service not enabled|access denied or repository not exported"
    r"|[Ww]rite access to repository not granted|insufficient permission to push"
)
_NOISE = ("hint:", "error: failed to push some refs", "error: hook declined to update")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Push:
    """A commit, the branch it shall be the head of, and where that branch must be (None: nowhere yet).

    `kind`: `heads`; or `tags`, with the object of a tag in the place of the commit.
    """

    commit: str
    branch: str
    expected: str | None
    kind: str = "heads"

    @property
    def ref(self) -> str:
        """The branch's full name."""
        return f"refs/{self.kind}/{self.branch}"


def send(mirror: Mirror, commands: Commands, push: Push) -> None:
    """Push to the mirror's URL with commands of the private repository; returns when the branch has the
    commit.

    Moved, PushRefused, Conflict for a work tree that cannot follow, Stalled or Transient otherwise.
    """
    lease = f"--force-with-lease={push.ref}:{push.expected or ''}"
    following = (_FOLLOWING,) if mirror.local else ()
    what = (lease, *following, "--", mirror.url, f"{push.commit}:{push.ref}")
    try:
        answer = _answer(commands.run("push", *_OPTIONS, *what, timeout_seconds=mirror.timeout_seconds), push)
        said = ""
    except GitFailed as failure:
        answer = _answer(failure.stdout, push)
        said = plain(mirror.redacted(failure.stderr))
    except Transient as late:
        _find_out(mirror, commands, push, late)
        return
    if answer is None or _UNSURE.search(answer[1]):
        error = _explained(said, mirror)
        if isinstance(error, Stalled) or _UNREACHED.search(said):
            raise error
        _find_out(mirror, commands, push, error)
    elif answer[0] not in " *+":
        raise _refusal(answer, said, mirror, push)


def _answer(output: bytes, push: Push) -> tuple[str, str] | None:
    """Flag and summary of the branch's line in what `push --porcelain` wrote; None when it wrote none."""
    for line in parse.text(output).split("\n"):
        fields = line.split("\t")
        if len(fields) == 3 and len(fields[0]) == 1 and fields[1].endswith(f":{push.ref}"):
            return fields[0], plain(fields[2])
    return None


def _refusal(answer: tuple[str, str], said: str, mirror: Mirror, push: Push) -> SteersmanError:
    """What a refused push means, by the summary of its line."""
    flag, summary = answer
    where = mirror.redacted(mirror.url)
    if flag == "=" or _STALE.search(summary):
        return _moved(mirror, push)
    if found := _DIRTY.search(summary):
        return Conflict(
            "WorkTreeDirty",
            f"{where} has {push.branch} checked out with {found[1]} changes; commit, stash or undo them",
        )
    if "index.lock" in _own(said):
        return _explained(said, mirror)
    if _BUSY.search(summary):
        return Conflict(
            "WorkTreeDirty",
            f"{where} has {push.branch} checked out and is being changed, or is in the middle of a merge",
        )
    if _IN_THE_WAY.search(summary):
        return Conflict(
            "WorkTreeDirty", f"{where} has {push.branch} checked out and cannot follow: {_brief(_own(said))}"
        )
    if _UNPACK.search(summary):
        return _explained(said, mirror)
    reason = summary.partition("(")[2].rstrip(")") or summary
    return PushRefused("PushRefused", f"{where} refused the commit: {_told(said) or reason}")


def _explained(said: str, mirror: Mirror) -> SteersmanError:
    """What a push that brought no answer means, by what was said."""
    if _READ_ONLY.search(said):
        where = mirror.redacted(mirror.url)
        return PushRefused("PushRefused", f"{where} lets nobody push with these credentials: {_brief(said)}")
    return explain(said, mirror.redacted(mirror.url), done="written")


def _moved(mirror: Mirror, push: Push) -> Moved:
    begun = f"at {push.expected}" if push.expected else "without a commit"
    where = mirror.redacted(mirror.url)
    return Moved("SourceMoved", f"the branch {push.branch} of {where} is not {begun} any more")


def _find_out(mirror: Mirror, commands: Commands, push: Push, error: SteersmanError) -> None:
    """Return when the branch has the commit; else Moved, or `error` when the branch is where it was."""
    seconds = min(mirror.timeout_seconds, _LOOK_SECONDS)
    try:
        head = _head(mirror, commands, push, seconds)
        if head in (push.commit, push.expected):
            arrived = head == push.commit
        else:
            moved_on = head is not None and push.kind == "heads"
            arrived = moved_on and _contains(mirror, commands, push, seconds)
    except (GitFailed, Transient):
        unknown = f"{error.message}; whether {push.commit} has arrived could not be found out"
        raise Transient(error.reason, unknown) from error
    if arrived:
        return
    raise error if head == push.expected else _moved(mirror, push)


def _head(mirror: Mirror, commands: Commands, push: Push, seconds: float) -> str | None:
    """Where the branch is now."""
    output = commands.run("ls-remote", "--", mirror.url, push.ref, timeout_seconds=seconds)
    return parse.advertised(output)[2].get(push.ref)


def _contains(mirror: Mirror, commands: Commands, push: Push, seconds: float) -> bool:
    """Whether the branch, which somebody has moved on since, has the commit."""
    asked = ("--quiet", "--no-tags", "--no-write-fetch-head", "--force", "--", mirror.url)
    commands.run("fetch", *asked, f"{push.ref}:{_PROBE}", timeout_seconds=seconds)
    try:
        commands.run("merge-base", "--is-ancestor", push.commit, _PROBE)
    except GitFailed as failure:
        if failure.status == 1:
            return False
        raise
    return True


def plain(text: str) -> str:
    """Text of a stranger without terminal sequences and control characters, line ends kept."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text))


def _told(said: str) -> str:
    """What the other side's hooks said, in one line of bounded length."""
    return _brief("\n".join(line[7:] for line in said.split("\n") if line.startswith("remote:")))


def _own(said: str) -> str:
    """What Git itself said, without what came from the other side."""
    return "\n".join(line for line in said.split("\n") if not line.startswith("remote:"))


def _brief(said: str) -> str:
    """The lines that matter, in one line of bounded length."""
    lines = [line.strip() for line in said.split("\n")]
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))[:500]
