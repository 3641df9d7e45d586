"""Scripts of stages and errands (escape-state, 7.14 StageScripts): of a Build's release, of a step, or of a
Deployment that brings its own.

Called by the models of Build and Deployment. Never reads a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from specs.model import LARGEST_TEXT, RelativePath, Spec, Steps, Text, no_nul
from specs.release import AVariable, text_alone

_ERRAND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_FORMS = ("script", "inline", "inline_file", "cmd")

BUILD_STAGES = ("pre_build", "build", "post_build", "test")
STAGES = (
    *BUILD_STAGES, "pre_deploy", "deploy", "post_deploy", "smoke", "pre_destroy", "destroy", "post_destroy",
    "activate_provider", "deactivate_provider", "check",
)  # fmt: skip


def _errand(name: str) -> str:
    if not _ERRAND.fullmatch(name):
        raise ValueError("must have 1 to 100 letters, digits, _ . and -, not beginning with . or -")
    return name


class StageScript(Spec):
    """One script: a file of the package, a text, a text beside the specification, or a program. A text
    alone is the path of a file of the package.
    """

    script: RelativePath | None = None
    """A file of the checkout or package to run."""
    inline: Annotated[str, Field(min_length=1, max_length=LARGEST_TEXT), AfterValidator(no_nul)] | None = None
    """A shell script, written here."""
    inline_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A file beside the specification that holds the script; with a leading /, from the source's root."""
    cmd: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(no_nul)] | None = None
    """A program to run."""
    args: list[Annotated[str, Field(max_length=LARGEST_TEXT), AfterValidator(no_nul)]] | None = None
    """Its arguments."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in _FORMS if getattr(self, name) is not None]
        if len(given) != 1:
            said = f", not {' and '.join(given)}" if given else ""
            raise ValueError(f"must have exactly one of {', '.join(_FORMS[:-1])} and {_FORMS[-1]}{said}")
        if self.args is not None and self.cmd is None:
            raise ValueError("has args, which need cmd")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


AScript = Annotated[StageScript, text_alone("script", StageScript)]


class Errand(Spec):
    """An operation that is run by hand or by a pipeline against what is deployed."""

    description: Text = ""
    """What it does, in a sentence for people."""
    run: AScript
    """The script."""
    inputs: list[AVariable] = Field(default_factory=list)
    """Values that it wants."""


class StageScripts(Spec):
    """The scripts of stages, and the errands."""

    pre_build: AScript | None = None
    """Runs before `build`."""
    build: AScript | None = None
    """Makes what is released."""
    post_build: AScript | None = None
    """Runs after `build`."""
    test: AScript | None = None
    """Tests what was built."""
    pre_deploy: AScript | None = None
    """Runs before `deploy`."""
    deploy: AScript | None = None
    """Brings the release into an environment."""
    post_deploy: AScript | None = None
    """Runs after `deploy`."""
    smoke: AScript | None = None
    """Tests what was deployed."""
    pre_destroy: AScript | None = None
    """Runs before `destroy`."""
    destroy: AScript | None = None
    """Takes away what was deployed, or built."""
    post_destroy: AScript | None = None
    """Runs after `destroy`."""
    activate_provider: AScript | None = None
    """Runs before a consumer of this deployment is built or deployed."""
    deactivate_provider: AScript | None = None
    """Runs after a consumer of this deployment was built or deployed."""
    check: AScript | None = None
    """Tells by its exit status whether what is deployed has drifted."""
    errands: dict[Annotated[str, AfterValidator(_errand)], Errand] | None = None
    """Operations by name."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


def script_texts(steps: Steps, scripts: Any) -> Iterator[tuple[Steps, str]]:
    """Where scripts, valid or not, name texts beside the specification, and which."""
    if not isinstance(scripts, Mapping):
        return
    found = [((*steps, stage), scripts.get(stage)) for stage in STAGES]
    errands = scripts.get("errands")
    for name, errand in errands.items() if isinstance(errands, Mapping) else ():
        if isinstance(errand, Mapping):
            found.append(((*steps, "errands", name, "run"), errand.get("run")))
    for where, script in found:
        name = script.get("inline_file") if isinstance(script, Mapping) else None
        if isinstance(name, str) and name:
            yield (*where, "inline_file"), name
