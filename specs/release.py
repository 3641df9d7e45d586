"""How releases are named (escape-state, section 4): namespaces, applications, versions, tags; and the plan of
a release that a Build writes in its specification instead of in a plan file (own-kinds).

Called by the models of Project, Build, Deployment and Pipeline. Never knows which releases there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from specs.model import Glob, Spec, SpecFault, Text, no_nul, or_empty, variable_shape_fault

NO_NAMESPACE = "_"

_NAMESPACE = re.compile(r"[a-z]+[a-z0-9_-]+", re.ASCII)
_RESERVED = frozenset({"this", "string", "integer", "list", "dict", "func"})
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*(\.@)?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_QUERIES = ("latest", "@", "v@")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", re.ASCII)
_LONGEST = 100


def namespace_fault(name: str) -> str | None:
    """What is wrong with a namespace, as a sentence after the field's name, or None."""
    return None if name == NO_NAMESPACE else application_fault(name)


def application_fault(name: str) -> str | None:
    """What is wrong with an application's name, as a sentence after the field's name, or None."""
    if name in _RESERVED:
        return f'must not be "{name}", which is reserved'
    if not _NAMESPACE.fullmatch(name) or len(name) > _LONGEST:
        return (
            f"must have 2 to {_LONGEST} lower-case letters, digits, - and _, and begin with a letter, "
            f'not "{name[:_LONGEST]}"'
        )
    return None


def release_fault(name: str) -> str | None:
    """What is wrong with `namespace/application`, as a sentence after the field's name, or None."""
    namespace, slash, application = name.partition("/")
    if not slash or "/" in application:
        return f'must be NAMESPACE/APPLICATION without a version, not "{name}"'
    for part, message in (
        ("namespace", namespace_fault(namespace)),
        ("application", application_fault(application)),
    ):
        if message:
            return f"is not NAMESPACE/APPLICATION: the {part} {message}"
    return None


def is_version(text: str) -> bool:
    """Whether a text is a version or a version's prefix: `1.4.12`, `1.4.@`."""
    return len(text) <= _LONGEST and _VERSION.fullmatch(text) is not None


def tag_fault(tag: str) -> str | None:
    """What is wrong with a release's tag, as a sentence after the field's name, or None."""
    if tag in _QUERIES or is_version(tag) or (tag.startswith("v") and is_version(tag[1:])):
        return f'must not be "{tag}", which means a version; choose another tag'
    if not _TAG.fullmatch(tag):
        return "must be a tag: at most 100 letters, digits, ., _ and -, not beginning with . or -"
    return None


def wanted_version_fault(version: str) -> str | None:
    """What is wrong with the version that a Deployment wants, as a sentence after the field's name, or None."""
    if version == "latest" or is_version(version):
        return None
    if version in _QUERIES:
        return f'must be "latest" instead of "{version}"'
    if version.startswith("v") and is_version(version[1:]):
        return f'must be written without the v: "{version[1:]}"'
    if tag_fault(version):
        return f'must be a version ("1.4.12"), a prefix ("1.4.@"), "latest" or a tag, not "{version}"'
    return None


def _namespace(name: str) -> str:
    if message := namespace_fault(name):
        raise ValueError(message)
    return name


def _application(name: str) -> str:
    if message := application_fault(name):
        raise ValueError(message)
    return name


def _release(name: str) -> str:
    if message := release_fault(name):
        raise ValueError(message)
    return name


def _version(version: str) -> str:
    if not is_version(version):
        raise ValueError(f'must be a version ("1.4.12") or a prefix ("1.4.@"), not "{version}"')
    return version


def _wanted_version(version: str) -> str:
    if message := wanted_version_fault(version):
        raise ValueError(message)
    return version


def _tag(tag: str) -> str:
    if message := tag_fault(tag):
        raise ValueError(message)
    return tag


Namespace = Annotated[str, AfterValidator(_namespace)]
NamespaceOrEmpty = Annotated[str, AfterValidator(or_empty(_namespace))]
Application = Annotated[str, AfterValidator(_application)]
ApplicationOrEmpty = Annotated[str, AfterValidator(or_empty(_application))]
ReleaseName = Annotated[str, AfterValidator(_release)]
Version = Annotated[str, AfterValidator(_version)]
WantedVersion = Annotated[str, AfterValidator(or_empty(_wanted_version))]
TagOrEmpty = Annotated[str, AfterValidator(or_empty(_tag))]


def text_alone(field: str, model: type[Spec]) -> BeforeValidator:
    """Lets a text stand for the mapping of a model that has only this field."""
    return BeforeValidator(
        lambda value: {field: value} if isinstance(value, str) else value, json_schema_input_type=str | model
    )


def _variable_id(name: str) -> str:
    if message := variable_shape_fault(name):
        raise ValueError(message)
    return name


def _interface(text: str) -> str:
    name, _, alias = text.partition(" as ")
    if not _WORD.fullmatch(name) or (" as " in text and not _WORD.fullmatch(alias)):
        raise ValueError('must be the name of an interface, or "NAME as VARIABLE"')
    return text


