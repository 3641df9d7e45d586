"""The kind Executor (own-kinds): a declared place to run scripts, with traits, images and a load limit; and
which image of it a task's `image` means.

Called by the kinds table, by dispatch and by whoever runs a script. Never looks whether an image is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field

from specs.globs import check_glob, matches
from specs.meta import Key
from specs.model import Name, Spec, SpecFault, no_nul
from specs.nearest import did_you_mean

PROCESSES = 512
"""Processes that a script may have where no Executor says otherwise."""

_HOST = {"host": {"type": "host"}}
_MIB = 1024**2
# A name as registries have it: host and port, path, tag, digest. Nothing that podman takes for a file.
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?",
    re.ASCII,
)
_TRANSPORT = re.compile(
    r"(?:containers-storage|dir|docker-archive|docker-daemon|oci|oci-archive|ostree|sif|tarball):"
)
_ARCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)


def _host_path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\x00" in path:
        raise ValueError("must be an absolute path of the host, without ..")
    return path


def _url_glob(pattern: str) -> str:
    if not pattern or len(pattern) > 200 or any(ord(c) <= 32 for c in pattern):
        raise ValueError("must be a glob of repository addresses with at most 200 characters and no spaces")
    return pattern


def _plain(name: str) -> str:
    if name.startswith("-") or any(ord(c) <= 32 or ord(c) == 127 for c in name):
        raise ValueError("must not begin with - or hold spaces or control characters")
    return name


def _image_name(name: str) -> str:
    if is_pattern(name):
        raise ValueError(
            "must name one image; *, ? and [ make patterns, which only an Executor's images may be"
        )
    return _plain(name)


def _declared_name(name: str) -> str:
    if is_pattern(name) and (message := check_glob(name)):
        raise ValueError(f"is a pattern, which {message}")
    return _plain(name)


def _arch(name: str) -> str:
    if not _ARCH.fullmatch(name):
        raise ValueError("must be the name of an architecture, such as x86_64 or aarch64")
    return name


def is_pattern(name: str) -> bool:
    """Whether the name of a declared image is a glob, which stands for all names that fit it."""
    return any(character in name for character in "*?[")


HostPath = Annotated[str, Field(max_length=1000), AfterValidator(_host_path)]
ImageName = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_image_name)]
DeclaredName = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_declared_name)]
Argument = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(no_nul)]
Arch = Annotated[str, AfterValidator(_arch)]


class HostImage(Spec):
    """The machine itself, as seen from inside the sandbox."""

    type: Literal["host"]
    """What kind of image this is."""


class RootImage(Spec):
    """A directory of the host that holds a whole file system."""

    type: Literal["root"]
    """What kind of image this is."""
    path: HostPath
    """The directory of the host."""
    install: list[Argument] = Field(default_factory=list)
    """The command that installs packages; their names are appended as arguments."""
    add_repository: list[Argument] = Field(default_factory=list)
    """The command that adds a package source; its name and its text are appended as arguments."""


class ContainerImage(Spec):
    """A container image."""

    type: Literal["container"]
    """What kind of image this is."""
    reference: ImageName | None = None
    """The image to run; where the name is a pattern it may be left out: then the very name asked for is run."""
    engine: Literal["podman"] = "podman"
    """What runs it."""
    arch: Arch | None = None
    """The architecture to run; without it, the host's."""
    install: list[Argument] = Field(default_factory=list)
    """The command that installs packages; their names are appended as arguments."""
    add_repository: list[Argument] = Field(default_factory=list)
    """The command that adds a package source; its name and its text are appended as arguments."""
    arguments: list[Argument] = Field(default_factory=list)
    """Further arguments of `podman run`."""


Image = Annotated[HostImage | RootImage | ContainerImage, Discriminator("type")]


def _only_host() -> dict[str, Image]:
    return {"host": HostImage(type="host")}


class Limits(Spec):
    """What one script may use at most."""

    log_bytes: Annotated[int, Field(ge=1024, le=10 * 1024**3)] | None = None
    """Bytes of log that a script may write; without it, the server's setting."""
    processes: Annotated[int, Field(ge=1, le=4_194_304)] = PROCESSES
    """Processes and threads that it may have at the same time."""
    memory_bytes: Annotated[int, Field(ge=_MIB, le=2**60)] | None = None
    """Bytes of memory that all its processes may have together; without it, as many as there are."""
    disk_bytes: Annotated[int, Field(ge=_MIB, le=2**60)] | None = None
    """Bytes that its workspace may grow to; without it, as many as there are."""


class Executor(Spec):
    """A place where scripts run.

    Where none is declared there is one, `local`, which runs everything. The first that is declared takes its place, and
    runs what asks for no traits as well: beside one for special work declare another `local` for the rest.
    """

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
    default_image: ImageName = "host"
    """The image of tasks that name none."""
    images: dict[DeclaredName, Image] = Field(default_factory=_only_host)
    """The images there are, by name. A name with *, ? or [ is a pattern for the names of containers; an
    exact name wins over patterns, a longer pattern over a shorter one.
    """
    limits: Limits = Field(default_factory=Limits)
    """Limits of every script that runs here."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    for name, image in spec["images"].items():
        if is_pattern(name) and image["type"] != "container":
            yield (
                ("images", name),
                f'"{name}" is a pattern, which only images of type container can have as name; write it out',
            )
        elif not is_pattern(name) and image["type"] == "container" and image["reference"] is None:
            message = (
                f'image "{name}" needs a reference: the container image to run; only a pattern needs none'
            )
            yield ("images", name), message
    default = spec["default_image"]
    if resolve_image(spec, default) is None:
        yield (
            ("default_image",),
            f'"{default}" is not an image of this executor{did_you_mean(default, spec["images"])}',
        )


def resolve_image(executor_spec: Mapping[str, Any], name: str | None) -> Mapping[str, Any] | None:
    """The image that `image: NAME` of a task or service means here, or None if this executor has none such.

    It is the declared mapping plus `name` and, for containers, `reference`. None as name means the default
    image. A specification without `images`, as the built-in one, has only `host`.
    """
    images = executor_spec.get("images", _HOST)
    wanted: str = executor_spec.get("default_image") or "host" if name is None else name
    declared = None if is_pattern(wanted) else _declared(images, wanted)
    if declared is None or declared["type"] != "container":
        return None if declared is None else {**declared, "name": wanted}
    reference = declared.get("reference") or wanted
    return {**declared, "name": wanted, "reference": reference}


def _declared(images: Mapping[str, Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    if wanted in images:
        return images[wanted]
    fitting = [name for name in images if is_pattern(name) and matches(name, wanted)]
    if not fitting or not _is_reference(wanted):
        return None
    return images[min(fitting, key=lambda name: (-len(name), name))]


def _is_reference(name: str) -> bool:
    """Whether podman takes a name for one of a registry, never for a file or another place of the host."""
    return _REFERENCE.fullmatch(name) is not None and _TRANSPORT.match(name) is None
