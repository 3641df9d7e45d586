"""Manifests as a push submits them (builds-srht 5.3, 5.4 and 9)."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from specs.manifest import Manifest, document, parse
from specs.manifest_pushed import pushed

COMMIT = "c" * 40
OURS = frozenset({"https://e.org/shop.git", "git@e.org:shop"})
TEXT = """\
# a comment
image: host
submitter: {hub.sr.ht: {enabled: false}}
sources:
  - https://e.org/shop.git
  - here::https://e.org/shop.git#old
  - git+git@e.org:shop
  - https://e.org/other.git#v1
  - hg+https://e.org/shop.git
  - https://e.org/shop.git#a#b
environment: {LEVEL: "010", FLAG: yes, NAMES: [a, "no"], WHEN: 2030-01-31}
tasks:
  - build: |
      make
      echo '#: "'
  - 1: make check
"""


def push(text: str) -> Manifest:
    """As pushed to `main`."""
    return pushed(parse(text), OURS.__contains__, COMMIT, "refs/heads/main")


def test_sources_that_are_the_repository_name_the_commit() -> None:
    """Directory and scheme stay; other repositories, other systems and what is no URL stay whole."""
    assert push(TEXT).sources == (
        f"https://e.org/shop.git#{COMMIT}",
        f"here::https://e.org/shop.git#{COMMIT}",
        f"git+git@e.org:shop#{COMMIT}",
        "https://e.org/other.git#v1",
        "hg+https://e.org/shop.git",
        "https://e.org/shop.git#a#b",
    )


def test_the_environment_tells_of_the_push() -> None:
    """Unless the manifest says something else; types stay what they are."""
    assert push(TEXT).environment == {
        "BUILD_SUBMITTER": "git.sr.ht",
        "GIT_REF": "refs/heads/main",
        "LEVEL": "010",
        "FLAG": True,
        "NAMES": ("a", "no"),
        "WHEN": "2030-01-31",
    }
    own = push("image: host\nenvironment: {GIT_REF: mine}\ntasks: [{a: x}]\n")
    assert own.environment["GIT_REF"] == "mine"


def test_the_text_is_what_is_run() -> None:
    """Submitted again, it gives the same job; keys that mean nothing here are kept."""
    found = push(TEXT)
    assert parse(found.text) == found
    assert found.tasks == parse(TEXT).tasks
    assert document(found.text)["submitter"] == {"hub.sr.ht": {"enabled": False}}
    assert "make\n    echo" in found.text


def test_a_manifest_without_sources_gets_none() -> None:
    """As builds.sr.ht has it."""
    assert push("image: host\ntasks: [{a: x}]\n").sources == ()


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_stays_what_it_is(value: str, script: str) -> None:
    """Of a variable, and of a task."""
    text = {"image": "host", "environment": {"X": value}, "tasks": [{"a": script}]}
    try:
        given_ = parse(json.dumps(text))
    except ValueError:
        return
    found = pushed(given_, OURS.__contains__, COMMIT, "refs/heads/main")
    assert found.environment["X"] == given_.environment["X"]
    assert found.tasks == given_.tasks
    assert parse(found.text) == found or found.text == given_.text
