"""What is started for a trial: command line, environment, what it sees and how it is bounded (design 7.2, 7.3).

Called by `execution.run` in a thread before a script starts. It writes files below the run folder and starts nothing.
The script is the text in the specification, or a file of the checkout; parameters reach it as environment or files.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reconciler.errors import Stalled, SteersmanError
from reconciler.execution import configured, containers, groups, objects, processes, sandbox, secrets
from reconciler.execution.containers import Container, Service
from reconciler.execution.lease import Term
from reconciler.execution.memory import Held, Memory
from reconciler.execution.placing import GNUPG, Placing, passwd
from reconciler.execution.secrets import NOTHING, Opened
from reconciler.execution.supervisor import Command, cookie
from reconciler.execution.workspace import Folder
from reconciler.model.job import Job, configured_as
from reconciler.settings import Settings
from reconciler.store.jobs import MAIN, LiveTrial
from specs.executor import PROCESSES, resolve_image

LAUNCHER = Path(__file__).with_name("launch.sh")
_INSIDE = secrets.INSIDE
_SCRIPT = f"{_INSIDE}/script"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SandboxUnavailableError(SteersmanError):
    """Scripts may not run here as things are."""


class ScriptMissingError(SteersmanError):
    """`script:` names a file that the checkout does not hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial runs: an executor's specification in force; `declared` False: the built-in `local`."""

    key: str
    spec: Mapping[str, Any]
    declared: bool = True


LOCAL = "Executor/local"


