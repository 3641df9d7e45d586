"""Writes to products, releases and schedules: each request is one commit, however much it changes (pdc, 3.8).

A `Draft` is what the newest commit declares, as a request changes it, one item after the other; at its end the draft
tells what every resource shall be. Checks what a thing names, never what a request looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from reconciler.access import Caller
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.errors import BrokenBefore, Refused
from reconciler.installation import Installation
from reconciler.model.product import RESOURCES, SCHEDULE, Catalogue, Pair, name_of
from reconciler.passes import commits, products
from specs.kinds import KINDS
from specs.meta import Key
from specs.tree import Tree
from specs.write import Wish

T = TypeVar("T")
_WAIT_SECONDS = 60.0


class Thing:
    """A declared object as it is in a draft. `before`: its name in Git; None: it is new."""

    __slots__ = ("before", "gone", "kind", "name", "spec")

    def __init__(self, kind: str, name: str, spec: Mapping[str, Any], before: str | None) -> None:
        self.kind, self.name, self.before = kind, name, before
        self.spec = dict(spec)
        if "schedule" in self.spec:
            self.spec["schedule"] = dict(self.spec["schedule"])
        self.gone = False


class Entry:
    """An entry of a schedule as it is in a draft. `before`: what it was about in Git; None: it is new."""

    __slots__ = ("before", "gone", "number", "release", "sla")

    def __init__(self, release: Thing, sla: str, before: Pair | None, number: int) -> None:
        self.release, self.sla, self.before, self.number = release, sla, before, number
        self.gone = False

    @property
    def date(self) -> str:
        """The last day."""
        found: str = self.release.spec["schedule"][self.sla]
        return found

    @property
    def pair(self) -> Pair:
        """What it is about."""
        return self.release.name, self.sla


class Draft:
    """What one commit declares, and what has been changed of it."""

    def __init__(self, tree: Tree, catalogue: Catalogue) -> None:
        self._tree, self._catalogue = tree, catalogue
        self._things: list[Thing] = []
        self._by_name: dict[tuple[str, str], Thing | None] = {}
        self._entries: dict[int, Entry] = {}
        self._by_pair: dict[tuple[int, str], Entry] = {}

    def find(self, kind: str, name: str) -> Thing | None:
        """The object that has this name now. BrokenBefore while what Git declares of it cannot be taken."""
        if (kind, name) in self._by_name:
            return self._by_name[kind, name]
        declared = self._tree.declared.get(f"{kind}/{name}")
        if declared is None:
            return None
        if declared.spec is None:
            raise BrokenBefore(
                "SpecInvalid", f"{declared.path}:{declared.line} declares {declared.key}, but not validly"
            )
        thing = Thing(kind, name, declared.spec, name)
        self._things.append(thing)
        self._by_name[kind, name] = thing
        return thing

    def names(self, kind: str) -> list[str]:
        """Of all objects of a kind, in order."""
        start = f"{kind}/"
        found = {key.removeprefix(start) for key in self._tree.declared if key.startswith(start)}
        found |= {name for own, name in self._by_name if own == kind}
        return sorted(name for name in found if self._by_name.get((kind, name), True) is not None)

    def add(self, kind: str, name: str, spec: Mapping[str, Any]) -> Thing:
        """A new object; its name must be free, and must have been before this draft."""
        whole = KINDS[kind].model.model_construct().model_dump(mode="json") | dict(spec)
        thing = Thing(kind, name, whole, None)
        self._things.append(thing)
        self._by_name[kind, name] = thing
        return thing

    def rename(self, thing: Thing, name: str) -> None:
        """Give it another name, which must be free, and let what names it follow."""
        old, thing.name = thing.name, name
        self._by_name[thing.kind, old] = None
        self._by_name[thing.kind, name] = thing
        field = {"ProductRelease": "integrated_with", "ProductVersion": "product_version"}.get(thing.kind)
        if field is not None:
            for other in self._all("ProductRelease", lambda spec: spec[field] == old):
                other.spec[field] = name
        if thing.kind == "Product":
            for other in self._all("ProductVersion", lambda spec: spec["product"] == old):
                other.spec |= {"product": name, "short": other.spec["short"] or old}

    def remove_sla(self, thing: Thing) -> None:
        """An SLA goes with all its entries; Refused while a release is held by it."""
        for release in self._all("ProductRelease", lambda spec: thing.name in spec["hold_when_inactive"]):
            key = f"ProductRelease/{release.before}"
            place = self._tree.place(key)
            where = f" at {place.path}:{place.line}" if place is not None else ""
            raise Refused("SlaInUse", f"SLA {thing.name} is used by {key} (hold_when_inactive){where}")
        for release in self._all("ProductRelease", lambda spec: thing.name in spec["schedule"]):
            self.remove_entry(self._entry(release, thing.name))
        thing.gone = True
        self._by_name[thing.kind, thing.name] = None

    def sla(self, number: int) -> Thing | None:
        """The SLA with this number."""
        known = self._catalogue.sla_numbers.get(number)
        return None if known is None else self.find("SLA", known.name)

    def entry(self, number: int) -> Entry | None:
        """The entry of a schedule with this number, if it is still there."""
        found = self._entries.get(number)
        if found is not None:
            return None if found.gone else found
        known = self._catalogue.by_number.get(number)
        if known is None:
            return None
        release = self.find("ProductRelease", known.release.id)
        if release is None or known.sla.name not in release.spec["schedule"]:
            return None
        found = self._entry(release, known.sla.name)
        return found if found.number == number else None

    def has_entry(self, release: Thing, sla: str) -> bool:
        """Is there one?"""
        return sla in release.spec["schedule"]

    def add_entry(self, release: Thing, sla: str, date: str) -> Entry:
        """A new one; there must be none of this pair."""
        release.spec["schedule"][sla] = date
        entry = Entry(release, sla, None, 0)
        self._by_pair[id(release), sla] = entry
        return entry

    def change_entry(self, entry: Entry, release: Thing, sla: str, date: str) -> None:
        """Another day, or another pair, of which there must be none."""
        if (entry.release, entry.sla) != (release, sla):
            del entry.release.spec["schedule"][entry.sla]
            del self._by_pair[id(entry.release), entry.sla]
            entry.release, entry.sla = release, sla
            self._by_pair[id(release), sla] = entry
        release.spec["schedule"][sla] = date

    def remove_entry(self, entry: Entry) -> None:
        """It is no more."""
        del entry.release.spec["schedule"][entry.sla]
        del self._by_pair[id(entry.release), entry.sla]
        entry.gone = True

    def wishes(self) -> list[Wish]:
        """What every resource that was touched shall be; KEYs that are no more come first."""
        shall = {(thing.kind, thing.name): thing for thing in self._things if not thing.gone}
        gone = [thing for thing in self._things if thing.gone and thing.before is not None]
        wishes = [Wish(_key(thing.kind, str(thing.before)), None) for thing in gone]
        for (kind, name), thing in shall.items():
            declared = self._tree.declared.get(f"{kind}/{thing.before}")
            if declared is None:
                wishes.append(Wish(_key(kind, name), thing.spec))
            elif thing.before != name or declared.spec != thing.spec:
                wishes.append(Wish(_key(kind, name), thing.spec, was=_key(kind, str(thing.before))))
        return wishes

    def renamings(self) -> tuple[tuple[str, str], ...]:
        """Trailers that say what is whose successor."""
        found = [
            (f"{thing.kind}/{thing.before}", f"{thing.kind}/{thing.name}")
            for thing in self._things
            if thing.before not in (None, thing.name) and not thing.gone
        ]
        for entry in self._by_pair.values():
            old = entry.before
            if old is not None and (entry.release.before, entry.sla) != old:
                found.append((f"schedule {name_of(old)}", f"schedule {name_of(entry.pair)}"))
        return tuple(commits.renaming(old, new) for old, new in found)

    def numbering(self) -> list[tuple[str, str]]:
        """What is new, in the order in which it was added."""
        things = [(RESOURCES[each.kind], each.name) for each in self._things if each.before is None]
        entries = [entry for entry in self._by_pair.values() if entry.before is None]
        return things + [(SCHEDULE, name_of(entry.pair)) for entry in entries]

    def _entry(self, release: Thing, sla: str) -> Entry:
        found = self._by_pair.get((id(release), sla))
        if found is None:
            before = (release.before or release.name, sla)
            known = self._catalogue.by_pair.get(before)
            found = Entry(release, sla, before, known.number if known is not None else 0)
            self._by_pair[id(release), sla] = found
            if found.number:
                self._entries[found.number] = found
        return found

    def _all(self, kind: str, wanted: Callable[[Mapping[str, Any]], bool]) -> Iterator[Thing]:
        """The objects of a kind that are so now; what is invalid is not looked at."""
        start = f"{kind}/"
        for key, declared in self._tree.declared.items():
            name = key.removeprefix(start)
            fresh = key.startswith(start) and (kind, name) not in self._by_name
            if fresh and declared.spec is not None and wanted(declared.spec):
                thing = self.find(kind, name)
                if thing is not None:
                    yield thing
        for thing in list(self._things):
            if thing.kind == kind and not thing.gone and wanted(thing.spec):
                yield thing


def _key(kind: str, name: str) -> Key:
    return Key(kind, None, None, name)


async def change(
    installation: Installation,
    caller: Caller,
    work: Callable[[Draft], T],
    *,
    endpoint: str,
    comment: str | None = None,
) -> tuple[Written, T, Catalogue]:
    """Let `work` change a draft of the newest commit, and commit that; what `work` gave, and the catalogue after it.

    Numbers are looked up in what is in force, so one change waits until the one before it is applied.
    """
    made: list[tuple[Draft, T]] = []
    async with installation.cataloguing:
        known = await products.catalogue(installation)

        def intent(tree: Tree) -> list[Wish]:
            draft = Draft(tree, known)
            made[:] = [(draft, work(draft))]
            installation.numbering = draft.numbering()
            return draft.wishes()

        trailers = () if comment is None else (commits.commenting(comment),)
        terms = Terms(
            endpoint,
            wait=_WAIT_SECONDS,
            trailers=trailers,
            following=lambda: made[0][0].renamings(),
            title=comment,
        )
        try:
            written = await declare.write(installation, caller, intent, terms)
        finally:
            installation.numbering = ()
        return written, made[0][1], await products.catalogue(installation)
