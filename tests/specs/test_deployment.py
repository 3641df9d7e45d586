"""Deployments: one document for one environment or for several, own packages, followers; each mistake with its
place and its sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.tree import Tree, origins

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

HEAD = "apiVersion: steersman/v1\nkind: "
DEV = "name: shop/app, project: shop, environment: dev"
QUOTE = "must be a quoted string: put quotes around what stands here; without them, 3.10 is read as 3.1"

CASES = [
    ("{version: §1.10}", f"§version {QUOTE}"),
    ("{version: §3}", '§version must be a quoted string: write "3"'),
    ("{version: §v1.2}", '§version must be written without the v: "1.2"'),
    ("{version: §'@'}", '§version must be "latest" instead of "@"'),
    (
        "{version: §'a b'}",
        '§version must be a version ("1.4.12"), a prefix ("1.4.@"), "latest" or a tag, not "a b"',
    ),
    ("{release: §web}", '§release must be NAMESPACE/APPLICATION without a version, not "web"'),
    ("{release: §shop/web/x}", "§release must be NAMESPACE/APPLICATION without a version"),
    ("{release: §shop/Web}", "§release is not NAMESPACE/APPLICATION: the application must have 2 to 100"),
    ("{release: §Shop/web}", "§release is not NAMESPACE/APPLICATION: the namespace must have 2 to 100"),
    ("{suspend: §no}", '§suspend must be true or false, not "no"'),
    ("{disabled: §'true'}", '§disabled must be true or false, not "true"'),
    ("{reconcile: §sometimes}", '§reconcile must be auto or manual, not "sometimes"'),
    ("{on_delete: §delete}", '§on_delete must be orphan or destroy, not "delete"'),
    ("{timeout_seconds: §1}", "§timeout_seconds must be at least 10"),
    (
        "{inputs: {a: §{secret_ref: key, b: c}}}",
        "§inputs.a has secret_ref beside other keys; it must stand alone",
    ),
    ("{providers: {k: §1bad}}", "§providers.k must be the name of a Deployment"),
    ("{providers: {k: §shop/app}}", "§a deployment cannot be its own provider"),
    ("{providers: {k: §nothing}}", "§Deployment/shop/dev/nothing is not declared"),
    ("{service_account_name: §deployer}", "§service_account_name needs service_account_team beside it"),
    (
        "{service_account_name: §who, service_account_team: platform}",
        "§ServiceAccount/platform/who is not declared",
    ),
    ("{remote_escape_worker_url: §x}", "§remote_escape_worker_url must be an address that begins with"),
    ("{check: {every_seconds: §1, run: smoke}}", "§check.every_seconds must be at least 10"),
    ("{check: {every_seconds: 60, run: §test}}", '§check.run must be smoke or check, not "test"'),
    ("{check: {every_seconds: 60, run: §check}}", "§check needs a script; write scripts.check, or run smoke"),
    (
        "{scripts: {deploy: d.sh}, check: {every_seconds: 60, run: §smoke}}",
        "§smoke needs a script; write scripts.smoke, or run check",
    ),
    (
        "{scripts: {deploy: d.sh}, release: §shop/app}",
        "§release says nothing beside scripts or includes, which are",
    ),
    ("{scripts: {deploy: d.sh}, version: §'1'}", "§version says nothing beside scripts or includes"),
    ("{scripts: {deploy: d.sh}, follow: §prod}", "§follow says nothing beside scripts or includes"),
    ("{scripts: §{smoke: s.sh}}", "§scripts.deploy is missing: a deployment with its own package needs one"),
    ("§{includes: ['a/**']}", "§scripts.deploy is missing: a deployment with its own package needs one"),
    ("{includes: [§/a]}", "§includes[0] must be relative; leave the leading / out"),
    ("{follow: §dev}", "§a Deployment cannot follow itself; name another environment, or remove follow"),
    ("{follow: §prod}", "§Deployment/shop/prod/shop/app is not declared"),
    ("{follow: §Prod}", "§follow must be the name of an Environment"),
    ("{§private_key: x}", "§`private_key` is never written in Git"),
    ("{§run_smok: true}", '§unknown field "run_smok"; did you mean "run_smoke"?'),
    ("{run_on: {secrets: [key, §key]}}", '§"key" stands in secrets twice; remove one'),
]


@pytest.mark.parametrize(("spec", "error"), CASES)
def test_a_mistake_in_a_deployment_is_told(told: Told, spec: str, error: str) -> None:
    """One error or warning, at its place."""
    found = told("Deployment", DEV, spec)
    assert [each for each in found if each.startswith(error)], found
    assert len(found) == (2 if "follow: §prod" in spec and "scripts" in spec else 1)


@pytest.mark.parametrize("name", ["1bad", "a//b", "a/", "a.b", "-a", "a" * 201])
def test_a_name_is_checked(told: Told, name: str) -> None:
    """It may hold slashes, but not at the end and not two."""
    (found,) = told("Deployment", f"name: §{name}, project: shop, environment: dev", "{release: shop/web}")
    assert found.startswith(("§a deployment's name has", "§a name has at most 200 characters"))


def test_the_name_stands_for_the_release(effective: Effective, told: Told) -> None:
    """Where it is one."""
    spec = effective("Deployment", DEV, "{version: '1.4.@'}")
    assert (spec["release"], spec["run_smoke"], spec["reconcile"], spec["timeout_seconds"]) == (
        "shop/app", True, "auto", 3600,
    )  # fmt: skip
    (found,) = told("Deployment", "name: app, project: shop, environment: dev", "§{version: latest}")
    assert found == (
        "§release is missing, and the deployment's name cannot stand for it: "
        'it must be NAMESPACE/APPLICATION without a version, not "app"'
    )


@pytest.mark.parametrize("version", ["''", "latest", "'1.4.12'", "'1.4.@'", "'2'", "production", "1.2-rc"])
def test_a_version_is_exact_moving_or_none(effective: Effective, version: str) -> None:
    """Text in any case."""
    assert effective("Deployment", DEV, f"{{version: {version}}}")["version"] == version.strip("'")


def test_a_deployment_may_bring_its_own_package(effective: Effective) -> None:
    """No build, no release, any name; or only a check beside a release."""
    spec = effective(
        "Deployment",
        "name: postgres, project: shop, environment: dev",
        "{scripts: {deploy: d.sh, check: {inline: x}}, includes: "
        "['postgres/**'], check: {every_seconds: 60, run: check}}",
    )
    assert (spec["release"], spec["includes"]) == (None, ["postgres/**"])
    spec = effective("Deployment", DEV, "{scripts: {check: c.sh}, check: {every_seconds: 60, run: check}}")
    assert spec["release"] == "shop/app"


MAP = f"""\
{HEAD}Deployment
metadata: {{name: shop/app, project: shop}}
spec:
  inputs: {{port: 8080, db: {{host: a, port: 1}}}}
  environments:
    dev: {{version: latest}}
    prod:
      version: "1.4.12"
      inputs: {{replicas: 3, db: {{port: 2}}}}
