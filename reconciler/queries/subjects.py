"""What an approval is about, in words: versions, inputs, scripts, each beside what was deployed last (design 8.2).

Called by `queries.gate` and `queries.foreseen` for what is held. What is approved is the digest; this only shows what
stands behind it, as it was settled in the execution that is held. Values that are secret are `***` here, for all.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.model import deployment as state_of
from reconciler.model.execution import LOCKED, Type
from reconciler.model.job import Job
from reconciler.sealing import Keys, SealingError
from reconciler.store import deployments, jobs, releases
from reconciler.store.database import Connection
from reconciler.store.holds import Hold
from specs.plan import with_scripts

DEPLOY_STAGES = ("pre_deploy", "deploy", "post_deploy", "smoke")
DESTROY_STAGES = ("pre_destroy", "destroy", "post_destroy")
_NO_SCRIPTS: Mapping[str, Any] = {"scripts": {}, "errands": {}}


@dataclass(frozen=True, slots=True)
class Work:
    """One side: what a job was told (`stages`), the plan of its release as far as that is known, its commit."""

    stages: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None

    @property
    def own(self) -> Mapping[str, Any] | None:
        """A deployment's own package."""
        return self.stages.get("own")


def subject(connection: Connection, keys: Keys, hold: Hold) -> dict[str, Any] | None:
    """What is held, in words; None if its job is gone.

    {action, version, revision, package, includes, inputs, environment_inputs, providers, scripts, errand}: `version`,
    `revision` and `package` (a digest) are {old, new}, inputs and providers lists of {name, old, new, changed}, scripts
    of {stage, old, new, changed} with their texts, or what they run. `old`: as deployed last; null for what was not,
    or is not known any more. `includes`: the globs of a package of one's own.
    """
    job = jobs.load(connection, hold.job, scripts=False)
    if job is None:
        return None
    new, kind = work_of(connection, job), Type(hold.type)
    old, version = _standing(connection, keys, hold.key)
    secret = _secret(old.plan, new.plan)

    def compared(part: str) -> list[dict[str, Any]]:
        some = (old.stages.get(part) or {}, new.stages.get(part) or {})
        return _compared(*some, lambda value: _opened(keys, hold.key, value), secret, bool(old.stages))

    errand = new.stages.get("errand_name")
    given = (new.stages.get("record") or {}).get("errand_inputs") or {}
    return {
        "action": kind.value,
        "version": {
            "old": version,
            "new": None if kind is Type.DESTROY else new.stages.get("version") or None,
        },
        "revision": {"old": old.revision, "new": new.revision},
        "package": {"old": old.stages.get("digest"), "new": new.stages.get("digest")},
        "includes": list((new.own or {}).get("includes") or ()),
        "inputs": compared("inputs"),
        "environment_inputs": compared("environment_inputs"),
        "providers": compared("providers"),
        "scripts": _scripts(old, new, kind),
        "errand": {"name": errand, "inputs": given} if errand else None,
    }


def work_of(connection: Connection, job: Job) -> Work:
    """What an execution of a Deployment does, as it was settled when it was made."""
    stages: Mapping[str, Any] = next(
        (task["stages"] for task in job.specification.get("tasks") or () if task.get("stages")), {}
    )
    plan: Mapping[str, Any] = {}
    if stages.get("release") and stages.get("digest"):
        namespace, _, application = str(stages["release"]).partition("/")
        release = releases.find(connection, namespace, application, str(stages.get("version") or ""))
        if release is not None and release.digest == stages["digest"]:
            plan = release.plan
    return Work(stages, plan, job.specification.get("revision"))


def _standing(connection: Connection, keys: Keys, key: str) -> tuple[Work, str | None]:
    """What was deployed last, as far as its job is kept, and its version."""
    row = deployments.load(connection, keys, state_of.of(key))
    if row is None:
        return Work(), None
    deployed = row.deployed or {}
    job = jobs.load(connection, deployed["job"], scripts=False) if deployed.get("job") else None
    found = Work() if job is None else work_of(connection, job)
    if not found.stages or found.stages.get("signature") != deployed.get("signature"):
        found = Work()  # somebody's own client has deployed since
    stands = state_of.is_deployed(row.state)
    version = state_of.stage(row.state, state_of.DEPLOY)["version"] if stands else deployed.get("version")
    return found, version or None


def _secret(*plans: Mapping[str, Any]) -> Callable[[str], bool]:
    """Is the input of a name not for everybody? Releases say so; where none does, the name tells."""
    known: dict[str, bool] = {}
    for plan in plans:
        for item in plan.get("inputs") or ():
            known[item["id"]] = known.get(item["id"], False) or bool(item.get("sensitive"))
    return lambda name: known[name] if name in known else state_of.looks_secret(name)


def _compared(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    opened: Callable[[Any], Any],
    secret: Callable[[str], bool],
    known: bool,
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "old": _shown(old.get(name), secret(name)),
            "new": _shown(new.get(name), secret(name)),
            "changed": known and (name in old, opened(old.get(name))) != (name in new, opened(new.get(name))),
        }
        for name in sorted(old.keys() | new.keys())
    ]


def _opened(keys: Keys, key: str, value: Any) -> Any:
    """A value to be compared with another one, never to be shown."""
    if not isinstance(value, Mapping) or LOCKED not in value:
        return value
    try:
        return json.loads(keys.unlock(base64.b64decode(value[LOCKED]), key))
    except SealingError:
        return value


def _shown(value: Any, secret: bool) -> Any:
    """References to Secrets are names, which are for everybody."""
    if value is None or (isinstance(value, Mapping) and "secret_ref" in value):
        return value
    return state_of.HIDDEN if secret or (isinstance(value, Mapping) and LOCKED in value) else value


def _scripts(old: Work, new: Work, kind: Type) -> list[dict[str, Any]]:
    """In the order in which they run; those that would run no more at the end."""
    before, after = _texts(old, kind), _texts(new, kind)
    known = bool(old.stages) and kind is Type.DEPLOY
    return [
        {
            "stage": stage,
            "old": before.get(stage) if known else None,
            "new": after.get(stage),
            "changed": known and before.get(stage) != after.get(stage),
        }
        for stage in [*after, *((stage for stage in before if stage not in after) if known else ())]
    ]


def _texts(work: Work, kind: Type) -> dict[str, str]:
    return {stage: _text(script) for stage, script in scripts_of(work, kind).items()}


def scripts_of(work: Work, kind: Type) -> dict[str, Mapping[str, Any]]:
    """Those that there are, by stage, in the order in which they run."""
    more = work.own["scripts"] if work.own is not None else work.stages.get("scripts")
    whole = with_scripts(work.plan or _NO_SCRIPTS, more)
    if kind is Type.ERRAND:
        errand = whole["errands"].get(work.stages.get("errand_name"))
        return {} if errand is None else {"errand": errand["run"]}
    wanted: Collection[str] = DESTROY_STAGES if kind is Type.DESTROY else DEPLOY_STAGES
    left = () if work.stages.get("run_smoke", True) else ("smoke",)
    return {s: whole["scripts"][s] for s in wanted if s in whole["scripts"] and s not in left}


def _text(script: Mapping[str, Any]) -> str:
    if script.get("inline") is not None:
        return str(script["inline"])
    if script.get("script") is not None:
        return str(script["script"])
    return " ".join([str(script.get("cmd") or ""), *map(str, script.get("args") or ())])
