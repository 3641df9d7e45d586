"""Sends a mail through the operator's server, marked as sent by a program (RFC 3834)."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from reconciler.errors import Refused, Transient
from reconciler.settings import Smtp

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail; `to` and `cc` are address lists, `id` is what its Message-ID is made of, if it is to stay the same.

    `only`: addresses that it goes to now, as the others have it.
    """

    subject: str
    text: str
    to: str | None = None
    cc: str | None = None
    in_reply_to: str | None = None
    id: str | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """It was taken, but not for these addresses: `put_off` for now (4xx), `refused` for good; each with why."""

    put_off: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def send(server: Smtp, mail: Mail) -> Taken:
    """Blocks. Refused: it is taken for none; Transient: nor is it for now, or there is no server. Of a mail to some
    `only`, each is told of, also where it is taken for none.
    """
    message = EmailMessage()
    try:
        headers = {"To": mail.to, "Cc": mail.cc, "In-Reply-To": mail.in_reply_to}
        for name, value in {"From": server.sender, "Subject": mail.subject, **headers}.items():
            if value is not None:
                message[name] = value
    except ValueError as error:
        raise Refused("BadMail", f"the mail cannot be written: {error}") from error
    message["Date"] = formatdate()
    message["Auto-Submitted"] = "auto-generated"
    domain = server.sender.rpartition("@")[2]
    message["Message-ID"] = f"<{mail.id}@{domain}>" if mail.id else make_msgid(domain=domain)
    message.set_content(mail.text)
    try:
        with _connected(server) as connection:
            if server.username is not None:
                connection.login(server.username, server.secret() or "")
            return _taken(connection.send_message(message, to_addrs=mail.only or None))
    except smtplib.SMTPResponseException as error:
        told = f"{error.smtp_code} {_text(error.smtp_error)}"
        raise Refused("MailRefused", f"{server.host} does not take the mail: {told}") from error
    except smtplib.SMTPRecipientsRefused as error:
        found = _taken(error.recipients)
        if mail.only:
            return found
        told = "; ".join(f"{each}: {why}" for each, why in {**found.put_off, **found.refused}.items())
        if found.put_off:
            raise Transient("MailPutOff", f"{server.host} puts the mail off for now: {told}") from error
        raise Refused("MailRefused", f"{server.host} takes none of the addresses: {told}") from error
    except (OSError, smtplib.SMTPException) as error:
        raise Transient("NoMailServer", f"{server.host}:{server.port} could not be used: {error}") from error


def _taken(found: Mapping[str, tuple[int, bytes]]) -> Taken:
    told = {address: f"{code} {_text(text)}" for address, (code, text) in found.items()}
    put_off = {address: told[address] for address, (code, _) in found.items() if 400 <= code < 500}
    return Taken(put_off, {address: why for address, why in told.items() if address not in put_off})


def _text(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def _connected(server: Smtp) -> smtplib.SMTP:
    if server.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=_SECONDS, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=_SECONDS)
    if server.security == "starttls":
        connection.starttls(context=ssl.create_default_context())
    return connection
