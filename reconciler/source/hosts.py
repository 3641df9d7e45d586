"""What Git hosts are shown by this server: the setting `credentials`, in the form that mirrors take."""

from __future__ import annotations

from reconciler.settings import HostCredentials, Settings
from reconciler.source.git import Credentials


def credentials_of(settings: Settings) -> dict[str, Credentials]:
    """Fetch credentials by host."""
    return {host: _credentials(item) for host, item in settings.credentials.items()}


def _credentials(item: HostCredentials) -> Credentials:
    return Credentials(key_file=item.key_file, token=item.secret(), username=item.username)
