"""Bodies of this API: what a caller makes of a release, a version, a rule (sqedule, 4.1, 5.2, 2.7).

Shapes are judged by the models of what Git declares, so that nothing is taken here that cannot stand there. A key with
null is as good as absent, unknown keys are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.sqedule.errors import bad_input
from reconciler.commands.reviews import Given, GivenRule, Step
from reconciler.model.review import Kind
from reconciler.sealing import LARGEST
from specs.approval import (
    Application,
    ApprovalRuleset,
    HttpRule,
    ManualRule,
    RulesetBinding,
    ScheduleRule,
    check_ruleset,
)
from specs.layers import without_nulls
from specs.messages import faults
from specs.meta import Key, free_part_fault
from specs.model import Spec, Steps
from specs.references import SECRET_REF

_RULES: Mapping[str, type[Spec]] = {"schedule": ScheduleRule, "manual": ManualRule, "http_api": HttpRule}
_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.APPLICATION: ("display_name", "enabled"),
    Kind.RULESET: ("display_name", "description", "enabled"),
    Kind.BINDING: ("mode", "enabled"),
}
_MODELS: Mapping[Kind, type[Spec]] = {
    Kind.APPLICATION: Application,
    Kind.RULESET: ApprovalRuleset,
    Kind.BINDING: RulesetBinding,
}
_STEPS: tuple[Step, ...] = ("draft", "final", "abandon")
_KEPT = ("password", "approvers", "allow_self_approval")
_MONTHS, _MONTHS_TOO = "months_of_year", "months-of-year"
_KEY = Key("ApprovalRuleset", None, None, "x")


def release(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller says of a release."""
    found: dict[str, Any] = {}
    for name in ("source_identity", "comments"):
        if name in data:
            found[name] = _text(data, name)
    if "metadata" in data:
        if not isinstance(data["metadata"], dict):
            raise bad_input("metadata must be an object")
        found["metadata"] = data["metadata"]
    return found


def decision(data: Mapping[str, Any]) -> tuple[int, Any, str | None]:
    """(rule, decision, comment) of who decides a manual rule."""
    rule = data.get("approval_rule_id")
    if not isinstance(rule, int) or isinstance(rule, bool) or rule < 0:
        raise bad_input("approval_rule_id must be the id of a rule")
    return rule, verdict(data, "decision"), _text(data, "comments") if "comments" in data else None


def verdict(data: Mapping[str, Any], name: str) -> Any:
    """approved or rejected."""
    if data.get(name) not in ("approved", "rejected"):
        raise bad_input(f"{name} must be approved or rejected")
    return data[name]


def id_of(data: Mapping[str, Any]) -> str | None:
    """The id that something is given."""
    if "id" not in data:
        return None
    name = _text(data, "id")
    if fault := free_part_fault(name):
        raise bad_input(f"id: {fault}")
    return name


def version_in(kind: Kind, data: Mapping[str, Any]) -> Given | None:
    """The version inside of a body; None where there is none."""
    if "version" not in data:
        return None
    if not isinstance(data["version"], dict):
        raise bad_input("version must be an object")
    return version(kind, {name: item for name, item in data["version"].items() if item is not None})


def version(kind: Kind, data: Mapping[str, Any]) -> Given:
    """What a caller makes of a version."""
    step = data.get("proposal_state", "draft")
    if step not in _STEPS:
        raise bad_input("proposal_state must be draft, final or abandon")
    if "comments" in data:
        _text(data, "comments")
    fields = {name: data[name] for name in _FIELDS[kind] if name in data}
    rules = None
    if kind is Kind.RULESET and "approval_rules" in data:
        rules = _rules(data["approval_rules"])
    spec = dict(fields)
    if rules is not None:
        spec["rules"] = [{**rule.fields, "password": _stand_in(rule)} for rule in rules]
        spec["rules"] = [_checked_part(each) for each in spec["rules"]]
    _judge(kind, spec)
    return Given(step, fields, rules)


def _rules(given: Any) -> list[GivenRule]:
    if not isinstance(given, list):
        raise bad_input("approval_rules must be an array")
    return [_rule(at, each) for at, each in enumerate(given)]


def _rule(at: int, given: Any) -> GivenRule:
    where = f"approval_rules[{at}]"
    if not isinstance(given, dict):
        raise bad_input(f"{where} must be an object")
    data = {name: item for name, item in given.items() if item is not None}
    if isinstance(data.get("type"), str) and data["type"] in _RULES:
        model = _RULES[data["type"]]
    else:
        raise bad_input(f"{where}.type must be schedule, manual or http_api")
    if _MONTHS_TOO in data:
        data.setdefault(_MONTHS, data[_MONTHS_TOO])
    fields = {name: data[name] for name in model.model_fields if name in data and name != "password"}
    password = data.get("password") if "password" in model.model_fields else None
    if password is not None and not isinstance(password, str):
        raise bad_input(f"{where}.password must be a string")
    if password is not None and len(password.encode()) > LARGEST:
        raise bad_input(f"{where}.password must have at most {LARGEST:,} bytes")
    if password is not None and "username" not in fields:
        raise bad_input(f"{where}.password needs username beside it")
    try:
        whole = model.model_validate(without_nulls(fields)).model_dump(mode="json")
    except ValidationError as error:
        told = [f"{where}{_named(steps)}: {sentence}" for steps, sentence, _ in faults(error, model, fields)]
        raise bad_input("; ".join(told[:5])) from error
    id = data.get("id")
    silent = frozenset(name for name in _KEPT if name in model.model_fields and name not in data)
    number = id if isinstance(id, int) and not isinstance(id, bool) else None
    return GivenRule(whole, number, silent, password)


def _stand_in(rule: GivenRule) -> dict[str, str] | None:
    """In the place of a password, for the model."""
    return None if rule.password is None else {SECRET_REF: "given"}


def _checked_part(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule without what its model does not have."""
    known = _RULES[rule["type"]].model_fields
    return {name: value for name, value in rule.items() if name in known}


def _judge(kind: Kind, spec: Mapping[str, Any]) -> None:
    """400 where Git could not hold it."""
    model = _MODELS[kind]
    whole = {**spec, "approval_ruleset": "x"} if kind is Kind.BINDING else dict(spec)
    try:
        found = model.model_validate(without_nulls(whole)).model_dump(mode="json")
    except ValidationError as error:
        told = [(steps, sentence) for steps, sentence, _ in faults(error, model, whole)]
        raise bad_input("; ".join(_told(steps, sentence) for steps, sentence in told[:5])) from error
    if kind is Kind.RULESET:
        wrong = list(check_ruleset(found, _KEY))
        if wrong:
            raise bad_input("; ".join(_told(steps, sentence) for steps, sentence in wrong[:5]))


def _told(steps: Steps, sentence: str) -> str:
    path = _named(steps).lstrip(".")
    return f"{path.replace('rules', 'approval_rules', 1) if path.startswith('rules') else path}: {sentence}"


def _named(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data[name]
    if not isinstance(value, str) or "\x00" in value:
        raise bad_input(f"{name} must be a string, without a NUL character")
    return value
