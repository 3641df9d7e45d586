"""Rows of `releases`, `reservations` and `release_tags`: the registry of releases (escape-state, 8.6).

Versions are given out and registered inside of write transactions, of which there is one at a time over all daemons: no
two steps ever get the same number, and no version is registered twice. Packages lie elsewhere, by digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, tuple_, update

from reconciler.model.release import Release
from reconciler.store.database import Write
from reconciler.store.rows import upsert
from reconciler.store.tables import deployments, jobs, release_tags, releases, reservations
from specs.release import is_version
from specs.versions import following, is_latest, is_pattern, ordinal

_CHUNK = 500


def find(connection: Connection, namespace: str, application: str, version: str) -> Release | None:
    """The release with exactly this version."""
    query = select(releases).where(*_of(namespace, application), releases.c.version == version)
    return _one(connection, query)


def find_all(
    connection: Connection, wanted: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Release]:
    """Releases by (namespace, application, version), as far as there are such."""
    named = tuple_(releases.c.namespace, releases.c.application, releases.c.version)
    found: dict[tuple[str, str, str], Release] = {}
    for start in range(0, len(wanted), _CHUNK):
        rows = connection.execute(select(releases).where(named.in_(wanted[start : start + _CHUNK])))
        found.update(((row.namespace, row.application, row.version), _release(row)) for row in rows)
    return found


def resolve(connection: Connection, name: str, wanted: str) -> Release | None:
    """The release of `namespace/application` that is meant by a version, a prefix, `latest` or a tag."""
    namespace, _, application = name.partition("/")
    version = wanted.removeprefix("v")
    if is_latest(wanted) or is_pattern(version):
        query = select(releases).where(*_of(namespace, application), *_within(releases, version))
        return _one(connection, query.order_by(releases.c.ordinal.desc(), releases.c.id.desc()).limit(1))
    if not is_version(version):
        tag = tagged(connection, namespace, application, wanted)
        return None if tag is None else find(connection, namespace, application, tag)
    return find(connection, namespace, application, version)


def built_from(
    connection: Connection, namespace: str, application: str, commit: str, plan_digest: str
) -> Release | None:
    """The newest release that was made from this commit by this plan."""
    query = select(releases).where(
        *_of(namespace, application),
        releases.c.commit["git_revision"].as_string() == commit,
        releases.c.plan_digest == plan_digest,
    )
    return _one(connection, query.order_by(releases.c.created_at.desc(), releases.c.id.desc()).limit(1))


def reserve(write: Write, namespace: str, application: str, pattern: str, job: int, step: int) -> str:
    """The next free version of a prefix, kept for one step of a job until that has registered it or the job has ended.

    The same step gets the same answer again. A fixed version is answered as it is, and kept for nobody.
    """
    if not is_pattern(pattern):
        return pattern
    connection = write.connection
    mine = (reservations.c.job == job) & (reservations.c.step == step)
    kept = connection.execute(
        select(reservations.c.version).where(
            mine, *_of(namespace, application, reservations), *_within(reservations, pattern)
        )
    ).scalar()
    if kept is not None:
        return str(kept)
    ended = select(jobs.c.number).where(jobs.c.finished_at.is_not(None))
    over = and_(*_of(namespace, application, reservations), reservations.c.job.in_(ended))
    connection.execute(delete(reservations).where(over | mine))
    version = following(pattern, _highest(connection, namespace, application, pattern))
    connection.execute(
        insert(reservations).values(
            namespace=namespace,
            application=application,
            version=version,
            ordinal=ordinal(version),
            job=job,
            step=step,
        )
    )
    return version


def register(write: Write, release: Release, *, force: bool) -> bool:
    """Register a release, now. False: its version is there already, and another job made it or it was another package.

    `force` replaces that one, which goes on in `overwritten`; its id stays.
    """
    connection = write.connection
    there = find(connection, release.namespace, release.application, release.version)
    if there is not None and (there.job, there.digest) == (release.job, release.digest):
        return True
    if there is not None and not force:
        return False
    row = {
        "project": release.project,
        "commit": dict(release.commit),
        "plan": dict(release.plan),
        "plan_digest": release.plan_digest,
        "digest": release.digest,
        "size": release.size,
        "fat": release.fat,
        "job": release.job,
        "execution": release.execution,
        "created_at": write.now,
    }
    if there is None:
        name = {
            "id": release.id,
            "namespace": release.namespace,
            "application": release.application,
            "version": release.version,
            "ordinal": ordinal(release.version),
        }
        connection.execute(insert(releases).values(**name, **row, overwritten=[]))
    else:
        old = [*there.overwritten, _history(there)]
        connection.execute(update(releases).where(releases.c.id == there.id).values(**row, overwritten=old))
    taken = (
        *_of(release.namespace, release.application, reservations),
        reservations.c.version == release.version,
    )
    connection.execute(delete(reservations).where(*taken, reservations.c.job == release.job))
    return True


def published_by(connection: Connection, numbers: Sequence[int]) -> list[Release]:
    """What these jobs have registered, in the order of time."""
    found: list[Release] = []
    for start in range(0, len(numbers), _CHUNK):
        query = select(releases).where(releases.c.job.in_(list(numbers[start : start + _CHUNK])))
        found += [_release(row) for row in connection.execute(query)]
    return sorted(found, key=lambda each: (each.created_at, each.id))


def tagged(connection: Connection, namespace: str, application: str, tag: str) -> str | None:
    """The version that carries a tag."""
    query = select(release_tags.c.version).where(
        *_of(namespace, application, release_tags), release_tags.c.tag == tag
    )
    version = connection.execute(query).scalar()
    return None if version is None else str(version)


def move_tag(write: Write, namespace: str, application: str, tag: str, version: str) -> bool:
    """Let a version carry a tag, which no other one carries then. False: it does so already."""
    place = (*_of(namespace, application, release_tags), release_tags.c.tag == tag)
    before = write.connection.execute(select(release_tags).where(*place)).one_or_none()
    if before is not None and before.version == version:
        return False
    history = (
        []
        if before is None
        else [
            *before.history,
            {"version": before.version, "actor": before.actor, "moved_at": before.moved_at.isoformat()},
        ]
    )
    row = {
        "namespace": namespace,
        "application": application,
        "tag": tag,
        "version": version,
        "actor": write.actor.subject,
        "moved_at": write.now,
        "history": history,
    }
    upsert(write.connection, release_tags, [row], ["namespace", "application", "tag"])
    return True


def tags_of(
    connection: Connection, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str, str], list[str]]:
    """(namespace, application, version) → the tags it carries, by name; of these (namespace, application)."""
    found: dict[tuple[str, str, str], list[str]] = {}
    place = tuple_(release_tags.c.namespace, release_tags.c.application)
    for start in range(0, len(names), _CHUNK):
        query = select(release_tags).where(place.in_(list(names[start : start + _CHUNK])))
        for row in connection.execute(query.order_by(release_tags.c.tag)):
            found.setdefault((row.namespace, row.application, row.version), []).append(row.tag)
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which releases: of a namespace, of an application, of these projects (None: of all), before a release by id."""

    namespace: str | None = None
    application: str | None = None
    projects: Sequence[str] | None = None
    before: str | None = None
    limit: int = 50


