"""Pages about the kinds, made from their models: fields with type, bounds and default, and an example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from api.docs.contents import FOLDER, kind_page
from api.docs.reference_scripts import scripts_text
from api.docs.tables import Schema, code, default, table, type_of
from specs.kinds import KINDS
from specs.meta import SCOPES, Key
from specs.places import file_of
from specs.schema import kind_schema

_EXAMPLES = FOLDER.parents[1] / "examples"
_OWN = FOLDER / "examples"
_BEST = {"Build": "05-pipeline", "Project": "03-needs-and-attachments", "Deployment": "10-release-safety"}
"""The example that shows most of a kind; else the first that has it."""


def kinds_text() -> str:
    """The page that lists them all."""
    rows = [(f"[{kind}]({kind_page(kind)}.md)", code(_key(kind)), _about(kind)) for kind in sorted(KINDS)]
    return (
        "# Kinds\n\n"
        "What may stand in a specification file. This page and those about each kind are made from the models that\n"
        "check your files.\n\n"
        f"{table(('kind', 'KEY', 'what it is'), rows)}\n{_COMMON}"
    )


_COMMON = """\
## What every document has

```yaml fragment
apiVersion: steersman/v1
kind: Build
metadata:
  name: web
  project: shop          # and environment, team or owner, as the kind has it
  labels: {tier: front}
  annotations: {wiki: "https://wiki.example.org/web"}
spec: {}
```

- Files are `*.yaml` and `*.yml` below the source's path, several documents a file if you like. Names that begin with
  a dot are left out. Every other YAML document must be one of these kinds.
- The project, the environment and the team may be left out where the path says them: `projects/shop/…`,
  `projects/shop/environments/dev/…`, `teams/core/…`.
- YAML 1.2: `on` and `no` are texts. Versions are quoted: `"1.10"`. No merge keys, no duplicate keys.
- An unknown field is an error with the nearest known name. `null` means the built-in default.
- A [Project](reference-project.md) and an [Environment](reference-environment.md) may hold `defaults` for what is
  inside them.

A **KEY** names one resource everywhere: the kind, its scope parts (`_` where one is absent), the name, as
`Build/shop/_/web`.
"""


def kind_text(kind: str) -> str:
    """The page about one kind."""
    schema = kind_schema(kind)
    parts = [
        f"# {kind}\n\n{_about(kind)}\n",
        f"- KEY: {code(_key(kind))}\n- File that an API write makes: {code(_place(kind))}\n",
        f"## Example\n\n```yaml\n{example(kind)}```\n",
        f"## Metadata\n\n{_fields(schema['properties']['metadata'])}",
        "## Spec\n\n" + _fields(_spec(kind)),
    ]
    definitions = _spec(kind).get("$defs", {})
    for name in _mentioned(_spec(kind), definitions):
        model = definitions[name]
        about = " ".join(model.get("description", "").split())
        if "enum" in model:
            parts.append(f"## {name}\n\n{about}\n\nOne of {type_of(model)}.\n")
            continue
        parts.append(f"## {name}\n\n{about}\n\n{_fields(model)}")
    if kind == "Deployment":
        parts.insert(5, _ENVIRONMENTS)
    if kind == "Build":
        parts.insert(3, scripts_text())
    return "\n".join(parts)


_ENVIRONMENTS = """\
Instead of `metadata.environment`, a Deployment may have `environments` in its `spec`: a map from the environment to the
fields that differ there. Each entry is a resource of its own.
"""


def example(kind: str) -> str:
    """One document of the kind: from `examples/`, or from those beside the pages."""
    best = _BEST.get(kind)
    for folder in ([_EXAMPLES / best] if best else []) + [_EXAMPLES, _OWN]:
        for path in sorted(folder.rglob("*.yaml")):
            for document in _documents(path):
                if "steersman/v1" in document and re.search(rf"(?m)^kind: {kind}$", document):
                    return document
    raise LookupError(f"there is no example of the kind {kind}; put one into {_OWN}/{kind}.yaml")


@cache
def _documents(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("# yaml-language-server:"))
    return tuple(part.strip("\n") + "\n" for part in re.split(r"(?m)^---\n", text))


@cache
def _spec(kind: str) -> dict[str, Any]:
    return KINDS[kind].model.model_json_schema()


def _about(kind: str) -> str:
    return " ".join(_spec(kind).get("description", "").split())


def _key(kind: str) -> str:
    parts = [part.upper() if not part.endswith("?") else f"{part[:-1].upper()} or _" for part in SCOPES[kind]]
    return "/".join([kind, *parts, "NAME"])


def _place(kind: str) -> str:
    values = {part.rstrip("?"): part.rstrip("?").upper() for part in SCOPES[kind]}
    return file_of(
        Key(kind, values.get("project"), values.get("environment"), "NAME", team=values.get("team"))
    )


def _fields(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (code(name), type_of(field), default(field, required=name in required), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "what it may be", "default", "meaning"), rows) if rows else "No fields.\n"


def _mentioned(schema: Schema, definitions: Schema) -> Iterator[str]:
    """The models that a schema leads to, in the order in which a reader meets them."""
    seen: dict[str, None] = {}
    queue = [schema.get("properties", {})]
    while queue:
        for name in re.findall(r"#/\$defs/(\w+)", str(queue.pop(0))):
            if name not in seen:
                seen[name] = None
                queue.append(definitions[name])
    yield from seen
