"""The part of the scenario that is released: a Build makes a release, which is deployed by itself and by a pipeline.

Made by `tests.crash.scenario`. The steps' scripts write a start line each, as all do; `front` follows the newest
release, `back` is deployed by the pipeline that the build starts, which then tags the release. Both deploys wait at the
gate until a rule has judged them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = """\
apiVersion: steersman/v1
kind: Project
metadata: {name: shop}
spec: {namespaces: [{name: shop}], environment_order: [ci, live]}
"""
JOBS = {"maker": 1, "front": 1, "back": 1}
"""Executions by the name of what they are of."""


def _script(mark: str, name: str, run: str) -> dict[str, str]:
    own = (
        'MARKS="$INPUT_MARKS"; STEERSMAN_BUILD="${STEERSMAN_BUILD:-$STEERSMAN_DEPLOYMENT}"\n'
        f'STEERSMAN_TASK="$STEERSMAN_TASK/{name}"; STEERSMAN_TRIAL="$STEERSMAN_TRIAL/{name}"\n'
    )
    return {"inline": own + mark + run}


def declared(repo: str, mark: str, marks: Path) -> Sequence[Mapping[str, Any]]:
    """The documents."""
    url = 'echo "{\\"url\\": \\"http://app\\"}" >"$1"'
    scripts = {
        "pre_build": _script(mark, "pre_build", "echo before"),
        "build": _script(mark, "build", "echo built >made.txt; sleep 0.05; " + url),
        "test": _script(mark, "test", 'cat made.txt; echo "$OUTPUT_url"'),
        "deploy": _script(
            mark, "deploy", 'echo "deploy $STEERSMAN_VERSION"; cat made.txt; sleep 0.05; ' + url
        ),
        "smoke": _script(mark, "smoke", 'echo "smoke $OUTPUT_url"'),
        "destroy": _script(mark, "destroy", "echo destroyed"),
    }
    release = {"namespace": "shop", "application": "app", "version": "1.0.@", "generates": ["made.txt"]}
    run_on = {"traits": ["boxed"]}
    steps = [{"run_destroy_build": False, "variables": {"MARKS": str(marks)}}]
    maker = {
        "repo": repo, "branch": "main", "steps": steps, "scripts": scripts, "release": release, "run_on": run_on,
        "triggers": [{"type": "poll", "interval_seconds": 3600}],
    }  # fmt: skip
    deployment = {
        "release": "shop/app",
        "version": "latest",
        "run_on": run_on,
        "inputs": {"MARKS": str(marks)},
    }
    made = {"type": "build", "environment": "ci", "build": "maker", "trigger_pipeline_on_build": True}
    live = {"type": "deploy", "environment": "live", "deployment": "back"}
    told = {"type": "tag-release", "tag": "live", "namespace": "shop", "application": "app"}
    named = {"made": made, "live": live, "told": told}
    phases = [{"name": name, "steps": [step]} for name, step in named.items()]
    account = {"kind": "ServiceAccount", "metadata": {"name": "bot", "team": "crew"}, "spec": {}}
    binding = {"role": "write", "subjects": [{"kind": "ServiceAccount", "team": "crew", "name": "bot"}]}
    judged = [{"approval_ruleset": "always"}]
    found: list[dict[str, Any]] = [
        {"kind": "Environment", "metadata": _in("ci"), "spec": {}},
        {"kind": "Environment", "metadata": _in("live"), "spec": {"approval_ruleset_bindings": judged}},
        {
            "kind": "ApprovalRuleset",
            "metadata": {"name": "always"},
            "spec": {"rules": [{"type": "schedule"}]},
        },
        {"kind": "Team", "metadata": {"name": "crew"}, "spec": {"members": []}},
        account,
        {"kind": "RoleBinding", "metadata": _in("bots"), "spec": binding},
        {"kind": "Build", "metadata": _in("maker", "ci"), "spec": maker},
        {"kind": "Deployment", "metadata": _in("front", "live"), "spec": deployment},
        {"kind": "Deployment", "metadata": _in("back", "live"), "spec": deployment | {"reconcile": "manual"}},
        {
            "kind": "Pipeline",
            "metadata": _in("promote"),
            "spec": {"service_account_name": "bot", "phases": phases},
        },
    ]
    return [{"apiVersion": "steersman/v1"} | document for document in found]


def _in(name: str, environment: str | None = None) -> dict[str, str]:
    return {"name": name, "project": "shop"} | ({"environment": environment} if environment else {})
