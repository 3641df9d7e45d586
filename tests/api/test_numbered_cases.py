"""Every numbered edge case of a contract and every fact of the client has a test that names it; none can be skipped."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_CASE = re.compile(r"test_(?P<other>srht_)?case_(?P<number>[0-9]+)_")
_SKIPS = {"skip", "skipif", "xfail", "importorskip", "skipTest"}
_NAMED = re.compile(r"test_(srht_)?(case|fact)_")
FACTS = {  # escape-state, 16 and 16.1
    "the_environment_is_read_whole",
    "environments_are_not_made_by_the_client",
    "a_put_is_200_exactly",
    "a_put_never_waits_for_git",
    "a_delete_is_200_exactly",
    "the_server_steers_by_pending_codes",
    "login_methods",
    "build_and_deploy_make_8_puts",
    "smoke_and_test_make_2_puts",
    "a_failing_script_makes_5_puts",
    "a_missing_provider_makes_2_puts",
    "one_nested_dependency_makes_16_puts",
    "a_destroy_makes_12_puts",
    "converge_after_a_failure_makes_1_put",
    "converge_of_a_pending_deletion_makes_6_puts_and_a_delete",
    "errands_only_read",
}


@pytest.mark.parametrize(
    ("dialect", "last"), [("cider", 35), ("srht", 37), ("escape", 122), ("pdc", 42), ("sqedule", 38)]
)
def test_all_of_them(dialect: str, last: int) -> None:
    """`test_case_NN_…` below the folder of the API, or `test_srht_case_NN_…` beside what both APIs show."""
    found = set()
    for folder in ("cider", "srht", "escape", "pdc", "sqedule"):
        for name in named_in(folder):
            case = _CASE.match(name)
            if case is not None and ("srht" if case["other"] else folder) == dialect:
                found.add(int(case["number"]))
    assert found == set(range(1, last + 1))


def test_all_facts_of_the_client() -> None:
    """`test_fact_…` below the folder of the API."""
    assert {name.removeprefix("test_fact_") for name in named_in("escape") if "_fact_" in name} == FACTS


def named_in(folder: str) -> list[str]:
    """The names of all cases and facts of a folder, none of which may be left out on whatever condition."""
    found = []
    for path in (HERE / folder).glob("test_*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert not any("pytestmark" in ast.unparse(node) for node in body), path
        for node in body:
            if not isinstance(node, ast.FunctionDef) or not _NAMED.match(node.name):
                continue
            used = {getattr(each, "attr", getattr(each, "id", "")) for each in ast.walk(node)}
            assert not used & _SKIPS, node.name
            found.append(node.name)
    return found
