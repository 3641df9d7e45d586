"""Passwords of rules that ask a server (sqedule, 2.7): locked while they are of a proposal, sealed as Secrets in the
commit itself that approves it (design 13.11). They are never shown again.

Called by the commands of what is reviewed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.sealing import SealingError, seal
from specs.meta import Key
from specs.references import SECRET_REF
from specs.tree import Tree
from specs.write import Wish

LOCKED = "locked"
_BOUND = "password of a proposed rule"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 150
_PORTS = {"http": 80, "https": 443}


def locked(installation: Installation, password: str) -> dict[str, str]:
    """A password as a proposal keeps it."""
    return {LOCKED: base64.b64encode(installation.keys.lock(password.encode(), _BOUND)).decode()}


def may_keep(was: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether a rule may go on with its password: it goes to no other server, nor under another username."""
    if rule["username"] is None:
        return True  # it goes nowhere
    return was["username"] == rule["username"] and _server(was["url"]) == _server(rule["url"])


def _server(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


@dataclass(frozen=True, slots=True)
class Sealed:
    """Rules as they stand in Git, and the Secrets that their new passwords are sealed in, by KEY."""

    rules: Sequence[Mapping[str, Any]]
    secrets: Mapping[str, Wish]

    def wishes(self, tree: Tree, ruleset: str, rules: Sequence[Mapping[str, Any]]) -> list[Wish]:
        """The new Secrets; those made for rules of this ruleset, and that none of these names any more, go."""
        named = {each["password"][SECRET_REF] for each in rules if each.get("password")}
        declared = tree.declared.get(f"ApprovalRuleset/{ruleset}")
        before: Mapping[str, Any] = (declared.spec if declared else None) or {"rules": []}
        gone = [
            Wish(key, None)
            for key in _made_for(ruleset, before["rules"])
            if key.name not in named and str(key) in tree.declared
        ]
        return [*self.secrets.values(), *gone]

    def may_write(self, ruleset: str, key: str) -> bool:
        """Whoever may write a ruleset may write what was made for its passwords, and nothing else that is secret."""
        return key in self.secrets or key.startswith(f"Secret/_/_/{_prefix(ruleset)}")


def sealed(installation: Installation, ruleset: str, rules: Sequence[Mapping[str, Any]]) -> Sealed:
    """What becomes of the rules of a proposal when it is committed."""
    found, secrets = [], {}
    for rule in rules:
        password = rule.get("password")
        if password is None or LOCKED not in password:
            found.append(rule)
            continue
        key = Key("Secret", None, None, f"{_prefix(ruleset)}{token_hex(4)}")
        value = _opened(installation, password[LOCKED])
        secrets[str(key)] = Wish(
            key, {"type": "value", "sealed": seal(value, installation.keys.recipient, str(key))}
        )
        found.append({**rule, "password": {SECRET_REF: key.name}})
    return Sealed(found, secrets)


def _opened(installation: Installation, text: str) -> bytes:
    try:
        return installation.keys.unlock(base64.b64decode(text), _BOUND)
    except SealingError as error:
        raise Conflict("CannotOpen", f"{error}; or give the password of the rule again") from error


def _made_for(ruleset: str, rules: Sequence[Mapping[str, Any]]) -> Iterator[Key]:
    for rule in rules:
        name = (rule.get("password") or {}).get(SECRET_REF, "")
        if name.startswith(_prefix(ruleset)):
            yield Key("Secret", None, None, name)


def _prefix(ruleset: str) -> str:
    return f"ruleset--{_ODD.sub('-', ruleset)[:_LONGEST]}--"
