"""Circles among Builds that start each other by `build` triggers, which would run for ever; and among
Deployments that follow each other, which would never get a version.

Called by the update of a tree, which knows them all. Knows KEYs and who waits for whom, nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

_MOST_SHOWN = 10

_STARTS_ITSELF = "a Build cannot be started by itself, it would run for ever; remove it from builds"
_START = "these Builds start each other in a circle, for ever: {}; remove one of the triggers"
_FOLLOWS_ITSELF = "a Deployment cannot follow itself; name another environment, or remove follow"
_FOLLOW = "these Deployments follow each other in a circle: {}; remove follow from one of them"

Edges = Mapping[str, Iterable[str]]
"""KEY -> those of its kind that it waits for."""


def circles(waits_for: Edges) -> dict[str, tuple[str, ...]]:
    """For each KEY that is part of a circle, the circle from it to itself: each waits for the next."""
    edges = _core({key: sorted(set(targets)) for key, targets in waits_for.items()})
    found: dict[str, tuple[str, ...]] = {}
    for key in sorted(edges):
        circle = () if key in found else _shortest(edges, key)
        for at, member in enumerate(circle):
            found.setdefault(member, (*circle[at:], *circle[:at], member))
    return found


def sentence(circle: tuple[str, ...]) -> str:
    """What is wrong, told to the first of a circle; an arrow means `starts`, or `is followed by`."""
    follows = circle[0].startswith("Deployment/")
    if len(circle) == 2:
        return _FOLLOWS_ITSELF if follows else _STARTS_ITSELF
    starts = circle[::-1]
    if len(starts) > _MOST_SHOWN:
        starts = (*starts[:_MOST_SHOWN], f"… ({len(circle) - 1} in all)", starts[-1])
    return (_FOLLOW if follows else _START).format(" → ".join(starts))


def _core(edges: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Without those that wait for nothing left, again and again: what stays is in a circle or leads to one."""
    left = {key: set(targets) for key, targets in edges.items()}
    waiting: dict[str, list[str]] = {}
    for key, targets in edges.items():
        for target in targets:
            waiting.setdefault(target, []).append(key)
    ready = [target for target in waiting if not left.get(target)] + [key for key in left if not left[key]]
    while ready:
        gone = ready.pop()
        left.pop(gone, None)
        for key in waiting.pop(gone, ()):
            left[key].discard(gone)
            if not left[key]:
                ready.append(key)
    return {key: [target for target in edges[key] if target in left] for key in left}


def _shortest(edges: Mapping[str, list[str]], key: str) -> tuple[str, ...]:
    """The members of a shortest circle through a KEY, from it on; nothing if there is none."""
    came_from: dict[str, str] = {}
    queue = deque([key])
    while queue:
        here = queue.popleft()
        for target in edges[here]:
            if target == key:
                path = [here]
                while path[-1] != key:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if target not in came_from:
                came_from[target] = here
                queue.append(target)
    return ()
