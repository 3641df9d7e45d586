"""Changesets: what was changed by whom, and why (pdc, 2.5, 5.5)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response

from api.paths import plain
from api.pdc import query
from api.pdc.addresses import place
from api.pdc.answers import answer, time
from api.pdc.errors import NOT_FOUND, Failure, detail
from api.pdc.noun import Key, Noun
from api.pdc.query import PAGING, SHAPING, Query, known_only
from api.pdc.schedules import NUMBER
from api.pdc.serving import admitted, described, titled
from reconciler.queries import products
from reconciler.queries.products import Changeset, Wanted

NOUN = Noun(
    path="changesets",
    title="Changeset",
    about="What each request, or each commit, has changed; newest first.",
    keys=tuple(
        Key(name, read_only=True)
        for name in ("id", "author", "requested_on", "committed_on", "duration", "comment", "changes")
    ),
    rows=lambda _catalogue: (),
    body=lambda row, _view: row,
)
_FILTERS = frozenset({"author", "resource", "comment", "changed_since", "changed_until"})


async def serve(request: Request[Any, Any, Any], ident: str | None = None) -> Response[Any]:
    """The list, or one."""
    if request.method == "OPTIONS":
        return described(request, titled(NOUN, ident), NOUN.about)
    asked = admitted(request, place(request.scope["path"]), titled(NOUN, ident), NOUN.about)
    known_only(asked.query, {*_FILTERS, *PAGING, *SHAPING})
    shaped = query.shape(asked.query, NOUN.names)
    wanted = _wanted(asked.query)
    if ident is not None:
        return answer(asked, shaped(_body(await _one(asked.installation, plain(ident), wanted))))
    count = await products.changeset_count(asked.installation, wanted)
    page = query.page(asked.query, count)
    offset = 0 if page.size is None else (page.number - 1) * page.size
    rows = await products.changesets(asked.installation, wanted, page.size, offset)
    results = [shaped(_body(row)) for row in rows]
    return answer(asked, query.paged(asked.query, asked.address, page, count, results))


async def _one(installation: Any, ident: str, wanted: Wanted) -> Changeset:
    """One, if it passes the filters."""
    found = await products.changeset(installation, int(ident)) if NUMBER.fullmatch(ident) else None
    if found is None or not _passes(found, wanted):
        raise Failure(404, NOT_FOUND)
    return found


def _passes(found: Changeset, wanted: Wanted) -> bool:
    sorts = {change["resource"] for change in found.changes}
    return (
        (not wanted.authors or found.author in wanted.authors)
        and (not wanted.resources or bool(sorts & set(wanted.resources)))
        and (wanted.comment is None or wanted.comment.lower() in (found.comment or "").lower())
        and (wanted.since is None or found.committed_on >= wanted.since)
        and (wanted.until is None or found.committed_on <= wanted.until)
    )


def _wanted(given: Query) -> Wanted:
    return Wanted(
        tuple(value for value in given.all("author") if value),
        tuple(value for value in given.all("resource") if value),
        given.last("comment") or None,
        _moment(given, "changed_since"),
        _moment(given, "changed_until"),
    )


def _moment(given: Query, name: str) -> datetime | None:
    text = given.last(name)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise detail(
            400, f"Value [{text}] of {name} is not a date and time, such as 2031-04-09T17:20:00."
        ) from None


def _body(row: Changeset) -> Mapping[str, Any]:
    return {
        "id": row.id,
        "author": row.author,
        "requested_on": time(row.requested_on),
        "committed_on": time(row.committed_on),
        "duration": f"{(row.committed_on - row.requested_on).total_seconds():.6f}",
        "comment": row.comment,
        "changes": row.changes,
    }
