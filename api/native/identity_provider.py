"""The identity provider, spoken to as OpenID Connect says: where to send a browser, and who comes back from there.

One `IdentityProvider` an app, asked by the routes of sign-in. authlib writes the requests and joserfc reads the
tokens; both are loaded when somebody first signs in. It knows no User of ours, and keeps nothing but what the provider
publishes about itself.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from api.native.vouchers import challenge_of
from reconciler.commands.sign_in import Identity
from reconciler.settings import OidcProvider, is_safe_address

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

TIMEOUT = 10.0
"""Seconds that the provider has for each thing it is asked."""
_KEPT = 3600.0
_PAUSE = 5.0
_LEEWAY = 60
_SUBJECT_LENGTH = 255
_HEADER_BYTES = 16_384
_FORM = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
_NONSENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
# Only what is signed with a private key: with the others, whoever knows the client's secret could sign.
_ALGORITHMS = [f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)] + [
    "EdDSA",
    "Ed25519",
]


class SignInError(Exception):
    """Why somebody is not signed in: an HTTP status, a word, a sentence; `commit`: what would let them in."""

    def __init__(self, status: int, reason: str, message: str, commit: str | None = None) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.commit = commit


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's way to the provider and back to `callback`; `verifier` is known to this server only."""

    state: str
    nonce: str
    verifier: str
    callback: str


@dataclass(frozen=True, slots=True)
class _Published:
    """What the provider says about itself, and when it was read."""

    issuer: str
    authorization: str
    token: str
    userinfo: str | None
    auth_method: str
    keys: KeySet
    at: float


