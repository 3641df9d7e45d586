"""Rows of `resources` and `blobs`: the last good specification and the status of every KEY."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, Sync
from reconciler.store import chain
from reconciler.store.prepared import Prepared
from reconciler.store.rows import new_id, upsert
from reconciler.store.tables import blobs, resources

_BATCH = 500
_RESOURCE = Prepared(select(resources).where(resources.c.key == bindparam("of")))
_STATUS_COLUMNS = ("sync", "health", "conditions", "version")
_STATUS = Prepared(update(resources).where(resources.c.key == bindparam("of")), _STATUS_COLUMNS)


def load_all(connection: Connection) -> dict[str, Resource]:
    """Every resource by KEY."""
    return {row.key: _resource(row) for row in connection.execute(select(resources))}


@dataclass(frozen=True, slots=True)
class Changed:
    """What differs from an older version: rows that are newer, KEYs that are gone, and the version now."""

    version: int
    upserts: tuple[Resource, ...]
    removals: tuple[str, ...]


def changed_since(connection: Connection, version: int, known: Collection[str] | None) -> Changed:
    """In one moment. `known`: the KEYs at that version, to find those that are gone; None: none can be."""
    now = chain.version(connection)
    if now == version:
        return Changed(now, (), ())
    rows = connection.execute(select(resources).where(resources.c.version > version))
    upserts = tuple(_resource(row) for row in rows)
    return Changed(now, upserts, _removed(connection, upserts, known) if known is not None else ())


def _removed(connection: Connection, upserts: Iterable[Resource], known: Collection[str]) -> tuple[str, ...]:
    """Rows leave no trace: where there are fewer than there should be, all KEYs are compared."""
    expected = {*known, *(resource.key for resource in upserts)}
    if connection.execute(select(func.count()).select_from(resources)).scalar_one() == len(expected):
        return ()
    return tuple(expected.difference(connection.execute(select(resources.c.key)).scalars()))


def load_kind(connection: Connection, kind: str) -> list[Resource]:
    """All of one kind."""
    return [_resource(row) for row in connection.execute(select(resources).where(resources.c.kind == kind))]


def load(connection: Connection, key: str) -> Resource | None:
    """One resource."""
    row = _RESOURCE.one_or_none(connection, of=key)
    return None if row is None else _resource(row)


def save(connection: Connection, items: Iterable[Resource], version: int) -> tuple[Resource, ...]:
    """Store resources in one bulk upsert; gives them back as stored, with uuid and version."""
    stored = tuple(_stamped(resource, version) for resource in items)
    upsert(connection, resources, [_values(resource) for resource in stored], ["key"])
    return stored


def save_status(connection: Connection, resource: Resource, version: int) -> Resource:
    """Store what of a resource no commit says: sync, health and conditions."""
    stored = _stamped(resource, version)
    values = _values(stored)
    _STATUS.run(connection, of=stored.key, **{name: values[name] for name in _STATUS_COLUMNS})
    return stored


def remove(connection: Connection, keys: Sequence[str]) -> None:
    """Drop resources."""
    for start in range(0, len(keys), _BATCH):
        connection.execute(delete(resources).where(resources.c.key.in_(keys[start : start + _BATCH])))


def load_blobs(connection: Connection, ids: Sequence[str], loader_version: int) -> dict[str, bytes]:
    """Parsed files by blob id, as far as they are known."""
    found: dict[str, bytes] = {}
    for start in range(0, len(ids), _BATCH):
        chosen = blobs.c.blob.in_(ids[start : start + _BATCH])
        query = select(blobs.c.blob, blobs.c.parsed).where(chosen, blobs.c.loader_version == loader_version)
        found.update((row.blob, row.parsed) for row in connection.execute(query))
    return found


def save_blobs(connection: Connection, parsed: Mapping[str, bytes], loader_version: int) -> None:
    """Keep parsed files for the next start."""
    rows = [{"blob": blob, "loader_version": loader_version, "parsed": data} for blob, data in parsed.items()]
    upsert(connection, blobs, rows, ["blob", "loader_version"])


def keep_blobs(connection: Connection, ids: frozenset[str], loader_version: int) -> None:
    """Forget parsed files that the current revision does not hold."""
    known = connection.execute(select(blobs.c.blob, blobs.c.loader_version)).all()
    for row in known:
        if row.loader_version != loader_version or row.blob not in ids:
            connection.execute(
                delete(blobs).where(blobs.c.blob == row.blob, blobs.c.loader_version == row.loader_version)
            )


def _stamped(resource: Resource, version: int) -> Resource:
    return replace(resource, uuid=resource.uuid or new_id(), version=version)


def _values(resource: Resource) -> dict[str, Any]:
    return {
        "key": resource.key,
        "uuid": resource.uuid,
        "kind": resource.kind,
        "project": resource.project,
        "environment": resource.environment,
        "name": resource.name,
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "path": resource.path,
        "line": resource.line,
        "revision": resource.revision,
        "digest": resource.digest,
        "spec": resource.spec,
        "refers": list(resource.references),
        "files": list(resource.files),
        "generation": resource.generation,
        "observed_generation": resource.observed_generation,
        "sync": resource.sync.value,
        "health": resource.health.value,
        "conditions": [condition.to_dict() for condition in resource.conditions],
        "version": resource.version,
    }


def _resource(row: Row[Any]) -> Resource:
    return Resource(
        key=row.key,
        kind=row.kind,
        project=row.project,
        environment=row.environment,
        name=row.name,
        labels=row.labels,
        annotations=row.annotations,
        path=row.path,
        line=row.line,
        revision=row.revision,
        digest=row.digest,
        spec=row.spec,
        references=tuple(row.refers),
        files=tuple(row.files),
        generation=row.generation,
        observed_generation=row.observed_generation,
        sync=Sync(row.sync),
        health=Health(row.health),
        conditions=tuple(Condition.from_dict(item) for item in row.conditions),
        uuid=row.uuid,
        version=row.version,
    )
