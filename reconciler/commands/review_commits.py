"""What is reviewed on its way into Git (sqedule, 5.2, 6.2, 10.3; design 13.12): final content, and other ids.

Called by the commands of what is reviewed. The version comes from the apply of the commit; where API writes go to
branches, it waits in review.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reconciler.access import Caller
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.commands.review_plans import Final as Final
from reconciler.commands.review_plans import Plan, called, key_of, renamed, spec_of
from reconciler.commands.rule_passwords import sealed
from reconciler.errors import Conflict, Refused, SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.model.review import (
    COMMITTING,
    Kind,
    Ref,
    Stage,
    Version,
    Whole,
    stated,
)
from reconciler.passes import edits
from reconciler.passes.commits import renaming
from reconciler.store import reviews
from reconciler.store.database import Connection, Write
from reconciler.store.review_wholes import proposal, whole
from specs.tree import Tree
from specs.write import Wish

_RECENT = 100
_BRANCH = "branch"
"""Beside the content of a proposal in review: where it was pushed to, and as which commit."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and by which endpoint."""

    caller: Caller
    endpoint: str


async def finish(installation: Installation, asked: Asked, ref: Ref, final: Final) -> Whole:
    """Commit the content, and give the version that came of it; or that waits in review, on a branch."""
    after = ref if final.name is None else called(ref, final.name)
    ready = sealed(installation, after.ruleset, final.content.get("rules", ()))
    plan = Plan(installation, ref, final, ready)
    marked = None if final.before is None else plan.committed(await _newest(installation))
    made: list[Mapping[str, Any]] = []
    keys: set[str] = set()

    def intent(tree: Tree) -> list[Wish]:
        committed = plan.committed(tree)
        if marked is not None and marked != committed:
            raise Transient("GitBusy", f"{ref.words} {shown(ref)} was changed in Git just now; try again")
        wishes = plan.wishes(tree, committed)
        made[:] = [committed]
        keys.update(str(wish.key) for wish in wishes if final.name is not None)
        return wishes

    terms = Terms(
        asked.endpoint,
        trailers=() if final.name is None else (_trailer(ref, final.name),),
        allowed=lambda key: key in keys or ready.may_write(ref.ruleset, key),
        reviewed=final.reviewed,
    )
    newest = await installation.database.read(lambda c: _newest_number(c, ref))
    await _mark(installation, asked, final.before, marked)
    try:
        written = await declare.write(installation, asked.caller, intent, terms)
    except BaseException:
        with suppress(SteersmanError):
            await _mark(installation, asked, final.before, None)
        raise
    _require_applied(written, renamed=final.name is not None)

    def work(write: Write) -> Whole:
        _follow(write, ref, after)
        version = _outcome(write, after, final, written, _Made(made[0], newest))
        reviews.touch(write, after)
        record(write, after, version)
        return whole(write.connection, after, version)

    return await installation.database.write(work, asked.caller.actor)


async def require_untouched(installation: Installation, proposed: Version) -> None:
    """Conflict where somebody has changed the branch that a proposal waits on."""
    pushed = proposed.content.get(_BRANCH)
    if pushed is None:
        return
    with edits.reachable():
        await installation.source.fetch()
        heads = await installation.source.heads()
    if heads.get(pushed["name"], pushed["commit"]) != pushed["commit"]:
        raise Conflict(
            "BranchChanged",
            f"somebody has changed the branch {pushed['name']}: merge it in Git, or reject this",
        )


async def _newest(installation: Installation) -> Tree:
    with edits.reachable():
        return (await edits.newest(installation)).tree


def _newest_number(connection: Connection, ref: Ref) -> int:
    there = reviews.find(connection, ref)
    return 0 if there is None or there.latest is None else there.latest.number or 0


def _require_applied(written: Written, *, renamed: bool) -> None:
    if written.branch is not None:
        if renamed:
            raise Conflict("Waits", f"the new id waits on the branch {written.branch} to be merged in Git")
    elif not written.applied and (written.commit is not None or not renamed):
        raise Transient("NotApplied", "the change is in Git, and will be applied in a while")


async def _mark(
    installation: Installation, asked: Asked, before: Version | None, committed: Mapping[str, Any] | None
) -> None:
    """Let the apply know a proposal by what is committed of it, however soon that is; or (None) as it was."""
    if before is None:
        return
    changed = before.content if committed is None else {**before.content, COMMITTING: committed}
    await installation.database.write(lambda w: reviews.mark(w, before, changed), asked.caller.actor)