class IdentityProvider:
    """The provider of the settings."""

    def __init__(self, settings: OidcProvider) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._known: _Published | None = None
        self._failed: tuple[float, SignInError] | None = None

    async def address(self, visit: Visit) -> str:
        """Where a browser is to go to sign in."""
        published = await self._published()  # loads the library too
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri

        address = prepare_grant_uri(
            published.authorization,
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=visit.callback,
            scope=self._settings.scopes,
            state=visit.state,
            nonce=visit.nonce,
            code_challenge=challenge_of(visit.verifier),
            code_challenge_method="S256",
        )
        return str(address)

    async def identity(self, visit: Visit, code: str) -> Identity:
        """Who came back with this code, as the provider has signed it."""
        published = await self._published()
        given = await self._exchanged(published, visit, code)
        token = given.get("id_token")
        if not isinstance(token, str):
            raise _nonsense("it gave no id token; is `openid` among its scopes?")
        claims = await self._claims(published, token, visit.nonce)
        if self._settings.match_email and "email" not in claims and published.userinfo:
            claims = await self._with_userinfo(published.userinfo, given.get("access_token"), claims)
        verified = claims.get("email_verified") in (True, "true")  # some write it as a text
        email = claims.get("email")
        return Identity(claims["sub"], email if verified and isinstance(email, str) else None)

    async def _published(self, stale: _Published | None = None) -> _Published:
        """Metadata and keys: kept for an hour, read anew when what was `stale` is still what is known."""
        async with self._lock:
            now = time.monotonic()
            if self._known is not None and self._known is not stale and now - self._known.at < _KEPT:
                return self._known
            if self._failed is not None and now - self._failed[0] < _PAUSE:
                raise self._failed[1].with_traceback(None)
            try:
                self._known = await self._fetched()
            except SignInError as error:
                self._failed = time.monotonic(), error
                raise
            return self._known

    async def _fetched(self) -> _Published:
        await asyncio.to_thread(_load)
        issuer = self._settings.issuer.rstrip("/")
        async with _in_time(), httpx.AsyncClient(verify=await _trust(), timeout=TIMEOUT) as client:
            found = await _json(client, f"{issuer}/.well-known/openid-configuration")
            name = found.get("issuer")
            if not isinstance(name, str) or name.rstrip("/") != issuer:
                raise _nonsense(
                    f"it calls itself {name!r}, but the setting oidc.issuer is {self._settings.issuer!r}"
                )
            keys = await _json(client, _endpoint(found, "jwks_uri", issuer))
        methods = str(found.get("token_endpoint_auth_methods_supported", "client_secret_basic"))
        by_post = "client_secret_post" in methods and "client_secret_basic" not in methods
        return _Published(
            name,
            _endpoint(found, "authorization_endpoint", issuer),
            _endpoint(found, "token_endpoint", issuer),
            _endpoint(found, "userinfo_endpoint", issuer) if "userinfo_endpoint" in found else None,
            "client_secret_post" if by_post else "client_secret_basic",
            await asyncio.to_thread(_imported, keys),
            time.monotonic(),
        )

    async def _exchanged(self, published: _Published, visit: Visit, code: str) -> dict[str, Any]:
        """What the provider gives for the code."""
        from authlib.oauth2.auth import ClientAuth
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=visit.callback, code_verifier=visit.verifier
        )
        secret = self._secret()
        auth = ClientAuth(self._settings.client_id, secret, published.auth_method if secret else "none")
        url, headers, body = auth.prepare("POST", published.token, dict(_FORM), body)
        async with _in_time(), httpx.AsyncClient(verify=await _trust(), timeout=TIMEOUT) as client:
            response = await client.post(url, headers=headers, content=body)
        _check_status(response, published.token)
        given = _object(response, published.token)
        if "error" in given or response.status_code != 200:
            raise _refused_code(str(given.get("error", response.status_code)))
        return given

    def _secret(self) -> str | None:
        try:
            return self._settings.secret()
        except (OSError, UnicodeDecodeError) as error:
            raise SignInError(
                503, "ProviderUnavailable", "the file of oidc.client_secret_file cannot be read"
            ) from error

    async def _claims(self, published: _Published, token: str, nonce: str) -> dict[str, Any]:
        """What the id token says, if it is good; keys that are not known yet are asked for once."""
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            try:
                return self._verified(published, token, nonce)
            except InvalidKeyIdError:
                newer = await self._published(stale=published)
                return self._verified(newer, token, nonce)
        except (JoseError, *_NONSENSE) as error:
            raise SignInError(
                403,
                "IdentityRefused",
                f"what the identity provider says of you is not accepted: {_why(error)}",
            ) from error

    def _verified(self, published: _Published, token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jws, jwt

        registry = jws.JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False)
        registry.max_header_length = _HEADER_BYTES
        claims = jwt.decode(token, published.keys, registry=registry).claims
        jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": published.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._settings.client_id) != self._settings.client_id:
            raise ValueError("it was made for another client (`azp`)")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= _SUBJECT_LENGTH:
            raise ValueError("its `sub` is no name")
        return claims

    async def _with_userinfo(self, url: str, access: Any, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims, with what the provider tells about the same person only when it is asked (OIDC core, 5.3)."""
        async with _in_time(), httpx.AsyncClient(verify=await _trust(), timeout=TIMEOUT) as client:
            found = await _json(client, url, {"Authorization": f"Bearer {access}"})
        if found.get("sub") != claims["sub"]:
            raise _nonsense("its userinfo speaks of somebody else")
        return found | claims


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """At most `TIMEOUT` seconds for all that is inside; the network's failures as sentences."""
    try:
        async with asyncio.timeout(TIMEOUT):
            yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise _unavailable(f"has not answered in {TIMEOUT:.0f} seconds") from error
    except httpx.TransportError as error:
        raise _unavailable("cannot be reached") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _nonsense(f"{type(error).__name__}") from error


async def _json(client: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at an address of the provider."""
    response = await client.get(url, headers={"Accept": "application/json"} | (headers or {}))
    _check_status(response, url)
    if response.status_code != 200:
        raise _nonsense(f"{url} answers {response.status_code}")
    return _object(response, url)


def _object(response: httpx.Response, url: str) -> dict[str, Any]:
    try:
        found = response.json()
    except (ValueError, RecursionError) as error:
        raise _nonsense(f"{url} is no JSON") from error
    if not isinstance(found, dict):
        raise _nonsense(f"{url} is no JSON object")
    return found


def _check_status(response: httpx.Response, url: str) -> None:
    if response.status_code >= 500:
        raise _unavailable(f"has a fault of its own: {url} answers {response.status_code}")


def _endpoint(found: Mapping[str, Any], name: str, issuer: str) -> str:
    """An address in the metadata, no less safe than the issuer's own."""
    url = found.get(name)
    if not isinstance(url, str) or not is_safe_address(url):
        raise _nonsense(f"its {name} is {url!r}")
    if issuer.startswith("https:") and not url.startswith("https:"):
        raise _nonsense(f"its {name} is not https: {url!r}")
    return url


def _imported(found: Mapping[str, Any]) -> KeySet:
    """The keys that verify signatures; those of a kind that is not known are passed over."""
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, KeySet

    keys = []
    entries = found.get("keys")
    for entry in entries if isinstance(entries, list) else []:
        try:
            if entry["kty"] in ("RSA", "EC", "OKP") and entry.get("use", "sig") == "sig":
                keys.append(JWKRegistry.import_key(entry))
        except (JoseError, *_NONSENSE):
            continue
    if not keys:
        raise _nonsense("it publishes no key that signatures can be checked with")
    return KeySet(keys)


def _load() -> None:
    """Take the time that loading the libraries takes, away from the event loop."""
    importlib.import_module("authlib.oauth2")
    importlib.import_module("joserfc.jwt")


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _trust() -> ssl.SSLContext:
    """The certificates that are trusted; loading them takes a while."""
    return await asyncio.to_thread(_certificates)


def _why(error: Exception) -> str:
    """What is wrong with an id token, for people."""
    from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError, InvalidKeyIdError

    if isinstance(error, BadSignatureError):
        return "its signature is wrong"
    if isinstance(error, InvalidKeyIdError):
        return "it is signed with a key that the provider does not publish"
    if isinstance(error, ExpiredTokenError):
        return "it has expired; is the time right here and there?"
    if isinstance(error, ClaimError):
        return f"its `{error.claim}` is missing, or not the one that was asked for"
    if type(error) is ValueError:
        return str(error)
    return "it cannot be read, or is signed in a way that is not accepted"


def _refused_code(error: str) -> SignInError:
    if error == "invalid_grant":
        return SignInError(
            400,
            "CodeRefused",
            "the identity provider does not take its code: it was used before, or is too old",
        )
    return SignInError(
        502,
        "ProviderRefused",
        f"the identity provider refuses this server ({error[:100]}); an operator has to look",
    )


def _unavailable(what: str) -> SignInError:
    return SignInError(503, "ProviderUnavailable", f"the identity provider {what}; try again in a moment")


def _nonsense(what: str) -> SignInError:
    return SignInError(
        502, "ProviderFault", f"the identity provider does not do as OpenID Connect says: {what}"
    )
