"""Posts a body to an address that somebody else wrote: signed, once, without following it anywhere else.

Who can write such an address must not reach what only this machine can (security: requests to inside addresses):
every address that the name stands for has to be a public one, and that very address is connected to.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import secrets
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import httpcore

from reconciler.errors import Refused, Stalled, Transient
from reconciler.sealing import Keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECONDS = 10.0
_SHOWN = 2048
_PURPOSE = "webhook-signature"
_MARK = b"whsec_"
_REASON = 80
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that there is of public IPv6."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason`: what the server says of its status, one printable line; `body`: its beginning."""

    status: int
    reason: str
    body: bytes

    @property
    def success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


async def post(
    keys: Keys,
    url: str,
    body: bytes,
    *,
    private: bool,
    seconds: float = SECONDS,
    more: Mapping[str, str] | None = None,
    kind: str = "application/json",
) -> tuple[int, bytes]:
    """Status and the beginning of the answer; all else as `ask`."""
    answer = await ask(keys, url, body, private=private, seconds=seconds, more=more, kind=kind)
    return answer.status, answer.body


async def ask(
    keys: Keys,
    url: str,
    body: bytes,
    *,
    private: bool,
    seconds: float = SECONDS,
    more: Mapping[str, str] | None = None,
    kind: str = "application/json",
) -> Answer:
    """What is answered. Refused: not to that address; Transient: no answer in this time.

    `more` are further headers; `kind` is the media type of the body.
    """
    headers = [
        *signed(keys, body, kind),
        *((name.encode(), value.encode()) for name, value in (more or {}).items()),
    ]
    trust = await asyncio.to_thread(_trust) if url.startswith("https:") else None
    try:
        async with (
            asyncio.timeout(seconds),
            httpcore.AsyncConnectionPool(
                ssl_context=trust, network_backend=Backend(private=private, seconds=seconds)
            ) as pool,
            pool.stream("POST", url, headers=headers, content=body) as answer,
        ):
            shown = b""
            async for chunk in answer.aiter_stream():
                shown += chunk
                if len(shown) >= _SHOWN:
                    break
            return Answer(answer.status, _reason(answer), shown[:_SHOWN])
    except TimeoutError as error:
        raise Transient("NoAnswer", f"{url} did not answer within {seconds:.0f} s") from error
    except UnicodeError as error:
        raise Refused("BadAddress", f"{url} is no address that there can be") from error
    except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise Transient("NoAnswer", f"{url} could not be reached: {error or type(error).__name__}") from error


def _reason(answer: httpcore.Response) -> str:
    said = answer.extensions.get("reason_phrase", b"").decode(errors="replace")
    return "".join(c for c in said if c.isprintable())[:_REASON]


@cache
def _trust() -> ssl.SSLContext:
    """The public authorities; to read them takes longer than to send."""
    return httpcore.default_ssl_context()


def standard(id: str, at: datetime, body: bytes, secret: bytes | None) -> dict[str, str]:
    """The headers of Standard Webhooks: an id that is the same at each try, the time, and with a secret a signature.

    A secret that begins with `whsec_` is the base64 of the key after that, any other is the key itself. Stalled: it
    is neither.
    """
    moment = str(int(at.timestamp()))
    headers = {"webhook-id": id, "webhook-timestamp": moment}
    if secret is not None:
        mac = hmac.new(_shared(secret), f"{id}.{moment}.".encode() + body, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(mac.digest()).decode()}"
    return headers


def _shared(secret: bytes) -> bytes:
    secret = secret.strip()
    if secret.startswith(_MARK):
        try:
            secret = base64.b64decode(secret.removeprefix(_MARK), validate=True)
        except ValueError as error:
            told = "the Secret begins with whsec_, but what follows is not base64; seal it anew"
            raise Stalled("SecretUnusable", told) from error
    if not secret:
        raise Stalled("SecretUnusable", "the Secret is empty, so that nothing can be signed with it")
    return secret


def signed(keys: Keys, body: bytes, kind: str = "application/json") -> list[tuple[bytes, bytes]]:
    """The headers that each body is sent with: what it is, from whom, and the proof of that."""
    nonce = secrets.token_hex(8).encode()
    return [
        (b"Content-Type", kind.encode()),
        (b"User-Agent", b"steersman"),
        (b"X-Payload-Nonce", nonce),
        (b"X-Payload-Signature", base64.b64encode(_key(keys).sign(body + nonce))),
    ]


def public_key(keys: Keys) -> str:
    """What signatures are checked with, in base64."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64encode(_key(keys).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _key(keys: Keys) -> Ed25519PrivateKey:
    """The same for all daemons with this key file, and for nothing else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )  # only who sends pays for it

    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys.mac(_PURPOSE, "1")))


class Backend(httpcore.AnyIOBackend):
    """Connections to addresses that have been looked at; `seconds` are shared by all that a name stands for."""

    def __init__(self, *, private: bool, seconds: float = SECONDS) -> None:
        self._private = private
        self._seconds = seconds

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first that answers of the addresses which the name stands for."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        inside = [each for each in addresses if not public(each)]
        if inside and not self._private:
            raise Refused(
                "PrivateAddress",
                f"{host} is {inside[0]}, which is no public address; an operator allows such by the setting "
                "private_addresses",
            )
        *others, last = addresses
        share = self._seconds / len(addresses)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await super().connect_tcp(address, port, share, local_address, socket_options)
        return await super().connect_tcp(last, port, timeout, local_address, socket_options)


def public(address: str) -> bool:
    """May everybody have this address sent to? An IPv4 address within one of IPv6 is looked at as well."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
    if inner is not None:
        return public(str(inner))
    if ip not in _UNICAST or not ip.is_global or ip.teredo is not None:
        return False
    return ip.sixtofour is None or public(str(ip.sixtofour))
