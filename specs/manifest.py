"""A builds.sr.ht manifest (builds-srht 5.1 and 6): its text to typed values, or all its faults in one pass.

Called by the builds.sr.ht API before a job is stored, which also checks the triggers of a request here, and by
specs.manifest_work, which says what is run. Its length is the caller's matter.

How the text is read. Real manifests are written for PyYAML's safe loader and for the runner's YAML 1.1 reader in Go;
where the two differ, what the runner would have run counts:
- `yes`, `no`, `on`, `off` are booleans, `0755` and `0x1f` and `1_000` whole numbers, `<<` merges, and of equal keys
  the last one counts, as in both;
- dates (`2030-01-31`), times (`12:30`) and exponents without a point (`1e3`) are strings as they are written, so
  that a date or an abbreviated commit needs no quotes; so are numbers that 64 bits cannot hold;
- keys are always strings as they are written: a task may be called 1, and an environment variable `no`;
- a number or boolean where a string is wanted is a fault, never turned into one (`image: 3`).
Depth and aliases have the limits of the specifications' loader; tags that make anything but these values are faults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import getaddresses
from typing import Any, cast

import yaml

from specs.compose import Unreadable, compose
from specs.errors import Fault
from specs.messages import label
from specs.model import Steps, web_address
from specs.syntax import syntax_fault

LONGEST_IMAGE = 128
SHORTEST_SECRET, LONGEST_SECRET = 3, 512
ACTIONS = ("email", "webhook")
CONDITIONS = ("success", "failure", "always")

Scalar = str | int | float | bool | None
Variable = Scalar | tuple[Scalar, ...]
"""A value of the environment; a tuple stands for a list."""

_TASK_NAME = re.compile(r"[a-z0-9_-]{1,128}", re.ASCII)
_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}
_INT = re.compile(r"[-+]?(0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", re.ASCII)
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 70


class BadManifest(ValueError):
    """A manifest that cannot be used; `faults` holds everything that is wrong with it, by line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults), key=lambda each: (each.line, each.column, each.message)))
        super().__init__("; ".join(self.reasons))

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each fault: its line, the field, and what is wrong."""
        return tuple(f"line {fault.line}: {fault.message}" for fault in self.faults)


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field of a request or of a manifest."""

    steps: Steps
    reason: str

    @property
    def field(self) -> str:
        """The field as people and the API write it: `triggers[0].condition`."""
        return label(self.steps)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What is done after a job has ended; `further` keeps keys that mean nothing here."""

    action: str
    condition: str
    to: str | None = None
    cc: str | None = None
    in_reply_to: str | None = None
    url: str | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """The same as a plain mapping, without what is not set."""
        known = {name: getattr(self, name) for name in (*_REQUIRED, *_TEXTS)}
        return {**self.further, **{name: value for name, value in known.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class ManifestTask:
    """One task: its name and its script, which may be empty."""

    name: str
    script: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid manifest. `text` is what it was read from; all else is as declared, in the declared order."""

    text: str
    image: str
    arch: str | None = None
    packages: tuple[str, ...] = ()
    repositories: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    environment: Mapping[str, Variable] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    tasks: tuple[ManifestTask, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    artifacts: tuple[str, ...] = ()
    shell: bool = False
    oauth: str | None = None


def parse(text: str) -> Manifest:
    """The manifest that a text holds; BadManifest with all its faults."""
    reading = _read(text)
    if not isinstance(reading.root, dict):
        reading.fault((), "a manifest is a mapping with at least image and tasks")
        raise BadManifest(reading.faults)
    fields = _Fields(reading)
    shell = fields.boolean("shell")
    manifest = Manifest(
        text=text,
        image=fields.image(),
        arch=fields.text("arch"),
        packages=fields.texts("packages"),
        repositories=fields.repositories(),
        sources=fields.texts("sources"),
        environment=fields.environment(),
        secrets=fields.secrets(),
        tasks=fields.tasks(required=not shell),
        triggers=fields.triggers(),
        artifacts=fields.artifacts(),
        shell=shell,
        oauth=fields.text("oauth"),
    )
    if reading.faults:
        raise BadManifest(reading.faults)
    return manifest


def document(text: str) -> dict[str, Any]:
    """The plain values of a manifest that `parse` takes, with the keys that mean nothing to it."""
    return dict(_read(text).root)


def last_segment(path: str) -> str:
    """The last part of an artifact's path, which is its name."""
    return path.rstrip("/").rpartition("/")[2] or path


# -- triggers, of manifests and of requests

_REQUIRED = ("action", "condition")
_TEXTS = ("to", "cc", "in_reply_to", "url")


def check_triggers(
    value: Any, steps: Steps = ("triggers",)
) -> tuple[tuple[Trigger, ...], tuple[FieldFault, ...]]:
    """The triggers of a list (builds-srht 6), or its faults by the rules for requests (2.4)."""
    if not isinstance(value, list):
        return (), (FieldFault(steps, _wanted("a list of triggers", value)),)
    triggers: list[Trigger] = []
    faults: list[FieldFault] = []
    for number, item in enumerate(value):
        triggers += _trigger(item, (*steps, number), faults)
    return () if faults else tuple(triggers), tuple(faults)


def _trigger(item: Any, steps: Steps, faults: list[FieldFault]) -> Iterable[Trigger]:
    if not isinstance(item, Mapping):
        faults.append(FieldFault(steps, _wanted("a mapping with action and condition", item)))
        return ()
    found = {
        name: _string(item, (*steps, name), faults, required=name in _REQUIRED)
        for name in (*_REQUIRED, *_TEXTS)
        if name in _REQUIRED or name in item
    }
    for name, known in (("action", ACTIONS), ("condition", CONDITIONS)):
        if found[name] and found[name] not in known:
            faults.append(FieldFault((*steps, name), f'must be {_or(known)}, not "{_short(found[name])}"'))
    if found["action"] == "email":
        if not item.get("to") and not item.get("cc"):
            faults.append(FieldFault((*steps, "to"), "is required where there is no cc"))
        faults.extend(
            FieldFault((*steps, name), "must be a list of e-mail addresses")
            for name in ("to", "cc")
            if found.get(name) and not _is_address_list(str(found[name]))
        )
    if found["action"] == "webhook":
        faults.extend(_web(item, found.get("url"), (*steps, "url")))
    further = {str(name): given for name, given in item.items() if name not in (*_REQUIRED, *_TEXTS)}
    return (Trigger(**cast("dict[str, Any]", found), further=further),)


def _string(item: Mapping[str, Any], steps: Steps, faults: list[FieldFault], *, required: bool) -> str | None:
    value = item.get(str(steps[-1]))
    if value is None and steps[-1] in item:
        faults.append(FieldFault(steps, "may not be null"))
    elif value is not None and not isinstance(value, str):
        faults.append(FieldFault(steps, _wanted("a string", value)))
    elif value and _has_controls(value):
        faults.append(FieldFault(steps, "must not hold control characters"))
    if required and not (isinstance(value, str) and value):
        faults.append(FieldFault(steps, "is required"))
    return value if isinstance(value, str) else None


def _web(item: Mapping[str, Any], url: str | None, steps: Steps) -> Iterable[FieldFault]:
    if not url:
        yield FieldFault(steps, "is required")
        return
    try:
        web_address(url)
    except ValueError as error:
        yield FieldFault(steps, str(error))


def _is_address_list(text: str) -> bool:
    try:
        addresses = [address for _, address in getaddresses([text])]
    except RecursionError:  # comments in comments
        return False
    return bool(addresses) and all(address.strip("@").count("@") == 1 for address in addresses)


# -- fields of the manifest


class _Fields:
    """Takes the fields of a manifest one by one; what is wrong goes to the reading's faults."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        # An explicit null equals absence.
        self._given = {name: value for name, value in reading.root.items() if value is not None}

    def image(self) -> str:
        image = self.text("image")
        if image == "" or "image" not in self._given:
            self._fault(("image",), "is required")
        elif image and len(image) > LONGEST_IMAGE:
            self._fault(("image",), f"must have at most {LONGEST_IMAGE} characters")
        return image or ""

    def text(self, name: str) -> str | None:
        value = self._given.get(name)
        return None if value is None else self._text(value, (name,))

    def boolean(self, name: str) -> bool:
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            self._fault((name,), _wanted("true or false", value))
        return value is True

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._given.get(name, [])
        if not isinstance(value, list):
            self._fault((name,), _wanted("a list of strings", value))
            return ()
        found = (self._text(item, (name, number)) for number, item in enumerate(value))
        return tuple(item if item is not None else "" for item in found)

    def repositories(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self._mapping("repositories").items():
            steps: Steps = ("repositories", name)
            if "\x00" in name:
                self._fault(steps, "must not hold a NUL character in its name")
            found[name] = self._text(value, steps) or ""
        return found

    def environment(self) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        for name, value in self._mapping("environment").items():
            steps: Steps = ("environment", name)
            if isinstance(value, dict):
                self._fault(steps, "must be a string, a number, a boolean or a list, not a mapping")
            elif isinstance(value, list):
                found[name] = tuple(self._scalar(item, (*steps, n)) for n, item in enumerate(value))
            else:
                found[name] = self._scalar(value, steps)
        return found

    def secrets(self) -> tuple[str, ...]:
        found = self.texts("secrets")
        for number, name in enumerate(found):
            # A uuid has 36 characters, so it is long enough as well.
            if not SHORTEST_SECRET <= len(name) <= LONGEST_SECRET and self._is_text("secrets", number):
                self._fault(
                    ("secrets", number),
                    f"must be a uuid or a name of {SHORTEST_SECRET} to {LONGEST_SECRET} characters",
                )
        return found

    def tasks(self, *, required: bool) -> tuple[ManifestTask, ...]:
        value = self._given.get("tasks", [])
        if not isinstance(value, list):
            self._fault(("tasks",), _wanted("a list of tasks", value))
            return ()
        if not value and required:
            self._fault(("tasks",), "is required: at least one task, or shell: true")
        found: list[ManifestTask] = []
        for number, item in enumerate(value):
            task = self._task(item, ("tasks", number))
            if task is None:
                continue
            if any(task.name == other.name for other in found):
                self._fault(("tasks", number, task.name), "is a task's name already; choose another one")
            found.append(task)
        return tuple(found)

    def triggers(self) -> tuple[Trigger, ...]:
        value = self._given.get("triggers", [])
        if isinstance(value, list):
            value = [
                {name: given for name, given in item.items() if given is not None}
                if isinstance(item, dict)
                else item
                for item in value
            ]
        triggers, faults = check_triggers(value)
        for fault in faults:
            self._fault(fault.steps, fault.reason)
        return triggers

    def artifacts(self) -> tuple[str, ...]:
        found = self.texts("artifacts")
        names: set[str] = set()
        for number, path in enumerate(found):
            steps: Steps = ("artifacts", number)
            name = last_segment(path)
            if path == "":
                if self._is_text("artifacts", number):
                    self._fault(steps, "must not be empty")
            elif name in names:
                self._fault(steps, f'has the name "{_short(name)}", which an artifact before it has too')
            names.add(name)
        return found

    def _task(self, item: Any, steps: Steps) -> ManifestTask | None:
        if not isinstance(item, dict):
            self._fault(steps, _wanted("a mapping of one name to one script", item))
            return None
        if len(item) != 1:
            names = f": {', '.join(_short(name) for name in item)}" if item else ""
            self._fault(steps, f"must have exactly one name, not {len(item)}{names}")
            return None
        ((name, script),) = item.items()
        if not _TASK_NAME.fullmatch(name):
            self._fault((*steps, name), "must have a name of 1 to 128 characters a-z, 0-9, _ and -")
        text = self._text(script, (*steps, name), "a string, which is the task's script")
        return None if text is None else ManifestTask(name, text)

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = self._given.get(name, {})
        if isinstance(value, dict):
            return value
        self._fault((name,), _wanted("a mapping", value))
        return {}

    def _text(self, value: Any, steps: Steps, wanted: str = "a string") -> str | None:
        if not isinstance(value, str):
            self._fault(steps, _wanted(wanted, value))
            return None
        if "\x00" in value:
            self._fault(steps, "must not hold a NUL character")
        return value

    def _scalar(self, value: Any, steps: Steps) -> Scalar:
        if isinstance(value, (dict, list)):
            self._fault(steps, _wanted("a string, a number or a boolean", value))
            return None
        return self._text(value, steps) if isinstance(value, str) else cast("Scalar", value)

    def _is_text(self, name: str, number: int) -> bool:
        return isinstance(self._given[name][number], str)

    def _fault(self, steps: Steps, reason: str) -> None:
        short = tuple(_short(step) if isinstance(step, str) else step for step in steps)
        self._reading.fault(steps, f"{label(short)} {reason}")


# -- from text to values


class _Loader(yaml.CSafeLoader):
    """libyaml with the plain scalars that are described above; all else is a string."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def _resolves(word: str, pattern: str | re.Pattern[str], first: Iterable[str]) -> None:
    add = cast("Callable[..., None]", _Loader.add_implicit_resolver)
    add(_TAG + word, re.compile(f"^(?:{getattr(pattern, 'pattern', pattern)})$", re.ASCII), list(first))


_resolves("bool", "|".join(f"{w}|{w.title()}|{w.upper()}" for w in _BOOLEANS), "yYnNtTfFoO")
_resolves("null", "~|null|Null|NULL|", ["~", "n", "N", ""])
_resolves("merge", "<<", "<")
_resolves("int", _INT, "-+0123456789")
_resolves("float", _FLOAT, "-+.0123456789")


@dataclass(slots=True)
class _Reading:
    """The value of a text, the lines of what is in it, and the faults found so far."""

    root: Any = None
    lines: dict[Steps, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, steps: Steps, message: str) -> None:
        """Locate a fault at the nearest thing that stands in the text."""
        while steps not in self.lines and steps:
            steps = steps[:-1]
        self.faults.append(Fault(self.lines.get(steps, 1), 1, message))


def _read(text: str) -> _Reading:
    text = text.removeprefix("\ufeff")
    try:
        text.encode("utf-8")
        # Bounds depth and aliases, and walks events only: what passes can be composed without harm.
        documents = list(compose(text))
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise BadManifest((Fault(line, 1, "a character stands here that UTF-8 cannot hold"),)) from None
    except Unreadable as unreadable:
        raise BadManifest((unreadable.fault,)) from None
    if len(documents) > 1:
        message = "a second document begins here; a manifest is one document"
        raise BadManifest((Fault(documents[1].line, 1, message),))
    values = _Values(_Reading())
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and values.reading.root is None:
                values.reading.root = values.of(loader, node, ())
    except yaml.YAMLError as error:
        raise BadManifest((syntax_fault(error, text, None),)) from None
    finally:
        loader.dispose()
    return values.reading


@dataclass(slots=True)
class _Values:
    """Makes plain values of nodes."""

    reading: _Reading
    around: set[int] = field(default_factory=set)

    def of(self, loader: _Loader, node: yaml.Node, steps: Steps) -> Any:
        self.reading.lines.setdefault(steps, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, steps)
        if id(node) in self.around:
            self.reading.fault(steps, "an alias stands here inside of what it names")
            return None
        self._allowed(node, steps, ("map", "seq"))
        self.around.add(id(node))
        value = (
            self._mapping(loader, node, steps)
            if isinstance(node, yaml.MappingNode)
            else [self.of(loader, item, (*steps, number)) for number, item in enumerate(node.value)]
        )
        self.around.discard(id(node))
        return value

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, steps: Steps) -> dict[str, Any]:
        loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.reading.lines.setdefault((*steps, ""), key.start_mark.line + 1)
                self.reading.fault((*steps, ""), "a key must be text, not a mapping or a list")
                continue
            inside = (*steps, key.value)
            self.reading.lines[inside] = key.start_mark.line + 1
            found[key.value] = self.of(loader, value, inside)
        return found

    def _scalar(self, node: yaml.ScalarNode, steps: Steps) -> Scalar:
        text: str = node.value
        self._allowed(node, steps, ("str", "null", "bool", "int", "float"))
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return _BOOLEANS.get(text.lower(), text)
            case "int":
                return _whole(text)
            case "float":
                return _float(text)
        return text

    def _allowed(self, node: yaml.Node, steps: Steps, words: tuple[str, ...]) -> None:
        if node.tag.removeprefix(_TAG) not in words:
            self.reading.fault(steps, f"the tag {_short(node.tag)} is not allowed; leave it out")


def _whole(text: str) -> int | str:
    digits = text.replace("_", "").lower()
    plain = digits.lstrip("+-")
    base = 2 if plain.startswith("0b") else 16 if plain.startswith("0x") else 8 if plain[:1] == "0" else 10
    try:
        value = int(digits, base) if len(digits) <= _LONGEST_NUMBER else 2**63
    except ValueError:
        return text
    return value if -(2**63) <= value < 2**63 else text


def _float(text: str) -> float | str:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return text
    return value if math.isfinite(value) else text


# -- sentences


def _wanted(wanted: str, value: Any) -> str:
    return "may not be null" if value is None else f"must be {wanted}, not {_kind(value)}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _short(text: str | None) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text or "")
    return shown if len(shown) <= 40 else f"{shown[:40]}…"


def _has_controls(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in text)
