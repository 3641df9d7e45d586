"""Globs against wcmatch, which defines their meaning; and in linear time, which wcmatch does not have."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcmatch import glob

from specs.globs import any_match, branch_matches, check_glob, matches

FLAGS = glob.GLOBSTAR | glob.DOTGLOB | glob.FORCEUNIX
NAMES = st.text(st.sampled_from("ab.-1"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
PIECES = st.sampled_from(["a", "b", ".", "1", "*", "?", "[ab]", "[!a]", "[a-b]", "-", "**"])
SEGMENTS = st.lists(PIECES, min_size=1, max_size=4).map("".join).filter(lambda text: text not in (".", ".."))
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@settings(max_examples=300, deadline=None)
@given(PATTERNS, PATHS)
def test_globs_mean_what_wcmatch_means(pattern: str, path: str) -> None:
    """GLOBSTAR and DOTGLOB, on paths of files."""
    assert glob.globmatch(path, pattern, flags=FLAGS) == matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("src/**", "src/a/b.py", True),
        ("src/**", "lib/a.py", False),
        ("src/**", "src", False),
        ("**/*.md", "README.md", True),
        ("**/*.md", "docs/a/b.md", True),
        ("*.md", "docs/b.md", False),
        ("feature/*", "feature/a", True),
        ("feature/*", "feature/a/b", False),
        ("feature/**", "feature/a/b", True),
        ("v*", "v1.2", True),
        ("*", ".hidden", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("[", "[", True),
        ("[]]", "]", True),
    ],
)
def test_what_a_glob_matches(pattern: str, path: str, expected: bool) -> None:
    """The usual ones of file filters and branches."""
    assert expected is matches(pattern, path)
    assert expected is branch_matches([pattern], path)
    assert expected is any_match(["nothing", pattern], path)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("", "must not be empty"),
        ("a" * 201, "at most 200 characters"),
        ("a*" * 9, "at most 8 wildcards"),
        ("/etc/*", "must be relative"),
        ("a/../b", "must not hold .."),
        ("a\nb", "control characters"),
    ],
)
def test_a_wrong_glob_is_told(pattern: str, told: str) -> None:
    """Each mistake has its sentence."""
    assert told in (check_glob(pattern) or "right")


def test_hostile_names_take_no_time() -> None:
    """Eight wildcards against long names and deep paths."""
    start = time.process_time()
    assert not matches("*a*a*a*a*a*a*a*b", "a" * 250)
    assert not matches("**/a/**/a/**/a/**/b", "/".join("a" * 2000))
    assert time.process_time() - start < 10
