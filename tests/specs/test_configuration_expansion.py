"""Includes of project configurations (cider-ci, section 6): merged deeply, nested, without circles, bounded."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.configuration_expansion import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_FILES,
    MOST_INCLUDES,
    MOST_VALUES,
    Expanded,
    deep_merge,
    expand,
)
from specs.configuration_faults import BadConfiguration
from specs.configuration_text import document


def expanded(text: str, **more: str) -> Expanded:
    """A document `top.yml` with all that it includes; `a__b_yml` stands for the path a/b.yml."""
    files = {
        path.replace("__", "/").replace("_yml", ".yml").replace("_json", ".json"): textwrap.dedent(content)
        for path, content in more.items()
    }
    encoded = {path: content.encode() for path, content in files.items()}
    return expand(document("top.yml", textwrap.dedent(text).encode()), "top.yml", encoded.get)


def value(text: str, **more: str) -> Any:
    """The expanded value, which must have no faults."""
    found = expanded(text, **more)
    assert found.faults == ()
    return found.value


def faults(text: str, **more: str) -> list[str]:
    """The faults of an expansion."""
    return [str(fault) for fault in expanded(text, **more).faults]


def test_the_map_itself_wins_over_what_it_includes() -> None:
    found = value(
        "{include: a.yml, x: {mine: 1, both: 1}, l: [1]}", a_yml="{x: {both: 2, theirs: 2}, l: [2, 3]}"
    )
    assert found == {"x": {"both": 1, "theirs": 2, "mine": 1}, "l": [1]}


def test_of_several_included_files_the_later_wins() -> None:
    found = value(
        "include: [a.yml, {path: b.json}]", a_yml="{x: {a: 1, both: a}, y: 1}", b_json='{"x": {"both": "b"}}'
    )
    assert found == {"x": {"a": 1, "both": "b"}, "y": 1}


def test_every_map_at_every_level_may_include() -> None:
    found = value("a: [{include: x.yml}, {b: {include: x.yml, z: 2}}]", x_yml="z: 1")
    assert found == {"a": [{"z": 1}, {"b": {"z": 2}}]}


def test_an_included_file_may_include() -> None:
    found = value(
        "include: ci/a.yml",
        ci__a_yml="{include: ci/b.yml, x: 1}",
        ci__b_yml="{x: 2, y: {include: c.yml}}",
        c_yml="z: 3",
    )
    assert found == {"x": 1, "y": {"z": 3}}


def test_paths_are_those_of_the_tree_written_in_any_way() -> None:
    assert value("include: ./ci//a.yml", ci__a_yml="x: 1") == {"x": 1}


def test_a_file_may_be_included_twice_side_by_side() -> None:
    assert value("a: {include: x.yml}\nb: {include: x.yml}", x_yml="x: 1") == {"a": {"x": 1}, "b": {"x": 1}}


def test_a_text_is_read_and_trimmed() -> None:
    found = value("body: {read_and_replace_with: ci/run.sh}", **{"ci__run.sh": "\n#!/bin/sh\n  make\n\n"})
    assert found == {"body": "#!/bin/sh\n  make"}


def test_a_text_that_replaces_is_no_document() -> None:
    assert value("a: {read_and_replace_with: a.yml}", a_yml="{include: a.yml}") == {"a": "{include: a.yml}"}


@pytest.mark.parametrize(
    ("text", "files", "sentence"),
    [
        ("include: a.yml", {"a_yml": "include: a.yml"}, "a circle of includes: top.yml → a.yml → a.yml"),
        ("x: {include: top.yml}", {"top_yml": "x: {include: top.yml}"}, "circle of includes: top.yml → top"),
        ("include: a.yml", {"a_yml": "y: {include: b.yml}", "b_yml": "include: a.yml"}, "a.yml → b.yml → a"),
        ("x: {include: gone.yml}", {}, "x → include: gone.yml: there is no such file in the tree"),
        ("include: a.yml", {"a_yml": "[1]"}, "include: a.yml: must be a map to be included"),
        (
            "include: a.yml",
            {"a_yml": "{read_and_replace_with: b}", "b": "text"},
            "must be a map to be included",
        ),
        ("include: a.yml", {"a_yml": "x: ["}, "include: a.yml:2:1: not valid YAML"),
        ("include: a.json", {"a_json": "{"}, "a.json:1:2: not valid JSON"),
        ("include: 5", {}, "include: must be the path of a file, or a list of paths"),
        ("include: [a.yml, {}]", {"a_yml": "{}"}, "include → 1: `path` is missing"),
        ("include: {paht: a.yml}", {}, 'include: unknown key "paht"; did you mean "path"?'),
        ("include: {path: a.yml, submodule: [x]}", {"a_yml": "{}"}, "`submodule` is not yet carried out"),
        ("include: /etc/passwd", {}, "must be a path from the root of the tree"),
        ("include: ../a.yml", {}, "must be a path from the root of the tree"),
        ("include: a/../../a.yml", {}, "must be a path from the root of the tree"),
        ("include: ''", {}, "must be a path from the root of the tree"),
        ("include: .", {}, "must be a path from the root of the tree"),
        ("x: {read_and_replace_with: a, y: 1}", {"a": "x"}, 'must stand alone; "y" is beside it'),
        ("x: {read_and_replace_with: gone}", {}, "read_and_replace_with: gone: there is no such file"),
        ("x: {read_and_replace_with: [a]}", {"a": "x"}, "must be the path of a file"),
        ("x: {read_and_replace_with: a, submodule: [b]}", {"a": "x"}, "`submodule` is not yet carried out"),
        ("x: {read_and_replace_with: a}", {"a": "a\x00b"}, "a: holds a NUL character"),
    ],
)
def test_what_cannot_be_included_is_told(text: str, files: dict[str, str], sentence: str) -> None:
    told = faults(text, **files)
    assert any(sentence in line for line in told), told


def test_what_fails_leaves_the_rest_alone() -> None:
    found = expanded("a: {include: gone.yml, x: 1}\nb: 2")
    assert found.value == {"a": {"x": 1}, "b": 2}
    assert [fault.where for fault in found.faults] == [("a", "include")]


def spent(text: str, files: dict[str, bytes]) -> str:
    """The refusal of an expansion that reaches a limit."""
    with pytest.raises(BadConfiguration) as refused:
        expand(document("top.yml", text.encode()), "top.yml", files.get)
    return str(refused.value)


def test_files_that_include_each_other_many_times_are_stopped() -> None:
    twice = "{a: {include: %d.yml}, b: {include: %d.yml}}"
    files = {f"{n}.yml": (twice % (n + 1, n + 1)).encode() for n in range(40)}
    assert f"more than {MOST_INCLUDES} includes" in spent("include: 0.yml", files)


def test_the_number_of_files_is_limited() -> None:
    files = {f"{n}.yml": b"{}" for n in range(MOST_FILES + 1)}
    assert f"more than {MOST_FILES} different files" in spent(f"include: [{', '.join(files)}]", files)


def test_the_number_of_values_is_limited() -> None:
    files = {"a.yml": ("x: [" + "1, " * 2000 + "]").encode()}
    entries = ", ".join(f"k{n}: {{include: a.yml}}" for n in range(MOST_VALUES // 2000 + 1))
    assert f"more than {MOST_VALUES} values" in spent(f"{{{entries}}}", files)


def test_the_number_of_characters_is_limited() -> None:
    files = {"a": b"x" * (1024 * 1024)}
    entries = ", ".join(
        f"k{n}: {{read_and_replace_with: a}}" for n in range(MOST_CHARACTERS // (1024 * 1024) + 1)
    )
    assert f"more than {MOST_CHARACTERS} characters" in spent(f"{{{entries}}}", files)


def test_the_size_of_all_files_is_limited() -> None:
    files = {f"{n}.yml": b"{}" + b" " * (1024 * 1024 - 2) for n in range(3)}
    assert f"more than {MOST_BYTES} bytes" in spent(f"include: [{', '.join(files)}]", files)


def test_includes_cannot_nest_without_an_end() -> None:
    deep = "{a: " * 40 + "{include: b.yml}" + "}" * 40
    assert "nested deeper than 50 levels" in spent(deep, {"b.yml": ("{b: " * 20 + "1" + "}" * 20).encode()})


def test_one_file_is_too_large() -> None:
    told = expand({"include": "a.yml"}, "top.yml", {"a.yml": b" " * (1024 * 1024 + 1)}.get).faults
    assert "the limit is 1048576" in str(told[0])


MAPS = st.recursive(
    st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def leaves(whole: Any, where: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All that is no map, or an empty one, by its place."""
    if not isinstance(whole, dict) or not whole:
        return {where: whole}
    return {at: leaf for key, inner in whole.items() for at, leaf in leaves(inner, (*where, key)).items()}


@settings(deadline=None)
@given(MAPS, MAPS)
def test_what_is_merged_over_stays_and_what_it_does_not_touch_too(weak: Any, strong: Any) -> None:
    under, over = leaves({"x": weak}), leaves({"x": strong})
    found = leaves(deep_merge({"x": weak}, {"x": strong}))
    assert all(found[at] == leaf for at, leaf in over.items() if leaf != {})
    touched = [at for at in under if any(at[: len(o)] == o or o[: len(at)] == at for o in over)]
    assert all(found[at] == leaf for at, leaf in under.items() if at not in touched)
    assert set(found) <= set(under) | set(over)


@settings(deadline=None)
@given(MAPS)
def test_deep_merge_with_itself_or_nothing_changes_nothing(whole: Any) -> None:
    assert whole == deep_merge(whole, whole)
    assert {"a": whole} == deep_merge({}, {"a": whole}) == deep_merge({"a": whole}, {})
