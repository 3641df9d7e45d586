"""One declared resource judged: fields merged, validated, cross-checked, references and texts looked up.

Called by the tree for every resource that a change concerns. Sees the rest of the tree through `Around` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from specs.declared import Declared
from specs.defaults import DEFAULTING, check_defaults
from specs.digest import digest
from specs.errors import SpecError, in_order
from specs.filling import fill_texts, text_paths
from specs.kinds import KINDS, Kind
from specs.layers import Layer, holder, merge
from specs.messages import faults
from specs.meta import Key
from specs.model import Steps, metadata, metadata_part
from specs.project import claimed
from specs.references import Reference, SpecOf
from specs.refused import take_refused
from specs.scope import Place, written_at


@dataclass(frozen=True, slots=True)
class Around:
    """What one resource may ask about the rest: which declared KEYs a KEY means, is one usable, its defaults
    for a kind, its specification, a text, and which other Projects claim a namespace.
    """

    meant: Callable[[str], tuple[str, ...]]
    usable: Callable[[str], bool]
    defaults: Callable[[str, str], Layer | None]
    spec: SpecOf
    texts: Mapping[str, str | None]
    rivals: Callable[[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Found:
    """A fault at a path of the effective specification; `key`: the entry's key is meant."""

    steps: Steps
    message: str
    key: bool = False


def evaluate(place: Place, around: Around) -> Declared:
    """The resource that stands at a place, valid or with its errors."""
    kind = KINDS[place.key.kind]
    layers = layers_of(place, around.defaults)
    merged = merge(layers)
    merged |= kind.named(merged, place.key)
    _keep_nulls(kind, merged, place)
    found = [Found(steps, message, True) for steps, message in take_refused(kind.name, merged)]
    spec, problems = _validated(kind, merged)
    found += problems
    references = _scope_references(place.key)
    files: dict[Steps, str] = {}
    if spec is not None:
        found += _checked(kind, spec, place.key, around)
        references += list(kind.references(spec, place.key))
        files = text_paths(kind, spec, layers)
        found += [Found(*fault) for fault in fill_texts(spec, kind, files, around.texts)]
    meant = [(reference, _named(reference, around)) for reference in references]
    found += _dangling(meant, around)
    doubts = [_error(place, str(place.key), layers, each) for each in _unknown(meant)]
    named = [key for _, keys in meant for key in keys]
    errors = _located(place, layers, found)
    whole = spec if not errors else None
    document = place.document
    return Declared(
        key=str(place.key),
        kind=place.key.kind,
        project=place.key.project,
        environment=place.key.environment,
        name=place.key.name,
        labels=document.labels,
        annotations=document.annotations,
        path=place.path,
        line=place.line,
        spec=whole,
        digest=None if whole is None else digest([kind.name, document.labels, document.annotations, whole]),
        errors=errors,
        references=frozenset(named),
        files=frozenset(files.values()),
        sought=frozenset(key for reference in references for key in reference.keys).difference(named),
        warnings=tuple(str(doubt) for doubt in in_order(doubts)),
    )


def refuse(
    declared: Declared, place: Place, around: Around, faults_found: Iterable[tuple[Steps, str]]
) -> Declared:
    """A resource that is right in itself, made invalid by what stands around it."""
    layers = layers_of(place, around.defaults)
    errors = _located(place, layers, [Found(*fault) for fault in faults_found])
    return replace(declared, spec=None, digest=None, errors=in_order([*declared.errors, *errors]))


def twice(places: Sequence[Place]) -> Declared:
    """The resource of a KEY that stands in several places: invalid, with an error at each."""
    key = str(places[0].key)
    errors = []
    for place in places:
        others = ", ".join(f"{other.path}:{other.line}" for other in places if other is not place)
        message = f"{key} is declared twice; it also stands at {others}"
        errors.append(SpecError(place.path, place.line, 1, message, key))
    return replace(unreadable(places[0]), errors=in_order(errors))


def unreadable(place: Place) -> Declared:
    """A resource of which nothing but the KEY is known."""
    key, document = place.key, place.document
    scope = frozenset(name for reference in _scope_references(key) for name in reference.keys)
    return Declared(
        str(key), key.kind, key.project, key.environment, key.name, document.labels, document.annotations,
        place.path, place.line, None, None, (), scope, frozenset(),
    )  # fmt: skip


