"""What applying a plan would deploy and destroy: versions, digests, scripts (design 13.16).

Called with the plan of a commit, whose own rules judge it: what holds a deploy is what will hold it then.
Only what is known now is said: what a build of that commit will make is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reconciler.controllers.gate import Rules
from reconciler.controllers.holding import Candidate
from reconciler.controllers.planner import Outcome
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.execution import Type
from reconciler.model.gate import Deploy as Gated
from reconciler.model.gate import deploy_of as deploy_from
from reconciler.model.plan import Verb
from reconciler.model.request import Subject
from reconciler.model.resource import Resource
from reconciler.passes import gate, wanted
from reconciler.passes.executions import deploy_of
from reconciler.passes.wanted import Wanted
from reconciler.queries import subjects
from reconciler.queries.subjects import DEPLOY_STAGES, DESTROY_STAGES, Work
from reconciler.store import deployments, holds, jobs, releases
from reconciler.store.database import Connection
from reconciler.store.deployments import Row
from reconciler.store.holds import Hold
from specs.deployment import is_own_package
from specs.plan import with_scripts
from specs.release import NO_NAMESPACE


@dataclass(frozen=True, slots=True)
class Deploy:
    """What happens to one Deployment; `digest` and `scripts` as far as its release is known, else `trouble` says why.

    `held`: what would stand in its way, by the rules of that commit (design 13.16). `action`: also errand, of what
    is held by now.
    `old`: the version that stands, "" for none or one without a number; `wanted`: the version as it is declared.
    """

    key: str
    action: str
    old: str
    new: str
    wanted: str
    release: str | None
    digest: str | None
    scripts: tuple[Mapping[str, str], ...]
    trouble: str | None = None
    held: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API."""
        return {
            "key": self.key,
            "action": self.action,
            "version": {"old": self.old, "new": self.new, "wanted": self.wanted},
            "release": self.release,
            "digest": f"sha256:{self.digest}" if self.digest else None,
            "scripts": list(self.scripts),
            "trouble": self.trouble,
            "gate": {"open": not self.held, "causes": list(self.held)},
        }


async def deploys(installation: Installation, outcome: Outcome, revision: str | None) -> list[Deploy]:
    """All that begins by itself once the plan is applied, and what is held by now of which it changes why, by KEY.

    `revision`: where own files are read.
    """
    current = installation.snapshot.current.resources
    after = {resource.key: resource for resource in outcome.upserts}
    gone = [current[each.key] for each in outcome.plan.actions if each.action is Verb.DELETE]
    touched = _touched(installation, outcome, after, revision)
    leaving = [each for each in gone if each.kind == "Deployment" and _destroys(each)]
    known = gate.rules_after(installation, outcome.upserts, outcome.removals)
    held = await installation.database.read(holds.live)
    others = await _others(installation, known, _left(outcome, touched, held))
    if not touched and not leaving and not others:
        return []
    seen = await wanted.look_ahead(installation, touched, _inputs(current, after), revision)
    projects = {each.project for each in (*touched, *leaving)} | {
        state_of.of(h.key).project for h, _ in others
    }
    only = min(map(str, projects)) if len(projects) == 1 else None
    rows = await installation.database.read(lambda c: deployments.summaries(c, only))
    found = [_deploy(seen[each.key], rows.get(state_of.of(each.key))) for each in touched]
    begins = [each for each in found if each]
    waits = {hold.digest: hold for hold in held}
    gated = [_gated(seen[each.key]) for each in begins]
    candidates = [_candidate(deploy, waits.get(deploy.digest), installation.now()) for deploy in gated]
    judged = await gate.look_by(installation, known, candidates)
    told = [_judged(*each) for each in zip(begins, judged, strict=True)]
    told += await _destroyed(installation, known, leaving, rows)
    told += await _of_holds(installation, others, rows)
    return sorted(told, key=lambda each: each.key)


def _candidate(deploy: Gated, hold: Hold | None, now: datetime) -> Candidate:
    """What is held already has been asked about."""
    if hold is None:
        return Candidate(deploy, now)
    return Candidate(replace(deploy, by_hand=deploy_from(hold.subject).by_hand), hold.since, hold.job)


