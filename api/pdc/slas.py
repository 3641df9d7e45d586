"""Kinds of service, which PDC calls component SLA types (pdc, 2.2, 5.1)."""

from __future__ import annotations

from api.pdc import inputs
from api.pdc.errors import Failure
from api.pdc.inputs import Input
from api.pdc.noun import Key, Noun, Values, Writes, by_value, single
from api.pdc.schedules import NUMBER
from reconciler.commands.products import Draft, Thing
from reconciler.model.product import Sla
from specs.meta import free_name_fault

_LONGEST, _LONGEST_NAME = 10_000, 300


def _create(draft: Draft, values: Values) -> Thing:
    if draft.find("SLA", values["name"]) is not None:
        raise Failure(400, {"name": [f"The SLA '{values['name']}' is there already."]})
    return draft.add("SLA", values["name"], {"description": values["description"]})


def _change(_draft: Draft, thing: Thing, values: Values) -> None:
    if values["name"] != thing.name:
        raise Failure(400, {"name": ["The name of an SLA cannot be changed."]})
    thing.spec["description"] = values["description"]


NOUN = Noun(
    path="component-sla-types",
    title="Component SLA Type",
    about="The kinds of service that releases are given until a day.",
    keys=(
        Key("id", "integer", read_only=True),
        Key("name", required=True, max_length=_LONGEST_NAME),
        Key("description", max_length=_LONGEST),
    ),
    rows=lambda catalogue: list(catalogue.slas.values()),
    find=lambda catalogue, ident: catalogue.sla_numbers.get(int(ident)) if NUMBER.fullmatch(ident) else None,
    body=lambda row, _view: {"id": row.number, "name": row.name, "description": row.description},
    filters={
        "name": single(lambda row: row.name),
        "description": single(lambda row: row.description),
    },
    order=by_value(
        {
            "id": lambda row: row.number,
            "name": lambda row: row.name,
            "description": lambda row: row.description,
        }
    ),
    writes=Writes(
        inputs=(
            Input("name", inputs.text(_LONGEST_NAME, fault=free_name_fault), required=True),
            Input("description", inputs.text(_LONGEST, blank=True), default=""),
        ),
        find=lambda draft, ident: draft.sla(int(ident)) if NUMBER.fullmatch(ident) else None,
        create=_create,
        current=lambda thing: {"name": thing.name, "description": thing.spec["description"]},
        change=_change,
        row=lambda _catalogue, thing: Sla(0, thing.name, thing.spec["description"]),
        stored=lambda catalogue, thing: catalogue.slas.get(thing.name),
        key=lambda thing: f"SLA/{thing.name}",
        remove=lambda draft, thing: draft.remove_sla(thing),
    ),
)