def layers_of(place: Place, defaults: Callable[[str, str], Layer | None]) -> list[Layer]:
    """The layers of fields of a resource, strongest first; without defaults that do not concern it."""
    own = [Layer(place.path, base, values, place.document) for base, values in place.part.layers]
    scopes = (defaults(ref.keys[0], place.key.kind) for ref in reversed(_scope_references(place.key)))
    inherited = [layer for layer in scopes if layer is not None]
    if not inherited:
        return own
    unused = KINDS[place.key.kind].unused([layer.values for layer in (*own, *inherited)])
    return own + [_without(layer, unused) if unused else layer for layer in inherited]


def _without(layer: Layer, names: frozenset[str]) -> Layer:
    return replace(layer, values={name: value for name, value in layer.values.items() if name not in names})


def _validated(kind: Kind, merged: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Found]]:
    try:
        return kind.model.model_validate(merged).model_dump(mode="json"), []
    except ValidationError as error:
        return None, [Found(*fault) for fault in faults(error, kind.model, merged)]


def _keep_nulls(kind: Kind, merged: dict[str, Any], place: Place) -> None:
    """Null in an Environment's defaults undoes a Project's, so it must outlive the merge of the Environment itself."""
    defaults = place.part.layers[0][1].get("defaults")
    if kind.name in DEFAULTING and isinstance(defaults, Mapping):
        merged["defaults"] = {name: values for name, values in defaults.items() if values is not None}


def _checked(kind: Kind, spec: Mapping[str, Any], key: Key, around: Around) -> Iterator[Found]:
    yield from (Found(*fault) for fault in kind.check(spec, key))
    yield from (Found(*fault) for fault in kind.beside(spec, key, around.spec))
    if kind.name == "Project":
        yield from _claimed_by_others(spec, key, around)
    if kind.name in DEFAULTING:
        yield from (Found(*fault) for fault in check_defaults(kind.name, spec["defaults"]))


def _claimed_by_others(spec: Mapping[str, Any], key: Key, around: Around) -> Iterator[Found]:
    for index, namespace in enumerate(claimed(spec)):
        if rivals := around.rivals(namespace, str(key)):
            message = f'"{namespace}" belongs to one project only, and {", ".join(rivals)} names it too'
            yield Found(("namespaces", index, "name"), message)


def _scope_references(key: Key) -> list[Reference]:
    references = []
    if key.team is not None:
        references.append(Reference(metadata("team"), (f"Team/{key.team}",)))
    if key.project is not None:
        references.append(Reference(metadata("project"), (f"Project/{key.project}",)))
    if key.environment is not None:
        references.append(
            Reference(metadata("environment"), (f"Environment/{key.project}/{key.environment}",))
        )
    return references


def _dangling(meant: Iterable[tuple[Reference, tuple[str, ...]]], around: Around) -> Iterator[Found]:
    for reference, named in meant:
        if not named and reference.must:
            yield Found(reference.steps, _not_declared(reference.keys))
        elif len(named) > 1:
            message = f"several teams have one: {', '.join(named)}; name service_account_team too"
            yield Found(reference.steps, message)
        elif named and reference.usable and not around.usable(named[0]):
            yield Found(reference.steps, f"{named[0]} is invalid and has no earlier good version")


def _unknown(meant: Iterable[tuple[Reference, tuple[str, ...]]]) -> Iterator[Found]:
    """What need not be declared, and is not."""
    for reference, named in meant:
        if not reference.must and not named:
            yield Found(reference.steps, _not_declared(reference.keys))


def _not_declared(keys: tuple[str, ...]) -> str:
    return f"{keys[0]} is not declared" if len(keys) == 1 else f"neither {' nor '.join(keys)} is declared"


def _named(reference: Reference, around: Around) -> tuple[str, ...]:
    """The KEYs that a reference means: one, several where a team is left open, or none."""
    for key in reference.keys:
        if meant := around.meant(key):
            return meant
    return ()


def _located(place: Place, layers: Sequence[Layer], found: Iterable[Found]) -> tuple[SpecError, ...]:
    key = str(place.key)
    written = [*place.document.faults, *place.faults]
    errors = [SpecError(place.path, fault.line, fault.column, fault.message, key) for fault in written]
    errors.extend(_error(place, key, layers, each) for each in found)
    return in_order(errors)


def _error(place: Place, key: str, layers: Sequence[Layer], found: Found) -> SpecError:
    steps = found.steps
    if part := metadata_part(steps):
        line, column = written_at(place.document, place.part, part)
        return SpecError(place.path, line, column, found.message, key)
    layer, held = holder(layers, steps)
    if layer.document is None:
        layer, held = layers[0], ()
    line, column = layer.position(held, key=found.key and held == steps)
    if layer.document is place.document:
        return SpecError(place.path, line, column, found.message, key)
    return SpecError(layer.path, line, column, f"this default makes {key} invalid: {found.message}", key)
