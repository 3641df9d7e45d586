"""A manifest for a job that was not made of one (cider-ci, 8.2): it satisfies the rules, and tells what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from api.srht.parts import Part, view
from reconciler.model.job import Job, configured_as
from specs.manifest import LONGEST_IMAGE

_IMAGE, _OF_CONFIGURATIONS = "steersman", "cider-ci"


def manifest(job: Job) -> str:
    """YAML with an image, the variables of all tasks, and every script as a task."""
    policies = {task.name: task.policy for task in job.tasks}
    other = _IMAGE if configured_as(job.key) is None else _OF_CONFIGURATIONS
    images = {str(policy.get("image") or other) for policy in policies.values()}
    image = images.pop() if len(images) == 1 else other
    environment = {
        name: str(value)
        for policy in policies.values()
        for name, value in (policy.get("environment_variables") or {}).items()
        if not isinstance(value, Mapping)
    }
    document = {
        "image": image if len(image) <= LONGEST_IMAGE else other,
        "environment": environment,
        "tasks": [{part.name: _script(part, policies[part.task])} for part in view(job).tasks],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000)


def _script(part: Part, policy: Mapping[str, Any]) -> str:
    """What was run: given in the specification, or a file of the checkout."""
    among = [*(policy.get("scripts") or ()), *(policy.get("services") or ())]
    own = next((each for each in among if each["name"] == part.script), policy)
    return str(own.get("run") or own.get("script") or "")
