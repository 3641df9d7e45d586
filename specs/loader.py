"""Bytes of one file to documents: decoding, limits, and the envelope (apiVersion, kind, metadata, spec).

Called by the source for every changed blob. Never raises, never reads a file, and never judges a `spec`:
that is the tree's work, so what is cached here does not depend on the kinds there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.compose import Composed, Unreadable, compose
from specs.document import Document, ParsedFile
from specs.errors import Fault
from specs.nearest import did_you_mean

# To be raised whenever the same bytes would parse to something else.
LOADER_VERSION = 2

API_VERSION = "steersman/v1"
LARGEST_FILE = 1024 * 1024

_ENVELOPE = ("apiVersion", "kind", "metadata", "spec")
_SCOPE = ("project", "environment", "team", "owner")
_METADATA = ("name", *_SCOPE, "labels", "annotations")
# A fault at one of these leaves it open which resource is meant.
_IDENTITY = (
    "/apiVersion",
    "/kind",
    "/metadata",
    "/metadata/name",
    *(f"/metadata/{part}" for part in _SCOPE),
)
# Line ends to libyaml, but text in YAML 1.2; their meaning would change with the reader.
_ODD_LINE_ENDS = {"\x85": "U+0085", "\u2028": "U+2028", "\u2029": "U+2029"}


def parse_file(data: bytes) -> ParsedFile:
    """All documents and all faults of one file's bytes."""
    if len(data) > LARGEST_FILE:
        return opaque_file(f"the file has {len(data)} bytes; the limit is {LARGEST_FILE}")
    text = _decode(data)
    if isinstance(text, Fault):
        return ParsedFile((), (text,), opaque=True)
    documents: list[Document] = []
    faults: list[Fault] = []
    try:
        for composed in compose(text):
            document = _document(composed, faults)
            if document is not None:
                documents.append(document)
    except Unreadable as unreadable:
        # Nothing of a file that does not parse is believed: where it breaks, documents end too early.
        return ParsedFile((), (*faults, unreadable.fault), opaque=True)
    return ParsedFile(tuple(documents), tuple(faults), opaque=bool(faults))


def opaque_file(message: str) -> ParsedFile:
    """What stands for a file that could not be read (a link, too large, …)."""
    return ParsedFile((), (Fault(1, 1, message),), opaque=True)


def _decode(data: bytes) -> str | Fault:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data[:4]:
        return Fault(1, 1, "the file is UTF-16 or binary; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _fault_at(data[: error.start].decode("utf-8"), "not UTF-8 here; save the file as UTF-8")
    text = text.removeprefix("\ufeff")
    if "\x00" in text:
        return _fault_at(text[: text.index("\x00")], "a NUL character stands here; is this a text file?")
    for character, name in _ODD_LINE_ENDS.items():
        if character in text:
            return _fault_at(
                text[: text.index(character)],
                f"the line separator {name} stands here; write a plain line end",
            )
    return text


def _fault_at(before: str, message: str) -> Fault:
    return Fault(before.count("\n") + 1, len(before) - before.rfind("\n"), message)


def _document(composed: Composed, unreadable: list[Fault]) -> Document | None:
    """The document, or None after its faults have been added to `unreadable`."""
    envelope = _Envelope(composed)
    fields = envelope.identity()
    if fields is None:
        unreadable.extend(envelope.vital)
        unreadable.extend(envelope.faults)
        return None
    labels, annotations = envelope.texts("labels"), envelope.texts("annotations")
    spec = envelope.spec()
    kind, name, scope = fields
    return Document(
        kind=kind,
        name=name,
        project=scope["project"],
        environment=scope["environment"],
        team=scope["team"],
        owner=scope["owner"],
        labels=labels,
        annotations=annotations,
        spec=spec,
        line=composed.line,
        positions=composed.positions,
        faults=tuple(envelope.faults),
    )


class _Envelope:
    """Reads the envelope of one document; `vital` faults leave its KEY unreadable, `faults` do not."""

    def __init__(self, composed: Composed) -> None:
        self.positions = composed.positions
        self.root = composed.value
        self.vital: list[Fault] = []
        self.faults: list[Fault] = []
        for fault, where in zip(composed.faults, composed.fault_pointers, strict=True):
            (self.vital if where == "" or where in _IDENTITY else self.faults).append(fault)

    def identity(self) -> tuple[str, str, dict[str, str | None]] | None:
        """The kind, the name and the scope; None if one of them cannot be read."""
        if not isinstance(self.root, dict):
            self._vital("", "a document is a mapping with apiVersion, kind, metadata and spec")
            return None
        self._unknown(self.root, "", _ENVELOPE)
        if self.root.get("apiVersion") != API_VERSION:
            self._vital("/apiVersion", f"apiVersion must be {API_VERSION}")
        kind = self._text("/kind", self.root.get("kind"), "kind")
        metadata = self.root.get("metadata")
        if not isinstance(metadata, dict):
            self._vital("/metadata", "metadata must be a mapping with at least a name")
            return None
        self._unknown(metadata, "/metadata", _METADATA)
        name = self._text("/metadata/name", metadata.get("name"), "metadata.name")
        scope = {part: self._scope(metadata, part) for part in _SCOPE}
        if self.vital or kind is None or name is None:
            return None
        return kind, name, scope

    def texts(self, part: str) -> dict[str, str]:
        value = self.root["metadata"].get(part)
        where = f"/metadata/{part}"
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._fault(where, f"metadata.{part} must be a mapping of texts")
            return {}
        for key, text in value.items():
            if not isinstance(text, str):
                self._fault(f"{where}/{key}", f"metadata.{part}.{key} must be a quoted string")
        return {key: text for key, text in value.items() if isinstance(text, str)}

    def spec(self) -> Mapping[str, Any]:
        value = self.root.get("spec")
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self._fault("/spec", "spec must be a mapping")
        return {}

    def _scope(self, metadata: Mapping[str, Any], part: str) -> str | None:
        value = metadata.get(part)
        return None if value is None else self._text(f"/metadata/{part}", value, f"metadata.{part}")

    def _text(self, where: str, value: Any, label: str) -> str | None:
        if isinstance(value, str) and value:
            return value
        said = (
            "is missing"
            if value is None
            else "must be a quoted string"
            if value != ""
            else "must not be empty"
        )
        self._vital(where, f"{label} {said}")
        return None

    def _unknown(self, value: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
        for field in value:
            if field not in known:
                place = self.positions.nearest(f"{where}/{field}", key=True)
                self.faults.append(Fault(*place, f'unknown field "{field}"{did_you_mean(field, known)}'))

    def _vital(self, where: str, message: str) -> None:
        self.vital.append(Fault(*self.positions.nearest(where), message))

    def _fault(self, where: str, message: str) -> None:
        self.faults.append(Fault(*self.positions.nearest(where), message))
