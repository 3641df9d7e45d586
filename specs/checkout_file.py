"""A YAML file of a checkout that is no specification: its one document as a plain value, and faults with their place.

Called for Escape plans and `escapekit.yml`. The text comes as an argument; which fields there are is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from specs.compose import Unreadable, compose
from specs.errors import Fault
from specs.loader import LARGEST_FILE
from specs.messages import faults
from specs.model import Steps
from specs.positions import Positions, pointer


@dataclass(frozen=True, slots=True)
class CheckoutFile:
    """What was read; `value` is None where nothing could be read, and then `errors` says why."""

    location: str
    value: Any
    positions: Positions
    errors: tuple[str, ...]

    def at(self, steps: Steps, message: str, *, key: bool = False) -> str:
        """A sentence about a value (or its key), with its place: `escape.yml:3:5: …`."""
        return _located(self.location, Fault(*self.positions.nearest(pointer(steps), key=key), message))

    def invalid(
        self,
        error: ValidationError,
        model: type[BaseModel],
        value: Any,
        at: Steps = (),
        written: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """The sentences of a validation of `value`, which stands at `at`; `written`: fields' names in the file."""
        for steps, message, key in faults(error, model, value):
            inside = [*steps]
            if inside and self.positions.get(pointer((*at, *inside))) is None:
                inside[0] = (written or {}).get(str(inside[0]), inside[0])
            yield self.at((*at, *inside), message, key=key)


def read(text: str, location: str) -> CheckoutFile:
    """The document of a text; all that is wrong with it as YAML."""
    nothing = Positions()
    if len(text) > LARGEST_FILE:
        fault = Fault(1, 1, f"the file has more than {LARGEST_FILE} bytes")
        return CheckoutFile(location, None, nothing, (_located(location, fault),))
    try:
        found = list(compose(text.removeprefix("\ufeff")))
    except Unreadable as unreadable:
        return CheckoutFile(location, None, nothing, (_located(location, unreadable.fault),))
    if not found:
        return CheckoutFile(location, None, nothing, (f"{location}:1:1: the file is empty",))
    errors = [_located(location, fault) for composed in found for fault in composed.faults]
    errors += [f"{location}:{other.line}:1: a second document begins here; keep one" for other in found[1:]]
    if not isinstance(found[0].value, dict):
        errors.append(f"{location}:{found[0].line}:1: the file must hold a mapping")
    return CheckoutFile(location, found[0].value, found[0].positions, tuple(errors))


def _located(location: str, fault: Fault) -> str:
    return f"{location}:{fault.line}:{fault.column}: {fault.message}"
