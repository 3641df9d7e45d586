"""`/reconciler/sign-in`, `…/sign-in/callback`, `…/sign-in/token`, `/reconciler/sign-out`: people, by OpenID Connect.

A browser is sent to the identity provider and comes back with a code. What must be remembered meanwhile it carries
itself, in a cookie that only this server can have made: nobody else's sign-in can be slipped into it. A command line
gets a code for a minute instead of the cookie, which is of use only to who holds the verifier.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from datetime import timedelta
from typing import Annotated, Any

import structlog
from litestar import MediaType, Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from pydantic import Field

from api import pages, problems
from api.auth import COOKIE, Who, session_cookie
from api.native import vouchers
from api.native.bodies import Body
from api.native.identity_provider import IdentityProvider, SignInError, Visit
from reconciler.access import Caller
from reconciler.commands import sign_in as commands
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation

log = structlog.get_logger(__name__)
PATH = "/reconciler/sign-in"
_BEGUN, _CODE = "sign-in", "sign-in-code"
_PATIENCE = timedelta(minutes=10)
_CODE_LIFE = timedelta(minutes=1)
_HERE = re.compile(
    r"/(?!/)[!-\[\]-~]{0,1999}"
)  # a path of this server, printable ASCII without the backslash
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_AWAY: dict[int, ResponseSpec] = {
    status: ResponseSpec(None, generate_examples=False, description=told)
    for status, told in ((302, "Elsewhere, by `Location`"), (303, "Signed in: where it was begun"))
}


class CodeBody(Body):
    """What a command line was handed, and what it made up at the start."""

    code: str = Field(max_length=4000)
    verifier: str = Field(pattern="^[A-Za-z0-9._~-]{43,128}$")


@get(PATH, opt={"open": True}, status_code=302, summary="Sign in at the identity provider")
async def sign_in(
    installation: Installation,
    request: Request[Any, Any, Any],
    to: str | None = None,
    port: int | None = None,
    challenge: str | None = None,
) -> Response[bytes]:
    """For a browser: afterwards it goes `to` a path of this server. A command line gives `port` and `challenge`."""
    try:
        provider = _provider(request)
        goal = _goal(to, port, challenge)
        state = secrets.token_urlsafe(24)
        address = await provider.address(_visit(installation, state))
    except SignInError as error:
        return _refusal(request, error, None)
    carried = vouchers.issue(
        installation.keys, _BEGUN, goal | {"state": state}, installation.now() + _PATIENCE
    )
    cookie = session_cookie(installation, _name(state), carried, PATH, int(_PATIENCE.total_seconds()))
    return Response(b"", status_code=302, headers=_to(address), cookies=[cookie])


@get(
    f"{PATH}/callback",
    opt={"open": True},
    media_type=MediaType.HTML,
    responses=_AWAY,
    summary="Where the identity provider sends browsers back to",
)
async def callback(
    installation: Installation,
    request: Request[Any, Any, Any],
    given: Annotated[str, Parameter(query="state", max_length=200)] = "",
    code: Annotated[str, Parameter(max_length=4000)] = "",
    error: Annotated[str, Parameter(max_length=4000)] = "",
) -> Response[bytes]:
    """Only in the browser that has begun the sign-in, and within ten minutes."""
    attempts, who = request.app.state.credentials.attempts, _who(request)
    attempts.check(who)
    begun: dict[str, Any] | None = None
    try:
        provider = _provider(request)
        begun = _begun(installation, request, given)
        user = await _user(installation, provider, given, code, error)
        answer = await _done(installation, begun, user, who[0])
    except SignInError as refused:
        if refused.status == 400:
            attempts.wrong(who)
        again = f"{installation.url}{PATH}" if begun is None or "port" not in begun else None
        answer = _refusal(request, refused, again)
    if begun is not None:  # it is used up
        answer.set_cookie(session_cookie(installation, _name(given), "", PATH, 0))
    return answer


@post(f"{PATH}/token", opt={"open": True}, summary="A token for the command line that has begun a sign-in")
async def token(
    installation: Installation, request: Request[Any, Any, Any], data: CodeBody
) -> dict[str, Any]:
    """For the code that its port was told, within a minute; `verifier` is what its `challenge` was made of."""
    if request.app.state.identity_provider is None:
        raise NotFound("NoProvider", "this server has no identity provider (the setting `oidc`)")
    attempts, who = request.app.state.credentials.attempts, _who(request)
    attempts.check(who)
    fields = vouchers.read(installation.keys, _CODE, data.code, installation.now())
    shown = vouchers.challenge_of(data.verifier)
    if fields is None or not hmac.compare_digest(shown, fields["challenge"]):
        attempts.wrong(who)
        raise Forbidden(
            "CodeRefused",
            "this code is not, or no longer, good here: it lives for a minute; run `steersman login`",
        )
    return await commands.sign_in(installation, fields["user"], who[0])


@post(
    "/reconciler/sign-out",
    status_code=204,
    summary="End the token of this request, and forget it in the browser",
)
async def sign_out(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[None]:
    """It ends at once, everywhere; only what a sign-in has given can be ended so."""
    await commands.sign_out(installation, caller)
    request.app.state.credentials.forget()
    return Response(None, status_code=204, cookies=[session_cookie(installation, COOKIE, "", "/", 0)])


def _provider(request: Request[Any, Any, Any]) -> IdentityProvider:
    found: IdentityProvider | None = request.app.state.identity_provider
    if found is None:
        raise SignInError(
            404,
            "NoProvider",
            "this server has no identity provider (the setting `oidc`); use a token: an administrator makes one with "
            "`steersman token create NAME --subject User/NAME`",
        )
    return found


def _goal(to: str | None, port: int | None, challenge: str | None) -> dict[str, Any]:
    """What is to come after, checked: nobody is sent to another server."""
    if port is not None or challenge is not None:
        if to is not None:
            raise SignInError(400, "BadRequest", "give either `to`, or `port` and `challenge`")
        if port is None or not 1 <= port <= 65535 or not _CHALLENGE.fullmatch(challenge or ""):
            raise SignInError(
                400, "BadRequest", "`port` (1 to 65535) and `challenge` (S256, RFC 7636) go together"
            )
        return {"port": port, "challenge": challenge}
    if to is not None and not _HERE.fullmatch(to):
        raise SignInError(
            400, "BadRequest", "`to` is a path of this server, as /x, with odd characters encoded"
        )
    return {} if to is None else {"to": to}


def _visit(installation: Installation, state: str) -> Visit:
    """Made of `state` alone, so that any daemon with this key can go on with it."""
    nonce, verifier = (installation.keys.mac(f"{_BEGUN}-{each}", state) for each in ("nonce", "verifier"))
    return Visit(state, nonce, verifier, f"{installation.url}{PATH}/callback")


def _begun(installation: Installation, request: Request[Any, Any, Any], state: str) -> dict[str, Any]:
    """What this browser has carried since it began the sign-in of this state."""
    carried = request.cookies.get(_name(state), "")
    fields = vouchers.read(installation.keys, _BEGUN, carried, installation.now())
    if fields is None or fields["state"] != state:
        raise SignInError(
            400,
            "NotBegun",
            f"this sign-in was not begun in this browser at {installation.url}, is done already, or took more than "
            "ten minutes",
        )
    return fields


async def _user(
    installation: Installation, provider: IdentityProvider, state: str, code: str, error: str
) -> str:
    """The User who came back."""
    if error:
        raise SignInError(403, "ProviderRefused", f"the identity provider has not let you in: {error[:200]}")
    if not code:
        raise SignInError(400, "BadRequest", "the identity provider has sent neither a code nor an error")
    identity = await provider.identity(_visit(installation, state), code)
    user = commands.user_of(installation, identity)
    if user is None:
        subject = json.dumps(identity.subject, ensure_ascii=False)  # as YAML quotes it too
        raise SignInError(
            403,
            "NotDeclared",
            f"the identity provider knows you as {subject}, which is no User here; have this committed in the spec "
            "of yours",
            commit=f"oidc_subject: {subject}",
        )
    return user


async def _done(
    installation: Installation, begun: dict[str, Any], user: str, address: str | None
) -> Response[bytes]:
    """Signed in: a code for the command line, or the cookie and where it goes on."""
    if "port" in begun:
        fields = {"user": user, "challenge": begun["challenge"]}
        code = vouchers.issue(installation.keys, _CODE, fields, installation.now() + _CODE_LIFE)
        return Response(b"", status_code=302, headers=_to(f"http://127.0.0.1:{begun['port']}/?code={code}"))
    made = await commands.sign_in(installation, user, address)
    seconds = int(installation.settings.sign_in_hours * 3600)
    cookie = session_cookie(installation, COOKIE, made["token"], "/", seconds)
    if "to" in begun:
        return Response(b"", status_code=303, headers=_to(begun["to"]), cookies=[cookie])
    told = (
        f"This browser is signed in at {installation.url} until {made['expires'][:16].replace('T', ' ')} UTC."
    )
    body, headers = pages.render("signed-in", name=user.partition("/")[2], told=told)
    return Response(body, headers=headers, media_type=pages.MEDIA_TYPE, cookies=[cookie])


def _refusal(request: Request[Any, Any, Any], error: SignInError, again: str | None) -> Response[bytes]:
    """A page for who takes one, else a problem document."""
    if error.reason != "NoProvider":
        told = {"reason": error.reason, "message": error.message, "cause": repr(error.__cause__)}
        log.warning("sign-in-refused", address=_who(request)[0], **told)
    if "text/html" not in request.headers.get("accept", ""):
        return problems.problem(error.status, error.reason, error.message, {"Cache-Control": "no-store"})
    message = error.message[:1].upper() + error.message[1:] + (":" if error.commit else ".")
    body, headers = pages.render("refused", message=message, commit=error.commit, again=again)
    return Response(body, status_code=error.status, headers=headers, media_type=pages.MEDIA_TYPE)


def _name(state: str) -> str:
    """One cookie a sign-in, so that several can be under way in one browser."""
    return f"steersman-sign-in-{state[:8]}"


def _to(address: str) -> dict[str, str]:
    return {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def _who(request: Request[Any, Any, Any]) -> Who:
    return (request.client.host if request.client else None), None
