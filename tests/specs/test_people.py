"""Users, teams, service accounts and role bindings: each mistake with its place and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.tree import Tree

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

LEAKED = "is never written in Git: the value must be considered leaked; revoke it, and remove the field"
CASES = [
    ("User", "name: bob", "{email: §bob}", "§email must be an address such as alice@example.org"),
    ("User", "name: bob", "{disabled: §no}", '§disabled must be true or false, not "no"'),
    ("User", "name: bob", "{§password: x}", f"§`password` {LEAKED}"),
    ("User", "name: bob", "{§token: x}", f"§`token` {LEAKED}"),
    ("User", "name: bob", "{oidc_subject: §''}", "§oidc_subject must not be empty"),
    ("User", "name: bob", "{oidc_subject: §1}", '§oidc_subject must be a quoted string: write "1"'),
    ("User", "name: §admin", "{}", '§"admin" is built in; choose another name'),
    ("User", "name: bob, §project: shop", "{}", "§a User has no project; remove metadata.project"),
    ("Team", "name: a, §team: b", "{}", "§a Team has no team; remove metadata.team"),
    ("Team", "name: §t/x", "{}", "§a name has at most 100 letters"),
    ("Team", "name: t", "{members: [§'']}", "§members[0] must be the name of a User"),
    ("Team", "name: t", "{members: [alice, §alice]}", '§"alice" stands in members twice; remove one'),
    ("Team", "name: t", "{groups: [a, §a]}", '§"a" stands in groups twice; remove one'),
    ("Team", "name: t", "{members: [§bob]}", "§User/bob is not declared"),
    (
        "ServiceAccount",
        "name: a",
        "{}",
        "x.yaml:3:11: metadata.team is missing: a ServiceAccount is inside a team",
    ),
    ("ServiceAccount", "name: a, team: §none", "{}", "§Team/none is not declared"),
    (
        "ServiceAccount",
        "name: a, team: second",
        "{token_lifetime_days: §0}",
        "§token_lifetime_days must be at least 1",
    ),
    ("ServiceAccount", "name: a, team: second", "{§token: x}", f"§`token` {LEAKED}"),
    ("RoleBinding", "name: b", "§{subjects: [{kind: User, name: alice}]}", "§role is missing"),
    (
        "RoleBinding",
        "name: b",
        "{role: §admin, subjects: [{kind: User, name: alice}]}",
        "§role must be read, write or owner",
    ),
    ("RoleBinding", "name: b", "{role: read, subjects: §[]}", "§subjects must have at least 1 item(s)"),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: §Usr, name: a}]}",
        '§subjects[0].kind must be User, Team or ServiceAccount, not "Usr"; did you mean "User"?',
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [§{kind: ServiceAccount, name: deployer}]}",
        "§a ServiceAccount is named with the team that owns it; add team",
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: Team, name: platform, team: §platform}]}",
        "§a Team has no team; remove it",
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: Team, name: second}, §{kind: Team, name: second}]}",
        "§this Team stands above; remove one",
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: Team, name: §none}]}",
        "§Team/none is not declared",
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: ServiceAccount, team: second, name: §deployer}]}",
        "§ServiceAccount/second/deployer is not declared",
    ),
    (
        "RoleBinding",
        "name: b",
        "{role: read, subjects: [{kind: User, name: §a b}]}",
        "§a user's name has at most 100 letters",
    ),
    (
        "RoleBinding",
        "name: b, project: §none",
        "{role: read, subjects: [{kind: User, name: alice}]}",
        "§Project/none is not declared",
    ),
    (
        "RoleBinding",
        "name: b, environment: §dev",
        "{role: read, subjects: [{kind: User, name: alice}]}",
        "§metadata.environment needs metadata.project",
    ),
    (
        "RoleBinding",
        "name: b, project: shop, environment: §none",
        "{role: read, subjects: [{kind: User, name: alice}]}",
        "§Environment/shop/none is not declared",
    ),
]


@pytest.mark.parametrize(("kind", "metadata", "spec", "error"), CASES)
def test_a_mistake_is_told(told: Told, kind: str, metadata: str, spec: str, error: str) -> None:
    """One error, at its place."""
    found = told(kind, metadata, spec)
    assert len(found) == 1, found
    assert found[0].startswith(error)


def test_all_fields_are_taken(effective: Effective) -> None:
    """Of people and accounts."""
    user = effective(
        "User", "name: bob@e.org", "{display_name: Bob, email: b@e.org, disabled: true, oidc_subject: x}"
    )
    assert user == {
        "display_name": "Bob", "email": "b@e.org", "disabled": True, "oidc_subject": "x", "description": "",
    }  # fmt: skip
    team = effective("Team", "name: t", "{members: [alice, admin], groups: [dev ops]}")
    assert (team["members"], team["groups"]) == (["alice", "admin"], ["dev ops"])
    account = effective("ServiceAccount", "name: a, team: second", "{disabled: true}")
    assert account == {"description": "", "disabled": True, "token_lifetime_days": 90}


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ("name: b", "RoleBinding/_/_/b"),
        ("name: b, project: shop", "RoleBinding/shop/_/b"),
        ("name: b, project: shop, environment: prod", "RoleBinding/shop/prod/b"),
    ],
)
def test_a_binding_counts_where_its_metadata_says(grow: Grow, shop: str, metadata: str, key: str) -> None:
    """The installation, a project, an environment."""
    text = (
        f"apiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {{{metadata}}}\n"
        "spec: {role: owner, subjects: [{kind: User, name: admin}, {kind: Team, name: second}]}\n"
    )
    tree = grow({"shop.yaml": shop, "x.yaml": text})
    assert (tree.errors, tree.declared[key].warnings) == ((), ())


def test_an_unknown_user_is_a_warning_until_it_is_declared(grow: Grow) -> None:
    """The binding counts all the same; and it is no reference that would hold a removal."""
    binding = (
        "apiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {name: b}\n"
        "spec: {role: owner, subjects: [{kind: User, name: bob}]}\n"
    )
    tree = grow({"b.yaml": binding})
    found = tree.declared["RoleBinding/_/_/b"]
    assert found.spec is not None
    assert found.warnings == ("b.yaml:4:51: User/bob is not declared",)
    assert found.references == frozenset()
    after = grow({"u.yaml": "apiVersion: steersman/v1\nkind: User\nmetadata: {name: bob}\n"}, onto=tree)
    found = after.declared["RoleBinding/_/_/b"]
    assert (found.warnings, found.references) == ((), {"User/bob"})
