"""Who follows whom: names become KEYs, and a finished job finds its followers without a search."""

from __future__ import annotations

from typing import Any

from reconciler.controllers.follows import index, leaders
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync


def build(name: str, environment: str | None = None, *names: str, project: str = "shop") -> Resource:
    spec: dict[str, Any] = {"triggers": [{"type": "build", "builds": list(names)}] if names else []}
    return Resource(
        key=f"Build/{project}/{environment or '_'}/{name}", kind="Build", project=project,
        environment=environment, name=name, labels={}, annotations={}, path="b.yaml", line=1, revision="r",
        digest="d", spec=spec, references=(), files=(), generation=1, observed_generation=1,
        sync=Sync.SYNCED, health=Health.UNKNOWN, conditions=(), uuid="u",
    )  # fmt: skip


def known(*found: Resource) -> dict[str, Resource]:
    return {resource.key: resource for resource in found}


def test_a_name_means_the_build_of_the_same_environment_else_the_one_without() -> None:
    """Never one of another environment or project."""
    report = build("report", "ci", "crm", "erp")
    resources = known(
        report,
        build("crm", "ci"),
        build("crm"),
        build("erp"),
        build("erp", "prod"),
        build("crm", project="other"),
    )
    trigger = {"type": "build", "builds": ["crm", "erp", "crm"]}
    assert leaders(report, trigger, resources) == ("Build/shop/ci/crm", "Build/shop/_/erp")


def test_the_index_finds_every_follower_of_a_build() -> None:
    """Also under a KEY that does not exist yet; a Build without such a trigger follows nobody."""
    resources = known(build("report", "ci", "crm"), build("mail", None, "crm"), build("crm"))
    assert index(resources) == {
        "Build/shop/ci/crm": ("Build/shop/ci/report",),
        "Build/shop/_/crm": ("Build/shop/ci/report", "Build/shop/_/mail"),
    }
