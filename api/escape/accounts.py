"""Service accounts of the Escape State Service API: PR11 to PR13 (escape-state, 6.10). Access is a role binding."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from litestar import MediaType, Response, delete, get, post

from api.escape.requests import Asked, Wait, body, flag, terms, text, wrong
from api.escape.writing import answer, commit
from api.paths import plain
from reconciler.access import Caller, may_hold, require
from reconciler.commands import tokens
from reconciler.errors import Conflict, Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.rights import LEVELS, Scope
from reconciler.queries import declared
from specs.meta import Key, parse_key
from specs.tree import Tree
from specs.write import Wish

_LONGEST_NAME = 100


@get("/api/v1/state/{project:str}/service-accounts/", summary="Service accounts with a role in a project")
async def account_list(installation: Installation, caller: Caller, project: str) -> list[dict[str, Any]]:
    """One entry for each account and environment (null: the whole project) that a binding of the project names."""
    found = declared.project(installation, caller, project)
    bound: dict[tuple[str, str, str], list[Resource]] = {}
    for binding, subject in declared.bindings_of_accounts(installation, found):
        if caller.sees(binding.key):
            place = (subject["name"], subject["team"], binding.environment or "")
            bound.setdefault(place, []).append(binding)
    roles = {
        (name, team): [
            _role(project, each) for at in sorted(bound) if at[:2] == (name, team) for each in bound[at]
        ]
        for name, team, _ in bound
    }
    return [
        {
            "name": name,
            "team": team,
            "permission": max((_level(each) for each in bindings), key=LEVELS.__getitem__),
            "environment": environment or None,
            "roles": roles[name, team],
            "created_at": _time(bindings),
        }
        for (name, team, environment), bindings in sorted(bound.items())
    ]


@post("/api/v1/state/{project:str}/service-accounts/{name:str}/", status_code=200, summary="Give access")
async def account_add(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit: the binding, and with `create` the account. With `issue_token` the answer holds a token, once."""
    declared.project(installation, caller, project)
    require(installation, caller, "edit", str(Key("RoleBinding", project, None, "_")))
    data = await body(request)
    environment = text(data, "environment") or None
    team, permission = text(data, "team"), text(data, "permission")
    if permission not in LEVELS:
        raise wrong("permission", f"must be one of {', '.join(LEVELS)}")
    if f"Team/{team}" not in declared.of_kind(installation, "Team"):
        raise wrong("team", f"there is no team {team!r}" if team else "is required")
    if environment is not None:
        declared.environment(installation, caller, project, environment)
    binding = _binding(project, environment, team, plain(name))
    create, issue = flag(data, "create"), flag(data, "issue_token")
    account = Key("ServiceAccount", None, None, plain(name), team)
    if issue and not may_hold(installation, caller, str(account)):
        raise Forbidden("Forbidden", f"tokens of {account} are made by the members of its team")

    def intent(tree: Tree) -> list[Wish]:
        made = []
        if str(account) not in tree.declared:
            if not create:
                raise NotFound("NoSuchAccount", _absence(account))
            made.append(Wish(account, {}))
        return [*_granted(tree, binding, account, permission), *made]

    done = await commit(installation, caller, intent, terms(request, "POST service-account", None, wait))
    resource = installation.snapshot.current.resources.get(str(binding))
    content: dict[str, Any] = {
        "name": account.name,
        "team": team,
        "permission": permission,
        "environment": environment,
        "roles": [_role_of(project, environment, permission)],
    }
    if resource is not None:
        content["created_at"] = _time([resource])
    if issue and done.written.applied and done.written.branch is None:
        content["token"] = await _token(
            installation, caller, account, Scope(project, environment), permission
        )
    return answer(done, content)


@delete(
    "/api/v1/state/{project:str}/service-accounts/{name:str}/",
    status_code=200,
    media_type=MediaType.TEXT,
    summary="Take access away",
)
async def account_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    name: str,
    team: str | None = None,
    wait: Wait = "10",
) -> Response[Any]:
    """A commit: out of all bindings of the project. The account stays. `team` where the name is ambiguous."""
    declared.project(installation, caller, project)
    require(installation, caller, "edit", str(Key("RoleBinding", project, None, "_")))
    wanted = plain(name)

    def intent(tree: Tree) -> list[Wish]:
        bound = _bound(tree, project)
        teams = {each["team"] for _, subjects in bound for each in subjects if each["name"] == wanted}
        found = sorted(teams if team is None else teams & {team})
        if not found:
            raise NotFound("NoSuchAccount", f"There is no service account {wanted!r} in {project}.")
        if len(found) > 1:
            raise wrong("team", f"is needed, as {wanted!r} is an account of {' and '.join(found)}")
        account = Key("ServiceAccount", None, None, wanted, found[0])
        _not_in_use(tree, project, account)
        return [wish for key, _ in bound for wish in _without(tree, key, account)]

    done = await commit(installation, caller, intent, terms(request, "DELETE service-account", None, wait))
    return answer(done, None)


