"""What a specification names elsewhere: other resources by KEY, secrets by NAME.

Made by the modules of the kinds, judged by the evaluation. Never knows what is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from specs.meta import BUILT_IN_USER, Key, secret_name_fault
from specs.model import Spec, SpecFault, Steps, Text, VariableName, no_nul, variable_shape_fault

ANY_TEAM = "*"
"""Stands for the team of a service account that is named without one."""

SECRET_REF = "secret_ref"  # noqa: S105 - the name of a field

# Marks of pydantic's union, which must be no keys that a specification could have.
_TEXT, _SECRET = "\x00text", "\x00secret"

SpecOf = Callable[[str], Mapping[str, Any] | None]
"""The effective specification of a KEY: the declared one, or the last good one where that is invalid."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a specification names at a place: the first of these KEYs that is declared.

    `usable`: it must be valid (or have a last good version) too. `must`: it is a fault if none is declared;
    otherwise a warning.
    """

    steps: Steps
    keys: tuple[str, ...]
    usable: bool = True
    must: bool = True


def user(steps: Steps, name: str) -> Iterator[Reference]:
    """A person, who need not be declared: the identity provider may know them."""
    if name != BUILT_IN_USER:
        yield Reference(steps, (f"User/{name}",), usable=False, must=False)


def service_account(steps: Steps, team: str, name: str) -> Reference:
    """A service account; without a team, the only one of that name."""
    return Reference(steps, (f"ServiceAccount/{team or ANY_TEAM}/{name}",))


def any_team(key: str) -> str:
    """The KEY that stands for a service account and its namesakes of other teams."""
    return f"ServiceAccount/{ANY_TEAM}/{key.rpartition('/')[2]}"


def identity(spec: Mapping[str, Any]) -> Iterator[Reference]:
    """The service account that a Build, a Deployment or a Pipeline acts as."""
    if name := spec.get("service_account_name"):
        yield service_account(("service_account_name",), spec.get("service_account_team") or "", name)


def identity_faults(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults of an identity that needs both its name and its team."""
    name, team = spec.get("service_account_name"), spec.get("service_account_team")
    if name and not team:
        yield ("service_account_name",), "service_account_name needs service_account_team beside it"
    if team and not name:
        yield ("service_account_team",), "service_account_team needs service_account_name beside it"


def _secret_name(name: str) -> str:
    if message := secret_name_fault(name):
        raise ValueError(f"must be the name of a Secret: {message}")
    return name


SecretName = Annotated[str, AfterValidator(_secret_name)]


class SecretRef(Spec):
    """A value that stands in a Secret."""

    secret_ref: SecretName
    """The Secret's name; it is sought in the environment, then in the project, then in the installation."""


def _form(value: Any) -> str:
    return _SECRET if isinstance(value, (dict, SecretRef)) else _TEXT


VariableValue = Annotated[
    Annotated[Text, Tag(_TEXT)] | Annotated[SecretRef, Tag(_SECRET)], Discriminator(_form)
]
Variables = dict[VariableName, VariableValue]


def _input_name(name: str) -> str:
    if message := variable_shape_fault(name):
        raise ValueError(message)
    return name


def _input(value: Any) -> Any:
    if isinstance(value, dict) and SECRET_REF in value:
        if len(value) > 1:
            raise ValueError(f"has {SECRET_REF} beside other keys; it must stand alone")
        if not isinstance(value[SECRET_REF], str):
            raise ValueError(f"must name a Secret: {{{SECRET_REF}: NAME}}")
        _secret_name(value[SECRET_REF])
        return value
    for inner in _inside(value):
        if isinstance(inner, dict) and SECRET_REF in inner:
            raise ValueError(f"must not hold {SECRET_REF} inside it; only the whole value can be a secret")
        if isinstance(inner, str):
            no_nul(inner)
    return value


def _inside(value: Any) -> Iterator[Any]:
    """A JSON value and all values in it; keys too."""
    left = [value]
    while left:
        found = left.pop()
        yield found
        if isinstance(found, dict):
            left += [*found, *found.values()]
        elif isinstance(found, list):
            left += found


InputName = Annotated[str, Field(max_length=200), AfterValidator(_input_name)]
Inputs = dict[InputName, Annotated[Any, AfterValidator(_input)]]
"""Values by name: any JSON, or `{secret_ref: NAME}`."""


def secret(key: Key, steps: Steps, name: str, *, usable: bool = True) -> Reference:
    """A Secret that the resource `key` names: sought in its environment, its project, the installation."""
    return Reference(steps, secret_keys(key.project, key.environment, name), usable=usable)


def secret_keys(project: str | None, environment: str | None, name: str) -> tuple[str, ...]:
    """The KEYs that the name of a Secret may mean, the nearest first."""
    scopes: dict[tuple[str | None, str | None], None] = dict.fromkeys(
        [(project, environment if project else None), (project, None), (None, None)]
    )
    return tuple(str(Key("Secret", *scope, name)) for scope in scopes)


def secrets_in(steps: Steps, values: Mapping[str, Any] | None) -> Iterator[tuple[Steps, str]]:
    """Where variables or inputs name Secrets, and which."""
    for name, value in (values or {}).items():
        if isinstance(value, Mapping) and isinstance(value.get(SECRET_REF), str):
            yield (*steps, name, SECRET_REF), value[SECRET_REF]


def twice(where: Steps, values: list[str]) -> Iterator[SpecFault]:
    """Faults of a list whose items must differ."""
    for at, value in enumerate(values):
        if value in values[:at]:
            yield (*where, at), f'"{value}" stands in {where[-1]} twice; remove one'
