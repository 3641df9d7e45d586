"""Which deployment provides what another consumes (escape-state, 9.3), and circles of such.

Pure. Called when a stage begins, and by whoever plans deployments of an environment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Wired:
    """The provider of each variable, and a sentence for each that has none."""

    providers: Mapping[str, str]
    faults: tuple[str, ...] = ()


def consumed(plan: Mapping[str, Any], stage: str) -> list[tuple[str, str]]:
    """(interface, variable) of what a compiled plan consumes in a stage."""
    return [
        (item["name"], item["variable"]) for item in plan.get("consumes") or () if stage in item["scopes"]
    ]


def wire(
    wanted: Iterable[tuple[str, str]],
    explicit: Mapping[str, str],
    earlier: Mapping[str, str],
    offered: Mapping[str, Sequence[str]],
    itself: str = "",
) -> Wired:
    """A mapping by hand, else what was there, else the only one that offers it. `offered`: interface → deployments."""
    found: dict[str, str] = {}
    faults = []
    for interface, variable in wanted:
        others = [name for name in offered.get(interface, ()) if name != itself]
        chosen = explicit.get(variable) or earlier.get(variable)
        if chosen is None and len(others) == 1:
            chosen = others[0]
        if chosen is None:
            many = f", but {', '.join(others)} do; name one of them in `providers`" if others else ""
            faults.append(f"no one deployment provides {interface} (for {variable}){many}")
        elif chosen == itself:
            faults.append(f"{itself} cannot be its own provider of {interface} (for {variable})")
        elif chosen not in others:
            faults.append(f"{chosen} does not provide {interface} (for {variable}) in this environment")
        else:
            found[variable] = chosen
    return Wired(found, tuple(faults))


def circle(needs: Mapping[str, Collection[str]], start: str) -> list[str] | None:
    """The way from a deployment to itself, if there is one: `[a, b, a]`."""
    for path in _paths(needs, [start]):
        if path[-1] == start:
            return path
    return None


def _paths(needs: Mapping[str, Collection[str]], path: list[str]) -> Iterator[list[str]]:
    seen = {path[0]}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        for other in sorted(needs.get(path[-1], ())):
            if other == path[0]:
                yield [*path, other]
            elif other not in seen:
                seen.add(other)
                waiting.append([*path, other])