@dataclass(frozen=True, slots=True)
class _Made:
    """What was committed, and the number of the newest version before that."""

    committed: Mapping[str, Any]
    newest: int


def _outcome(write: Write, ref: Ref, final: Final, written: Written, made: _Made) -> Version:
    """The version after a write."""
    connection, before = write.connection, final.before
    there = reviews.find(connection, ref)
    if there is None:
        reviews.add(write, ref)
    if written.branch is not None:
        pushed = {"name": written.branch, "commit": written.commit}
        waiting = {**final.content, COMMITTING: made.committed, _BRANCH: pushed}
        if before is None:
            return reviews.propose(write, ref, waiting, Stage.REVIEWING)
        return reviews.adjust(write, proposal(connection, ref, before.id), waiting, Stage.REVIEWING)
    still = None if before is None else reviews.proposal(connection, ref, before.id)
    renamed_only = final.name is not None and _newest_number(connection, ref) == made.newest
    if (written.commit is None or renamed_only) and (before is None or still is not None):
        return reviews.approve(
            write, ref, made.committed, still
        )  # Git says so already; a version it is all the same
    found = reviews.versions(connection, ref, approved=True, limit=_RECENT, offset=0)
    if before is not None:
        mine = [each for each in found if each.id == before.id]
    else:
        mine = [each for each in found if stated(ref.kind, each.content) == made.committed]
    if mine:
        return mine[0]
    raise Conflict("Overtaken", f"somebody else has changed {ref.words} {shown(ref)} in Git meanwhile")


async def rename(installation: Installation, asked: Asked, ref: Ref, name: str) -> Ref:
    """Give an application or a ruleset another id; all that names it follows, in the same commit."""
    new = called(ref, name)
    touched: set[str] = set()

    def wishes(tree: Tree) -> list[Wish]:
        if str(key_of(ref)) not in tree.declared:
            return []
        made = renamed(tree, ref, name, spec_of(installation, tree, key_of(ref)))
        touched.update(str(wish.key) for wish in made)
        return made

    terms = Terms(asked.endpoint, trailers=(_trailer(ref, name),), allowed=touched.__contains__)
    written = await declare.write(installation, asked.caller, wishes, terms)
    _require_applied(written, renamed=True)
    await installation.database.write(lambda w: _follow(w, ref, new), asked.caller.actor)
    return new


async def require_free(installation: Installation, ref: Ref, name: str) -> None:
    """Refused where something else has that id."""
    new = called(ref, name)
    if await installation.database.read(lambda c: _taken(c, ref, new)):
        raise Refused("AlreadyExists", f"there is such a thing already: {ref.words} {name}")


def is_in_force(installation: Installation, ref: Ref) -> bool:
    """Whether Git declares it, as far as that is applied."""
    return str(key_of(ref)) in installation.snapshot.current.resources


def _trailer(ref: Ref, name: str) -> tuple[str, str]:
    return renaming(str(key_of(ref)), str(key_of(called(ref, name))))


def _taken(connection: Connection, ref: Ref, new: Ref) -> bool:
    return new.key != ref.key and reviews.find(connection, new) is not None


def _follow(write: Write, ref: Ref, new: Ref) -> None:
    """What is stored gets another id, unless it has it by the apply of the commit."""
    if (
        new != ref
        and reviews.find(write.connection, ref) is not None
        and not _taken(write.connection, ref, new)
    ):
        reviews.rename(write, ref, new)


def record(write: Write, ref: Ref, version: Version | None, what: str = "proposal-changed") -> None:
    """An adjustment is paired with a record of who made it (sqedule, 2.3)."""
    body: dict[str, Any] = {"of": ref.kind.value, "ruleset": ref.ruleset}
    if version is not None:
        body |= {"version": version.id, "state": version.stage.value}
    key = f"ApprovalRuleset/{ref.ruleset}" if ref.kind is Kind.RULESET else f"Application/{ref.application}"
    write.record(what, key, body)


def shown(ref: Ref) -> str:
    """Its id, or those of both that a binding ties together."""
    return ref.name or f"{ref.application}, {ref.ruleset}"
