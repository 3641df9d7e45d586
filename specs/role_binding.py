"""The kind RoleBinding (escape-state, section 14; own-kinds): who has which role, in a project, an
environment or the whole installation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from specs import references
from specs.meta import BUILT_IN_USER, Key, plain_name_fault, user_name_fault
from specs.model import PlainName, Spec, SpecFault
from specs.references import Reference


class Subject(Spec):
    """Who is given the role."""

    kind: Literal["User", "Team", "ServiceAccount"]
    """What it is."""
    name: str
    """Its name."""
    team: PlainName | None = None
    """The team that owns it; for a ServiceAccount only."""


class RoleBinding(Spec):
    """A role for some subjects, where the binding's metadata says: a project, one of its environments, or
    everywhere.
    """

    role: Literal["read", "write", "owner"]
    """Each role includes the ones before it; the owner of the installation is an administrator."""
    subjects: list[Subject] = Field(min_length=1, max_length=1000)
    """Users, teams and service accounts."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults of the subjects."""
    for index, subject in enumerate(spec["subjects"]):
        where = ("subjects", index)
        if message := _name_fault(subject):
            yield (*where, "name"), message
        if subject["kind"] == "ServiceAccount" and subject["team"] is None:
            yield where, "a ServiceAccount is named with the team that owns it; add team"
        if subject["kind"] != "ServiceAccount" and subject["team"] is not None:
            yield (*where, "team"), f"a {subject['kind']} has no team; remove it"
        if subject in spec["subjects"][:index]:
            yield where, f"this {subject['kind']} stands above; remove one"


def _name_fault(subject: Mapping[str, Any]) -> str | None:
    if subject["kind"] != "User":
        return plain_name_fault(subject["name"])
    return None if subject["name"] == BUILT_IN_USER else user_name_fault(subject["name"])


def subjects(spec: Mapping[str, Any], _key: Key) -> Iterator[Reference]:
    """Whom a binding names."""
    for index, subject in enumerate(spec["subjects"]):
        where = ("subjects", index, "name")
        if _name_fault(subject):
            continue
        if subject["kind"] == "User":
            yield from references.user(where, subject["name"])
        elif subject["kind"] == "Team":
            yield Reference(where, (f"Team/{subject['name']}",))
        elif subject["team"] is not None:
            yield references.service_account(where, subject["team"], subject["name"])
