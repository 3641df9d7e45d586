"""`/ui/releases` and `/ui/approvals`: what was made, what waits for people with exactly what is approved, freezes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import Parameter

from api import problems
from api.dashboard import forms
from api.dashboard.run_view import listed
from api.dashboard.shell import FORM, PAGE, away, page
from reconciler.access import Caller
from reconciler.commands import gate as commands
from reconciler.commands.gate import Said
from reconciler.errors import Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.queries import gate, pipelines, releases

_PAGE = 50
_MOST = 100
_MOST_ASKED = 50
_MOST_ROWS = 60
_MOST_LINES = 120
_LONGEST_VALUE = 400
_LONGEST = 2_000
_MARKS = {"-": "minus", "+": "plus", "@": "head"}
_COMPARED = ("inputs", "environment_inputs", "providers")
_DECISIONS: Mapping[str, Literal["approved", "rejected"]] = {"approved": "approved", "rejected": "rejected"}


@get("/ui/releases", **PAGE)
async def release_list(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    application: Annotated[str, Parameter(max_length=250)] = "",
    after: Annotated[str | None, Parameter(max_length=100)] = None,
) -> Response[bytes]:
    """Newest first."""
    wrong: str | None = None
    found: dict[str, Any] = {"items": [], "next": None}
    try:
        found = await releases.page(
            installation, caller, application=application or None, limit=_PAGE, after=after
        )
    except Refused as error:
        wrong = error.message
    return page(request, "releases", found=found, application=application, after=after, wrong=wrong)


@get("/ui/approvals", **PAGE)
async def approval_list(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    everything: Annotated[bool, Parameter(query="all")] = False,
) -> Response[bytes]:
    """Requests that wait for people, freezes, and who has let what through."""
    return await _shown(installation, caller, request, {}, None, HTTPStatus.OK, everything=everything)


@post("/ui/approvals", **FORM)
async def decide(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """Approve or reject one request, as it was shown; refused: the page again, with what was written and why not."""
    given = await forms.read(request)
    try:
        await commands.decide(installation, caller, _said(given))
    except SteersmanError as error:
        code = problems.status_of(error)
        return await _shown(installation, caller, request, given, error.message, code, everything=False)
    return away("/ui/approvals")


def _said(given: Mapping[str, str]) -> Said:
    number, comment = given.get("request", ""), given.get("comment", "")
    decision = _DECISIONS.get(given.get("decision", ""))
    if not number.isdecimal() or len(number) > 18 or decision is None:
        raise Refused("BadForm", "say which request is approved or rejected")
    if len(comment) > _LONGEST:
        raise Refused(
            "TooLong", f"a comment has at most {_LONGEST:,} characters, this one has {len(comment):,}"
        )
    return Said(decision, comment, request=int(number), digest=given.get("digest") or None)


async def _shown(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    given: Mapping[str, str],
    wrong: str | None,
    code: int,
    *,
    everything: bool,
) -> Response[bytes]:
    found = await gate.open_approvals(installation, caller, all_of_them=everything)
    if everything:
        found.reverse()
    return page(
        request,
        "approvals",
        code=code,
        items=[item | {"subject": _in_words(item["subject"])} for item in found[:_MOST_ASKED]],
        left=len(found) - _MOST_ASKED,
        everything=everything,
        freezes=(await gate.freezes(installation, caller))[:_MOST],
        asking=[listed(run) for run in await pipelines.asking(installation, caller)][:_MOST],
        passes=(await gate.passes(installation, caller))[:20],
        given=given,
        wrong=wrong,
    )


def _in_words(subject: dict[str, Any] | None) -> dict[str, Any] | None:
    """What an approval is about with values as texts, what differs first, and scripts line by line."""
    if subject is None:
        return None
    compared = {part: _rows(subject[part]) for part in _COMPARED}
    scripts = [{**each, "lines": _lines(each) if each["changed"] else []} for each in subject["scripts"]]
    return subject | compared | {"scripts": scripts}


def _rows(items: list[dict[str, Any]]) -> dict[str, Any]:
    first = sorted(items, key=lambda each: not each["changed"])
    rows = [{**each, "old": _text(each["old"]), "new": _text(each["new"])} for each in first[:_MOST_ROWS]]
    return {"rows": rows, "left": len(items) - len(rows)}


def _text(value: Any) -> str:
    found = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    return found if len(found) <= _LONGEST_VALUE else f"{found[:_LONGEST_VALUE]}…"


def _lines(script: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(how it is shown, line) of what becomes of a script, with one line around."""
    old, new = ((script[name] or "").splitlines() for name in ("old", "new"))
    lines = list(islice(difflib.unified_diff(old, new, n=1, lineterm=""), 2, _MOST_LINES + 3))
    more = [("head", "…")] if len(lines) > _MOST_LINES else []
    return [
        (_MARKS.get(at[0], ""), "…" if at[0] == "@" else at[:_LONGEST_VALUE]) for at in lines[:_MOST_LINES]
    ] + more
