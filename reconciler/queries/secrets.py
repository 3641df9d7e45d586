"""What everybody who seals a secret needs: the server's public key. No query gives a value."""

from __future__ import annotations

from typing import Any

from reconciler.installation import Installation


def public_key(installation: Installation) -> dict[str, Any]:
    """The key that secrets are sealed to, and its fingerprint."""
    keys = installation.keys
    return {"recipient": keys.recipient, "fingerprint": keys.fingerprints[0]}
