"""The tree: scope by path, duplicates, dangling references, texts, last good versions; what a change concerns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from specs.loader import opaque_file, parse_file
from specs.tree import Tree, origins

Grow = Callable[..., Tree]

PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
ENVIRONMENT = "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev}\n"
REPOSITORY = 'apiVersion: steersman/v1\nkind: Repository\nmetadata: {name: web}\nspec: {url: "https://e.org/web.git"}\n'
BUILD = (
    "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: web}\n"
    "spec:\n  repo: web\n  tasks: [{name: a, run: make}]\n"
)
EXECUTOR = "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\n"

P, R = "projects/shop/project.yaml", "projects/shop/repositories/web.yaml"
E, B = "projects/shop/environments/dev/environment.yaml", "projects/shop/environments/dev/builds/web.yaml"
SHOP = {P: PROJECT, E: ENVIRONMENT, R: REPOSITORY, B: BUILD}


def told(tree: Tree) -> list[str]:
    """All errors as texts."""
    return [str(error) for error in tree.errors]


def test_the_path_gives_the_scope(grow: Grow) -> None:
    """Project and environment may be left out where the path says them."""
    tree = grow(SHOP)
    assert told(tree) == []
    assert {"Project/shop", "Environment/shop/dev", "Repository/shop/web", "Build/shop/dev/web"} == set(
        tree.declared
    )
    build = tree.declared["Build/shop/dev/web"]
    assert frozenset({"Project/shop", "Environment/shop/dev", "Repository/shop/web"}) == build.references
    assert build.digest is not None
    assert (build.project, build.environment, build.path, build.line) == ("shop", "dev", B, 1)


@pytest.mark.parametrize(
    ("path", "metadata", "error"),
    [
        ("b.yaml", "{name: web}", "b.yaml:3:11: metadata.project is missing: a Build is inside a project"),
        (
            B,
            "{name: web, project: other}",
            'metadata.project is "other", but the path implies "shop"; they must agree',
        ),
        (B, "{name: web, environment: prod}", 'metadata.environment is "prod", but the path implies "dev"'),
        ("b.yaml", "{name: we b, project: shop}", "3:18: a name has at most 100 letters"),
        ("b.yaml", "{name: web, project: s}", "a project's name is two or more letters"),
        (
            "b.yaml",
            "{name: web, project: shop, environment: DEV}",
            "an environment's name has lower-case letters",
        ),
    ],
)
def test_an_unreadable_key_makes_the_file_opaque(grow: Grow, path: str, metadata: str, error: str) -> None:
    """The fault is the file's, nothing is declared by that document."""
    tree = grow({path: BUILD.replace("{name: web}", metadata)})
    assert {path} == tree.opaque
    assert tree.declared == {}
    assert error in told(tree)[0]
    assert tree.errors[0].key is None


def test_an_unknown_kind_makes_the_file_opaque(grow: Grow) -> None:
    """Its other documents are declared."""
    tree = grow({"a.yaml": f"{EXECUTOR}---\n{EXECUTOR.replace('Executor', 'Exekutor')}"})
    assert told(tree) == ['a.yaml:6:7: "Exekutor" is not a kind; did you mean "Executor"?']
    assert {"a.yaml"} == tree.opaque
    assert list(tree.declared) == ["Executor/local"]


def test_scope_that_a_kind_does_not_have_is_an_error(grow: Grow) -> None:
    """The KEY is readable, so the resource is declared and invalid."""
    tree = grow({P: PROJECT, "x.yaml": EXECUTOR.replace("{name: local}", "{name: local, project: shop}")})
    assert told(tree) == ["x.yaml:3:25: an Executor has no project; remove metadata.project"]
    assert tree.declared["Executor/local"].spec is None
    assert frozenset() == tree.opaque


def test_a_key_declared_twice_is_an_error_on_both(grow: Grow) -> None:
    """Each names the other; one going leaves the other right."""
    tree = grow({"a.yaml": EXECUTOR, "b.yaml": f"---\n{EXECUTOR}"})
    assert told(tree) == [
        "a.yaml:1:1: Executor/local is declared twice; it also stands at b.yaml:2",
        "b.yaml:2:1: Executor/local is declared twice; it also stands at a.yaml:1",
    ]
    assert tree.declared["Executor/local"].spec is None
    after = tree.update({"a.yaml": None}, {}, {})
    assert told(after) == []
    assert after.declared["Executor/local"].path == "b.yaml"


