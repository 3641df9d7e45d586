"""What requests of this API have in common: rights of a token, bodies, queries and pages (cider-ci, 3.1, 3.2, 3.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from api.cider.answers import Asked
from api.cider.errors import Unusable
from api.cider.relations import Endpoint, address
from api.cider.roa import Collection, Links, Relation
from reconciler.access import Caller
from reconciler.json_text import Unreadable, decode
from reconciler.model.rights import Level
from reconciler.queries.by_id import is_uuid
from reconciler.queries.listings import Span

T = TypeVar("T")
LARGEST_BODY = 1 << 20
PER_PAGE = 10
WRITE = {"level": Level.WRITE}
"""Routes that change something say so."""

_PAGE = re.compile(r"[0-9]+", re.ASCII)
_DIGITS = 15


def scoped(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: what changes something takes a token that may write, and no script's."""
    if handler.opt.get("level") is not Level.WRITE:
        return
    caller: Caller = connection.user
    if caller.most < Level.WRITE or caller.running:
        raise PermissionDeniedException(detail="this takes a token of the level write, and no script's")


async def body(request: Asked) -> Any:
    """The JSON value of a body."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(status_code=415, detail="send the body as application/json")
    try:
        return decode(await request.body())
    except Unreadable as error:
        raise Unusable(detail=f"the body {error}") from error


@dataclass(frozen=True, slots=True)
class Listing:
    """A page that is asked for: of which list, with which filters; `after`: the id behind which it begins."""

    endpoint: Endpoint
    filters: Mapping[str, str]
    page: int
    after: str | None
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        """How many items come before."""
        return self.page * PER_PAGE

    @property
    def span(self) -> Span:
        """What to fetch: the items of the page, and one more if there is one."""
        return Span(PER_PAGE + 1, self.offset, self.after)

    def links(
        self,
        ids: Sequence[str],
        member: Endpoint,
        relations: Mapping[str, Relation] | None = None,
        *,
        more: bool,
    ) -> Links:
        """The links of an answer that shows these items; `more`: there are further ones."""
        given = {**self.filters, "page": self.page} if self.page else dict(self.filters)
        here = given if self.after is None else {**given, "after": self.after}
        following = {**self.filters, "page": self.page + 1}
        if ids and "after" in self.endpoint.query:
            following["after"] = ids[-1]
        collection = Collection(
            name=member.name,
            members=tuple(address(member, id=each) for each in ids),
            first=self.offset + 1,
            next=address(self.endpoint, following, **self.path) if more else None,
        )
        name = self.endpoint.name
        return Links(name, address(self.endpoint, here, **self.path), relations or {}, collection)


def listing(
    request: Asked, endpoint: Endpoint, aliases: Mapping[str, str] | None = None, **path: str
) -> Listing:
    """The page that a query asks for. What it does not know is left alone; of several values the last one counts.

    `aliases`: parameters by further names for them; their own names win.
    """
    raw = request.scope["query_string"].decode("utf-8", "replace")
    last = dict(parse_qsl(raw, keep_blank_values=True, errors="replace"))
    given = {name: value for name, value in last.items() if value}
    others = {own: given[name] for name, own in (aliases or {}).items() if name in given}
    known = {**others, **{name: given[name] for name in endpoint.query if name in given}}
    page, after = known.pop("page", "0"), known.pop("after", None)
    if not _PAGE.fullmatch(page):
        raise Unusable(detail="page must be a whole number from 0 on")
    number = int(page) if len(page) <= _DIGITS else 10**_DIGITS
    return Listing(endpoint, known, number, after if after and is_uuid(after) else None, path)


def cut(items: Sequence[T], asked: Listing, key: Callable[[T], str]) -> tuple[Sequence[T], bool]:
    """The page of a list that is there as a whole, and whether there is more."""
    places = (place for place, item in enumerate(items, 1) if key(item) == asked.after)
    start = next(places, asked.offset)
    return items[start : start + PER_PAGE], len(items) > start + PER_PAGE