def _judged(deploy: Deploy, judgement: gate.Judgement) -> Deploy:
    return replace(deploy, held=tuple(cause.to_dict() for cause in judgement.causes))


def _left(outcome: Outcome, touched: Iterable[Resource], held: Iterable[Hold]) -> list[Hold]:
    """Of what is held, that in whose place nothing else is wanted then."""
    changed = {each.key for each in outcome.plan.actions}
    replaced = {each.key for each in touched}
    return [
        hold
        for hold in held
        if hold.key not in changed and (hold.key not in replaced or deploy_from(hold.subject).by_hand)
    ]


async def _others(
    installation: Installation, known: Rules, held: Sequence[Hold]
) -> list[tuple[Hold, gate.Judgement]]:
    """Of what is held, that for which rules make a difference, as they judge it."""
    now = gate.rules_of(installation)
    if known is now or not held:
        return []
    candidates = [Candidate(deploy_from(hold.subject), hold.since, hold.job) for hold in held]
    before = await gate.look_by(installation, now, candidates)
    after = await gate.look_by(installation, known, candidates)
    return [
        (hold, new)
        for hold, old, new in zip(held, before, after, strict=True)
        if not old.open and _words(old) != _words(new)
    ]


def _words(judgement: gate.Judgement) -> list[tuple[str, str]]:
    """Lines of files aside."""
    return [(cause.reason, cause.message) for cause in judgement.causes]


async def _of_holds(
    installation: Installation, held: Sequence[tuple[Hold, gate.Judgement]], rows: Mapping[Place, Row]
) -> list[Deploy]:
    def look(connection: Connection) -> list[Deploy]:
        return [
            _judged(
                _of_hold(hold, subjects.work_of(connection, job), rows.get(state_of.of(hold.key))), judgement
            )
            for hold, judgement in held
            if (job := jobs.load(connection, hold.job, scripts=False)) is not None
        ]

    return await installation.database.read(look) if held else []


def _of_hold(hold: Hold, work: Work, row: Row | None) -> Deploy:
    """As it was settled when it was made."""
    kind, stages = Type(hold.type), work.stages
    scripts = subjects.scripts_of(work, kind)
    return Deploy(
        key=hold.key,
        action=kind.value,
        old=_version(row),
        new="" if kind is Type.DESTROY else str(stages.get("version") or ""),
        wanted="",
        release=stages.get("release"),
        digest=stages.get("digest"),
        scripts=tuple({"stage": stage, "runs": _told(script)} for stage, script in scripts.items()),
    )


def _gated(seen: Wanted) -> Gated:
    smoke = {"run_smoke": bool((seen.resource.spec or {}).get("run_smoke", True))}
    return deploy_of(seen.resource, Type.DEPLOY, seen, seen.stages() | smoke)


def _touched(
    installation: Installation, outcome: Outcome, after: Mapping[str, Resource], revision: str | None
) -> list[Resource]:
    """Deployments whose declaration, environment or files the plan may change, and that see to themselves."""
    changed = {each.key for each in outcome.plan.actions if each.action is not Verb.DELETE}
    removed = {each.key for each in outcome.plan.actions if each.action is Verb.DELETE}
    known = installation.snapshot.current.of_kinds(frozenset({"Deployment"}))
    applied = installation.snapshot.current.source
    moved = revision is not None and (applied is None or applied.applied != revision)
    found = []
    for key in sorted({*known, *(key for key in after if key.startswith("Deployment/"))} - removed):
        resource = after.get(key) or known[key]
        spec = resource.spec or {}
        around = f"Environment/{resource.project}/{resource.environment}"
        files = moved and is_own_package(spec) and bool(spec.get("includes"))
        if resource.spec is not None and _by_itself(spec) and (key in changed or around in changed or files):
            found.append(resource)
    return found


def _by_itself(spec: Mapping[str, Any]) -> bool:
    return spec.get("reconcile") != "manual" and not spec.get("suspend") and not spec.get("disabled")


