"""One figure of a benchmark beside its limit and a baseline of the same run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`value` and `limit` in `unit` (the limit is a least value where `at_least`), `baseline` in words."""

    name: str
    value: float
    limit: float
    unit: str
    baseline: str
    reference: float
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """It is not within its limit."""
        return self.value < self.limit if self.at_least else self.value > self.limit
