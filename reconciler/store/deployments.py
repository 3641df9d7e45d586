"""Rows of `deployments`: what is deployed where, and who is at it.

The state holds inputs and outputs in the clear, sensitive ones included, so it is locked with the server's key
(escape-state, 13.5); what may be known without the key, versions and statuses, stands beside it. Whose turn it is to
change a deployment is a column too: one execution at a time (9.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from reconciler.model.deployment import Place as Place
from reconciler.model.deployment import empty, provides, summary
from reconciler.model.deployment import of as of
from reconciler.model.job import LIVE, State
from reconciler.sealing import Keys, SealingError
from reconciler.store.database import Write
from reconciler.store.prepared import Prepared
from reconciler.store.tables import deployments, jobs

_PLAIN = ("holder", "deployed", "tried", "again_at", "checked_at")
_STATE = ("sealed", "release", "summary", "provides", "updated_at", "updated_by", "version")
_AT = (
    deployments.c.project == bindparam("p"),
    deployments.c.environment == bindparam("e"),
    deployments.c.name == bindparam("n"),
)
_LOAD = Prepared(select(deployments).where(*_AT))
_REPLACE = Prepared(update(deployments).where(*_AT), _STATE)
_INSERT = Prepared(insert(deployments))
_DEPLOYED = Prepared(select(deployments.c.deployed).where(*_AT))
_TAKEN = exists().where(
    jobs.c.number == deployments.c.holder,
    jobs.c.number != bindparam("taker"),
    jobs.c.finished_at.is_(None),
)
_HOLD = Prepared(update(deployments).where(*_AT, ~_TAKEN), ("holder", "version"))
_NOTES: dict[frozenset[str], Prepared] = {}
_WITHOUT_STATE = [column for column in deployments.c if column.name != "sealed"]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one deployment. `state`: as in model.deployment; of a summary, only versions and statuses.

    `holder`: the job whose turn it is, or was last; `deployed`: what the last deploy that passed was; `tried`: how many
    failed since then; `again_at`: when the next one may begin; `checked_at`: when drift was looked for.
    """

    place: Place
    state: dict[str, Any]
    release: str
    provides: tuple[str, ...]
    holder: int | None
    deployed: Mapping[str, Any] | None
    tried: int
    again_at: datetime | None
    checked_at: datetime | None
    updated_at: datetime
    updated_by: str
    version: int


def load(connection: Connection, keys: Keys, place: Place) -> Row | None:
    """One deployment with its state."""
    found = _LOAD.one_or_none(connection, **_at(place))
    return None if found is None else _row(found, _opened(keys, found))


def of_environment(connection: Connection, keys: Keys, project: str, environment: str) -> dict[str, Row]:
    """All of an environment with their states, by name."""
    query = select(deployments).where(
        deployments.c.project == project, deployments.c.environment == environment
    )
    rows = connection.execute(query.order_by(deployments.c.name))
    return {row.name: _row(row, _opened(keys, row)) for row in rows}


def summaries(
    connection: Connection, project: str | None = None, environment: str | None = None
) -> dict[Place, Row]:
    """Deployments without what is locked of their states."""
    query = select(*_WITHOUT_STATE).order_by(
        deployments.c.project, deployments.c.environment, deployments.c.name
    )
    if project is not None:
        query = query.where(deployments.c.project == project)
    if environment is not None:
        query = query.where(deployments.c.environment == environment)
    found = (_row(row, row.summary) for row in connection.execute(query))
    return {row.place: row for row in found}


def save(
    write: Write,
    keys: Keys,
    place: Place,
    state: Mapping[str, Any],
    *,
    only_there: bool = False,
    **columns: Any,
) -> bool:
    """Keep a state, in the place of the one before; `columns` as in `note`, the others stay as they are.

    `only_there`: not if the deployment has been forgotten meanwhile; then False.
    """
    _known(columns)
    values: dict[str, Any] = {
        "sealed": keys.lock(msgspec.json.encode(dict(state)), str(place)),
        "release": state["release"],
        "summary": summary(state),
        "provides": list(provides(state)),
        **_stamp(write),
    }
    if not _REPLACE.run(write.connection, **_at(place), **values):
        if only_there:
            return False
        _insert(write, place, values | columns)
    elif columns:
        note(write, place, **columns)
    return True


def note(write: Write, place: Place, **columns: Any) -> bool:
    """Set some of holder, deployed, tried, again_at, checked_at of a deployment that is there."""
    _known(columns)
    statement = _NOTES.get(frozenset(columns))
    if statement is None:
        statement = Prepared(update(deployments).where(*_AT), (*columns, "version"))
        _NOTES[frozenset(columns)] = statement
    return statement.run(write.connection, **_at(place), **columns, version=write.version) == 1


def hold(write: Write, place: Place, job: int) -> bool:
    """Take a deployment for a job; False while an unfinished job has it. One that is not there yet is made, empty."""
    own = {**_at(place), "taker": job, "holder": job, "version": write.version}
    return bool(
        _HOLD.run(write.connection, **own) or (make(write, place) and _HOLD.run(write.connection, **own))
    )


