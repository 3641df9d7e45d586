"""Escape plans: the file that says what a release is, and which script runs in which stage (escape-state, 8.2).

A compiled plan is a plain dict with all fields, as the registry keeps it and packages hold it: `consumes` as
{name, variable, scopes}, `inputs` and `outputs` with their scopes written out, `depends` as `RELEASE` or
`RELEASE as NAME`, `scripts` by stage, `errands` as {description, run, inputs}.

Called when a step of a Build runs, with the file's text. Never reads a file, and never resolves a version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from specs import release, versions
from specs.checkout_file import CheckoutFile, read
from specs.model import Glob, Spec, Steps, Text
from specs.release import (
    NO_NAMESPACE,
    AConsumed,
    AVariable,
    Interface,
    Version,
    release_fault,
    text_alone,
)
from specs.stage_scripts import STAGES, StageScripts, script_texts

BUILD, DEPLOY = "build", "deploy"
_BOTH = (BUILD, DEPLOY)

# Fields of plans that Escape knows and that are not carried out.
_NOT_HONOURED = ("extends", "templates", "build_templates", "deploy_templates", "downloads", "path")
_OF_DEPENDENCIES = ("mapping", "build_mapping", "deploy_mapping", "consumes", "scopes", "deployment_name")
_OF_VARIABLES = ("friendly", "visible", "options", "eval_before_dependencies")
_VARIABLES = tuple(f"{scope}{name}" for name in ("inputs", "outputs") for scope in ("", "build_", "deploy_"))
_SCRIPT_FORMS = ("script", "inline", "cmd", "args")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, or what is wrong with it; `warnings` tell what will not be carried out.

    Both say where: `escape.yml:3:5: …`.
    """

    plan: dict[str, Any] | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def _name(name: str) -> str:
    if message := release_fault(name if "/" in name else f"{NO_NAMESPACE}/{name}"):
        raise ValueError(message)
    return name


def _dependency(text: str) -> str:
    versions.split(text.partition(" as ")[0])
    return text


Depends = Annotated[release.Dependency, AfterValidator(_dependency)]


class _Dependency(Spec):
    """A release that this one is made of; a text alone is its id."""

    release_id: Depends
    variable: Annotated[str, Field(max_length=100)] = ""


class _Provided(Spec):
    """An interface that is offered; a text alone is its name."""

    name: Interface


class _Plan(StageScripts):
    """The fields of a plan file, but for those that are not carried out."""

    name: Annotated[str, AfterValidator(_name)]
    version: Version
    description: Text = ""
    logo: Text = ""
    license: Text = ""
    metadata: dict[Text, Text] = Field(default_factory=dict)
    depends: list[Annotated[_Dependency, text_alone("release_id", _Dependency)]] = Field(default_factory=list)
    includes: list[Glob] = Field(default_factory=list)
    generates: list[Glob] = Field(default_factory=list)
    provides: list[Annotated[_Provided, text_alone("name", _Provided)]] = Field(default_factory=list)
    consumes: list[AConsumed] = Field(default_factory=list)
    build_consumes: list[AConsumed] = Field(default_factory=list)
    deploy_consumes: list[AConsumed] = Field(default_factory=list)
    inputs: list[AVariable] = Field(default_factory=list)
    build_inputs: list[AVariable] = Field(default_factory=list)
    deploy_inputs: list[AVariable] = Field(default_factory=list)
    outputs: list[AVariable] = Field(default_factory=list)
    build_outputs: list[AVariable] = Field(default_factory=list)
    deploy_outputs: list[AVariable] = Field(default_factory=list)


def compile_plan(text: str, location: str) -> Compiled:
    """The plan that a file's text holds; `location` is the file's name in messages."""
    file = read(text, location)
    if not isinstance(file.value, dict):
        return Compiled(None, file.errors, ())
    warnings: list[str] = []
    # `build:` with nothing behind it is how a new plan begins.
    given = {name: value for name, value in file.value.items() if value is not None}
    for name in [name for name in given if name in _NOT_HONOURED]:
        warnings.append(file.at((name,), f"{name} is not carried out", key=True))
        del given[name]
    given |= _simpler(file, given, warnings)
    errors = [*file.errors]
    for steps, _ in script_texts((), given):
        errors.append(file.at(steps, "inline_file stands in specifications only; write script", key=True))
    try:
        plan = _Plan.model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        return Compiled(None, (*errors, *file.invalid(error, _Plan, given)), tuple(warnings))
    errors += [file.at(where[1:], message) for where, message in release.check(plan)]
    warnings += _expressions(file, plan)
    return Compiled(None if errors else _of_file(plan), tuple(errors), tuple(warnings))


