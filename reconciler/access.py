"""What one caller sees and may do; the doors ask here before they do anything (design 9).

Without any role on a thing there is no such thing (NotFound, in the words for what does not exist); with too small a
one: Forbidden, which says what is missing. An execution token sees its own job, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.controllers.rights import (
    ADMINISTRATOR,
    EVERYTHING,
    KINDS,
    Need,
    need,
    parsed,
)
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.job import Job, JobGroup, owner_of
from reconciler.model.pipeline import Place, Run
from reconciler.model.rights import INSTALLATION, Level, Rights, Scope, scope_of
from reconciler.passes.authority import authority_of as authority_of
from reconciler.passes.authority import is_protected
from reconciler.store import jobs
from specs.meta import Key


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request: subject, rights, id of the token, address; `job`: the one that a script speaks for.

    `over`: that script has ended.
    `most` and `within` are what the token leaves of its subject's rights; `rights` are narrowed by them already.
    """

    subject: str
    rights: Rights
    token: str | None = None
    address: str | None = None
    job: int | None = None
    most: Level = Level.OWNER
    within: Scope = INSTALLATION
    over: bool = False

    @property
    def actor(self) -> Actor:
        """As the event log records it."""
        return Actor(self.subject, self.token, self.address)

    @property
    def person(self) -> bool:
        """Not a service account or a script."""
        return self.subject.startswith("User/")

    @property
    def running(self) -> bool:
        """Does it act for a run, with the rights that the run was given?"""
        return self.job is not None

    @property
    def administrator(self) -> bool:
        """An owner of the whole installation."""
        return self.rights.everywhere is Level.OWNER

    @property
    def sees_all(self) -> bool:
        """Is there nothing that is hidden from it?"""
        return self.rights.everywhere is not None

    def covers(self, level: Level, scope: Scope) -> bool:
        """May its own token at least as much as one of this level and scope?"""
        return level <= self.most and self.within.covers(scope)

    def sees(self, key: str) -> bool:
        """Is there a role on the resource of this KEY? Of jobs that belong to somebody: is it an administrator?"""
        if owner_of(key) is not None:
            return self.administrator
        if self.sees_all:
            return True
        found = parsed(key)
        return found is not None and self._level(found) is not None

    def sees_job(self, number: int, key: str, granted: Level | None) -> bool:
        """The job itself, for its own scripts; as what it is a run of; or as it was `granted`."""
        return self.job == number or self.sees(key) or (granted is not None and self.holds_grants)

    @property
    def holds_grants(self) -> bool:
        """Is it somebody to whom jobs may be granted? A token of one project has no part in them."""
        return not self.running and self.within == INSTALLATION

    def _level(self, key: Key) -> Level | None:
        scope = scope_of(key)
        if key.owner is not None:
            return Level.OWNER if self.subject == f"User/{key.owner}" else self.rights.everywhere
        if key.kind == "Project" or scope == INSTALLATION:
            return self.rights.within(scope)
        return self.rights.at(scope)


ROOT = Caller(ADMINISTRATOR, EVERYTHING)
"""Whoever runs the daemon."""


def rights_of(installation: Installation, subject: str) -> Rights:
    """What Git grants a subject now."""
    return authority_of(installation).of(subject)


def is_active(installation: Installation, subject: str) -> bool:
    """Is it still declared, and not disabled? The tokens of all others are of no use."""
    if subject == ADMINISTRATOR:
        return True
    known = subject in installation.snapshot.current.of_kinds(KINDS)
    return known and subject not in authority_of(installation).disabled


def missing(key: str) -> NotFound:
    """The one answer for what is not there and what is not to be seen."""
    return NotFound("NoSuchResource", f"there is no resource {key}; `steersman get` lists those there are")


def ask(installation: Installation, caller: Caller, verb: str, key: str) -> tuple[Need | None, Level | None]:
    """What a verb on a KEY needs, and what the caller has there; no need: it does not see the KEY."""
    found = parsed(key)
    if found is None or not caller.sees(key):
        return None, None
    wanted = need(verb, found, protected=is_protected(installation, found), running=caller.running)
    if _is_its_own(installation, caller, found):
        return wanted, Level.OWNER
    return wanted, caller.rights.within(wanted.scope) if verb == "read" else caller.rights.at(wanted.scope)


def require(installation: Installation, caller: Caller, verb: str, key: str) -> None:
    """Let a caller do a thing, or raise NotFound or Forbidden."""
    wanted, held = ask(installation, caller, verb, key)
    if wanted is None:
        raise missing(key)
    if held is None or held < wanted.level:
        raise Forbidden("Forbidden", refusal(verb, key, wanted, held))


