"""The query string: what may be in it, filters, the order, the keys that are shown, and pages (pdc, 3.3 to 3.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from api.pdc.errors import detail

Row = TypeVar("Row")
PAGING = frozenset({"page", "page_size"})
SHAPING = frozenset({"fields", "exclude_fields"})
_USUAL, _MOST = 20, 100
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """All of a query string: each name with its values, in their order."""

    values: Mapping[str, tuple[str, ...]]

    def last(self, name: str) -> str | None:
        """The value that counts of a name that counts once."""
        found = self.values.get(name)
        return found[-1] if found else None

    def all(self, name: str) -> tuple[str, ...]:
        """All of a name's values."""
        return self.values.get(name, ())


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for; `size` None: all of it."""

    number: int
    size: int | None


def query(raw: bytes) -> Query:
    """A query string, read."""
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="replace")
    except ValueError as error:
        raise detail(400, f"the query string cannot be read: {error}") from None
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return Query({name: tuple(values) for name, values in found.items()})


def known_only(query: Query, known: Iterable[str]) -> None:
    """400 for names that mean nothing here."""
    unknown = sorted(query.values.keys() - set(known))
    if unknown:
        raise detail(400, f"Unknown query params: {', '.join(unknown)}.")


def shape(query: Query, keys: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What makes of an object the one with the keys that are asked for."""
    all_keys = list(keys)
    wanted, unwanted = _names(query.all("fields")), _names(query.all("exclude_fields"))
    unknown = sorted({*wanted, *unwanted} - set(all_keys))
    if unknown:
        raise detail(400, f"Unknown fields: {', '.join(unknown)}.")
    kept = {key for key in (wanted or all_keys) if key not in unwanted}
    if len(kept) == len(all_keys):
        return dict
    return lambda shown: {key: value for key, value in shown.items() if key in kept}


def _names(values: Iterable[str]) -> list[str]:
    return [piece.strip() for value in values for piece in value.split(",") if piece.strip()]


def ordered(
    rows: Sequence[Row], query: Query, key_of: Callable[[str], Callable[[Row], Any] | None]
) -> Sequence[Row]:
    """In the order that is asked for; equals stay as they are."""
    wanted = query.last("ordering")
    if wanted is None:
        return rows
    found = list(rows)
    for piece in reversed(wanted.split(",")):
        name = piece.strip()
        key = key_of(name.lstrip("-"))
        if key is None:
            raise detail(400, f"Unknown query key: {name.lstrip('-')!r} cannot be ordered by.")
        found.sort(key=key, reverse=name.startswith("-"))
    return found


def page_of(query: Query) -> tuple[str, int | None]:
    """The page as it is written, and how many are on one; None: all."""
    number, size = query.last("page") or "1", _USUAL
    given = query.last("page_size")
    if given is not None and _NUMBER.fullmatch(given.strip()):
        size = int(given)
    return number, None if size <= 0 else min(size, _MOST)


def page(query: Query, count: int) -> Page:
    """Which part of so many; 404 for a page that is not there."""
    number, size = page_of(query)
    if size is None:
        return Page(1, None)
    pages = max(1, -(-count // size))
    if number == "last":
        return Page(pages, size)
    if not number.isascii() or not number.isdigit() or len(number) > 18 or not 1 <= int(number) <= pages:
        raise detail(404, "Invalid page.")
    return Page(int(number), size)


def paged(query: Query, address: str, page: Page, count: int, results: list[Any]) -> Any:
    """The body of a list: a page with links to its neighbours, or just all of it."""
    if page.size is None:
        return results
    further = page.number * page.size < count
    return {
        "count": count,
        "next": _link(query, address, page.number + 1) if further else None,
        "previous": _link(query, address, page.number - 1) if page.number > 1 else None,
        "results": results,
    }


def _link(query: Query, address: str, number: int) -> str:
    pairs = [(name, value) for name, values in query.values.items() if name != "page" for value in values]
    if number > 1:
        pairs.append(("page", str(number)))
    pairs.sort(key=lambda pair: pair[0])
    return f"{address}?{urlencode(pairs)}" if pairs else address