def of_release(release: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a Build's `release`, where there is no plan file; it has no scripts."""
    return _compiled(release["namespace"], release["application"], release)


def with_scripts(plan: Mapping[str, Any], *scripts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The plan with each stage's script, and each errand, from the first of `scripts` that has one, else its own."""
    stages, errands = dict(plan["scripts"]), dict(plan["errands"])
    for given in reversed(scripts):
        if given is None:
            continue
        stages |= {stage: _script(given[stage]) for stage in STAGES if given.get(stage)}
        errands |= {name: _errand(errand) for name, errand in (given.get("errands") or {}).items()}
    in_order = {stage: stages[stage] for stage in STAGES if stage in stages}
    return {**plan, "scripts": in_order, "errands": errands}


def _of_file(plan: Mapping[str, Any]) -> dict[str, Any]:
    namespace, slash, application = plan["name"].rpartition("/")
    return with_scripts(_compiled(namespace if slash else NO_NAMESPACE, application, plan), plan)


def _compiled(namespace: str, application: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    depends = [_depends(item) for item in fields.get("depends") or ()]
    provides = [item if isinstance(item, str) else item["name"] for item in fields.get("provides") or ()]
    return {
        "namespace": namespace,
        "application": application,
        "version": fields["version"],
        "description": fields.get("description") or "",
        "logo": fields.get("logo") or "",
        "license": fields.get("license") or "",
        "metadata": dict(fields.get("metadata") or {}),
        "depends": depends,
        "includes": list(fields.get("includes") or ()),
        "generates": list(fields.get("generates") or ()),
        "provides": [name.partition(" as ")[0] for name in provides],
        "consumes": [_consumed(item) for item in _scoped(fields, "consumes")],
        "inputs": [_variable(item) for item in _scoped(fields, "inputs")],
        "outputs": [_variable(item) for item in _scoped(fields, "outputs")],
        "scripts": {},
        "errands": {},
    }


def _scoped(fields: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Entries of both stages and of one, each with its scopes."""
    for field, scopes in ((name, _BOTH), (f"build_{name}", (BUILD,)), (f"deploy_{name}", (DEPLOY,))):
        for item in fields.get(field) or ():
            own = [scope for scope in _BOTH if scope in item["scopes"]] if item["scopes"] else [*scopes]
            yield {**item, "scopes": own if field == name else [*scopes]}


def _consumed(item: Mapping[str, Any]) -> dict[str, Any]:
    name, _, variable = item["name"].partition(" as ")
    return {"name": name, "variable": variable or name, "scopes": item["scopes"]}


def _variable(item: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "type", "default", "description", "sensitive", "items", "scopes")
    return {name: item[name] for name in names}


def _depends(item: str | Mapping[str, Any]) -> str:
    if isinstance(item, str):
        return item
    alias = item["variable"] if " as " not in item["release_id"] else ""
    return f"{item['release_id']} as {alias}" if alias else str(item["release_id"])


def _script(script: Mapping[str, Any]) -> dict[str, Any]:
    """One form of a script; what was read from a file beside a specification is a text like any other."""
    return {name: value for name, value in script.items() if name != "inline_file"}


def _errand(errand: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [_variable({**item, "scopes": item["scopes"] or [DEPLOY]}) for item in errand["inputs"]]
    return {"description": errand["description"], "run": _script(errand["run"]), "inputs": inputs}


def _simpler(file: CheckoutFile, given: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    """Fields in the one form that is checked: without what is not carried out in them, Escape's words as ours."""
    found: dict[str, Any] = {}
    for field, names in (*((field, _OF_VARIABLES) for field in _VARIABLES), ("depends", _OF_DEPENDENCIES)):
        if isinstance(given.get(field), list):
            found[field] = [
                _entry(file, (field, at), item, names, warnings) for at, item in enumerate(given[field])
            ]
    if isinstance(given.get("errands"), dict):
        found["errands"] = {
            name: _errand_of(file, ("errands", name), errand, warnings)
            for name, errand in given["errands"].items()
        }
    return found


def _entry(file: CheckoutFile, at: Steps, item: Any, ignored: Sequence[str], warnings: list[str]) -> Any:
    if not isinstance(item, dict):
        return item
    warnings += [
        file.at((*at, name), f"{name} is not carried out", key=True) for name in item if name in ignored
    ]
    kept = {name: value for name, value in item.items() if name not in ignored and value is not None}
    return {**kept, "type": "integer"} if kept.get("type") == "int" else kept


def _errand_of(file: CheckoutFile, at: Steps, errand: Any, warnings: list[str]) -> Any:
    """An errand whose script stands beside its description, as Escape has it, with it in `run`."""
    if not isinstance(errand, dict):
        return errand
    kept = {name: value for name, value in errand.items() if value is not None}
    if isinstance(kept.get("inputs"), list):
        inputs = enumerate(kept["inputs"])
        kept["inputs"] = [
            _entry(file, (*at, "inputs", n), item, _OF_VARIABLES, warnings) for n, item in inputs
        ]
    if "run" in kept:
        return kept
    script = {name: kept.pop(name) for name in _SCRIPT_FORMS if name in kept}
    return {**kept, "run": script} if script else kept


def _expressions(file: CheckoutFile, plan: Mapping[str, Any]) -> Iterator[str]:
    """Texts in Escape's expression language, which is not spoken."""
    for steps, value in _texts(plan):
        if value.startswith("$") and not value.startswith("$$"):
            yield file.at(steps, f'"{value[:60]}" is taken as it stands; expressions are not carried out')


def _texts(plan: Mapping[str, Any]) -> Iterable[tuple[Steps, str]]:
    yield from ((("metadata", name), value) for name, value in plan["metadata"].items())
    for field in _VARIABLES:
        for at, item in enumerate(plan[field]):
            if isinstance(item["default"], str):
                yield (field, at, "default"), item["default"]
