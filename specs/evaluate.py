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
from specs.kinds import KINDS, Kind, Reference
from specs.layers import Layer, holder, merge
from specs.messages import faults
from specs.meta import Key
from specs.model import LARGEST_TEXT, Steps
from specs.refused import take_refused
from specs.scope import Place
from specs.texts import text_path


@dataclass(frozen=True, slots=True)
class Around:
    """What one resource may ask about the rest: is a KEY declared, is it usable, its defaults for a kind, a
    text.
    """

    declared: Callable[[str], bool]
    usable: Callable[[str], bool]
    defaults: Callable[[str, str], Layer | None]
    texts: Mapping[str, str | None]


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
    _keep_nulls(kind, merged, place)
    found = [Found(steps, message, True) for steps, message in take_refused(kind.name, merged)]
    spec, problems = _validated(kind, merged)
    found += problems
    references = _scope_references(place.key)
    files: dict[Steps, str] = {}
    if spec is not None:
        found += _checked(kind, spec)
        references += list(kind.references(spec, place.key))
        files = text_paths(kind, spec, layers)
        found += _fill_texts(spec, kind, files, around.texts)
    found += _dangling(references, around)
    named = [key for reference in references for key in _named(reference, around)]
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
    """The layers of fields of a resource, strongest first."""
    own = [Layer(place.path, base, values, place.document) for base, values in place.part.layers]
    inherited = (
        defaults(reference.keys[0], place.key.kind) for reference in reversed(_scope_references(place.key))
    )
    return own + [layer for layer in inherited if layer is not None]


def text_paths(kind: Kind, spec: Mapping[str, Any], layers: Sequence[Layer]) -> dict[Steps, str]:
    """Where a specification names texts -> their paths; those that leave the source are left out."""
    found: dict[Steps, str] = {}
    for steps, name in kind.texts(spec):
        path = text_path(holder(layers, steps)[0].path, name)
        if path is not None:
            found[steps] = path
    return found


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


def _checked(kind: Kind, spec: Mapping[str, Any]) -> Iterator[Found]:
    yield from (Found(steps, message) for steps, message in kind.check(spec))
    if kind.name in DEFAULTING:
        yield from (Found(*fault) for fault in check_defaults(kind.name, spec["defaults"]))


def _scope_references(key: Key) -> list[Reference]:
    references = []
    if key.project is not None:
        references.append(Reference(("\x00project",), (f"Project/{key.project}",)))
    if key.environment is not None:
        references.append(Reference(("\x00environment",), (f"Environment/{key.project}/{key.environment}",)))
    return references


def _dangling(references: Iterable[Reference], around: Around) -> Iterator[Found]:
    for reference in references:
        named = _named(reference, around)
        if not named:
            yield Found(reference.steps, _not_declared(reference.keys))
        elif reference.usable and not around.usable(named[0]):
            yield Found(reference.steps, f"{named[0]} is invalid and has no earlier good version")


def _not_declared(keys: tuple[str, ...]) -> str:
    return f"{keys[0]} is not declared" if len(keys) == 1 else f"neither {' nor '.join(keys)} is declared"


def _named(reference: Reference, around: Around) -> tuple[str, ...]:
    """The KEY that a reference means, in a tuple; nothing if none of those it may mean is declared."""
    return next(((key,) for key in reference.keys if around.declared(key)), ())


def _fill_texts(
    spec: dict[str, Any], kind: Kind, files: Mapping[Steps, str], texts: Mapping[str, str | None]
) -> Iterator[Found]:
    """Puts the texts in as `run` beside `run_file`, and tells of those that are not there."""
    for steps, name in list(kind.texts(spec)):
        holding: Any = spec
        for step in steps[:-1]:
            holding = holding[step]
        if "run" in holding:
            continue
        path = files.get(steps)
        text = None if path is None else texts.get(path)
        if path is None:
            yield Found(steps, f'"{name}" is outside the source; name a file inside it')
        elif text is None:
            yield Found(steps, f"{path} is missing or cannot be read as text")
        elif not text.strip() or "\x00" in text or len(text.encode("utf-8", "replace")) > LARGEST_TEXT:
            yield Found(steps, f"{path} must be a text of 1 byte to 1 MiB")
        else:
            holding["run"] = text


def _located(place: Place, layers: Sequence[Layer], found: Iterable[Found]) -> tuple[SpecError, ...]:
    key = str(place.key)
    written = [*place.document.faults, *place.faults]
    errors = [SpecError(place.path, fault.line, fault.column, fault.message, key) for fault in written]
    errors.extend(_error(place, key, layers, each) for each in found)
    return in_order(errors)


def _error(place: Place, key: str, layers: Sequence[Layer], found: Found) -> SpecError:
    steps = found.steps
    if steps and str(steps[0]).startswith("\x00"):
        line, column = place.document.positions.nearest(f"/metadata/{str(steps[0])[1:]}")
        return SpecError(place.path, line, column, found.message, key)
    layer, held = holder(layers, steps)
    if layer.document is None:
        layer, held = layers[0], ()
    line, column = layer.position(held, key=found.key and held == steps)
    if layer.document is place.document:
        return SpecError(place.path, line, column, found.message, key)
    return SpecError(layer.path, line, column, f"this default makes {key} invalid: {found.message}", key)
