"""What one caller sees and may do; the doors ask here before they do anything (design 9).

Without any role on a thing there is no such thing (NotFound, in the words for what does not exist); with too small a
one: Forbidden, which says what is missing. An execution token sees its own job, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.controllers.rights import (
    ADMINISTRATOR,
    EVERYTHING,
    KINDS,
    Authority,
    Need,
    authority,
    need,
    parsed,
)
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.job import Job, owner_of
from reconciler.model.rights import INSTALLATION, Level, Rights, Scope, scope_of
from specs.meta import Key


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request: subject, rights, id of the token, address; `job`: the one that a script speaks for.

    `most` and `within` are what the token leaves of its subject's rights; `rights` are narrowed by them already.
    """

    subject: str
    rights: Rights
    token: str | None = None
    address: str | None = None
    job: int | None = None
    most: Level = Level.OWNER
    within: Scope = INSTALLATION

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


def authority_of(installation: Installation) -> Authority:
    """All grants of the state that is in force, made once for each change of them."""
    resources = installation.snapshot.current.of_kinds(KINDS)
    if installation.authority is None or installation.authority[0] is not resources:
        installation.authority = resources, authority(resources.values())
    return installation.authority[1]


def missing(key: str) -> NotFound:
    """The one answer for what is not there and what is not to be seen."""
    return NotFound("NoSuchResource", f"there is no resource {key}; `steersman status` lists those there are")


def ask(installation: Installation, caller: Caller, verb: str, key: str) -> tuple[Need | None, Level | None]:
    """What a verb on a KEY needs, and what the caller has there; no need: it does not see the KEY."""
    found = parsed(key)
    if found is None or not caller.sees(key):
        return None, None
    wanted = need(verb, found, protected=_protected(installation, found), running=caller.running)
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


def _protected(installation: Installation, key: Key) -> bool:
    scope = scope_of(key)
    if scope.environment is None:
        return False
    resource = installation.snapshot.current.resources.get(f"Environment/{scope.project}/{scope.environment}")
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    return bool(spec.get("protected"))
