"""The routes of the PDC API, as `api.app` takes them in.

Each address takes every method, since who lacks a right is told that before which methods there are (pdc, 3.7).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

from litestar import HttpMethod, Request, Response, Router, route
from litestar.handlers import HTTPRouteHandler

from api.auth import PUBLIC
from api.pdc import (
    accounts,
    changesets,
    fixed,
    product_versions,
    products,
    releases,
    root,
    schedules,
    serving,
    slas,
)
from api.pdc.addresses import BASE, METHODS, ROOT
from api.pdc.errors import DECLARED
from api.pdc.noun import Noun
from api.unchanged import STEADY

Asks = Request[Any, Any, Any]
Served = Callable[[Asks, str | None], Awaitable[Response[Any]]]
Alone = Callable[[Asks], Awaitable[Response[Any]]]
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_OPT: dict[str, Any] = {PUBLIC: "pdc"}

NOUNS = (
    schedules.NOUN,
    slas.NOUN,
    releases.NOUN,
    product_versions.NOUN,
    products.NOUN,
    fixed.BASE_PRODUCTS,
    fixed.RELEASE_TYPES,
    fixed.RELEASE_VARIANTS,
)


def _served(
    path: str, methods: Collection[str], title: str, serve: Served, **opt: Any
) -> list[HTTPRouteHandler]:
    """An address: with the methods that it has, and those that are only refused, which need not be told."""
    others = [HttpMethod(each) for each in _METHODS if each not in methods or each == "OPTIONS"]
    own = [HttpMethod(each) for each in _METHODS if each in methods and each != "OPTIONS"]

    def made(methods: list[HttpMethod], *, told: bool) -> HTTPRouteHandler:
        @route(
            path, http_method=methods, opt=_OPT | opt, status_code=200, summary=title, include_in_schema=told
        )
        async def handler(request: Asks) -> Response[Any]:
            """As OPTIONS describes it."""
            return await serve(request, request.path_params.get("ident"))

        return handler

    return [
        made(others, told=False),
        made(own, told=True),
    ]  # the one with OPTIONS first, or another one is made up


def _of_noun(noun: Noun) -> Iterator[HTTPRouteHandler]:
    """A collection, and its objects where they have addresses."""

    async def serve(request: Asks, ident: str | None) -> Response[Any]:
        return await serving.serve(request, noun, ident)

    yield from _both(noun, serve, **STEADY)


def _both(noun: Noun, serve: Served, **opt: Any) -> Iterator[HTTPRouteHandler]:
    collection, entry = METHODS[noun.path]
    path = f"{BASE}/{noun.path}"
    yield from _served(path, collection, f"{noun.title} List", serve, **opt)
    if entry is not None:
        yield from _served(f"{path}/{{ident:str}}", entry, noun.title, serve, **opt)


def _single(name: str, title: tuple[str, str], serve: Alone) -> Iterator[HTTPRouteHandler]:
    """An address that is neither a collection nor one of its objects."""

    async def alone(request: Asks, _ident: str | None) -> Response[Any]:
        if request.method == "OPTIONS":
            return serving.described(request, *title)
        return await serve(request)

    methods = METHODS[name][0] if name else ROOT
    yield from _served(f"{BASE}/{name}".rstrip("/"), methods, title[0], alone)


_HANDLERS: list[Any] = [
    *(handler for noun in NOUNS for handler in _of_noun(noun)),
    *_both(changesets.NOUN, changesets.serve),
    *(
        handler
        for name, serve in accounts.SERVED.items()
        for handler in _single(name, accounts.TITLES[name], serve)
    ),
    *_single("", root.ROOT, root.root),
    *_single("rpc/release/clone", root.CLONE, root.clone),
]
for _handler in _HANDLERS:
    _handler.responses = {**DECLARED, **(_handler.responses or {})}

ROUTER = Router(path="/", route_handlers=_HANDLERS, tags=["PDC"])
