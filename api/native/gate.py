"""`/reconciler/approvals`, `…/freezes`, `…/pass`, `…/when`: what holds deploys, and what people say (design 8.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import Response, get, post
from litestar.params import Parameter
from pydantic import AwareDatetime, Field, model_validator

from api.native.bodies import Body
from reconciler.access import Caller
from reconciler.commands import gate as commands
from reconciler.commands import pipelines
from reconciler.commands.gate import NewFreeze, Said
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.queries import gate as queries
from reconciler.queries import pipelines as runs

_Comment = Annotated[str, Field(max_length=2000)]
_PIPELINE = "Pipeline/"
_Digest = Annotated[str | None, Field(default=None, max_length=100)]


class DecisionBody(Body):
    """What is decided: what waits of a Deployment (`key`), or one request for approval.

    `digest`: what was shown; a decision about anything else is refused. `rule`: one rule of several. Of a Pipeline
    (`key`), the confirmation that it waits for: in its `run` of this number, at the `step` PHASE/NAME, where there is
    more than one.
    """

    key: str | None = Field(default=None, max_length=500)
    request: int | None = Field(default=None, ge=1)
    rule: int | None = Field(default=None, ge=1)
    run: int | None = Field(default=None, ge=1, le=2**62)
    step: str | None = Field(default=None, max_length=500)
    decision: Literal["approved", "rejected"]
    comment: _Comment = ""
    digest: _Digest

    @model_validator(mode="after")
    def _one(self) -> DecisionBody:
        if (self.key is None) == (self.request is None):
            raise ValueError("give either `key` or `request`")
        if (self.run, self.step) != (None, None) and not (self.key or "").startswith(_PIPELINE):
            raise ValueError("`run` and `step` go with the KEY of a Pipeline")
        return self


class PassBody(Body):
    """What is let through a freeze, and why. `freeze`: one of several."""

    key: str = Field(max_length=500)
    comment: Annotated[str, Field(min_length=1, max_length=2000)]
    freeze: str | None = Field(default=None, max_length=500)
    digest: _Digest


class FreezeBody(Body):
    """A freeze of one period, from now on where it does not say since when; without a project, everywhere."""

    name: str = Field(min_length=1, max_length=100)
    reason: str = Field(min_length=1, max_length=1000)
    project: str | None = Field(default=None, max_length=200)
    environments: list[str] = Field(default_factory=list, max_length=100)
    applications: list[str] = Field(default_factory=list, max_length=1000)
    begin: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = None
    seconds: int | None = Field(default=None, ge=1, le=366 * 86_400)

    @model_validator(mode="after")
    def _one_end(self) -> FreezeBody:
        if (self.until is None) == (self.seconds is None):
            raise ValueError("give either `until` or `seconds`")
        if any(at is not None and not 1970 <= at.year < 9000 for at in (self.begin, self.until)):
            raise ValueError("`from` and `until` must be in the years 1970 to 8999")
        return self


@get("/reconciler/approvals", summary="Requests that wait for people")
async def approval_list(
    installation: Installation,
    caller: Caller,
    everything: Annotated[bool, Parameter(query="all", description="also those with a verdict")] = False,
) -> dict[str, Any]:
    """Each with exactly what is approved, and what each rule still needs. `subject` says it in words, beside what was
    deployed last: versions, commits, inputs (secret ones as `***`), scripts; null where nothing waits for it.
    `confirmations`: what pipelines ask.
    """
    return {
        "items": await queries.open_approvals(installation, caller, all_of_them=everything),
        "confirmations": await runs.confirmations(installation, caller),
    }


@post("/reconciler/approvals", status_code=201, summary="Approve or reject")
async def approval_add(installation: Installation, caller: Caller, data: DecisionBody) -> dict[str, Any]:
    """In all rules that the caller decides. 409 names what changed since it was shown."""
    if data.key is not None and data.key.startswith(_PIPELINE):
        return await _confirmed(installation, caller, data)
    said = Said(data.decision, data.comment, data.key, data.request, data.rule, data.digest)
    made = await commands.decide(installation, caller, said)
    return {
        "decisions": [
            {"rule": each.rule, "decision": each.decision, "by": each.actor, "at": each.at.isoformat()}
            for each in made
        ],
        "state": made[-1].state.value,
    }


async def _confirmed(installation: Installation, caller: Caller, data: DecisionBody) -> dict[str, Any]:
    """The confirmation of a Pipeline."""
    if data.digest is not None or data.rule is not None:
        raise Refused("NoUse", "a confirmation of a Pipeline has neither `digest` nor `rule`")
    approved = data.decision == "approved"
    asked = pipelines.Question(data.run, data.step)
    run, place = await pipelines.decide_waiting(
        installation, caller, str(data.key), asked, approved=approved, comment=data.comment
    )
    said = run.step(place).confirmation or {}
    made = {"rule": None, "decision": data.decision, "by": said.get("by"), "at": said.get("at")}
    return {"decisions": [made | {"step": run.path_of(place), "run": run.number}], "state": run.status.value}


@get("/reconciler/freezes", summary="Freezes, and what they hold")
async def freeze_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Those that hold now first."""
    return {"items": await queries.freezes(installation, caller)}


@post("/reconciler/freezes", status_code=201, summary="Freeze deploys")
async def freeze_add(
    installation: Installation, caller: Caller, data: FreezeBody
) -> Response[dict[str, Any]]:
    """A commit that declares it; it is lifted by taking that out again."""
    begin = data.begin or datetime.now(UTC).replace(microsecond=0)
    until = data.until or begin + timedelta(seconds=data.seconds or 0)
    new = NewFreeze(
        data.name, data.reason, begin, until, data.project, tuple(data.environments), tuple(data.applications)
    )
    key, written = await commands.freeze(installation, caller, new, "POST freeze")
    body = {"key": key, "commit": written.commit, "branch": written.branch, "applied": written.applied}
    return Response(body, status_code=201 if written.applied else 202)


@get("/reconciler/pass", summary="Who has let what through a freeze")
async def pass_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Newest first."""
    return {"items": await queries.passes(installation, caller)}


@post("/reconciler/pass", status_code=201, summary="Let what is held through a freeze")
async def pass_add(installation: Installation, caller: Caller, data: PassBody) -> dict[str, Any]:
    """Just what waits now, and recorded with its reason; each freeze names who may."""
    made = await commands.let_through(installation, caller, data.key, data.comment, data.freeze, data.digest)
    return {"passed": made}


@get("/reconciler/when/{key:path}", summary="When could this be deployed, and what stands before it?")
async def when(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """`at` is null where no time is known."""
    return await queries.when(installation, caller, key.lstrip("/"))
