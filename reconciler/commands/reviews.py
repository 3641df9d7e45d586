"""Changes of applications, approval rulesets and bindings through the served API (sqedule, 5.2, 6.2; design 13.12).

A draft is a record of this server. What is final is committed: the version comes from the apply of that commit. Where
API writes go to branches, it waits in review until somebody approves it here, or merges it in Git.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.access import Caller, require_level
from reconciler.commands.review_commits import Asked as Asked
from reconciler.commands.review_commits import (
    Final,
    finish,
    is_in_force,
    record,
    rename,
    require_free,
    require_untouched,
    shown,
)
from reconciler.commands.review_given import GIVEN, everything, said, source_of
from reconciler.commands.rule_passwords import locked, may_keep
from reconciler.errors import Conflict, Refused
from reconciler.installation import Installation
from reconciler.model.review import (
    COMMITTING,
    DEFAULTS,
    IMPLICIT,
    Kind,
    Named,
    Ref,
    Stage,
    Version,
    Whole,
    application,
    ruleset,
)
from reconciler.model.rights import Level
from reconciler.store import reviews
from reconciler.store.database import Connection, Write
from reconciler.store.review_wholes import found, proposal, whole

Step = Literal["draft", "final", "abandon"]
_STAGES: Mapping[str, Stage] = {"draft": Stage.DRAFT, "abandon": Stage.ABANDONED}
_RECENT = 100
_KEPT = ("password", "approvers", "allow_self_approval")


@dataclass(frozen=True, slots=True)
class GivenRule:
    """A rule as a caller gives it: all fields that Git would have.

    `id`: of the rule that it was; `silent` are the fields that were not given, which that one keeps; `password` is in
    clear.
    """

    fields: Mapping[str, Any]
    id: int | None = None
    silent: frozenset[str] = frozenset()
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a caller makes of a version: fields of its content, and all of its rules if these change; and how far."""

    step: Step = "draft"
    fields: Mapping[str, Any] = field(default_factory=dict)
    rules: Sequence[GivenRule] | None = None

    @property
    def ids(self) -> frozenset[int]:
        """Those that its rules have had."""
        return frozenset(each.id for each in self.rules or () if each.id is not None)


def require_writer(caller: Caller) -> None:
    """Forbidden to who may not change what concerns the whole installation."""
    require_level(caller, Level.WRITE, "to change applications, rulesets and bindings")


async def require(installation: Installation, caller: Caller, ref: Ref, id: int | None = None) -> None:
    """Let a writer change a thing, or a proposal of it. Forbidden, NotFound."""
    require_writer(caller)
    await installation.database.read(lambda c: _there(c, ref, id))


async def require_ends(installation: Installation, caller: Caller, ref: Ref) -> None:
    """Let a writer bind a ruleset to an application. Forbidden, NotFound."""
    require_writer(caller)

    def read(connection: Connection) -> None:
        found(connection, application(ref.application))
        found(connection, ruleset(ref.ruleset))

    await installation.database.read(read)


async def create(installation: Installation, asked: Asked, ref: Ref, given: Given) -> Whole:
    """A new thing with its first version. Refused where it is there already."""
    require_writer(asked.caller)
    content = _content(installation, ref, DEFAULTS[ref.kind], given)
    if ref.kind is Kind.BINDING:
        ref = await installation.database.read(lambda c: _bindable(c, ref))

    def absent(connection: Connection) -> None:
        if reviews.find(connection, ref) is not None:
            raise Refused("AlreadyExists", f"there is such a thing already: {ref.words} {shown(ref)}")

    await installation.database.read(absent)
    if given.step == "final":
        return await finish(installation, asked, ref, Final(content, new=True))

    def work(write: Write) -> Whole:
        absent(write.connection)
        reviews.add(write, ref)
        version = reviews.propose(write, ref, content, _STAGES[given.step])
        record(write, ref, version)
        return whole(write.connection, ref, version)

    return await installation.database.write(work, asked.caller.actor)


