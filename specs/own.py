"""Which fields a document must hold itself so that its effective specification is a wanted one: only what
differs from what it inherits (own-kinds, "Less to write").

Called by what commits API writes. Fields that mean what they shall mean stay as they are written; a text
beside the specification (`run_file`) is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError, create_model

from specs.defaults import DEFAULTING
from specs.edit_lists import aligned
from specs.kinds import KINDS, Kind
from specs.layers import Layer, merge, without_nulls
from specs.meta import Key
from specs.model import Spec

_ABSENT: Any = object()
_FIRST = dict.fromkeys(("name", "id", "type"))

_Check = Callable[[Any], bool]
"""Whether something written means what is wanted."""


def own_fields(
    kind: str,
    own: Mapping[str, Any],
    inherited: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
    key: Key | None = None,
) -> dict[str, Any]:
    """The fields that a document of `kind`, which holds `own` now, must hold to be `wanted` in effect.

    `inherited` are the weaker layers, strongest first; with a `key`, what a kind takes from the resource's name
    is inherited too. What differs is set, what is inherited is taken out, and an inherited value that must be
    undone becomes null. Fields that the kind does not know stay. Raises ValueError (pydantic's ValidationError
    for one) where `wanted` is no specification of the kind.
    """
    model = KINDS[kind].model
    # What a field holds where it says nothing need not be valid where it is said (`tasks: []`).
    plain = {k: v for k, v in without_nulls(wanted).items() if not alike(v, _built_in(kind, k))}
    model.model_validate(plain)
    unused = KINDS[kind].unused([plain])
    base = merge([_layer({k: v for k, v in layer.items() if k not in unused}) for layer in inherited])
    found = {name: value for name, value in own.items() if name not in model.model_fields}
    for name in model.model_fields:
        if name == "defaults" and kind in DEFAULTING:
            value = _defaults(own.get(name, _ABSENT), wanted.get(name) or {})
        else:
            field = _Field(KINDS[kind], name, base.get(name), plain, key)
            value = field.written(own.get(name, _ABSENT))
        if value is not _ABSENT:
            found[name] = value
    return _in_order(own, found)


def alike(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; 1 and 1.0 are one number, but true is none."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


class _Field:
    """One field of a kind: what it inherits, and what it shall be in effect."""

    def __init__(self, kind: Kind, name: str, base: Any, wanted: Mapping[str, Any], key: Key | None) -> None:
        self.model = _alone(kind.name, name)
        self.name = name
        self.base = base
        self.kind = kind
        self.key = key
        self.others = {other: value for other, value in wanted.items() if other != name}
        self.wanted = self._read({name: wanted[name]} if name in wanted else {})

    def written(self, own: Any) -> Any:
        """How the field is written in the document, where `own` is written now; _ABSENT if it is not."""
        for value in (own, _ABSENT):
            if self._means(value):
                return value
        if self.wanted is None or (isinstance(self.wanted, dict) and self._means(None)):
            value = None
        elif isinstance(self.wanted, list):
            value = self._list(own if isinstance(own, list) else [])
        elif self._all_texts(own):
            value = _in_order(own if isinstance(own, Mapping) else {}, self.wanted)
        else:
            value = _thin(_whole(self.wanted, self.base), self._means)
            value = _as_written(own, value, self._means)
        if not self._means(value):
            value = None
        if not self._means(value):
            raise ValueError(f"{self.name} cannot be written with this value over what it inherits")
        return value

    def _all_texts(self, own: Any) -> bool:
        """Is it a mapping of texts, written as such or not at all, over nothing? Then there is nothing to leave out."""
        if not isinstance(self.wanted, dict) or self.base:
            return False
        annotation = self.kind.model.model_fields[self.name].annotation
        written = own.values() if isinstance(own, Mapping) else ()
        return get_origin(annotation) is dict and all(
            isinstance(value, str) for value in (*self.wanted.values(), *written)
        )

    def _list(self, own: list[Any]) -> list[Any]:
        """A list: items that stay as they are written, others with what differs from the built-in values."""
        effective = [self._effective([item]) for item in own]
        sources = aligned(
            [each[0] if each else item for each, item in zip(effective, own, strict=True)], self.wanted
        )
        found = []
        for source, wanted in zip(sources, self.wanted, strict=True):

            def means(item: Any, wanted: Any = wanted) -> bool:
                return alike(self._effective([item]), [wanted])

            written = _ABSENT if source is None else own[source]
            if source is None or not means(written):
                thin = _thin(without_nulls(wanted), means)
                fresh = _in_order(_FIRST, thin) if isinstance(thin, dict) else thin
                written = _as_written(written, fresh, means)
            found.append(written)
        return found

    def _means(self, value: Any) -> bool:
        return alike(self._effective(value), self.wanted)

    def _effective(self, value: Any) -> Any:
        """What the field is in effect where `value` is written; _ABSENT if that is not valid."""
        own = {} if value is _ABSENT else {self.name: value}
        merged = merge([_layer(own), _layer({self.name: self.base})])
        if self.key is not None:
            named = self.kind.named({**self.others, **merged}, self.key)
            merged |= {name: value for name, value in named.items() if name == self.name}
        try:
            return self._read(merged)
        except ValidationError:
            return _ABSENT

    def _read(self, fields: Mapping[str, Any]) -> Any:
        return self.model.model_validate(fields).model_dump(mode="json").get(self.name)


def _layer(values: Mapping[str, Any]) -> Layer:
    return Layer("", (), values, None)


@lru_cache(maxsize=1024)
def _alone(kind: str, name: str) -> type[BaseModel]:
    """A model of one field of a kind."""
    field = KINDS[kind].model.model_fields[name]
    fields: dict[str, Any] = {name: (field.annotation, field)}
    return create_model("Field", __base__=Spec, **fields)


@lru_cache(maxsize=1024)
def _built_in(kind: str, name: str) -> Any:
    """What a field is where nothing says it; _ABSENT if it must be said, or the kind has none such."""
    if name not in KINDS[kind].model.model_fields:
        return _ABSENT
    try:
        return _alone(kind, name)().model_dump(mode="json").get(name)
    except ValidationError:
        return _ABSENT


def _defaults(own: Any, wanted: Mapping[str, Any]) -> Any:
    """The defaults that a Project or Environment holds: nulls in them count, and they are not inherited."""
    shall = {kind: values for kind, values in wanted.items() if values is not None}
    has = {} if not isinstance(own, Mapping) else {k: v for k, v in own.items() if v is not None}
    return own if alike(has, shall) else shall or _ABSENT


def _whole(wanted: Any, base: Any) -> Any:
    """A value written out over what is inherited: each key of a mapping, null for those that shall not be."""
    if not isinstance(wanted, dict):
        return without_nulls(wanted)
    below = base if isinstance(base, Mapping) else {}
    written = {
        key: _whole(value, below.get(key))
        for key, value in wanted.items()
        if value is not None or key in below
    }
    return written | {key: None for key in below if key not in wanted}


def _thin(value: Any, means: _Check) -> Any:
    """The same without what need not be written."""
    if isinstance(value, dict):
        for key in list(value):
            without = {name: item for name, item in value.items() if name != key}
            value = (
                without
                if means(without)
                else _with(value, key, _thin(value[key], _inside(means, value, key)))
            )
    elif isinstance(value, list):
        for at in range(len(value)):
            value = _with(value, at, _thin(value[at], _inside(means, value, at)))
    return value


def _as_written(own: Any, value: Any, means: _Check) -> Any:
    """The same with everything that is written already and means the same."""
    if isinstance(own, Mapping) and isinstance(value, dict):
        for key, written in own.items():
            if means(_with(value, key, written)):
                value = _with(value, key, written)
            elif key in value:
                value = _with(value, key, _as_written(written, value[key], _inside(means, value, key)))
        return _in_order(own, value)
    if isinstance(own, list) and isinstance(value, list):
        for at, source in enumerate(aligned(own, value)):
            if source is not None:
                inside = _inside(means, value, at)
                written = own[source] if inside(own[source]) else _as_written(own[source], value[at], inside)
                value = _with(value, at, written)
    return value


def _inside(means: _Check, around: Any, step: str | int) -> _Check:
    return lambda value: means(_with(around, step, value))


def _with(around: Any, step: str | int, value: Any) -> Any:
    """A copy of a mapping or list with one value set."""
    if isinstance(around, list):
        return [value if at == step else item for at, item in enumerate(around)]
    return {**around, step: value}


def _in_order(own: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that stood there first, in their order."""
    return {**{key: found[key] for key in own if key in found}, **found}
