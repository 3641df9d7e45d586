"""Projects: namespaces that belong to one only, logos, and each mistake with its place and its sentence."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from specs.project import LARGEST_LOGO
from specs.tree import Tree

Grow = Callable[..., Tree]
Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

CLAIM = "apiVersion: steersman/v1\nkind: Project\nmetadata: {{name: {name}}}\nspec: {{namespaces: [{{name: {ns}}}]}}\n"

CASES = [
    ("{is_public: §'yes'}", '§is_public must be true or false, not "yes"'),
    ("{is_public: §no}", '§is_public must be true or false, not "no"'),
    ("{namespaces: [{name: §Shop}]}", "§namespaces[0].name must have 2 to 100 lower-case letters"),
    ("{namespaces: [{name: §a}]}", "§namespaces[0].name must have 2 to 100 lower-case letters"),
    ("{namespaces: [{name: §string}]}", '§namespaces[0].name must not be "string", which is reserved'),
    ("{namespaces: [{name: aa}, {name: §aa}]}", '§a namespace "aa" stands above; remove one'),
    ("{namespaces: [§{}]}", "§namespaces[0].name is missing"),
    (
        "{namespaces: [{name: aa, §descripton: x}]}",
        '§unknown field "descripton"; did you mean "description"?',
    ),
    ("{logo: §'?'}", "§logo must be an image in base64"),
    (f"{{logo: §{'A' * (LARGEST_LOGO + 4)}}}", f"§logo must have at most {LARGEST_LOGO} characters"),
    ("{logo: QUJD, logo_file: §logo.png}", "§logo and logo_file exclude each other; keep one"),
    ("{logo_file: §logo.png}", "§logo.png is missing or cannot be read"),
    ("{environment_order: [§Dev]}", "§environment_order[0] must be the name of an Environment"),
    ("{org_url: §'https://u:p@e.org'}", "§org_url must not hold credentials; consider them leaked"),
    ("{org_url: §'https://'}", "§org_url must name a host"),
]


@pytest.mark.parametrize(("spec", "error"), CASES)
def test_a_mistake_in_a_project_is_told(told: Told, spec: str, error: str) -> None:
    """One error, at its place."""
    found = told("Project", "name: mine", spec)
    assert len(found) == 1, found
    assert found[0].startswith(error)


def test_a_full_project_is_valid(effective: Effective) -> None:
    """Every field; a logo may stand on several lines."""
    spec = effective(
        "Project",
        "name: mine",
        "{description: d, org_url: 'https://e.org/x', logo: 'QU JD', is_public: true, environment_order: [], "
        "namespaces: [{name: _, description: none}, {name: mine, logo: QUJD, org_url: 'http://e.org'}]}",
    )
    assert (spec["logo"], spec["is_public"]) == ("QUJD", True)
    assert [item["name"] for item in spec["namespaces"]] == ["_", "mine"]


@pytest.mark.parametrize("image", [b"\x89PNG\r\n\xff\xfe\x00", b"<svg/>"])
def test_a_logo_may_stand_in_a_file(grow: Grow, image: bytes) -> None:
    """Also one whose bytes are no text."""
    text = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: mine}\nspec: {logo_file: l.png}\n"
    logo = image.decode(errors="surrogateescape")
    tree = grow({"a/p.yaml": text}, texts={"a/l.png": logo})
    assert tree.errors == ()
    spec = tree.declared["Project/mine"].spec or {}
    assert base64.b64encode(image).decode() == spec["logo"]
    after = tree.update({}, {"a/l.png": "x" * LARGEST_LOGO}, {})
    assert [str(error) for error in after.errors] == [
        "a/p.yaml:4:19: a/l.png must be an image of 1 byte to 192 KiB"
    ]


def test_bytes_that_are_no_text_are_no_script(grow: Grow) -> None:
    """Told as before."""
    files = {
        "p.yaml": "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: mine}\n",
        "b.yaml": "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: b, project: mine}\n"
        "spec: {tasks: [{name: a, run_file: a.sh}]}\n",
    }
    tree = grow(files, texts={"a.sh": b"echo \xff".decode(errors="surrogateescape")})
    assert [str(error) for error in tree.errors] == ["b.yaml:4:36: a.sh is missing or cannot be read as text"]


def claims(tree: Tree) -> list[str]:
    """The errors."""
    return [str(error) for error in tree.errors]


def test_a_namespace_belongs_to_one_project_only(grow: Grow) -> None:
    """Two that name it in one commit are both wrong; one going leaves the other right."""
    files = {"a.yaml": CLAIM.format(name="aa", ns="ns"), "b.yaml": CLAIM.format(name="bb", ns="ns")}
    tree = grow(files)
    only = '"ns" belongs to one project only, and'
    assert claims(tree) == [
        f"a.yaml:4:28: {only} Project/bb names it too",
        f"b.yaml:4:28: {only} Project/aa names it too",
    ]
    assert claims(grow({"b.yaml": CLAIM.format(name="bb", ns="other")}, onto=tree)) == []
    assert claims(grow({"b.yaml": "\n"}, onto=tree)) == []


def test_who_has_a_namespace_keeps_it(grow: Grow) -> None:
    """A later project that names it too is wrong alone; also beside an owner in a file that cannot be read."""
    in_force = {"Project/aa": {"namespaces": [{"name": "ns"}]}}
    files = {"a.yaml": CLAIM.format(name="aa", ns="ns"), "b.yaml": CLAIM.format(name="bb", ns="ns")}
    expected = ['b.yaml:4:28: "ns" belongs to one project only, and Project/aa names it too']
    assert claims(grow(files, in_force=in_force)) == expected
    tree = grow({"b.yaml": files["b.yaml"]}, onto=grow({"a.yaml": files["a.yaml"]}), in_force=in_force)
    assert claims(tree) == expected
    hidden = grow({**files, "a.yaml": "kind: [\n"}, in_force=in_force)
    assert [error.path for error in hidden.errors] == ["a.yaml", "b.yaml"]


def test_a_namespace_can_move_in_one_commit(grow: Grow) -> None:
    """From one project to another."""
    in_force = {"Project/aa": {"namespaces": [{"name": "ns"}]}}
    tree = grow({"a.yaml": CLAIM.format(name="aa", ns="ns")}, in_force=in_force)
    moved = {"a.yaml": CLAIM.format(name="aa", ns="other"), "b.yaml": CLAIM.format(name="bb", ns="ns")}
    assert claims(grow(moved, in_force=in_force, onto=tree)) == []
