"""Builds that start Builds: whom a name means, and circles that would run for ever."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.circles import circles, sentence
from specs.tree import Tree

Grow = Callable[..., Tree]

PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
DEV = "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\n"
SCOPE = {"p.yaml": PROJECT, "e.yaml": DEV}
FOR_EVER = "these Builds start each other in a circle, for ever: "
REMOVE = "; remove one of the triggers"


def build(name: str, *after: str, environment: str = "", more: str = "") -> str:
    """A Build that is started by others."""
    scope = f", environment: {environment}" if environment else ""
    trigger = f"  triggers: [{{type: build, builds: [{', '.join(after)}]}}]\n" if after else ""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop{scope}}}\nspec:\n"
        f"{trigger}  tasks: [{{name: a, run: x}}]\n{more}"
    )


def told(tree: Tree) -> list[str]:
    """All errors."""
    return [str(error) for error in tree.errors]


def test_a_build_refers_to_those_that_start_it(grow: Grow) -> None:
    """Of the same project; an unknown one makes it invalid until it is there."""
    tree = grow({**SCOPE, "b.yaml": build("b", "a")})
    assert told(tree) == ["b.yaml:5:37: Build/shop/_/a is not declared"]
    tree = grow({"a.yaml": build("a")}, onto=tree)
    assert told(tree) == []
    assert tree.declared["Build/shop/_/b"].references == {"Project/shop", "Build/shop/_/a"}
    assert "Build/shop/_/b" in tree.changed
    tree = grow({"a.yaml": "\n"}, onto=tree)
    assert told(tree) == ["b.yaml:5:37: Build/shop/_/a is not declared"]


def test_a_build_of_the_same_environment_comes_first(grow: Grow) -> None:
    """And the one without environment takes its place when it goes."""
    tree = grow({**SCOPE, "b.yaml": build("b", "a", environment="dev")})
    assert told(tree) == ["b.yaml:5:37: neither Build/shop/dev/a nor Build/shop/_/a is declared"]
    tree = grow({"general.yaml": build("a")}, onto=tree)
    assert "Build/shop/_/a" in tree.declared["Build/shop/dev/b"].references
    tree = grow({"own.yaml": build("a", environment="dev")}, onto=tree)
    references = tree.declared["Build/shop/dev/b"].references
    assert {"Project/shop", "Environment/shop/dev", "Build/shop/dev/a"} == references
    tree = grow({"own.yaml": "\n"}, onto=tree)
    assert "Build/shop/_/a" in tree.declared["Build/shop/dev/b"].references
    assert told(tree) == []


def test_a_build_without_environment_sees_none_of_an_environment(grow: Grow) -> None:
    """There may be several environments."""
    tree = grow({**SCOPE, "a.yaml": build("a", environment="dev"), "b.yaml": build("b", "a")})
    assert told(tree) == ["b.yaml:5:37: Build/shop/_/a is not declared"]


def test_an_invalid_build_may_start_another(grow: Grow) -> None:
    """The other one only waits; nothing is wrong with it."""
    tree = grow({**SCOPE, "a.yaml": build("a", more="  priority: x\n"), "b.yaml": build("b", "a")})
    assert [error.key for error in tree.errors] == ["Build/shop/_/a"]


def test_the_same_build_twice_is_told(grow: Grow) -> None:
    """At the second."""
    tree = grow({**SCOPE, "a.yaml": build("a"), "b.yaml": build("b", "a", "a")})
    assert told(tree) == ['b.yaml:5:40: "a" stands in builds twice; remove one']


def test_a_build_cannot_be_started_by_itself(grow: Grow) -> None:
    """Told where it names itself; its environment counts."""
    tree = grow({**SCOPE, "a.yaml": build("a", "a")})
    assert told(tree) == [
        "a.yaml:5:37: a Build cannot be started by itself, it would run for ever; remove it from builds"
    ]
    assert tree.declared["Build/shop/_/a"].spec is None
    tree = grow({**SCOPE, "a.yaml": build("a"), "b.yaml": build("a", "a", environment="dev")})
    assert told(tree) == [
        "b.yaml:5:37: a Build cannot be started by itself, it would run for ever; remove it from builds"
    ]


def test_a_circle_of_builds_is_told_to_each_of_them(grow: Grow) -> None:
    """And to nobody else: what only leads to it or follows it is right."""
    tree = grow(
        {
            **SCOPE,
            "a.yaml": build("a", "first", "c"),
            "b.yaml": build("b", "a"),
            "c.yaml": build("c", "b"),
            "first.yaml": build("first"),
            "last.yaml": build("last", "a"),
        }
    )
    assert told(tree) == [
        f"a.yaml:5:44: {FOR_EVER}Build/shop/_/a → Build/shop/_/b → Build/shop/_/c → Build/shop/_/a{REMOVE}",
        f"b.yaml:5:37: {FOR_EVER}Build/shop/_/b → Build/shop/_/c → Build/shop/_/a → Build/shop/_/b{REMOVE}",
        f"c.yaml:5:37: {FOR_EVER}Build/shop/_/c → Build/shop/_/a → Build/shop/_/b → Build/shop/_/c{REMOVE}",
    ]


def test_breaking_a_circle_mends_all_of_it(grow: Grow) -> None:
    """Also those whose files did not change; closing it again is told again."""
    tree = grow({**SCOPE, "a.yaml": build("a", "b"), "b.yaml": build("b", "a")})
    assert len(tree.errors) == 2
    tree = grow({"b.yaml": build("b")}, onto=tree)
    assert told(tree) == []
    assert tree.changed == {"Build/shop/_/a", "Build/shop/_/b"}
    assert tree.declared["Build/shop/_/a"].spec is not None
    tree = grow({"b.yaml": build("b", "a")}, onto=tree)
    assert len(tree.errors) == 2
    tree = grow({"b.yaml": "\n"}, onto=tree)
    assert told(tree) == ["a.yaml:5:37: Build/shop/_/b is not declared"]


def test_a_last_good_version_counts_in_a_circle(grow: Grow) -> None:
    """Of a Build that is invalid now, and of one in a file that cannot be read."""
    in_force = {"Build/shop/_/a": {"triggers": [{"type": "build", "builds": ["b"]}]}}
    for broken in (build("a", more="  priority: x\n"), "kind: [\n"):
        files = {**SCOPE, "a.yaml": broken, "b.yaml": build("b", "a")}
        assert [error for error in grow(files).errors if "circle" in error.message] == []
        found = [error for error in grow(files, in_force=in_force).errors if "circle" in error.message]
        assert [(error.path, error.key) for error in found] == [("b.yaml", "Build/shop/_/b")]


def test_a_default_that_closes_a_circle_is_told_at_the_default(grow: Grow) -> None:
    """Every Build of the project is started by `a`; `a` itself must not be."""
    defaults = "spec: {defaults: {Build: {triggers: [{type: build, builds: [a]}]}}}\n"
    tree = grow({"p.yaml": PROJECT + defaults, "a.yaml": build("a"), "b.yaml": build("b")})
    assert told(tree) == [
        "p.yaml:4:61: this default makes Build/shop/_/a invalid: a Build cannot be started by itself, "
        "it would run for ever; remove it from builds"
    ]


def test_a_long_circle_is_cut_short_in_its_sentence() -> None:
    """Ten of its Builds are enough."""
    found = circles({str(number): [str((number + 1) % 50)] for number in range(50)})
    assert len(found) == 50
    assert "0 → 49 → 48 → 47 → 46 → 45 → 44 → 43 → 42 → 41 → … (50 in all) → 0" in sentence(found["0"])


@pytest.mark.parametrize("key", ["a", "b"])
def test_the_shortest_circle_is_told(key: str) -> None:
    """Not the way round by c."""
    assert (key, "ba"["ab".index(key)], key) == circles({"a": ["c", "b"], "b": ["a"], "c": ["b"]})[key]


EDGES = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=4))


@given(EDGES)
def test_exactly_those_that_reach_themselves_are_in_a_circle(edges: dict[str, list[str]]) -> None:
    """Found the slow way; and each circle is made of edges."""
    reached = {key: set(targets) for key, targets in edges.items()}
    for _ in range(8):
        reached = {
            key: found | {far for near in found for far in reached.get(near, ())}
            for key, found in reached.items()
        }
    found = circles(edges)
    assert {key for key in reached if key in reached[key]} == set(found)
    for key, circle in found.items():
        assert (key, key) == (circle[0], circle[-1])
        assert all(there in edges[here] for here, there in pairwise(circle))
