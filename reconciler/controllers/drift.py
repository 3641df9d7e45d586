"""The difference of two specifications, field by field. Pure; called by the planner and the plan's readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.plan import Change


def differences(old: Any, new: Any) -> tuple[Change, ...]:
    """Every leaf that differs, by dotted path; list items with a `name` or `id` are matched by it."""
    return tuple(_differences("", old, new))


def _differences(path: str, old: Any, new: Any) -> Iterator[Change]:
    if type(old) is type(new) and old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _differences(_join(path, str(name)), old.get(name), new.get(name))
    elif _named(old) and _named(new):
        before, after = _by_name(old), _by_name(new)
        if list(before) != list(after) and set(before) == set(after):
            yield Change(_join(path, "order"), list(before), list(after))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences(f"{path}[{name}]", before.get(name), after.get(name))
    else:
        yield Change(path, old, new)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _label(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return None
    label = item.get("name", item.get("id"))
    return label if isinstance(label, str) else None


def _named(items: Any) -> bool:
    if not isinstance(items, list) or not items:
        return False
    labels = [_label(item) for item in items]
    return None not in labels and len(set(labels)) == len(labels)


def _by_name(items: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(_label(item)): item for item in items}
