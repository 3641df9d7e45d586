"""The kinds there are: one row each, in an order in which every kind comes after those whose validity or
fields it depends on.

Read by the tree, the defaults and the schema. A new kind is a module, a row here, and its scope in
specs.meta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs import (
    approval,
    build,
    build_checks,
    build_forms,
    deployment,
    environment,
    executor,
    freeze,
    notification,
    pipeline,
    product,
    project,
    references,
    repository,
    role_binding,
    secret,
    team,
)
from specs.document import Document
from specs.meta import (
    DEPLOYMENT_NAME,
    ENVIRONMENT_NAME,
    FREE_NAME,
    FREE_PART,
    PLAIN_NAME,
    PROJECT_NAME,
    SECRET_NAME,
    USER_NAME,
    Key,
    deployment_name_fault,
    environment_name_fault,
    free_name_fault,
    free_part_fault,
    plain_name_fault,
    project_name_fault,
    secret_name_fault,
    user_name_fault,
)
from specs.model import Spec, SpecFault, Steps
from specs.parts import Part, one
from specs.references import Reference, SpecOf
from specs.triggers import followed
from specs.user import User

Fields = Mapping[str, Any]


def _nothing(*_arguments: Any) -> Iterable[Any]:
    return ()


def _no_fields(*_arguments: Any) -> Fields:
    return {}


def _no_names(*_arguments: Any) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class Kind:
    """What the tree must know of a kind."""

    name: str
    model: type[Spec]
    name_fault: Callable[[str], str | None] = plain_name_fault
    pattern: str = PLAIN_NAME.pattern
    """The names that the kind's resources may have, for editors."""
    check: Callable[[Fields, Key], Iterable[SpecFault]] = _nothing
    """Faults that the model alone cannot see."""
    references: Callable[[Fields, Key], Iterable[Reference]] = _nothing
    beside: Callable[[Fields, Key, SpecOf], Iterable[SpecFault]] = _nothing
    """Faults that show only in the fields of what it names."""
    shown: Callable[[Fields], object] = _nothing
    """What the `beside` of other kinds looks at."""
    waits_for: Callable[[Fields, Key], Iterable[tuple[Steps, tuple[str, ...]]]] = _nothing
    """The resources of the kind that this one waits for, where no circle may be."""
    texts: Callable[[Fields], Iterable[tuple[Steps, str]]] = _nothing
    """Where it names texts beside the document."""
    expand: Callable[[Document], Iterable[Part]] = one
    named: Callable[[Fields, Key], Fields] = _no_fields
    """Fields whose built-in value comes from the resource's name."""
    unused: Callable[[list[Fields]], frozenset[str]] = _no_names
    """Fields whose defaults do not concern a resource with these fields, strongest first."""
    not_defaulted: frozenset[str] = field(default=frozenset())
    """Fields that a Project's or Environment's defaults cannot set; with a dot, one inside another."""


def _build_references(spec: Fields, key: Key) -> Iterator[Reference]:
    repo = spec["repo"]
    if repo is not None and build.is_repository_name(repo):
        yield Reference(("repo",), (str(Key("Repository", key.project, None, repo)),))
    yield from (Reference(steps, keys, usable=False) for steps, keys in followed(spec, key))
    yield from references.identity(spec)
    yield from build.secrets(spec, key)


def _namespaces(spec: Fields) -> object:
    return sorted(project.claimed(spec))


def _follows(spec: Fields) -> object:
    return spec.get("follow")


def _type(spec: Fields) -> object:
    return spec["type"]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("User", User, user_name_fault, USER_NAME.pattern),
        Kind("Team", team.Team, check=team.check, references=team.members),
        Kind("ServiceAccount", team.ServiceAccount),
        Kind(
            "ApprovalRuleset", approval.ApprovalRuleset, free_part_fault, FREE_PART.pattern,
            check=approval.check_ruleset, references=approval.ruleset_references,
        ),
        Kind(
            "Application", approval.Application, free_part_fault, FREE_PART.pattern,
            check=approval.check_application, references=approval.application_references,
        ),
        Kind("SLA", product.SLA, free_name_fault, FREE_NAME.pattern),
        Kind("Product", product.Product, product.short_fault),
        Kind(
            "ProductVersion", product.ProductVersion, free_part_fault, FREE_PART.pattern,
            check=product.check_version, references=product.version_references,
        ),
        Kind(
            "ProductRelease", product.ProductRelease, free_part_fault, FREE_PART.pattern,
            check=product.check_release, references=product.release_references,
        ),
        Kind(
            "Project", project.Project, project_name_fault, PROJECT_NAME.pattern,
            check=project.check, references=project.orders, shown=_namespaces, texts=project.logo_text,
        ),
        Kind(
            "Environment", environment.Environment, environment_name_fault, ENVIRONMENT_NAME.pattern,
            check=environment.check,
            references=environment.named_elsewhere, not_defaulted=frozenset({"defaults"}),
        ),
        Kind(
            "Secret", secret.Secret, secret_name_fault, SECRET_NAME.pattern,
            check=secret.check, references=secret.owner, shown=_type, not_defaulted=frozenset({"sealed", "uuid"}),
        ),
        Kind(
            "Repository", repository.Repository,
            check=repository.check, references=repository.named_elsewhere,
        ),
        Kind(
            "RoleBinding", role_binding.RoleBinding,
            check=role_binding.check, references=role_binding.subjects,
        ),
        Kind(
            "Build", build.Build,
            check=build_checks.check, references=_build_references, beside=build.foreign, waits_for=followed,
            texts=build.build_texts, named=build.named, unused=build_forms.unused,
            not_defaulted=frozenset({"release.application"}),
        ),
        Kind(
            "Deployment", deployment.Deployment, deployment_name_fault, DEPLOYMENT_NAME.pattern,
            check=deployment.check, references=deployment.named_elsewhere, shown=_follows,
            waits_for=deployment.followed, texts=deployment.texts, expand=deployment.expand,
            named=deployment.named, not_defaulted=frozenset({"version", "follow"}),
        ),
        Kind(
            "Pipeline", pipeline.Pipeline,
            check=pipeline.check, references=pipeline.named_elsewhere, beside=pipeline.beside,
        ),
        Kind("Freeze", freeze.Freeze, check=freeze.check, references=freeze.named_elsewhere),
        Kind(
            "Notification", notification.Notification,
            check=notification.check, references=notification.named_elsewhere, beside=notification.beside,
        ),
        Kind("Executor", executor.Executor, check=executor.check),
    )
}  # fmt: skip

RANKS: dict[str, int] = {name: rank for rank, name in enumerate(KINDS)}