async def change(
    installation: Installation, asked: Asked, ref: Ref, name: str | None, given: Given | None
) -> Whole:
    """Another id, and a new version that begins as a copy of the one in force. NotFound."""
    require_writer(asked.caller)
    latest, earlier = await installation.database.read(
        lambda c: (_changeable(c, ref), _earlier(c, ref, given))
    )
    content = None if given is None else _content(installation, ref, _base(ref, latest), given, earlier)
    ref = await installation.database.read(lambda c: _as_written(c, ref))
    final = content if given is not None and given.step == "final" else None
    if name == ref.name:
        name = None
    if name is not None:
        await require_free(installation, ref, name)
        if final is None or not is_in_force(installation, ref):
            ref, name = await rename(installation, asked, ref, name), None
    if final is not None:
        return await finish(installation, asked, ref, Final(final, name=name))

    def work(write: Write) -> Whole:
        there = found(write.connection, ref)
        reviews.touch(write, ref)
        version = there.latest
        if given is not None and content is not None:
            version = reviews.propose(write, ref, content, _STAGES[given.step])
        record(write, ref, version)
        return whole(write.connection, ref, version)

    return await installation.database.write(work, asked.caller.actor)


async def adjust(installation: Installation, asked: Asked, ref: Ref, id: int, given: Given) -> Whole:
    """One more step of a proposal. NotFound; Conflict where it cannot be final now."""
    require_writer(asked.caller)

    async with _turn(installation, ref, id):

        def read(connection: Connection) -> tuple[Ref, Version, list[Version]]:
            version = proposal(connection, ref, id)
            _changeable(connection, ref)
            return _as_written(connection, ref), version, _earlier(connection, ref, given)

        ref, before, earlier = await installation.database.read(read)
        if given.step == "final" and before.stage is Stage.REVIEWING:
            raise Conflict("InReview", "the proposal is in review already; approve or reject it")
        base = {GIVEN: everything(ref.kind), **before.content}
        content = _content(installation, ref, base, given, earlier)
        if given.step == "final":
            return await finish(installation, asked, ref, Final(content, before))

        def work(write: Write) -> Whole:
            version = reviews.adjust(write, proposal(write.connection, ref, id), content, _STAGES[given.step])
            record(write, ref, version)
            return whole(write.connection, ref, version)

        return await installation.database.write(work, asked.caller.actor)


async def review(
    installation: Installation, asked: Asked, ref: Ref, id: int, verdict: Literal["approved", "rejected"]
) -> Whole:
    """Approve a proposal that is in review, which commits it to the branch itself; or reject it. NotFound, Conflict."""
    require_level(asked.caller, Level.OWNER, "to review a proposal")

    async with _turn(installation, ref, id):

        def read(connection: Connection) -> tuple[Ref, Version]:
            version = proposal(connection, ref, id)
            if version.stage is not Stage.REVIEWING:
                raise Conflict("NotInReview", f"the proposal is in the state {version.stage}, not in review")
            return _as_written(connection, ref), version

        ref, before = await installation.database.read(read)
        if verdict == "approved":
            await require_untouched(installation, before)
            return await finish(installation, asked, ref, Final(before.content, before, reviewed=True))

        def work(write: Write) -> Whole:
            version = reviews.adjust(write, read(write.connection)[1], _plain(before), Stage.REJECTED)
            record(write, ref, version)
            return whole(write.connection, ref, version)

        return await installation.database.write(work, asked.caller.actor)


async def delete(installation: Installation, asked: Asked, ref: Ref, id: int) -> None:
    """Take a proposal away. NotFound."""
    require_writer(asked.caller)

    def work(write: Write) -> None:
        version = proposal(write.connection, ref, id)
        reviews.remove(write, version)
        record(write, ref, version, "proposal-deleted")

    async with _turn(installation, ref, id):
        await installation.database.write(work, asked.caller.actor)


def _turn(installation: Installation, ref: Ref, id: int) -> asyncio.Lock:
    """To be held from the look at a proposal until the step is done: a commit of it takes its time."""
    return installation.adjusting.setdefault((ref.kind, id), asyncio.Lock())


