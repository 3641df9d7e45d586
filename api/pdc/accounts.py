"""Who asks, with what token, and what they may (pdc, 2.6, 5.6, 5.7).

A token is never shown again by the server: `obtain` gives the very one that was presented (design 9). Who may come
without one is given a text that is as good as none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import NotAuthorizedException

from api.auth import ANYBODY, token_of_nobody
from api.pdc import query
from api.pdc.addresses import METHODS, place
from api.pdc.answers import Asked, answer
from api.pdc.errors import detail
from api.pdc.query import PAGING, known_only
from api.pdc.serving import RIGHTS, admitted, may
from reconciler.access import Caller
from reconciler.commands import tokens
from reconciler.queries import products

TITLES = {
    "auth/token/obtain": ("Obtain Token", "The token of who asks."),
    "auth/token/refresh": ("Refresh Token", "A new token instead of the one that is presented."),
    "auth/current-user": ("Current User", "Who asks, and what they may."),
    "auth/resource-permissions": ("Resource Permission List", "The rights that there are."),
}
_DAYS = 365
_FILTERS = frozenset({"resource", "permission"})


async def obtain(request: Request[Any, Any, Any]) -> Response[Any]:
    """GET, POST: the token that was presented; who may come without one may also come with what is given here."""
    asked = _asked(request, "auth/token/obtain")
    return _told(asked, request.auth or token_of_nobody(asked.installation))


async def refresh(request: Request[Any, Any, Any]) -> Response[Any]:
    """GET, PUT: a new token in place of the one that was presented, which ends at once.

    By GET only of a token in words of its own: cookies and Basic credentials a browser sends by itself.
    """
    asked = _asked(request, "auth/token/refresh")
    caller = asked.caller
    if caller.token is None:
        raise detail(400, "There is no token to refresh: present one.")
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if request.method != "PUT" and scheme not in ("token", "bearer"):
        raise detail(403, "By GET, give the token as `Authorization: Token TOKEN`; or use PUT.")
    secret = await tokens.replace(asked.installation, caller, _DAYS)
    request.app.state.credentials.forget()
    return _told(asked, secret)


async def current_user(request: Request[Any, Any, Any]) -> Response[Any]:
    """GET."""
    asked = _asked(request, "auth/current-user")
    caller = asked.caller
    found = products.person(asked.installation, caller)
    body = {
        "username": found.name,
        "fullname": found.full_name,
        "e-mail": found.email,
        "is_superuser": caller.administrator,
        "is_staff": caller.administrator,
        "groups": list(found.groups),
        "permissions": [],
        "resource_permissions": [each for each in _permissions() if _has(request, each)],
    }
    return answer(asked, body)


async def resource_permissions(request: Request[Any, Any, Any]) -> Response[Any]:
    """GET: pages of them."""
    asked = _asked(request, "auth/resource-permissions", PAGING | _FILTERS)
    wanted = {name: asked.query.all(name) for name in _FILTERS if name in asked.query.values}
    found = [each for each in _permissions() if all(each[name] in values for name, values in wanted.items())]
    page = query.page(asked.query, len(found))
    size = page.size if page.size is not None else len(found)
    part = found[(page.number - 1) * size : page.number * size]
    return answer(asked, query.paged(asked.query, asked.address, page, len(found), part))


def _asked(request: Request[Any, Any, Any], name: str, known: Iterable[str] = ()) -> Asked:
    """Who presents nothing is nobody here; whoever is somebody may ask."""
    caller: Caller = request.user
    if caller.subject == ANYBODY and name != "auth/resource-permissions":
        raise NotAuthorizedException(detail="Authentication credentials were not provided.")
    asked = admitted(request, place(request.scope["path"]), *TITLES[name], open=True)
    known_only(asked.query, known)
    return asked


def _permissions() -> list[dict[str, str]]:
    return [
        {"resource": name, "permission": right}
        for name, (collection, _) in sorted(METHODS.items())
        if "/" not in name
        for right in sorted({RIGHTS[method] for method in collection if method in RIGHTS})
    ]


def _has(request: Request[Any, Any, Any], permission: dict[str, str]) -> bool:
    verbs = {right: method for method, right in RIGHTS.items()}
    return may(request, request.user, verbs[permission["permission"]])


def _told(asked: Asked, secret: str) -> Response[Any]:
    return answer(asked, {"token": secret}, headers={"Cache-Control": "no-store"})


SERVED = {
    "auth/token/obtain": obtain,
    "auth/token/refresh": refresh,
    "auth/current-user": current_user,
    "auth/resource-permissions": resource_permissions,
}
