"""Notifications: who is told of what; each mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.tree import Tree
from tests.specs.conftest import HEAD, PROJECT, SEALED

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

HOOK = "webhook: {url: 'https://hooks.example.org/x'}"
MAIL = "email: {to: [d@example.org]}"
OUTSIDE = "leads outside of the project; write"

CASES = [
    ("§{}", "§a notification needs email or webhook, or nobody is told"),
    ("§{events: [failed]}", "§a notification needs email or webhook, or nobody is told"),
    (f"{{{MAIL}, events: §[]}}", "§events must have at least 1 item(s)"),
    (
        f"{{{MAIL}, events: [§faild]}}",
        '§events[0] must be failed, recovered, held, drifted or approval-wanted, not "faild"; '
        'did you mean "failed"?',
    ),
    (f"{{{MAIL}, events: [failed, §failed]}}", '§"failed" stands in events twice; remove one'),
    (f"{{{MAIL}, keys: §[]}}", "§keys must have at least 1 item(s)"),
    (f"{{{MAIL}, keys: [§'']}}", "§keys[0] must not be empty"),
    (f"{{{MAIL}, keys: ['Build/shop/**', §'Build/shop/**']}}", '§"Build/shop/**" stands in keys twice'),
    (f"{{{MAIL}, keys: [§'Build/other/**']}}", f'§"Build/other/**" {OUTSIDE} Build/shop/…'),
    (f"{{{MAIL}, keys: [§'Build/*/_/web']}}", f'§"Build/*/_/web" {OUTSIDE} Build/shop/…'),
    (f"{{{MAIL}, keys: [§'**']}}", f'§"**" {OUTSIDE} */shop/…'),
    (f"{{{MAIL}, keys: [§'**/web']}}", f'§"**/web" {OUTSIDE} */shop/…'),
    (f"{{{MAIL}, keys: [§'Biuld/shop/**']}}", '§nothing is told of "Biuld"; did you mean "Build"?'),
    (
        f"{{{MAIL}, keys: [§'Secret/shop/**']}}",
        '§nothing is told of "Secret"; known here: Application, Build',
    ),
    ("{email: {to: §[]}}", "§email.to must have at least 1 item(s)"),
    ("{email: {to: [§'D <d@example.org>']}}", "§email.to[0] must be one address such as"),
    ("{email: {to: [§'d@example.org, e@example.org']}}", "§email.to[0] must be one address such as"),
    ('{email: {to: [§"d@example.org\\nBcc: x"]}}', "§email.to[0] must be one address such as"),
    ("{email: {to: [a@b.c, §a@b.c]}}", '§"a@b.c" stands in to twice; remove one'),
    ("{webhook: {url: §'ftp://example.org'}}", "§webhook.url must be an address that begins with https://"),
    ("{webhook: {url: §'https://u:p@example.org'}}", "§webhook.url must not hold credentials"),
    (
        "{webhook: {url: 'https://e.org', format: §xml}}",
        '§webhook.format must be json or cdevents, not "xml"',
    ),
    (
        "{webhook: {url: 'https://e.org', secret_ref: §hook}}",
        "§neither Secret/shop/_/hook nor Secret/_/_/hook is declared",
    ),
    (f"{{{HOOK}, §evnets: [failed]}}", '§unknown field "evnets"; did you mean "events"?'),
]


@pytest.mark.parametrize(("spec", "message"), CASES)
def test_mistakes_are_told_where_they_are(told: Told, spec: str, message: str) -> None:
    """One each."""
    (found,) = told("Notification", "name: n, project: shop", spec)
    assert found.startswith(message)


def test_what_is_not_said_is_everything(effective: Effective) -> None:
    """All that happens, all of the project, our own JSON, no signature."""
    assert effective("Notification", "name: n, project: shop", f"{{{HOOK}}}") == {
        "events": ["failed", "recovered", "held", "drifted", "approval-wanted"],
        "keys": None,
        "email": None,
        "webhook": {"url": "https://hooks.example.org/x", "secret_ref": None, "format": "json"},
    }


@pytest.mark.parametrize("keys", ["'**'", "'*/*/prod/**'", "'Build/other/**'", "'Application/web'"])
def test_one_of_no_project_may_be_told_of_all(effective: Effective, keys: str) -> None:
    """Nothing is outside."""
    assert len(effective("Notification", "name: n", f"{{{MAIL}, keys: [{keys}]}}")["keys"]) == 1


@pytest.mark.parametrize("keys", ["'*/shop/**'", "'Build/shop/_/*'", "'Deployment/shop/prod/**'"])
def test_one_of_a_project_names_what_is_in_it(effective: Effective, keys: str) -> None:
    """With wildcards anywhere but in the project's place."""
    spec = f"{{{MAIL}, keys: [{keys}], webhook: {{url: 'https://e.org', secret_ref: key}}}}"
    assert effective("Notification", "name: n, project: shop", spec)["webhook"]["secret_ref"] == "key"


def test_what_signs_is_a_value(grow: Grow) -> None:
    """The nearest Secret of that name is meant; it is told where it is named, and judged again when it changes."""
    alerts = f"{HEAD}Notification\nmetadata: {{name: n, project: shop}}\nspec:\n  webhook:\n"
    alerts += "    url: https://e.org\n    secret_ref: hook\n"

    def hook(type: str, scope: str = ", project: shop") -> str:
        return f"{HEAD}Secret\nmetadata: {{name: hook{scope}}}\nspec: {{type: {type}, sealed: {SEALED}}}\n"

    files = {"p.yaml": PROJECT, "n.yaml": alerts, "all.yaml": hook("value", ""), "s.yaml": hook("ssh_key")}
    tree = grow(files)
    (error,) = tree.errors
    assert str(error) == (
        "n.yaml:7:17: Secret/shop/_/hook is of the type ssh_key; what signs is of the type value"
    )
    assert grow({**files, "s.yaml": hook("value")}, onto=tree).errors == ()