def builtin() -> Place:
    """The executor of an installation that declares none (own-kinds, "Executor")."""
    load = float(max(4, os.cpu_count() or 1))
    return Place(LOCAL, {"max_load": load, "sandbox": "required", "network": "host"}, declared=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be executed, and where: `run` is the claim's run folder, `folder` what it works in.

    `variables`: outputs of other tasks; `token`: what its scripts show to the server at the address `server`;
    `memory`: for secrets of those that take no descriptors.
    `known`: what scripts of a project configuration are told; None: it is of none.

    Of a stage of a release: `below` is the folder of the workspace that it starts in, `program` what it runs instead of
    a script, `arguments` what that is given, `facts` are variables that go before all others, `sensitive` those of them
    that no log shows. `survivors`: what it leaves running stays; `notes`: sentences for its log.

    `term`: of the lease that it ends with.
    """

    job: Job
    trial: LiveTrial
    place: Place
    folder: Folder
    run: Path
    variables: Mapping[str, str]
    token: str
    server: str
    secrets: Opened = NOTHING
    memory: Memory | None = None
    known: Mapping[str, str] | None = None
    below: str = ""
    program: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    sensitive: Mapping[str, str] = field(default_factory=dict, repr=False)
    survivors: bool = False
    notes: tuple[str, ...] = ()
    term: Term | None = None

    @property
    def policy(self) -> Mapping[str, Any]:
        """The task's entry of the specification."""
        return self.trial.policy

    @property
    def at_home(self) -> bool:
        """Do its scripts start in the home directory, not in the workspace?"""
        return self.policy.get("directory") == "home"

    @property
    def start(self) -> str:
        """Where they start, inside."""
        return sandbox.HOME if self.at_home else posixpath.join(sandbox.WORKSPACE, self.below).rstrip("/")

    @property
    def placing(self) -> Placing:
        """Where its secrets are put."""
        return Placing(self.secrets, self.run, self.folder, self.memory)

    @property
    def network(self) -> Any:
        """`none` or `host`."""
        return self.policy.get("network") or self.place.spec.get("network") or "host"


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Limits of one script; None: none. `notes` say which ones this machine does not offer."""

    log_bytes: int
    processes: int
    memory_bytes: int | None
    notes: tuple[str, ...] = ()


def build(order: Order, settings: Settings) -> tuple[Command, tuple[str, ...]]:
    """The command and sentences for the log. SteersmanError, OSError or ValueError where it cannot be."""
    order.run.mkdir(parents=True, mode=0o700, exist_ok=True)
    image = resolve_image(order.place.spec, order.policy.get("image"))
    if image is None:
        raise Stalled("NoImage", f"{order.place.key} has no image {order.policy.get('image')}")
    order, left = _without_installing(order, image)
    bounds = _bounds(order.place.spec.get("limits") or {}, settings, contained=image["type"] == "container")
    told = ("status",) if image["type"] == "container" or _needs_launcher(order) else ()
    for name in ("outputs", *told):
        _write(order.run / name, b"", 0o600)
    if image["type"] == "container":
        return _contained(order, settings, image, bounds), (*left, *bounds.notes)
    _steps(order, image)
    held = [*order.secrets.files, *_services(order, "run")]
    if _sandboxed(order.place, settings):
        return _boxed(order, settings, image, bounds, held), (*left, *bounds.notes)
    if image["type"] == "root":
        raise Stalled(
            "RootNeedsSandbox", f"the image {image['name']} is a root directory, which needs the sandbox"
        )
    return _bare(order, settings, bounds, held), (*left, *bounds.notes)


def outputs_path(run: Path) -> Path:
    """The host's path of $STEERSMAN_OUTPUTS."""
    return run / "outputs"


def server_secrets(settings: Settings) -> list[str]:
    """What the daemon knows and an unsandboxed script could read: masked in its log."""
    found: list[str] = []
    for path in (settings.data / "admin.token", settings.key_path):
        with suppress(OSError, UnicodeDecodeError):
            found.append(path.read_text(encoding="utf-8").strip())
    found += [item.get_secret_value() for item in (settings.admin_token, settings.webhook_secret) if item]
    options = settings.object_store_options.items()
    found += objects.secrets({name: value.get_secret_value() for name, value in options})
    for holder in (settings.oidc, settings.smtp, *settings.credentials.values()):
        with suppress(OSError, UnicodeDecodeError):
            secret = holder.secret() if holder is not None else None
            found += [secret] if secret else []
    return found


# -- the three ways


def _bare(order: Order, settings: Settings, bounds: _Bounds, held: Sequence[Held]) -> Command:
    folder = order.folder
    start = folder.home if order.at_home else folder.workspace / order.below
    environment = _environment(order, settings, str(start)) | {
        "HOME": str(folder.home),
        "TMPDIR": str(folder.tmp),
        "STEERSMAN_WORKSPACE": str(folder.workspace),
        "STEERSMAN_OUTPUTS": str(order.run / "outputs"),
        "STEERSMAN_NEEDS": str(folder.needs),
    }
    if order.secrets:
        order.placing.prepare(str(folder.home))
        environment |= order.placing.by_link(held)
    own = order.program or _interpreter(script := _script_file(order), script)
    argv = _launched(order, (*own, *order.arguments), str(LAUNCHER), str(order.run))
    return Command(
        argv,
        environment,
        start,
        sandboxed=False,
        log_limit=bounds.log_bytes,
        groups=_groups(order, bounds),
        survivors=order.survivors,
    )


def _boxed(
    order: Order, settings: Settings, image: Mapping[str, Any], bounds: _Bounds, held: Sequence[Held]
) -> Command:
    folder, run = order.folder, order.run
    argv, files = _shown_script(order)
    if order.secrets:
        order.placing.prepare()
        order.placing.imports(order.secrets.pgp)
    if order.secrets.ssh and not _installs(order):
        held = [*held, *passwd(Path(image["path"]) if image["type"] == "root" else Path("/"))]
    outputs = [(run / "outputs", f"{_INSIDE}/outputs")]
    if _needs_launcher(order):
        argv = _launched(order, argv, f"{_INSIDE}/launch", _INSIDE)
        files += [
            (LAUNCHER, f"{_INSIDE}/launch"),
            *_inside(run, "steps/*"),
            *_inside(run, "keys/*"),
            *_inside(run, "services/*/[!p]*"),
        ]
        outputs += [(run / "status", f"{_INSIDE}/status"), *_inside(run, "services/*/pipe")]
    root = _root(order, image)
    view = sandbox.View(
        workspace=folder.workspace,
        hidden=settings.data,
        network=order.network,
        readable=tuple(order.place.spec.get("readable") or ()),
        writable=tuple(order.place.spec.get("writable") or ()),
        files=tuple(files),
        folders=((folder.needs, f"{_INSIDE}/needs"),) if folder.needs.is_dir() else (),
        outputs=tuple(outputs),
        tmp=None if order.survivors else folder.tmp,  # what stays needs them when the folder has gone
        home=None if order.survivors else folder.home,
        root=root,
        copied=root == folder.root,
        installs=_installs(order),
        key_file=settings.key_file,
        memory=(GNUPG,) if order.secrets.pgp else (),
        start=order.start,
        survivors=order.survivors,
    )
    environment = _environment(order, settings, order.start) | _paths_inside(sandbox.HOME)
    entrances = _groups(order, bounds)
    return Command(
        sandbox.wrap(argv if entrances else (*_counted(bounds), *argv), view),
        environment,
        folder.workspace,
        sandboxed=True,
        log_limit=bounds.log_bytes,
        groups=entrances,
        held=tuple(held),
        survivors=order.survivors,
    )


def _contained(order: Order, settings: Settings, image: Mapping[str, Any], bounds: _Bounds) -> Command:
    folder, run = order.folder, order.run
    argv, files = _shown_script(order)
    _steps(order, image)
    services = _container_services(order)
    if order.secrets:
        order.placing.prepare()
        order.placing.imports(order.secrets.pgp)
    mounts = [
        (folder.workspace, sandbox.WORKSPACE, True),
        (folder.tmp, "/tmp", True),  # noqa: S108  (the container's)
        (folder.home, sandbox.HOME, True),
        (LAUNCHER, f"{_INSIDE}/launch", False),
        (run / "status", f"{_INSIDE}/status", True),
        (run / "outputs", f"{_INSIDE}/outputs", True),
        *((path, place, False) for path, place in (*_inside(run, "steps/*"), *_inside(run, "keys/*"))),
        *((path, place, True) for path, place in order.placing.by_path(order.secrets.files)),
        *(((order.placing.in_memory("gnupg"), GNUPG, True),) if order.secrets.pgp else ()),
        *((path, place, False) for path, place in files),
        *(((folder.needs, f"{_INSIDE}/needs", False),) if folder.needs.is_dir() else ()),
        *sandbox.shown(
            order.place.spec, (settings.data, *((settings.key_file,) if settings.key_file else ()))
        ),
    ]
    container = Container(
        run=run,
        cookie=cookie(run),
        image=image,
        argv=("/bin/sh", f"{_INSIDE}/launch", _INSIDE, "environment", *argv),
        mounts=mounts,
        network=order.network,
        start=order.start,
        processes=bounds.processes,
        memory_bytes=bounds.memory_bytes,
        services=services,
    )
    return Command(
        containers.prepare(container),
        _environment(order, settings, order.start, ("PATH", "LANG")) | _paths_inside(sandbox.HOME),
        folder.workspace,
        sandboxed=False,
        log_limit=bounds.log_bytes,
        own_environment=containers.own_environment(),
    )


# -- what is asked for


def _needs_launcher(order: Order) -> bool:
    return bool(order.policy.get("services") or _installs(order) or order.secrets.pgp)


def _installs(order: Order) -> bool:
    return bool(order.policy.get("packages") or order.policy.get("repositories"))


def _without_installing(order: Order, image: Mapping[str, Any]) -> tuple[Order, tuple[str, ...]]:
    """Where packages are a wish (`packages_optional`), an image that installs none goes without, and says so."""
    if not order.policy.get("packages_optional") or not _installs(order) or image.get("install"):
        return order, ()
    policy = {**order.policy, "packages": [], "repositories": {}}
    told = f"packages are not installed: the image {image['name']} has no `install`"
    return replace(order, trial=replace(order.trial, policy=policy)), (told,)


def _launched(order: Order, argv: tuple[str, ...], launcher: str, folder: str) -> tuple[str, ...]:
    return ("/bin/sh", launcher, folder, *argv) if _needs_launcher(order) else argv


def _steps(order: Order, image: Mapping[str, Any]) -> None:
    """Argument lists that install repositories and packages, one file each; names are appended, never spliced."""
    for number, words in enumerate(_installing(order, image)):
        path = order.run / "steps" / f"{number:03}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))


def _installing(order: Order, image: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, source in (order.policy.get("repositories") or {}).items():
        yield [*_list(image, "add_repository"), name, source]
    if packages := order.policy.get("packages"):
        yield [*_list(image, "install"), *packages]


def _list(image: Mapping[str, Any], field: str) -> list[str]:
    if image["type"] == "host":
        raise Stalled(
            "HostPackages", "packages are not installed on the host: name a root or container image"
        )
    words = image.get(field)
    if not words:
        raise Stalled(
            "NoInstaller", f"the image {image['name']} has no `{field}`, which the task's packages need"
        )
    return list(words)


def _services(order: Order, wanted: str) -> Iterator[Held]:
    """Files of services that run beside the script: RUN/services/NAME/{run,ready,environment,pipe}.

    Given are those that must not come to the disk: environments with secrets.
    """
    for service in order.policy.get("services") or ():
        _refuse_other(service, wanted)
        folder = order.run / "services" / service["name"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run").write_text(service["run"], encoding="utf-8")
        if service.get("ready"):
            (folder / "ready").write_text(service["ready"], encoding="utf-8")
        opened = order.secrets.services.get(service["name"]) or {}
        variables = secrets.filled(service.get("environment_variables"), opened)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        content = "".join(lines).encode("utf-8", "surrogateescape")
        if opened:
            yield Held(f"{_INSIDE}/services/{service['name']}/environment", 0o600, content)
        else:
            (folder / "environment").write_bytes(content)
        _pipe(folder)


def _container_services(order: Order) -> list[Service]:
    found: list[Service] = []
    for service in order.policy.get("services") or ():
        _refuse_other(service, "image")
        image = resolve_image(order.place.spec, service["image"])
        if image is None or image["type"] != "container":
            raise Stalled("NoImage", f"{order.place.key} has no container image {service['image']}")
        folder = order.run / "services" / service["name"]
        folder.mkdir(parents=True, exist_ok=True)
        _pipe(folder)
        opened = order.secrets.services.get(service["name"]) or {}
        variables = secrets.filled(service.get("environment_variables"), opened)
        place = order.placing.in_memory(f"service-{len(found)}") if opened else None
        found.append(Service(service["name"], image, service.get("ready"), variables, place))
    return found


def _refuse_other(service: Mapping[str, Any], wanted: str) -> None:
    if not service.get(wanted):
        told = (
            "a service of a script on the host or in a root directory says `run`, one of a container `image`"
        )
        raise Stalled("ServiceForm", f"the service {service['name']} has no `{wanted}`: {told}")


def _pipe(folder: Path) -> None:
    pipe = folder / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe, 0o600)


def _inside(run: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Files of the run folder with their place inside."""
    for path in sorted(run.glob(pattern)):
        yield path, f"{_INSIDE}/{path.relative_to(run)}"


def _paths_inside(home: str) -> dict[str, str]:
    return {
        "HOME": home,
        "STEERSMAN_WORKSPACE": sandbox.WORKSPACE,
        "STEERSMAN_OUTPUTS": f"{_INSIDE}/outputs",
        "STEERSMAN_NEEDS": f"{_INSIDE}/needs",
    }


def _root(order: Order, image: Mapping[str, Any]) -> Path | None:
    """The directory of a root image; a private copy where packages are to be installed, or were by a script before."""
    if image["type"] != "root":
        return None
    made = order.folder.path / "root.made"
    if order.trial.several and made.exists():
        return order.folder.root
    if not _installs(order):
        return Path(image["path"])
    shutil.rmtree(order.folder.root, ignore_errors=True)  # half a copy, of a daemon that was killed
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", f"{image['path']}/.", str(order.folder.root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Stalled(
            "RootCopy", f"the image {image['name']} could not be copied: {done.stderr.strip()[:500]}"
        )
    made.touch()
    return order.folder.root


# -- limits


def _bounds(declared: Mapping[str, Any], settings: Settings, *, contained: bool) -> _Bounds:
    log_bytes = min(int(declared.get("log_bytes") or settings.log_bytes), settings.log_bytes)
    processes, memory = declared.get("processes") or PROCESSES, declared.get("memory_bytes")
    notes = []
    if memory is not None and not contained and "memory" not in groups.offered():
        notes.append(f"limits.memory_bytes is not enforced on this machine: {groups.why_not()}")
    if (
        declared.get("processes") not in (None, PROCESSES)
        and not contained
        and "pids" not in groups.offered()
    ):
        notes.append(f"limits.processes is enforced by the shell at best: {groups.why_not()}")
    return _Bounds(log_bytes, processes, memory, tuple(notes))


def _groups(order: Order, bounds: _Bounds) -> tuple[str, ...]:
    """None for what may leave something running: that is neither bounded nor ended with it."""
    return () if order.survivors else groups.make(cookie(order.run), bounds.processes, bounds.memory_bytes)


def _counted(bounds: _Bounds) -> tuple[str, ...]:
    """Without control groups: an ordinary user's sandbox has a user namespace, in which its processes are counted.

    So the limit is set inside; shells name it differently.
    """
    if os.geteuid() == 0:
        return ()
    text = 'ulimit -u "$0" 2>/dev/null || ulimit -p "$0"; exec "$@"'
    return ("/bin/sh", "-c", text, str(bounds.processes))


def _sandboxed(place: Place, settings: Settings) -> bool:
    wanted = place.spec.get("sandbox", "required")
    if wanted == "required":
        if sandbox.bubblewrap() is not None:
            return True
        if not place.declared and settings.allow_unsandboxed:
            return False  # the undeclared executor, where bubblewrap is absent (design 14.5)
        raise SandboxUnavailableError(
            "SandboxUnavailable",
            f"scripts are refused: {sandbox.why_not()}; install bubblewrap, or set allow_unsandboxed "
            "(STEERSMAN_ALLOW_UNSANDBOXED=1) and `sandbox: off` on declared executors",
        )
    if not settings.allow_unsandboxed:
        raise SandboxUnavailableError(
            "SandboxUnavailable",
            f"{place.key} says `sandbox: off`, which needs the setting allow_unsandboxed "
            "(STEERSMAN_ALLOW_UNSANDBOXED=1)",
        )
    return False


# -- script and environment


def _script_file(order: Order) -> Path:
    """The host path of the script: the inline text as a file of the run, or a file of the checkout."""
    text = order.policy.get("run")
    if text is not None:
        path = order.run / "run.sh"
        _write(path, text.encode(), 0o755 if text.startswith("#!") else 0o644)
        return path
    name, workspace = str(order.policy["script"]), order.folder.workspace
    resolved = (workspace / name).resolve()
    if not resolved.is_relative_to(workspace.resolve()) or not resolved.is_file():
        raise ScriptMissingError("ScriptMissing", f"script {name} is not a file of the checkout")
    return workspace / resolved.relative_to(workspace.resolve())


def _write(path: Path, content: bytes, mode: int) -> None:
    """In as few steps as there are: each of them lets another thread go first."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(handle, mode)
        while content:
            content = content[os.write(handle, content) :]
    finally:
        os.close(handle)
    if mode & 0o100:
        processes.await_copies(path)


def _shown_script(order: Order) -> tuple[tuple[str, ...], list[tuple[Path, str]]]:
    """How it is run inside of a sandbox or container, and the file to show there where it is not in the workspace."""
    if order.program:
        return (*order.program, *order.arguments), []
    script = _script_file(order)
    text = order.policy.get("run")
    if text is not None:
        argv = (_SCRIPT,) if text.startswith("#!") else ("/bin/sh", "-e", _SCRIPT)
        return (*argv, *order.arguments), [(script, _SCRIPT)]
    inside = f"{sandbox.WORKSPACE}/{script.relative_to(order.folder.workspace)}"
    return (*_interpreter(script, inside), *order.arguments), []


def _interpreter(script: Path, inside: Path | str) -> tuple[str, ...]:
    """A script that names its interpreter runs by itself, any other with `sh -e`."""
    with script.open("rb") as file:
        own = file.read(2) == b"#!" and os.access(script, os.X_OK)
    return (str(inside),) if own else ("/bin/sh", "-e", str(inside))


def _environment(
    order: Order, settings: Settings, start: str, image_has: tuple[str, ...] = ()
) -> dict[str, str]:
    """What a script sees (own-kinds, escape-state 8.3); exactly this, nothing of the daemon's own.

    `start`: where it begins, as it sees it; `image_has`: what a container image sets itself.
    """
    job, trial, policy = order.job, order.trial, order.policy
    kind, project, environment, name = job.key.split("/", 3)
    configured_by = configured_as(job.key)
    facts = {
        "STEERSMAN_PROJECT": "" if project.startswith("~") else project,
        "STEERSMAN_ENVIRONMENT": "" if environment == "_" else environment,
        f"STEERSMAN_{kind.upper()}": name if configured_by is None else configured_by[1],
        "STEERSMAN_JOB": str(job.number),
        "STEERSMAN_EXECUTION_ID": job.id,
        "STEERSMAN_TASK": trial.task,
        "STEERSMAN_TRIAL": trial.id,
        "STEERSMAN_ATTEMPT": str(trial.number),
        "STEERSMAN_COMMIT": job.checkout.commit or "",
        "STEERSMAN_BRANCH": job.checkout.branch or "",
        "STEERSMAN_TAG": job.checkout.tag or "",
        "STEERSMAN_TRIGGER": str(job.trigger.get("type", "")),
        "STEERSMAN_DUE": str(job.trigger.get("due", "")),
        "STEERSMAN_SERVER": order.server,
        "STEERSMAN_TOKEN": order.token,
    }
    base = {"PATH": _PATH, "LANG": "C.UTF-8", "CI": "true", "USER": "steersman", "TZ": settings.timezone}
    base = {name: value for name, value in base.items() if name not in image_has}
    own = secrets.filled(policy.get("environment_variables"), order.secrets.variables)
    if order.known is not None:
        templates = policy.get("template_environment_variables") is not False
        own = configured.variables(order.known, start, own, templates=templates)
    if order.secrets.ssh:
        # ssh itself looks in the home that /etc/passwd has, which may be another one
        own = {"GIT_SSH_COMMAND": 'ssh -F "$HOME/.ssh/config"'} | own
    matrix = {f"MATRIX_{name.upper()}": value for name, value in (policy.get("matrix") or {}).items()}
    inputs = {f"INPUT_{name}": value for name, value in job.inputs.items()}
    return (
        base
        | own
        | matrix
        | inputs
        | dict(order.variables)
        | facts
        | dict(order.facts)
        | dict(order.sensitive)
    )


def service_names(policy: Mapping[str, Any]) -> list[str]:
    """Names of the services of a task; the script itself is called `run`."""
    return [service["name"] for service in policy.get("services") or () if service["name"] != MAIN]
