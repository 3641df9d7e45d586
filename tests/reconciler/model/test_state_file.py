"""States as clients send them: read, cleaned, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import deployment, state_file
from reconciler.model.state_file import read_file, read_state

TIME = "2030-01-02T03:04:05.123456789Z"
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "inputs",
        "calculated_inputs",
        "deployments",
        "providers",
        "provides",
        "version",
        "status",
        "stages",
        "release",
    ]
)
odd = st.dictionaries(
    fields, json | st.dictionaries(st.sampled_from(["build", "deploy", "cache"]), json), max_size=4
)


def test_what_is_left_out_is_nothing() -> None:
    """Empty maps, lists and texts are left out by the client."""
    read = read_state({"stages": {"deploy": {"version": "1.0"}}}, "web")
    assert read.faults == ()
    assert read.state == {
        "name": "web",
        "release": "web",
        "inputs": {},
        "stages": {
            "deploy": {
                "inputs": {}, "calculated_inputs": {}, "calculated_outputs": {}, "deployments": {}, "providers": {},
                "provides": [], "version": "1.0", "status": {"status": "ok"},
            }
        },
    }  # fmt: skip


def test_nulls_empty_times_and_what_nobody_knows_are_left_out() -> None:
    status = {
        "status": "failure", "updated_at": TIME, "updated_by": "", "data": "exit status 3", "try_again_at": None,
        "tried": 0, "stands": True,
    }  # fmt: skip
    stage = {"status": status, "inputs": {"a": None, "b": {"c": None}}, "deployments": {"x": None}, "junk": 1}
    read = read_state({"name": "other", "stages": {"deploy": stage, "build": None}, "junk": 1}, "web")
    assert read.faults == ()
    found = read.state["stages"]["deploy"]
    assert found["status"] == {"status": "failure", "updated_at": TIME, "data": "exit status 3"}
    assert found["inputs"] == {"b": {"c": None}}
    assert (found["deployments"], list(read.state["stages"]), read.state["name"]) == ({}, ["deploy"], "web")


def test_the_key_is_the_name_of_what_is_nested() -> None:
    stage = {"deployments": {"cache": {"name": "something", "release": "shop/cache"}}}
    found = read_state({"stages": {"deploy": stage}}, "web").state["stages"]["deploy"]["deployments"]["cache"]
    assert (found["name"], found["release"], found["stages"]) == ("cache", "shop/cache", {})


def test_too_deep_is_told_once() -> None:
    state: dict[str, Any] = {}
    for _ in range(state_file.MOST_LEVELS + 5):
        state = {"stages": {"deploy": {"deployments": {"x": state}}}}
    ((field, message),) = read_state(state, "web").faults
    assert field.count("deployments") == state_file.MOST_LEVELS
    assert message == "is nested deeper than 20 levels"


def test_a_file_in_the_order_that_it_has() -> None:
    file = read_file({"name": "p", "environments": {"b": {}, "a": {"inputs": {"x": 1}}}})
    assert (list(file.environments), file.faults) == (["b", "a"], ())
    assert file.environments["a"].inputs == {"x": 1}
    assert [field for field, _ in read_file([]).faults] == ["state"]
    assert [field for field, _ in read_file({"environments": {"Prod": []}}).faults] == [
        "environments.Prod",
        "environments.Prod",
    ]


def test_what_is_declared_of_what_is_taken_over() -> None:
    stage = {"version": "1.0", "inputs": {"b": 2}, "providers": {"k": "c"}, "calculated_inputs": {"z": 9}}
    state = read_state(
        {"release": "web", "inputs": {"a": 1, "b": 1}, "stages": {"deploy": stage}}, "web"
    ).state
    assert state_file.declaration(state) == {
        "release": "_/web", "version": "1.0", "inputs": {"a": 1, "b": 2}, "providers": {"k": "c"},
        "reconcile": "manual", "suspend": False,
    }  # fmt: skip
    never = read_state({"release": "shop/web"}, "web").state
    assert state_file.declaration(never)["suspend"] is True
    assert state_file.declaration(never)["release"] == "shop/web"


def test_what_was_interrupted_has_failed() -> None:
    nested = {"cache": {"stages": {"build": {"status": {"status": "running_test_step"}}}}}
    stage = {"status": {"status": "running_main_step", "updated_at": TIME}, "deployments": nested}
    state = state_file.interrupted(read_state({"stages": {"deploy": stage}}, "web").state)
    status = deployment.stage(state, "deploy")["status"]
    assert status == {"status": "failure", "updated_at": TIME, "data": "imported while running"}
    inner = deployment.stage(state, "deploy")["deployments"]["cache"]["stages"]["build"]["status"]
    assert inner["status"] == "failure"
    assert state_file.interrupted(state) == state


@given(odd)
def test_whatever_comes_what_is_read_can_be_read_again(value: dict[str, Any]) -> None:
    """No input breaks it, and what has no fault is the same a second time."""
    read = read_state(value, "web")
    if not read.faults:
        assert read_state(read.state, "web") == read
    assert deployment.summary(read.state)["name"] == "web"
    shown = deployment.shown(deployment.masked(read.state, None), whole=True)
    assert None not in shown["stages"].values()
