"""The kind Notification (own-kinds): who is told of what happens, where, and in which form.

Called by the kinds table. What has happened, and whether it was told, is known to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from specs import references
from specs.meta import Key
from specs.model import Glob, Spec, SpecFault, Web
from specs.nearest import did_you_mean
from specs.references import Reference, SecretName, SpecOf

Happening = Literal["failed", "recovered", "held", "drifted", "approval-wanted"]
HAPPENINGS: tuple[Happening, ...] = ("failed", "recovered", "held", "drifted", "approval-wanted")
"""What a Notification tells of where it says nothing: all there is."""

KINDS = ("Application", "Build", "Configuration", "Deployment", "Pipeline")
"""What the KEYs begin with of which there is something to tell."""

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+")
_MOST = 100


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or not text.isprintable():
        raise ValueError("must be one address such as alice@example.org, without a name")
    return text


class Email(Spec):
    """Mails through the operator's mail server."""

    to: list[Annotated[str, Field(max_length=320), AfterValidator(_address)]] = Field(
        min_length=1, max_length=50
    )
    """The addresses, all in one mail; those that are put off get it later."""


class Webhook(Spec):
    """Posts to an address, one at a time and in order; an answer of 410 stops it until it is declared anew."""

    url: Web
    """The address; a private one is refused unless the operator allows such."""
    secret_ref: SecretName | None = None
    """The name of the Secret, of the type `value`, that signs what is posted, in the form of Standard Webhooks."""
    format: Literal["json", "cdevents"] = "json"
    """The body: our own JSON, or CDEvents in a CloudEvent. Of those, only ends that are told are sent, each alone: no
    `started` or `queued` comes before a `finished`, and not each pass."""


class Notification(Spec):
    """Tells people and programs what happens in a project, or everywhere."""

    events: list[Happening] = Field(default=[*HAPPENINGS], min_length=1)
    """What is told of, from the commit on that says so; `recovered` is the first pass after a failure."""
    keys: Annotated[list[Glob], Field(min_length=1, max_length=_MOST)] | None = None
    """Globs of KEYs, `**` for any number of parts; without them, all of the project."""
    email: Email | None = None
    """Who gets a mail."""
    webhook: Webhook | None = None
    """What is posted to."""


def check(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    if spec["email"] is None and spec["webhook"] is None:
        yield (), "a notification needs email or webhook, or nobody is told"
    yield from references.twice(("events",), spec["events"])
    yield from references.twice(("keys",), spec["keys"] or [])
    for at, pattern in enumerate(spec["keys"] or ()):
        if fault := _outside(pattern, key.project):
            yield ("keys", at), fault
    if spec["email"] is not None:
        yield from references.twice(("email", "to"), spec["email"]["to"])


def _outside(pattern: str, project: str | None) -> str | None:
    """Why nothing that a Notification sees can have such a KEY, or more could than it sees; None: all is well."""
    kind, _, rest = pattern.partition("/")
    if not set("*?[\\") & set(kind) and kind not in KINDS:
        return f'nothing is told of "{kind}"{did_you_mean(kind, KINDS)}'
    if project is None:
        return None
    if kind == "**" or rest.partition("/")[0] != project:
        where = f"{kind if kind != '**' else '*'}/{project}/…"
        return (
            f'"{pattern}" leads outside of the project; write {where}, '
            f"or leave metadata.project out to be told of everything"
        )
    return None


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secret that a Notification names."""
    webhook = spec["webhook"] or {}
    if webhook.get("secret_ref") is not None:
        yield references.secret(key, ("webhook", "secret_ref"), webhook["secret_ref"])


def beside(spec: Mapping[str, Any], key: Key, spec_of: SpecOf) -> Iterator[SpecFault]:
    """The Secret that signs must be of the type `value`."""
    name = (spec["webhook"] or {}).get("secret_ref")
    if name is None:
        return
    for secret in references.secret_keys(key.project, key.environment, name):
        found = spec_of(secret)
        if found is not None:
            if found["type"] != "value":
                told = f"{secret} is of the type {found['type']}; what signs is of the type value"
                yield ("webhook", "secret_ref"), told
            return
