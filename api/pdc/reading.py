"""Lists and single objects (pdc, 3.3 to 3.6, 4.1, 4.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from litestar import Response

from api.pdc import query
from api.pdc.answers import Asked, answer, empty
from api.pdc.errors import NOT_FOUND, Failure
from api.pdc.noun import Noun, Predicate, View
from reconciler.queries import products

_NOTHING = Failure(404, NOT_FOUND)


async def listed(asked: Asked, noun: Noun) -> Response[Any]:
    """A list, or a page of one."""
    view = asked.view(await products.catalogue(asked.installation))
    shaped = query.shape(asked.query, noun.names)
    passes = predicates(asked, noun, view)
    start = noun.near or (lambda catalogue, _query: noun.rows(catalogue))
    rows = start(view.catalogue, asked.query)
    for passing in passes:
        rows = [row for row in rows if passing(row)]
    rows = query.ordered(rows, asked.query, noun.order)
    count = len(rows)
    page = query.page(asked.query, count)
    modified = _modified(asked, noun, view)
    if modified is not None and _unchanged(asked, modified):
        return empty(304)
    if page.size is not None:
        rows = rows[(page.number - 1) * page.size : page.number * page.size]
    results = [shaped(noun.body(row, view)) for row in rows]
    headers = {} if modified is None else {"Last-Modified": format_datetime(modified, usegmt=True)}
    body = query.paged(asked.query, asked.address, page, count, results)
    return answer(asked, body, headers=headers)


async def one(asked: Asked, noun: Noun, ident: str) -> Response[Any]:
    """One object, if it passes the filters."""
    view = asked.view(await products.catalogue(asked.installation))
    shaped = query.shape(asked.query, noun.names)
    passes = predicates(asked, noun, view)
    row = noun.find(view.catalogue, ident)
    if row is None or not all(passing(row) for passing in passes):
        raise _NOTHING
    return answer(asked, shaped(noun.body(row, view)))


def predicates(asked: Asked, noun: Noun, view: View) -> list[Predicate]:
    """What an object must be to be concerned at all."""
    found = (
        noun.filters[name](values, view)
        for name, values in asked.query.values.items()
        if name in noun.filters
    )
    return [each for each in found if each is not None]


def _modified(asked: Asked, noun: Noun, view: View) -> datetime | None:
    """When a list was changed last, if that second is over."""
    found = [view.catalogue.changed[name] for name in noun.modified if name in view.catalogue.changed]
    last = max(found, default=None)
    if last is None or (asked.installation.now() - last).total_seconds() < 2:
        return None
    return last.astimezone(UTC).replace(microsecond=0)


def _unchanged(asked: Asked, modified: datetime) -> bool:
    since = asked.request.headers.get("if-modified-since")
    try:
        return since is not None and parsedate_to_datetime(since).astimezone(UTC) >= modified
    except (TypeError, ValueError, OverflowError):
        return False
