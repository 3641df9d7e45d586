"""States of deployments as values: paths, stages, what stands, what is shown to whom."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import deployment as d

CODES = [
    d.EMPTY, d.PENDING, d.RUNNING_PRE_STEP, d.RUNNING_MAIN_STEP, d.RUNNING_POST_STEP, d.OK, d.FAILURE,
    d.TEST_PENDING, d.RUNNING_TEST_STEP, d.TEST_FAILURE, d.DESTROY_PENDING, d.DESTROY_AND_DELETE_PENDING,
    d.RUNNING_PRE_DESTROY_STEP, d.RUNNING_MAIN_DESTROY_STEP, d.RUNNING_POST_DESTROY_STEP, d.DESTROY_FAILURE,
    "running_something_new",
]  # fmt: skip


def state(name: str = "web", **stages: Any) -> dict[str, Any]:
    """A state with these stages."""
    return {"name": name, "release": f"shop/{name}", "inputs": {}, "stages": stages}


def at(code: str, **more: Any) -> dict[str, Any]:
    """A stage with this status."""
    return {"version": "1.0.0", "status": {"status": code}} | more


def moved(before: dict[str, Any], *codes: str) -> dict[str, Any]:
    """A deploy stage that goes through these codes."""
    for code in codes:
        before = d.with_stage(before, "deploy", {"status": {"status": code}})
    return before


def test_a_key_and_its_place() -> None:
    place = d.of("Deployment/shop/prod/shop/web")
    assert place == d.Place("shop", "prod", "shop/web")
    assert place.key == "Deployment/shop/prod/shop/web"
    for other in ("Build/shop/prod/web", "Deployment/shop/prod", "Deployment"):
        with pytest.raises(ValueError, match="is no KEY of a Deployment"):
            d.of(other)


def test_what_is_under_way_is_a_running_code_and_each_that_nobody_knows() -> None:
    running = {code for code in CODES if d.is_running(code)}
    assert running == {code for code in CODES if code.startswith("running_")}


def test_a_stage_without_a_status_has_the_one_that_its_version_says() -> None:
    """As old clients left it."""
    assert d.code(state()) == "empty"
    assert d.code(state(deploy={"version": "1.2.3"})) == "ok"
    assert d.code(state(deploy={"version": "1.2.3", "status": {"updated_at": "x"}})) == "ok"
    assert d.stage(state(), "build") == {
        "inputs": {}, "calculated_inputs": {}, "calculated_outputs": {}, "deployments": {}, "providers": {},
        "provides": [], "version": "", "status": {"status": "empty"},
    }  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_by_its_status_alone_it_stands_when_ok_or_at_its_test(code: str) -> None:
    """Whatever version and provides still say."""
    assert d.is_deployed(state(deploy=at(code))) is (code == "ok" or "test_" in code)


@pytest.mark.parametrize("code", CODES)
def test_after_ok_it_stands_also_while_something_waits_or_is_under_way(code: str) -> None:
    after = moved(state(deploy=at("ok")), code, code)
    assert d.is_deployed(after) is (code not in ("empty", "failure", "destroy_failure"))


def test_a_first_deploy_under_way_stands_only_when_it_is_done() -> None:
    steps = ["running_pre_step", "running_main_step", "running_post_step"]
    assert not d.is_deployed(moved(state(), *steps))
    assert d.is_deployed(moved(state(), *steps, "ok"))
    assert not d.is_deployed(moved(state(deploy=at("ok")), *steps, "failure", *steps))


def test_provides_only_what_stands() -> None:
    found = state(deploy=at("ok", provides=["redis", "http", "http"]))
    assert d.provides(found) == ("http", "redis")
    assert d.provides(moved(found, "running_main_destroy_step")) == ("http", "redis")
    assert d.provides(moved(found, "running_main_destroy_step", "empty")) == ()
    assert d.provides(state(build=at("ok", provides=["http"]))) == ()


def test_fields_of_a_stage_are_set_and_its_others_stay() -> None:
    before = state(build=at("ok"), deploy=at("ok", inputs={"a": 1}))
    kept = deepcopy(before)
    after = d.with_stage(before, "deploy", {"version": "2.0.0"})
    assert before == kept
    assert d.stage(after, "deploy")["version"] == "2.0.0"
    assert d.stage(after, "deploy")["inputs"] == {"a": 1}
    assert after["stages"]["build"] == before["stages"]["build"]


# -- paths


def test_a_root_is_replaced_whole() -> None:
    before = state(deploy=at("ok"), build=at("ok"))
    new = {"name": "web", "release": "shop/web", "inputs": {"a": 1}, "stages": {"deploy": at("empty")}}
    after = d.put_at(before, "web", "", new)
    assert after["inputs"] == {"a": 1}
    assert list(after["stages"]) == ["deploy"]
    assert d.at_path(after, "web", "") == after


def test_only_what_is_at_the_path_is_replaced() -> None:
    """Parents and siblings stay (ST3)."""
    cache, other = state("cache", deploy=at("ok")), state("other", deploy=at("ok"))
    before = state(deploy=at("ok", deployments={"cache": cache, "other": other}, inputs={"a": 1}))
    new = state("cache", deploy=at("failure"))
    after = d.put_at(before, "web:cache", "deploy", new)
    stage = d.stage(after, "deploy")
    assert d.code(stage["deployments"]["cache"]) == "failure"
    assert stage["deployments"]["other"] == other
    assert (stage["inputs"], stage["version"], stage["status"]["status"]) == ({"a": 1}, "1.0.0", "ok")
    assert d.at_path(after, "web:cache", "deploy") == stage["deployments"]["cache"]
    assert d.at_path(after, "web:cache", "build") is None


def test_missing_parents_are_made_and_deeper_levels_hang_in_deploy() -> None:
    after = d.put_at(state(), "web:cache:disk", "build", state("disk", deploy=at("ok")))
    cache = d.stage(after, "build")["deployments"]["cache"]
    assert (cache["name"], cache["release"]) == ("cache", "cache")
    assert d.code(cache["stages"]["deploy"]["deployments"]["disk"]) == "ok"
    assert d.at_path(after, "web:cache:disk", "build") == cache["stages"]["deploy"]["deployments"]["disk"]


def test_a_path_that_does_not_fit_is_told() -> None:
    assert d.path_fault("web", "web", "") is None
    assert d.path_fault("web:cache", "web", "build") is None
    assert d.path_fault("other:cache", "web", "deploy") == "begins with 'other', but the deployment is 'web'"
    assert "must be build or deploy, not ''" in str(d.path_fault("web:cache", "web", ""))


names = st.text("abc", min_size=1, max_size=2)


@given(st.lists(names, max_size=4), st.sampled_from(d.STAGES), st.lists(names, max_size=4))
def test_what_is_put_is_found_and_nothing_else_changes(
    steps: list[str], around: str, others: list[str]
) -> None:
    """For any two paths, of which none lies within the other."""
    mine, theirs = ":".join(["web", *steps]), ":".join(["web", *others])
    new = state("new", deploy=at("ok"))
    before = d.put_at(state(), theirs, "deploy", state("their"))
    beside = not (theirs + ":").startswith(mine + ":") and not (mine + ":").startswith(theirs + ":")
    kept = deepcopy(before)
    after = d.put_at(before, mine, around, new)
    assert before == kept
    found = d.at_path(after, mine, around)
    assert found is not None
    assert found["name"] == "new"
    if beside:
        assert d.at_path(after, theirs, "deploy") == d.at_path(before, theirs, "deploy")


# -- what is shown


def test_a_summary_has_versions_and_statuses_without_texts() -> None:
    status = {"status": "failure", "data": "why", "updated_at": "2030-01-02T03:04:05.123456789Z"}
    found = d.summary(state(deploy={"version": "1.0.0", "status": status, "inputs": {"a": 1}}))
    assert found == {
        "name": "web",
        "release": "shop/web",
        "stages": {
            "deploy": {
                "version": "1.0.0",
                "status": {"status": "failure", "updated_at": "2030-01-02T03:04:05.123456789Z"},
            }
        },
    }
    assert d.shown(found, whole=False) == found


def test_what_is_shown_has_none_of_our_marks_and_all_fields() -> None:
    nested = d.put_at(
        state(deploy=at("ok")), "web:cache", "deploy", moved(state("cache", deploy=at("ok")), "pending")
    )
    found = d.shown(moved(nested, "running_main_step"), whole=True)
    assert "stands" not in str(found)
    stage = found["stages"]["deploy"]
    assert stage["calculated_outputs"] == {}
    assert stage["deployments"]["cache"]["stages"]["deploy"]["status"] == {"status": "pending"}
    assert "stands" not in str(d.shown(moved(nested, "running_main_step"), whole=False))


def test_secret_values_are_hidden_by_the_names_of_the_release() -> None:
    inner = state("cache", deploy=at("ok", inputs={"api_token": "t", "size": "small"}))
    found = state(
        deploy=at(
            "ok", inputs={"pin": "1234", "level": "info"}, calculated_inputs={"pin": "1234"},
            calculated_outputs={"pin": "x", "url": "http://web"}, deployments={"cache": inner},
        )
    ) | {"inputs": {"pin": "1234", "my_token": "plain"}}  # fmt: skip
    hidden = d.masked(found, ["pin"])
    stage = hidden["stages"]["deploy"]
    assert hidden["inputs"] == {"pin": "***", "my_token": "plain"}
    assert stage["inputs"] == {"pin": "***", "level": "info"}
    assert stage["calculated_inputs"] == {"pin": "***"}
    assert stage["calculated_outputs"] == {"pin": "***", "url": "http://web"}
    assert stage["deployments"]["cache"]["stages"]["deploy"]["inputs"] == {
        "api_token": "***",
        "size": "small",
    }
    assert found["inputs"]["pin"] == "1234"


def test_where_no_release_is_known_names_that_look_secret_are_hidden() -> None:
    values = {
        "db_password": "1",
        "PASSWD": "2",
        "aSecret": "3",
        "token": "4",
        "ssh_key": "5",
        "credentials": "6",
        "a": "7",
    }
    hidden = d.masked(state() | {"inputs": values}, None)
    assert hidden["inputs"] == dict.fromkeys(values, "***") | {"a": "7"}
