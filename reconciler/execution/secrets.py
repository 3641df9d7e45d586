"""What a script is given of Secrets: found by name, opened when its trial starts, and where it all is put (design 5.5).

`execution.run` asks `Secrets` before a start, and again for what is to be masked in its log: also after a restart, from
the sealed texts in RUN/secrets. `execution.command` puts the files in place. A value is never written to the disk, and
never part of an error, which names the KEY.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.credentials import Execution, execution_token
from reconciler.errors import SteersmanError
from reconciler.execution.memory import Held
from reconciler.execution.sandbox import HOME, WORKSPACE
from reconciler.model.job import Reason, owner_of
from reconciler.model.resource import Specified
from reconciler.sealing import Keys, SealingError, seal
from reconciler.store.jobs import LiveTrial
from specs.meta import Key, parse_key
from specs.references import SECRET_REF, secret_keys, secrets_in

SSH_CONFIG = f"{HOME}/.ssh/config"
INSIDE = "/run/steersman"
TMP = "/tmp"  # noqa: S108  (the script's)
_KEPT = "secrets"
_FIRST_SSH = f"{HOME}/.ssh/id_rsa"

Policy = Mapping[str, Any]


class SecretError(SteersmanError):
    """A secret cannot be given to a script; the message names its KEY."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.SECRET, message)


@dataclass(frozen=True, slots=True)
class Opened:
    """The secrets of one trial. `variables` of the script and `services` of each service hold only what is secret.

    `files` are in the order of the task's `secrets`; `ssh` are places of SSH keys, `pgp` of keys to be imported.
    `sealed` is what it was opened from, by KEY.
    """

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    files: tuple[Held, ...] = ()
    ssh: tuple[str, ...] = ()
    pgp: tuple[str, ...] = ()
    sealed: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sealed)


NOTHING = Opened()


def uses(policy: Policy) -> bool:
    """Does a task name any secret?"""
    if policy.get("secrets") or _any_secret(policy.get("environment_variables")):
        return True
    return any(_any_secret(s.get("environment_variables")) for s in policy.get("services") or ())


def _any_secret(values: Mapping[str, Any] | None) -> bool:
    return any(isinstance(value, Mapping) for value in (values or {}).values())


def filled(values: Mapping[str, Any] | None, secret: Mapping[str, str]) -> dict[str, str]:
    """Variables as they are declared, with the values of those that name a secret."""
    return {
        name: secret[name] if isinstance(value, Mapping) else str(value)
        for name, value in (values or {}).items()
    }


