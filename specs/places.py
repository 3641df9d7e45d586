"""Where a resource's document stands (escape-state, 13.4; own-kinds, "Keys, names, files"): the scope that a
path implies, and the file that an API write makes.

Called by specs.scope and by those who write documents. Never knows which files there are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from specs.meta import Key

LONGEST_SLUG = 180

_IMPLIES = (
    re.compile(r"projects/(?P<project>[^/]+)/(?:environments/(?P<environment>[^/]+)/)?.+"),
    re.compile(r"teams/(?P<team>[^/]+)/.+"),
)
_OUTSIDE_SLUGS = re.compile(r"[^A-Za-z0-9._@+-]")
# Folders below a project or an environment; another kind's folder is its name.
_FOLDERS = {
    "Build": "builds",
    "Deployment": "deployments",
    "Pipeline": "pipelines",
    "Repository": "repositories",
    "RoleBinding": "role-bindings",
    "Secret": "secrets",
}
# Kinds that have a folder in that of their environment; others are told apart by metadata.environment.
_IN_ENVIRONMENTS = ("Build", "Deployment")


def implied(path: str) -> Mapping[str, str | None]:
    """The scope parts that a path implies, from the source's root: project, environment, team."""
    for pattern in _IMPLIES:
        if found := pattern.fullmatch(path):
            return found.groupdict()
    return {}


def file_of(key: Key) -> str:
    """The file, from the source's root, that a new resource of this KEY is written to. Several resources may
    have one file; then their documents stand in it one after the other.
    """
    file = f"{slug(key.name)}.yaml"
    if key.kind == "Project":
        return f"projects/{key.name}/project.yaml"
    if key.kind == "Environment":
        return f"projects/{key.project}/environments/{key.name}/environment.yaml"
    if key.kind == "Team":
        return f"teams/{file}"
    if key.kind == "ServiceAccount":
        return f"teams/{key.team}/service-accounts/{file}"
    if key.project is None:
        return f"installation/{key.kind}/{file}"
    folder = f"projects/{key.project}"
    if key.environment is not None and key.kind in _IN_ENVIRONMENTS:
        folder = f"{folder}/environments/{key.environment}"
    return f"{folder}/{_FOLDERS.get(key.kind, key.kind)}/{file}"


def slug(name: str) -> str:
    """A name as a part of a path: `/` is `--`, what else has no place in a file's name is `-`."""
    text = _OUTSIDE_SLUGS.sub("-", name.replace("/", "--"))
    text = f"-{text}" if text.startswith(".") else text
    if len(text) <= LONGEST_SLUG:
        return text
    return f"{text[:LONGEST_SLUG]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