"""


def test_one_document_may_hold_several_environments(grow: Grow, shop: str) -> None:
    """Each entry is a resource of its own, with its line; base and entry are merged."""
    tree = grow({"shop.yaml": shop, "m.yaml": MAP})
    assert tree.errors == ()
    dev, prod = (tree.declared[f"Deployment/shop/{name}/shop/app"] for name in ("dev", "prod"))
    assert (dev.line, prod.line) == (7, 8)
    assert dev.spec is not None
    assert prod.spec is not None
    assert (dev.spec["version"], dev.spec["release"]) == ("latest", "shop/app")
    assert prod.spec["inputs"] == {"port": 8080, "db": {"host": "a", "port": 2}, "replicas": 3}
    assert "environments" not in prod.spec
    found = origins(tree, "Deployment/shop/prod/shop/app")
    assert (found["version"], found["inputs.port"], found["inputs.replicas"], found["release"]) == (
        "m.yaml:9", "m.yaml:5", "m.yaml:10", "built-in",
    )  # fmt: skip


ENTRIES = [
    ("staging: {}", ["m.yaml:11:5: Environment/shop/staging is not declared"]),
    (
        "dev2: x",
        [
            "m.yaml:11:11: environments.dev2 must be a mapping of fields",
            "m.yaml:11:5: Environment/shop/dev2 is not declared",
        ],
    ),
    (
        "Up: {}",
        [
            "m.yaml:11:5: an "
            "environment's "
            "name has lower-case letters, "
            "digits, - and _, and "
            "begins with a letter"
        ],
    ),
]


@pytest.mark.parametrize(("entry", "errors"), ENTRIES)
def test_a_bad_entry_harms_itself_only(grow: Grow, shop: str, entry: str, errors: list[str]) -> None:
    """The others of the document are right."""
    tree = grow({"shop.yaml": shop, "m.yaml": f"{MAP}    {entry}\n"})
    assert errors == sorted(str(error) for error in tree.errors)
    assert tree.declared["Deployment/shop/dev/shop/app"].spec is not None
    assert tree.declared["Deployment/shop/prod/shop/app"].spec is not None


@pytest.mark.parametrize("text", ["{}", "[]", "x", "null"])
def test_a_map_without_entries_is_told(grow: Grow, shop: str, text: str) -> None:
    """It declares nothing, and nothing of the file is removed for it."""
    tree = grow(
        {
            "shop.yaml": shop,
            "m.yaml": f"{HEAD}Deployment\nmetadata: {{name: shop/app, project: "
            f"shop}}\nspec: {{environments: {text}}}\n",
        }
    )
    assert [str(error) for error in tree.errors] == [
        "m.yaml:4:22: environments must be a mapping of at least one environment to its fields"
    ]
    assert {"m.yaml"} == tree.opaque


def test_an_entry_may_be_empty(grow: Grow, shop: str) -> None:
    """All fields come from the base."""
    text = f"{HEAD}Deployment\nmetadata: {{name: shop/app, project: shop}}\nspec: {{environments: {{dev: null}}}}\n"
    assert grow({"shop.yaml": shop, "m.yaml": text}).errors == ()


def test_metadata_and_path_must_agree_with_the_map(grow: Grow, shop: str) -> None:
    """An environment beside the map is an error on each; a folder of an environment holds that one only."""
    beside = MAP.replace("project: shop}", "project: shop, environment: dev}")
    tree = grow({"shop.yaml": shop, "m.yaml": beside})
    assert [(error.line, error.column, error.message) for error in tree.errors] == [
        (3, 56, "metadata.environment and environments exclude each other; remove one")
    ] * 2
    tree = grow({"shop.yaml": shop, "projects/shop/environments/dev/deployments/m.yaml": MAP})
    assert [(error.line, error.column, error.message) for error in tree.errors] == [
        (8, 5, 'metadata.environment is "prod", but the path implies "dev"; they must agree')
    ]


def test_the_same_key_in_a_map_and_alone_is_an_error_on_both(grow: Grow, shop: str) -> None:
    """The other entry is right."""
    alone = f"{HEAD}Deployment\nmetadata: {{{DEV}}}\n"
    tree = grow({"shop.yaml": shop, "a.yaml": alone, "m.yaml": MAP})
    key = "Deployment/shop/dev/shop/app is declared twice; it also stands at"
    assert [str(error) for error in tree.errors] == [
        f"a.yaml:1:1: {key} m.yaml:7",
        f"m.yaml:7:1: {key} a.yaml:1",
    ]


def test_defaults_go_below_the_base(grow: Grow, shop: str) -> None:
    """Document over environment; names, version and follow cannot be defaulted."""
    environment = "Environment\nmetadata: {name: dev, project: shop}\nspec: {defaults: {Deployment: {%s}}}"
    plain = "Environment\nmetadata: {name: dev, project: shop}"
    good = shop.replace(
        plain, environment % "inputs: {port: 1, zone: a}, run_on: {secrets: [key]}, run_smoke: false"
    )
    spec = grow({"shop.yaml": good, "m.yaml": MAP}).declared["Deployment/shop/dev/shop/app"].spec
    assert spec is not None
    assert (spec["inputs"]["port"], spec["inputs"]["zone"], spec["run_smoke"]) == (8080, "a", False)
    tree = grow({"shop.yaml": shop.replace(plain, environment % "version: latest, follow: prod")})
    assert [error.message for error in tree.errors if "defaulted" in error.message] == [
        "version of a Deployment cannot be defaulted; remove it here",
        "follow of a Deployment cannot be defaulted; remove it here",
    ]


def following(**follows: str) -> str:
    """Deployments of one name in three environments, each with its `follow`."""
    documents = ["Project\nmetadata: {name: shop}\n"]
    for name in ("dev", "staging", "prod"):
        documents.append(f"Environment\nmetadata: {{name: {name}, project: shop}}\n")
        fields = f"spec: {{follow: {follows[name]}}}\n" if name in follows else ""
        documents.append(
            f"Deployment\nmetadata: {{name: shop/app, project: shop, environment: {name}}}\n{fields}"
        )
    return "---\n".join(HEAD + each for each in documents)


def test_followers_in_a_circle_are_told_to_each_of_them(grow: Grow) -> None:
    """And are right again when one of them stops."""
    tree = grow({"a.yaml": following(staging="dev", prod="staging")})
    assert tree.errors == ()
    assert "Deployment/shop/dev/shop/app" in tree.declared["Deployment/shop/staging/shop/app"].references
    tree = grow({"a.yaml": following(dev="prod", staging="dev", prod="staging")}, onto=tree)
    sentence = "these Deployments follow each other in a circle: "
    assert [error.message for error in tree.errors] == [
        f"{sentence}{'/shop/app → '.join(f'Deployment/shop/{name}' for name in names)}/shop/app; "
        "remove follow from one of them"
        for names in (
            ("dev", "staging", "prod", "dev"),
            ("staging", "prod", "dev", "staging"),
            ("prod", "dev", "staging", "prod"),
        )
    ]
    assert grow({"a.yaml": following(staging="dev", prod="dev")}, onto=tree).errors == ()


def test_a_provider_need_not_be_valid(grow: Grow, shop: str) -> None:
    """Nor declared: its state may be known all the same."""
    text = f"{HEAD}Deployment\nmetadata: {{{DEV.replace('dev', 'prod')}}}\nspec: {{providers: {{db: shop/db}}}}\n"
    broken = shop.replace(
        "{name: shop/db, project: shop, environment: prod}",
        "{name: shop/db, project: shop, environment: prod}\nspec: {version: 1}",
    )
    tree = grow({"shop.yaml": broken, "x.yaml": text})
    assert [error.key for error in tree.errors] == ["Deployment/shop/prod/shop/db"]
    assert "Deployment/shop/prod/shop/db" in tree.declared["Deployment/shop/prod/shop/app"].references
