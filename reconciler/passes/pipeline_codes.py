"""Codes in addresses that start pipelines and decide confirmations (escape-state, 6.13, 7.12, 10.5).

Made by the server's key from what they are for, so that nothing need be kept: of a trigger from the pipeline's uuid and
the trigger's name, of a confirmation from the run and the step's place. Called by the doors.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from uuid import UUID

from reconciler.model.pipeline import CONFIRMATION, Place, Run
from reconciler.model.resource import Resource
from reconciler.sealing import Keys

_TRIGGER, _TRIGGER_ID, _CONFIRMATION = "pipeline-webhook", "pipeline-trigger-id", "pipeline-confirmation"


def trigger_id(keys: Keys, uuid: str, name: str) -> str:
    """The id of a pipeline's trigger."""
    return str(UUID(hex=keys.mac(_TRIGGER_ID, f"{uuid}:{name}")[:32], version=4))


def trigger_code(keys: Keys, uuid: str, name: str) -> str:
    """What starts the pipeline by that trigger."""
    return _code(keys.mac(_TRIGGER, f"{uuid}:{name}"))


def by_code(keys: Keys, pipelines: Iterable[Resource], code: str) -> tuple[Resource, str] | None:
    """The pipeline among these, and the name of its trigger, that a code starts."""
    mark = _mark(code)
    if mark is None:
        return None
    found = None
    for resource in pipelines:
        for trigger in (resource.spec or {})["triggers"]:
            if keys.is_mac(_TRIGGER, f"{resource.uuid}:{trigger['name']}", mark):
                found = resource, str(trigger["name"])
    return found


def confirmation_code(keys: Keys, run: Run, place: Place) -> str:
    """What decides a confirmation of a run."""
    return _code(keys.mac(_CONFIRMATION, _about(run, place)))


def asked(keys: Keys, run: Run, code: str) -> Place | None:
    """The confirmation of this very run that a code is for."""
    mark = _mark(code)
    found = None
    for place, step in run.steps():
        open_ = step.type == CONFIRMATION and step.confirmation is not None and not step.carried_over
        if mark is not None and open_ and keys.is_mac(_CONFIRMATION, _about(run, place), mark):
            found = place
    return found


def _about(run: Run, place: Place) -> str:
    return f"{run.id}:{place[0]}:{place[1]}"


def _code(mark: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(mark)).decode().rstrip("=")


def _mark(code: str) -> str | None:
    """The mark that a code writes; None for what is no code."""
    if not code.isascii() or len(code) != 43:
        return None
    try:
        return base64.b64decode(code + "=", altchars=b"-_", validate=True).hex()
    except (binascii.Error, ValueError):
        return None
