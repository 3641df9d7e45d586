"""The JSON Schemas: right in themselves, and of one mind with the loader where they can be."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest

from specs import schema as schemas
from specs.kinds import KINDS
from specs.refused import REFUSED

file_schema, kind_schema = cache(schemas.file_schema), cache(schemas.kind_schema)


def document(kind: str, spec: Any, **metadata: str) -> dict[str, Any]:
    """One document as plain values."""
    return {"apiVersion": "steersman/v1", "kind": kind, "metadata": {"name": "web", **metadata}, "spec": spec}


RIGHT = [
    document(
        "Project", {"defaults": {"Build": {"disabled": True, "tasks": None}}, "environment_order": ["dev"]}
    ),
    document("Environment", {"defaults": {"Build": {"timeout_seconds": 60}}}, project="shop"),
    document("Repository", {"url": "https://e.org/x", "branch": None}, project="shop"),
    document("Build", {"tasks": [{"name": "a", "run": "x"}], "triggers": [{"type": "poll"}]}, project="shop"),
    document("Build", {"timeout_seconds": None}, project="shop", environment="dev"),
    document("Executor", {"images": {"host": {"type": "host"}, "a*": {"type": "container"}}}),
    document("User", {"email": "a@b.org"}),
    document("Team", {"members": ["alice"]}),
    document("ServiceAccount", {}, team="platform"),
    document("RoleBinding", {"role": "read", "subjects": [{"kind": "User", "name": "alice"}]}),
    document("Secret", {"sealed": "x", "type": "ssh_key"}, owner="alice"),
    document(
        "Environment", {"inputs": {"a": {"secret_ref": "b"}, "c": [1]}, "protected": True}, project="shop"
    ),
    document(
        "Build",
        {
            "repo": "web",
            "steps": [{"run_tests": False}],
            "scripts": {
                "deploy": "d.sh",
                "smoke": {"inline": "x"},
                "errands": {"e": {"run": "e.sh", "inputs": ["a"]}},
            },
            "release": {"namespace": "shop", "version": "1.@", "consumes": ["db", {"name": "x"}]},
        },
        project="shop",
        environment="dev",
    ),
    document("Build", {"environment_variables": {"A": "b", "C": {"secret_ref": "d"}}}, project="shop"),
    document("Deployment", {"version": "1.4.12"}, project="shop", environment="dev"),
    document(
        "Deployment", {"inputs": {}, "environments": {"dev": None, "prod": {"follow": "dev"}}}, project="shop"
    ),
    document(
        "Pipeline", {"phases": [{"name": "a", "steps": [{"type": "build", "build": "web"}]}]}, project="shop"
    ),
    document("Freeze", {"reason": "x", "from": "2026-11-26T00:00:00Z", "pass": {"roles": ["owner"]}}),
    document(
        "Notification", {"events": ["failed"], "webhook": {"url": "https://e.org", "format": "cdevents"}}
    ),
    document(
        "Build",
        {
            "triggers": [{"type": "build", "builds": ["x"]}],
            "tasks": [{"name": "a", "run": "x", "matrix": {"db": ["a"], "exclude": [{"db": "a"}]}}],
        },
        project="shop",
    ),
]
WRONG = [
    (document("Build", {"taks": []}), "'taks' was unexpected"),
    (document("Build", {"tasks": [{"name": "a", "run": "x", "neds": []}]}), "'neds' was unexpected"),
    (document("Build", {"triggers": [{"type": "poll", "interval": 3}]}), "'interval' was unexpected"),
    (document("Build", {"matrix": {}}), "'matrix' was unexpected"),
    (document("Build", {"triggers": [{"type": "build"}]}), "'builds' is a required property"),
    (document("Executor", {"images": {"a": {"type": "root"}}}), "'path' is a required property"),
    (document("Executor", {}, project="shop"), "'project' was unexpected"),
    (document("Project", {"defaults": {"Executor": {}}}), "'Executor' was unexpected"),
    (document("Project", {"defaults": {"Build": {"x": 1}}}), "'x' was unexpected"),
    (document("Nothing", {}), "'Nothing' is not one of"),
    (document("Build", {"steps": [{"run_test": True}]}), "'run_test' was unexpected"),
    (document("Build", {"scripts": {"deplyo": "x"}}), "'deplyo' was unexpected"),
    (document("Build", {"environment_variables": {"A": 1}}), "1 is not of type 'string'"),
    (document("Deployment", {"environments": {"dev": {"versoin": "1"}}}), "'versoin' was unexpected"),
    (document("Deployment", {"environments": {"Dev": {}}}), "'Dev' does not match"),
    (document("Deployment", {"version": 1}), "1 is not of type 'string'"),
    (
        document("Pipeline", {"phases": [{"name": "a", "steps": [{"type": "biuld"}]}]}),
        "'biuld' is not one of",
    ),
    (document("Freeze", {"reason": "x", "form": "y"}), "'form' was unexpected"),
    (document("Notification", {"email": {"to": ["a@b.c"]}, "evnets": []}), "'evnets' was unexpected"),
    (document("Team", {}, team="x"), "'team' was unexpected"),
    (document("Project", {"defaults": {"Deployment": {"version": "1"}}}), "'version' was unexpected"),
    (document("Project", {"defaults": {"Secret": {"sealed": "1"}}}), "'sealed' was unexpected"),
    ({"apiVersion": "v1", "kind": "Build", "metadata": {"name": "a"}}, "'steersman/v1' was expected"),
    ({**document("Build", {}), "status": {}}, "'status' was unexpected"),
]


def messages(schema: dict[str, Any], value: Any) -> list[str]:
    """All messages, also those inside anyOf."""
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
    found = []
    while errors:
        error = errors.pop()
        found.append(error.message)
        errors += error.context or ()
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_valid_schema_with_descriptions(kind: str) -> None:
    """Each field says in a sentence what it is."""
    schema = kind_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    objects = [schema["properties"]["spec"], schema["properties"]["metadata"], *schema["$defs"].values()]
    bare = [
        name
        for each in objects
        for name, part in each.get("properties", {}).items()
        if not part.get("description")
    ]
    assert bare == []


def test_the_schema_of_a_file_is_valid() -> None:
    """All references lead somewhere."""
    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(KINDS) == set(schema["properties"]["kind"]["enum"])


@pytest.mark.parametrize("value", RIGHT, ids=lambda value: value["kind"])
def test_right_documents_fit(value: dict[str, Any]) -> None:
    """Both their kind's schema and the file's."""
    assert messages(file_schema(), value) == []
    assert messages(kind_schema(value["kind"]), value) == []


@pytest.mark.parametrize(("value", "told"), WRONG)
def test_wrong_documents_name_the_field(value: dict[str, Any], told: str) -> None:
    """An editor shows the misspelt field, not that nothing fits."""
    assert any(told in message for message in messages(file_schema(), value))


def test_refused_fields_are_not_offered() -> None:
    """What is not carried out does not appear in an editor."""
    for row in REFUSED:
        spec = kind_schema(row.kind)["properties"]["spec"]
        if not row.where:
            assert not set(row.fields) & set(spec["properties"])