class Secrets:
    """Opens secrets with the server's keys; `declared` gives the resource of a KEY, if there is one.

    `owned` gives the Secrets of a user by KEY; `server` is the address to which scripts show their token.
    """

    def __init__(
        self,
        keys: Keys,
        declared: Callable[[str], Specified | None],
        owned: Callable[[str], Mapping[str, Specified]] = lambda _: {},
        server: str = "",
    ) -> None:
        self.server = server
        self._keys = keys
        self._declared = declared
        self._owned = owned

    def open(
        self, job: str, policy: Policy, sensitive: Mapping[str, str] | None = None, *, trial: str = ""
    ) -> Opened:
        """All that a task of this job (its KEY) names, as declared now. SecretError.

        `sensitive`: further variables that no log may show, though they are no Secrets. `trial`: for which it is.
        """
        if sensitive:
            return self._hiding(self.open(job, policy, trial=trial), job, sensitive)
        if not uses(policy):
            return NOTHING
        owner = owner_of(job)
        if owner is None:
            near = partial(self._near, job, partial(self._known, trial))
        else:
            near = partial(_of_owner, owner, self._known_of(trial, owner))
        found = _Found(self._keys, near)
        variables = dict(_variables(found, policy.get("environment_variables")))
        services = {
            service["name"]: dict(_variables(found, service.get("environment_variables")))
            for service in policy.get("services") or ()
        }
        placed = _Placed()
        for name in policy.get("secrets") or ():
            placed.put(name, *found.file(name))
        return Opened(
            variables, services, tuple(placed.files.values()), placed.ssh, tuple(placed.pgp), found.sealed
        )

    def _hiding(self, opened: Opened, job: str, sensitive: Mapping[str, str]) -> Opened:
        """With values to be masked: sealed as Secrets are, since what is noted of them lies on the disk."""
        sealed = dict(opened.sealed)
        for name, value in sensitive.items():
            if value:
                key = f"{job}#{name}"
                try:
                    sealed[key] = seal(value.encode("utf-8", "surrogateescape"), self._keys.recipient, key)
                except SealingError as error:
                    raise SecretError(f"the value of {name} cannot be hidden: {error}") from None
        return replace(opened, sealed=sealed)

    def _known(self, _trial: str, key: str) -> Specified | None:
        """A Secret by its KEY, as a trial may see it."""
        return self._declared(key)

    def _known_of(self, _trial: str, owner: str) -> Mapping[str, Specified]:
        """A user's Secrets, as a trial may see them."""
        return self._owned(owner)

    def _near(self, job: str, known: Callable[[str], Specified | None], name: str) -> tuple[str, Specified]:
        """The nearest that is declared of those that a name may mean counts, also where it is not valid."""
        key = parse_key(job)
        candidates = secret_keys(key.project, key.environment, name)
        for each in candidates:
            resource = known(each)
            if resource is not None:
                return each, resource
        raise SecretError(f"there is no secret {name}: none of {', '.join(candidates)} is declared")

    def token(self, job: int, trial: str) -> str:
        """What the scripts of a trial show to this server: good while it runs, for its job alone."""
        return execution_token(self._keys, Execution(job, trial))

    def handed(self, job: str, trial: LiveTrial, more: Iterable[str], recipient: str) -> str:
        """All that a worker needs of secrets for a trial of this job (its KEY), sealed to the worker's key; `Handed`
        takes it. `more`: KEYs of further ones. What cannot be given is told there, where it ends the trial.
        """
        try:
            found = {*self.open(job, trial.policy).sealed, *more}
            secrets = {key: self._resealed(key, recipient) for key in sorted(found)}
            token = seal(self.token(trial.job, trial.id).encode(), recipient, trial.id)
        except (SecretError, SealingError) as error:
            return json.dumps({"error": str(error)})
        return json.dumps({"secrets": secrets, "token": token, "server": self.server})

    def _resealed(self, key: str, recipient: str) -> dict[str, Any]:
        resource = self._declared(key)
        if resource is None or resource.spec is None:
            raise SecretError(f"there is no valid {key}")
        spec = resource.spec
        return {**spec, "sealed": seal(self._keys.open(spec["sealed"], key), recipient, key)}

    def forget(self, trial: str) -> None:
        """It has ended."""

    def keep(self, run: Path, opened: Opened) -> None:
        """Note in the run folder what is to be masked: sealed, so that it can be opened again after a restart."""
        handle = os.open(run / _KEPT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(dict(opened.sealed), file)

    def kept(self, run: Path) -> list[bytes]:
        """The values that were noted, for masking. SecretError where they cannot be opened any more."""
        try:
            sealed = json.loads((run / _KEPT).read_text(encoding="ascii"))
        except (OSError, ValueError):
            raise SecretError("the secrets that its scripts used are not known any more") from None
        try:
            return [self._keys.open(text, key) for key, text in sealed.items()]
        except SealingError as error:
            raise SecretError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Secret:
    """A Secret as it was handed over."""

    spec: Mapping[str, Any]


class Handed(Secrets):
    """A worker's: it opens, with its own key, what the daemon that leads has sealed to it, trial by trial.

    Each trial sees what came with it: of another's a nearer one may have been taken away since.
    """

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys, self.declared)
        self._secrets: dict[str, dict[str, _Secret]] = {}
        self._tokens: dict[str, str] = {}
        self._errors: dict[str, str] = {}

    def take(self, trial: str, text: str) -> None:
        """What came with a trial."""
        body = json.loads(text)
        if "error" in body:
            self._errors[trial] = str(body["error"])
            return
        self._secrets[trial] = {key: _Secret(spec) for key, spec in body["secrets"].items()}
        self._tokens[trial] = body["token"]
        self.server = body["server"]

    def forget(self, trial: str) -> None:
        """It has ended."""
        self._secrets.pop(trial, None)
        self._tokens.pop(trial, None)
        self._errors.pop(trial, None)

    def token(self, job: int, trial: str) -> str:
        """As it was handed over. SecretError with what kept the daemon from handing over what the trial needs."""
        if trial in self._errors:
            raise SecretError(self._errors[trial])
        if trial not in self._tokens:
            raise SecretError("what its scripts need of secrets is not known to this worker any more")
        try:
            return self._keys.open(self._tokens[trial], trial).decode()
        except SealingError as error:
            raise SecretError(str(error)) from None

    def declared(self, key: str) -> Specified | None:
        """A Secret by its KEY, as it came last with any trial that has not ended."""
        found = (secrets[key] for secrets in reversed(list(self._secrets.values())) if key in secrets)
        return next(found, None)

    def _known(self, trial: str, key: str) -> Specified | None:
        return self._secrets.get(trial, {}).get(key)

    def _known_of(self, trial: str, owner: str) -> Mapping[str, Specified]:
        found = self._secrets.get(trial, {})
        return {key: each for key, each in found.items() if key.startswith(f"Secret/~{owner}/")}