def _there(connection: Connection, ref: Ref, id: int | None) -> None:
    found(connection, ref)
    if id is not None:
        proposal(connection, ref, id)


def _changeable(connection: Connection, ref: Ref) -> Version | None:
    """The version in force of what an API may change. NotFound, Conflict."""
    there = found(connection, ref)
    _declarable(there if ref.kind is not Kind.BINDING else found(connection, application(ref.application)))
    return there.latest


def _bindable(connection: Connection, ref: Ref) -> Ref:
    """A binding that may be made, with the ids as they were written. NotFound, Conflict."""
    _declarable(found(connection, application(ref.application)))
    found(connection, ruleset(ref.ruleset))
    return _as_written(connection, ref)


def _declarable(owner: Named) -> None:
    """Conflict for an application that stands in for what nobody declares."""
    if owner.reviewed.kind is Kind.APPLICATION and owner.latest and owner.latest.content.get(IMPLICIT):
        raise Conflict(
            "Implicit",
            f"{owner.reviewed.name} stands in for an application that nobody declares, and is read-only: declare an "
            "Application whose `releases` names what is deployed",
        )


def _as_written(connection: Connection, ref: Ref) -> Ref:
    """The same with the ids as they were written."""
    at = reviews.known(connection, ref.application) if ref.application else None
    return Ref(ref.kind, at or ref.application, ref.ruleset)


def _base(ref: Ref, latest: Version | None) -> Mapping[str, Any]:
    return DEFAULTS[ref.kind] if latest is None else latest.content


def _plain(version: Version) -> dict[str, Any]:
    """The content of a proposal that is not on its way into Git."""
    return {name: value for name, value in version.content.items() if name != COMMITTING}


def _content(
    installation: Installation,
    ref: Ref,
    base: Mapping[str, Any],
    given: Given,
    earlier: Sequence[Version] = (),
) -> dict[str, Any]:
    """The content of a version that begins as `base`, with what was said of it. Refused, Conflict.

    Rules may have ids of that, or of `earlier` versions.
    """
    content = {name: base.get(name, value) for name, value in DEFAULTS[ref.kind].items()} | dict(given.fields)
    names = set(given.fields)
    source: Mapping[str, Any] | None = base
    if given.rules is not None:
        contents = [base, *(each.content for each in earlier)]
        found = source_of(contents, given.ids) if given.rules else base
        before = {rule["id"]: rule for rule in (found or {}).get("rules", ()) if "id" in rule}
        content["rules"] = [_rule(installation, before, each) for each in _in_order(before, given.rules)]
        names, source = {*names, "rules"}, found
    if ref.kind is Kind.BINDING and content["mode"] is None:
        raise Conflict("NoMode", "mode is missing; it is enforcing or permissive")
    return {**content, GIVEN: said(ref, base, names, source)}


def _earlier(connection: Connection, ref: Ref, given: Given | None) -> list[Version]:
    """Versions that rules may be of."""
    if given is None or not given.ids:
        return []
    return reviews.versions(connection, ref, approved=True, limit=_RECENT, offset=0)


def _in_order(before: Iterable[int], given: Sequence[GivenRule]) -> list[GivenRule]:
    """Rules that were there in the order that Git has them in, whatever order they are shown in; then those new."""
    places = {id: at for at, id in enumerate(before)}
    return sorted(
        given, key=lambda each: len(places) if each.id is None else places.get(each.id, len(places))
    )


def _rule(
    installation: Installation, before: Mapping[int, Mapping[str, Any]], given: GivenRule
) -> dict[str, Any]:
    rule = dict(given.fields)
    was = before.get(given.id) if given.id is not None else None
    if was is not None and was["type"] == rule["type"]:
        rule |= {name: was[name] for name in _KEPT if name in given.silent and name in was}
        if given.password is None and rule.get("password") is not None and not may_keep(was, rule):
            raise Refused(
                "PasswordMissing",
                f"give the password again: the rule {given.id} goes to another server, or under another username",
            )
    if given.password is not None:
        rule["password"] = locked(installation, given.password)
    if rule["type"] == "http_api" and rule["username"] is None:
        rule["password"] = None
    return rule
