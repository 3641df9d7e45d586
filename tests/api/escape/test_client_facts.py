"""What the real client does with the State Service, fact by fact (escape-state, 16 and 16.1): calls, codes, counts.

Each fact of the two tables has a test of its name, which `tests.api.test_numbered_cases` asks for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.escape.conftest import DEV, World, refused
from tests.api.escape.state_client import Failed, StateClient, Unauthorized

STATES = f"{DEV}/deployments/"
EIGHT = ["", *["running_pre_step"] * 2, *["running_main_step"] * 2, *["running_post_step"] * 2, "ok"]


def run(world: World, who: str = "wendy") -> StateClient:
    """A command of the client, which has read the environment."""
    found = StateClient(world.url, world.secrets[who], "shop", "dev")
    found.load()
    return found


def stage(world: World, name: str, stage: str = "deploy") -> dict[str, Any]:
    """As another run of the client reads it."""
    found: dict[str, Any] = run(world).state["deployments"][name]["stages"][stage]
    return found


def codes(client: StateClient) -> list[str]:
    """Of all puts, in order."""
    return [code for _, code in client.sent]


# -- 16: the calls


def test_fact_the_environment_is_read_whole(world: World) -> None:
    """200 with an Environment whose deployments are a map; 401 is "Unauthorized", and any other code fails it."""
    found = run(world).state
    assert (found["name"], type(found["deployments"])) == ("dev", dict)
    assert found["deployments"].keys() >= {"shop/web", "infra/cluster"}
    with pytest.raises(Unauthorized):
        StateClient(world.url, "nonsense", "shop", "dev").load()
    with pytest.raises(Failed, match=r"^404 Not Found \[There is no project 'nope'"):
        StateClient(world.url, world.secrets["wendy"], "nope", "dev").load()


def test_fact_environments_are_not_made_by_the_client(world: World) -> None:
    """One that is not declared is 404, until it is."""
    client = StateClient(world.url, world.secrets["wendy"], "shop", "qa")
    with pytest.raises(Failed, match=r"^404 Not Found \[There is no environment 'qa' in shop\.\]$"):
        client.load()
    assert world["wendy"].post(f"{DEV.removesuffix('dev')}", json={"name": "qa"}).status_code == 200
    assert client.load()["deployments"] == {}


def test_fact_a_put_is_200_exactly(world: World) -> None:
    """With the name escaped in the query, `/` as `%2F`: an empty body, and no commit."""
    before = world.commits()
    body = {"path": "fact/put", "root_stage": "", "state": {"name": "fact/put", "stages": {}}}
    headers = {"X-Escape-Token": world.secrets["wendy"]}
    answer = httpx.put(f"{world.url}{STATES}?deployment=fact%2Fput", json=body, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert "fact/put" in run(world).state["deployments"]
    assert world.commits() == before


def test_fact_a_put_never_waits_for_git(world: World) -> None:
    """Also where the repository of the specs is out of reach: `tests.bench` says how long it takes."""
    away = world.repo.path.with_name("away")
    client = run(world)
    state = client.deployment("fact/git", "fact/git")
    world.repo.path.rename(away)
    try:
        for _ in range(20):
            client.tell("fact/git", "", "deploy", state, state["stages"].setdefault("deploy", {}), "ok")
    finally:
        away.rename(world.repo.path)
    assert stage(world, "fact/git")["status"]["status"] == "ok"


def test_fact_a_delete_is_200_exactly(world: World) -> None:
    """At the end of `run converge`, of what was destroyed to be deleted; again it is 404 with a sentence."""
    run(world).deploy("fact/delete", "1.0")
    headers = {"X-Escape-Token": world.secrets["wendy"], "Accept": "text/plain"}
    url = f"{world.url}{STATES}?deployment=fact%2Fdelete"
    answer = httpx.delete(url, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    again = httpx.delete(url, headers=headers)
    assert (again.status_code, again.text) == (404, "There is no deployment 'fact/delete' in shop/dev.")


def test_fact_the_server_steers_by_pending_codes(world: World) -> None:
    """Each is kept as it is put, and read by the next run."""
    for code in (
        "test_pending",
        "destroy_pending",
        "destroy_and_delete_pending",
        "pending",
        "never_heard_of",
    ):
        client = run(world)
        state = client.deployment("fact/steered", "fact/steered")
        client.tell("fact/steered", "", "deploy", state, state["stages"].setdefault("deploy", {}), code)
        assert stage(world, "fact/steered")["status"]["status"] == code


def test_fact_login_methods(world: World) -> None:
    """A map, name → url and type; the token comes back in the header X-Escape-Token, else it is 401."""
    methods = httpx.get(f"{world.url}/api/v1/auth/login-methods").json()
    assert {each["type"] for each in methods.values()} == {"secret-token"}
    secret = world.secrets["wendy"]
    url = methods["service-account"]["url"]
    answer = httpx.post(url, json={"username": "wendy", "secret_token": secret})
    assert (answer.status_code, answer.headers["x-escape-token"]) == (200, secret)
    wrong = httpx.post(
        url, json={"username": "wendy", "secret_token": "x"}, headers={"Accept": "application/json"}
    )
    refused(wrong, 401, "unauthorized")
    assert "x-escape-token" not in wrong.headers


# -- 16.1: counted


@pytest.mark.parametrize("of", ["build", "deploy"])
def test_fact_build_and_deploy_make_8_puts(world: World, of: str) -> None:
    """In this order of codes; the last one stands, with what it has computed."""
    before, client = world.commits(), run(world)
    client.deploy(f"fact/{of}", "0.0.1", stage=of)
    assert len(client.sent) == client.puts == 8
    if of == "deploy":
        assert codes(client) == EIGHT
    found = stage(world, f"fact/{of}", of)
    assert (found["version"], found["status"]["status"]) == ("0.0.1", "ok")
    assert found["status"]["updated_at"].endswith("789Z")  # nanoseconds are kept
    assert world.commits() == before
    assert found["calculated_outputs"] == {"url": "http://web"}


def test_fact_smoke_and_test_make_2_puts(world: World) -> None:
    """`running_test_step`, then the result."""
    run(world).deploy("fact/smoke", "0.0.1")
    client = run(world)
    client.smoke("fact/smoke")
    assert codes(client) == ["running_test_step", "ok"]
    found = stage(world, "fact/smoke")
    assert (found["status"]["status"], found["version"]) == ("ok", "0.0.1")


def test_fact_a_failing_script_makes_5_puts(world: World) -> None:
    """The last one says why."""
    client = run(world)
    client.deploy("fact/fails", "0.0.1", fails=True)
    assert codes(client) == [*EIGHT[:4], "failure"]
    status = stage(world, "fact/fails")["status"]
    assert (status["status"], status["data"]) == ("failure", "exit status 3")


def test_fact_a_missing_provider_makes_2_puts(world: World) -> None:
    """As it was, then the failure."""
    client = run(world)
    state = client.deployment("fact/lonely", "fact/lonely")
    mine = state["stages"].setdefault("deploy", {"version": "0.0.1"})
    client.put("fact/lonely", "", "deploy", state)
    client.tell("fact/lonely", "", "deploy", state, mine, "failure", data="no provider of kubernetes")
    assert codes(client) == ["", "failure"]
    assert stage(world, "fact/lonely")["status"]["data"] == "no provider of kubernetes"


def test_fact_one_nested_dependency_makes_16_puts(world: World) -> None:
    """Eight at its own path, eight at the root; neither takes anything from the other."""
    client = run(world)
    client.deploy("fact/nest", "1.0.0", path="fact/nest:cache")
    client.deploy("fact/nest", "1.0.0")
    assert [path for path, _ in client.sent] == ["fact/nest:cache"] * 8 + ["fact/nest"] * 8
    found = stage(world, "fact/nest")
    nested = found["deployments"]["cache"]["stages"]["deploy"]
    assert (found["status"]["status"], nested["status"]["status"], nested["version"]) == ("ok", "ok", "1.0.0")


def test_fact_a_destroy_makes_12_puts(world: World) -> None:
    """Build stage, then deploy stage; version and provides stay, what was computed goes (9.2)."""
    first = run(world)
    first.deployment("fact/gone", "fact/gone")["stages"]["deploy"] = {"provides": ["fact"]}
    first.deploy("fact/gone", "0.0.1")
    providers = f"{DEV}/providers/"
    assert world["rita"].get(providers).json().get("fact") == ["fact/gone"]
    client = run(world)
    client.destroy("fact/gone")
    assert len(client.sent) == 12
    assert "running_pre_destroy_step" not in codes(client)
    found = stage(world, "fact/gone")
    assert (found["version"], found["provides"], found["status"]["status"]) == ("0.0.1", ["fact"], "empty")
    assert (found["calculated_inputs"], found["calculated_outputs"]) == ({}, {})
    assert "fact" not in world["rita"].get(providers).json()


def test_fact_converge_after_a_failure_makes_1_put(world: World) -> None:
    """With `try_again_at` and no `tried`, kept as it is."""
    run(world).deploy("fact/again", "0.0.1", fails=True)
    client = run(world)
    state = client.deployment("fact/again", "")
    again = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
    mine = state["stages"]["deploy"]
    client.tell("fact/again", "", "deploy", state, mine, "failure", data="exit status 3", try_again_at=again)
    assert codes(client) == ["failure"]
    status = stage(world, "fact/again")["status"]
    assert status["try_again_at"] == again
    assert status.get("tried", 0) == 0


def test_fact_converge_of_a_pending_deletion_makes_6_puts_and_a_delete(world: World) -> None:
    """Those of a destroy of the deploy stage; then there is nothing left."""
    name = "fact/pending"
    run(world).deploy(name, "0.0.1")
    client = run(world)
    state = client.deployment(name, "")
    mine = state["stages"]["deploy"]
    steps = ["running_pre_step", "running_main_destroy_step", *["running_post_destroy_step"] * 3, "empty"]
    for code in steps:
        client.tell(name, "", "deploy", state, mine, code)
    assert codes(client) == steps
    client.remove(name)
    assert name not in run(world).state["deployments"]


def test_fact_errands_only_read(world: World) -> None:
    """One who may only read is served, and what is read is whole: the outputs that an errand is given."""
    run(world).deploy("fact/errand", "0.0.1")
    found = run(world, "rita").state["deployments"]["fact/errand"]["stages"]["deploy"]
    assert found["calculated_outputs"] == {"url": "http://web"}
    with pytest.raises(Failed, match=r"^403 Forbidden \["):
        run(world, "rita").deploy("fact/errand", "0.0.1")
