"""Writes to declared things: each call is one commit, pushed, applied, and then answered (escape-state, 13.2).

For every served API. A caller says what resources shall be, as a function of the tree: it is asked again on the newest
commit when somebody else was faster, so that nothing is ever merged as text. Nothing is stored anywhere but in Git.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.access import Caller, may_hold, require
from reconciler.errors import (
    BrokenBefore,
    Conflict,
    Forbidden,
    Moved,
    Stale,
    SteersmanError,
    Transient,
)
from reconciler.installation import Installation
from reconciler.model.rights import Level, Scope
from reconciler.passes import edits
from reconciler.passes.edits import Edit
from reconciler.source.desired import Desired
from specs.tree import Tree
from specs.write import Wish

Intent = Callable[[Tree], Sequence[Wish]]
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """How a call wants it: `endpoint` for the trailer, `if_match` entity tags by KEY, `wait` seconds for the apply.

    `trailers` are further ones, as (name, value); `following` are those that only the intent can tell. `allowed` tells
    the KEYs for which the served API has asked for the role itself, because its contract wants another one there.
    `hard`: the state of Deployments that it removes goes in the same apply, so that nothing is left to destroy (design
    13.13). `reviewed`: somebody has looked at it, so that in the write mode `branch` no branch is made for others.
    `title`: what the caller says of it.
    """

    endpoint: str
    if_match: Mapping[str, str] = field(default_factory=dict)
    wait: float = 10.0
    trailers: tuple[tuple[str, str], ...] = ()
    following: Callable[[], tuple[tuple[str, str], ...]] = tuple
    allowed: Callable[[str], bool] = lambda _key: False
    hard: bool = False
    reviewed: bool = False
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of it. `commit` None: nothing was to be changed. `branch`: where it waits to be merged.

    `removed` are the KEYs that it has taken out.
    """

    commit: str | None
    applied: bool
    branch: str | None = None
    removed: frozenset[str] = frozenset()


def tag_of(desired: Desired, key: str) -> str | None:
    """The entity tag of a declared resource: its digest, or that of its errors while it is invalid."""
    declared = desired.tree.declared.get(key)
    return None if declared is None else declared.digest or "invalid"


async def write(installation: Installation, caller: Caller, intent: Intent, terms: Terms) -> Written:
    """Make it so, and wait until it is applied.

    Stale (412), SpecificationRefused (400), BrokenBefore and Conflict (409), PushRefused (502), Transient (503):
    then nothing has changed, neither here nor there.
    """
    async with installation.writing:
        for _ in range(_TRIES):
            try:
                made = await _try(installation, caller, intent, terms)
            except Moved:
                continue
            break
        else:
            raise Transient(
                "GitBusy", f"{installation.settings.branch} moved {_TRIES} times meanwhile; try again"
            )
    if made.branch is not None:
        return made
    if made.commit is None:
        return replace(made, applied=made.applied or await _caught_up(installation, terms.wait))
    return replace(made, applied=await _applied(installation, made, terms.wait))


async def _try(installation: Installation, caller: Caller, intent: Intent, terms: Terms) -> Written:
    """One attempt on the newest commit; Moved when it was the newest no more."""
    with edits.reachable():
        desired = await edits.newest(installation)
    wishes = list(intent(desired.tree))
    for wish in wishes:
        _allow(installation, caller, desired, wish, asked=terms.allowed(str(wish.key)))
    _match(desired, terms)
    rewritten = await edits.rewritten(installation, desired, wishes)
    if not rewritten.files:
        return Written(None, installation.desired is desired)
    await edits.judge(installation, desired, rewritten)
    edit = Edit(caller.subject, terms.endpoint, (*terms.trailers, *terms.following()), terms.title)
    apart = edits.mode_of(installation, wishes) == "branch" and not terms.reviewed
    removed = rewritten.removed
    with _dropping(installation, removed if terms.hard and not apart else frozenset()):
        commit, branch = await edits.commit(installation, desired, rewritten, edit, caller.actor, apart=apart)
    return Written(commit, False, branch, removed)


@contextmanager
def _dropping(installation: Installation, keys: frozenset[str]) -> Iterator[None]:
    """The state of these Deployments goes with their declarations, once they are removed indeed."""
    marked = {key for key in keys if key.startswith("Deployment/")}
    installation.dropping |= marked
    try:
        yield
    except BaseException:
        installation.dropping -= marked
        raise


