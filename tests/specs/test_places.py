"""Where documents stand: the file that an API write makes, and that its path says the same again."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.meta import SCOPES, Key, parse_key
from specs.places import file_of, implied, slug
from specs.tree import Tree

Grow = Callable[..., Tree]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("Project/shop", "projects/shop/project.yaml"),
        ("Team/platform", "teams/platform.yaml"),
        ("ServiceAccount/platform/deployer", "teams/platform/service-accounts/deployer.yaml"),
        ("Environment/shop/dev", "projects/shop/environments/dev/environment.yaml"),
        ("Repository/shop/web", "projects/shop/repositories/web.yaml"),
        ("Pipeline/shop/release", "projects/shop/pipelines/release.yaml"),
        ("Build/shop/dev/web", "projects/shop/environments/dev/builds/web.yaml"),
        ("Build/shop/_/web", "projects/shop/builds/web.yaml"),
        ("Deployment/shop/prod/shop/web", "projects/shop/environments/prod/deployments/shop--web.yaml"),
        ("RoleBinding/shop/prod/deployers", "projects/shop/role-bindings/deployers.yaml"),
        ("RoleBinding/_/_/owners", "installation/RoleBinding/owners.yaml"),
        ("Secret/shop/prod/k", "projects/shop/secrets/k.yaml"),
        ("Secret/~alice/_/k", "installation/Secret/k.yaml"),
        ("Secret/_/_/k", "installation/Secret/k.yaml"),
        ("Freeze/shop/f", "projects/shop/Freeze/f.yaml"),
        ("Freeze/_/f", "installation/Freeze/f.yaml"),
        ("Notification/shop/n", "projects/shop/Notification/n.yaml"),
        ("Notification/_/n", "installation/Notification/n.yaml"),
        ("User/a@b.org", "installation/User/a@b.org.yaml"),
        ("Executor/local", "installation/Executor/local.yaml"),
    ],
)
def test_each_kind_has_its_file(key: str, path: str) -> None:
    """escape-state, 13.4, and the table of own-kinds."""
    assert path == file_of(parse_key(key))


def test_a_slug_is_a_name_of_a_file() -> None:
    """Also of names that are none."""
    assert [slug(name) for name in ("Bug fixes", ".hidden", "a/b/c", "é")] == [
        "Bug-fixes",
        "-.hidden",
        "a--b--c",
        "-",
    ]
    assert len(slug("a/" * 99 + "b")) < 200
    assert slug("a/" * 99 + "b") != slug("a/" * 99 + "c")


PART = st.from_regex(r"[a-z][a-z0-9_-]{1,20}", fullmatch=True)
KEYS = st.builds(
    lambda kind, project, environment, team, name: Key(
        kind,
        project if any(part.startswith("project") for part in SCOPES[kind]) else None,
        environment if any(part.startswith("environment") for part in SCOPES[kind]) else None,
        name,
        team if "team" in SCOPES[kind] else None,
    ),
    st.sampled_from(sorted(SCOPES)), PART, PART, PART, st.text(min_size=1, max_size=250),
)  # fmt: skip


@given(KEYS)
def test_the_path_of_a_new_file_agrees_with_its_key(key: Key) -> None:
    """Whatever the name is, it stays in its folder; what the path implies is so."""
    path = file_of(key)
    assert path == posixpath.normpath(path)
    assert not any(part.startswith(".") or len(part) > 255 for part in path.split("/"))
    means = implied(path)
    if key.kind not in ("Project", "Environment"):
        assert means.get("project") in (None, key.project)
        assert means.get("environment") in (None, key.environment)
        assert means.get("team") in (None, key.team)


def test_paths_give_the_scope_of_new_kinds(grow: Grow) -> None:
    """Projects, environments and teams may be left out."""
    head = "apiVersion: steersman/v1\nkind: "
    files = {
        "teams/platform.yaml": f"{head}Team\nmetadata: {{name: platform}}\n",
        "teams/platform/service-accounts/bot.yaml": f"{head}ServiceAccount\nmetadata: {{name: bot}}\n",
        "projects/shop/project.yaml": f"{head}Project\nmetadata: {{name: shop}}\n",
        "projects/shop/environments/dev/environment.yaml": f"{head}Environment\nmetadata: {{name: dev}}\n",
        "projects/shop/environments/dev/deployments/web.yaml": f"{head}Deployment\nmetadata: {{name: shop/web}}\n",
        "projects/shop/pipelines/p.yaml": f"{head}Pipeline\nmetadata: {{name: p}}\n",
        "projects/shop/role-bindings/b.yaml": f"{head}RoleBinding\nmetadata: {{name: b}}\n"
        "spec: {role: read, subjects: [{kind: Team, name: platform}]}\n",
        "projects/shop/Freeze/f.yaml": f"{head}Freeze\nmetadata: {{name: f}}\n"
        "spec: {reason: x, recurrence: [{days_of_week: sat}]}\n",
    }
    tree = grow(files)
    assert tree.errors == ()
    assert {
        "Team/platform", "ServiceAccount/platform/bot", "Project/shop", "Environment/shop/dev",
        "Deployment/shop/dev/shop/web", "Pipeline/shop/p", "RoleBinding/shop/_/b", "Freeze/shop/f",
    } == set(tree.declared)  # fmt: skip
    wrong = {
        "teams/other/service-accounts/x.yaml": f"{head}ServiceAccount\nmetadata: {{name: x, team: platform}}\n"
    }
    assert [str(error) for error in grow(wrong, onto=tree).errors] == [
        'teams/other/service-accounts/x.yaml:3:27: metadata.team is "platform", but the path implies "other"; '
        "they must agree"
    ]
