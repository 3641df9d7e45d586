"""Sends a mail through the operator's server."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from reconciler.errors import Refused, Transient
from reconciler.settings import Smtp

_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail; `to` and `cc` are address lists, `id` is what its Message-ID is made of, if it is to stay the same."""

    subject: str
    text: str
    to: str | None = None
    cc: str | None = None
    in_reply_to: str | None = None
    id: str | None = None


def send(server: Smtp, mail: Mail) -> tuple[str, ...]:
    """Blocks. The addresses not taken while others are. Refused: it is taken for none; Transient: no server."""
    message = EmailMessage()
    try:
        headers = {"To": mail.to, "Cc": mail.cc, "In-Reply-To": mail.in_reply_to}
        for name, value in {"From": server.sender, "Subject": mail.subject, **headers}.items():
            if value is not None:
                message[name] = value
    except ValueError as error:
        raise Refused("BadMail", f"the mail cannot be written: {error}") from error
    message["Date"] = formatdate()
    domain = server.sender.rpartition("@")[2]
    message["Message-ID"] = f"<{mail.id}@{domain}>" if mail.id else make_msgid(domain=domain)
    message.set_content(mail.text)
    try:
        with _connected(server) as connection:
            if server.username is not None:
                connection.login(server.username, server.secret() or "")
            return tuple(connection.send_message(message))
    except smtplib.SMTPResponseException as error:
        told = (
            error.smtp_error.decode(errors="replace")
            if isinstance(error.smtp_error, bytes)
            else error.smtp_error
        )
        raise Refused(
            "MailRefused", f"{server.host} does not take the mail: {error.smtp_code} {told}"
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        raise Refused("MailRefused", f"{server.host} takes none of the addresses") from error
    except (OSError, smtplib.SMTPException) as error:
        raise Transient("NoMailServer", f"{server.host}:{server.port} could not be used: {error}") from error


def _connected(server: Smtp) -> smtplib.SMTP:
    if server.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=_SECONDS, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=_SECONDS)
    if server.security == "starttls":
        connection.starttls(context=ssl.create_default_context())
    return connection
