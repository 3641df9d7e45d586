"""What is declared but not carried out says so."""

from __future__ import annotations

import pytest

from reconciler.controllers.declared_only import declared_only


@pytest.mark.parametrize(
    ("kind", "spec", "told"),
    [
        ("Build", {"tasks": [{}]}, None),
        ("Build", {"steps": [{}]}, None),
        ("Build", {"tasks": [{}], "release": {"namespace": "shop"}}, None),
        ("Build", {"repo": "web", "steps": [{}], "remote_escape_worker_url": "https://w.example"}, None),
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
        ("Deployment", {"version": "1.4.12", "follow": "dev", "check": {"every_seconds": 10}}, None),
        ("Pipeline", {"phases": []}, None),
        ("Freeze", {"reason": "Peak"}, None),
        ("Secret", {}, None),
    ],
)
def test_the_sentence(kind: str, spec: dict[str, object], told: str | None) -> None:
    """None for what is carried out whole."""
    found = declared_only(kind, spec)
    assert found is None if told is None else told in str(found)
