"""What is to be done to the deployments of an environment (escape-state, 9.1, 9.4; design 13.15).

Pure: `decide(views, now)` gives actions, what to show, and when to look again. Providers go before those that consume
them, each only once those it needs stand without failure; what is to go, the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import exp
from typing import Any

from reconciler.controllers import due
from reconciler.controllers.wiring import circle, consumed
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.status import Health, Sync

MOST_TRIES = 8
_LONGEST_PAUSE = timedelta(minutes=30)
LOOK_AGAIN = timedelta(seconds=30)  # at what waits for something that nobody announces

WAITING = "Waiting"
GAVE_UP = "GaveUp"
STOPPED = "Stopped"
FAULT = "Undeployable"
DRIFTED = "Drifted"
HELD = "Held"
"""Types of conditions of a Deployment, beside those of its specification."""

CONDITIONS = frozenset({WAITING, GAVE_UP, STOPPED, FAULT, DRIFTED, HELD})


@dataclass(frozen=True, slots=True)
class Held:
    """An execution that waits to be let go: what it would deploy, of which generation, and the words for why it waits.

    `by_hand`: somebody has triggered it, so that it stays until the declaration changes.
    """

    job: int
    signature: str
    generation: int
    by_hand: bool
    destroys: bool
    reason: str
    told: str


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One deployment. `spec` None: it is not declared any more, and is to be destroyed. `busy`: an execution is at it.

    `signature` says what is wanted ("": nothing), `deployed` what the last deploy that passed was; `plan` is that of
    the wanted release, `offers` what it provides; `uses` are the deployments that it consumes by now, `fault` says why
    what is wanted cannot be had.
    """

    name: str
    spec: Mapping[str, Any] | None
    code: str
    signature: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    offers: tuple[str, ...] = ()
    fault: tuple[str, str] | None = None
    deployed: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    busy: bool = False
    tried: int = 0
    again_at: datetime | None = None
    checked_at: datetime | None = None
    generation: int = 0
    held: Held | None = None

    @property
    def stands(self) -> bool:
        """Without failure, and as it was last deployed."""
        return self.code == state_of.OK

    @property
    def as_wanted(self) -> bool:
        """What is declared is what stands."""
        same = self.deployed.get("signature") == self.signature and not self.deployed.get("drifted")
        return self.stands and same

    @property
    def gave_up(self) -> bool:
        """It has failed so often that only somebody's word, or a change, makes it try again."""
        return self.tried >= MOST_TRIES and self.deployed.get("attempt") == self.signature


@dataclass(frozen=True, slots=True)
class Act:
    """Start an execution. `drop`: nothing is left of what is destroyed, not even its state."""

    name: str
    type: Type
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A Deployment's status: one condition at most, (type, reason, sentence)."""

    sync: Sync
    health: Health
    condition: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentDecision:
    """What to start, what to show by name, which held executions are of no use any more, and when to look again."""

    acts: tuple[Act, ...] = ()
    withdrawn: tuple[int, ...] = ()
    shown: Mapping[str, Shown] = field(default_factory=dict)
    wake_at: datetime | None = None


def decide(views: Sequence[DeploymentView], now: datetime) -> EnvironmentDecision:
    """One look at one environment."""
    by_name = {view.name: view for view in views}
    needs = {view.name: _needs(view, views) for view in views}
    acts: list[Act] = []
    shown: dict[str, Shown] = {}
    wakes: list[datetime] = []
    for view in views:
        if view.spec is None:
            act, wake = _removal(view, views, now)
        else:
            act, wake, shown[view.name] = _one(view, by_name, needs, now)
        acts += [act] if act is not None else []
        wakes += [wake] if wake is not None else []
    started = {act.name for act in acts}
    withdrawn = [
        view.held.job
        for view in views
        if view.held is not None and view.name not in started and _of_no_use(view, view.held)
    ]
    return EnvironmentDecision(tuple(acts), tuple(withdrawn), shown, min(wakes, default=None))