def _dependency(text: str) -> str:
    no_nul(text)
    wanted, _, alias = text.partition(" as ")
    if not wanted or any(c.isspace() for c in wanted) or (" as " in text and not _WORD.fullmatch(alias)):
        raise ValueError('must be a release such as shop/lib-v1.2.3, or "RELEASE as NAME"')
    return text


StageName = Literal["build", "deploy"]
VariableId = Annotated[str, Field(max_length=200), AfterValidator(_variable_id)]
Interface = Annotated[str, Field(max_length=250), AfterValidator(_interface)]
Dependency = Annotated[str, Field(max_length=400), AfterValidator(_dependency)]

_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "list": list, "bool": bool}


class Variable(Spec):
    """An input or an output of a release; a text alone is its id."""

    id: VariableId
    """The variable's name."""
    type: Literal["string", "list", "integer", "bool"] = "string"
    """What its values are."""
    default: Any = None
    """The value where none is given; without it, one must be given."""
    description: Text = ""
    """What the variable is for, in a sentence for people."""
    sensitive: bool = False
    """Whether its values are hidden in logs and answers."""
    items: list[Any] = Field(default_factory=list)
    """The values that are allowed; empty means any."""
    scopes: list[StageName] = Field(default_factory=list)
    """The stages it counts for; empty means both."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        for name, value in (("default", self.default), *(("items", item) for item in self.items)):
            if value is not None and not _fits(self.type, value):
                raise ValueError(f"has type {self.type}, but {name} holds something else")
        if self.items and self.default is not None and self.default not in self.items:
            raise ValueError("has a default that is not one of its items")
        return self


def _fits(kind: str, value: Any) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind != "integer" or not isinstance(value, bool))


class Consumed(Spec):
    """An interface that the release needs from another deployment; a text alone is its name."""

    name: Interface
    """The interface, or `INTERFACE as VARIABLE`."""
    scopes: list[StageName] = Field(default_factory=list)
    """The stages that need it; empty means both."""


AVariable = Annotated[Variable, text_alone("id", Variable)]
AConsumed = Annotated[Consumed, text_alone("name", Consumed)]


def _without_application(schema: dict[str, Any]) -> None:
    """The application may be left out, since the Build's name stands for it."""
    schema["required"].remove("application")


class Release(Spec):
    """The release that a Build makes where there is no plan file: its name, and fields of a plan."""

    model_config = ConfigDict(json_schema_extra=_without_application)

    namespace: Namespace
    """The namespace, one of the project's."""
    application: Application
    """The application; without it, the Build's name."""
    version: Version
    """The version, or a prefix such as "1.4.@", which means the next free number."""
    description: Text | None = None
    """What the release is, in a sentence for people."""
    license: Text | None = None
    """The licence of what is released."""
    metadata: dict[Text, Text] | None = None
    """Texts by name; scripts see them as INPUT_METADATA_<name>."""
    depends: list[Dependency] | None = None
    """Releases that this one is made of."""
    includes: list[Glob] | None = None
    """Globs of files of the checkout that go into the package."""
    generates: list[Glob] | None = None
    """Globs of files that the build stage makes and that go into the package."""
    provides: list[Interface] | None = None
    """Interfaces that a deployment of this release offers to others."""
    consumes: list[AConsumed] | None = None
    """Interfaces that this release needs from other deployments."""
    build_consumes: list[AConsumed] | None = None
    """Interfaces that only the build stage needs."""
    deploy_consumes: list[AConsumed] | None = None
    """Interfaces that only the deploy stage needs."""
    inputs: list[AVariable] | None = None
    """Values that both stages want."""
    build_inputs: list[AVariable] | None = None
    """Values that the build stage wants."""
    deploy_inputs: list[AVariable] | None = None
    """Values that the deploy stage wants."""
    outputs: list[AVariable] | None = None
    """Values that both stages give."""
    build_outputs: list[AVariable] | None = None
    """Values that the build stage gives."""
    deploy_outputs: list[AVariable] | None = None
    """Values that the deploy stage gives."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


_VARIABLE_LISTS = (
    ("inputs", ("inputs", "build_inputs", "deploy_inputs")),
    ("outputs", ("outputs", "build_outputs", "deploy_outputs")),
)


def check(release: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults of a release's plan that the model alone cannot see."""
    for what, (both, *single) in _VARIABLE_LISTS:
        for field in single:
            seen = {item["id"] for item in release.get(both) or ()}
            for at, item in enumerate(release.get(field) or ()):
                if item["id"] in seen:
                    yield ("release", field, at), f'"{item["id"]}" stands in {what} twice; remove one'
                seen.add(item["id"])
        ids = [item["id"] for item in release.get(both) or ()]
        for at, name in enumerate(ids):
            if name in ids[:at]:
                yield ("release", both, at), f'"{name}" stands in {what} twice; remove one'


def not_owned(namespace: str, project: str | None, owned: Mapping[str, Any] | None) -> Iterator[str]:
    """The sentence about a namespace that a project (given with its specification) does not own, if so."""
    if owned is not None and namespace not in [item["name"] for item in owned.get("namespaces") or ()]:
        yield (
            f'"{namespace}" is not a namespace of Project/{project}; '
            "add it to namespaces there, or name one of its own"
        )
