"""`/ui/resources…`: what is declared, and of each thing what became of it and why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import yaml
from litestar import Request, Response, get, post
from litestar.params import Parameter

from api import differences, problems
from api.dashboard import forges, forms
from api.dashboard.shell import FORM, PAGE, away, page, path_of
from reconciler.access import Caller
from reconciler.commands import triggers
from reconciler.commands.triggers import Order
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.queries import events, gate, history, jobs, resources, rights, standing, why
from specs.kinds import KINDS

_PAGE = 100
_FEW = 10
_HEAVIEST = 20_000  # characters of differences
_LONGEST_SPEC = 40_000  # characters; the page stays small, the API has all of it
RUNNABLE = ("Build", "Deployment", "Pipeline")
Short = Annotated[str | None, Parameter(max_length=500)]


@get("/ui/resources", **PAGE)
async def resource_list(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    kind: Short = None,
    project: Short = None,
    environment: Short = None,
    sync: Short = None,
    health: Short = None,
    after: Short = None,
) -> Response[bytes]:
    """A page of them, narrowed by any of the filters."""
    given = {
        "kind": kind,
        "project": project,
        "environment": environment,
        "sync": sync,
        "health": health,
    }
    wanted = resources.Filter(**{name: value or None for name, value in given.items()})
    found = resources.find(installation, caller, wanted, _PAGE, after)
    return page(
        request,
        "resources",
        found=found,
        given=given,
        kinds=sorted(KINDS),
        after=after,
        path=request.url.path,
    )


@get("/ui/resources/{key:path}", **PAGE)
async def resource_page(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], key: str
) -> Response[bytes]:
    """One of them whole."""
    return await _shown(installation, caller, request, key.lstrip("/"), {}, None, HTTPStatus.OK)


@post("/ui/trigger", **FORM)
async def trigger(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """Starts it, and goes on to what was started; refused: the page again, with what was given and why not."""
    given = await forms.read(request)
    key = given.get("key", "")
    inputs = {name.removeprefix("input:"): text for name, text in given.items() if name.startswith("input:")}
    order = Order(
        inputs={name: text for name, text in inputs.items() if text},
        branch=given.get("branch") or None,
        version=given.get("version") or None,
        action=given.get("action") or None,
        errand=given.get("errand") or None,
    )
    try:
        made = await triggers.trigger(installation, caller, key, order)
    except SteersmanError as error:
        code = problems.status_of(error)
        if code == HTTPStatus.NOT_FOUND:
            raise
        return await _shown(installation, caller, request, key, given, error.message, code)
    return away(path_of(key) if key.startswith("Pipeline/") else f"/ui/jobs/{made['number']}")


async def _shown(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    key: str,
    given: Mapping[str, str],
    wrong: str | None,
    code: int,
) -> Response[bytes]:
    found = await standing.of_one(installation, await resources.get(installation, caller, key))
    runs = found["kind"] in RUNNABLE
    done = await history.of_key(installation, caller, key, _FEW)
    shown, _ = await asyncio.to_thread(differences.shown, [each["action"] for each in done], _HEAVIEST)
    when = (
        await gate.when(installation, caller, key)
        if found["kind"] == "Deployment" and found["spec"] is not None
        else None
    )
    values: dict[str, Any] = {
        "item": found,
        "declared": _declared(found),
        "fields": _fields(found),
        "source": forges.address(installation.settings.repo, found["revision"], found["location"]),
        "why": await why.why(installation, caller, key),
        "when": when,
        "may": rights.can(installation, caller, "trigger", key) if runs else None,
        "plans": [each | {"action": action} for each, action in zip(done, shown, strict=False)],
        "jobs": (await jobs.page(installation, caller, key=key, state=None, limit=_FEW, after=None))["items"],
        "events": (await events.newest(installation, caller, None, _FEW, key))["items"],
        "given": given,
        "wrong": wrong,
    }
    return page(request, "resource", code=code, **values)


def _declared(found: Mapping[str, Any]) -> str:
    """What the files say, as YAML: without what is built in."""
    spec = found["spec"]
    if not isinstance(spec, dict):
        return ""
    built_in = {path for path, place in found["origins"].items() if place == "built-in"}
    text: str = yaml.dump(
        {
            "kind": found["kind"],
            "metadata": {
                name: found[name] for name in ("name", "project", "environment") if found[name] is not None
            },
            "spec": {name: _said(value) for name, value in spec.items() if name not in built_in},
        },
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return text if len(text) <= _LONGEST_SPEC else f"{text[:_LONGEST_SPEC]}\n# … cut here"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes texts of several lines as a file would have them."""


def _text(dumper: Any, text: str) -> yaml.ScalarNode:
    node: yaml.ScalarNode = dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )
    return node


_Dumper.add_representer(str, _text)


def _said(value: Any) -> Any:
    """A value without the fields in it that say nothing."""
    if isinstance(value, dict):
        inner = {name: _said(each) for name, each in value.items()}
        return {name: each for name, each in inner.items() if each is not None and each not in ([], {})}
    return [_said(each) for each in value] if isinstance(value, list) else value


def _fields(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each field and where its value comes from."""
    return sorted(found["origins"].items(), key=lambda each: each[1] == "built-in")[:500]
