"""How a tree is brought to the next revision: only what a change concerns is evaluated again.

Called by Tree.update only. An update first settles which KEYs exist, then evaluates kind by kind in the
order of the kinds table, so that whatever a resource asks about has been settled before; what changes there
concerns its referrers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from specs.circles import circles, sentence
from specs.declared import Declared
from specs.defaults import DEFAULTING
from specs.document import ParsedFile
from specs.errors import SpecError
from specs.evaluate import Around, evaluate, refuse, twice
from specs.index import Index
from specs.kinds import KINDS, RANKS
from specs.meta import Key, parse_key
from specs.model import Steps
from specs.project import claimed
from specs.references import ANY_TEAM, any_team
from specs.scope import Place, places
from specs.texts import wanted_texts

Specs = Mapping[str, Mapping[str, Any]]


def update(
    old: Index,
    declared: Mapping[str, Declared],
    files: Mapping[str, ParsedFile | None],
    texts: Mapping[str, str | None],
    in_force: Specs,
) -> tuple[Index, dict[str, Declared], set[str]]:
    """The next index and resources, and the KEYs evaluated or removed."""
    run = _Update(old, declared, in_force)
    run.take_files(files)
    run.take_texts(texts)
    run.evaluate()
    return run.index, run.declared, run.changed


class _Update:
    """One update under way."""

    def __init__(self, old: Index, declared: Mapping[str, Declared], in_force: Specs) -> None:
        self.old = old
        self.old_declared = declared
        self.in_force = in_force
        self.index = old.copy()
        self.declared = dict(declared)
        self.changed: set[str] = set()
        self.waiting: list[set[str]] = [set() for _ in RANKS]
        self.thawed: dict[tuple[str, str], set[str]] = {}
        self.accounts: dict[str, tuple[str, ...]] | None = None
        self.defaults = self.index.defaults_in_use(self.declared)

    def take_files(self, files: Mapping[str, ParsedFile | None]) -> None:
        """Settles which KEYs exist, and marks what the files declare or did declare."""
        touched: dict[str, list[Place]] = {}
        for path, parsed in files.items():
            for place in self.index.entries.pop(path, ()):
                touched.setdefault(str(place.key), [])
            self.index.file_errors.pop(path, None)
            self.index.opaque.discard(path)
            self._want(path, parsed)
            for place in self._read(path, parsed):
                touched.setdefault(str(place.key), []).append(place)
        for key, news in touched.items():
            kept = [place for place in self.index.places.pop(key, ()) if place.path not in files]
            if kept or news:
                self.index.places[key] = tuple(
                    sorted([*kept, *news], key=lambda place: (place.path, place.line))
                )
            if (key in self.old.places) != (key in self.index.places):
                self._mark(self._referrers(key))
                if _kind(key) == "ServiceAccount":
                    self._mark(self._referrers(any_team(key)))
        self._mark(touched)
        if any(_kind(key) == "Project" for key in touched):
            self._take_claims()
        if bool(self.old.opaque) != bool(self.index.opaque):
            missing = [key for key in self.index.referrers if key not in self.index.places]
            self._mark(referrer for key in missing for referrer in self._referrers(key))
            self._mark(key for keys in self.index.claims.values() for key in keys)

    def _take_claims(self) -> None:
        """Finds which Projects name which namespaces, and marks those of namespaces where that has changed."""
        claims: dict[str, set[str]] = {}
        for key, found in self.index.places.items():
            if _kind(key) == "Project":
                for place in found:
                    for namespace in claimed(place.document.spec):
                        claims.setdefault(namespace, set()).add(key)
        old = self.index.claims
        self.index.claims = {namespace: frozenset(keys) for namespace, keys in claims.items()}
        for namespace in old.keys() | claims.keys():
            now = self.index.claims.get(namespace, frozenset())
            if now != old.get(namespace):
                self._mark(now)

    def _read(self, path: str, parsed: ParsedFile | None) -> list[Place]:
        if parsed is None:
            return []
        found = [item for document in parsed.documents for item in places(path, document)]
        readable = [item for item in found if isinstance(item, Place)]
        faults = [*parsed.faults, *(item for item in found if not isinstance(item, Place))]
        if readable:
            self.index.entries[path] = tuple(readable)
        if faults:
            self.index.file_errors[path] = tuple(SpecError(path, f.line, f.column, f.message) for f in faults)
        if parsed.opaque or len(readable) < len(found):
            self.index.opaque.add(path)
        return readable

    def _want(self, path: str, parsed: ParsedFile | None) -> None:
        self.index.wanted.pop(path, None)
        if parsed is not None and (wanted := wanted_texts(path, parsed)):
            self.index.wanted[path] = wanted

    def take_texts(self, texts: Mapping[str, str | None]) -> None:
        """Marks the users of texts that have changed."""
        for path, text in texts.items():
            if self.index.texts.get(path) != text:
                self._mark(self.index.users.get(path, ()))
            self.index.texts[path] = text
        if self.index.texts:
            wanted = self.index.wanted_texts()
            self.index.texts = {path: text for path, text in self.index.texts.items() if path in wanted}

    def evaluate(self) -> None:
        """Evaluates all that is marked, kind by kind."""
        self._keep_missing()
        around = Around(
            self._meant, self._usable, self.defaults, self._spec, self.index.texts, self._rivals
        )  # fmt: skip
        for waiting in self.waiting:
            for key in sorted(waiting):
                self._settle(key, around)
        if bool(self.old.opaque) != bool(self.index.opaque) or any(
            _kind(key) in _WAITING for key in self.changed
        ):
            self._refuse_circles(around)
        self._freeze()

    def _settle(self, key: str, around: Around) -> None:
        was = self._standing(key, self.old, self.old_declared)
        found = self.index.places.get(key)
        old = self.declared.pop(key, None)
        new = None
        if found:
            new = evaluate(found[0], around) if len(found) == 1 else twice(found)
            self.declared[key] = new
        self.changed.add(key)
        self._reindex(key, old, new)
        self._note_starts(key, new)
        self._keep_good(key)
        if was != self._standing(key, self.index, self.declared):
            rank = _rank(key)
            self._mark(other for other in self._referrers(key) if _rank(other) > rank)

    def _note_starts(self, key: str, new: Declared | None) -> None:
        self.index.alone.pop(key, None)
        self.index.starts.pop(key, None)
        if new is not None and new.spec is not None and _kind(key) in _WAITING:
            found = tuple(self._followed(self.index.places[key][0].key, new.spec))
            if found:
                self.index.starts[key] = found

    def _followed(self, key: Key, spec: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
        for steps, candidates in KINDS[key.kind].waits_for(spec, key):
            yield from ((steps, found) for found in [k for k in candidates if self._exists(k)][:1])

    def _refuse_circles(self, around: Around) -> None:
        """What has come into a circle of waiting for each other becomes invalid, what has left one is what
        it is alone.
        """
        found = circles(self._waits()) if self.index.starts else {}
        for key in self.index.alone.keys() - found.keys():
            self.declared[key] = self.index.alone.pop(key)
            self.changed.add(key)
        for key in found.keys() & self.index.starts.keys():
            alone = self.index.alone.setdefault(key, self.declared[key])
            steps = next(steps for steps, target in self.index.starts[key] if target == found[key][1])
            new = refuse(alone, self.index.places[key][0], around, [(steps, sentence(found[key]))])
            if new != self.declared[key]:
                self.declared[key] = new
                self.changed.add(key)

    def _waits(self) -> dict[str, list[str]]:
        """KEY -> those it waits for, also where a last good version stands in."""
        waits = {key: [target for _, target in found] for key, found in self.index.starts.items()}
        unseen = [target for targets in waits.values() for target in targets]
        while unseen:
            key = unseen.pop()
            resource = self.declared.get(key)
            if key in waits or key not in self.in_force or (resource is not None and not resource.errors):
                continue
            waits[key] = [target for _, target in self._followed(parse_key(key), self.in_force[key])]
            unseen += waits[key]
        return waits

    def _standing(self, key: str, index: Index, declared: Mapping[str, Declared]) -> object:
        """All that others can see of a resource: whether it can be used, what of its fields they look at, and
        its defaults with their places.
        """
        resource = declared.get(key)
        valid = resource is not None and not resource.errors
        usable = valid or (key in self.in_force and (resource is not None or bool(index.opaque)))
        kind = _kind(key)
        spec = _effective(key, index, declared, self.in_force) if usable else None
        shown = None if spec is None else KINDS[kind].shown(spec)
        if kind not in DEFAULTING:
            return usable, shown
        defaults = index.defaults_in_use(declared)
        return usable, shown, [defaults(key, each) for each in RANKS]

    def _keep_good(self, key: str) -> None:
        """Remembers the last good version of a Project or Environment while it must stand in."""
        self.index.good.pop(key, None)
        if _kind(key) not in DEFAULTING:
            return
        resource = self.declared.get(key)
        invalid = resource is not None and bool(resource.errors)
        if key in self.in_force and (invalid or (resource is None and self.index.opaque)):
            self.index.good[key] = self.in_force[key]

    def _keep_missing(self) -> None:
        """The same for those that are declared nowhere, but may be in a file that cannot be read."""
        if self.index.opaque or self.old.opaque:
            known = [key for key in self.in_force if _kind(key) in DEFAULTING]
            for key in {*known, *self.index.good} - self.index.places.keys():
                self._keep_good(key)

    def _exists(self, key: str) -> bool:
        return key in self.index.places or (bool(self.index.opaque) and key in self.in_force)

    def _meant(self, key: str) -> tuple[str, ...]:
        """The declared KEYs that a KEY in a reference means."""
        if not key.startswith(_ANY_ACCOUNT):
            return (key,) if self._exists(key) else ()
        if self.accounts is None:
            known = [*self.index.places, *(self.in_force if self.index.opaque else ())]
            self.accounts = {}
            for each in sorted({each for each in known if _kind(each) == "ServiceAccount"}):
                name = any_team(each)
                self.accounts[name] = (*self.accounts.get(name, ()), each)
        return self.accounts.get(key, ())

    def _spec(self, key: str) -> Mapping[str, Any] | None:
        return _effective(key, self.index, self.declared, self.in_force)

    def _rivals(self, namespace: str, key: str) -> tuple[str, ...]:
        """Other Projects that name a namespace; none for the only one that has it in force already."""
        others = set(self.index.claims.get(namespace, ())) - {key}
        if self.index.opaque:
            hidden = {each for each in self.in_force if _kind(each) == "Project"} - self.index.places.keys()
            others |= {each for each in hidden - {key} if namespace in claimed(self.in_force[each])}
        holding = {each for each in others if namespace in claimed(self.in_force.get(each, {}))}
        if not holding and namespace in claimed(self.in_force.get(key, {})):
            return ()
        return tuple(sorted(holding or others))

    def _usable(self, key: str) -> bool:
        resource = self.declared.get(key)
        return (resource is not None and not resource.errors) or (key in self.in_force and self._exists(key))

    def _mark(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.waiting[_rank(key)].add(key)

    def _referrers(self, key: str) -> Iterable[str]:
        thawed = self.thawed.get(("referrers", key))
        return list(self.index.referrers.get(key, ()) if thawed is None else thawed)

    def _reindex(self, key: str, old: Declared | None, new: Declared | None) -> None:
        nothing: frozenset[str] = frozenset()
        before = old.references | old.sought if old else nothing
        after = new.references | new.sought if new else nothing
        self._move("referrers", key, before, after)
        self._move("users", key, old.files if old else nothing, new.files if new else nothing)

    def _move(self, which: str, key: str, before: frozenset[str], after: frozenset[str]) -> None:
        for target in before - after:
            self._thaw(which, target).discard(key)
        for target in after - before:
            self._thaw(which, target).add(key)

    def _thaw(self, which: str, target: str) -> set[str]:
        if (which, target) not in self.thawed:
            frozen = self.index.referrers if which == "referrers" else self.index.users
            self.thawed[which, target] = set(frozen.get(target, ()))
        return self.thawed[which, target]

    def _freeze(self) -> None:
        for (which, target), keys in self.thawed.items():
            frozen = self.index.referrers if which == "referrers" else self.index.users
            if keys:
                frozen[target] = frozenset(keys)
            else:
                frozen.pop(target, None)


_WAITING = frozenset({"Build", "Deployment"})
"""Kinds whose resources may wait for each other."""

_ANY_ACCOUNT = f"ServiceAccount/{ANY_TEAM}/"


def _effective(
    key: str, index: Index, declared: Mapping[str, Declared], in_force: Specs
) -> Mapping[str, Any] | None:
    """The specification that others see: also of what is refused for a circle, and the last good one."""
    resource = index.alone.get(key) or declared.get(key)
    if resource is not None and resource.spec is not None:
        return resource.spec
    return in_force.get(key) if resource is not None or index.opaque else None


def _kind(key: str) -> str:
    return key.split("/", 1)[0]


def _rank(key: str) -> int:
    return RANKS[_kind(key)]
