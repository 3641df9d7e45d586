"""Digests: of values, and of what a build does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from specs.digest import canonical, digest, work_digest

BUILD: dict[str, Any] = {
    "repo": "web",
    "branch": "main",
    "concurrency": "queue",
    "timeout_seconds": 3600,
    "environment_variables": {"A": "1"},
    "triggers": [],
    "task_defaults": {"max_trials": 2},
    "inputs": [],
    "tasks": [{"name": "a", "needs": [], "run": "make"}],
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]) -> None:
    """A mapping backwards has the same digest."""
    assert digest(value) == digest(dict(reversed(value.items())))


def test_the_canonical_text() -> None:
    """Sorted, tight, UTF-8, and one text for one number."""
    assert canonical({"b": 1.5, "a": (1.0, None, "ü")}) == b'{"a":[1,null,"\xc3\xbc"],"b":1.5}'


def test_work_is_told_from_policy() -> None:
    """Triggers, concurrency and limits do not count; tasks, variables and the checkout do."""
    same: list[dict[str, Any]] = [
        {"triggers": [{"type": "webhook", "inputs": {}}]},
        {"concurrency": "allow"},
        {"timeout_seconds": 60},
        {"task_defaults": {"max_trials": 5, "timeout_seconds": 3, "lost_retries": 0, "load": 2}},
        {"tasks": [{"name": "a", "run": "make", "environment_variables": {"A": "1"}}]},
        {"tasks": [{"name": "a", "run": "make", "run_file": "a.sh"}]},
        {"branch": "dev"},
    ]
    other: list[dict[str, Any]] = [
        {"environment_variables": {"A": "2"}},
        {"repo": "other"},
        {"tasks": [{"name": "a", "run": "make all"}]},
        {"tasks": [{"name": "b", "run": "make"}]},
        {"task_defaults": {"network": "none"}},
        {"inputs": [{"id": "x", "default": "1"}]},
    ]
    whole = work_digest(BUILD)
    assert [whole] * len(same) == [work_digest({**BUILD, **change}) for change in same]
    assert whole not in [work_digest({**BUILD, **change}) for change in other]
    assert work_digest(BUILD, "https://a/x") != work_digest(BUILD, "https://a/y")
