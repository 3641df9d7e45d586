"""Versions of releases compared, and names of releases taken apart (escape-state, section 4).

Called by the registry of releases, by plans that depend on releases, and by whoever resolves a wanted version. What a
version, a tag or a namespace may look like is in specs.release. Never knows which releases there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from specs.release import NO_NAMESPACE, is_version, release_fault, tag_fault

LATEST = "latest"
NEXT = "@"
"""At the end of a prefix: the next free number."""

_LATEST = frozenset({LATEST, "@", "v@"})


def ordinal(version: str) -> str:
    """A text that compares with others as the versions do; of digits only, so in any order of letters alike."""
    return "".join(f"{len(part):03d}{part}" for part in map(_plain, version.split(".")))


def following(pattern: str, versions: Iterable[str]) -> str:
    """The version that a pattern means where these are taken: the next number after the highest, 0 if there is none.

    A fixed version is answered as it is.
    """
    if not is_pattern(pattern):
        return pattern
    prefix = pattern.removesuffix(NEXT)
    depth = prefix.count(".")
    taken = [int(version.split(".")[depth]) for version in versions if matches(pattern, version)]
    return f"{prefix}{max(taken) + 1 if taken else 0}"


def is_pattern(version: str) -> bool:
    """Is it a prefix such as `1.4.@`?"""
    return version.endswith(f".{NEXT}")


def is_latest(wanted: str) -> bool:
    """Does it ask for the highest version of all?"""
    return wanted in _LATEST


def matches(pattern: str, version: str) -> bool:
    """Whether a version is one that a version, a prefix or `latest` may mean."""
    if is_latest(pattern):
        return True
    parts = [_plain(part) for part in version.split(".")]
    if not is_pattern(pattern):
        return parts == [_plain(part) for part in pattern.split(".")]
    prefix = [_plain(part) for part in pattern.split(".")[:-1]]
    return len(parts) > len(prefix) and parts[: len(prefix)] == prefix


def release_id(namespace: str, application: str, version: str) -> str:
    """`namespace/application-v1.2.3`."""
    return f"{namespace}/{application}-v{version}"


def split(text: str) -> tuple[str, str]:
    """(`namespace/application`, what is wanted of it) of a release's id; ValueError with a sentence for any other text.

    What is wanted: a version, a prefix, `latest` or a tag; without a namespace it is `_`.
    """
    mark = ":" if ":" in text else "-"
    name, found, wanted = text.rpartition(mark)
    if not found:
        raise ValueError(
            f'must be a release such as shop/lib-v1.2.3, shop/lib-latest or shop/lib:TAG, not "{text}"'
        )
    name = name if "/" in name else f"{NO_NAMESPACE}/{name}"
    if message := release_fault(name):
        raise ValueError(f'names no release: "{name}" {message}')
    if mark == ":":
        if message := tag_fault(wanted):
            raise ValueError(f'names no release: "{wanted}" {message}')
        return name, wanted
    if is_latest(wanted):
        return name, LATEST
    if not wanted.startswith("v") or not is_version(wanted[1:]):
        raise ValueError(f'must end in -vVERSION, -latest or :TAG, and "{wanted}" is no version')
    return name, wanted[1:]


def _plain(part: str) -> str:
    return part.lstrip("0") or "0"
