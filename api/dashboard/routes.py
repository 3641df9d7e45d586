"""The routes of the dashboard."""

from __future__ import annotations

from typing import Any

from api.dashboard import assets, live, overview, sign_in

HANDLERS: list[Any] = [
    overview.home,
    overview.sync_now,
    overview.search,
    sign_in.sign_in_page,
    sign_in.sign_in_form,
    sign_in.sign_out,
    sign_in.scheme,
    assets.asset,
    live.live,
]
