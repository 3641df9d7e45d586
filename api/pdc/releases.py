"""Releases of products (pdc, 2.3, 5.2), and a new one made like another (5.9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.pdc import inputs
from api.pdc.errors import Failure
from api.pdc.inputs import Input
from api.pdc.noun import (
    Key,
    Noun,
    Predicate,
    Row,
    Values,
    View,
    Writes,
    any_of,
    by_value,
    or_null,
    taken,
    truth,
)
from reconciler.commands.products import Draft, Thing
from reconciler.model.product import Release, body_of
from specs.meta import free_part_fault
from specs.product import RELEASE_TYPES, release_id, short_fault, version_fault

_SAME = ("short", "version", "release_type", "product_version", "active", "integrated_with")
_LISTS = ("allowed_debuginfo_services", "allowed_push_targets")
INPUTS = (
    Input("short", inputs.text(200, fault=short_fault), required=True),
    Input("version", inputs.text(200, fault=version_fault), required=True),
    Input("name", inputs.text(), required=True),
    Input("release_type", inputs.one_of(RELEASE_TYPES), required=True),
    Input("base_product", inputs.nothing("base products"), nullable=True),
    Input("product_version", inputs.named("ProductVersion", "product_version_id"), nullable=True),
    Input("active", inputs.boolean, default=True),
    Input("integrated_with", inputs.named("ProductRelease", "release_id"), nullable=True),
    Input("sigkey", inputs.nothing("signing keys"), nullable=True),
    Input("allow_buildroot_push", inputs.boolean, default=False),
    Input("allowed_debuginfo_services", inputs.empty("debuginfo services"), default=[]),
    Input("allowed_push_targets", inputs.empty("push targets"), default=[]),
    Input("bugzilla", inputs.holder("product"), nullable=True),
    Input("dist_git", inputs.holder("branch"), nullable=True),
)


def body(row: Release, _view: View | None = None) -> Mapping[str, Any]:
    """As lists show it."""
    return body_of("ProductRelease", row.id, row.spec)


def _spec(values: Values) -> dict[str, Any]:
    """The fields of a ProductRelease that these values are; what is not of this API is left out."""
    found = {name: values[name] for name in (*_SAME, "allow_buildroot_push", "bugzilla", "dist_git")}
    return found | {"display_name": values["name"]}


def create(draft: Draft, values: Values) -> Thing:
    """A new release."""
    spec = _spec(values)
    name = release_id(spec)
    _free(draft, name)
    _not_itself(name, values)
    return draft.add("ProductRelease", name, spec)


def _change(draft: Draft, thing: Thing, values: Values) -> None:
    spec = _spec(values)
    name = release_id(spec)
    _not_itself(thing.name, values)
    if name != thing.name:
        _free(draft, name)
        draft.rename(thing, name)
    thing.spec |= spec


def _free(draft: Draft, name: str) -> None:
    if told := free_part_fault(name):
        raise taken(f"{name} cannot be the id of a release: {told}.")
    if draft.find("ProductRelease", name) is not None:
        raise taken(f"There is a release {name} already: short, version and release_type make a unique set.")


def _not_itself(name: str, values: Values) -> None:
    if values["integrated_with"] == name:
        raise Failure(400, {"integrated_with": ["A release is not integrated with itself."]})


def current(thing: Thing) -> Values:
    """The values of its keys now."""
    found = body_of("ProductRelease", thing.name, thing.spec)
    return {each.name: found[each.name] for each in INPUTS}


def _has_base(values: tuple[str, ...], _view: View) -> Predicate | None:
    """No release has one."""
    return (lambda _row: False) if values[-1] == "True" else None


def _of(field: str) -> Callable[[Row], Any]:
    return lambda row: row.spec[field]


def _inside(field: str, key: str) -> Callable[[Row], str | None]:
    return lambda row: None if row.spec[field] is None else row.spec[field][key]


NOUN = Noun(
    path="releases",
    title="Release",
    about="The releases of products. A release's id follows from its short name, its version and its type.",
    keys=(
        Key("release_id", read_only=True),
        Key("short", required=True, max_length=200),
        Key("version", required=True, max_length=200),
        Key("name", required=True, max_length=300),
        Key("base_product"),
        Key("active", "boolean"),
        Key("product_version"),
        Key("release_type", "field", required=True),
        Key("compose_set", "field", read_only=True),
        Key("integrated_with"),
        Key("sigkey"),
        Key("allow_buildroot_push", "boolean"),
        *(Key(name, "field") for name in _LISTS),
        Key("bugzilla", "field"),
        Key("dist_git", "field"),
    ),
    rows=lambda catalogue: list(catalogue.releases.values()),
    find=lambda catalogue, ident: catalogue.releases.get(ident),
    body=body,
    filters={
        "release_id": any_of(lambda row: row.id),
        "name": any_of(_of("display_name")),
        "short": any_of(_of("short")),
        "version": any_of(_of("version")),
        "release_type": any_of(_of("release_type")),
        "product_version": any_of(_of("product_version")),
        **{name: any_of(lambda _row: None) for name in ("base_product", "sigkey", *_LISTS)},
        "bugzilla_product": or_null(_inside("bugzilla", "product")),
        "dist_git_branch": or_null(_inside("dist_git", "branch")),
        "integrated_with": or_null(_of("integrated_with")),
        "active": truth("active", _of("active")),
        "allow_buildroot_push": truth("allow_buildroot_push", _of("allow_buildroot_push")),
        "has_base_product": _has_base,
    },
    order=by_value(
        {
            "id": lambda row: row.number,
            "release_id": lambda row: row.id,
            "name": _of("display_name"),
            **{name: _of(name) for name in _SAME},
            "allow_buildroot_push": _of("allow_buildroot_push"),
            "base_product": lambda _row: None,
            "sigkey": lambda _row: None,
        }
    ),
    writes=Writes(
        inputs=INPUTS,
        find=lambda draft, ident: draft.find("ProductRelease", ident),
        create=create,
        current=current,
        change=_change,
        row=lambda _catalogue, thing: Release(0, thing.name, thing.spec),
        stored=lambda catalogue, thing: catalogue.releases.get(thing.name),
        key=lambda thing: f"ProductRelease/{thing.name}",
    ),
    modified=("release",),
)
