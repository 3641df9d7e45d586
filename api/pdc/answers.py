"""Answers in the form that a request wants: JSON, or the page that shows the same (pdc, 3.2). Knows no object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response

from api import pages
from api.pdc import negotiation
from api.pdc.addresses import BASE, Place
from api.pdc.negotiation import Form
from api.pdc.noun import View
from api.pdc.query import Query
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.product import Catalogue


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has passed: who asks, what for, and in which form the answer goes out."""

    request: Request[Any, Any, Any]
    installation: Installation
    caller: Caller
    place: Place
    query: Query
    form: Form
    title: str
    about: str

    @property
    def base(self) -> str:
        """Where this API is, for who asks."""
        return base_of(self.request, self.installation)

    @property
    def address(self) -> str:
        """Of what is asked for, without the query."""
        return f"{self.base}{self.request.url.path.removeprefix(BASE).rstrip('/')}/"

    @property
    def today(self) -> str:
        """The day in UTC."""
        return self.installation.now().astimezone(UTC).date().isoformat()

    def view(self, catalogue: Catalogue) -> View:
        """What its answer is made of."""
        return View(catalogue, self.today, self.base)


def base_of(request: Request[Any, Any, Any], installation: Installation) -> str:
    """The public address, if there is one, or the one that was asked."""
    return f"{installation.settings.external_url or str(request.base_url).rstrip('/')}{BASE}"


def answer(
    asked: Asked, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """An answer with a body."""
    own = dict(headers or {})
    if asked.form.media_type == negotiation.HTML:
        content, more = pages.render("pdc", **_page(asked, body, status, own))
        return Response(content, status_code=status, media_type=pages.MEDIA_TYPE, headers=more | own)
    content = msgspec.json.encode(body)
    if asked.form.indent:
        content = msgspec.json.format(content, indent=asked.form.indent)
    return Response(content, status_code=status, media_type=negotiation.JSON, headers=own)


def empty(status: int) -> Response[None]:
    """An answer without one."""
    return Response(None, status_code=status)


def time(moment: datetime) -> str:
    """UTC with microseconds (pdc, 2)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _page(asked: Asked, body: Any, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    shown = msgspec.json.format(msgspec.json.encode(body), indent=4).decode()
    links = body if isinstance(body, dict) and {"next", "previous", "results"} <= body.keys() else {}
    query = asked.request.url.query
    return {
        "title": asked.title,
        "about": asked.about,
        "asked": f"{asked.request.method} {asked.request.url.path.rstrip('/')}/{'?' if query else ''}{query}",
        "status": status,
        "headers": {"Allow": ", ".join(asked.place.methods), "Vary": "Accept", **headers},
        "body": shown,
        "previous": links.get("previous"),
        "next": links.get("next"),
        "top": f"{BASE}/",
    }
