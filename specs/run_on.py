"""Where the scripts of a Build with steps or of a Deployment run (own-kinds, `run_on`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from specs import references
from specs.executor import ImageName
from specs.meta import Key
from specs.model import Name, Spec, SpecFault, Steps
from specs.references import Reference, SecretName


class RunOn(Spec):
    """What the executor must offer, and what the scripts are given."""

    traits: list[Name] | None = None
    """What an executor must offer."""
    image: ImageName | None = None
    """The image to run in, one of an executor; without it, the executor's default."""
    network: Literal["none", "host"] | None = None
    """Whether the scripts reach the network; without it, the executor's default."""
    load: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """How much of an executor's max_load this takes; 1 if not set."""
    secrets: list[SecretName] | None = None
    """Secrets whose keys and files the scripts are given."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


def check(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults of the `run_on` of a specification."""
    run_on = spec.get("run_on") or {}
    for field in ("traits", "secrets"):
        yield from references.twice(("run_on", field), run_on.get(field) or [])


def secrets(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secrets that the `run_on` of a specification names."""
    where: Steps = ("run_on", "secrets")
    for at, name in enumerate((spec.get("run_on") or {}).get("secrets") or ()):
        yield references.secret(key, (*where, at), name)
