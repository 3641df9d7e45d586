"""Digests: of values, and of what a build does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs import build_work
from specs import digest as digests
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
        {"cancel_running": True, "priority": 5},
        {
            "task_defaults": {
                "priority": 1,
                "exclusive": ["db"],
                "eager_trials": 2,
                "retry_on": [],
                "retry_delay_seconds": 9,
            }
        },
        {"task_defaults": {"when": "passed", "cache": [], "matrix": {"exclude": []}, "branches": []}},
    ]
    other: list[dict[str, Any]] = [
        {"environment_variables": {"A": "2"}},
        {"repo": "other"},
        {"tasks": [{"name": "a", "run": "make all"}]},
        {"tasks": [{"name": "b", "run": "make"}]},
        {"task_defaults": {"network": "none"}},
        {"inputs": [{"id": "x", "default": "1"}]},
        *(
            {"task_defaults": change}
            for change in (
                {"when": "always"},
                {"ignore_failure": True},
                {"branches": ["main"]},
                {"tags": ["v*"]},
                {"traits": ["linux"]},
                {"image": "host"},
                {"matrix": {"exclude": [], "a": ["x"]}},
                {"attachments": ["x"]},
                {"cache": [{"key": "k", "paths": ["x"]}]},
                {"services": [{"name": "s", "image": None, "run": "x", "ready": None}]},
                {"packages": ["x"]},
                {"repositories": {"x": "y"}},
            )
        ),
    ]
    whole = work_digest(BUILD)
    assert [whole] * len(same) == [work_digest({**BUILD, **change}) for change in same]
    assert whole not in [work_digest({**BUILD, **change}) for change in other]
    assert len(other) == len({work_digest({**BUILD, **change}) for change in other})
    assert work_digest(BUILD, "https://a/x") != work_digest(BUILD, "https://a/y")


def test_a_field_with_its_built_in_value_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a later version's new field changes no digest of builds that do not use it."""
    before = work_digest(BUILD)
    fields = build_work.built_in

    def of_a_later_version(spec: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields(spec), "novelty": []}

    for module in (build_work, digests):
        monkeypatch.setattr(module, "built_in", of_a_later_version)
    assert before == work_digest(BUILD)
    assert before != work_digest({**BUILD, "task_defaults": {"novelty": [1]}})
