"""`/metrics`: Prometheus, read at the moment of the scrape."""

from __future__ import annotations

from litestar import Response, get
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.process_collector import ProcessCollector

from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries.metrics import figures

_MEANING = {
    "trials_running": "Trials at work in this process",
    "store_version": "Version of the store",
    "source_errors": "Errors in the specs",
    "source_up": "The source can be read",
    "removals_held": "Groups of removals that wait",
    "passes_failing": "Names whose pass fails",
    "leads": "This daemon leads",
    "take_overs": "Times that a daemon has taken the lead",
}


@get("/metrics", media_type="text/plain", summary="Prometheus metrics")
async def metrics(installation: Installation, caller: Caller) -> Response[bytes]:
    """For those who may read the whole installation."""
    found = await figures(installation, caller)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    resources = Gauge("steersman_resources", "Resources", ["kind", "sync", "health"], registry=registry)
    for labels, count in found.resources.items():
        resources.labels(*labels).set(count)
    jobs = Gauge("steersman_jobs", "Unfinished jobs", ["state"], registry=registry)
    for state, count in found.jobs.items():
        jobs.labels(state).set(count)
    workers = Gauge(
        "steersman_workers", "Processes that can run scripts", ["kind", "state"], registry=registry
    )
    for (kind, state), count in found.workers.items():
        workers.labels(kind, state).set(count)
    for name, value in found.single.items():
        Gauge(f"steersman_{name}", _MEANING[name], registry=registry).set(value)
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