def _destroys(resource: Resource) -> bool:
    spec = resource.spec or {}
    return spec.get("on_delete") == "destroy"


def _inputs(current: Mapping[str, Resource], after: Mapping[str, Resource]) -> dict[str, Mapping[str, Any]]:
    """Those of all environments, as they will be."""
    environments: Iterable[Resource] = {
        key: each for key, each in {**current, **after}.items() if each.kind == "Environment"
    }.values()
    return {f"{each.project}/{each.name}": (each.spec or {}).get("inputs") or {} for each in environments}


def _deploy(seen: Wanted, row: Row | None) -> Deploy | None:
    """None: what is wanted is what stands, or nothing is wanted."""
    deployed = (row.deployed if row is not None else None) or {}
    standing = row is not None and state_of.code(row.state) == state_of.OK
    if not seen.anything or (seen.fault is None and standing and deployed.get("signature") == seen.signature):
        return None
    spec = seen.resource.spec or {}
    release = seen.release
    return Deploy(
        key=seen.resource.key,
        action="deploy",
        old=_version(row),
        new=release.version if release is not None else "",
        wanted=str(spec.get("version") or ""),
        release=release.name if release is not None else None,
        digest=release.digest if release is not None else None,
        scripts=_scripts(
            seen.plan, seen.own, spec, DEPLOY_STAGES if spec.get("run_smoke", True) else DEPLOY_STAGES[:-1]
        ),
        trouble=seen.fault[1] if seen.fault is not None else None,
    )


async def _destroyed(
    installation: Installation, known: Rules, leaving: Iterable[Resource], rows: Mapping[Place, Row]
) -> list[Deploy]:
    """What is destroyed since it is not declared any more."""
    standing = [
        (each, row)
        for each in leaving
        if (row := rows.get(state_of.of(each.key))) and state_of.code(row.state) != state_of.EMPTY
    ]

    def plans(connection: Connection) -> dict[str, Any]:
        found = {}
        for resource, row in standing:
            namespace, _, application = row.release.partition("/")
            found[resource.key] = releases.find(connection, namespace, application, _version(row))
        return found

    of_release = await installation.database.read(plans) if standing else {}
    found = []
    for resource, row in standing:
        spec, release = resource.spec or {}, of_release[resource.key]
        own = {"scripts": spec.get("scripts") or {}} if is_own_package(spec) else None
        scripts = _scripts(release.plan if release is not None else {}, own, spec, DESTROY_STAGES)
        digest = release.digest if release is not None else None
        name = release.name if release is not None else None
        leaves = Deploy(resource.key, "destroy", _version(row), "", "", name, digest, scripts)
        target = Subject(resource.key, digest or "", "", "", _version(row))
        gated = Gated(Type.DESTROY, target, name or row.release or f"{NO_NAMESPACE}/{resource.name}")
        (judgement,) = await gate.look_by(installation, known, [Candidate(gated, installation.now())])
        found.append(_judged(leaves, judgement))
    return found


def _version(row: Row | None) -> str:
    if row is None or not state_of.is_deployed(row.state):
        return ""
    return str(state_of.stage(row.state, state_of.DEPLOY)["version"])


def _scripts(
    plan: Mapping[str, Any], own: Mapping[str, Any] | None, spec: Mapping[str, Any], stages: Iterable[str]
) -> tuple[Mapping[str, str], ...]:
    """Those that there are, in the order in which they run, each with what it runs."""
    empty: Mapping[str, Any] = {"scripts": {}, "errands": {}}
    more = own["scripts"] if own is not None else spec.get("scripts")
    found = with_scripts(plan or empty, more)["scripts"]
    return tuple({"stage": stage, "runs": _told(found[stage])} for stage in stages if stage in found)


def _told(script: Mapping[str, Any]) -> str:
    if "script" in script:
        return str(script["script"])
    if "cmd" in script:
        return " ".join([str(script["cmd"]), *map(str, script.get("args") or ())])
    return "inline"