def _of_no_use(view: DeploymentView, held: Held) -> bool:
    """Is what it waits for not wanted any more? What takes its place is started instead."""
    if view.spec is None or view.busy:
        return False
    if held.by_hand:
        return held.generation != view.generation and not held.destroys
    by_itself = view.spec.get("reconcile") != "manual"
    kept = by_itself and not view.spec.get("suspend") and not view.spec.get("disabled")
    return view.as_wanted or held.signature != view.signature or not kept


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of a deploy or a removal that failed: the state, how often, and when the next try may be."""

    state: dict[str, Any]
    tried: int
    again_at: datetime


def failure(state: Mapping[str, Any], tried: int, why: str, now: datetime) -> Failure:
    """After one more failure (9.4): a second later at first, then after longer and longer."""
    pause = min(timedelta(seconds=exp(tried)), _LONGEST_PAUSE) if tried else timedelta(seconds=1)
    again = now + pause
    status = state_of.stage(state, state_of.DEPLOY)["status"]
    code = status["status"]
    if state_of.is_running(code) or code in (state_of.EMPTY, state_of.PENDING):
        over = state_of.DESTROY_FAILURE if "destroy" in code else state_of.FAILURE
        status = {**status, "status": over, "data": why, "updated_at": _moment(now)}
    status = {**status, "tried": tried + 1, "try_again_at": _moment(again)}
    return Failure(state_of.with_stage(state, state_of.DEPLOY, {"status": status}), tried + 1, again)


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one(
    view: DeploymentView,
    by_name: Mapping[str, DeploymentView],
    needs: Mapping[str, frozenset[str]],
    now: datetime,
) -> tuple[Act | None, datetime | None, Shown]:
    spec = view.spec or {}
    way = circle(needs, view.name)
    if way is not None:
        told = f"providers go round in a circle: {' → '.join(way)}"
        return None, None, Shown(Sync.UNKNOWN, Health.UNKNOWN, (FAULT, "ProviderCircle", told))
    unknown = sorted(name for name in (spec.get("providers") or {}).values() if name not in by_name)
    if unknown:
        told = f"there is no deployment {unknown[0]} in this environment, which it names as a provider"
        return None, None, Shown(Sync.UNKNOWN, Health.UNKNOWN, (FAULT, "NoSuchProvider", told))
    if view.busy:
        return None, None, Shown(_sync(view), Health.PROGRESSING)
    if view.fault is not None:
        return None, None, Shown(Sync.OUT_OF_SYNC, _health(view), (FAULT, *view.fault))
    if not view.signature:
        return None, None, Shown(Sync.SYNCED, _health(view))
    if spec.get("suspend"):
        return None, None, Shown(_sync(view), Health.SUSPENDED)
    if view.held is not None and not _of_no_use(view, view.held):
        return None, None, Shown(_sync(view), _health(view), (HELD, view.held.reason, view.held.told))
    if view.as_wanted:
        act, wake = _check(view, now)
        return act, wake, Shown(Sync.SYNCED, Health.HEALTHY)
    return _different(view, by_name, needs, now)


def _different(
    view: DeploymentView,
    by_name: Mapping[str, DeploymentView],
    needs: Mapping[str, frozenset[str]],
    now: datetime,
) -> tuple[Act | None, datetime | None, Shown]:
    spec, health = view.spec or {}, _health(view)
    drift = view.deployed.get("drifted")
    condition = (DRIFTED, "CheckFailed", str(drift)) if drift else None
    if spec.get("disabled") or spec.get("reconcile") == "manual":
        act, wake = _check(view, now) if view.stands else (None, None)
        return act, wake, Shown(Sync.OUT_OF_SYNC, health, condition)
    waits = sorted(
        name for name in needs[view.name] if not (by_name[name].as_wanted or _settled(by_name[name]))
    )
    if waits:
        told = f"waits for {', '.join(waits)}, which it consumes"
        return None, now + LOOK_AGAIN, Shown(Sync.OUT_OF_SYNC, health, (WAITING, "Providers", told))
    if view.deployed.get("stopped") == view.signature:
        told = "its deploy was cancelled; change it, or trigger it by hand"
        return None, None, Shown(Sync.OUT_OF_SYNC, health, (STOPPED, "Cancelled", told))
    if view.gave_up:
        told = f"{view.tried} deploys have failed; change it, or trigger it by hand"
        return None, None, Shown(Sync.OUT_OF_SYNC, Health.DEGRADED, (GAVE_UP, "GaveUp", told))
    if view.again_at is not None and _waits(view, now) and view.deployed.get("attempt") == view.signature:
        told = f"try {view.tried + 1} of {MOST_TRIES} at {view.again_at.isoformat(timespec='seconds')}"
        return None, view.again_at, Shown(Sync.OUT_OF_SYNC, health, (WAITING, "BackOff", told))
    return Act(view.name, Type.DEPLOY), None, Shown(Sync.OUT_OF_SYNC, Health.PROGRESSING, condition)


def _removal(
    view: DeploymentView, views: Sequence[DeploymentView], now: datetime
) -> tuple[Act | None, datetime | None]:
    """What is not declared any more goes once nothing that stands consumes it."""
    if view.busy or any(view.name in other.uses for other in views if other.code != state_of.EMPTY):
        return None, now + LOOK_AGAIN
    if view.tried >= MOST_TRIES or (view.held is not None and view.held.destroys):
        return None, None
    if _waits(view, now):
        return None, view.again_at
    return Act(view.name, Type.DESTROY, drop=True), None


def _waits(view: DeploymentView, now: datetime) -> bool:
    """Is it too early for the next try?"""
    return due.waits(view.again_at, now, _LONGEST_PAUSE)


def _check(view: DeploymentView, now: datetime) -> tuple[Act | None, datetime | None]:
    """Is it time to look for drift?"""
    check = (view.spec or {}).get("check")
    if not check or (view.spec or {}).get("disabled"):
        return None, None
    every = timedelta(seconds=check["every_seconds"])
    again = (view.checked_at or now) + every
    return (None, again) if due.waits(again, now, every) else (Act(view.name, Type.CHECK), None)


def _needs(view: DeploymentView, views: Sequence[DeploymentView]) -> frozenset[str]:
    """The deployments of the environment that it consumes: named, or the only ones that will offer it."""
    if view.spec is None:
        return frozenset()
    named = dict(view.spec.get("providers") or {})
    found = {name for name in named.values() if any(other.name == name for other in views)}
    for interface, variable in consumed(view.plan, "deploy"):
        if variable not in named:
            offering = [other.name for other in views if other.spec is not None and interface in other.offers]
            found |= set(offering) if len(offering) == 1 else set()
    return frozenset(found)


def _settled(view: DeploymentView) -> bool:
    """It stands, and nobody will change that by itself: only a person does, or nothing is wanted of it."""
    spec = view.spec or {}
    by_hand = spec.get("reconcile") == "manual" or spec.get("suspend") or spec.get("disabled")
    return view.stands and bool(by_hand or not view.signature) and not view.busy


def _sync(view: DeploymentView) -> Sync:
    return Sync.SYNCED if view.as_wanted or view.busy else Sync.OUT_OF_SYNC


def _health(view: DeploymentView) -> Health:
    """By what stands there (design 13.15)."""
    if view.code == state_of.EMPTY:
        return Health.MISSING
    if view.code in state_of.ERRORS or view.deployed.get("drifted"):
        return Health.DEGRADED
    if view.stands:
        return Health.HEALTHY
    return Health.PROGRESSING