def make(write: Write, place: Place) -> bool:
    """A deployment that is not there yet, empty; False: it is there."""
    if _DEPLOYED.all(write.connection, **_at(place)):
        return False
    state = empty(place.name)
    row = {"sealed": b"", "release": state["release"], "summary": summary(state), "provides": []}
    _insert(write, place, row | _stamp(write))
    return True


def release_hold(write: Write, place: Place, job: int) -> None:
    """Let it go, if the job has it."""
    mine = (*_is(place), deployments.c.holder == job)
    write.connection.execute(update(deployments).where(*mine).values(holder=None, version=write.version))


def deployed_of(connection: Connection, place: Place) -> dict[str, Any]:
    """The column `deployed` alone."""
    row = _DEPLOYED.one_or_none(connection, **_at(place))
    return dict((row.deployed if row is not None else None) or {})


def busy_with(connection: Connection, place: Place) -> int | None:
    """The unfinished job that has a deployment, if one has."""
    query = select(jobs.c.number).where(
        *_is(place), jobs.c.number == deployments.c.holder, jobs.c.state.in_([state.value for state in LIVE])
    )
    found: int | None = connection.execute(query).scalar()
    return found


def held(connection: Connection, project: str, environment: str) -> dict[str, int]:
    """The deployments of an environment that unfinished jobs have, by name, with those."""
    query = select(deployments.c.name, jobs.c.number).where(
        deployments.c.project == project,
        deployments.c.environment == environment,
        jobs.c.number == deployments.c.holder,
        jobs.c.state.in_([state.value for state in LIVE]),
    )
    return {row.name: row.number for row in connection.execute(query)}


def ended(connection: Connection, project: str, environment: str) -> dict[str, tuple[int, State, str | None]]:
    """By name the last execution of each deployment, where that is over: its number, how it ended, and why."""
    query = select(deployments.c.name, jobs.c.number, jobs.c.state, jobs.c.reason).where(
        deployments.c.project == project,
        deployments.c.environment == environment,
        jobs.c.number == deployments.c.holder,
        jobs.c.finished_at.is_not(None),
    )
    return {row.name: (row.number, State(row.state), row.reason) for row in connection.execute(query)}


def environments(connection: Connection) -> list[tuple[str, str]]:
    """(project, environment) of all that there are states of."""
    query = select(deployments.c.project, deployments.c.environment).distinct()
    return [(row.project, row.environment) for row in connection.execute(query)]


def drop(write: Write, place: Place) -> bool:
    """Forget a deployment; was there one?"""
    return write.connection.execute(delete(deployments).where(*_is(place))).rowcount == 1


def lock_anew(write: Write, keys: Keys) -> tuple[int, dict[str, str]]:
    """Lock every state with the first identity of the key file; how many were not, and by KEY why some cannot be."""
    changed, failed = 0, {}
    for row in write.connection.execute(select(deployments)).all():
        place = Place(row.project, row.environment, row.name)
        if not row.sealed or keys.is_locked_anew(row.sealed):
            continue
        try:
            sealed = keys.lock(keys.unlock(row.sealed, str(place)), str(place))
        except SealingError as error:
            failed[place.key] = str(error)
            continue
        write.connection.execute(update(deployments).where(*_is(place)).values(sealed=sealed))
        changed += 1
    return changed, failed


def _insert(write: Write, place: Place, values: Mapping[str, Any]) -> None:
    none = {"holder": None, "deployed": None, "tried": 0, "again_at": None, "checked_at": None}
    where = {"project": place.project, "environment": place.environment, "name": place.name}
    _INSERT.run(write.connection, **where, **{**none, **values})


def _known(columns: Mapping[str, Any]) -> None:
    if unknown := columns.keys() - set(_PLAIN):
        raise TypeError(f"no such columns: {', '.join(sorted(unknown))}")


def _stamp(write: Write) -> dict[str, Any]:
    return {"updated_at": write.now, "updated_by": write.actor.subject, "version": write.version}


def _at(place: Place) -> dict[str, str]:
    return {"p": place.project, "e": place.environment, "n": place.name}


def _is(place: Place) -> tuple[Any, ...]:
    return (
        deployments.c.project == place.project,
        deployments.c.environment == place.environment,
        deployments.c.name == place.name,
    )


def _opened(keys: Keys, row: Any) -> dict[str, Any]:
    if not row.sealed:
        return empty(row.name, row.release)
    place = Place(row.project, row.environment, row.name)
    state: dict[str, Any] = msgspec.json.decode(keys.unlock(row.sealed, str(place)))
    return state


def _row(row: Any, state: dict[str, Any]) -> Row:
    return Row(
        place=Place(row.project, row.environment, row.name),
        state=state,
        release=row.release,
        provides=tuple(row.provides),
        holder=row.holder,
        deployed=row.deployed,
        tried=row.tried,
        again_at=row.again_at,
        checked_at=row.checked_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        version=row.version,
    )
