"""Applications, approval rulesets and bindings: the one pattern of all that has versions (sqedule, 5.2).

`handlers` makes the routes of one kind; what all of them have in common is written once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Response, delete, get, patch, post, put

from api.sqedule import answers, bodies
from api.sqedule.errors import bad_input
from api.sqedule.requests import OPEN, Asked, answer, body, page, reader, text, version_number, writing
from reconciler.access import Caller
from reconciler.commands import reviews as commands
from reconciler.installation import Installation
from reconciler.model.review import Kind, Ref
from reconciler.queries import reviews as queries

Listed = Callable[[Installation, Asked, Caller], Awaitable[list[dict[str, Any]]]]

APPLICATIONS = "/v1/applications"
RULESETS = "/v1/approval-rulesets"
BINDINGS = "/v1/application-approval-ruleset-bindings"
_ONE = {
    Kind.APPLICATION: APPLICATIONS + "/{application:str}",
    Kind.RULESET: RULESETS + "/{ruleset:str}",
    Kind.BINDING: BINDINGS + "/{application:str}/{ruleset:str}",
}
_NUMBER, _ID = "version_number", "version_id"
_PROPOSAL = {kind: f"{one}/proposals/{{{_ID}:str}}" for kind, one in _ONE.items()}


def handlers(kind: Kind) -> list[Any]:
    """The routes of one kind."""
    return [*_looking(kind), *_proposing(kind), *_beginning(kind)]


def _ref(kind: Kind, request: Asked) -> Ref:
    parts = {name: text(request, name) for name in ("application", "ruleset") if name in request.path_params}
    return Ref(kind, **parts)


def _looking(kind: Kind) -> list[Any]:
    one, words, named = _ONE[kind], Ref(kind).words, kind.value

    @get(_ROOTS[kind], opt=OPEN, summary=f"Every {words}",
         name=f"{named}-list", operation_id=f"{named}-list")  # fmt: skip
    async def all_of(installation: Installation, request: Asked) -> Response[bytes]:
        """A page of them."""
        return answer({"items": await _LISTS[kind](installation, request, reader(request))})

    @get(one, opt=OPEN, summary=f"One {words}", name=f"{named}-get", operation_id=f"{named}-get")
    async def read(installation: Installation, request: Asked) -> Response[bytes]:
        """With the version that is in force."""
        found = await queries.get(installation, reader(request), _ref(kind, request))
        return answer(answers.form_b(answers.shown_to(installation, request), found))

    @get(f"{one}/versions", opt=OPEN, summary=f"Approved versions of one {words}",
         name=f"{named}-versions", operation_id=f"{named}-versions")  # fmt: skip
    async def version_list(installation: Installation, request: Asked) -> Response[bytes]:
        """Highest number first."""
        return await _listed(installation, request, _ref(kind, request), approved=True)

    @get(f"{one}/versions/{{{_NUMBER}:str}}", opt=OPEN, summary=f"An approved version of one {words}",
         name=f"{named}-version", operation_id=f"{named}-version")  # fmt: skip
    async def version_get(installation: Installation, request: Asked) -> Response[bytes]:
        """By its number."""
        number = version_number(request, _NUMBER)
        found = await queries.version(installation, reader(request), _ref(kind, request), number)
        return answer(answers.form_a(answers.shown_to(installation, request), found))

    @get(f"{one}/proposals", opt=OPEN, summary=f"Proposals for one {words}",
         name=f"{named}-proposals", operation_id=f"{named}-proposals")  # fmt: skip
    async def proposal_list(installation: Installation, request: Asked) -> Response[bytes]:
        """Oldest first."""
        return await _listed(installation, request, _ref(kind, request), approved=False)

    @get(_PROPOSAL[kind], opt=OPEN, summary=f"A proposal for one {words}",
         name=f"{named}-proposal", operation_id=f"{named}-proposal")  # fmt: skip
    async def proposal_get(installation: Installation, request: Asked) -> Response[bytes]:
        """By the id of the version that it would be."""
        id = version_number(request, _ID)
        found = await queries.proposed(installation, reader(request), _ref(kind, request), id)
        return answer(answers.form_a(answers.shown_to(installation, request), found))

    return [all_of, read, version_list, version_get, proposal_list, proposal_get]


def _proposing(kind: Kind) -> list[Any]:
    one, words, named = _PROPOSAL[kind], Ref(kind).words, kind.value

    @patch(one, summary=f"Adjust a proposal for one {words}",
           name=f"{named}-adjust", operation_id=f"{named}-adjust")  # fmt: skip
    async def adjust(installation: Installation, request: Asked) -> Response[bytes]:
        """Without a state it is a draft again; once it is final it is committed."""
        id = version_number(request, _ID)
        await commands.require(installation, request.user, _ref(kind, request), id)
        given = bodies.version(kind, await body(request))
        made = await commands.adjust(installation, writing(request), _ref(kind, request), id, given)
        return answer(answers.form_a(answers.shown_to(installation, request), made))

    @put(f"{one}/state", summary=f"Review a proposal for one {words}",
         name=f"{named}-review", operation_id=f"{named}-review")  # fmt: skip
    async def review(installation: Installation, request: Asked) -> Response[bytes]:
        """Approve or reject one that is in review."""
        id = version_number(request, _ID)
        await commands.require(installation, request.user, _ref(kind, request), id)
        state = bodies.verdict(await body(request), "state")
        made = await commands.review(installation, writing(request), _ref(kind, request), id, state)
        return answer(answers.form_a(answers.shown_to(installation, request), made))

    @delete(one, status_code=200, summary=f"Delete a proposal for one {words}",
            name=f"{named}-delete", operation_id=f"{named}-delete")  # fmt: skip
    async def remove(installation: Installation, request: Asked) -> Response[bytes]:
        """With all that was proposed."""
        id = version_number(request, _ID)
        await commands.delete(installation, writing(request), _ref(kind, request), id)
        return answer({})

    return [adjust, review, remove]


def _beginning(kind: Kind) -> list[Any]:
    one, words, named = _ONE[kind], Ref(kind).words, kind.value

    @post(one if kind is Kind.BINDING else _ROOTS[kind], summary=f"A new {words}",
          name=f"{named}-add", operation_id=f"{named}-add")  # fmt: skip
    async def add(installation: Installation, request: Asked) -> Response[bytes]:
        """With its first version."""
        if kind is Kind.BINDING:
            await commands.require_ends(installation, request.user, _ref(kind, request))
        else:
            commands.require_writer(request.user)
        data = await body(request)
        new = _ref(kind, request) if kind is Kind.BINDING else _new(kind, data)
        given = bodies.version_in(kind, data)
        if given is None:
            raise bad_input("version is missing")
        if given.step == "abandon":
            raise bad_input("proposal_state must be draft or final, for something new")
        made = await commands.create(installation, writing(request), new, given)
        return answer(answers.form_a(answers.shown_to(installation, request), made, made=True), 201)

    @patch(one, summary=f"Change one {words}", name=f"{named}-change", operation_id=f"{named}-change")
    async def change(installation: Installation, request: Asked) -> Response[bytes]:
        """Give it another id, and begin a new version from the one that is in force."""
        await commands.require(installation, request.user, _ref(kind, request))
        data = await body(request)
        name = None if kind is Kind.BINDING else bodies.id_of(data)
        given = bodies.version_in(kind, data)
        made = await commands.change(installation, writing(request), _ref(kind, request), name, given)
        return answer(answers.form_a(answers.shown_to(installation, request), made))

    return [add, change]


@get(
    APPLICATIONS + "/{application:str}/approval-ruleset-bindings",
    opt=OPEN,
    summary="The bindings of one application",
)
async def bindings_of(installation: Installation, request: Asked) -> Response[bytes]:
    """Each without the application."""
    limit, offset = page(request)
    name = text(request, "application")
    found = await queries.bindings(installation, reader(request), name, limit, offset)
    shown = answers.shown_to(installation, request)
    return answer({"items": [answers.binding(shown, each, "application") for each in found]})


def _new(kind: Kind, data: dict[str, Any]) -> Ref:
    name = bodies.id_of(data)
    if name is None:
        raise bad_input("id is missing")
    return Ref(kind, application=name) if kind is Kind.APPLICATION else Ref(kind, ruleset=name)


async def _listed(installation: Installation, request: Asked, ref: Ref, *, approved: bool) -> Response[bytes]:
    limit, offset = page(request)
    found, copied = await queries.versions(
        installation, reader(request), ref, approved=approved, limit=limit, offset=offset
    )
    shown = answers.shown_to(installation, request)
    return answer({"items": [answers.listed_version(shown, each, copied) for each in found]})


async def _applications(installation: Installation, request: Asked, caller: Caller) -> list[dict[str, Any]]:
    found = await queries.applications(installation, caller, *page(request))
    shown = answers.shown_to(installation, request)
    return [answers.named(shown, each) for each in found]


async def _rulesets(installation: Installation, request: Asked, caller: Caller) -> list[dict[str, Any]]:
    found = await queries.rulesets(installation, caller, *page(request))
    shown = answers.shown_to(installation, request)
    return [answers.listed_ruleset(shown, *each) for each in found]


async def _bindings(installation: Installation, request: Asked, caller: Caller) -> list[dict[str, Any]]:
    found = await queries.bindings(installation, caller, None, *page(request))
    shown = answers.shown_to(installation, request)
    return [answers.binding(shown, each) for each in found]


_ROOTS = {Kind.APPLICATION: APPLICATIONS, Kind.RULESET: RULESETS, Kind.BINDING: BINDINGS}
_LISTS: dict[Kind, Listed] = {
    Kind.APPLICATION: _applications,
    Kind.RULESET: _rulesets,
    Kind.BINDING: _bindings,
}
