"""What is declared but not carried out says so."""

from __future__ import annotations

import pytest

from reconciler.controllers.declared_only import declared_only


@pytest.mark.parametrize(
    ("kind", "spec", "told"),
    [
        ("Build", {"tasks": [{}]}, None),
        ("Build", {"steps": [{}]}, "a Build with `steps`"),
        ("Build", {"tasks": [{}], "release": {"namespace": "shop"}}, "`release`: declared"),
        ("Repository", {"url": "https://x.example/r.git", "private_key_ref": None}, None),
        ("Repository", {"url": "ssh://git@x.example/r.git", "private_key_ref": "a"}, None),
        (
            "Repository",
            {"url": "git@x.example:r.git", "private_key_ref": "a", "webhook_secret_ref": "b"},
            None,
        ),
        ("Repository", {"url": "https://x.example/r.git", "webhook_secret_ref": "b"}, None),
        ("Repository", {"url": "https://x.example/r.git", "private_key_ref": "a"}, "an SSH key is of no use"),
        (
            "Repository",
            {"url": "/srv/r.git", "private_key_ref": "a"},
            "an SSH key is of no use for /srv/r.git",
        ),
        ("Deployment", {}, "does not deploy yet"),
        ("Secret", {}, None),
    ],
)
def test_the_sentence(kind: str, spec: dict[str, object], told: str | None) -> None:
    """None for what is carried out whole."""
    found = declared_only(kind, spec)
    assert found is None if told is None else told in str(found)