def page(connection: Connection, wanted: Wanted) -> list[Release]:
    """Releases, newest first."""
    query = select(releases)
    if wanted.namespace is not None:
        query = query.where(releases.c.namespace == wanted.namespace)
    if wanted.application is not None:
        query = query.where(releases.c.application == wanted.application)
    if wanted.projects is not None:
        query = query.where(releases.c.project.in_(list(wanted.projects)))
    if wanted.before is not None:
        query = query.where(releases.c.id < wanted.before)
    rows = connection.execute(query.order_by(releases.c.id.desc()).limit(wanted.limit))
    return [_release(row) for row in rows]


def packages(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that are a release's package, or that of something which is deployed."""
    found: set[str] = set()
    standing = deployments.c.deployed["digest"].as_string()
    for start in range(0, len(digests), _CHUNK):
        chunk = list(digests[start : start + _CHUNK])
        for column in (releases.c.digest, standing):
            found |= set(connection.execute(select(column).where(column.in_(chunk))).scalars())
    return found


def _of(
    namespace: str, application: str, table: Any = releases
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.namespace == namespace, table.c.application == application


def _within(table: Any, wanted: str) -> list[ColumnElement[bool]]:
    """Versions that a prefix means; any for `latest`."""
    if not is_pattern(wanted):
        return []
    prefix = ordinal(wanted.rpartition(".")[0])
    return [table.c.ordinal > prefix, func.substr(table.c.ordinal, 1, len(prefix)) == prefix]


def _highest(connection: Connection, namespace: str, application: str, pattern: str) -> list[str]:
    """The highest versions of a prefix that are registered and kept."""
    found: list[str] = []
    for table in (releases, reservations):
        query = select(table.c.version).where(*_of(namespace, application, table), *_within(table, pattern))
        found += connection.execute(query.order_by(table.c.ordinal.desc()).limit(1)).scalars().all()
    return found


def _one(connection: Connection, query: Any) -> Release | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else _release(row)


def _history(release: Release) -> dict[str, Any]:
    return {
        "digest": release.digest,
        "size": release.size,
        "job": release.job,
        "execution": release.execution,
        "created_at": None if release.created_at is None else release.created_at.isoformat(),
    }


def _release(row: Row[Any]) -> Release:
    return Release(
        row.id,
        row.namespace,
        row.application,
        row.version,
        row.project,
        row.commit,
        row.plan,
        row.plan_digest,
        row.digest,
        row.size,
        row.fat,
        row.job,
        row.execution,
        tuple(row.overwritten),
        row.created_at,
    )
