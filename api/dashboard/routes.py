"""The routes of the dashboard."""

from __future__ import annotations

from typing import Any

from api.dashboard import (
    assets,
    calendar,
    changes,
    docs,
    events,
    executors,
    live,
    overview,
    projects,
    releases,
    resources,
    sign_in,
)

HANDLERS: list[Any] = [
    overview.home,
    overview.sync_now,
    overview.search,
    projects.project_list,
    projects.project_page,
    resources.resource_list,
    resources.resource_page,
    resources.trigger,
    releases.release_list,
    releases.approval_list,
    releases.decide,
    calendar.calendar_page,
    changes.change_list,
    changes.change_page,
    changes.plan_page,
    executors.executor_list,
    events.event_list,
    events.token_list,
    events.token_create,
    events.token_revoke,
    docs.docs_page,
    sign_in.sign_in_page,
    sign_in.sign_in_form,
    sign_in.sign_out,
    sign_in.scheme,
    assets.asset,
    live.live,
]