def _allow(installation: Installation, caller: Caller, desired: Desired, wish: Wish, *, asked: bool) -> None:
    """The right, unless it was asked for already; and the mode of writing."""
    key = str(wish.key)
    if not asked:
        require(installation, caller, "delete" if wish.spec is None else "edit", key)
    _is_readable(installation, desired, key)
    _may_borrow(installation, caller, desired, wish)
    if edits.mode_of(installation, [wish]) == "read-only":
        place = desired.tree.place(key)
        where = f"{place.path}:{place.line}" if place else "the spec repository"
        raise Conflict("GitReadOnly", f"this server does not write to Git; change {where} there")


def _is_readable(installation: Installation, desired: Desired, key: str) -> None:
    """What a file may declare that cannot be read is neither taken out nor declared a second time."""
    resource = installation.snapshot.current.resources.get(key)
    if resource is not None and key not in desired.tree.declared and resource.path in desired.tree.opaque:
        raise BrokenBefore("SpecInvalid", f"{resource.path} cannot be read; put that right in Git first")


def _may_borrow(installation: Installation, caller: Caller, desired: Desired, wish: Wish) -> None:
    """Whoever names an account to run as has to be of its team, or an owner of the project (escape-state, 5)."""
    declared = desired.tree.declared.get(str(wish.key))
    owner = caller.rights.at(Scope(edits.project_of(wish.key))) is Level.OWNER
    if not owner and _lent(wish.spec) - _lent(declared.spec if declared else None):
        raise Forbidden("Forbidden", "to name accounts in `defaults` takes being an owner of the project")
    submitter = _submitter(wish.spec)
    own = caller.subject if caller.holds_grants else None
    lent = (None, own, _submitter(declared.spec if declared else None))
    if submitter not in lent and not caller.administrator:
        raise Forbidden(
            "Forbidden",
            f"to let {wish.key} submit manifests as {submitter}, whose secrets they may use, takes being that "
            "user, or an administrator",
        )
    account = _account(wish.spec)
    if account is None or account == _account(declared.spec if declared else None):
        return
    team, name = account
    known = [key for key in desired.tree.declared if key.startswith("ServiceAccount/")]
    meant = [key for key in known if key == f"ServiceAccount/{team}/{name}"] if team else []
    meant = meant or [key for key in known if not team and key.endswith(f"/{name}")]
    if not owner and not (meant and all(may_hold(installation, caller, key) for key in meant)):
        raise Forbidden(
            "Forbidden",
            f"to let {wish.key} run as {name} takes being of its team, or an owner of the project",
        )


def _lent(spec: Mapping[str, Any] | None) -> set[tuple[str, str, str]]:
    """Accounts that defaults give to what is inside: kind, team, name."""
    defaults = (spec or {}).get("defaults") or {}
    found = {(kind, *(_account(values) or ("", ""))) for kind, values in defaults.items()}
    return {each for each in found if each[2]}


def _submitter(spec: Mapping[str, Any] | None) -> str | None:
    """The user to whom the jobs of a Repository's manifests belong."""
    name = ((spec or {}).get("srht") or {}).get("submit_as")
    return f"User/{name}" if name else None


def _account(spec: Mapping[str, Any] | None) -> tuple[str, str] | None:
    name = (spec or {}).get("service_account_name")
    return ((spec or {}).get("service_account_team") or "", name) if name else None


def _match(desired: Desired, terms: Terms) -> None:
    for key, wanted in terms.if_match.items():
        found = tag_of(desired, key)
        if found != wanted and not (wanted == "*" and found is not None):
            raise Stale("Stale", f"{key} has changed since it was read; read it again")


async def _applied(installation: Installation, made: Written, wait: float) -> bool:
    """Wait until the commit, or one after it, is in force. Its removals need no further confirmation (design 5.4)."""
    installation.confirmed |= made.removed
    if wait <= 0:
        installation.wake("source")
        return False
    try:
        async with asyncio.timeout(wait):
            await installation.run_now("source")
            if made.removed & _held(installation):  # a pass that had begun before has taken the confirmation
                installation.confirmed |= made.removed
                await installation.run_now("source")
    except TimeoutError:
        return False
    installation.confirmed -= made.removed
    desired, commit = installation.desired, str(made.commit)
    if desired is None:
        return False
    if desired.commit == commit:
        return True
    try:
        return await installation.source.is_ancestor(commit, desired.commit)
    except SteersmanError:  # it is in Git all the same
        return False


async def _caught_up(installation: Installation, wait: float) -> bool:
    """What is wanted is in Git already, by somebody's commit that is still to be applied."""
    try:
        async with asyncio.timeout(wait):
            await installation.run_now("source")
    except TimeoutError:
        return False
    return True


def _held(installation: Installation) -> frozenset[str]:
    """KEYs whose removal waits for a confirmation."""
    source = installation.snapshot.current.source
    return frozenset(key for held in (source.held if source else ()) for key in held["keys"])
