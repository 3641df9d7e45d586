"""From what resources shall be to the files that say so: which document changes, and how (escape-state, 13.2).

Called by the door that commits API writes, with the tree of the commit that is edited and the texts of its files.
Pure: `paths` tells which files must be read, `rewrite` gives their new texts. Stores only what differs from what the
resource inherits, in its own document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from specs.compose import Composed, compose
from specs.edit import Change, append, difference, edit, remove
from specs.edit_changes import Unstorable, storable
from specs.evaluate import layers_of
from specs.kinds import KINDS
from specs.layers import Layer, merge
from specs.messages import faults
from specs.meta import Key
from specs.model import Steps
from specs.own import own_fields
from specs.places import file_of
from specs.refused import take_refused
from specs.scope import Place
from specs.tree import Tree

API_VERSION = "steersman/v1"


class CannotWrite(ValueError):
    """What is asked for cannot be written, with a sentence; nothing has changed."""


class Unacceptable(ValueError):
    """What a resource shall be is no specification of its kind: `faults` are (field, sentence)."""

    def __init__(self, key: Key, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(f"{key}: " + "; ".join(f"{field}: {told}" for field, told in faults[:5]))
        self.key = key
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Wish:
    """What a resource shall be: its effective specification and its labels (None: as they are); no spec: gone.

    `was`: the KEY that it has so far, of the same kind: its document is renamed where it stands.
    """

    key: Key
    spec: Mapping[str, Any] | None
    labels: Mapping[str, str] | None = None
    was: Key | None = None

    @property
    def found_as(self) -> Key:
        """The KEY under which it is declared so far."""
        return self.was or self.key


@dataclass(frozen=True, slots=True)
class Rewritten:
    """New texts by path (None: the file goes), and what has changed in words: (KEY, verb, fields); KEYs before by those
    that they are renamed to.
    """

    files: Mapping[str, str | None]
    changes: tuple[tuple[str, str, tuple[str, ...]], ...]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def removed(self) -> frozenset[str]:
        """KEYs that are no more."""
        return frozenset(key for key, verb, _ in self.changes if verb == "delete") | {*self.renamed.values()}


def paths(tree: Tree, wishes: Iterable[Wish]) -> frozenset[str]:
    """The files that `rewrite` must see, whether they are there or not."""
    return frozenset(_path(tree, wish) for wish in wishes)


def rewrite(tree: Tree, texts: Mapping[str, str | None], wishes: Sequence[Wish]) -> Rewritten:
    """The files after all wishes; one that is fulfilled already changes nothing.

    Raises Unacceptable, CannotWrite or Uneditable.
    """
    files = {path: _File(text) for path, text in texts.items()}
    changes = []
    renamed = {}
    for wish in wishes:
        places = tree.index.places.get(str(wish.found_as), ())
        if len(places) > 1:
            where = " and ".join(f"{place.path}:{place.line}" for place in places)
            raise CannotWrite(
                f"{wish.found_as} is declared twice, at {where}; remove one of them in Git first"
            )
        file = files[_path(tree, wish)]
        done = _fulfil(tree, file, places[0] if places else None, wish)
        if done is not None:
            changes.append((str(wish.key), *done))
            if done[0] == "rename":
                renamed[str(wish.key)] = str(wish.found_as)
    after = {path: file.text for path, file in files.items() if file.text != texts[path]}
    return Rewritten(after, tuple(changes), renamed)


class _File:
    """A text whose documents keep their numbers while it changes; they count from 0 as they were first."""

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.first = self._lines()
        self._numbers = list(range(len(self.first)))

    def edit(self, number: int, changes: Sequence[Change]) -> None:
        """Change a document."""
        self.text = edit(self.text or "", self._line(number), changes)

    def remove(self, number: int) -> None:
        """Take a document out."""
        self.text = remove(self.text or "", self._line(number))
        self._numbers.remove(number)

    def append(self, document: Mapping[str, Any]) -> None:
        """A new document, at the end."""
        self.text = append(self.text, document)
        self._numbers.append(-1)

    def value(self, number: int) -> Mapping[str, Any]:
        """What a document says now."""
        found: Mapping[str, Any] = self._documents()[self._numbers.index(number)].value
        return found

    def _documents(self) -> list[Composed]:
        return list(compose(self.text)) if self.text is not None else []

    def _lines(self) -> list[int]:
        return [document.line for document in self._documents()]

    def _line(self, number: int) -> int:
        return self._lines()[self._numbers.index(number)]


def inherited(tree: Tree, key: Key) -> dict[str, Any]:
    """What defaults give a resource of this KEY where it says nothing itself."""
    return merge([Layer("", (), values, None) for values in _inherited(tree, key)])


def _path(tree: Tree, wish: Wish) -> str:
    place = tree.place(str(wish.found_as))
    return place.path if place is not None else file_of(wish.key)


def _fulfil(tree: Tree, file: _File, place: Place | None, wish: Wish) -> tuple[str, tuple[str, ...]] | None:
    """The verb and the fields that it changed; None if nothing was to be done."""
    if place is None:
        if wish.spec is None:
            return None
        fields = _own_fields(wish.key, ("spec",), {}, _inherited(tree, wish.key), wish.spec)
        file.append(_document(wish, fields))
        return "add", ()
    number = file.first.index(place.document.line)
    if wish.spec is None:
        _take_out(file, number, place)
        return "delete", ()
    changes = _changes(tree, file, number, place, wish)
    if not changes and wish.was in (None, wish.key):
        return None
    if wish.was is not None and wish.was != wish.key:
        if place.part.layers[0][0] != ("spec",):
            raise CannotWrite(f"{wish.was} is one of several in a document; rename it in Git")
        file.edit(number, [Change(("metadata", "name"), wish.key.name), *changes])
        return "rename", tuple(_named(change.steps) for change in changes)
    file.edit(number, changes)
    return "set", tuple(_named(change.steps) for change in changes)


def _changes(tree: Tree, file: _File, number: int, place: Place, wish: Wish) -> list[Change]:
    base, own = place.part.layers[0]
    layers = layers_of(place, tree.index.defaults_in_use(tree.declared))
    wanted = _without_filled_texts(tree, wish)
    fields = _own_fields(wish.key, base, own, [layer.values for layer in layers[1:]], wanted)
    changes = difference(own, fields, base=base)
    if wish.labels is not None and dict(wish.labels) != dict(place.document.labels):
        metadata = file.value(number)["metadata"]
        changed = {**metadata, "labels": dict(wish.labels)}
        if not wish.labels:
            del changed["labels"]
        changes += difference(metadata, changed, base=("metadata",))
    return changes


def _own_fields(
    key: Key,
    base: Steps,
    own: Mapping[str, Any],
    inherited: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
) -> dict[str, Any]:
    """What the resource says itself, at `base` of its document."""
    try:
        plain = storable(wanted, base)
    except Unstorable as error:
        raise Unacceptable(key, ((_named(error.steps[len(base) :]), error.why),)) from error
    refused = [(_named(steps), sentence) for steps, sentence in take_refused(key.kind, plain)]
    try:
        if not refused:
            return own_fields(key.kind, own, inherited, plain, key)
    except ValidationError as error:
        found = faults(error, KINDS[key.kind].model, plain)
        refused = [(_named(steps), sentence) for steps, sentence, _ in found]
    raise Unacceptable(key, tuple(refused))


def _inherited(tree: Tree, key: Key) -> list[Mapping[str, Any]]:
    """Defaults for a resource that is not there yet, strongest first."""
    defaults = tree.index.defaults_in_use(tree.declared)
    around = []
    if key.environment is not None:
        around.append(f"Environment/{key.project}/{key.environment}")
    if key.project is not None:
        around.append(f"Project/{key.project}")
    layers = (defaults(name, key.kind) for name in around)
    return [layer.values for layer in layers if layer is not None]


def _without_filled_texts(tree: Tree, wish: Wish) -> Mapping[str, Any]:
    """Without the texts that the tree has put beside the names of their files, where they are still these."""
    declared = tree.declared.get(str(wish.key))
    wanted = wish.spec or {}
    if declared is None or declared.spec is None:
        return wanted
    for steps, name in KINDS[wish.key.kind].texts(wanted):
        holder, before = _at(wanted, steps[:-1]), _at(declared.spec, steps[:-1])
        same = isinstance(before, Mapping) and before.get(steps[-1]) == name
        filled = str(steps[-1]).removesuffix("_file")
        if same and holder.get(filled) == before.get(filled):
            wanted = _replaced(wanted, steps[:-1], {k: v for k, v in holder.items() if k != filled})
    return wanted


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _replaced(value: Any, steps: Steps, new: Any) -> Any:
    """A copy with another value at a path."""
    if not steps:
        return new
    head, rest = steps[0], steps[1:]
    if isinstance(value, list):
        return [_replaced(item, rest, new) if index == head else item for index, item in enumerate(value)]
    return {key: _replaced(item, rest, new) if key == head else item for key, item in value.items()}


def _take_out(file: _File, number: int, place: Place) -> None:
    """The document; of one that declares several resources, the entry, and with the last one the document."""
    base = place.part.layers[0][0]
    if base == ("spec",):
        file.remove(number)
        return
    entries = _at(file.value(number), base[:-1])
    if isinstance(entries, Mapping) and len(entries) > 1:
        file.edit(number, [Change(base, remove=True)])
    else:
        file.remove(number)


def _document(wish: Wish, own: Mapping[str, Any]) -> dict[str, Any]:
    key = wish.key
    metadata: dict[str, Any] = {"name": key.name}
    scope = {"project": key.project, "environment": key.environment, "team": key.team, "owner": key.owner}
    metadata |= {name: value for name, value in scope.items() if value is not None}
    if wish.labels:
        metadata["labels"] = dict(wish.labels)
    return {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "spec": dict(own)}


def _named(steps: Steps) -> str:
    """A path as people write it, without the leading `spec`: `steps[0].run_tests`."""
    text = ""
    for step in steps[1:] if steps[:1] == ("spec",) else steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
