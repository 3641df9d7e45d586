"""How a tree is changed by what is reviewed (sqedule, 5.2, 6.2; design 13.12): its content as it shall stand there,
and other ids.

Pure but for what is in force; called by the commits of what is reviewed, inside of their intents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.commands.review_given import over
from reconciler.commands.rule_passwords import Sealed
from reconciler.errors import Conflict, Refused
from reconciler.installation import Installation
from reconciler.model.review import Kind, Ref, Version, application, folded, ruleset
from specs.meta import Key
from specs.tree import Tree
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Final:
    """Content that shall be in force, and the proposal that it is of (`before`).

    `new`: nothing may be there yet; `reviewed`: somebody has looked at it; `name`: the id that it gets by the same
    commit.
    """

    content: Mapping[str, Any]
    before: Version | None = None
    new: bool = False
    reviewed: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tree shall be changed."""

    installation: Installation
    ref: Ref
    final: Final
    ready: Sealed

    @property
    def key(self) -> Key:
        """What declares it so far."""
        return key_of(application(self.ref.application) if self.ref.kind is Kind.BINDING else self.ref)

    def committed(self, tree: Tree) -> dict[str, Any]:
        """What Git shall say of it. Conflict: what it says by now does not go with what was given."""
        content = self.final.content
        if self.ref.kind is Kind.RULESET:
            content = {**content, "rules": self.ready.rules}
        spec: Mapping[str, Any] | None = spec_of(self.installation, tree, self.key) or None
        if self.ref.kind is Kind.BINDING:
            bound = (spec or {}).get("approval_ruleset_bindings", ())
            spec = next((each for each in bound if each["approval_ruleset"] == self.ref.ruleset), None)
        return over(self.ref, content, spec)

    def wishes(self, tree: Tree, committed: Mapping[str, Any]) -> list[Wish]:
        """What shall be in Git."""
        ref, name = self.ref, self.final.name
        if ref.kind is Kind.BINDING:
            return [_bound(self.installation, tree, ref, committed)]
        if self.final.new and _is_there(tree, self.key):
            raise Refused("AlreadyExists", f"Git declares {self.key} already")
        spec = {**spec_of(self.installation, tree, self.key), **committed}
        wishes = [Wish(self.key, spec)] if name is None else renamed(tree, ref, name, spec)
        if ref.kind is Kind.RULESET:
            wishes += self.ready.wishes(tree, ref.ruleset, committed["rules"])
        return wishes


def _is_there(tree: Tree, key: Key) -> bool:
    if key.kind == "Application":
        return any(folded(each) == folded(str(key)) for each in tree.declared)
    return str(key) in tree.declared


def spec_of(installation: Installation, tree: Tree, key: Key) -> Mapping[str, Any]:
    """What Git says of a thing; where that is invalid, what it said last."""
    declared = tree.declared.get(str(key))
    if declared is None:
        return {}
    if declared.spec is not None:
        return declared.spec
    resource = installation.snapshot.current.resources.get(str(key))
    return (resource.spec if resource else None) or {}


def _bound(installation: Installation, tree: Tree, ref: Ref, committed: Mapping[str, Any]) -> Wish:
    """The application with this binding."""
    owner = Key("Application", None, None, ref.application)
    for key, words in (
        (str(owner), f"the application {ref.application}"),
        (f"ApprovalRuleset/{ref.ruleset}", f"the ruleset {ref.ruleset}"),
    ):
        if key not in tree.declared:
            raise Conflict("NotApproved", f"approve {words} first: it has no version in force")
    spec = spec_of(installation, tree, owner)
    entry = {"approval_ruleset": ref.ruleset, **committed}
    there = list(spec.get("approval_ruleset_bindings", ()))
    names = [each["approval_ruleset"] for each in there]
    if ref.ruleset in names:
        there[names.index(ref.ruleset)] = entry
    else:
        there.append(entry)
    return Wish(owner, {**spec, "approval_ruleset_bindings": there})


def called(ref: Ref, name: str) -> Ref:
    """The same by another id."""
    return application(name) if ref.kind is Kind.APPLICATION else ruleset(name)


def key_of(ref: Ref) -> Key:
    """What declares an application or a ruleset."""
    return Key("Application" if ref.kind is Kind.APPLICATION else "ApprovalRuleset", None, None, ref.name)


def renamed(tree: Tree, ref: Ref, name: str, spec: Mapping[str, Any]) -> list[Wish]:
    """A thing by another id, where it stands, and all that names it."""
    old, new = key_of(ref), key_of(called(ref, name))
    others = [each for each in tree.declared if each != str(old)]
    if str(new) in others or (
        ref.kind is Kind.APPLICATION and any(folded(each) == folded(str(new)) for each in others)
    ):
        raise Refused("AlreadyExists", f"Git declares {new} already")
    return [Wish(new, spec, was=old), *_followers(tree, ref, name)]


def _followers(tree: Tree, ref: Ref, name: str) -> list[Wish]:
    """What names an application or a ruleset, naming it by another id."""
    found = []
    for declared in tree.declared.values():
        spec = declared.spec
        if spec is None:
            continue
        changed = dict(spec)
        if ref.kind is Kind.APPLICATION and ref.name in (spec.get("applications") or ()):
            changed["applications"] = [name if each == ref.name else each for each in spec["applications"]]
        if ref.kind is Kind.RULESET and spec.get("approval_ruleset_bindings"):
            changed["approval_ruleset_bindings"] = [
                {**each, "approval_ruleset": name} if each["approval_ruleset"] == ref.name else each
                for each in spec["approval_ruleset_bindings"]
            ]
        if changed != spec:
            key = Key(
                declared.kind,
                declared.project,
                declared.environment,
                declared.name,
            )
            found.append(Wish(key, changed))
    return found
