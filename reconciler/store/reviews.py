"""Rows of `reviewed` and `review_versions`: applications, approval rulesets and their bindings with all versions
(sqedule, 2.3, 6.2), and what of them is in force for a request.

An approved version never changes and never goes; a proposal is one row, which shows its newest adjustment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, delete, func, insert, select, tuple_, update

from reconciler.model.request import Copied, Mode, Request
from reconciler.model.review import (
    DEFAULTS,
    IMPLICIT,
    Bound,
    Kind,
    Named,
    Ref,
    Reviewed,
    Stage,
    Version,
    application,
    binding,
    bound_by,
    folded,
    ruleset,
)
from reconciler.store.database import Write
from reconciler.store.jobs import next_number
from reconciler.store.requests import newest as newest_requests
from reconciler.store.tables import requests, review_versions, reviewed

_CHUNK = 500
_MOST = 100
_NUL = "\x00"
"""What no text of a database can hold, so that nothing is called so."""

_COPIED = '"version":{"id":%d,"version_number"'
"""How a copied version begins as it is stored: what `_copied` makes."""

_VERSIONS = re.compile(_COPIED.replace("{", r"\{").replace("%d", "([0-9]+)"))


def find(connection: Connection, ref: Ref) -> Named | None:
    """One thing that has versions."""
    if _NUL in ref.key:
        return None
    return named(connection, ref.kind, [ref.key]).get(ref.key)


def named(connection: Connection, kind: Kind, keys: Iterable[str]) -> dict[str, Named]:
    """Those of a kind by key, as far as there are such."""
    found: dict[str, Named] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(
            select(reviewed).where(reviewed.c.kind == kind.value, reviewed.c.key.in_(chunk))
        ).all()
        found |= _with_latest(connection, kind, rows)
    return found


def page(connection: Connection, kind: Kind, limit: int | None, offset: int) -> list[Named]:
    """Those of a kind: applications newest first, others in the order in which they became known."""
    newest_first = kind is Kind.APPLICATION
    order = reviewed.c.number.desc() if newest_first else reviewed.c.number
    query = select(reviewed).where(reviewed.c.kind == kind.value).order_by(order).offset(offset)
    rows = connection.execute(query if limit is None else query.limit(limit)).all()
    return list(_with_latest(connection, kind, rows).values())


def bindings(
    connection: Connection,
    *,
    of_application: str | None = None,
    of_ruleset: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Bound]:
    """Bindings of an application, of a ruleset (by key), or all, in the order in which they became known."""
    query = select(reviewed).where(reviewed.c.kind == Kind.BINDING.value).order_by(reviewed.c.number)
    if of_application is not None:
        query = query.where(reviewed.c.key.startswith(f"{of_application}\t", autoescape=True))
    if of_ruleset is not None:
        query = query.where(reviewed.c.key.endswith(f"\t{of_ruleset}", autoescape=True))
    rows = [
        row
        for row in connection.execute(query).all()
        if of_ruleset is None or bound_by(row.key)[1] == of_ruleset  # LIKE does not look at case everywhere
    ]
    rows = rows[offset:] if limit is None else rows[offset : offset + limit]
    return _bound(connection, list(_with_latest(connection, Kind.BINDING, rows).values()))


def bound(connection: Connection, ref: Ref) -> Bound | None:
    """A binding with both ends."""
    found = find(connection, ref)
    return None if found is None else _bound(connection, [found])[0]


def versions(
    connection: Connection, ref: Ref, *, approved: bool, limit: int | None, offset: int
) -> list[Version]:
    """Approved ones, highest number first; or proposals, oldest first."""
    query = select(review_versions).where(*_of(ref.kind, ref.key)).offset(offset)
    if approved:
        query = query.where(review_versions.c.number.is_not(None)).order_by(review_versions.c.number.desc())
    else:
        query = query.where(review_versions.c.number.is_(None)).order_by(review_versions.c.id)
    rows = connection.execute(query if limit is None else query.limit(limit))
    return [_version(row) for row in rows]


def approved(connection: Connection, ref: Ref, number: int) -> Version | None:
    """The approved version with this number."""
    return _one(connection, *_of(ref.kind, ref.key), review_versions.c.number == number)


def proposal(connection: Connection, ref: Ref, id: int) -> Version | None:
    """The proposal with this id."""
    return _one(
        connection,
        *_of(ref.kind, ref.key),
        review_versions.c.id == id,
        review_versions.c.number.is_(None),
    )


def proposals(connection: Connection, kind: Kind, keys: Sequence[str]) -> dict[str, list[Version]]:
    """All proposals by key, oldest first."""
    found: dict[str, list[Version]] = {}
    for start in range(0, len(keys), _CHUNK):
        query = (
            select(review_versions)
            .where(
                review_versions.c.kind == kind.value,
                review_versions.c.key.in_(list(keys[start : start + _CHUNK])),
                review_versions.c.number.is_(None),
            )
            .order_by(review_versions.c.id)
        )
        for row in connection.execute(query):
            found.setdefault(row.key, []).append(_version(row))
    return found


def add(write: Write, ref: Ref) -> Reviewed:
    """Something new that has versions; it has none yet."""
    number = next_number(write.connection, f"reviewed-{ref.kind}")
    write.connection.execute(
        insert(reviewed).values(
            kind=ref.kind.value,
            key=ref.key,
            name=ref.name,
            number=number,
            created_at=write.now,
            updated_at=write.now,
        )
    )
    return Reviewed(ref.kind, ref.key, ref.name, number, write.now, write.now)


def touch(write: Write, ref: Ref, name: str | None = None) -> None:
    """It has been changed just now; its id may be spelt otherwise from now on."""
    changes = {"updated_at": write.now} | ({} if name is None else {"name": name})
    where = (reviewed.c.kind == ref.kind.value, reviewed.c.key == ref.key)
    write.connection.execute(update(reviewed).where(*where).values(**changes))


def propose(write: Write, ref: Ref, content: Mapping[str, Any], stage: Stage) -> Version:
    """A new proposal."""
    id = next_number(write.connection, f"version-{ref.kind}")
    found = Version(
        ref.kind,
        id,
        ref.key,
        None,
        stage,
        _fresh(write, ref.kind, content),
        write.now,
        write.now,
        None,
    )
    write.connection.execute(insert(review_versions).values(**_row(found)))
    return found


def adjust(write: Write, version: Version, content: Mapping[str, Any], stage: Stage) -> Version:
    """One more step in the making of a proposal; its rules get new ids."""
    changes = {"content": _fresh(write, version.kind, content), "state": stage.value, "updated_at": write.now}
    write.connection.execute(update(review_versions).where(*_this(version)).values(**changes))
    return _reloaded(write.connection, version)


def mark(write: Write, version: Version, content: Mapping[str, Any]) -> None:
    """Change what stands beside the content of a proposal; to nobody this is an adjustment."""
    write.connection.execute(
        update(review_versions)
        .where(*_this(version), review_versions.c.number.is_(None))
        .values(content=dict(content))
    )


def approve(write: Write, ref: Ref, content: Mapping[str, Any], made_of: Version | None = None) -> Version:
    """The next version, in force from now on; it may be a proposal that gets a number.

    Every other proposal that is in review goes back to draft (sqedule, 6.2).
    """
    connection = write.connection
    highest = select(func.max(review_versions.c.number)).where(*_of(ref.kind, ref.key))
    number = (connection.execute(highest).scalar() or 0) + 1
    found = Version(
        ref.kind,
        next_number(connection, f"version-{ref.kind}") if made_of is None else made_of.id,
        ref.key,
        number,
        Stage.APPROVED,
        _fresh(write, ref.kind, content),
        write.now if made_of is None else made_of.created_at,
        write.now,
        write.now,
    )
    if made_of is None:
        connection.execute(insert(review_versions).values(**_row(found)))
    else:
        connection.execute(update(review_versions).where(*_this(made_of)).values(**_row(found)))
    connection.execute(
        update(review_versions)
        .where(*_of(ref.kind, ref.key), review_versions.c.state == Stage.REVIEWING.value)
        .values(state=Stage.DRAFT.value, updated_at=write.now)
    )
    return found


def remove(write: Write, version: Version) -> None:
    """A proposal goes."""
    write.connection.execute(delete(review_versions).where(*_this(version)))


def rename(write: Write, old: Ref, new: Ref) -> None:
    """An application or a ruleset gets another id; its versions, bindings and requests follow."""
    connection = write.connection
    of_application = old.kind is Kind.APPLICATION
    if of_application:
        followers = bindings(connection, of_application=old.key)
        mine = requests.c.application == old.key
        connection.execute(update(requests).where(mine).values(application=new.key))
    else:
        followers = bindings(connection, of_ruleset=old.key)
    _move(connection, old.kind, old.key, new.key)
    touch(write, new, new.name)
    for each in followers:
        before = each.named.reviewed.key
        at, by = bound_by(before)
        after = binding(new.key, by) if of_application else binding(at, new.key)
        _move(connection, Kind.BINDING, before, after.key)


def implicit(write: Write, name: str) -> None:
    """Make an application known that stands in for what is deployed without a declared one; read-only by API."""
    ref = application(name)
    if find(write.connection, ref) is None:
        add(write, ref)
        approve(write, ref, {**DEFAULTS[Kind.APPLICATION], IMPLICIT: True})


def known(connection: Connection, name: str) -> str | None:
    """An application's id as it was written, by its id in any case."""
    query = select(reviewed.c.name).where(
        reviewed.c.kind == Kind.APPLICATION.value, reviewed.c.key == folded(name)
    )
    found = None if _NUL in name else connection.execute(query).scalar()
    return None if found is None else str(found)


