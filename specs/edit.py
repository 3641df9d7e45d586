"""Specification files changed as a person would: only the lines that a change concerns, everything else byte
for byte (escape-state, 13.2).

Called by what commits API writes. A text is changed in place, read again by the loader's own reader and
compared with what was wanted, types and all; if that differs, the document is written anew and compared
again. Never judges what a document says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from specs.compose import Composed, Unreadable, compose
from specs.edit_changes import Change, Uneditable, applied, difference, same, storable
from specs.edit_documents import above_blank_lines, beginning, extents, with_closed_end
from specs.edit_dump import dumped
from specs.edit_nodes import Node, document_at
from specs.edit_places import Awkward, line_break
from specs.edit_splice import spliced, spliced_apart, spliced_quoted
from specs.edit_text import Layout, document_lines

__all__ = ["Change", "Uneditable", "append", "difference", "edit", "remove"]

_BYTE_ORDER_MARK = "\ufeff"
_SEPARATOR = re.compile(r"---[ \t]*(\r\n|\n|\r|\Z)")
_OPEN_END = re.compile(r"(^|[\r\n])---[ \t\r\n]*\Z")

_Meaning = tuple[Any, tuple[str, ...]]
"""What a document says, and its faults."""


def edit(text: str, line: int, changes: Iterable[Change]) -> str:
    """The text of a file after changes of the document whose root begins at `line` (as `Document.line`).

    Raises Uneditable where that cannot be done.
    """
    mark, body = _without_mark(text)
    documents = _documents(body)
    at = _index(documents, line)
    old = documents[at].value
    if not isinstance(old, dict):
        raise Uneditable(f"the document at line {line} is not a mapping; put that right in the file first")
    new = applied(old, changes)
    if not isinstance(new, dict):
        raise Uneditable(f"the document at line {line} cannot become anything but a mapping")
    if same(old, new):
        return text
    wanted = _meanings(documents)
    wanted[at] = new, ()
    for way, before in _ways(body):
        try:
            after = way(before, document_at(before, line), old, new)
        except Awkward:
            continue
        if _means(after, wanted):
            return mark + after
    raise Uneditable(_why(documents[at]))


def append(text: str | None, document: Mapping[str, Any]) -> str:
    """The text of a file (None: there is none yet) with one more document at its end, keys in their order.

    Raises Uneditable where that cannot be done.
    """
    mark, body = _without_mark(text or "")
    documents = _documents(body)
    new = storable(document)
    layout = Layout(line_break=line_break(body))
    after = with_closed_end(body)
    if body and not body.endswith(("\n", "\r")):
        after += layout.line_break
    if extents(body) and not _OPEN_END.search(body):
        after += "---" + layout.line_break
    after += "".join(line + layout.line_break for line in document_lines(new, layout))
    if not _means(after, [*_meanings(documents), (new, ())]):
        raise Uneditable("nothing can be put at the end of this file; edit it by hand")
    return mark + after


def remove(text: str, line: int) -> str | None:
    """The text of a file without the document whose root begins at `line`, with its comments and its
    separator; None if no other document is left.

    Raises Uneditable where that cannot be done.
    """
    mark, body = _without_mark(text)
    documents = _documents(body)
    at = _index(documents, line)
    if len(documents) == 1:
        return None
    found = extents(body)
    index = next(index for index, extent in enumerate(found) if extent.line == line)
    start, end = beginning(body, found, index), len(body)
    if index + 1 < len(found):
        end = beginning(body, found, index + 1)
        separator = _SEPARATOR.match(body, end)
        if separator and not found[index].explicit:
            end = separator.end()
    else:
        start = above_blank_lines(body, start, found[index - 1].end)
    after = body[:start] + body[end:]
    if not _means(after, _meanings([*documents[:at], *documents[at + 1 :]])):
        raise Uneditable(f"the document at line {line} cannot be taken out by itself; edit the file by hand")
    return mark + after


def _ways(body: str) -> list[tuple[Callable[[str, Node, Any, Any], str], str]]:
    """How a text may be changed, the best way first, and the text to begin with: a missing last line end may
    stand in the way of block scalars.
    """
    befores = [body]
    if not body.endswith(("\n", "\r")):
        closed = with_closed_end(body)
        befores += [closed, closed + line_break(body)]
    return [(way, before) for way in (spliced, spliced_apart, spliced_quoted, dumped) for before in befores]


def _without_mark(text: str) -> tuple[str, str]:
    body = text.removeprefix(_BYTE_ORDER_MARK)
    return text[: len(text) - len(body)], body


def _documents(body: str) -> list[Composed]:
    try:
        return list(compose(body))
    except Unreadable as unreadable:
        fault = unreadable.fault
        raise Uneditable(f"line {fault.line}: {fault.message}; put that right in the file first") from None


def _index(documents: Sequence[Composed], line: int) -> int:
    for at, document in enumerate(documents):
        if document.line == line:
            return at
    raise Uneditable(f"no document begins at line {line}; has the file changed?")


def _meanings(documents: Iterable[Composed]) -> list[_Meaning]:
    return [(each.value, tuple(fault.message for fault in each.faults)) for each in documents]


def _means(text: str, wanted: Sequence[_Meaning]) -> bool:
    """Whether a text has these documents; of faulty ones, these faults."""
    try:
        found = _meanings(compose(text))
    except Unreadable:
        return False
    return len(found) == len(wanted) and all(
        faults == expected_faults and (bool(faults) or same(value, expected))
        for (value, faults), (expected, expected_faults) in zip(found, wanted, strict=True)
    )


def _why(document: Composed) -> str:
    if document.faults:
        fault = document.faults[0]
        return f"line {fault.line}: {fault.message}; put that right in the file first"
    return (
        f"the document at line {document.line} cannot be changed without changing something else in it, by "
        "anchors and aliases, for one; edit the file by hand"
    )
