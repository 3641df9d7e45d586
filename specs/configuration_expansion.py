"""The expansion of a project configuration (cider-ci, section 6): `include` and `read_and_replace_with`, in
every map at every level, before anything is judged.

Called when a configuration is read. Takes files by a function it is given and never names one outside the
tree. All work is bounded: files may include each other many times over.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.compose import DEEPEST
from specs.configuration_faults import NOT_YET, BadConfiguration, Chain, ConfigurationFault
from specs.configuration_text import UnreadableFile, document, plain_text
from specs.nearest import did_you_mean

Files = Callable[[str], bytes | None]
"""The content of the tree's file at a path; None where there is none, or where it is no regular file."""

INCLUDE = "include"
REPLACE = "read_and_replace_with"

MOST_FILES = 100
MOST_INCLUDES = 500
MOST_VALUES = 50_000
MOST_CHARACTERS = 4 * 1024 * 1024
MOST_BYTES = 2 * 1024 * 1024
"""Of all included files, each counted once."""

_ENTRY = ("path", "submodule")


@dataclass(frozen=True, slots=True)
class Expanded:
    """A value without includes, and what was wrong on the way."""

    value: Any
    faults: tuple[ConfigurationFault, ...]


def expand(value: Any, path: str, files: Files) -> Expanded:
    """Everything that is included in the value of the file `path`, put in its place.

    Raises BadConfiguration where a limit is reached; what else is wrong stands in the faults.
    """
    work = _Expansion(files)
    whole = work.expanded(value, (), (path,))
    return Expanded(whole, tuple(work.faults))


def deep_merge(weak: Any, strong: Any) -> Any:
    """Maps key by key, recursively; anything else is `strong`."""
    if not (isinstance(weak, Mapping) and isinstance(strong, Mapping)):
        return strong
    common = {key: deep_merge(weak[key], value) if key in weak else value for key, value in strong.items()}
    return {**weak, **common}


@dataclass(slots=True)
class _Expansion:
    """One expansion under way, and what it has used up."""

    files: Files
    faults: list[ConfigurationFault] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, dict[str, Any] | UnreadableFile] = field(default_factory=dict)
    size: int = 0
    includes: int = 0
    values: int = 0
    characters: int = 0

    def expanded(self, value: Any, where: Chain, stack: Chain) -> Any:
        """The value with all in it expanded; `stack` are the files that are being read, outermost first."""
        self._count(value, where)
        if len(where) > DEEPEST:
            raise _spent(where, f"nested deeper than {DEEPEST} levels with all that is included")
        if isinstance(value, list):
            return [self.expanded(item, (*where, str(at)), stack) for at, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if REPLACE in value:
            return self._replaced(value, where)
        own = {
            key: self.expanded(item, (*where, key), stack) for key, item in value.items() if key != INCLUDE
        }
        if INCLUDE not in value:
            return own
        merged: Any = {}
        for path in self._paths(value[INCLUDE], (*where, INCLUDE)):
            merged = deep_merge(merged, self._included(path, where, stack))
        return deep_merge(merged, own)

    def _fault(self, where: Chain, message: str) -> None:
        self.faults.append(ConfigurationFault(where, message))

    def _count(self, value: Any, where: Chain) -> None:
        self.values += 1
        self.characters += len(value) if isinstance(value, str) else 0
        if isinstance(value, dict):
            self.characters += sum(len(key) for key in value)
        if self.values > MOST_VALUES:
            raise _spent(where, f"more than {MOST_VALUES} values with all that is included")
        if self.characters > MOST_CHARACTERS:
            raise _spent(where, f"more than {MOST_CHARACTERS} characters with all that is included")

    def _paths(self, entry: Any, where: Chain) -> list[str]:
        entries = entry if isinstance(entry, list) else [entry]
        named = [
            self._path(item, (*where, str(at)) if isinstance(entry, list) else where)
            for at, item in enumerate(entries)
        ]
        return [path for path in named if path is not None]

    def _path(self, entry: Any, where: Chain) -> str | None:
        if isinstance(entry, dict):
            for key in entry:
                if key not in _ENTRY:
                    self._fault(where, f'unknown key "{key[:100]}"{did_you_mean(key, _ENTRY)}')
            if "submodule" in entry:
                self._fault((*where, "submodule"), NOT_YET.format(key="submodule"))
                return None
            if "path" not in entry:
                self._fault(where, "`path` is missing")
                return None
            entry, where = entry["path"], (*where, "path")
        if not isinstance(entry, str):
            self._fault(where, "must be the path of a file, or a list of paths")
            return None
        path = posixpath.normpath(entry) if entry else ""
        if not path or path.startswith(("/", "../")) or path in (".", "..") or not path.isprintable():
            self._fault(where, "must be a path from the root of the tree, without a leading / and ..")
            return None
        return path

    def _content(self, path: str, where: Chain) -> bytes:
        self.includes += 1
        if self.includes > MOST_INCLUDES:
            raise _spent(where, f"more than {MOST_INCLUDES} includes; write some out")
        if path not in self.seen:
            if len(self.seen) >= MOST_FILES:
                raise _spent(where, f"more than {MOST_FILES} different files are included")
            data = self.files(path)
            if data is None:
                raise UnreadableFile(f"{path}: there is no such file in the tree")
            self.size += len(data)
            if self.size > MOST_BYTES:
                raise _spent(where, f"the included files have more than {MOST_BYTES} bytes together")
            self.seen[path] = data
        return self.seen[path]

    def _document(self, path: str, where: Chain) -> dict[str, Any]:
        data = self._content(path, where)
        if path not in self.documents:
            self.documents[path] = _map(path, data)
        found = self.documents[path]
        if isinstance(found, UnreadableFile):
            raise UnreadableFile(str(found))
        return found

    def _included(self, path: str, where: Chain, stack: Chain) -> dict[str, Any]:
        place = (*where, INCLUDE)
        if path in stack:
            self._fault(place, f"a circle of includes: {' → '.join((*stack, path))}")
            return {}
        try:
            value = self._document(path, place)
        except UnreadableFile as unreadable:
            self._fault(place, str(unreadable))
            return {}
        inside = self.expanded(value, where, (*stack, path))
        if isinstance(inside, dict):
            return inside
        self._fault(place, f"{path}: must be a map to be included, not only `{REPLACE}`")
        return {}

    def _replaced(self, value: dict[str, Any], where: Chain) -> str:
        place = (*where, REPLACE)
        beside = [key for key in value if key not in (REPLACE, "submodule")]
        if beside:
            self._fault(where, f'`{REPLACE}` must stand alone; "{beside[0][:100]}" is beside it')
            return ""
        if "submodule" in value:
            self._fault((*where, "submodule"), NOT_YET.format(key="submodule"))
            return ""
        path = self._path(value[REPLACE], place)
        if path is None:
            return ""
        try:
            text = plain_text(path, self._content(path, place)).strip()
        except UnreadableFile as unreadable:
            self._fault(place, str(unreadable))
            return ""
        self._count(text, place)
        return text


def _map(path: str, data: bytes) -> dict[str, Any] | UnreadableFile:
    """What a file holds, or why it cannot be included: either is found out once."""
    try:
        value = document(path, data)
    except UnreadableFile as unreadable:
        return unreadable
    return value if isinstance(value, dict) else UnreadableFile(f"{path}: must be a map to be included")


def _spent(where: Chain, message: str) -> BadConfiguration:
    return BadConfiguration([ConfigurationFault(where, message)])