def copies(connection: Connection, name: str) -> tuple[Copied, ...] | None:
    """The bindings that are in force of an application, by its id in any case, in the order of the rulesets' ids.

    None: there is no such application. A binding counts where it is approved and enabled, and so is its ruleset
    (sqedule, 7.1).
    """
    if known(connection, name) is None:
        return None
    found = []
    for each in bindings(connection, of_application=folded(name)):
        latest = each.named.latest
        if latest is None or not latest.content["enabled"]:
            continue
        copied = _copied(each.ruleset, Mode(latest.content["mode"]))
        if copied is not None:
            found.append(copied)
    return tuple(sorted(found, key=lambda each: each.ruleset))


def copy_of(connection: Connection, name: str, mode: Mode) -> Copied | None:
    """A ruleset's newest approved version, to be copied; None: there is none, or it is not enabled."""
    found = find(connection, ruleset(name))
    return None if found is None else _copied(found, mode)


def requests_with(connection: Connection, version: int) -> list[tuple[Mode, Request]]:
    """Requests that copied this version of a ruleset, with the mode that it was bound in: the newest 100 of them."""
    stored = cast(requests.c.bindings, Text).contains(_COPIED % version, autoescape=True)
    return [
        (each.mode, request)
        for request in newest_requests(connection, stored, limit=_MOST)
        for each in request.bindings
        if each.version["id"] == version
    ]