def require_job(
    installation: Installation, caller: Caller, verb: str, job: Job, granted: Level | None
) -> None:
    """Let a caller do a thing to a job; one that belongs to no project is its owner's, and theirs whom that lets."""
    if not caller.sees_job(job.number, job.key, granted):
        raise NotFound("NoSuchJob", f"there is no job {job.number}")
    if parsed(job.key) is not None:
        require(installation, caller, verb, job.key)
    elif not caller.administrator and (granted is None or min(granted, caller.most) < Level.WRITE):
        raise Forbidden("Forbidden", f"to {verb} job {job.number} takes being among those it lets write")


def own_group(caller: Caller, group: JobGroup | None, number: int) -> JobGroup:
    """A group of jobs is its owner's, and administrators see it; for all others there is none."""
    own = group is not None and caller.holds_grants and group.owner == caller.subject
    if group is None or not (own or caller.administrator):
        raise NotFound("NoSuchGroup", f"there is no job group {number}")
    return group


def refusal(verb: str, key: str, wanted: Need, held: Level | None) -> str:
    """Why not, in a sentence."""
    why = f", as {wanted.because}" if wanted.because else ""
    takes = f"takes the role {wanted.level.word} on {wanted.scope}{why}"
    return f"to {verb} {key} {takes}; you have {held.word if held else 'none'}"


def require_level(caller: Caller, level: Level, what: str, scope: Scope = INSTALLATION) -> None:
    """Let a caller do what concerns no single resource."""
    held = caller.rights.at(scope)
    if held is None or held < level:
        raise Forbidden(
            "Forbidden",
            f"{what} takes the role {level.word} on {scope}; you have {held.word if held else 'none'}",
        )


async def runs_in(installation: Installation, caller: Caller, project: str, environment: str) -> bool:
    """Does the caller act for a run of something in this environment? Its scripts may call a client of ours there."""
    number = caller.job
    if number is None:
        return False
    key = await installation.database.read(lambda c: jobs.key_of(c, number))
    found = None if key is None else parsed(key)
    return found is not None and (found.project, found.environment) == (project, environment)


def may_hold(installation: Installation, caller: Caller, subject: str) -> bool:
    """May the caller make, see and revoke the tokens of a subject? Scripts may not: their own ends with them."""
    if caller.running:
        return False
    if caller.administrator or subject == caller.subject:
        return True
    kind, _, rest = subject.partition("/")
    members = authority_of(installation).teams.get(rest.partition("/")[0], frozenset())
    whole = caller.most is Level.OWNER and caller.within == INSTALLATION
    return (
        kind == "ServiceAccount" and caller.person and whole and caller.subject.partition("/")[2] in members
    )


def concerns(caller: Caller, location: str) -> bool:
    """A file that declares nothing readable: whose it is, its path tells, if anything does."""
    if caller.sees_all:
        return True
    head, _, rest = location.rpartition("projects/")[2].partition("/")
    return bool(rest) and caller.sees(f"Project/{head}")


def _is_its_own(installation: Installation, caller: Caller, key: Key) -> bool:
    """A person's own secret, or a service account of the caller's team; a narrowed token has no part in them."""
    if key.owner is not None:
        whole = caller.most is Level.OWNER and caller.within == INSTALLATION
        return whole and caller.subject == f"User/{key.owner}"
    return key.kind == "ServiceAccount" and may_hold(installation, caller, str(key))


def is_asked(installation: Installation, caller: Caller, run: Run, place: Place) -> bool:
    """Is the caller the user that a confirmation names, or in its team? Not by a token that may not write there."""
    declared = run.step(place).declared
    kind, _, name = caller.subject.partition("/")
    if kind != "User" or caller.most < Level.WRITE or not caller.within.covers(Scope(run.project)):
        return False
    members = authority_of(installation).teams.get(declared.get("team", ""), frozenset())
    return declared.get("user") == name or name in members


def not_to_decide(installation: Installation, caller: Caller, run: Run, place: Place) -> str | None:
    """Why the caller may not decide a confirmation, in a sentence; None: it may (escape-state, 10.5)."""
    declared = run.step(place).declared
    if not declared.get("allow_self_approval", True) and caller.subject == run.actor:
        return "who started the run may not decide this"
    if caller.administrator:
        return None
    named = [f"the {word} {declared[word]}" for word in ("user", "team") if declared.get(word)]
    if named:
        return None if is_asked(installation, caller, run, place) else f"{' or '.join(named)} decides this"
    held = caller.rights.at(Scope(run.project))
    return None if held is not None and held >= Level.WRITE else f"it takes the role write on {run.project}"
