"""Versions of products (pdc, 2.4, 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.pdc import inputs
from api.pdc.inputs import Input
from api.pdc.noun import Key, Noun, Values, View, Writes, any_of, by_value, taken, truth
from reconciler.commands.products import Draft, Thing
from reconciler.model.product import Version, body_of
from specs.meta import free_part_fault
from specs.product import short_fault, version_fault, version_id


def _body(row: Version, _view: View) -> Mapping[str, Any]:
    return {
        "product_version_id": row.id,
        "short": row.short,
        "version": row.version,
        "name": row.name,
        "product": row.product,
        "active": row.active,
        "releases": row.releases,
        "allowed_push_targets": [],
    }


def _spec(values: Values) -> dict[str, Any]:
    short = values["short"] or values["product"]
    return {
        "product": values["product"],
        "version": values["version"],
        "short": None if short == values["product"] else short,
        "display_name": values["name"],
    }


def _create(draft: Draft, values: Values) -> Thing:
    spec = _spec(values)
    _free(draft, version_id(spec))
    return draft.add("ProductVersion", version_id(spec), spec)


def _change(draft: Draft, thing: Thing, values: Values) -> None:
    spec = _spec(values)
    name = version_id(spec)
    if name != thing.name:
        _free(draft, name)
        draft.rename(thing, name)
    thing.spec |= spec


def _free(draft: Draft, name: str) -> None:
    if told := free_part_fault(name):
        raise taken(f"{name} cannot be the id of a product version: {told}.")
    if draft.find("ProductVersion", name) is not None:
        raise taken(f"There is a product version {name} already: short and version make a unique set.")


def _current(thing: Thing) -> Values:
    found = body_of("ProductVersion", thing.name, thing.spec)
    return {name: found[name] for name in ("short", "version", "name", "product")}


NOUN = Noun(
    path="product-versions",
    title="Product Version",
    about="The versions of products; each has releases.",
    keys=(
        Key("product_version_id", read_only=True),
        Key("short", max_length=200),
        Key("version", required=True, max_length=200),
        Key("name", required=True, max_length=300),
        Key("product", "field", required=True),
        Key("active", "boolean", read_only=True),
        Key("releases", "field", read_only=True),
        Key("allowed_push_targets", "field"),
    ),
    rows=lambda catalogue: list(catalogue.versions.values()),
    find=lambda catalogue, ident: catalogue.versions.get(ident),
    body=_body,
    filters={
        "name": any_of(lambda row: row.name),
        "product_version_id": any_of(lambda row: row.id),
        "version": any_of(lambda row: row.version),
        "short": any_of(lambda row: row.short),
        "active": truth("active", lambda row: row.active),
    },
    order=by_value(
        {
            "id": lambda row: row.number,
            "product_version_id": lambda row: row.id,
            "short": lambda row: row.short,
            "version": lambda row: row.version,
            "name": lambda row: row.name,
            "product": lambda row: row.product,
        }
    ),
    writes=Writes(
        inputs=(
            Input("short", inputs.text(200, fault=short_fault)),
            Input("version", inputs.text(200, fault=version_fault), required=True),
            Input("name", inputs.text(), required=True),
            Input("product", inputs.named("Product", "short"), required=True),
            Input("allowed_push_targets", inputs.empty("push targets"), default=[]),
        ),
        find=lambda draft, ident: draft.find("ProductVersion", ident),
        create=_create,
        current=_current,
        change=_change,
        row=lambda catalogue, thing: catalogue.versions.get(thing.before or ""),
        stored=lambda catalogue, thing: catalogue.versions.get(thing.name),
        key=lambda thing: f"ProductVersion/{thing.name}",
    ),
    modified=("release", "productversion"),
)
