"""Writes to declared things: each call is one commit, pushed, applied, and then answered (escape-state, 13.2).

For every served API. A caller says what resources shall be, as a function of the tree: it is asked again on the newest
commit when somebody else was faster, so that nothing is ever merged as text. Nothing is stored anywhere but in Git.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from reconciler.access import Caller, may_hold, require
from reconciler.errors import (
    BrokenBefore,
    Conflict,
    Forbidden,
    Moved,
    PushRefused,
    SpecificationRefused,
    Stale,
    Stalled,
    SteersmanError,
    Transient,
)
from reconciler.installation import Installation
from reconciler.model.rights import Level, Scope
from reconciler.passes import source
from reconciler.source.commit import Author
from reconciler.source.desired import Desired
from reconciler.store.rows import new_id
from specs.errors import SpecError
from specs.meta import Key
from specs.tree import Tree
from specs.write import Rewritten, Unacceptable, Wish, paths, rewrite

log = structlog.get_logger(__name__)
Intent = Callable[[Tree], Sequence[Wish]]
_TRIES = 5
_LONGEST_SUBJECT = 72
_NOWHERE = "users.noreply.steersman.invalid"
_ACCOUNTS = "service-accounts.steersman.invalid"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a call wants it: `endpoint` for the trailer, `if_match` entity tags by KEY, `wait` seconds for the apply.

    `trailers` are further ones, as (name, value). `allowed` tells the KEYs for which the served API has asked for the
    role itself, because its contract wants another one there.
    """

    endpoint: str
    if_match: Mapping[str, str] = field(default_factory=dict)
    wait: float = 10.0
    trailers: tuple[tuple[str, str], ...] = ()
    allowed: Callable[[str], bool] = lambda _key: False


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
    with _reachable():
        desired = await _newest(installation)
    wishes = list(intent(desired.tree))
    for wish in wishes:
        _allow(installation, caller, desired, wish, asked=terms.allowed(str(wish.key)))
    _match(desired, terms)
    rewritten = await _rewritten(installation, desired, wishes)
    if not rewritten.files:
        return Written(None, installation.desired is desired)
    await _judge(installation, desired, rewritten)
    request = new_id()
    branch = f"steersman/{request}" if mode_of(installation, wishes) == "branch" else None
    contents = {
        _from_root(installation, path): None if text is None else text.encode()
        for path, text in rewritten.files.items()
    }
    author, message = _author(installation, caller), _message(rewritten, caller, terms, request)
    with _reachable():
        commit = await installation.writer.commit(
            desired.commit or None, contents, author, message, branch=branch
        )
    keys = [key for key, _, _ in rewritten.changes]
    body = {"commit": commit, "request": request, "endpoint": terms.endpoint, "keys": keys, "branch": branch}
    with suppress(SteersmanError):  # it is in Git, trailers and all: whatever fails now, that is no lie
        await installation.database.write(
            lambda w: w.record("specs-written", keys[0] if len(keys) == 1 else None, body), caller.actor
        )
    log.info("specs-written", commit=commit[:12], actor=caller.subject, endpoint=terms.endpoint)
    removed = frozenset(key for key, verb, _ in rewritten.changes if verb == "delete")
    return Written(commit, False, branch, removed)


@contextmanager
def _reachable() -> Iterator[None]:
    """A repository that is gone stays so as far as the loop knows; a caller is told to come again."""
    try:
        yield
    except PushRefused:
        raise
    except Stalled as error:
        raise Transient(error.reason, error.message) from error


async def _newest(installation: Installation) -> Desired:
    """The desired state at the newest commit of the branch."""
    await installation.source.fetch()
    head = await installation.source.head(installation.settings.branch)
    if head is None:
        return Desired("", Tree.empty(), {})
    known = installation.desired
    return (
        known if known is not None and known.commit == head else await source.read(installation, head, known)
    )


async def _rewritten(installation: Installation, desired: Desired, wishes: Sequence[Wish]) -> Rewritten:
    """The files as the wishes make them."""
    texts = await _texts(installation, desired, paths(desired.tree, wishes))
    try:
        return await asyncio.to_thread(rewrite, desired.tree, texts, wishes)
    except Unacceptable as error:
        told = tuple((str(error.key), field, sentence) for field, sentence in error.faults)
        raise SpecificationRefused("InvalidSpecification", str(error), told) from error
    except ValueError as error:  # CannotWrite, Uneditable
        raise Conflict("CannotWrite", str(error)) from error


