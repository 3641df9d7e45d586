"""The one Litestar app: routes, authentication, errors, OpenAPI. `api.serve` runs it; tests build it the same way."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from api import paths, problems, unchanged
from api.auth import Authentication, Credentials
from api.cider import cors
from api.cider import errors as cider_errors
from api.cider import routes as cider
from api.dashboard import routes as dashboard
from api.dashboard import shell
from api.escape import errors as escape_errors
from api.escape import routes as escape
from api.idempotency import Idempotency, no_turns
from api.native import (
    calendar,
    declare,
    events,
    gate,
    jobs,
    logs,
    metrics,
    notifications,
    plan,
    releases,
    secrets,
    sign_in,
    status,
)
from api.native.bodies import json_only
from api.native.identity_provider import IdentityProvider
from api.paths import CIDER, ESCAPE, PDC, SQEDULE, SRHT, UI, below
from api.pdc import around as pdc_around
from api.pdc import errors as pdc_errors
from api.pdc import routes as pdc
from api.sqedule import answers as sqedule_answers
from api.sqedule import errors as sqedule_errors
from api.sqedule import routes as sqedule
from api.sqedule import slashes
from api.srht import answers, page
from api.srht import errors as srht_errors
from api.srht import routes as srht
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.request import Verdict

HANDLERS: list[Any] = [
    status.health,
    status.overview,
    status.resource_list,
    status.resource,
    declare.resource_put,
    declare.resource_delete,
    status.schedule_list,
    status.executor_list,
    status.why_key,
    status.can,
    status.whoami,
    status.schema,
    plan.plan,
    plan.plan_for,
    plan.sync_now,
    plan.trigger,
    plan.push,
    jobs.job_list,
    jobs.job,
    jobs.cancel,
    jobs.retry,
    jobs.attachment_list,
    jobs.attachment,
    releases.release_list,
    gate.approval_list,
    gate.approval_add,
    gate.freeze_list,
    gate.freeze_add,
    gate.pass_list,
    gate.pass_add,
    gate.when,
    notifications.notification_list,
    notifications.notification_test,
    calendar.entries,
    calendar.feed,
    logs.log,
    logs.log_stream,
    logs.log_search,
    events.event_list,
    events.event_stream,
    events.audit,
    events.token_list,
    events.token_create,
    events.token_revoke,
    secrets.public_key,
    secrets.reseal_all,
    sign_in.sign_in,
    sign_in.callback,
    sign_in.token,
    sign_in.sign_out,
    metrics.metrics,
    page.job_page,
]
_SHARED = ("/", "/health")
"""Paths that the Escape State Service API has in common with our own."""

SERVED = (escape.ROUTER, srht.ROUTER, cider.ROUTER, pdc.ROUTER, sqedule.ROUTER)

for _handler in HANDLERS:
    _handler.responses = problems.DECLARED | (_handler.responses or {})


def create(installation: Installation) -> Litestar:
    """The app of one installation."""
    oidc = installation.settings.oidc
    state = State(
        {
            "installation": installation,
            "credentials": Credentials(installation),
            "turns": no_turns(),
            "leaving": asyncio.Event(),
            "identity_provider": None if oidc is None else IdentityProvider(oidc),
        }
    )
    app = Litestar(
        route_handlers=[*HANDLERS, *dashboard.HANDLERS, *SERVED],
        state=state,
        on_startup=[_describe],
        guards=[json_only],
        dependencies={
            "installation": Provide(_installation, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        middleware=[
            DefineMiddleware(Authentication, exclude="^/schema", exclude_from_auth_key="open"),
            Idempotency,
        ],
        exception_handlers={Exception: _refuse},
        request_max_body_size=installation.settings.body_bytes,
        openapi_config=OpenAPIConfig(
            title="Steersman",
            version=version("steersman"),
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
        ),
        logging_config=None,
        debug=False,
    )
    steady = unchanged.around(app.asgi_handler, lambda: installation.database.version)
    apart = (ESCAPE, *SRHT, CIDER, PDC, SQEDULE)
    handler = paths.around(steady, lambda path: path in _SHARED or below(path, *apart))
    app.asgi_handler = cors.around(pdc_around.around(slashes.around(handler)))
    return app


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Each served API has its own error body; also for what no route of it takes."""
    path = request.scope["path"]
    if below(path, ESCAPE):
        return escape_errors.handle(request, error)
    if below(path, *SRHT):
        return srht_errors.handle(request, error)
    if below(path, CIDER):
        return cider_errors.handle(request, error)
    if below(path, PDC):
        return pdc_errors.handle(request, error)
    if below(path, SQEDULE):
        return sqedule_errors.handle(request, error)
    if below(path, UI):
        return shell.refuse(request, error)
    return problems.handle(request, error)


def _describe(app: Litestar) -> None:
    """How jobs and requests are shown to those whom they are sent to."""
    installation: Installation = app.state.installation
    installation.describe_job = lambda job: answers.job(job, installation.url)
    installation.describe_group = answers.group_told
    shown = sqedule_answers.Shown(ZoneInfo(installation.settings.timezone), Verdict.PENDING.value)
    installation.describe_request = lambda request: sqedule_answers.whole_release(shown, request)


def _installation(state: State) -> Installation:
    found: Installation = state.installation
    return found


def _caller(request: Request[Caller, Any, Any]) -> Caller:
    return request.user
