"""`PUT` and `DELETE` of `/reconciler/resources/KEY`: each is a commit to the spec repository."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete, put
from litestar.params import Parameter

from api.native.bodies import ResourceBody
from reconciler.access import Caller
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.queries import resources
from specs.meta import Key, parse_key
from specs.write import Wish

Wait = Annotated[str, Parameter(pattern=r"^(commit|[0-9]{1,3})$")]


@put("/reconciler/resources/{key:path}", status_code=200, summary="Declare a resource, or change one")
async def resource_put(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    key: str,
    data: ResourceBody,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """`spec` is what shall be in effect; what equals the defaults is not written down.

    `If-Match` with the `ETag` of a GET guards against changes of others. `wait`: seconds for which the answer waits
    until it is applied, or `commit`. Without a difference there is no commit.
    """
    found = _key(key)
    wish = Wish(found, data.spec, data.labels)
    terms = _terms(request, "PUT resource", found, wait)
    written = await declare.write(installation, caller, lambda _tree: [wish], terms)
    if written.branch is not None:
        return Response({"branch": written.branch, "commit": written.commit}, status_code=202)
    if not written.applied:
        body = {"key": str(found), "commit": written.commit}
        return Response(body, status_code=202, headers=_headers(written))
    body = await resources.get(installation, caller, str(found))
    return Response(body, headers=_headers(written) | {"ETag": f'"{body["tag"]}"'})


@delete("/reconciler/resources/{key:path}", status_code=200, summary="Take a resource out of the specs")
async def resource_delete(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    key: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """What the removal of its declaration does to the thing itself is the kind's matter."""
    found = _key(key)
    terms = _terms(request, "DELETE resource", found, wait)
    await resources.get(installation, caller, str(found))
    written = await declare.write(installation, caller, lambda _tree: [Wish(found, None)], terms)
    body = {"key": str(found), "commit": written.commit, "branch": written.branch}
    return Response(body, status_code=202 if written.branch else 200, headers=_headers(written))


def _key(text: str) -> Key:
    try:
        return parse_key(text.lstrip("/"))
    except ValueError as error:
        raise Refused("NoSuchKind", str(error)) from error


def _terms(request: Request[Any, Any, Any], endpoint: str, key: Key, wait: str) -> Terms:
    tag = request.headers.get("if-match")
    wanted = {} if tag is None else {str(key): tag.strip().removeprefix("W/").strip('"')}
    return Terms(endpoint, wanted, 0.0 if wait == "commit" else float(wait))


def _headers(written: Written) -> dict[str, str]:
    headers = {"X-Steersman-Reconciled": str(written.applied).lower()}
    return headers | ({"X-Steersman-Commit": written.commit} if written.commit else {})
