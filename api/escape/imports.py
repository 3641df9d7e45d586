"""Environments taken over out of a state file that the client has written: PR8 (escape-state, 15.2).

What is declared of them is one commit; their states, with all that was computed, go into the store and never to Git.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import Response, post

from api.escape.errors import BadRequest
from api.escape.requests import Asked, Wait, body, terms, wrong
from api.escape.secret_inputs import SecretInputs
from api.escape.writing import answer, before, commit
from reconciler.access import Caller, require, require_level
from reconciler.commands.state_imports import taken_over
from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.deployment import Place, State
from reconciler.model.rights import Level, Scope
from reconciler.model.state_file import Environment, declaration, interrupted, read_file
from reconciler.queries import declared
from reconciler.queries import deployments as queries
from specs.meta import Key
from specs.references import SECRET_REF
from specs.tree import Tree
from specs.write import Wish, inherited

LARGEST = 4 << 20
_FAIL, _SKIP, _OVERWRITE = "fail", "skip", "overwrite"


@dataclass(frozen=True, slots=True)
class Options:
    """How it is wanted; `environments` None: all of the file."""

    environments: Sequence[str] | None = None
    on_conflict: str = _FAIL
    dry_run: bool = False
    sensitive: frozenset[str] = frozenset()
    reconcile: str = "manual"

    def is_secret(self, name: str) -> bool:
        """Is an input of this name one to be sealed?"""
        return name in self.sensitive or deployment.looks_secret(name)


@dataclass(slots=True)
class Taken:
    """What one look at the newest commit makes of a file."""

    wishes: list[Wish] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    deployments: list[Place] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)


@post(
    "/api/v1/state/{project:str}/import-environments",
    status_code=200,
    request_max_body_size=LARGEST,
    summary="Take over environments out of a state file",
)
async def import_environments(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """All or nothing. The file itself, or `state` and `options`, which may also be in the query; starts nothing."""
    declared.project(installation, caller, project)
    require_level(caller, Level.WRITE, "importing environments", Scope(project))
    data = await body(request)
    wrapped = "state" in data and "environments" not in data
    options = _options(data.get("options") if wrapped else None, request)
    chosen = _chosen(data["state"] if wrapped else data, options)
    states = {
        Place(project, name, each): interrupted(state)
        for name, environment in chosen.items()
        for each, state in environment.deployments.items()
    }
    for place in states:
        require(installation, caller, "edit", place.key)
    known = await queries.states_at(installation, list(states))
    same = {place: state == states[place] for place, state in known.items()}
    expected = taken = _Import(installation, _tree(installation), project, options).look(chosen, same)

    def intent(tree: Tree) -> list[Wish]:
        nonlocal taken
        taken = _Import(installation, tree, project, options).look(chosen, same)
        if taken.deployments != expected.deployments:
            raise Conflict("AlreadyExists", "Somebody else has changed some of it just now; try again.")
        return taken.wishes

    warnings = _warnings(chosen)
    if options.dry_run:
        return Response(_result(taken, None, warnings), status_code=200)
    told = terms(request, "POST import-environments", None, wait, lambda key: key in taken.allowed)
    kept = {place: states[place] for place in expected.deployments}
    async with taken_over(installation, caller, kept):
        done = await commit(installation, caller, intent, told)
    return answer(done, _result(taken, done.written.commit, warnings))


@dataclass(frozen=True, slots=True)
class _Import:
    installation: Installation
    tree: Tree
    project: str
    options: Options

    def look(self, chosen: Mapping[str, Environment], known: Mapping[Place, bool]) -> Taken:
        """Wishes for what is imported. Conflict for what is there, where that is not skipped or overwritten."""
        taken = Taken()
        for name, environment in chosen.items():
            self._environment(taken, name, environment)
            for each, state in environment.deployments.items():
                place = Place(self.project, name, each)
                self._deployment(taken, place, state, same_state=known.get(place, True))
        self._order(taken, list(chosen))
        return taken

    def _environment(self, taken: Taken, name: str, environment: Environment) -> None:
        key = Key("Environment", self.project, None, name)
        there = str(key) in self.tree.declared
        if there and self._stays(taken, name, f"environment {name!r}"):
            return
        if there:
            spec = before(self.installation, self.tree, key, f"There is no environment {name!r}.")
        else:
            spec = inherited(self.tree, key)
            taken.allowed.add(str(key))
        self._add(taken, key, {**spec, "inputs": dict(environment.inputs)})
        taken.environments.append(name)

    def _deployment(self, taken: Taken, place: Place, state: State, *, same_state: bool) -> None:
        key = Key("Deployment", place.project, place.environment, place.name)
        there = str(key) in self.tree.declared
        label = f"{place.environment}:{place.name}"
        if (there or not same_state) and self._stays(taken, label, f"deployment {label}"):
            return
        spec = before(self.installation, self.tree, key, label) if there else inherited(self.tree, key)
        self._add(taken, key, {**spec, **declaration(state), "reconcile": self.options.reconcile})
        taken.deployments.append(place)

    def _add(self, taken: Taken, key: Key, spec: Mapping[str, Any]) -> None:
        inputs = SecretInputs(self.installation, key)
        wishes = inputs.wishes(self.tree, spec, self.options.is_secret)
        taken.wishes += wishes
        taken.allowed |= inputs.touched
        where = [str(key.project), key.environment or key.name]
        where += [key.name.replace("/", "--")] if key.environment else []
        shown = (wishes[0].spec or {}).get("inputs") or {}
        taken.secrets += [
            "/".join([*where, name])
            for name, value in shown.items()
            if self.options.is_secret(name) and _is_reference(value)
        ]

    def _stays(self, taken: Taken, label: str, words: str) -> bool:
        """Is what is there left as it is? Conflict, if that is neither wanted nor to be overwritten."""
        if self.options.on_conflict == _OVERWRITE:
            return False
        if self.options.on_conflict == _FAIL:
            raise Conflict(
                "AlreadyExists", f"The {words} already exists; give on_conflict=skip or overwrite."
            )
        taken.skipped.append(label)
        return True

    def _order(self, taken: Taken, names: Sequence[str]) -> None:
        """New environments come last, in the order of the file."""
        owner = Key("Project", None, None, self.project)
        parent = before(self.installation, self.tree, owner, f"There is no project {self.project!r}.")
        there = [
            d.name
            for d in self.tree.declared.values()
            if d.kind == "Environment" and d.project == self.project
        ]
        new = [name for name in names if name not in there]
        written = parent["environment_order"]
        order = [*declared.in_order(written, there), *new]
        if new and (written or declared.in_order((), order) != order):
            taken.wishes.append(Wish(owner, {**parent, "environment_order": order}))
            taken.allowed.add(str(owner))


def _tree(installation: Installation) -> Tree:
    """What is declared at the commit that was applied last."""
    return installation.desired.tree if installation.desired is not None else Tree.empty()


def _chosen(state: Any, options: Options) -> dict[str, Environment]:
    """The environments of the file that are wanted; 400 with all that is wrong in it."""
    file = read_file(state)
    if file.faults:
        told = "; ".join(f"{field}: {message}" for field, message in file.faults[:5])
        raise BadRequest("invalid-field", told, dict(file.faults))
    if options.environments is None:
        return dict(file.environments)
    missing = [name for name in options.environments if name not in file.environments]
    if missing:
        raise wrong("environments", f"the file has no environment {', '.join(missing)}")
    return {name: each for name, each in file.environments.items() if name in options.environments}


def _options(given: Any, request: Asked) -> Options:
    """Out of the body, and over that out of the query."""
    if given is not None and not isinstance(given, dict):
        raise wrong("options", "must be an object")
    values: dict[str, Any] = {key: value for key, value in (given or {}).items() if value is not None}
    query = request.query_params
    for name in ("environments", "sensitive"):
        if name in query:
            values[name] = [part for each in query.getall(name) for part in each.split(",") if part]
    for name in ("on_conflict", "reconcile"):
        if name in query:
            values[name] = query[name]
    if "dry_run" in query:
        values["dry_run"] = {"true": True, "1": True, "false": False, "0": False}.get(
            query["dry_run"].lower(), ""
        )
    for name in ("environments", "sensitive"):
        if not _are_texts(values.get(name, [])):
            raise wrong(f"options.{name}", "must be a list of texts")
    for name, words in (("on_conflict", (_FAIL, _SKIP, _OVERWRITE)), ("reconcile", ("manual", "auto"))):
        if name in values and values[name] not in words:
            raise wrong(f"options.{name}", f"must be one of {', '.join(words)}")
    if not isinstance(values.get("dry_run", False), bool):
        raise wrong("options.dry_run", "must be true or false")
    return Options(
        environments=values.get("environments"),
        on_conflict=values.get("on_conflict", _FAIL),
        dry_run=values.get("dry_run", False),
        sensitive=frozenset(values.get("sensitive", ())),
        reconcile=values.get("reconcile", "manual"),
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {SECRET_REF}


def _warnings(chosen: Mapping[str, Environment]) -> list[str]:
    """What is not taken over as it stands in the file."""
    found = []
    for name, environment in chosen.items():
        for each, state in environment.deployments.items():
            if interrupted(state) != state:
                found.append(
                    f"{name}:{each} was running when the file was written; it is taken over as failed"
                )
            if not deployment.stage(state, deployment.DEPLOY)["version"]:
                found.append(f"{name}:{each} was never deployed; it is suspended")
    return found


def _result(taken: Taken, sha: str | None, warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "imported": {
            "environments": taken.environments,
            "deployments": [f"{place.environment}:{place.name}" for place in taken.deployments],
        },
        "skipped": taken.skipped,
        "secrets": sorted(taken.secrets),
        "warnings": list(warnings),
        "commit": sha or "",
    }
