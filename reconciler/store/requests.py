"""Rows of `requests` and `outcomes`: requests for approval, and how each of their rules was judged (sqedule, 2.1, 2.8).

An outcome, the state that it makes and the end of the request are one transaction; what is recorded is never changed.
Decisions of people are rows of `approvals`, whose subjects are named here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from reconciler.model.gate import NAME as GATE
from reconciler.model.request import (
    PREFIX,
    RECORDED,
    SUPERSEDED,
    Copied,
    Mode,
    Outcome,
    Request,
    Subject,
    Verdict,
)
from reconciler.store.database import Write
from reconciler.store.jobs import next_number, next_numbers
from reconciler.store.tables import outcomes as outcome_rows
from reconciler.store.tables import requests

_CHUNK = 500
_LIVE = requests.c.finalized_at.is_(None)


@dataclass(frozen=True, slots=True)
class NewRequest:
    """What is asked for; `application` in any case of letters, the rest as in a `Request`."""

    application: str
    bindings: tuple[Copied, ...]
    actor: str
    authors: tuple[str, ...] = ()
    source_identity: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    comments: str | None = None
    digest: str | None = None
    subject: Subject | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """How a rule of a request was judged, and what follows."""

    rule: int
    success: bool
    ignored_error: bool
    result_state: Verdict
    detail: Mapping[str, Any]


def approval_subject(request: int, rule: int) -> str:
    """The subject of the decisions about a manual rule."""
    return f"Request/{request}/{rule}"


def key_of(request: Request) -> str:
    """The KEY of what it is about: who sees that sees the request, and its events are told of that."""
    return f"Application/{request.application}" if request.subject is None else request.subject.target


def register(write: Write, new: NewRequest) -> Request:
    """A new request, which is judged once this is committed."""
    (request,) = register_all(write, [new], lambda _: [])
    return request


def register_all(
    write: Write, news: Sequence[NewRequest], judge: Callable[[Request], Sequence[Judged]]
) -> list[Request]:
    """Many new requests, each with the outcomes that it has at once; what is still to be judged is, after this."""
    last = next_numbers(write.connection, "request", len(news))
    fresh = [_fresh(write, last - len(news) + at, new) for at, new in enumerate(news, 1)]
    judged = [judge(request) for request in fresh]
    made = [_ended(write, request, outcomes) for request, outcomes in zip(fresh, judged, strict=True)]
    write.connection.execute(insert(requests), [_columns(request) for request in made])
    count = sum(map(len, judged))
    if count:
        event = next_numbers(write.connection, "request-event", count) - count
        outcome = next_numbers(write.connection, "request-outcome", count) - count
        pairs = [(request, each) for request, found in zip(made, judged, strict=True) for each in found]
        write.connection.execute(
            insert(outcome_rows),
            [
                _outcome_row(write, request, each, event + at, outcome + at)
                for at, (request, each) in enumerate(pairs, 1)
            ],
        )
    for request, outcomes in zip(made, judged, strict=True):
        body = {**_body(request), "people": _asks_people(request, outcomes)}
        write.record("release-requested", key_of(request), body)
        for each in outcomes:
            _tell(write, request, each.result_state, _said(each))
        if not request.final:
            write.wake(f"{PREFIX}{request.id}")
    return made


def _asks_people(request: Request, outcomes: Sequence[Judged]) -> bool:
    """Is there a rule that people decide, and no verdict yet?"""
    judged = {each.rule for each in outcomes}
    rules = (rule for binding in request.bindings for rule in binding.rules if rule["type"] == "manual")
    return not request.final and any(rule["id"] not in judged for rule in rules)


def _fresh(write: Write, number: int, new: NewRequest) -> Request:
    return Request(
        id=number,
        application=new.application.lower(),
        state=Verdict.PENDING,
        source_identity=new.source_identity,
        metadata=dict(new.metadata),
        comments=new.comments,
        bindings=new.bindings,
        actor=new.actor,
        authors=new.authors,
        digest=new.digest,
        subject=new.subject,
        tried=0,
        posted=0,
        trouble=None,
        again_at=None,
        created_at=write.now,
        updated_at=write.now,
        finalized_at=None,
    )


def _ended(write: Write, request: Request, judged: Sequence[Judged]) -> Request:
    verdict = judged[-1].result_state if judged else Verdict.PENDING
    if verdict is Verdict.PENDING:
        return request
    return replace(request, state=verdict, finalized_at=write.now)


def _columns(request: Request) -> dict[str, Any]:
    return {
        **{column.name: getattr(request, column.name) for column in requests.c},
        "state": request.state.value,
        "metadata": dict(request.metadata),
        "bindings": [asdict(binding) for binding in request.bindings],
        "authors": list(request.authors),
        "subject": None if request.subject is None else asdict(request.subject),
    }


def find(connection: Connection, id: int) -> Request | None:
    """One by its number."""
    if not 0 < id < 1 << 63:
        return None
    row = connection.execute(select(requests).where(requests.c.id == id)).one_or_none()
    return None if row is None else _request(row)


def of_application(
    connection: Connection, application: str | None, limit: int | None, offset: int
) -> list[Request]:
    """Newest first, of one application in any case of letters or of all; no limit: all that are left."""
    query = select(requests).order_by(requests.c.id.desc()).offset(offset)
    if application is not None:
        query = query.where(requests.c.application == application.lower())
    if limit is not None:
        query = query.limit(limit)
    return [_request(row) for row in connection.execute(query)]


def newest(connection: Connection, fits: ColumnElement[bool], limit: int) -> list[Request]:
    """The newest ones that fit, newest first."""
    query = select(requests).where(fits).order_by(requests.c.id.desc()).limit(limit)
    return [_request(row) for row in connection.execute(query)]


def newest_for(connection: Connection, application: str, digest: str) -> Request | None:
    """The newest request of an application for exactly this."""
    query = (
        select(requests)
        .where(requests.c.application == application.lower(), requests.c.digest == digest)
        .order_by(requests.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _request(row)


def with_digest(connection: Connection, digest: str) -> Request | None:
    """The newest request for exactly this, in whatever name."""
    query = select(requests).where(requests.c.digest == digest).order_by(requests.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _request(row)


def newest_of_all(connection: Connection, digests: Collection[str]) -> dict[tuple[str, str], Request]:
    """The newest request for each of these, by application and digest."""
    found: dict[tuple[str, str], Request] = {}
    wanted = sorted(digests)
    for start in range(0, len(wanted), _CHUNK):
        query = select(requests).where(requests.c.digest.in_(wanted[start : start + _CHUNK]))
        for row in connection.execute(query.order_by(requests.c.id)):
            found[row.application, row.digest] = _request(row)
    return found


def outcomes(connection: Connection, id: int) -> list[Outcome]:
    """How the rules of a request were judged so far, in order."""
    query = select(outcome_rows).where(outcome_rows.c.request == id).order_by(outcome_rows.c.event)
    return [_outcome(row) for row in connection.execute(query)]


def _outcome(row: Any) -> Outcome:
    return Outcome(
        row.rule,
        row.event,
        row.outcome,
        row.success,
        row.ignored_error,
        Verdict(row.result_state),
        row.at,
        row.detail,
    )


def outcomes_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[Outcome]]:
    """The same of many requests."""
    found: dict[int, list[Outcome]] = {}
    for start in range(0, len(ids), _CHUNK):
        some = outcome_rows.c.request.in_(list(ids[start : start + _CHUNK]))
        for row in connection.execute(select(outcome_rows).where(some).order_by(outcome_rows.c.event)):
            found.setdefault(row.request, []).append(_outcome(row))
    return found


def waiting(connection: Connection) -> dict[int, str]:
    """The digests of deploys that wait for a verdict, by the request's number."""
    query = select(requests.c.id, requests.c.digest, requests.c.metadata)
    found = connection.execute(query.where(_LIVE, requests.c.digest.is_not(None)))
    return {row.id: row.digest for row in found if not row.metadata.get(RECORDED)}