def _binding(project: str, environment: str | None, team: str, name: str) -> Key:
    """The binding that gives an account its role there."""
    told = f"service-account--{team}--{name}"
    if len(told) > _LONGEST_NAME:
        told = f"service-account--{hashlib.sha256(f'{team}/{name}'.encode()).hexdigest()[:32]}"
    return Key("RoleBinding", project, environment, told)


def _granted(tree: Tree, binding: Key, account: Key, permission: str) -> list[Wish]:
    """The account has this role there, and no other; Conflict where that is so already."""
    bound = [
        (key, subjects)
        for key, subjects in _bound(tree, str(binding.project))
        if key.environment == binding.environment
    ]
    has = [key for key, subjects in bound if any(_is(each, account) for each in subjects)]
    if {_spec(tree, key)["role"] for key in has} == {permission}:
        raise Conflict(
            "AlreadyExists", f"{account.name} of {account.team} has the role {permission} there already."
        )
    others = [wish for key in has if key != binding for wish in _without(tree, key, account)]
    subject = {"kind": "ServiceAccount", "team": account.team, "name": account.name}
    return [Wish(binding, {"role": permission, "subjects": [subject]}), *others]


def _without(tree: Tree, key: Key, account: Key) -> list[Wish]:
    """A binding without an account; with its last subject it goes."""
    spec = _spec(tree, key)
    left = [each for each in spec["subjects"] if not _is(each, account)]
    if len(left) == len(spec["subjects"]):
        return []
    return [Wish(key, {**spec, "subjects": left} if left else None)]


def _bound(tree: Tree, project: str) -> list[tuple[Key, list[Mapping[str, Any]]]]:
    """The bindings of a project, with the service accounts in each."""
    return [
        (parse_key(key), [each for each in found.spec["subjects"] if each["kind"] == "ServiceAccount"])
        for key, found in sorted(tree.declared.items())
        if found.kind == "RoleBinding" and found.project == project and found.spec is not None
    ]


def _not_in_use(tree: Tree, project: str, account: Key) -> None:
    for key, found in tree.declared.items():
        if found.kind != "RoleBinding" and found.project == project and str(account) in found.references:
            raise Conflict("InUse", f"{key} runs as {account.name}; change that first.")


def _is(subject: Mapping[str, Any], account: Key) -> bool:
    same = (subject["name"], subject["team"]) == (account.name, account.team)
    return subject["kind"] == "ServiceAccount" and same


def _spec(tree: Tree, key: Key) -> Mapping[str, Any]:
    return tree.declared[str(key)].spec or {}


async def _token(
    installation: Installation, caller: Caller, account: Key, scope: Scope, permission: str
) -> str:
    resource = installation.snapshot.current.resources.get(str(account))
    days = ((resource.spec if resource else None) or {}).get("token_lifetime_days") or 90
    wish = tokens.Wish(f"access to {scope}", permission, min(days, 365), str(account), scope)
    made: str = (await tokens.create(installation, caller, wish))["token"]
    return made


def _level(binding: Resource) -> str:
    found: str = (binding.spec or {})["role"]
    return found


def _role(project: str, binding: Resource) -> str:
    return _role_of(project, binding.environment, _level(binding))


def _role_of(project: str, environment: str | None, level: str) -> str:
    """A role as Escape writes it (section 5)."""
    where = "global" if environment is None else f"environment:{environment}"
    return f"project:{project}:{where}:{level}"


def _time(bindings: list[Resource]) -> str:
    """When the first of them came into force."""
    first = min(declared.since(binding) for binding in bindings)
    return first.isoformat(timespec="seconds").replace("+00:00", "Z")


def _absence(account: Key) -> str:
    return f"There is no service account {account.name!r} of team {account.team!r}; give create to make it."