def _of_owner(owner: str, secrets: Mapping[str, Specified], name: str) -> tuple[str, Specified]:
    """A user's secret by its uuid, else by its name (builds-srht 5.2)."""
    for key, resource in secrets.items():
        if (resource.spec or {}).get("uuid") == name:
            return key, resource
    key = str(Key("Secret", None, None, name, owner=owner))
    if key not in secrets:
        raise SecretError(f"~{owner} has no secret {name}, neither by uuid nor by name")
    return key, secrets[key]


class _Found:
    """Secrets by name, as a job sees them: `near` gives KEY and resource; `sealed` grows by what was opened."""

    def __init__(self, keys: Keys, near: Callable[[str], tuple[str, Specified]]) -> None:
        self._keys = keys
        self._near = near
        self.sealed: dict[str, str] = {}

    def file(self, name: str) -> tuple[str, Mapping[str, Any], bytes]:
        """KEY, specification and content."""
        key, resource = self._near(name)
        if resource.spec is None:
            raise SecretError(f"{key} is declared, but was never valid; `steersman get {key}` says why")
        sealed = resource.spec["sealed"]
        try:
            value = self._keys.open(sealed, key)
        except SealingError as error:
            raise SecretError(str(error)) from None
        self.sealed[key] = sealed
        return key, resource.spec, value


def _variables(found: _Found, values: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for steps, name in secrets_in((), values):
        key, _, value = found.file(name)
        if b"\0" in value:
            raise SecretError(f"{key} holds a NUL character, which no variable can; give it as a file")
        yield str(steps[0]), value.decode("utf-8", "surrogateescape")
    for name, value in (values or {}).items():
        if isinstance(value, Mapping) and not isinstance(value.get(SECRET_REF), str):
            raise SecretError(f"the variable {name} names no secret")


class _Placed:
    """Where keys and files go (builds-srht 5.2; the same for all scripts): no two at one place."""

    def __init__(self) -> None:
        self.files: dict[str, Held] = {}
        self.pgp: list[str] = []
        self._ssh: list[str] = []
        self._owners = {SSH_CONFIG: "the SSH configuration"}

    @property
    def ssh(self) -> tuple[str, ...]:
        return tuple(self._ssh)

    def put(self, name: str, key: str, spec: Mapping[str, Any], content: bytes) -> None:
        if spec["type"] == "value":
            raise SecretError(
                f"{key} is a value: name it in environment_variables as {{{SECRET_REF}: {name}}}, not in secrets"
            )
        if spec["type"] == "ssh_key":
            text = content if content.endswith(b"\n") else content + b"\n"  # ssh refuses it otherwise
            place = f"{HOME}/.ssh/{name}"
            self._add(Held(place, 0o600, text, key))
            self._ssh.append(place)
            if len(self._ssh) == 1 and place != _FIRST_SSH:
                self._add(Held(_FIRST_SSH, 0o600, text, key))
        elif spec["type"] == "pgp_key":
            self._add(Held(f"{INSIDE}/pgp/{name}", 0o600, content, key))
            self.pgp.append(f"{INSIDE}/pgp/{name}")
        else:
            mode = int(spec.get("mode") or "600", 8)
            self._add(Held(_place(key, spec["path"]), mode, content, key))

    def _add(self, held: Held) -> None:
        if other := self._owners.get(held.place):
            raise SecretError(f"{held.key} is to be put at {held.place}, where {other} is")
        self._owners[held.place] = held.key
        self.files[held.place] = held


def _place(key: str, path: str) -> str:
    """A plaintext_file's place: below the home, /tmp or the workspace, as nothing else can be written."""
    place = posixpath.normpath(posixpath.join(HOME, path.removeprefix("~/")))
    if not any(place.startswith(f"{folder}/") for folder in (HOME, TMP, WORKSPACE)):
        raise SecretError(
            f"{key} is to be put at {path}, which a script cannot have; put it below ~, /tmp or {WORKSPACE}"
        )
    return place


def ssh_config(home: str, identities: Sequence[str]) -> str:
    """`~/.ssh/config` that names the keys, all of them for every host; `home` is that of the script."""
    return "".join(f'IdentityFile "{home}{place.removeprefix(HOME)}"\n' for place in identities)
