"""Reads one revision of the spec repository into a `specs.tree.Tree`, incrementally from the one before.

Only changed blobs are read and parsed; parsed ones come from the cache that the caller hands in. Specs are read from
the object store at a commit, never from a work tree. Called by the source pass and by plan previews.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from reconciler.source.git import Entry, Mirror, UnknownCommit
from specs.document import ParsedFile
from specs.loader import opaque_file, parse_file
from specs.tree import Tree

Cache = Callable[[list[str]], Awaitable[dict[str, bytes]]]
_LINK, _SUBMODULE = "120000", "160000"


@dataclass(frozen=True)
class Desired:
    """Desired state at one commit. `parsed` are newly parsed blobs for the cache, `paths` all files by path."""

    commit: str
    tree: Tree
    paths: Mapping[str, Entry]
    parsed: Mapping[str, bytes] = field(default_factory=dict)


class Reader:
    """Reads revisions of one mirror below one path; `limit` is the largest file in bytes."""

    def __init__(self, mirror: Mirror, path: str, limit: int) -> None:
        self._mirror = mirror
        self._path = "" if path in (".", "") else path.strip("/")
        self._limit = limit

    async def read(
        self, commit: str, before: Desired | None, cache: Cache, in_force: Mapping[str, Mapping[str, Any]]
    ) -> Desired:
        """The desired state at `commit`."""
        changed, paths = await self._changes(commit, before)
        tree = before.tree if before is not None else Tree.empty()
        specs = {path: entry for path, entry in changed.items() if is_spec(path)}
        files, parsed = await self._parse(specs, cache)
        texts = await self._texts(tree, files, changed, paths)
        tree = await _in_thread(len(files), tree.update, files, texts, in_force)
        return Desired(commit, tree, paths, parsed)

    async def overlay(
        self,
        desired: Desired,
        contents: Mapping[str, bytes | None],
        in_force: Mapping[str, Mapping[str, Any]],
    ) -> Tree:
        """The tree as it would be with these specification files (None: removed) on top of a commit."""
        files = {
            path: None
            if data is None
            else parse_file(data)
            if len(data) <= self._limit
            else opaque_file(
                f"would be {len(data):,} bytes large; a specification file may have {self._limit:,}"
            )
            for path, data in contents.items()
        }
        texts = await self._texts(desired.tree, files, {}, desired.paths)
        return await asyncio.to_thread(desired.tree.update, files, texts, in_force)

    async def _changes(
        self, commit: str, before: Desired | None
    ) -> tuple[dict[str, Entry | None], dict[str, Entry]]:
        """Changed paths (None: removed), and all there are."""
        if before is not None:
            try:
                changes = await self._mirror.diff(before.commit, commit, self._path)
            except UnknownCommit:  # history was rewritten and collected: look at everything
                entries = {entry.path: entry for entry in await self._mirror.entries(commit, self._path)}
                gone: dict[str, Entry | None] = {path: None for path in before.paths if path not in entries}
                return gone | entries, entries
            paths = dict(before.paths)
            found: dict[str, Entry | None] = {}
            for change in changes:
                found[change.path] = change.new
                if change.new is None:
                    paths.pop(change.path, None)
                else:
                    paths[change.path] = change.new
            return found, paths
        entries = {entry.path: entry for entry in await self._mirror.entries(commit, self._path)}
        return dict(entries), entries

    async def _parse(
        self, specs: Mapping[str, Entry | None], cache: Cache
    ) -> tuple[dict[str, ParsedFile | None], dict[str, bytes]]:
        files: dict[str, ParsedFile | None] = {}
        wanted: dict[str, str] = {}
        for path, entry in specs.items():
            refusal = None if entry is None else refused(entry, self._limit)
            if entry is None:
                files[path] = None
            elif refusal is not None:
                files[path] = opaque_file(refusal)
            else:
                wanted[path] = entry.blob
        blobs = sorted(set(wanted.values()))
        known = await cache(blobs)
        unread = [blob for blob in blobs if blob not in known]
        texts = await self._mirror.read(unread, self._limit)
        parsed_files, fresh = await _in_thread(len(blobs), _load, blobs, known, texts, self._limit)
        files.update((path, parsed_files[blob]) for path, blob in wanted.items())
        return files, fresh

    async def _texts(
        self,
        tree: Tree,
        files: Mapping[str, ParsedFile | None],
        changed: Mapping[str, Entry | None],
        paths: Mapping[str, Entry],
    ) -> dict[str, str | None]:
        """Texts of `run_file` that changed, or that changed files name."""
        users = {path for declared in tree.declared.values() for path in declared.files} & changed.keys()
        wanted = sorted(tree.wanted_texts(files) | users)
        blobs = {
            path: paths[path].blob
            for path in wanted
            if path in paths and refused(paths[path], self._limit) is None
        }
        contents = await self._mirror.read(sorted(set(blobs.values())), self._limit)
        return {path: _decode(contents.get(blobs.get(path, ""))) for path in wanted}


def is_spec(path: str) -> bool:
    """A YAML file, none of whose path begins with a dot (design 14.12)."""
    pure = PurePosixPath(path)
    return pure.suffix in (".yaml", ".yml") and not any(part.startswith(".") for part in pure.parts)


def refused(entry: Entry, limit: int) -> str | None:
    """Why a file of the tree cannot be read as a spec."""
    if entry.mode == _LINK:
        return "is a symbolic link; specs are read from plain files only, put the file itself here"
    if entry.mode == _SUBMODULE:
        return "is a submodule; specs are read from this repository only"
    if entry.size is not None and entry.size > limit:
        return f"is {entry.size:,} bytes large; a specification file may have {limit:,}; split it"
    return None


def from_texts(files: Mapping[str, bytes], limit: int) -> Desired:
    """Desired state of files that are in no repository (`plan --path`, `validate`)."""
    parsed: dict[str, ParsedFile | None] = {
        path: parse_file(data) if len(data) <= limit else opaque_file(f"is larger than {limit:,} bytes")
        for path, data in files.items()
        if is_spec(path)
    }
    tree = Tree.empty()
    texts = {path: _decode(files.get(path)) for path in tree.wanted_texts(parsed)}
    return Desired("", tree.update(parsed, texts, {}), {})


def _load(
    blobs: Iterable[str], known: Mapping[str, bytes], texts: Mapping[str, bytes], limit: int
) -> tuple[dict[str, ParsedFile], dict[str, bytes]]:
    files: dict[str, ParsedFile] = {}
    fresh: dict[str, bytes] = {}
    for blob in blobs:
        if blob in known:
            files[blob] = ParsedFile.from_json(known[blob])
        elif blob in texts:
            fresh[blob] = parse_file(texts[blob]).to_json()
            files[blob] = ParsedFile.from_json(
                fresh[blob]
            )  # the form of the cache takes a third of the memory
        else:
            files[blob] = opaque_file(
                f"is larger than {limit:,} bytes, or is missing from the repository; split it"
            )
    return files, fresh


def _decode(data: bytes | None) -> str | None:
    """A text; bytes that are none (a logo's) stand in it as lone surrogates."""
    return None if data is None else data.decode(errors="surrogateescape")


async def _in_thread(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Much work goes to a thread, so that nobody waits for it; little is done at once."""
    if size < 20:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
