"""Writes, of one object or of many: all of a request is one commit, or nothing is (pdc, 3.8, 4.3 to 4.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Response

from api.pdc import query
from api.pdc.answers import Asked, answer, empty
from api.pdc.bodies import MISSING
from api.pdc.errors import NOT_FOUND, Failure, detail, failure_of
from api.pdc.inputs import taken
from api.pdc.noun import Handle, Noun, Predicate, Writes
from api.pdc.reading import predicates
from reconciler.commands import products
from reconciler.commands.declare import Written
from reconciler.commands.products import Draft
from reconciler.errors import SpecificationRefused, SteersmanError
from reconciler.model.product import Catalogue
from reconciler.queries import products as read

COMMENT = "pdc-change-comment"
_EMPTY_PATCH = "Partial update with no changes does not make much sense."
_WARNING = {"pdc-warning": f"{_EMPTY_PATCH} Was the address given without its last slash?"}

_Do = Callable[[Draft], Handle]
_Step = tuple[Any, Any, _Do]
"""An item of a request: its id, its data, and what is done."""


class Writer:
    """One request that writes objects of one sort."""

    def __init__(
        self, asked: Asked, noun: Noun, writes: Writes, passes: list[Predicate], known: Catalogue
    ) -> None:
        self._asked, self._noun, self._writes = asked, noun, writes
        self._passes, self._known = passes, known
        self._shaped = query.shape(asked.query, noun.names)

    async def create(self, body: Any) -> Response[Any]:
        """POST: of one, or of a list."""
        if not isinstance(body, list):
            return await self._single(lambda draft: self._create(draft, {} if body is MISSING else body), 201)
        steps = [(at, item, self._creating(item)) for at, item in enumerate(body)]
        results = await self._bulk(steps)
        return results if isinstance(results, Response) else answer(self._asked, results, 201)

    async def update(self, ident: str, body: Any, *, partial: bool) -> Response[Any]:
        """PUT and PATCH of one."""
        if partial and (body is MISSING or body in ({}, [])):
            raise detail(400, _EMPTY_PATCH, _WARNING)
        sent = {} if body is MISSING else body
        return await self._single(lambda draft: self._update(draft, ident, sent, partial=partial), 200)

    async def update_all(self, body: Any, *, partial: bool) -> Response[Any]:
        """PUT and PATCH of several, by their ids."""
        body = {} if body is MISSING else body
        if partial and body in ({}, []):
            raise detail(400, _EMPTY_PATCH)
        if not isinstance(body, dict):
            raise detail(400, "Bulk operations with PUT and PATCH need an object: id → values.")
        steps = [(ident, item, self._updating(ident, item, partial)) for ident, item in body.items()]
        results = await self._bulk(steps)
        if isinstance(results, Response):
            return results
        return answer(self._asked, dict(zip(body, results, strict=True)))

    async def remove(self, ident: str) -> Response[Any]:
        """DELETE of one."""
        waits = await self._carry_out(lambda draft: [self._remove(draft, ident)])
        return waits if isinstance(waits, Response) else empty(204)

    async def remove_all(self, body: Any) -> Response[Any]:
        """DELETE of several, by a list of ids; what is in it twice counts once."""
        if not isinstance(body, list):
            raise detail(400, "Bulk delete needs a list of identifiers.")
        if any(not isinstance(each, str | int) for each in body):
            raise detail(400, "Identifiers are strings or integers.")
        found = {(type(each), each): each for each in body}.values()
        steps: list[_Step] = [(each, None, self._removing(each)) for each in found]
        results = await self._bulk(steps, gone=True)
        return results if isinstance(results, Response) else empty(204)

    def _creating(self, item: Any) -> _Do:
        return lambda draft: self._create(draft, item)

    def _updating(self, ident: str, item: Any, partial: bool) -> _Do:
        def do(draft: Draft) -> Handle:
            if partial and item in ({}, []):
                raise detail(400, _EMPTY_PATCH)
            return self._update(draft, ident, item, partial=partial)

        return do

    def _removing(self, ident: Any) -> _Do:
        return lambda draft: self._remove(draft, str(ident))

    def _create(self, draft: Draft, body: Any) -> Handle:
        return self._writes.create(draft, self._values(draft, body, whole=True))

    def _update(self, draft: Draft, ident: str, body: Any, *, partial: bool) -> Handle:
        handle = self._find(draft, ident)
        values = self._values(draft, body, whole=not partial)
        if partial:
            values = self._writes.current(handle) | values
        self._writes.change(draft, handle, values)
        return handle

    def _remove(self, draft: Draft, ident: str) -> Handle:
        handle = self._find(draft, ident)
        if self._writes.remove is not None:
            self._writes.remove(draft, handle)
        return handle

    def _find(self, draft: Draft, ident: str) -> Handle:
        handle = self._writes.find(draft, ident)
        row = None if handle is None else self._writes.row(self._known, handle)
        passed = row is None or all(passing(row) for passing in self._passes)
        if handle is None or not passed:
            raise Failure(404, NOT_FOUND)
        return handle

    def _values(self, draft: Draft, body: Any, *, whole: bool) -> dict[str, Any]:
        found: dict[str, Any] = taken(body, self._writes.inputs, self._noun.read_only, draft, whole=whole)
        return found

    async def _single(self, do: _Do, status: int) -> Response[Any]:
        results = await self._carry_out(lambda draft: [do(draft)])
        return results if isinstance(results, Response) else answer(self._asked, results[0], status)

    async def _bulk(self, steps: list[_Step], *, gone: bool = False) -> list[Any] | Response[Any]:
        """The results of all steps in their order; the first that fails is named, and nothing is done."""
        done: list[tuple[Any, Any, Handle]] = []

        def work(draft: Draft) -> list[Handle]:
            done.clear()
            for ident, data, do in steps:
                try:
                    done.append((ident, data, do(draft)))
                except (Failure, SteersmanError) as error:
                    raise _named(failure_of(self._asked.request, error), ident, data) from error
            return [] if gone else [handle for _, _, handle in done]

        try:
            return await self._carry_out(work)
        except SpecificationRefused as error:
            blamed = {fault[0] for fault in error.errors}
            for ident, data, handle in done:
                if self._writes.key(handle) in blamed:
                    raise _named(failure_of(self._asked.request, error), ident, data) from error
            raise

    async def _carry_out(self, work: Callable[[Draft], list[Handle]]) -> list[Any] | Response[Any]:
        """Commit it; the objects as they are now, or an answer that says that it waits."""
        asked = self._asked
        written, handles, catalogue = await products.change(
            asked.installation,
            asked.caller,
            work,
            endpoint=f"{asked.request.method} {asked.request.url.path}",
            comment=comment_of(asked),
        )
        if not written.applied:
            return waits(asked, written)
        view = asked.view(catalogue)
        rows = [self._writes.stored(catalogue, handle) for handle in handles]
        return [{} if row is None else self._shaped(self._noun.body(row, view)) for row in rows]


async def writer(asked: Asked, noun: Noun, writes: Writes) -> Writer:
    """For one request."""
    catalogue = await read.catalogue(asked.installation)
    return Writer(asked, noun, writes, predicates(asked, noun, asked.view(catalogue)), catalogue)


def comment_of(asked: Asked) -> str | None:
    """What the caller says of a write."""
    raw = dict(asked.request.scope["headers"]).get(COMMENT.encode(), b"")
    try:
        return raw.decode() or None
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def waits(asked: Asked, written: Written) -> Response[Any]:
    """Committed, and not in force: in a branch to be merged, or because applying takes long."""
    where = f"on the branch {written.branch}" if written.branch else f"as {written.commit}"
    told = "merge it to bring it into force" if written.branch else "it is about to be applied"
    return answer(asked, {"detail": f"The change is committed {where}; {told}."}, 202)


def _named(failure: Failure, ident: Any, data: Any) -> Failure:
    """The failure of a whole request by one of its items."""
    body = failure.body
    told = body["detail"] if isinstance(body, dict) and "detail" in body else body
    named = {"detail": told, "id_of_invalid_data": ident}
    return Failure(failure.status_code, named | ({"invalid_data": data} if data else {}))
