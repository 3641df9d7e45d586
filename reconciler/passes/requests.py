"""The pass of `request/NUMBER`: one request for approval is judged, rule by rule, until it waits or has its verdict.

Each outcome is stored by itself before the next rule is looked at, so that a kill costs at most one try of a rule that
asks another server (sqedule, 7). What cannot be judged never counts as approved: it is tried again later, and left
until the next start after many times. Nobody waits for this pass but the request itself.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from reconciler.apply import requests as apply
from reconciler.controllers import requests as controller
from reconciler.controllers.requests import MOST_TRIES, Rule, Turn
from reconciler.errors import Refused, SteersmanError
from reconciler.installation import STARTING, Installation
from reconciler.model.request import ALL as ALL
from reconciler.model.request import PREFIX as PREFIX
from reconciler.model.request import Request
from reconciler.passes.authority import authority_of
from reconciler.sealing import SealingError
from reconciler.store import requests as rows
from reconciler.store import reviews
from reconciler.store.database import Connection
from specs.meta import Key
from specs.references import SECRET_REF

if TYPE_CHECKING:
    from reconciler.sending.rule_check import Answer, Check

log = structlog.get_logger(__name__)
_JITTER_SECONDS = 5.0
_UNREADABLE = (SteersmanError, SealingError, ValueError, LookupError, TypeError, OSError)


async def run(installation: Installation, name: str) -> datetime | None:
    """Judge what can be judged now; gives the time at which to try again."""
    number = int(name.removeprefix(PREFIX))
    while True:
        found = await installation.database.read(partial(_read, number))
        if found is None:
            return None
        request, turn = found
        if controller.waits(request.again_at, installation.now()):
            return request.again_at
        if request.again_at is None and request.tried > MOST_TRIES:
            return None
        if not isinstance(turn, Turn):
            await installation.database.write(lambda w: apply.conclude(w, number))
            return None
        if turn.rule.type == "http_api" and installation.describe_request is None:
            return installation.now() + STARTING
        try:
            going_on = await _judge(installation, request, turn.rule)
        except _UNREADABLE as error:
            return await _postpone(installation, request, turn.rule, error)
        if not going_on:
            again = await installation.database.read(lambda c: rows.find(c, number))
            return None if again is None else again.again_at


async def take_up(installation: Installation) -> None:
    """At a start: all requests without a verdict are judged, also those that were left."""
    for number in await installation.database.write(lambda w: rows.take_up(w, MOST_TRIES)):
        installation.wake(f"{PREFIX}{number}")


async def wake_all(installation: Installation) -> None:
    """Look at all requests without a verdict."""
    for number in await installation.database.read(rows.live):
        installation.wake(f"{PREFIX}{number}")


def _read(number: int, connection: Connection) -> tuple[Request, object] | None:
    """A request without a verdict, and what comes next of it."""
    request = rows.find(connection, number)
    if request is None or request.final:
        return None
    return request, controller.turn(request, rows.outcomes(connection, number))


async def _judge(installation: Installation, request: Request, rule: Rule) -> bool:
    """Judge one rule; False: it waits for people, or for its next try."""
    database = installation.database
    if rule.type == "manual":
        authority = authority_of(installation)
        return await database.write(lambda w: apply.by_people(w, request.id, authority))
    if rule.type == "schedule":
        success = controller.in_time(rule, request, installation.settings.timezone)
        await database.write(lambda w: apply.settle(w, request.id, rule.id, {}, success=success))
        return True
    return await _ask(installation, request, rule)


async def _ask(installation: Installation, request: Request, rule: Rule) -> bool:
    """Ask another server; what it answers counts, unless it failed and may be asked again."""
    from reconciler.sending import rule_check  # only who asks one pays for it

    spec = rule.spec
    check = rule_check.Check(
        spec["url"],
        spec.get("username"),
        await asyncio.to_thread(_password, installation, spec),
        spec.get("tls_ca_certificate"),
    )
    body = msgspec.json.encode(await _body(installation, request))
    private = installation.settings.private_addresses
    async with installation.asking:
        answer = await rule_check.ask(installation.keys, check, body, private=private)
    kind, told = await asyncio.to_thread(_masked, check, answer)
    posted = request.posted + 1
    if not answer.success and controller.may_retry(spec, posted):
        fault = answer.fault or f"{check.url} answered {answer.status}"
        at = installation.now() + controller.delay(posted, _jitter())
        trouble = f"{rule.binding.ruleset}: {fault}, try {posted} of {int(spec['retry_limit']) + 1}"
        await installation.database.write(
            lambda w: rows.postpone(w, request, at, tried=request.tried, posted=posted, trouble=trouble)
        )
        return False
    detail = {
        "response_code": answer.status,
        "response_content_type": kind,
        "response_body_base64": base64.b64encode(told).decode(),
        "fault": answer.fault or None,
    }
    await installation.database.write(
        lambda w: apply.settle(w, request.id, rule.id, detail, success=answer.success)
    )
    return True


def _masked(check: Check, answer: Answer) -> tuple[str, bytes]:
    """The type and the body of an answer; a server that says the password back does not make it known here.

    Of a body that was cut off, what may be the beginning of it goes too.
    """
    if not check.password:
        return answer.content_type, answer.body
    from reconciler.execution.masking import Masker  # only who asks with a password pays for it

    masker = Masker([check.password, (check.username or "").encode() + b":" + check.password])
    header = masker.again()
    kind = header.feed(answer.content_type.encode("latin-1")) + header.flush()
    body = masker.feed(answer.body)
    return kind.decode("latin-1"), body + masker.flush() if answer.whole else body


async def _body(installation: Installation, request: Request) -> dict[str, Any]:
    """The request as a client would read it, and whose it is."""
    shown = {} if installation.describe_request is None else installation.describe_request(request)
    name = await installation.database.read(lambda c: reviews.known(c, request.application))
    return {**shown, "application_id": name or request.application}


def _password(installation: Installation, spec: Mapping[str, Any]) -> bytes | None:
    """The password that a rule names, opened for this one try. Refused: there is none."""
    reference = spec.get("password")
    if reference is None:
        return None
    key = str(Key("Secret", None, None, reference[SECRET_REF]))
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or resource.spec is None:
        raise Refused("NoSecret", f"there is no valid {key}, which holds the password for {spec['url']}")
    return installation.keys.open(resource.spec["sealed"], key)


async def _postpone(
    installation: Installation, request: Request, rule: Rule, error: Exception
) -> datetime | None:
    """Judging went wrong, which is no verdict."""
    tried = request.tried + 1
    told = str(error) or type(error).__name__
    trouble = f"a rule of {rule.binding.ruleset} cannot be judged: {told}"
    at = None if tried > MOST_TRIES else installation.now() + controller.delay(tried, _jitter())
    log.warning("request-not-judged", request=request.id, ruleset=rule.binding.ruleset, error=told)
    await installation.database.write(
        lambda w: rows.postpone(w, request, at, tried=tried, posted=request.posted, trouble=trouble)
    )
    return at


def _jitter() -> timedelta:
    return timedelta(seconds=random.uniform(-_JITTER_SECONDS, _JITTER_SECONDS))  # noqa: S311
