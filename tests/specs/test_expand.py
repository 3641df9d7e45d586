"""One document may declare several resources: the seam that Deployment will use, with a kind of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from specs import kinds
from specs.document import Document
from specs.tree import Tree, origins

Grow = Callable[..., Tree]

TEXT = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: web, project: shop}
spec:
  tasks: [{name: a, run: make}]
  timeout_seconds: 100
  environments:
    dev: {timeout_seconds: 200}
    prod: {timeout_seconds: x}
"""


def by_environment(document: Document) -> Iterator[kinds.Part]:
    """A part for each entry of `environments`, over the rest of the document."""
    base = {name: value for name, value in document.spec.items() if name != "environments"}
    for name, entry in document.spec["environments"].items():
        yield kinds.Part(name, ((("spec", "environments", name), entry), (("spec",), base)))


def test_each_entry_is_a_resource_of_its_own(grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    """KEY, line and errors are the entry's; its fields go over the document's; a bad entry harms itself only."""
    monkeypatch.setitem(kinds.KINDS, "Build", replace(kinds.KINDS["Build"], expand=by_environment))
    head = "apiVersion: steersman/v1\nkind: "
    environments = [
        f"{head}Environment\nmetadata: {{name: {name}, project: shop}}\n" for name in ("dev", "prod")
    ]
    scope = "---\n".join([f"{head}Project\nmetadata: {{name: shop}}\n", *environments])
    tree = grow({"a.yaml": TEXT, "b.yaml": scope})
    dev, prod = tree.declared["Build/shop/dev/web"], tree.declared["Build/shop/prod/web"]
    assert (dev.line, prod.line) == (8, 9)
    assert dev.spec is not None
    assert dev.spec["timeout_seconds"] == 200
    assert prod.spec is None
    assert [str(error) for error in tree.errors] == [
        'a.yaml:9:29: timeout_seconds must be a whole number, not "x"',
    ]
    found = origins(tree, "Build/shop/dev/web")
    assert (found["timeout_seconds"], found["tasks"]) == ("a.yaml:8", "a.yaml:5")
