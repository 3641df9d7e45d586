"""Products (pdc, 2.4, 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.pdc import inputs
from api.pdc.errors import Failure
from api.pdc.inputs import Input
from api.pdc.noun import Key, Noun, Values, View, Writes, any_of, by_value, truth
from reconciler.commands.products import Draft, Thing
from reconciler.model.product import Product
from specs.product import short_fault


def _body(row: Product, _view: View) -> Mapping[str, Any]:
    return {
        "short": row.short,
        "name": row.name,
        "active": row.active,
        "product_versions": row.versions,
        "allowed_push_targets": [],
    }


def _create(draft: Draft, values: Values) -> Thing:
    _free(draft, values)
    return draft.add("Product", values["short"], {"display_name": values["name"]})


def _change(draft: Draft, thing: Thing, values: Values) -> None:
    if values["short"] != thing.name:
        _free(draft, values)
        draft.rename(thing, values["short"])
    thing.spec["display_name"] = values["name"]


def _free(draft: Draft, values: Values) -> None:
    if draft.find("Product", values["short"]) is not None:
        raise Failure(400, {"short": [f"There is a product {values['short']} already."]})


NOUN = Noun(
    path="products",
    title="Product",
    about="The products; each has versions.",
    keys=(
        Key("short", required=True, max_length=200),
        Key("name", required=True, max_length=300),
        Key("active", "boolean", read_only=True),
        Key("product_versions", "field", read_only=True),
        Key("allowed_push_targets", "field"),
    ),
    rows=lambda catalogue: list(catalogue.products.values()),
    find=lambda catalogue, ident: catalogue.products.get(ident),
    body=_body,
    filters={
        "name": any_of(lambda row: row.name),
        "short": any_of(lambda row: row.short),
        "active": truth("active", lambda row: row.active),
    },
    order=by_value(
        {
            "id": lambda row: row.number,
            "short": lambda row: row.short,
            "name": lambda row: row.name,
        }
    ),
    writes=Writes(
        inputs=(
            Input("short", inputs.text(200, fault=short_fault), required=True),
            Input("name", inputs.text(), required=True),
            Input("allowed_push_targets", inputs.empty("push targets"), default=[]),
        ),
        find=lambda draft, ident: draft.find("Product", ident),
        create=_create,
        current=lambda thing: {"short": thing.name, "name": thing.spec["display_name"]},
        change=_change,
        row=lambda catalogue, thing: catalogue.products.get(thing.before or ""),
        stored=lambda catalogue, thing: catalogue.products.get(thing.name),
        key=lambda thing: f"Product/{thing.name}",
    ),
    modified=("release", "productversion", "product"),
)
