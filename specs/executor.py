"""The kind Executor (own-kinds): a declared place to run scripts, with traits, images and a load limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from specs.model import Name, Spec, SpecFault
from specs.nearest import did_you_mean


def _host_path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\x00" in path:
        raise ValueError("must be an absolute path of the host, without ..")
    return path


def _url_glob(pattern: str) -> str:
    if not pattern or len(pattern) > 200 or any(ord(c) <= 32 for c in pattern):
        raise ValueError("must be a glob of repository addresses with at most 200 characters and no spaces")
    return pattern


HostPath = Annotated[str, Field(max_length=1000), AfterValidator(_host_path)]


class HostImage(Spec):
    """The machine itself, as seen from inside the sandbox."""

    type: Literal["host"]
    """What kind of image this is."""


class Limits(Spec):
    """What one script may use at most."""

    log_bytes: Annotated[int, Field(ge=1024, le=10 * 1024**3)] | None = None
    """Bytes of log that a script may write; without it, the server's setting."""


class Executor(Spec):
    """A place where scripts run."""

    traits: list[Name] = Field(default_factory=list)
    """What this executor offers; a task is given to executors that have all traits it asks for."""
    max_load: Annotated[float, Field(gt=0, le=100_000)] = 4
    """The sum of the loads of trials that run here at the same time."""
    accepted_repositories: list[Annotated[str, AfterValidator(_url_glob)]] = Field(default_factory=list)
    """Globs of repository addresses whose scripts run here; empty means any."""
    sandbox: Literal["required", "off"] = "required"
    """Whether scripts run in a sandbox; off only where the server allows it."""
    readable: list[HostPath] = Field(default_factory=list)
    """Host paths that scripts may read beside the image."""
    writable: list[HostPath] = Field(default_factory=list)
    """Host paths that scripts may write."""
    network: Literal["none", "host"] = "host"
    """Whether scripts reach the network."""
    default_image: Name = "host"
    """The image of tasks that name none."""
    images: dict[Name, HostImage] = Field(default_factory=lambda: {"host": HostImage(type="host")})
    """The images there are, by name."""
    limits: Limits = Field(default_factory=Limits)
    """Limits of every script that runs here."""


def check(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    image = spec["default_image"]
    if image not in spec["images"]:
        yield (
            ("default_image",),
            f'"{image}" is not an image of this executor{did_you_mean(image, spec["images"])}',
        )