def counts(connection: Connection) -> Counter[int]:
    """How many requests copied each version of each ruleset."""
    rows = connection.execute(select(cast(requests.c.bindings, Text))).scalars()
    return Counter(int(found) for text in rows for found in _VERSIONS.findall(text))


def _copied(found: Named, mode: Mode) -> Copied | None:
    latest = found.latest
    if latest is None or not latest.content["enabled"]:
        return None
    content = latest.content
    version = {
        "id": latest.id,
        "version_number": latest.number,
        "created_at": latest.created_at.isoformat(),
        "updated_at": latest.updated_at.isoformat(),
        "approved_at": None if latest.approved_at is None else latest.approved_at.isoformat(),
        "display_name": content["display_name"],
        "description": content["description"],
        "enabled": content["enabled"],
        "rules": content["rules"],
    }
    about = found.reviewed
    return Copied(
        about.name,
        mode,
        about.created_at.isoformat(),
        about.updated_at.isoformat(),
        content["timezone"],
        version,
    )


def _move(connection: Connection, kind: Kind, old: str, new: str) -> None:
    for table in (reviewed, review_versions):
        connection.execute(
            update(table).where(table.c.kind == kind.value, table.c.key == old).values(key=new)
        )


def _bound(connection: Connection, found: Sequence[Named]) -> list[Bound]:
    ends = [bound_by(each.reviewed.key) for each in found]
    applications = named(connection, Kind.APPLICATION, [one for one, _ in ends])
    rulesets = named(connection, Kind.RULESET, [other for _, other in ends])
    return [
        Bound(each, applications[one], rulesets[other])
        for each, (one, other) in zip(found, ends, strict=True)
        if one in applications and other in rulesets
    ]


