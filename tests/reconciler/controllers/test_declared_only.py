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
        (
            "Repository",
            {"private_key_ref": "a", "webhook_secret_ref": "b"},
            "`private_key_ref`, `webhook_secret_ref`:",
        ),
        ("Deployment", {}, "does not deploy yet"),
        ("Secret", {}, None),
    ],
)
def test_the_sentence(kind: str, spec: dict[str, object], told: str | None) -> None:
    """None for what is carried out whole."""
    found = declared_only(kind, spec)
    assert found is None if told is None else told in str(found)
