"""Bodies that the native API takes; unknown fields are refused."""

from __future__ import annotations

from typing import Any, Literal

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from pydantic import BaseModel, ConfigDict, Field, model_validator

from reconciler.json_text import Unreadable, decode


async def json_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: a body is JSON and says so, which no form of another site can (Litestar reads any type, and depth)."""
    headers = connection.headers
    if "data" not in handler.parsed_fn_signature.parameters:
        return
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(
            status_code=415, detail=f"send the body as application/json, not {kind or 'without a type'}"
        )
    if isinstance(connection, Request) and (raw := await connection.body()):
        try:
            decode(raw)
        except Unreadable as error:
            raise HTTPException(status_code=400, detail=f"the body {error}") from error


class Body(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanBody(Body):
    """A branch, tag or commit of the spec repository; or files (path → text) as the whole of the specs."""

    ref: str | None = Field(default=None, max_length=300)
    files: dict[str, str] | None = Field(default=None, max_length=20_000)

    @model_validator(mode="after")
    def _one(self) -> PlanBody:
        if (self.ref is None) == (self.files is None):
            raise ValueError("give either `ref` or `files`")
        return self


class SyncBody(Body):
    """`confirm`: the digest of removals that wait."""

    confirm: str | None = Field(default=None, max_length=100)


class TriggerBody(Body):
    """What to run, by its KEY.

    A Build: values for its `inputs`, a `branch`, a `commit`, or both, where the commit is on that branch. A Deployment
    is deployed as it is declared, or in another `version` where nothing puts the declared one back; `action` does
    something else to it, and `errand` runs one, with `inputs`. A Pipeline: `inputs` are the payload of its run.
    """

    key: str = Field(max_length=500)
    inputs: dict[str, str] = Field(default_factory=dict, max_length=100)
    branch: str | None = Field(default=None, max_length=300)
    commit: str | None = Field(default=None, pattern="^[0-9a-fA-F]{7,64}$")
    version: str | None = Field(default=None, min_length=1, max_length=200)
    action: Literal["deploy", "smoke", "destroy"] | None = None
    errand: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _one_thing(self) -> TriggerBody:
        if self.action is not None and self.errand is not None:
            raise ValueError("give either `action` or `errand`")
        return self


class ResourceBody(Body):
    """What a resource shall be: its effective specification; labels only where they change."""

    spec: dict[str, Any]
    labels: dict[str, str] | None = Field(default=None, max_length=100)


class TokenBody(Body):
    """A new token: whose (by default the caller's own), up to which level, and where (by default everywhere)."""

    name: str = Field(min_length=1, max_length=100)
    level: str = "read"
    days: int = 90
    subject: str | None = Field(default=None, max_length=300)
    project: str | None = Field(default=None, max_length=200)
    environment: str | None = Field(default=None, max_length=200)