@pytest.mark.parametrize(
    ("gone", "error"),
    [
        (P, f"{B}:3:11: Project/shop is not declared"),
        (E, f"{B}:3:11: Environment/shop/dev is not declared"),
        (R, f"{B}:5:9: Repository/shop/web is not declared"),
    ],
)
def test_a_dangling_reference_makes_the_referrer_invalid(grow: Grow, gone: str, error: str) -> None:
    """Also when what it refers to goes later; it heals when that comes back."""
    tree = grow(SHOP)
    without = tree.update({gone: None}, {}, {})
    assert error in told(without)
    assert told(grow({path: text for path, text in SHOP.items() if path != gone})) == told(without)
    back = without.update({gone: parse_file(SHOP[gone].encode())}, {}, {})
    assert tree == Tree(back.declared, back.errors, back.opaque, tree.changed)


def test_the_order_of_environments_names_declared_ones(grow: Grow) -> None:
    """A Project is invalid while one of them is not declared; an invalid one is declared."""
    ordered = f"{PROJECT}spec: {{environment_order: [dev, prod]}}\n"
    tree = grow({**SHOP, P: ordered})
    assert f"{P}:4:33: Environment/shop/prod is not declared" in told(tree)
    assert f"{B}:3:11: Project/shop is invalid and has no earlier good version" in told(tree)
    prod = "projects/shop/environments/prod/environment.yaml"
    after = tree.update({prod: parse_file(ENVIRONMENT.replace("dev", "prod").encode())}, {}, {})
    assert told(after) == []


def test_an_invalid_repository_with_a_last_good_version_can_be_used(grow: Grow) -> None:
    """Only the faulty resource is invalid; without a last good version its users are too."""
    broken = {**SHOP, R: REPOSITORY.replace("url", "urll")}
    assert f"{B}:5:9: Repository/shop/web is invalid and has no earlier good version" in told(grow(broken))
    tree = grow(broken, in_force={"Repository/shop/web": {"url": "https://e.org/web.git"}})
    assert {R} == {error.path for error in tree.errors}


def test_a_file_that_breaks_keeps_what_it_declared_in_use(grow: Grow) -> None:
    """What is in force stands in for what an unreadable file may declare; when the file is removed, it is gone."""
    tree = grow(SHOP)
    good = {"Repository/shop/web": {"url": "https://e.org/web.git"}}
    broken = tree.update({R: parse_file(b"a: [")}, {}, good)
    assert ({R}, [R]) == (broken.opaque, [error.path for error in broken.errors])
    assert tree.declared["Build/shop/dev/web"] == broken.declared["Build/shop/dev/web"]
    removed = broken.update({R: None}, {}, good)
    assert [f"{B}:5:9: Repository/shop/web is not declared"] == told(removed)


def test_a_text_beside_the_specification_is_read(grow: Grow) -> None:
    """run_file is relative to the document, or to the root with a slash; a change of the text changes the user."""
    build = BUILD.replace(
        "[{name: a, run: make}]", "[{name: a, run_file: ../a.sh}, {name: b, run_file: /x/b.sh}]"
    )
    files = {**SHOP, B: build}
    paths = {"projects/shop/environments/dev/a.sh": "echo a\n", "x/b.sh": "echo b\n"}
    parsed = {path: parse_file(text.encode()) for path, text in files.items()}
    assert set(paths) == Tree.empty().wanted_texts({**parsed, "gone.yaml": None})
    tree = Tree.empty().update(parsed, paths, {})
    spec = tree.declared["Build/shop/dev/web"].spec
    assert told(tree) == []
    assert spec is not None
    assert [(t["run_file"], t["run"]) for t in spec["tasks"]] == [
        ("../a.sh", "echo a\n"),
        ("/x/b.sh", "echo b\n"),
    ]
    assert set(paths) == tree.declared["Build/shop/dev/web"].files == tree.texts()
    after = tree.update({}, {"x/b.sh": "echo c\n"}, {})
    assert frozenset({"Build/shop/dev/web"}) == after.changed
    assert tree.declared["Build/shop/dev/web"].digest != after.declared["Build/shop/dev/web"].digest


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        (
            "a.sh",
            None,
            f"{B}:6:31: projects/shop/environments/dev/builds/a.sh is missing or cannot be read as text",
        ),
        (
            "a.sh",
            " \n",
            f"{B}:6:31: projects/shop/environments/dev/builds/a.sh must be a text of 1 byte to 1 MiB",
        ),
        ("a.sh", "x" * (2**20 + 1), "must be a text of 1 byte to 1 MiB"),
        ("/../a.sh", "x", f'{B}:6:31: "/../a.sh" is outside the source; name a file inside it'),
        ("../../../../../../a.sh", "x", "is outside the source; name a file inside it"),
    ],
)
def test_a_text_that_is_not_there_is_an_error(grow: Grow, name: str, text: str | None, error: str) -> None:
    """Missing, empty, too large, or outside of the source."""
    build = BUILD.replace("run: make", f"run_file: {name}")
    tree = grow({**SHOP, B: build}, texts={"projects/shop/environments/dev/builds/a.sh": text})
    assert len(tree.errors) == 1
    assert error in told(tree)[0]


