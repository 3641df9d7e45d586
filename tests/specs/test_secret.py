"""Secrets, who names them, and which one a name means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.references import secret_keys
from specs.tree import Tree

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

SEALED = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOQ=="
LEAKED = "is never written in Git: the value must be considered leaked; revoke it, and remove the field"
GIVES = "§sealed must be what `steersman secret seal` gives"
CASES = [
    ("name: s", "§{}", "§sealed is missing"),
    (
        "name: s",
        "{sealed: §hunter2!}",
        f"{GIVES}, in base64; if this is the value itself, consider it leaked",
    ),
    ("name: s", "{sealed: §aHVudGVyMg==}", f"{GIVES}; this is not encrypted, so consider it leaked"),
    ("name: s", f"{{sealed: {SEALED}, §value: x}}", f"§`value` {LEAKED}"),
    ("name: s", f"{{sealed: {SEALED}, §password: x}}", f"§`password` {LEAKED}"),
    (
        "name: s",
        f"{{sealed: {SEALED}, type: §key}}",
        "§type must be value, ssh_key, pgp_key or plaintext_file",
    ),
    ("name: s", f"{{sealed: {SEALED}, uuid: §ABC}}", "§uuid must be a UUID in lower case"),
    (
        "name: s",
        f"{{sealed: {SEALED}, path: §~/x}}",
        "§path is of a plaintext_file, not of a value; remove it",
    ),
    (
        "name: s",
        f"{{sealed: {SEALED}, mode: §'600'}}",
        "§mode is of a plaintext_file, not of a value; remove it",
    ),
    ("name: s", f"§{{sealed: {SEALED}, type: plaintext_file}}", "§path is missing: a plaintext_file is put"),
    (
        "name: s",
        f"{{sealed: {SEALED}, type: plaintext_file, path: §../x}}",
        "§path must be the path of a file",
    ),
    (
        "name: s",
        f"{{sealed: {SEALED}, type: plaintext_file, path: §~bob/x}}",
        "§path must be absolute, begin with",
    ),
    (
        "name: s",
        f"{{sealed: {SEALED}, type: plaintext_file, path: x, mode: §600}}",
        '§mode must be a quoted string: write "600"',
    ),
    (
        "name: s",
        f"{{sealed: {SEALED}, type: plaintext_file, path: x, mode: §'rw'}}",
        '§mode must be the permissions of a file in octal, such as "600"',
    ),
    ("name: §s/x", f"{{sealed: {SEALED}}}", "§a secret's name has at most 200 letters"),
    ("name: s, environment: §dev", f"{{sealed: {SEALED}}}", "§metadata.environment needs metadata.project"),
    (
        "name: s, owner: §alice, project: shop",
        f"{{sealed: {SEALED}}}",
        "§metadata.owner and metadata.project exclude each other; keep one",
    ),
    ("name: s, owner: §bob", f"{{sealed: {SEALED}}}", "§User/bob is not declared"),
    ("name: s, owner: §'a b'", f"{{sealed: {SEALED}}}", "§a user's name has at most 100 letters"),
]


@pytest.mark.parametrize(("metadata", "spec", "error"), CASES)
def test_a_mistake_in_a_secret_is_told(told: Told, metadata: str, spec: str, error: str) -> None:
    """One error, at its place; the value is never shown."""
    found = told("Secret", metadata, spec)
    assert len(found) == 1, found
    assert found[0].startswith(error)
    assert "hunter2" not in found[0]
    assert "aHVudGVyMg" not in found[0]


def test_only_secrets_have_an_owner(told: Told) -> None:
    """Told at its place."""
    found = told("Team", "name: t, §owner: alice", "{}")
    assert found == ["§a Team has no owner; remove metadata.owner"]


def test_an_owners_secret_stands_outside_of_projects(grow: Grow, shop: str) -> None:
    """The folder of a project would say otherwise."""
    text = f"apiVersion: steersman/v1\nkind: Secret\nmetadata: {{name: s, owner: alice}}\nspec: {{sealed: {SEALED}}}\n"
    tree = grow({"shop.yaml": shop, "s.yaml": text})
    assert tree.errors == ()
    assert tree.declared["Secret/~alice/_/s"].references == {"User/alice"}
    tree = grow({"shop.yaml": shop, "projects/shop/secrets/s.yaml": text})
    assert [error.message for error in tree.errors] == [
        "the path implies a project, which excludes metadata.owner; move the file"
    ]


def test_a_file_and_a_key_are_valid(effective: Effective) -> None:
    """The sealed value may stand on several lines."""
    spec = effective(
        "Secret",
        "name: s, project: shop",
        f"{{type: plaintext_file, path: ~/.config/token, mode: '0640', sealed: '{SEALED[:10]} {SEALED[10:]}', "
        "uuid: 5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10}",
    )
    assert (spec["sealed"], spec["mode"], spec["path"]) == (SEALED, "0640", "~/.config/token")
    assert effective("Secret", "name: s", f"{{sealed: {SEALED}}}")["type"] == "value"


def test_a_name_is_sought_near_first() -> None:
    """In the environment, the project, the installation."""
    assert secret_keys("shop", "prod", "k") == ("Secret/shop/prod/k", "Secret/shop/_/k", "Secret/_/_/k")
    assert secret_keys("shop", None, "k") == ("Secret/shop/_/k", "Secret/_/_/k")
    assert secret_keys(None, None, "k") == ("Secret/_/_/k",)


USERS = [
    ("Repository", "name: r, project: shop", "{url: /x, private_key_ref: §none}"),
    ("Repository", "name: r, project: shop", "{url: /x, webhook_secret_ref: §none}"),
    ("Environment", "name: e, project: shop", "{inputs: {a: {secret_ref: §none}}}"),
    ("Build", "name: b, project: shop", "{secrets: [§none], tasks: [{name: a, run: x}]}"),
    ("Build", "name: b, project: shop", "{private_key_ref: §none, tasks: [{name: a, run: x}]}"),
    ("Build", "name: b, project: shop", "{escape_auth_token_ref: §none, tasks: [{name: a, run: x}]}"),
    (
        "Build",
        "name: b, project: shop",
        "{environment_variables: {A: {secret_ref: §none}}, tasks: [{name: a, run: x}]}",
    ),
    ("Build", "name: b, project: shop", "{tasks: [{name: a, run: x, secrets: [§none]}]}"),
    (
        "Build",
        "name: b, project: shop",
        "{tasks: [{name: a, run: x, environment_variables: {A: {secret_ref: §none}}}]}",
    ),
    ("Build", "name: b, project: shop", "{task_defaults: {secrets: [§none]}, tasks: [{name: a, run: x}]}"),
    (
        "Build",
        "name: b, project: shop",
        "{tasks: [{name: a, run: x, services: [{name: s, run: x, environment_variables: {A: {secret_ref: §none}}}]}]}",
    ),
    (
        "Build",
        "name: b, project: shop, environment: dev",
        "{repo: web, run_on: {secrets: [§none]}, steps: [{}]}",
    ),
    ("Deployment", "name: shop/xy, project: shop, environment: dev", "{run_on: {secrets: [§none]}}"),
    ("Deployment", "name: shop/xy, project: shop, environment: dev", "{inputs: {a: {secret_ref: §none}}}"),
    (
        "Pipeline",
        "name: p, project: shop",
        "{phases: [{name: a, steps: [{type: run-errand, environment: prod, deployment: shop/web, errand_name: e, "
        "errand_inputs: {a: {secret_ref: §none}}}]}]}",
    ),
]


@pytest.mark.parametrize(("kind", "metadata", "spec"), USERS)
def test_a_secret_that_is_named_must_be_there(told: Told, kind: str, metadata: str, spec: str) -> None:
    """Else it is told where it is named; `key` is there for all of them."""
    found = told(kind, metadata, spec)
    assert len(found) == 1, found
    assert found[0].startswith("§neither Secret/shop/")
    assert found[0].endswith("/none nor Secret/_/_/none is declared")
    assert told(kind, metadata, spec.replace("§none", "key")) == []


def test_the_nearest_secret_is_the_one_that_is_meant(grow: Grow, shop: str) -> None:
    """And another takes its place when it comes or goes."""
    head = "apiVersion: steersman/v1\nkind: "
    build = (
        f"{head}Build\nmetadata: {{name: b, project: shop, environment: prod}}\n"
        "spec: {tasks: [{name: a, run: x, secrets: [key, in-prod]}]}\n"
    )
    tree = grow({"shop.yaml": shop, "b.yaml": build})
    key = "Build/shop/prod/b"
    assert {"Secret/shop/_/key", "Secret/shop/prod/in-prod"} <= tree.declared[key].references
    nearer = f"{head}Secret\nmetadata: {{name: key, project: shop, environment: prod}}\nspec: {{sealed: {SEALED}}}\n"
    tree = grow({"n.yaml": nearer}, onto=tree)
    assert "Secret/shop/prod/key" in tree.declared[key].references
    assert "Secret/shop/_/key" not in tree.declared[key].references
    tree = grow({"n.yaml": "\n"}, onto=tree)
    assert "Secret/shop/_/key" in tree.declared[key].references
