"""What the tests of specs share: texts to trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from specs.loader import parse_file
from specs.tree import Tree

Grow = Callable[..., Tree]

PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
HEAD = "apiVersion: steersman/v1\nkind: "
SEALED = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOQ=="
# A shop with two environments, people, accounts and secrets, for what is inside of it.
SHOP = "---\n".join(
    f"{HEAD}{body}\n"
    for body in (
        "Project\nmetadata: {name: shop}\nspec: {namespaces: [{name: shop}]}",
        "Project\nmetadata: {name: other}\nspec: {namespaces: [{name: foreign}]}",
        "Environment\nmetadata: {name: dev, project: shop}",
        "Environment\nmetadata: {name: prod, project: shop}",
        "Environment\nmetadata: {name: far, project: other}",
        "User\nmetadata: {name: alice}",
        "Team\nmetadata: {name: platform}\nspec: {members: [alice]}",
        "Team\nmetadata: {name: second}",
        "ServiceAccount\nmetadata: {name: deployer, team: platform}",
        "ServiceAccount\nmetadata: {name: twin, team: platform}",
        "ServiceAccount\nmetadata: {name: twin, team: second}",
        f"Secret\nmetadata: {{name: key}}\nspec: {{sealed: {SEALED}}}",
        f"Secret\nmetadata: {{name: key, project: shop}}\nspec: {{sealed: {SEALED}}}",
        f"Secret\nmetadata: {{name: in-prod, project: shop, environment: prod}}\nspec: {{sealed: {SEALED}}}",
        "Repository\nmetadata: {name: web, project: shop}\nspec: {url: 'https://example.org/web.git'}",
        "Build\nmetadata: {name: web, project: shop, environment: dev}\nspec: {repo: web, steps: [{}]}",
        "Build\nmetadata: {name: lint, project: shop}\nspec: {tasks: [{name: a, run: x}]}",
        "Deployment\nmetadata: {name: shop/db, project: shop, environment: prod}",
        "Deployment\nmetadata: {name: shop/web, project: shop}\nspec: {environments: {dev: {}, prod: {follow: dev}}}",
        "Pipeline\nmetadata: {name: all, project: shop}",
        "Pipeline\nmetadata: {name: theirs, project: other}",
    )
)
MARK = "§"
REPOSITORY = (
    "apiVersion: steersman/v1\nkind: Repository\nmetadata: {name: web, project: shop}\n"
    'spec: {url: "https://example.org/web.git"}\n'
)


@pytest.fixture
def grow() -> Grow:
    """Builds a tree from {path: text} in one go; texts of run_file and specifications in force may be given."""

    def build(
        files: Mapping[str, str],
        texts: Mapping[str, str | None] | None = None,
        in_force: Mapping[str, Mapping[str, Any]] | None = None,
        onto: Tree | None = None,
    ) -> Tree:
        parsed = {path: parse_file(text.encode()) for path, text in files.items()}
        return (onto or Tree.empty()).update(parsed, texts or {}, in_force or {})

    return build


@pytest.fixture
def build_errors(grow: Grow) -> Callable[[str], list[str]]:
    """The errors of a Build with the given `spec` text (indented by two), without their path."""

    def errors(spec: str) -> list[str]:
        text = f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: b, project: shop}}\nspec:\n{spec}"
        tree = grow({"p.yaml": PROJECT, "r.yaml": REPOSITORY, "b.yaml": text})
        return [str(error).removeprefix("b.yaml:") for error in tree.errors]

    return errors


@pytest.fixture
def shop() -> str:
    """The text of the shop."""
    return SHOP


@pytest.fixture
def told(grow: Grow) -> Callable[[str, str, str], list[str]]:
    """The errors and warnings of a document of a kind, with its metadata and spec as flow text, in the shop.

    A § in the metadata or the spec stands where the one error is to be: a position that is right is shown as one too.
    """

    def errors(kind: str, metadata: str, spec: str) -> list[str]:
        marked = f"{HEAD}{kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"
        text, before = marked.replace(MARK, ""), marked.partition(MARK)[0]
        tree = grow({"shop.yaml": SHOP, "x.yaml": text})
        assert [error for error in tree.errors if error.path == "shop.yaml"] == []
        warnings = [each for declared in tree.declared.values() for each in declared.warnings]
        found = [*(str(error) for error in tree.errors), *warnings]
        place = f"x.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: "
        return [each.replace(place, MARK) for each in found]

    return errors


@pytest.fixture
def effective(grow: Grow) -> Callable[[str, str, str], dict[str, Any]]:
    """The effective specification of a document of a kind, with its metadata and spec as flow text, in the shop."""

    def spec_of(kind: str, metadata: str, spec: str) -> dict[str, Any]:
        text = f"{HEAD}{kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"
        tree = grow({"shop.yaml": SHOP, "x.yaml": text})
        assert tree.errors == ()
        (found,) = [each for each in tree.declared.values() if each.path == "x.yaml"]
        return dict(found.spec or {})

    return spec_of