def _allow(installation: Installation, caller: Caller, desired: Desired, wish: Wish, *, asked: bool) -> None:
    """The right, unless it was asked for already; and the mode of writing."""
    key = str(wish.key)
    if not asked:
        require(installation, caller, "delete" if wish.spec is None else "edit", key)
    _is_readable(installation, desired, key)
    _may_borrow(installation, caller, desired, wish)
    if mode_of(installation, [wish]) == "read-only":
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
    owner = caller.rights.at(Scope(_project(wish.key))) is Level.OWNER
    if not owner and _lent(wish.spec) - _lent(declared.spec if declared else None):
        raise Forbidden("Forbidden", "to name accounts in `defaults` takes being an owner of the project")
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


def _account(spec: Mapping[str, Any] | None) -> tuple[str, str] | None:
    name = (spec or {}).get("service_account_name")
    return ((spec or {}).get("service_account_team") or "", name) if name else None


def mode_of(installation: Installation, wishes: Sequence[Wish]) -> str:
    """The strictest of the projects concerned."""
    settings = installation.settings
    order = ("direct", "branch", "read-only")
    found = {settings.write_modes.get(_project(wish.key) or "", settings.write_mode) for wish in wishes}
    return max(found or {settings.write_mode}, key=order.index)


def _project(key: Key) -> str | None:
    return key.name if key.kind == "Project" else key.project


def _match(desired: Desired, terms: Terms) -> None:
    for key, wanted in terms.if_match.items():
        found = tag_of(desired, key)
        if found != wanted and not (wanted == "*" and found is not None):
            raise Stale("Stale", f"{key} has changed since it was read; read it again")


async def _texts(
    installation: Installation, desired: Desired, wanted: frozenset[str]
) -> dict[str, str | None]:
    there = {path: desired.paths[path].blob for path in wanted if path in desired.paths}
    contents = await installation.source.read(sorted(set(there.values())), installation.settings.file_bytes)
    texts: dict[str, str | None] = dict.fromkeys(wanted)
    for path, blob in there.items():
        try:
            texts[path] = contents[blob].decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise Conflict(
                "CannotWrite", f"{path} cannot be read as text; put that right in Git first"
            ) from error
    return texts


async def _judge(installation: Installation, desired: Desired, rewritten: Rewritten) -> None:
    """The whole tree as it would be: errors that the write brings are refused, those from before are others'."""
    after = await source.overlay(installation, desired, rewritten.files)
    known = {_without_place(error) for error in desired.tree.errors}
    brought = [error for error in after.errors if _without_place(error) not in known]
    if brought:
        raise SpecificationRefused(
            "InvalidSpecification",
            "; ".join(_told(error) for error in brought[:5]),
            tuple(
                (error.key, f"{error.path}:{error.line}:{error.column}", error.message) for error in brought
            ),
        )
    for key, _, _ in rewritten.changes:
        declared = after.declared.get(key)
        if declared is not None and declared.errors:
            raise BrokenBefore(
                "SpecInvalid", f"{key} is invalid already: {declared.errors[0]}; put that right first"
            )


def _without_place(error: SpecError) -> tuple[str, str | None, str]:
    return error.path, error.key, error.message


def _told(error: SpecError) -> str:
    return f"{error.key}: {error.message}" if error.key else str(error)


def _from_root(installation: Installation, path: str) -> str:
    folder = installation.settings.path.strip("/")
    return path if folder in ("", ".") else f"{folder.removeprefix('./')}/{path}"


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


def _author(installation: Installation, caller: Caller) -> Author:
    """The caller as Git knows people (escape-state, 13.3)."""
    kind, _, name = caller.subject.partition("/")
    if kind == "ServiceAccount":
        team, _, account = name.partition("/")
        return Author(f"{account} ({team})", f"{account}+{team}@{_ACCOUNTS}")
    resource = installation.snapshot.current.resources.get(caller.subject)
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    return Author(spec.get("display_name") or name, spec.get("email") or f"{name}@{_NOWHERE}")


def _message(rewritten: Rewritten, caller: Caller, terms: Terms, request: str) -> str:
    """Kind, KEY, verb and fields, never a value: it may be confidential (escape-state, 13.3)."""
    key, verb, fields = rewritten.changes[0]
    kind, _, rest = key.partition("/")
    subject = f"{kind.lower()} {rest}: {verb}{' ' if fields else ''}{', '.join(fields)}"
    if len(rewritten.changes) > 1:
        subject = f"{kind.lower()} {rest}: {verb}, and {len(rewritten.changes) - 1} more"
    if len(subject) > _LONGEST_SUBJECT:
        subject = subject[: _LONGEST_SUBJECT - 1] + "…"
    actor, _, name = caller.subject.partition("/")
    trailers = (
        ("Steersman-Request", request),
        ("Steersman-Actor", f"{actor.lower()}:{name}"),
        ("Steersman-Endpoint", terms.endpoint),
        *terms.trailers,
    )
    return subject + "\n\n" + "".join(f"{name}: {value}\n" for name, value in trailers)
