"""The kinds there are: one row each, in an order in which every kind comes after those it refers to.

Read by the tree, the defaults and the schema. A new kind is a module, a row here, and its scope in
specs.meta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs import build_checks, executor, project
from specs.build import Build, is_repository_name, task_texts
from specs.document import Document
from specs.environment import Environment
from specs.executor import Executor
from specs.meta import Key, environment_name_fault, plain_name_fault, project_name_fault
from specs.model import Spec, SpecFault, Steps
from specs.project import Project
from specs.repository import Repository
from specs.triggers import followed


@dataclass(frozen=True, slots=True)
class Part:
    """One resource of a document: its environment, and its fields as (where they stand, fields), strongest
    first.
    """

    environment: str | None
    layers: tuple[tuple[Steps, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a specification names at a place: the first of these KEYs that is declared; `usable`: it must be
    valid (or have a last good version) too.
    """

    steps: Steps
    keys: tuple[str, ...]
    usable: bool = True


def one(document: Document) -> Iterator[Part]:
    """A document that declares one resource."""
    yield Part(document.environment, ((("spec",), document.spec),))


def _nothing(*_arguments: Any) -> Iterable[Any]:
    return ()


@dataclass(frozen=True, slots=True)
class Kind:
    """What the tree must know of a kind."""

    name: str
    model: type[Spec]
    name_fault: Callable[[str], str | None]
    check: Callable[[Mapping[str, Any]], Iterable[SpecFault]] = _nothing
    references: Callable[[Mapping[str, Any], Key], Iterable[Reference]] = _nothing
    texts: Callable[[Mapping[str, Any]], Iterable[tuple[Steps, str]]] = _nothing
    expand: Callable[[Document], Iterable[Part]] = one
    not_defaulted: frozenset[str] = field(default=frozenset())
    """Fields that a Project's or Environment's defaults cannot set."""


def _project_references(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    return (Reference(steps, (name,), usable=False) for steps, name in project.orders(spec, key.name))


def _build_references(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    repo = spec["repo"]
    if repo is not None and is_repository_name(repo):
        yield Reference(("repo",), (str(Key("Repository", key.project, None, repo)),))
    yield from (Reference(steps, keys, usable=False) for steps, keys in followed(spec, key))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("Project", Project, project_name_fault, project.check, _project_references),
        Kind("Environment", Environment, environment_name_fault, not_defaulted=frozenset({"defaults"})),
        Kind("Repository", Repository, plain_name_fault),
        Kind("Build", Build, plain_name_fault, build_checks.check, _build_references, task_texts),
        Kind("Executor", Executor, plain_name_fault, executor.check),
    )
}

RANKS: dict[str, int] = {name: rank for rank, name in enumerate(KINDS)}
