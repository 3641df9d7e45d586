"""KEYs: the kind, the scope parts of the kind, the name; and the patterns of names (escape-state, section
4).

Called by the tree, and by everybody who takes a KEY from outside. Never knows what a kind's specification
holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ABSENT = "_"

PROJECT_NAME = re.compile(r"[a-zA-Z0-9]+[a-zA-Z0-9_-]+", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[a-z]+[a-z0-9_-]*", re.ASCII)
PLAIN_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}", re.ASCII)
DEPLOYMENT_NAME = re.compile(r"[a-zA-Z_]+[a-zA-Z0-9_/-]*", re.ASCII)

LONGEST_NAME = 200

# The fixed scope parts of each kind (own-kinds, "Keys, names, files"); one with a "?" may be absent.
SCOPES: dict[str, tuple[str, ...]] = {
    "Project": (),
    "Environment": ("project",),
    "Repository": ("project",),
    "Build": ("project", "environment?"),
    "Executor": (),
}


@dataclass(frozen=True, slots=True)
class Key:
    """A resource's address: kind, scope, name; unused scope parts are None."""

    kind: str
    project: str | None
    environment: str | None
    name: str

    def __str__(self) -> str:
        parts = [self.kind]
        for part in SCOPES.get(self.kind, ()):
            value = self.project if part.startswith("project") else self.environment
            parts.append(value or ABSENT)
        return "/".join([*parts, self.name])


def parse_key(text: str) -> Key:
    """The KEY that a text such as `Build/shop/_/web` names; the name is raw to the end.

    Raises ValueError with a sentence for people.
    """
    kind, _, rest = text.partition("/")
    if kind not in SCOPES:
        known = ", ".join(sorted(SCOPES))
        raise ValueError(f'"{kind}" is not a kind; a KEY begins with one of {known}')
    scope = SCOPES[kind]
    parts = rest.split("/", len(scope))
    if len(parts) != len(scope) + 1 or not all(parts):
        raise ValueError(f'"{text}" is not a KEY of {a(kind)}; write {key_form(kind)}')
    values: dict[str, str | None] = {"project": None, "environment": None}
    for part, value in zip(scope, parts, strict=False):
        if value == ABSENT and not part.endswith("?"):
            raise ValueError(f'{a(kind)} always has a {part}; write {key_form(kind)} instead of "{text}"')
        values[part.rstrip("?")] = None if value == ABSENT else value
    return Key(kind, values["project"], values["environment"], parts[-1])


def a(kind: str) -> str:
    """A kind with its article."""
    return f"an {kind}" if kind[0] in "AEIOU" else f"a {kind}"


def key_form(kind: str) -> str:
    """How the KEY of a kind is written, for messages."""
    parts = [
        part.removesuffix("?").upper() + (" (or _)" if part.endswith("?") else "") for part in SCOPES[kind]
    ]
    return "/".join([kind, *parts, "NAME"])


def project_name_fault(name: str) -> str | None:
    """What is wrong with a Project's name, or None."""
    if name == "namespaces" or name.startswith("__"):
        return f'"{name}" is reserved; choose another name'
    if not PROJECT_NAME.fullmatch(name):
        return "a project's name is two or more letters, digits, - and _, and begins with a letter or digit"
    return _length_fault(name)


def environment_name_fault(name: str) -> str | None:
    """What is wrong with an Environment's name, or None."""
    if not ENVIRONMENT_NAME.fullmatch(name):
        return "an environment's name has lower-case letters, digits, - and _, and begins with a letter"
    return _length_fault(name)


def plain_name_fault(name: str) -> str | None:
    """What is wrong with the name of a Build, Repository, Executor and the like, or None."""
    if PLAIN_NAME.fullmatch(name):
        return None
    return "a name has at most 100 letters, digits, ., _ and -, and begins with a letter or digit"


def _length_fault(name: str) -> str | None:
    return f"a name has at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None
