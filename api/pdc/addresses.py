"""The addresses of this API, and which methods each takes (pdc, 3.1, 3.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from api.paths import PDC

BASE = f"{PDC}/v1"
_ORDER = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def _methods(words: str) -> tuple[str, ...]:
    found = {*words.split(), "OPTIONS"} | ({"HEAD"} if "GET" in words.split() else set())
    return tuple(method for method in _ORDER if method in found)


_ALL, _KEPT, _READ = "GET POST PUT PATCH DELETE", "GET POST PUT PATCH", "GET"
# Of a collection, and of one of its objects, where these have addresses.
METHODS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    name: (_methods(collection), _methods(entry) if entry else None)
    for name, (collection, entry) in {
        "release-schedules": (_ALL, "GET PUT PATCH DELETE"),
        "component-sla-types": (_ALL, "GET PUT PATCH DELETE"),
        "releases": (_KEPT, "GET PUT PATCH"),
        "product-versions": (_KEPT, "GET PUT PATCH"),
        "products": (_KEPT, "GET PUT PATCH"),
        "base-products": (_KEPT, "GET PUT PATCH"),
        "release-types": (_READ, None),
        "release-variants": (_READ, None),
        "changesets": (_READ, _READ),
        "auth/token/obtain": ("GET POST", None),
        "auth/token/refresh": ("GET PUT", None),
        "auth/current-user": (_READ, None),
        "auth/resource-permissions": (_READ, None),
        "rpc/release/clone": ("POST", None),
    }.items()
}
ROOT = _methods(_READ)


@dataclass(frozen=True, slots=True)
class Place:
    """What an address means: a collection, or one object of it, and the methods it takes."""

    name: str
    entry: bool
    methods: tuple[str, ...]


def place(path: str) -> Place | None:
    """Of a path, whether it ends in a slash or not; None for one that means nothing."""
    if not path.startswith(BASE):
        return None
    rest = path[len(BASE) :].rstrip("/") if path.endswith("/") else path[len(BASE) :]
    if not rest:
        return Place("", False, ROOT)
    name = rest.removeprefix("/")
    if name in METHODS:
        return Place(name, False, METHODS[name][0])
    collection, _, last = name.rpartition("/")
    methods = METHODS.get(collection, ((), None))[1]
    return Place(collection, True, methods) if methods and last else None
