"""Environments: inputs of any JSON or of secrets, protection, and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

CASES = [
    ("{protected: §'true'}", '§protected must be true or false, not "true"'),
    ("{inputs: §[]}", "§inputs must be a mapping, not a list"),
    ("{inputs: {§a-b: x}}", '"a-b" is not a variable name'),
    (
        "{inputs: {a: §{secret_ref: key, more: x}}}",
        "§inputs.a has secret_ref beside other keys; it must stand alone",
    ),
    ("{inputs: {a: §{secret_ref: 1}}}", "§inputs.a must name a Secret: {secret_ref: NAME}"),
    ("{inputs: {a: §{secret_ref: a/b}}}", "§inputs.a must be the name of a Secret"),
    (
        "{inputs: {a: §{b: [{secret_ref: key}]}}}",
        "§inputs.a must not hold secret_ref inside it; only the whole value can be a secret",
    ),
    ('{inputs: {a: §["\\0"]}}', "§inputs.a must not hold a NUL character"),
    (
        "{approval_ruleset_bindings: [{approval_ruleset: §none}]}",
        "§ApprovalRuleset/none is not declared",
    ),
    ("{§inputt: {}}", '§unknown field "inputt"; did you mean "inputs"?'),
]


@pytest.mark.parametrize(("spec", "error"), CASES)
def test_a_mistake_in_an_environment_is_told(told: Told, spec: str, error: str) -> None:
    """One error, at its place."""
    found = told("Environment", "name: e, project: shop", spec)
    assert len(found) == 1, found
    assert error in found[0]


@pytest.mark.parametrize("name", ["Prod", "1a", "a/b", "-a", "a b"])
def test_a_name_is_checked(told: Told, name: str) -> None:
    """Lower case, beginning with a letter (case 79)."""
    found = told("Environment", f"name: §'{name}', project: shop", "{}")
    assert found == [
        "§an environment's name has lower-case letters, digits, - and _, and begins with a letter"
    ]


def test_inputs_are_any_json(effective: Effective) -> None:
    """Kept as they are."""
    spec = effective(
        "Environment",
        "name: e, project: shop",
        "{protected: true, inputs: {a: 1, b: 1.5, c: [x, null, {d: "
        "true}], e: text, f: {secret_ref: key}, G_1: {h: i}}}",
    )
    assert spec["protected"] is True
    assert spec["inputs"] == {
        "a": 1, "b": 1.5, "c": ["x", None, {"d": True}], "e": "text", "f": {"secret_ref": "key"}, "G_1": {"h": "i"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ("[dev, §dev]", '§"dev" stands in environment_order twice'),
        ("[§nowhere]", "§Environment/mine/nowhere is not declared"),
        ("[§Dev]", "§environment_order[0] must be the name of an Environment"),
    ],
)
def test_the_order_names_each_environment_once(told: Told, order: str, error: str) -> None:
    """Case 77: repeated and unknown ones; one that is missing comes last."""
    found = told("Project", "name: mine", f"{{environment_order: {order}}}")
    assert [each for each in found if each.startswith(error)]
