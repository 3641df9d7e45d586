"""What a Repository says of how it is fetched."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.controllers.repositories import by_interest, by_ssh, secret_of, summary

OF_PROJECT, OF_ALL = "Secret/shop/_/key", "Secret/_/_/key"


@pytest.mark.parametrize("url", ["ssh://git@x.example/r.git", "git@x.example:r.git", "x.example:r.git"])
def test_these_are_fetched_by_ssh(url: str) -> None:
    """Both ways to write it."""
    assert by_ssh(url)


@pytest.mark.parametrize(
    "url", ["https://x.example/r.git", "git://x.example/r.git", "file:///srv/r", "/srv/a:b"]
)
def test_these_are_not(url: str) -> None:
    """They have no use for a key."""
    assert not by_ssh(url)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ((OF_PROJECT, OF_ALL), OF_PROJECT),
        ((OF_ALL,), OF_ALL),
        ((), OF_PROJECT),
        (("Secret/other/_/key", "Secret/shop/dev/key"), OF_PROJECT),
    ],
)
def test_the_nearest_secret_counts(declared: tuple[str, ...], found: str) -> None:
    """The project's, then the installation's; never one of another project or of an environment."""
    assert secret_of("shop", "key", declared) == found


def test_no_name_is_no_secret() -> None:
    """Whatever is declared."""
    assert secret_of("shop", None, (OF_PROJECT,)) is None


def test_the_main_branch_and_new_heads_are_told_first() -> None:
    """The condition has room for three, however the others are called."""
    at = {
        name: datetime(2030, 1, day, tzinfo=UTC) for name, day in (("a", 1), ("b", 3), ("main", 2), ("z", 4))
    }
    faults = {name: f"bad {name}" for name in ("a", "b", "gone", "main", "z")}
    assert list(by_interest(faults, "main", at)) == ["main", "z", "b", "a", "gone"]
    assert summary(by_interest(faults, "main", at)) == "bad main; bad z; bad b; and 2 more"
    assert list(by_interest(faults, None, at)) == ["z", "b", "main", "a", "gone"]
