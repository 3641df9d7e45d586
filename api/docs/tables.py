"""Markdown tables and cells, and JSON Schema types in words. Called by the modules that make pages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_SHOWN = 120


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; `|` in cells is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or " "


def code(text: str) -> str:
    """Inline code."""
    return f"`{text}`"


def default(schema: Schema, *, required: bool) -> str:
    """The default of a field, in words."""
    if required:
        return "required"
    if "default" not in schema:
        return (
            "`[]`" if schema.get("type") == "array" else "`{}`" if schema.get("type") == "object" else "none"
        )
    value = schema["default"]
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return code(text) if len(text) <= _SHOWN else "see there"


def type_of(schema: Schema) -> str:
    """What a value may be, in words: types, choices, bounds; other models by name, with a link to their heading."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    choices = [each for each in schema.get("anyOf", schema.get("oneOf", ())) if each.get("type") != "null"]
    if choices:
        return " or ".join(dict.fromkeys(map(type_of, choices)))
    match schema.get("type"):
        case "array":
            return f"list of {type_of(schema.get('items', {}))}"
        case "object":
            values = schema.get("additionalProperties")
            return f"map of names to {type_of(values)}" if isinstance(values, Mapping) else "map"
        case str(word):
            return _WORDS[word] + _bounds(schema)
        case _:
            return "any value"


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None or high is not None:
        return f", at least {low}" if high is None else f", at most {high}"
    if schema.get("exclusiveMinimum") is not None:
        return f", above {schema['exclusiveMinimum']}"
    return f", at most {schema['maxLength']} characters" if "maxLength" in schema else ""
