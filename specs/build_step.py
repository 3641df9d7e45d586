"""A step of a Build in the `steps` form (escape-state, 7.2): what turns one plan into one release.

Called by the Build's model. What the flags do at run time is in section 8.4 of the contract.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from specs.model import DeploymentName, Glob, RelativePath, Spec, Text, variable_shape_fault
from specs.references import InputName
from specs.release import NamespaceOrEmpty
from specs.stage_scripts import StageScripts

MOST_STEPS = 50


def _consumer(name: str) -> str:
    if message := variable_shape_fault(name.replace("-", "_")):
        raise ValueError(message)
    return name


ConsumerName = Annotated[str, Field(max_length=200), AfterValidator(_consumer)]
Providers = dict[ConsumerName, DeploymentName]
"""The variable of an interface that is consumed -> the deployment of the environment that provides it."""


class BuildStep(Spec):
    """One plan, and what is done with it."""

    plan_location: RelativePath = "escape.yml"
    """The plan's file in the checkout; its folder is the working directory."""
    run_build: bool = True
    """Whether the build stage runs."""
    run_tests: bool = True
    """Whether test and smoke run."""
    run_deploy: bool = True
    """Whether the release is deployed in the Build's environment."""
    run_smoke: bool = True
    """Whether the smoke test runs after that deploy."""
    run_destroy: bool = True
    """Whether what was built and deployed is destroyed at all."""
    run_destroy_build: bool = True
    """Whether what was built is destroyed."""
    run_destroy_deploy: bool = True
    """Whether what was deployed is destroyed; false leaves it standing."""
    skip_if_exists: bool = False
    """Whether the step does nothing where its release is there already."""
    force_overwrite: bool = False
    """Whether a release and a Git tag that are there already are replaced."""
    fat_package: bool = False
    """Whether the package holds the packages of what the release depends on."""
    cache_release: bool = True
    """Whether the worker keeps the package for later steps and builds."""
    push_release: bool = True
    """Whether the release is registered and its package stored."""
    tag_git: bool = False
    """Whether the commit is tagged and the tag pushed."""
    override_namespace: NamespaceOrEmpty = ""
    """A namespace instead of the plan's."""
    build_on_file_changes: list[Glob] = Field(default_factory=list)
    """The step runs only if a file that fits one of these has changed; empty means any."""
    ignore_file_changes: list[Glob] = Field(default_factory=list)
    """Changes of files that fit one of these do not count."""
    providers: Providers = Field(default_factory=dict)
    """Which deployment of the environment provides what the release consumes."""
    variables: dict[InputName, Text] = Field(default_factory=dict)
    """Inputs of the stages that run."""
    scripts: StageScripts | None = None
    """Scripts that go before those of the Build and those of the plan."""
