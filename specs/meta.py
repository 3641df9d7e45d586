"""KEYs: the kind, the scope parts of the kind, the name; and the patterns of names (escape-state, section
4).

Called by the tree, and by everybody who takes a KEY from outside. Never knows what a kind's specification
holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ABSENT = "_"
OWNER = "~"

PROJECT_NAME = re.compile(r"[a-zA-Z0-9]+[a-zA-Z0-9_-]+", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[a-z]+[a-z0-9_-]*", re.ASCII)
PLAIN_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}", re.ASCII)
DEPLOYMENT_NAME = re.compile(r"[a-zA-Z_]+[a-zA-Z0-9_/-]*", re.ASCII)
SECRET_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,199}", re.ASCII)
USER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._@+-]{0,99}", re.ASCII)

FREE_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,300}")
FREE_PART = re.compile(r"[^\x00-\x1f\x7f/]{1,300}")

LONGEST_NAME = 200

BUILT_IN_USER = "admin"
"""The user that is always there (own-kinds)."""

# The fixed scope parts of each kind (own-kinds, "Keys, names, files"); one with a "?" may be absent.
SCOPES: dict[str, tuple[str, ...]] = {
    "User": (),
    "Team": (),
    "ServiceAccount": ("team",),
    "Project": (),
    "Environment": ("project",),
    "Secret": ("project?", "environment?"),
    "Repository": ("project",),
    "RoleBinding": ("project?", "environment?"),
    "Build": ("project", "environment?"),
    "Deployment": ("project", "environment"),
    "Pipeline": ("project",),
    "Freeze": ("project?",),
    "Notification": ("project?",),
    "Application": (),
    "ApprovalRuleset": (),
    "Product": (),
    "ProductVersion": (),
    "ProductRelease": (),
    "SLA": (),
    "Executor": (),
}

OWNED = frozenset({"Secret"})
"""Kinds that may belong to a user instead of a project: the project part of their KEY is then `~OWNER`."""


@dataclass(frozen=True, slots=True)
class Key:
    """A resource's address: kind, scope, name; unused scope parts are None."""

    kind: str
    project: str | None
    environment: str | None
    name: str
    team: str | None = None
    owner: str | None = None

    def __str__(self) -> str:
        values = {"project": self.project, "environment": self.environment, "team": self.team}
        if self.owner is not None:
            values["project"] = OWNER + self.owner
        parts = [values[part.rstrip("?")] or ABSENT for part in SCOPES.get(self.kind, ())]
        return "/".join([self.kind, *parts, self.name])


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
    values: dict[str, str | None] = {}
    for part, value in zip(scope, parts, strict=False):
        if value == ABSENT and not part.endswith("?"):
            raise ValueError(f'{a(kind)} always has {a(part)}; write {key_form(kind)} instead of "{text}"')
        values[part.rstrip("?")] = None if value == ABSENT else value
    project, environment = values.get("project"), values.get("environment")
    owner = None
    if kind in OWNED and project is not None and project.startswith(OWNER):
        owner, project = project.removeprefix(OWNER), None
    if environment is not None and project is None:
        raise ValueError(f'{a(kind)} has no environment without a project, so "{text}" is not a KEY')
    if owner == "":
        raise ValueError(f'"{text}" names no owner after {OWNER}; write {key_form(kind)}')
    return Key(kind, project, environment, parts[-1], values.get("team"), owner)


def a(word: str) -> str:
    """A kind, or a part of a scope, with its article."""
    return f"an {word}" if word[0] in "AEIOaeio" or word.startswith("Un") else f"a {word}"


def key_form(kind: str) -> str:
    """How the KEY of a kind is written, for messages."""
    parts = []
    for part in SCOPES[kind]:
        also = [f"{OWNER}OWNER"] if kind in OWNED and part == "project?" else []
        also += [ABSENT] if part.endswith("?") else []
        parts.append(part.rstrip("?").upper() + (f" (or {' or '.join(also)})" if also else ""))
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


def deployment_name_fault(name: str) -> str | None:
    """What is wrong with a Deployment's name, or None."""
    if not DEPLOYMENT_NAME.fullmatch(name):
        return "a deployment's name has letters, digits, -, _ and /, and begins with a letter or _"
    if "//" in name or name.endswith("/"):
        return "a deployment's name has no // in it and no / at its end"
    return _length_fault(name)


def secret_name_fault(name: str) -> str | None:
    """What is wrong with a Secret's name, or None."""
    if SECRET_NAME.fullmatch(name):
        return None
    return "a secret's name has at most 200 letters, digits, ., _ and -, and begins with a letter or digit"


def user_name_fault(name: str) -> str | None:
    """What is wrong with a User's name, or None."""
    if name == BUILT_IN_USER:
        return f'"{name}" is built in; choose another name'
    if USER_NAME.fullmatch(name):
        return None
    return (
        "a user's name has at most 100 letters, digits, ., _, @, + and -, and begins with a letter or digit"
    )


def plain_name_fault(name: str) -> str | None:
    """What is wrong with the name of a Build, Repository, Executor and the like, or None."""
    if PLAIN_NAME.fullmatch(name):
        return None
    return "a name has at most 100 letters, digits, ., _ and -, and begins with a letter or digit"


def free_name_fault(name: str) -> str | None:
    """What is wrong with a name that people choose freely, such as that of an SLA, or None."""
    if FREE_NAME.fullmatch(name) and name.strip() == name:
        return None
    return "a name has 1 to 300 characters, no control characters, and no blanks at its ends"


def free_part_fault(name: str) -> str | None:
    """What is wrong with a name that is chosen freely but stands between slashes of an address, or None."""
    if "/" in name:
        return "the name of what has an address of its own holds no /"
    if name in (".", ".."):
        return f'"{name}" means something else in an address; choose another name'
    return free_name_fault(name)


def _length_fault(name: str) -> str | None:
    return f"a name has at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None
