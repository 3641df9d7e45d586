"""Builds the podman command lines of scripts whose image is a container, and removes what they leave (design 7.3).

Called by `execution.command` before a script starts, by `execution.disk` while it runs, which asks what they hold, and
by `execution.run` after its end. What is of a user's is an argument, a file, or standard input: never a part of a
command's text, and no value of a variable is in an argv. It pulls nothing itself and knows no store.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from reconciler.errors import Stalled
from reconciler.execution import processes, sandbox
from reconciler.execution.processes import Process

log = structlog.get_logger(__name__)
LAUNCHER = Path(__file__).with_name("containers.sh")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_OWN_SETTINGS = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR", "CONTAINERS_CONF")
_REMOVE_SECONDS = 60
_INSPECT_SECONDS = 10
_ANONYMOUS = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a script: its image, what is asked to see that it is ready, its variables.

    `memory`: the folder in memory for those variables, where there are secrets among them.
    """

    name: str
    image: Mapping[str, Any]
    ready: str | None
    environment: Mapping[str, str]
    memory: Path | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A script's container. `argv` is run inside; `mounts` are (host path, place inside, writable)."""

    run: Path
    cookie: str
    image: Mapping[str, Any]
    argv: Sequence[str]
    mounts: Sequence[tuple[Path, str, bool]]
    network: str
    processes: int | None
    memory_bytes: int | None
    services: Sequence[Service] = ()
    start: str = sandbox.WORKSPACE

    @property
    def name(self) -> str:
        """What podman calls it."""
        return f"steersman-{self.cookie[:24]}"


def podman() -> str:
    """Path of podman; Stalled with a sentence where there is none."""
    found = shutil.which("podman") or shutil.which("podman", path=os.defpath)
    if found is None:
        raise Stalled(
            "PodmanMissing", "the image is a container, which needs podman on this machine; install it"
        )
    return found


def own_environment() -> dict[str, str]:
    """What podman itself needs of the daemon's environment, and nothing else of it."""
    own = {name: os.environ[name] for name in _OWN_SETTINGS if name in os.environ}
    return {"PATH": os.defpath + ":/usr/sbin:/sbin", **own}


def prepare(container: Container) -> tuple[str, ...]:
    """The command line for the supervisor; notes below RUN/containers what is to be started and removed. Blocks."""
    program = podman()
    folder = container.run / "containers"
    folder.mkdir(exist_ok=True)
    called = {f"{container.name}-{number:02}": s for number, s in enumerate(container.services)}
    names = [*called, container.name]
    (folder / "names").write_text("\n".join(names) + "\n", encoding="utf-8")
    network = container.network
    for name, service in called.items():
        place = folder / name[-2:]
        place.mkdir(exist_ok=True)
        (place / "service").write_text(service.name + "\n", encoding="utf-8")
        environment = (service.memory or place) / "environment"
        environment.write_text(_environment(service), encoding="utf-8", errors="surrogateescape")
        _write(place / "arguments", _service(container, name, service, network, environment))
        if service.ready is not None:
            _write(place / "ready", ("/bin/sh", "-c", service.ready))
        if network == "none":  # the first one has the network that the others share
            network = f"container:{name}"
    arguments = [*_common(container, container.name, container.image, network), "--interactive"]
    for source, place_inside, writable in container.mounts:
        arguments += ["--volume", _volume(source, place_inside, writable)]
    arguments += ["--workdir", container.start, "--entrypoint", container.argv[0]]
    arguments += [
        *container.image.get("arguments", ()),
        str(container.image["reference"]),
        *container.argv[1:],
    ]
    return ("/bin/sh", str(LAUNCHER), program, str(container.run), container.name, *arguments)


def remove(run: Path) -> None:
    """Remove what a run's containers left, if it had any: nothing else ends them once podman was killed. Blocks."""
    names = run / "containers" / "names"
    if not names.is_file():
        return
    try:
        words = names.read_text(encoding="utf-8").split()
        argv = [podman(), "rm", "--force", "--time", "0", "--ignore", *words]
        subprocess.run(
            argv,
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_REMOVE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, Stalled) as error:
        log.warning("containers-not-removed", run=str(run), error=str(error))


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a container writes beside what it is shown of the host, and who holds its processes."""

    folders: tuple[Path, ...]
    conmon: Process | None


def layers(run: Path, known: Mapping[str, Layer]) -> dict[str, Layer]:
    """Those of a run's containers, by name, as far as they are there by now; only new ones are asked about. Blocks."""
    try:
        names = (run / "containers" / "names").read_text(encoding="utf-8").split()
    except OSError:
        return {}
    missing = [name for name in names if name not in known]
    return {**known, **(_inspect(missing) if missing else {})}


def _inspect(names: Sequence[str]) -> dict[str, Layer]:
    """It tells of those that it knows, and says with its status that it does not know the others."""
    try:
        told = subprocess.run(
            [podman(), "container", "inspect", *names],
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSPECT_SECONDS,
            check=False,
        )
        found = json.loads(told.stdout)
        return {each["Name"]: _layer(each) for each in found if each["State"]["ConmonPid"]}
    except (OSError, subprocess.SubprocessError, Stalled, ValueError, KeyError, TypeError) as error:
        log.warning("containers-not-seen", names=names, error=str(error))
        return {}


def _layer(told: Mapping[str, Any]) -> Layer:
    """Its own layer, where the storage has one, and volumes that go with it: those that its image declares."""
    upper = (told["GraphDriver"].get("Data") or {}).get("UpperDir")
    volumes = [
        mount["Source"]
        for mount in told["Mounts"] or ()
        if mount["Type"] == "volume" and _ANONYMOUS.fullmatch(mount["Name"])
    ]
    folders = tuple(Path(folder) for folder in (upper, *volumes) if folder)
    return Layer(folders, processes.look(told["State"]["ConmonPid"]))


def _environment(service: Service) -> str:
    """A file for podman, which takes no more than lines; Stalled with a sentence for what is none."""
    for name, value in service.environment.items():
        if "\n" in value:
            message = f"the variable {name} of the service {service.name} has several lines, which podman does not take"
            raise Stalled("ServiceVariable", message)
    return "".join(f"{name}={value}\n" for name, value in service.environment.items())


def _service(
    container: Container, called: str, service: Service, network: str, environment: Path
) -> Iterator[str]:
    yield from _common(container, called, service.image, network)
    yield from ("--env-file", str(environment))
    yield from service.image.get("arguments", ())
    yield str(service.image["reference"])


def _common(container: Container, name: str, image: Mapping[str, Any], network: str) -> Iterator[str]:
    yield from ("--rm", "--name", name, "--log-driver", "none", "--security-opt", "no-new-privileges")
    yield from ("--label", f"steersman.run={container.cookie}", "--network", network)
    if not network.startswith(("container:", "host")):
        yield from ("--hostname", "steersman")
    if image.get("arch"):
        yield from ("--arch", _ARCHITECTURES.get(image["arch"], image["arch"]))
    if container.processes is not None:
        yield from ("--pids-limit", str(container.processes))
    if container.memory_bytes is not None:
        yield from ("--memory", str(container.memory_bytes), "--memory-swap", str(container.memory_bytes))


def _volume(source: Path, place: str, writable: bool) -> str:
    if ":" in str(source) or ":" in place:
        raise Stalled("ContainerMount", f"{source} cannot be shown to a container: its path has a colon")
    return f"{source}:{place}:{'rw' if writable else 'ro'}"


def _write(path: Path, words: Sequence[str] | Iterator[str]) -> None:
    path.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
