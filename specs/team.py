"""The kinds Team and ServiceAccount (escape-state, section 14): groups of people, and identities that are no
person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from specs import references
from specs.meta import BUILT_IN_USER, Key, user_name_fault
from specs.model import Name, Spec, SpecFault, Text
from specs.references import Reference


def _user_name(name: str) -> str:
    if name != BUILT_IN_USER and (message := user_name_fault(name)):
        raise ValueError(f"must be the name of a User: {message}")
    return name


UserName = Annotated[str, AfterValidator(_user_name)]


class Team(Spec):
    """A group of people; it owns service accounts, decides confirmations, and is bound to roles."""

    members: list[UserName] = Field(default_factory=list)
    """Users by name."""
    groups: list[Name] = Field(default_factory=list)
    """Groups of the identity provider whose members belong to the team too."""
    description: Text = ""
    """What the team is, in a sentence for people."""


class ServiceAccount(Spec):
    """An identity for builds, pipelines and programs, owned by a team."""

    description: Text = ""
    """What it is for, in a sentence for people."""
    disabled: bool = False
    """Nothing can act as it, and its tokens are refused."""
    token_lifetime_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """Days after which a token of it expires."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults of a Team."""
    yield from references.twice(("members",), spec["members"])
    yield from references.twice(("groups",), spec["groups"])


def members(spec: Mapping[str, Any], _key: Key) -> Iterator[Reference]:
    """The Users of a Team."""
    for index, name in enumerate(spec["members"]):
        yield from references.user(("members", index), name)
