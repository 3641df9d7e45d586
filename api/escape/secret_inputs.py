"""Inputs that are secret: each is sealed as a Secret of its own in the same commit, and named by `secret_ref` (13.5).

Which ones are, the release says, or whoever takes over a state. The value never stands in a commit or an answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from api.escape.requests import wrong
from api.escape.sealed import fitting, sealed_anew
from reconciler.installation import Installation
from reconciler.queries.deployments import sensitive_inputs
from specs.meta import Key
from specs.references import SECRET_REF
from specs.tree import Tree
from specs.write import Wish

_ODD = re.compile(r"[^A-Za-z0-9._-]+|--")


@dataclass(slots=True)
class SecretInputs:
    """Those of one Deployment or Environment; `touched` are the KEYs of Secrets that its commit writes or takes out."""

    installation: Installation
    owner: Key
    touched: set[str] = field(default_factory=set)

    def wishes(self, tree: Tree, spec: Mapping[str, Any], secret: Callable[[str], bool]) -> list[Wish]:
        """The resource with this specification, and the Secrets of those inputs that are `secret`."""
        inputs, found = dict(_inputs(spec)), []
        for name, value in inputs.items():
            if not secret(name) or _named(value) is not None:
                continue
            key = secret_key(self.owner, name)
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            sealed = sealed_anew(self.installation, tree, key, f"inputs.{name}", text)
            if sealed is not None:
                found.append(Wish(key, {"type": "value", "sealed": sealed}))
            inputs[name] = {SECRET_REF: key.name}
        left = {_named(value) for value in inputs.values()}
        found += [wish for wish in self.gone(tree) if wish.key.name not in left]
        self.touched |= {str(wish.key) for wish in found}
        return [Wish(self.owner, {**spec, "inputs": inputs} if inputs or "inputs" in spec else spec), *found]

    def gone(self, tree: Tree) -> list[Wish]:
        """Without the Secrets that were made for its inputs."""
        declared = tree.declared.get(str(self.owner))
        now = _inputs((declared.spec if declared else None) or {})
        made = [secret_key(self.owner, name) for name in now]
        found = [
            Wish(key, None)
            for key, value in zip(made, now.values(), strict=True)
            if _named(value) == key.name and str(key) in tree.declared
        ]
        self.touched |= {str(wish.key) for wish in found}
        return found

    def allowed(self, key: str) -> bool:
        """Whoever may write the resource may write what it keeps secret, and nothing else that is secret."""
        return key in self.touched


def secret_key(owner: Key, name: str) -> Key:
    """The Secret of an input, in the environment that it is for. No two inputs have the same one."""
    environment = owner.environment or owner.name
    parts = [owner.kind.lower(), str(owner.project), environment]
    parts += [] if owner.environment is None else owner.name.split("/")
    plain = "--".join((*parts, name))
    if any(_ODD.search(part) for part in (*parts, name)):
        mark = hashlib.sha256("\0".join((*parts, "", name)).encode()).hexdigest()[:16]
        plain = f"{_ODD.sub('-', plain)}-{mark}"
    return Key("Secret", owner.project, environment, fitting(plain))


async def of_release(installation: Installation, data: Mapping[str, Any]) -> Callable[[str], bool]:
    """Which inputs of a body are secret, as the release that it names says."""
    release, version = data.get("release"), data.get("version")
    names: Collection[str] = ()
    if isinstance(release, str) and isinstance(version or "", str):
        names = await sensitive_inputs(installation, release, version or "latest")
    return names.__contains__


def _inputs(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = spec.get("inputs")
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise wrong("inputs", "must be an object")
    return inputs


def _named(value: Any) -> str | None:
    """The Secret that an input names."""
    if isinstance(value, Mapping) and value.keys() == {SECRET_REF}:
        return str(value[SECRET_REF])
    return None