def test_only_what_a_change_concerns_is_evaluated(grow: Grow) -> None:
    """A changed build alone; a changed description of the project alone; a changed default all inside."""
    tree = grow({**SHOP, "x.yaml": EXECUTOR})
    assert len(tree.changed) == 5
    build = tree.update({B: parse_file(BUILD.replace("make", "make all").encode())}, {}, {})
    assert frozenset({"Build/shop/dev/web"}) == build.changed
    project = tree.update({P: parse_file(f"{PROJECT}spec: {{description: x}}\n".encode())}, {}, {})
    assert frozenset({"Project/shop"}) == project.changed
    default = f"{PROJECT}spec: {{defaults: {{Build: {{disabled: true}}}}}}\n"
    defaults = tree.update({P: parse_file(default.encode())}, {}, {})
    assert {"Project/shop", "Build/shop/dev/web"} <= defaults.changed
    assert "Executor/local" not in defaults.changed
    gone = tree.update({"x.yaml": None}, {}, {})
    assert frozenset({"Executor/local"}) == gone.changed
    assert frozenset() == tree.update({}, {}, {}).changed


def test_an_update_leaves_the_old_tree_alone(grow: Grow) -> None:
    """Trees are values."""
    tree = grow(SHOP)
    before = dict(tree.declared)
    tree.update({P: None, B: None, R: opaque_file("a link")}, {}, {})
    assert before == tree.declared
    assert tree.errors == ()
    assert (
        tree.changed
        == tree.update({path: parse_file(text.encode()) for path, text in SHOP.items()}, {}, {}).changed
    )


def test_origins_name_the_place_of_each_field(grow: Grow) -> None:
    """Own fields, defaults of the environment and of the project, and built-in ones."""
    project = (
        f"{PROJECT}spec:\n  defaults:\n    Build:\n      environment_variables: {{A: '1', B: '1', C: '1'}}\n"
    )
    environment = (
        f"{ENVIRONMENT}spec: {{defaults: {{Build: {{environment_variables: {{B: '2', C: '2'}}}}}}}}\n"
    )
    build = f"{BUILD}  environment_variables: {{C: '3'}}\n  disabled: null\n"
    tree = grow({**SHOP, P: project, E: environment, B: build})
    found = origins(tree, "Build/shop/dev/web")
    assert (f"{P}:7", f"{E}:4", f"{B}:7") == tuple(found[f"environment_variables.{name}"] for name in "ABC")
    assert (f"{B}:5", "built-in", "built-in") == (found["repo"], found["disabled"], found["branch"])
    assert origins(tree, "Build/shop/dev/nothing") == {}


def test_a_thousand_faulty_files_are_told_in_order(grow: Grow) -> None:
    """Each with its place; those that are right are declared."""
    files = {
        f"e/{i:04}.yaml": EXECUTOR.replace("local", f"e{i}") + ("spec: {trait: []}\n" if i % 2 else "")
        for i in range(1000)
    }
    files |= {f"z/{i:04}.yaml": "a: [" for i in range(1000)}
    tree = grow(files)
    assert len(tree.errors) == 1500
    assert sorted(files) == sorted(
        {error.path for error in tree.errors} | {d.path for d in tree.declared.values()}
    )
    assert sum(1 for declared in tree.declared.values() if declared.spec is not None) == 500
    assert len(tree.opaque) == 1000