def supersede(write: Write, request: Request) -> None:
    """Nothing waits for it any more."""
    _set(write.connection, request.id, {"metadata": {**request.metadata, SUPERSEDED: True}})
    end(write, request, Verdict.REJECTED)


def live(connection: Connection) -> list[int]:
    """Numbers of all requests without a verdict."""
    return list(connection.execute(select(requests.c.id).where(_LIVE).order_by(requests.c.id)).scalars())


def patch(
    write: Write,
    id: int,
    *,
    source_identity: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    comments: str | None = None,
) -> Request:
    """Replace what is given; `updated_at` moves in any case."""
    given = {
        "source_identity": source_identity,
        "metadata": None if metadata is None else dict(metadata),
        "comments": comments,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    _set(write.connection, id, {**changed, "updated_at": write.now})
    request = _known(find(write.connection, id))
    write.record("release-changed", key_of(request), {"request": id, "changed": sorted(changed)})
    return request


def judge(write: Write, request: Request, judged: Judged) -> None:
    """Record an outcome with the state that it makes; with the last one the request ends."""
    event = next_number(write.connection, "request-event")
    outcome = next_number(write.connection, "request-outcome")
    write.connection.execute(insert(outcome_rows), [_outcome_row(write, request, judged, event, outcome)])
    end(write, request, judged.result_state, _said(judged))


def _outcome_row(write: Write, request: Request, judged: Judged, event: int, outcome: int) -> dict[str, Any]:
    return {
        "request": request.id,
        "rule": judged.rule,
        "event": event,
        "outcome": outcome,
        "success": judged.success,
        "ignored_error": judged.ignored_error,
        "result_state": judged.result_state.value,
        "detail": dict(judged.detail),
        "at": write.now,
    }


def _said(judged: Judged) -> dict[str, Any]:
    return {
        "rule": judged.rule,
        "success": judged.success,
        "ignored_error": judged.ignored_error,
        "type": judged.detail.get("rule", {}).get("type"),
    }


def end(write: Write, request: Request, state: Verdict, said: Mapping[str, Any] | None = None) -> None:
    """Keep the state of a request; a verdict is stored once, and told to who waits for it. `said`: what led to it."""
    changed: dict[str, Any] = {"tried": 0, "posted": 0, "trouble": None, "again_at": None}
    if state is not Verdict.PENDING:
        changed |= {"state": state.value, "finalized_at": write.now, "updated_at": write.now}
    _set(write.connection, request.id, changed)
    _tell(write, request, state, said)


def _tell(write: Write, request: Request, state: Verdict, said: Mapping[str, Any] | None) -> None:
    """A state in the log, and a verdict to those who wait for it."""
    if state is not Verdict.PENDING:
        write.wake(GATE)
        if request.subject is not None:
            write.wake(request.subject.target)
    body = {**_body(request), "state": state.value, **(said or {})}
    write.record("release-judged" if said else f"release-{state.value}", key_of(request), body)


def postpone(
    write: Write, request: Request, at: datetime | None, *, tried: int, posted: int, trouble: str
) -> None:
    """Judging is tried again at a time, or (None) at the next start."""
    changed = {"tried": tried, "posted": posted, "trouble": trouble, "again_at": at}
    _set(write.connection, request.id, changed)
    if request.subject is not None and trouble != request.trouble:
        write.wake(GATE)  # which tells what is waited for


def take_up(write: Write, most: int) -> list[int]:
    """At a start: those that were left because judging went wrong so often are tried anew. All without a verdict."""
    left = update(requests).where(_LIVE, requests.c.tried > most, requests.c.again_at.is_(None))
    write.connection.execute(left.values(tried=0))
    return live(write.connection)


def _set(connection: Connection, id: int, changed: Mapping[str, Any]) -> None:
    connection.execute(update(requests).where(requests.c.id == id).values(**changed))


def _body(request: Request) -> dict[str, Any]:
    return {"request": request.id, "application": request.application, "digest": request.digest}


def _known(found: Request | None) -> Request:
    if found is None:
        raise LookupError("a request is not there any more")
    return found


def _request(row: Row) -> Request:  # type: ignore[type-arg]
    return Request(
        id=row.id,
        application=row.application,
        state=Verdict(row.state),
        source_identity=row.source_identity,
        metadata=row.metadata,
        comments=row.comments,
        bindings=tuple(_copied(binding) for binding in row.bindings),
        actor=row.actor,
        authors=tuple(row.authors),
        digest=row.digest,
        subject=None if row.subject is None else Subject(**row.subject),
        tried=row.tried,
        posted=row.posted,
        trouble=row.trouble,
        again_at=row.again_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finalized_at=row.finalized_at,
    )


def _copied(binding: Mapping[str, Any]) -> Copied:
    return Copied(**{**binding, "mode": Mode(binding["mode"])})
