"""Matrices: their rows are the product without what is excluded, and every name is its own."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from specs.matrix import Matrix, faults, row_name, rows

AXES = st.dictionaries(
    st.sampled_from(["python", "db", "os", "_x"]),
    st.lists(st.sampled_from(["1", "2", "3.11", "a/b", "ü"]), min_size=1, max_size=4, unique=True),
    max_size=3,
)


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, Any]:
    """Axes, and entries of `exclude` that name some of them."""
    axes = draw(AXES)
    entries = []
    for _ in range(draw(st.integers(0, 4)) if axes else 0):
        names = draw(st.lists(st.sampled_from(sorted(axes)), min_size=1, unique=True))
        entries.append({name: draw(st.sampled_from(axes[name])) for name in names})
    return {"exclude": entries, **axes}


def product(matrix: dict[str, Any]) -> list[dict[str, str]]:
    """What the rows must be, found the slow way."""
    names = [name for name in matrix if name != "exclude"]
    found = []
    for values in itertools.product(*(matrix[name] for name in names)):
        row = dict(zip(names, values, strict=True))
        if not any(all(row[name] == value for name, value in entry.items()) for entry in matrix["exclude"]):
            found.append(row)
    return found


@given(matrices())
def test_rows_are_the_product_without_what_is_excluded(matrix: dict[str, Any]) -> None:
    """In the same order, with the axes in theirs."""
    assert [list(row.items()) for row in product(matrix)] == [list(row.items()) for row in rows(matrix)]


@given(matrices())
def test_rows_have_names_of_their_own(matrix: dict[str, Any]) -> None:
    """Of these values no two become the same text."""
    names = [row_name("t", row) for row in rows(matrix)]
    assert len(names) == len(set(names))


@given(matrices())
def test_a_matrix_without_faults_has_rows_and_each_entry_takes_one_away(matrix: dict[str, Any]) -> None:
    """And one with faults leaves no row, or has an entry that could be left out."""
    whole = len(product(matrix))
    needless = any(
        len(product({**matrix, "exclude": matrix["exclude"][:at]}))
        == len(product({**matrix, "exclude": matrix["exclude"][: at + 1]}))
        for at in range(len(matrix["exclude"]))
    )
    assert (whole == 0 or needless) is bool(list(faults(matrix)))


def test_no_matrix_is_one_row_with_the_tasks_own_name() -> None:
    """Nothing, an empty one, and one as it is stored."""
    assert [rows(None), rows({}), rows({"exclude": []})] == [[{}]] * 3
    assert row_name("test", {}) == "test"


def test_a_name_holds_nothing_that_a_path_or_a_variable_could_not() -> None:
    """Letters, digits and _ . : - stay."""
    assert row_name("t", {"a": "A_z.0:9-", "b": "/ü \n"}) == "t-A_z.0:9--____"


def test_the_axes_keep_their_order_and_any_name() -> None:
    """Also names that the model's class uses itself."""
    given_axes = {"model_fields": ["1"], "copy": ["2"], "_a": ["3"], "exclude": []}
    stored = Matrix.model_validate(given_axes).model_dump(mode="json")
    assert rows(stored) == [{"model_fields": "1", "copy": "2", "_a": "3"}]
    assert list(rows(stored)[0]) == ["model_fields", "copy", "_a"]
