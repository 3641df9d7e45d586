"""Releases: registered, listed, read, described anew; what has happened to them, and what people say (sqedule, 4, 5.1,
7.5).
"""

from __future__ import annotations

from typing import Any

from litestar import Response, get, patch, post

from api.sqedule import answers, bodies
from api.sqedule.requests import OPEN, Asked, answer, body, page, reader, release_id, text
from reconciler.commands import requests as commands
from reconciler.installation import Installation
from reconciler.queries import requests as queries
from reconciler.queries import reviews

_ALL = "/v1/applications/{application:str}/releases"
_ONE = _ALL + "/{id:str}"


@get("/v1/releases", opt=OPEN, summary="Releases of all applications, newest first")
async def release_list(installation: Installation, request: Asked) -> Response[bytes]:
    """Each with its application, without its bindings."""
    shown, caller = answers.shown_to(installation, request), reader(request)
    limit, offset = page(request)
    reviews.require_reader(caller)
    found = await queries.of_application(installation, caller, None, limit, offset)
    named = await reviews.with_applications(installation, caller, found)
    return answer({"items": [answers.release_of(shown, each, of) for each, of in named]})


@get(_ALL, opt=OPEN, summary="Releases of an application, newest first")
async def releases_of(installation: Installation, request: Asked) -> Response[bytes]:
    """Without their bindings."""
    shown, caller, name = (
        answers.shown_to(installation, request),
        reader(request),
        text(request, "application"),
    )
    limit, offset = page(request)
    await reviews.require_application(installation, caller, name)
    found = await queries.of_application(installation, caller, name, limit, offset)
    return answer({"items": [answers.release(shown, each) for each in found]})


@post(_ALL, summary="Register a release")
async def release_add(installation: Installation, request: Asked) -> Response[bytes]:
    """It is judged in the background: the answer never has the verdict."""
    told = bodies.release(await body(request))
    given: dict[str, Any] = {"source_identity": None, "metadata": None, "comments": None} | told
    made = await commands.register(installation, request.user, text(request, "application"), **given)
    return answer(answers.whole_release(answers.shown_to(installation, request), made), 201)


@get(_ONE, opt=OPEN, summary="A release")
async def release_get(installation: Installation, request: Asked) -> Response[bytes]:
    """With the bindings that it was made with, and the versions of that moment."""
    number, caller = release_id(request), reader(request)
    reviews.require_reader(caller)
    found = await queries.get(installation, caller, number, text(request, "application"))
    return answer(answers.whole_release(answers.shown_to(installation, request), found))


@patch(_ONE, summary="Describe a release anew")
async def release_change(installation: Installation, request: Asked) -> Response[bytes]:
    """What is given is replaced; the state cannot be."""
    number, name = release_id(request), text(request, "application")
    reviews.require_reader(request.user)
    await queries.get(installation, request.user, number, name)
    told = bodies.release(await body(request))
    changed = await commands.patch(installation, request.user, name, number, **told)
    return answer(answers.whole_release(answers.shown_to(installation, request), changed))


@get(_ONE + "/events", opt=OPEN, summary="What has happened to a release")
async def event_list(installation: Installation, request: Asked) -> Response[bytes]:
    """All there is."""
    number, caller = release_id(request), reader(request)
    reviews.require_reader(caller)
    await queries.get(installation, caller, number, text(request, "application"))
    found, outcomes = await queries.events(installation, caller, number)
    shown = answers.shown_to(installation, request)
    return answer({"items": answers.events(shown, found, outcomes)})


@get(_ONE + "/manual-approvals", opt=OPEN, summary="What people have said of a release")
async def approval_list(installation: Installation, request: Asked) -> Response[bytes]:
    """In order of time."""
    number, caller = release_id(request), reader(request)
    reviews.require_reader(caller)
    await queries.get(installation, caller, number, text(request, "application"))
    found = await queries.decisions(installation, caller, number)
    shown = answers.shown_to(installation, request)
    return answer({"items": [answers.decision(shown, each) for each in found]})


@post(_ONE + "/manual-approvals", summary="Approve or reject a release")
async def approval_add(installation: Installation, request: Asked) -> Response[bytes]:
    """By a manual rule of it, if the caller is among those who decide that."""
    number, name = release_id(request), text(request, "application")
    reviews.require_reader(request.user)
    await queries.get(installation, request.user, number, name)
    rule, verdict, comment = bodies.decision(await body(request))
    made = await commands.decide(installation, request.user, number, rule, verdict, comment)
    return answer(answers.decision(answers.shown_to(installation, request), made), 201)
