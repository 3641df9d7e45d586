"""What all pages have in common: the frame, the policy, errors, and what templates may call.

`page` fills a template of `templates/`, escaping everything. Scripts and styles come from this server alone and never
stand in the page (`security.md`); the scheme that a reader has chosen is a cookie, so that no page flashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec
from litestar import Request, Response

from api import problems
from api.dashboard import assets
from reconciler.access import Caller
from reconciler.installation import Installation

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MEDIA_TYPE = "text/html"
PAGE: dict[str, Any] = {"include_in_schema": False, "media_type": "text/html"}
"""What every route of a page says of itself."""

FORM: dict[str, Any] = PAGE | {"status_code": 303, "request_max_body_size": 64 << 10}
"""The same of what forms are sent to."""

SIGN_IN = "/ui/sign-in"
SCHEME = "steersman-scheme"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Cookie",
}
WAYS: tuple[tuple[str, str], ...] = (
    ("/", "Overview"),
    ("/ui/projects", "Projects"),
    ("/ui/resources", "Resources"),
    ("/ui/jobs", "Jobs"),
    ("/ui/pipelines", "Pipelines"),
    ("/ui/releases", "Releases"),
    ("/ui/approvals", "Approvals"),
    ("/ui/calendar", "Calendar"),
    ("/ui/changes", "Changes"),
    ("/ui/executors", "Executors"),
    ("/ui/events", "Events"),
    ("/ui/docs", "Docs"),
)
"""The ways that stand on every page."""

_SIGNED_OUT = (
    "You are not signed in any more, so nothing was done. Sign in again, then go back in your browser twice: "
    "what you have typed is still there."
)

_TONES = {
    "good": "passed ok healthy synced approved active success applied delivered",
    "bad": "failed defective degraded rejected invalid missing error outofsync failing timeout",
    "busy": "executing running dispatching progressing aborting new",
    "wait": "pending waiting held queued unknown stale drifted suspended",
}
_TICKED = re.compile(r"`([^`\n]+)`")
_TONE = {word: tone for tone, words in _TONES.items() for word in words.split()}


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    code: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[bytes]:
    """A page in the frame. `values` are what the template shows besides what all of them know."""
    installation: Installation = request.app.state.installation
    caller = request.scope.get("user")
    here = _here(request) if request.method == "GET" else "/"
    known = {
        "ways": WAYS,
        "path": request.url.path,
        "here": here,
        "caller": caller if isinstance(caller, Caller) else None,
        "scheme": request.cookies.get(SCHEME, ""),
        "version": version("steersman"),
        "store_version": installation.version,
        "open_to_all": installation.settings.insecure_no_auth,
    }
    content = templates().get_template(f"{template}.html").render(known | values).encode()
    return Response(content, status_code=code, media_type=MEDIA_TYPE, headers={**_HEADERS, **(headers or {})})


def away(to: str) -> Response[bytes]:
    """The page to look at after a form was taken."""
    return Response(b"", status_code=303, headers={"Location": to, "Cache-Control": "no-store"})


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a page, as a page; who is not signed in is sent to do so, and comes back afterwards."""
    found = problems.handle(request, error)
    if found.status_code == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        return away(f"{SIGN_IN}?{urlencode({'to': _here(request)})}")
    told = msgspec.json.decode(found.content)
    if found.status_code == HTTPStatus.UNAUTHORIZED:
        told = {"title": "SignedOut", "detail": _SIGNED_OUT}
    headers = {name: value for name, value in found.headers.items() if name.lower() == "retry-after"}
    return page(
        request,
        "error",
        code=found.status_code or 500,
        headers=headers,
        reason=_words(told["title"]),
        message=told["detail"],
    )


def _here(request: Request[Any, Any, Any]) -> str:
    """The page that was asked for, with its query."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def path_of(key: str) -> str:
    """The page of a resource."""
    return f"/ui/resources/{quote(key)}"


@cache
def templates() -> Environment:
    """Templates with what they may call: filters for times, sizes, states and links."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only who looks at pages costs this

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "tone": tone,
        "iso": _iso,
        "plain_time": _plain_time,
        "span": span,
        "size": size,
        "commit": lambda revision: revision[:10],
        "path_of": path_of,
        "words": _words,
        "ticks": _ticks,
        "json": lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2).decode(),
    }
    made.globals |= {"asset": assets.address, "query": _query}
    return made


def tone(word: str) -> str:
    """How a state is shown: good, bad, busy, wait, or off."""
    return _TONE.get(word.replace("-", "").lower(), "off")


def span(seconds: float | None) -> str:
    """A duration in words for a table: 0.4 s, 12 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: int) -> str:
    """Bytes in words."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        shown = count / 1000
        if shown < 1000 or unit == "GB":
            return f"{shown:.1f} {unit}"
        count = round(shown)
    return ""


def between(begin: str | None, end: str | None, now: datetime) -> float | None:
    """Seconds from one time to another, or to now."""
    if begin is None:
        return None
    until = datetime.fromisoformat(end) if end is not None else now
    return max(0.0, (until - datetime.fromisoformat(begin)).total_seconds())


def _iso(at: datetime | str) -> str:
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain_time(at: datetime | str) -> str:
    """For who reads without JavaScript."""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _words(name: str) -> str:
    """`NotFound` as people say it."""
    text = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return text[:1].upper() + text[1:]


def _ticks(text: str | None) -> Markup:
    """A sentence in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    parts = _TICKED.split(text or "")
    shown = [
        escape(part) if at % 2 == 0 else Markup("<code>{}</code>").format(part)
        for at, part in enumerate(parts)
    ]
    return Markup("").join(shown)


def _query(path: str, given: Mapping[str, Any] | Iterable[tuple[str, Any]], **more: Any) -> str:
    """An address with parameters; those that are None or empty are left out."""
    wanted = {name: value for name, value in {**dict(given), **more}.items() if value not in (None, "")}
    return f"{path}?{urlencode(wanted)}" if wanted else path