def _with_latest(connection: Connection, kind: Kind, rows: Sequence[Row[Any]]) -> dict[str, Named]:
    """In the order of the rows."""
    newest: dict[str, Version] = {}
    keys = [row.key for row in rows]
    for start in range(0, len(keys), _CHUNK):
        highest = (
            select(review_versions.c.key, func.max(review_versions.c.number))
            .where(
                review_versions.c.kind == kind.value, review_versions.c.key.in_(keys[start : start + _CHUNK])
            )
            .group_by(review_versions.c.key)
        )
        query = select(review_versions).where(
            review_versions.c.kind == kind.value,
            tuple_(review_versions.c.key, review_versions.c.number).in_(highest),
        )
        newest |= {row.key: _version(row) for row in connection.execute(query)}
    return {row.key: Named(_reviewed(row), newest.get(row.key)) for row in rows}


def _fresh(write: Write, kind: Kind, content: Mapping[str, Any]) -> dict[str, Any]:
    """Rules belong to one adjustment: all of them get new ids."""
    if kind is not Kind.RULESET:
        return dict(content)
    now = write.now.isoformat()
    rules = [
        {**rule, "id": next_number(write.connection, "rule"), "created_at": now} for rule in content["rules"]
    ]
    return {**content, "rules": rules}


def _of(kind: Kind, key: str) -> tuple[Any, Any]:
    return review_versions.c.kind == kind.value, review_versions.c.key == key


def _this(version: Version) -> tuple[Any, Any]:
    return review_versions.c.kind == version.kind.value, review_versions.c.id == version.id


def _one(connection: Connection, *where: Any) -> Version | None:
    row = connection.execute(select(review_versions).where(*where)).one_or_none()
    return None if row is None else _version(row)


def _reloaded(connection: Connection, version: Version) -> Version:
    return _version(connection.execute(select(review_versions).where(*_this(version))).one())


def _row(version: Version) -> dict[str, Any]:
    return {
        "kind": version.kind.value,
        "id": version.id,
        "key": version.key,
        "number": version.number,
        "state": version.stage.value,
        "content": dict(version.content),
        "created_at": version.created_at,
        "updated_at": version.updated_at,
        "approved_at": version.approved_at,
    }


def _reviewed(row: Row[Any]) -> Reviewed:
    return Reviewed(Kind(row.kind), row.key, row.name, row.number, row.created_at, row.updated_at)


def _version(row: Row[Any]) -> Version:
    return Version(
        Kind(row.kind),
        row.id,
        row.key,
        row.number,
        Stage(row.state),
        row.content,
        row.created_at,
        row.updated_at,
        row.approved_at,
    )
