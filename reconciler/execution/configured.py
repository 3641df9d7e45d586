"""What scripts of a project configuration are told of their trial: CIDER_CI and its like (cider-ci, section 6).

`execution.run` asks for it when a trial begins, and again when it is taken up after a restart; `execution.command` for
each script, as only there it is known where the script will see its working directory. Sets no other variable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from reconciler.errors import SteersmanError
from reconciler.model.job import Job, Reason
from reconciler.store.jobs import LiveTrial
from specs.configuration_variables import Unsettled, filled

_MOST_BYTES = 64 << 10  # of the names of branches: the kernel bounds each variable


class VariablesError(SteersmanError):
    """Variables that name each other without an end; the message is for whoever wrote them."""


def is_configured(job: Job) -> bool:
    """Is it a run of what a project configuration declares?"""
    return "configuration" in job.specification


def known(job: Job, trial: LiveTrial, task: str, heads: Iterable[str]) -> dict[str, str]:
    """What is the same for all scripts of a trial. `task`: its id; `heads`: branches whose head has the tree now."""
    return {
        "CIDER_CI": "true",
        "CONTINUOUS_INTEGRATION": "true",
        "CIDER_CI_JOB_ID": job.id,
        "CIDER_CI_TASK_ID": task,
        "CIDER_CI_TRIAL_ID": trial.id,
        "CIDER_CI_TREE_ID": job.checkout.tree or "",
        "CIDER_CI_CURRENT_BRANCH_HEADS": _names(heads),
    }


def variables(
    given: Mapping[str, str], directory: str, own: Mapping[str, str], *, templates: bool
) -> dict[str, str]:
    """All variables of a script that works in `directory`: its own are over those `given`. VariablesError."""
    told = {**given, "CIDER_CI_WORKING_DIR": directory}
    try:
        return told | (filled(own, told) if templates else dict(own))
    except Unsettled as unsettled:
        raise VariablesError(Reason.CONFIGURATION, str(unsettled)) from None


def _names(heads: Iterable[str]) -> str:
    """A JSON list, of as many as a variable takes."""
    found: list[str] = []
    size = 2
    for name in heads:
        size += len(json.dumps(name)) + 2
        if size > _MOST_BYTES:
            break
        found.append(name)
    return json.dumps(found)
