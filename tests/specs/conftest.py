"""What the tests of specs share: texts to trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from specs.loader import parse_file
from specs.tree import Tree

Grow = Callable[..., Tree]

PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
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
