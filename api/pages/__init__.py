"""Pages for people who come with a browser: small HTML without scripts, under a strict content security policy.

`render` fills a template of this folder, escaping everything; called by the routes of sign-in and by `steersman login`.
It knows no request and sends nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
MEDIA_TYPE = "text/html"


def render(template: str, *, forms: bool = False, **values: Any) -> tuple[bytes, dict[str, str]]:
    """A page and the headers that go with it. `values` are what the template shows; `forms`: it has some, that go to
    this very server, and tell it where they come from.
    """
    style = _style()
    mark = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    action = "'self'" if forms else "'none'"
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{mark}'; base-uri 'none'; "
        f"form-action {action}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin" if forms else "no-referrer",
        "Cache-Control": "no-store",
    }
    return _templates().get_template(f"{template}.html").render(values | {"style": style}).encode(), headers


@cache
def _style() -> str:
    return (_FOLDER / "page.css").read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only who signs in costs this

    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
