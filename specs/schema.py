"""JSON Schemas (draft 2020-12) of kinds and of one document of a file, made from the models, for editors
and the docs.

Called by the server and the command line. Stays behind the loader on purpose: cross-checks are not in it,
and fields that defaults may bring are not required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.defaults import DEFAULTING, kinds_inside
from specs.deployment import ENVIRONMENTS
from specs.kinds import KINDS
from specs.loader import API_VERSION
from specs.meta import OWNED, SCOPES

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Parts of a scope -> the kind whose names they are.
_PARTS = {"project": "Project", "environment": "Environment", "team": "Team"}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def kind_schema(kind: str) -> Schema:
    """The schema of one document of a kind; KeyError if there is no such kind."""
    definitions: dict[str, Schema] = {}
    spec = _spec(kind, definitions)
    return {"$schema": DIALECT, **_document(kind, spec), "$defs": definitions}


def file_schema() -> Schema:
    """The schema of one document of any kind. Kinds are told apart by if/then, so that an editor names the
    wrong field.
    """
    definitions: dict[str, Schema] = {}
    whole = {kind: _document(kind, _spec(kind, definitions)) for kind in KINDS}
    cases = [
        {"if": _is("kind", kind), "then": {"properties": each["properties"]}} for kind, each in whole.items()
    ]
    any_kind: Schema = {name: {} for name in ("metadata", "spec")}
    return {
        "$schema": DIALECT,
        "title": "Steersman specification",
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"apiVersion": {"const": API_VERSION}, "kind": {"enum": list(KINDS)}, **any_kind},
        "allOf": cases,
        "$defs": definitions,
    }


def _document(kind: str, spec: Schema) -> Schema:
    return {
        "title": kind,
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": _metadata(kind),
            "spec": spec,
        },
    }


def _metadata(kind: str) -> Schema:
    properties: dict[str, Schema] = {"name": _pattern(KINDS[kind].pattern, f"The name of the {kind}.")}
    for form in SCOPES[kind]:
        part = form.rstrip("?")
        about = f"The {part} it is inside; may be left out where the path says it."
        properties[part] = _pattern(KINDS[_PARTS[part]].pattern, about)
    if kind in OWNED:
        properties["owner"] = _pattern(KINDS["User"].pattern, "The user it belongs to, instead of a project.")
    properties["labels"] = {**_TEXTS, "description": "Texts by name, to find resources by."}
    properties["annotations"] = {**_TEXTS, "description": "Texts by name, for people and tools."}
    return {"type": "object", "additionalProperties": False, "required": ["name"], "properties": properties}


def _spec(kind: str, definitions: dict[str, Schema]) -> Schema:
    spec = _model(kind, definitions)
    if SCOPES[kind]:
        spec.pop("required", None)
    if kind in DEFAULTING:
        inside = {name: _defaults_for(name, definitions) for name in kinds_inside(kind)}
        defaults = {"type": "object", "additionalProperties": False, "properties": inside}
        spec["properties"]["defaults"] = {
            "description": spec["properties"]["defaults"]["description"],
            **defaults,
        }
    spec["properties"] = {name: _or_null(part) for name, part in spec["properties"].items()}
    if kind == "Deployment":
        spec["properties"][ENVIRONMENTS] = _entries(spec["properties"], definitions)
    return spec


def _entries(properties: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema of a Deployment's entries by environment: the fields of the document over again."""
    entry = {"type": "object", "additionalProperties": False, "properties": dict(properties)}
    definitions["DeploymentEntry"] = {"title": "DeploymentEntry", **entry}
    return {
        "type": "object",
        "description": "The environments it is deployed in, each with its fields over those of the document.",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{KINDS['Environment'].pattern}$"},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/DeploymentEntry"}, {"type": "null"}]},
    }


def _defaults_for(kind: str, definitions: dict[str, Schema]) -> Schema:
    properties = _model(kind, definitions)["properties"]
    allowed = {
        name: _or_null(part) for name, part in properties.items() if name not in KINDS[kind].not_defaulted
    }
    return {"type": "object", "additionalProperties": False, "properties": allowed}


def _model(kind: str, definitions: dict[str, Schema]) -> Schema:
    schema: Schema = _told_apart(KINDS[kind].model.model_json_schema())
    definitions.update(schema.pop("$defs", {}))
    return schema


def _told_apart(schema: Any) -> Any:
    """The same schema with pydantic's tagged unions as if/then."""
    if isinstance(schema, list):
        return [_told_apart(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "discriminator" not in schema:
        return {name: _told_apart(part) for name, part in schema.items()}
    tag, mapping = schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"enum": list(mapping)}},
        "allOf": [{"if": _is(tag, value), "then": {"$ref": ref}} for value, ref in mapping.items()],
    }


def _is(name: str, value: str) -> Schema:
    return {"required": [name], "properties": {name: {"const": value}}}


def _pattern(pattern: str, description: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$", "description": description}


def _or_null(schema: Schema) -> Schema:
    """A field of a specification may be null, which means the built-in value."""
    if any(part.get("type") == "null" for part in schema.get("anyOf", ())):
        return schema
    about: Schema = {name: schema[name] for name in ("title", "description", "default") if name in schema}
    return {**about, "anyOf": [{k: v for k, v in schema.items() if k not in about}, {"type": "null"}]}
