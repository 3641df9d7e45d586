"""Versions compared part by part, prefixes, and names of releases (escape-state, section 4 and 8.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.release import is_version
from specs.versions import following, is_latest, matches, ordinal, split

PARTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=5)


@given(PARTS, PARTS)
def test_ordinals_compare_as_the_versions_do(one: list[int], other: list[int]) -> None:
    texts = [ordinal(".".join(map(str, parts))) for parts in (one, other)]
    assert (one < other) == (texts[0] < texts[1])
    assert (one == other) == (texts[0] == texts[1])
    assert texts[0].isdigit()


def test_1_10_is_above_1_9() -> None:
    assert ordinal("1.10") > ordinal("1.9")
    assert ordinal("1.010") == ordinal("1.10")


@pytest.mark.parametrize(
    ("pattern", "taken", "expected"),
    [
        ("0.0.@", [], "0.0.0"),
        ("0.3.@", ["0.3.9", "0.3.10"], "0.3.11"),
        ("0.3.@", ["0.2.9", "0.31.4", "0.3"], "0.3.0"),
        ("1.@", ["1.4.12", "1.2"], "1.5"),
        ("1.4.0", ["1.4.0"], "1.4.0"),
    ],
)
def test_the_next_number_after_the_highest(pattern: str, taken: list[str], expected: str) -> None:
    assert expected == following(pattern, taken)


@given(PARTS, st.lists(PARTS, max_size=6))
def test_what_follows_is_new_fits_and_is_the_highest(prefix: list[int], others: list[list[int]]) -> None:
    pattern = ".".join(map(str, prefix)) + ".@"
    taken = [".".join(map(str, other)) for other in others]
    found = following(pattern, taken)
    assert is_version(found)
    assert matches(pattern, found)
    assert all(ordinal(found) > ordinal(version) for version in taken if matches(pattern, version))


def test_what_is_wanted_of_a_release() -> None:
    assert matches("latest", "0.1")
    assert matches("1.04", "1.4")
    assert not matches("1.4", "1.4.0")
    assert not matches("1.4.@", "1.40.0")
    assert not matches("1.4.@", "1.4")
    assert is_latest("@")
    assert not is_latest("1.@")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop/lib-v1.2.3", ("shop/lib", "1.2.3")),
        ("shop/my-lib-v1.2.@", ("shop/my-lib", "1.2.@")),
        ("shop/lib-latest", ("shop/lib", "latest")),
        ("shop/lib-@", ("shop/lib", "latest")),
        ("shop/lib-v@", ("shop/lib", "latest")),
        ("shop/lib:in-production", ("shop/lib", "in-production")),
        ("lib-v1", ("_/lib", "1")),
    ],
)
def test_names_of_releases_are_taken_apart(text: str, expected: tuple[str, str]) -> None:
    assert expected == split(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("shop/lib", "-v1.2.3, shop/lib-latest or shop/lib:TAG"),
        ("lib", "must be a release such as"),
        ("shop/lib-1.2", '"1.2" is no version'),
        ("Shop/lib-v1.2", "the namespace must have"),
        ("shop/lib:1.2", "means a version"),
        ("shop/lib:", "must be a tag"),
        ("a/b/c-v1", "NAMESPACE/APPLICATION"),
        ("", "must be a release such as"),
    ],
)
def test_other_texts_are_refused_with_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError) as refused:
        split(text)
    assert part in str(refused.value)
