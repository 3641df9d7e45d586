"""Single values of project configurations (cider-ci, section 6): matches, durations, variables."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.configuration_durations import BadDuration, seconds
from specs.configuration_matches import expression_fault, found, matches
from specs.configuration_variables import Unsettled, filled, merged

TEXTS = st.text("ab/._- {}$,19AND", max_size=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 minutes", 180),
        ("1 minute", 60),
        ("2 minutes and 30 seconds", 150),
        ("2 Minutes plus 30 SECONDS", 150),
        ("1 hour, 1 minute, 1 second", 3661),
        ("1 day 2 hours", 93_600),
        ("1 week", 604_800),
        ("1 month", 2_592_000),
        ("500 milliseconds", 0.5),
        ("1.5 hours", 5400),
        ("3minutes", 180),
        ("1 second", 1),
        ("1 year", 31_536_000),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert (expected, type(expected)) == (seconds(text), type(seconds(text)))


@pytest.mark.parametrize(
    "text",
    ["", " ", "and", "3", "minutes", "3 m", "-3 minutes", "0 seconds", "3 minutes ago", "2 years", "1e3 seconds",
     "3 minutess", "9" * 400 + " seconds", "١ second", "1 second " * 40, "0 hours and 0 minutes"],
)  # fmt: skip
def test_texts_that_are_no_durations(text: str) -> None:
    with pytest.raises(BadDuration, match="must"):
        seconds(text)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_durations(text: str) -> None:
    with contextlib.suppress(BadDuration):
        assert seconds(text) > 0


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "(",
        "[",
        "*",
        "x{",
        "(?=a)",
        "(?<!a)b",
        r"(a)\1",
        "a{300}",
        "(a{20}){20}",
        r"\w{100}",
        "a" * 501,
        "\\",
    ],
)
def test_expressions_that_are_refused(pattern: str) -> None:
    assert expression_fault(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"^\d{4}-\d{2}-\d{2}$", "[0-9a-f]{40}", r"^feature/\w+$", "(?i)master|main", ".", r"spec/.*_spec\.rb"],
)
def test_expressions_that_people_write(pattern: str) -> None:
    assert expression_fault(pattern) is None


def test_what_is_included_may_be_excluded() -> None:
    assert matches("log", None, "a/log/b")
    assert matches("log", "old$", "a/log/old/b")
    assert not matches("log", "old$", "a/log/old")
    assert not matches("log", None, "a/lag/b")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){25}x", "(?s)" + ".*a" * 100 + "!"]
)
def test_no_expression_makes_it_wait(pattern: str) -> None:
    assert expression_fault(pattern) is None
    started = time.process_time()
    found(pattern, "a" * 5000 + "!b")
    assert time.process_time() - started < 10


@settings(deadline=None)
@given(st.text("ab.*+?|()[]^$", max_size=8), st.text("ab", max_size=8))
def test_expressions_mean_what_they_mean_elsewhere(pattern: str, text: str) -> None:
    try:
        reference = re.compile(pattern)
    except (re.error, FutureWarning):
        return
    if expression_fault(pattern) is None and not re.search(r"[*+?]\+|\[\[|\[[^\]]*[|&-]", pattern):
        assert bool(reference.search(text)) is found(pattern, text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_expressions(pattern: str) -> None:
    if expression_fault(pattern) is None:
        found(pattern, pattern)


def test_variables_are_merged_without_regard_to_case() -> None:
    assert merged({"a": "1", "B": "1"}, {"A": "2", "b": None, "c": "x"}) == {"A": "2", "C": "x"}


def test_templates_are_replaced_until_nothing_changes() -> None:
    variables = {"A": "{{B}}-{{ b }}", "B": "{{C}}", "C": "c", "D": "{{E}}", "F": "{{}} {{a b}} {C}"}
    assert filled(variables) == {"A": "c-c", "B": "c", "C": "c", "D": "{{E}}", "F": "{{}} {{a b}} {C}"}


def test_what_is_known_later_is_replaced_later() -> None:
    once = filled({"A": "{{B}}", "B": "{{CIDER_CI_TREE_ID}}"})
    assert filled(once, {"CIDER_CI_TREE_ID": "t", "B": "not this one"}) == {"A": "t", "B": "t"}


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "{{A}}x"},
        {"A": "{{A}}{{A}}"},
        {"A": "{{B}}", "B": "x{{A}}"},
        {"A": "{{B}}", "B": "{{C}}", "C": "{{A}}"},
        {f"A{n}": f"{{{{A{n + 1}}}}}" * 10 for n in range(10)} | {"A10": "x" * 100},
        {"A": "x" * 200_000, "B": "{{A}}"},
    ],
)
def test_templates_without_an_end_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(Unsettled, match="is replaced"):
        filled(variables)


def test_a_variable_that_is_itself_stays() -> None:
    assert filled({"A": "{{A}}"}) == {"A": "{{A}}"}


REFERENCES = st.sampled_from(["{{A}}", "{{B}}", "{{C}}", "{{D}}", "x"])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("ABC"), st.lists(REFERENCES, max_size=3).map("".join)))
def test_what_is_filled_is_settled(variables: dict[str, str]) -> None:
    try:
        once = filled(variables)
    except Unsettled:
        return
    assert once == filled(once)
