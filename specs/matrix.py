"""The matrix of a task: axes of values, whose combinations are the task's rows.

Called by the Build's model, its cross-checks and the expansion of tasks. Never knows the rest of a task.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from specs.model import Spec, SpecFault, no_nul, variable_shape_fault
from specs.nearest import did_you_mean

MOST_ROWS = 256
MOST_COMBINATIONS = 1024
"""Of the axes, before `exclude`: so much is gone through for every look at a task."""

EXCLUDE = "exclude"
_OUTSIDE_NAMES = re.compile(r"[^A-Za-z0-9_.:-]", re.ASCII)

Row = dict[str, str]
"""One combination: axis -> value, in the order of the axes."""

_Values = tuple[str, ...]


def _rows_to_leave_out(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of rows to leave out; an axis cannot be named exclude, so rename it")
    return value


Value = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(no_nul)]


class Matrix(Spec):
    """Axes by name, each with its values. Scripts see an axis as MATRIX_<NAME IN CAPITALS>; each combination
    is a row, named `TASK-value-value` in the order of the axes.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[list[Value], Field(min_length=1)]]

    exclude: Annotated[
        list[Annotated[dict[str, Value], Field(min_length=1)]],
        Field(max_length=MOST_ROWS),
        BeforeValidator(_rows_to_leave_out),
    ] = Field(default_factory=list)
    """Rows to leave out: each entry names some axes and a value for each, and fits at least one row."""


def axes(matrix: Mapping[str, Any]) -> dict[str, list[str]]:
    """The axes of a matrix, as it is stored."""
    return {name: values for name, values in matrix.items() if name != EXCLUDE}


def rows(matrix: Mapping[str, Any] | None) -> list[Row]:
    """The rows of a valid matrix, the last axis changing fastest; without axes there is one, empty row."""
    if not matrix:
        return [{}]
    of = axes(matrix)
    left = list(itertools.product(*of.values()))
    for entry in matrix.get(EXCLUDE) or ():
        left = _without(left, list(of), entry)
    return [dict(zip(of, values, strict=True)) for values in left]


def row_name(task: str, row: Mapping[str, str]) -> str:
    """The name of a task's row; the task's own name where the row is empty."""
    return "-".join([task, *(_OUTSIDE_NAMES.sub("_", value) for value in row.values())])


def faults(matrix: Mapping[str, Any]) -> Iterator[SpecFault]:
    """What is wrong with a matrix that fits the model."""
    found = [*_axis_faults(matrix), *_exclude_faults(matrix)]
    yield from found
    if not found:
        yield from _size_faults(matrix)


def _axis_faults(matrix: Mapping[str, Any]) -> Iterator[SpecFault]:
    capitals: dict[str, str] = {}
    for name, values in axes(matrix).items():
        if message := variable_shape_fault(name):
            yield (name,), message
        other = capitals.setdefault(name.upper(), name)
        if other != name:
            yield (
                (name,),
                f'"{other}" and "{name}" differ only in case, and both would be MATRIX_{name.upper()}; rename one',
            )
        for at, value in enumerate(values):
            if value in values[:at]:
                yield (name, at), f'"{value}" stands in {name} twice; remove one'


def _exclude_faults(matrix: Mapping[str, Any]) -> Iterator[SpecFault]:
    known = axes(matrix)
    for index, entry in enumerate(matrix[EXCLUDE]):
        for name, value in entry.items():
            where = (EXCLUDE, index, name)
            if name not in known:
                yield where, f'the matrix has no axis "{name}"{did_you_mean(name, known)}'
            elif value not in known[name]:
                yield where, f'"{value}" is not a value of {name}{did_you_mean(value, known[name])}'


def _size_faults(matrix: Mapping[str, Any]) -> Iterator[SpecFault]:
    of = axes(matrix)
    combinations = math.prod(len(values) for values in of.values())
    if combinations > MOST_COMBINATIONS:
        yield (
            (),
            f"the axes have {combinations} combinations; at most {MOST_COMBINATIONS} are allowed, "
            f"of which exclude leaves at most {MOST_ROWS}",
        )
        return
    left = list(itertools.product(*of.values()))
    for index, entry in enumerate(matrix[EXCLUDE]):
        before, left = left, _without(left, list(of), entry)
        if len(left) == len(before):
            yield (EXCLUDE, index), "this excludes nothing that the entries above leave; remove it"
    if not left:
        yield (EXCLUDE,), "exclude leaves no row of the matrix; remove an entry"
    if len(left) > MOST_ROWS:
        yield (), f"the matrix has {len(left)} rows; a task has at most {MOST_ROWS}"


def _without(left: list[_Values], names: list[str], entry: Mapping[str, str]) -> list[_Values]:
    pick = itemgetter(*(at for at, name in enumerate(names) if name in entry))
    excluded = pick([entry.get(name) for name in names])
    return [values for values in left if pick(values) != excluded]
