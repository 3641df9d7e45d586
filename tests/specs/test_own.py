"""A document holds what differs from what it inherits, as it is written, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specs.edit import difference
from specs.kinds import KINDS
from specs.layers import Layer, merge
from specs.meta import parse_key
from specs.own import own_fields

Fields = dict[str, Any]

TEXTS = st.sampled_from(["a", "b", "main", "", "1"])
VARIABLES = st.dictionaries(st.sampled_from("ABC"), TEXTS | st.none(), max_size=3)
GLOBS = st.lists(st.sampled_from(["src/**", "*.md", "v*"]), max_size=2)
SERVICES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["db", "web"])},
        optional={
            "run": st.just("serve"),
            "environment_variables": VARIABLES,
            "ready": st.none() | st.just("ok"),
        },
    ),
    max_size=2,
)
TASK = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["lint", "test", "pack"]),
        "run": st.sampled_from(["make", "make\nmake test\n"]),
    },
    optional={
        "needs": st.just([]) | st.just(["lint"]),
        "image": st.none() | st.just("host"),
        "environment_variables": VARIABLES,
        "services": SERVICES,
        "max_trials": st.integers(1, 3) | st.none(),
        "load": st.sampled_from([1, 1.0, 2.5]),
        "matrix": st.just({"db": ["pg"], "exclude": []}) | st.just({"db": ["pg"]}),
    },
)
TRIGGER = st.fixed_dictionaries(
    {"type": st.just("poll")}, optional={"interval_seconds": st.sampled_from([60, 90]), "inputs": VARIABLES}
) | st.fixed_dictionaries(
    {"type": st.just("schedule"), "cron": st.just("@daily")},
    optional={"timezone": st.none() | st.just("UTC")},
)
INPUT = st.fixed_dictionaries(
    {"id": st.sampled_from("xy")},
    optional={"default": st.none() | TEXTS, "items": st.just([]) | st.just(["1"])},
)
BUILD: dict[str, st.SearchStrategy[Any]] = {
    "repo": st.sampled_from(["web", "https://e.org/x"]),
    "branch": st.just("main"),
    "branches": GLOBS,
    "disabled": st.booleans(),
    "concurrency": st.sampled_from(["queue", "replace"]),
    "timeout_seconds": st.sampled_from([60, 3600]),
    "environment_variables": VARIABLES,
    "triggers": st.lists(TRIGGER, max_size=2),
    "inputs": st.lists(INPUT, max_size=2),
    "task_defaults": st.fixed_dictionaries(
        {}, optional={"image": st.none() | st.just("host"), "tags": GLOBS}
    ),
    "tasks": st.lists(TASK, min_size=1, max_size=3),
}
LIMITS = st.fixed_dictionaries(
    {}, optional={"processes": st.sampled_from([512, 7]), "memory_bytes": st.none() | st.just(2**30)}
)
IMAGES = st.dictionaries(
    st.sampled_from(["host", "root"]),
    st.just({"type": "host"}) | st.fixed_dictionaries({"type": st.just("root"), "path": st.just("/srv")}),
    min_size=1,
)
EXECUTOR: dict[str, st.SearchStrategy[Any]] = {
    "max_load": st.sampled_from([4, 4.0, 1.5]),
    "traits": st.lists(st.sampled_from(["linux", "gpu"]), max_size=2),
    "network": st.sampled_from(["none", "host"]),
    "images": IMAGES,
    "limits": LIMITS,
}
KIND = st.sampled_from(["Build", "Executor"])


def layer(kind: str) -> st.SearchStrategy[Fields]:
    """Some fields of a kind; null for some."""
    fields = BUILD if kind == "Build" else EXECUTOR
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in fields.items()})


def effective(kind: str, *layers: Mapping[str, Any]) -> Fields:
    """What layers mean, the strongest first; a test that draws layers without meaning is not run."""
    try:
        merged = merge([Layer("", (), values, None) for values in layers])
        return KINDS[kind].model.model_validate(merged).model_dump(mode="json")
    except ValidationError:
        assume(False)
        raise


@settings(max_examples=100, deadline=None)
@given(st.data(), KIND)
def test_own_fields_over_what_is_inherited_mean_what_is_wanted(data: st.DataObject, kind: str) -> None:
    """Whatever the document holds now, and whatever stands around it; and asking again changes nothing."""
    own, wanted_layer = data.draw(layer(kind)), data.draw(layer(kind))
    inherited = data.draw(st.lists(layer(kind), max_size=2))
    wanted = effective(kind, wanted_layer)
    before = copy.deepcopy((own, inherited, wanted))
    found = own_fields(kind, own, inherited, wanted)
    assert wanted == effective(kind, found, *inherited)
    assert found == own_fields(kind, found, inherited, wanted)
    assert before == (own, inherited, wanted)


@settings(max_examples=100, deadline=None)
@given(st.data(), KIND)
def test_an_echo_changes_nothing(data: st.DataObject, kind: str) -> None:
    """What the document means already is written as it is, defaults and nulls too, in its order."""
    own = data.draw(layer(kind))
    inherited = data.draw(st.lists(layer(kind), max_size=2))
    found = own_fields(kind, own, inherited, effective(kind, own, *inherited))
    assert own == found
    assert list(own) == list(found)


@settings(max_examples=60, deadline=None)
@given(st.data(), KIND)
def test_a_new_document_holds_no_more_than_it_must(data: st.DataObject, kind: str) -> None:
    """Each of its fields means something: without it, the effective specification is another."""
    inherited = data.draw(st.lists(layer(kind), max_size=2))
    wanted = effective(kind, data.draw(layer(kind)))
    found = own_fields(kind, {}, inherited, wanted)
    for name in found:
        without = {other: value for other, value in found.items() if other != name}
        try:
            merged = merge([Layer("", (), values, None) for values in (without, *inherited)])
            assert wanted != KINDS[kind].model.model_validate(merged).model_dump(mode="json")
        except ValidationError:
            continue


TASKS = [{"name": "lint", "run": "ruff", "needs": []}, {"name": "test", "run": "tox", "image": None}]


def build(own: Mapping[str, Any], inherited: Sequence[Mapping[str, Any]] = ()) -> Fields:
    """What a Build means."""
    return effective("Build", own, *inherited)


@pytest.mark.parametrize(
    ("own", "inherited", "change", "expected"),
    [
        ({"disabled": True}, [], {"disabled": False}, {}),
        ({"disabled": False}, [], {"disabled": False}, {"disabled": False}),
        ({"timeout_seconds": 60}, [{"timeout_seconds": 90}], {"timeout_seconds": 90}, {}),
        ({}, [{"timeout_seconds": 90}], {"timeout_seconds": 3600}, {"timeout_seconds": 3600}),
        ({"repo": "web"}, [{"branch": "main"}], {"branch": None}, {"repo": "web", "branch": None}),
        (
            {"environment_variables": {"A": "1"}},
            [{"environment_variables": {"B": "2"}}],
            {"environment_variables": {"A": "1", "C": "3"}},
            {"environment_variables": {"A": "1", "C": "3", "B": None}},
        ),
        (
            {"environment_variables": {"A": "1"}},
            [{"environment_variables": {"B": "2"}}],
            {"environment_variables": {}},
            {"environment_variables": None},
        ),
        ({"tags": ["v*"]}, [{"tags": ["x"]}], {"tags": []}, {"tags": []}),
        ({"later": 1, "disabled": True}, [], {"disabled": False}, {"later": 1}),
    ],
)
def test_what_is_stored(own: Fields, inherited: Sequence[Fields], change: Fields, expected: Fields) -> None:
    """What differs is set, what is inherited is taken out, what must be undone is null, the rest stays."""
    known = {name: value for name, value in own.items() if name != "later"}
    wanted = build({**known, "tasks": TASKS}, inherited) | change
    assert {**expected, "tasks": TASKS} == own_fields("Build", {**own, "tasks": TASKS}, inherited, wanted)


def test_one_changed_field_of_one_task_is_one_change() -> None:
    """Also where defaults are written out, and a task comes in between."""
    wanted = build({"tasks": TASKS})
    wanted["tasks"][1]["run"] = "tox -q"
    found = own_fields("Build", {"tasks": TASKS}, [], wanted)
    assert [change.steps for change in difference({"tasks": TASKS}, found)] == [("tasks", 1, "run")]
    wanted["tasks"].insert(1, {"name": "new", "run": "x", "needs": []})
    found = own_fields("Build", {"tasks": TASKS}, [], wanted)
    assert [TASKS[0], {"name": "new", "run": "x"}, {**TASKS[1], "run": "tox -q"}] == found["tasks"]


def test_steps_hold_only_what_differs_from_the_built_in() -> None:
    """Fields that clients send back as they got them add nothing."""
    own = {"repo": "web", "steps": [{"plan_location": "escape.yml", "tag_git": True}, {"run_build": False}]}
    wanted = build(own)
    wanted["steps"][0]["run_tests"] = False
    wanted["steps"].append({"plan_location": "b/escape.yml", "run_build": True})
    found = own_fields("Build", own, [], wanted)
    assert found["steps"] == [
        {"plan_location": "escape.yml", "tag_git": True, "run_tests": False},
        {"run_build": False},
        {"plan_location": "b/escape.yml"},
    ]


def test_scripts_written_as_a_text_stay_so() -> None:
    """And another form over an inherited one undoes that."""
    own = {"repo": "web", "steps": [{}], "scripts": {"deploy": "ci/deploy.sh", "smoke": {"inline": "true"}}}
    wanted = build(own)
    assert own == own_fields("Build", own, [], wanted)
    wanted["scripts"]["deploy"] = {"inline": "make"}
    inherited = [{"scripts": {"deploy": {"script": "other.sh"}}}]
    found = own_fields("Build", own, inherited, wanted)
    assert found["scripts"] == {"deploy": {"inline": "make", "script": None}, "smoke": {"inline": "true"}}
    assert wanted == build(found, inherited)


def test_what_comes_from_the_name_is_not_stored() -> None:
    """The release of a Deployment is its name where it says nothing else."""
    key = parse_key("Deployment/shop/prod/shop/web")
    own = {"version": "1.4.12"}
    wanted = effective("Deployment", {**own, "release": "shop/web"})
    assert own == own_fields("Deployment", own, [], wanted, key)
    assert {**own, "release": "shop/api"} == own_fields(
        "Deployment", own, [], {**wanted, "release": "shop/api"}, key
    )


def test_nulls_in_the_defaults_of_an_environment_are_kept() -> None:
    """There they say that a default of the project does not count."""
    own = {"defaults": {"Build": {"timeout_seconds": None}, "Repository": None}}
    wanted = {"description": "", "defaults": {"Build": {"timeout_seconds": None}}}
    assert own == own_fields("Environment", own, [], wanted)
    changed = {"defaults": {"Build": {"timeout_seconds": 60, "branch": None}}}
    assert changed == own_fields("Environment", own, [], changed)
    assert own_fields("Environment", own, [], {"defaults": {}}) == {}


def test_what_is_no_specification_is_refused() -> None:
    """With pydantic's error, whose locations are those of the specification."""
    with pytest.raises(ValidationError) as caught:
        own_fields("Build", {}, [], {"tasks": [{"name": "a", "run": "x", "load": -1}]})
    assert caught.value.errors()[0]["loc"] == ("tasks", 0, "load")
