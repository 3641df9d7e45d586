"""Asks another server whether a release may go ahead, once: posts it as JSON and keeps what is answered (sqedule, 7.6).

As all that is sent to addresses which somebody else wrote, it goes to public ones only unless an operator allows
others, and is signed. Called by the pass of requests; it never tries again by itself.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httpcore

from reconciler.errors import Refused
from reconciler.sealing import Keys
from reconciler.sending.webhook import Backend, signed

SECONDS = 10.0
LARGEST = 64 * 1024
_REDIRECTS = 5
_KEEP_METHOD = (307, 308)


@dataclass(frozen=True, slots=True)
class Check:
    """Whom to ask, and how to prove who asks. `authority`: certificates in PEM instead of the public ones."""

    url: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    authority: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, as it came: it may say the password back. `status` 0: nothing, and why is in `fault`."""

    status: int
    content_type: str = ""
    body: bytes = b""
    fault: str = ""

    @property
    def whole(self) -> bool:
        """Not cut off."""
        return len(self.body) < LARGEST

    @property
    def success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


async def ask(keys: Keys, check: Check, body: bytes, *, private: bool, seconds: float = SECONDS) -> Answer:
    """One try. Refused: it cannot be asked at all, by the address or the certificates it declares."""
    context = await asyncio.to_thread(_context, check)
    try:
        async with (
            asyncio.timeout(seconds),
            httpcore.AsyncConnectionPool(
                ssl_context=context, network_backend=Backend(private=private)
            ) as pool,
        ):
            return await _follow(pool, keys, check, body)
    except TimeoutError:
        return Answer(0, fault=f"{check.url} did not answer within {seconds:.0f} s")
    except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        return Answer(0, fault=f"{check.url} could not be reached: {error or type(error).__name__}")


async def _follow(pool: httpcore.AsyncConnectionPool, keys: Keys, check: Check, body: bytes) -> Answer:
    """The answer; a redirect is followed only to the same server, and only if it says to post there again."""
    url = check.url
    headers = [*signed(keys, body), *_credentials(check)]
    for _ in range(_REDIRECTS):
        async with pool.stream("POST", url, headers=headers, content=body) as answer:
            told = {name.lower(): value for name, value in answer.headers}
            following = urljoin(url, told.get(b"location", b"").decode("ascii", "replace"))
            if answer.status not in _KEEP_METHOD or following == url or _server(following) != _server(url):
                kind = told.get(b"content-type", b"").decode("latin-1")
                return Answer(answer.status, kind, await _beginning(answer))
        url = following
    return Answer(0, fault=f"{check.url} redirects again and again")


async def _beginning(answer: httpcore.Response) -> bytes:
    """The first part of the body."""
    body = b""
    async for chunk in answer.aiter_stream():
        body += chunk
        if len(body) >= LARGEST:
            break
    return body[:LARGEST]


def _credentials(check: Check) -> list[tuple[bytes, bytes]]:
    if check.username is None:
        return []
    basic = base64.b64encode(check.username.encode() + b":" + (check.password or b""))
    return [(b"Authorization", b"Basic " + basic)]


def _context(check: Check) -> ssl.SSLContext | None:
    if urlsplit(check.url).scheme != "https":
        return None
    if check.authority is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=check.authority)
    except (ssl.SSLError, ValueError) as error:
        raise Refused("BadCertificate", f"the tls_ca_certificate for {check.url} cannot be read") from error


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
