"""Where the documents of a file stand, and which comments belong to each.

Called by specs.edit. The comments directly above a `---`, behind a blank line, belong to the document below;
those on top of a file, before a blank line, to the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from yaml.events import AliasEvent, DocumentStartEvent, ScalarEvent

from specs.edit_events import CLOSING, HEADER, OPENING, end_of, end_of_scalar, events, start_of
from specs.edit_places import before_break, line_start

_FILE_COMMENT = re.compile(r"[ \t]*#[ \t]*yaml-language-server:[^\r\n]*(\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a document stands: its `---` or first character, whether there is a `---`, the end of its last
    leaf, and the line of its root.
    """

    start: int
    explicit: bool
    end: int
    line: int


def extents(text: str) -> list[Extent]:
    """Where the documents of a readable text stand, also empty ones."""
    found: list[Extent] = []
    for event in events(text):
        index, line, _ = start_of(event)
        if isinstance(event, DocumentStartEvent):
            found.append(Extent(index, bool(event.explicit), end_of(event), -1))
        elif found:
            last = found[-1]
            end = last.end
            if isinstance(event, ScalarEvent):
                end = end_of_scalar(text, event)
            elif isinstance(event, (AliasEvent, *CLOSING)):
                # Ends of block collections lie at the next token, behind spaces and comments.
                end = end_of(event) if end_of(event) > index else last.end
            node = isinstance(event, (ScalarEvent, AliasEvent, *OPENING))
            at = line + 1 if last.line < 0 and node else last.line
            found[-1] = Extent(last.start, last.explicit, max(end, last.end), at)
    return found


def with_closed_end(text: str) -> str:
    """The same, with a last line that ends a block scalar but has no line end itself marked as such (`|-`), so
    that more lines can come without changing it.
    """
    if not text or text.endswith(("\n", "\r")):
        return text
    last = None
    for event in events(text):
        last = event if isinstance(event, ScalarEvent) else last
    if last is None or last.style not in ("|", ">") or end_of(last) < len(text):
        return text
    header = HEADER.search(text, start_of(last)[0])
    if header is None:
        return text
    digits = header.group(1).strip("+-")
    return f"{text[: header.start(1)]}{digits}-{text[header.end() :]}"


def beginning(text: str, found: Sequence[Extent], index: int) -> int:
    """Where a document begins with the comments that belong to it, and not to the document above or the
    file.
    """
    start = found[index].start
    if index == 0:
        return start if found[0].explicit else _behind_file_comments(text, start)
    comments, previous = start, found[index - 1].end
    while (above := _line_above(text, comments)) > previous and text[above:comments].lstrip().startswith("#"):
        comments = above
    above = _line_above(text, comments)
    apart = above > previous and text[above:comments].strip() in ("", "...")
    return comments if apart else start


def _behind_file_comments(text: str, end: int) -> int:
    """Where the comments of the first document begin: those before a blank line are the file's."""
    start = 0
    while match := _FILE_COMMENT.match(text, start, end):
        start = match.end()
    place = line_start(text, end)
    while place > start:
        above = _line_above(text, place)
        if not text[above:place].strip():
            return place
        place = above
    return start


def _line_above(text: str, start: int) -> int:
    """Where the line above one that begins at `start` begins; -1 if there is none."""
    return line_start(text, before_break(text, start)) if start else -1


def above_blank_lines(text: str, start: int, previous: int) -> int:
    """The beginning of the blank lines directly above a line, no higher than `previous`."""
    while (above := _line_above(text, start)) > previous and not text[above:start].strip():
        start = above
    return start
