"""Values written as YAML the way people write specifications: what needs no quotes has none, scripts stand
in block scalars, short lists of plain values and nothing else in flow style.

Called by what edits texts. What is written reads back the same under the YAML 1.2 core schema, and means
nothing else to readers of YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specs.scalars import BadScalar, resolve

_LONGEST_FLOW = 80

# Words that are no texts to some reader of YAML 1.1.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"})
_FIRST_SIGNS = "_/$(.~"
_UNPRINTABLE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_BREAKING = re.compile(r":(?=\s|$)|\s#|[\t\n]")
_BREAKING_FLOW = re.compile(r"[:,\[\]{}]")
_ESCAPED = re.compile(rf'["\\\t\n]|{_UNPRINTABLE.pattern}')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is indented, a mapping in a mapping and the dashes of a list in one; its line end; and whether
    texts of several lines may be block scalars.
    """

    step: int = 2
    dash: int = 2
    line_break: str = "\n"
    scripts: bool = True


Parts = tuple[str, list[str]]
"""What stands behind a key or a dash, and the lines below, indented from the column of the key or dash."""


def parts(value: Any, layout: Layout, *, item: bool = False, style: str = "") -> Parts:
    """A value as it is written behind a key, or as an item behind a dash; `style` is what stood there."""
    if isinstance(value, Mapping) and value:
        lines = [line for key, inner in value.items() for line in entry_lines(key, inner, layout)]
        return (lines[0], _indented(lines[1:], 2)) if item else ("", _indented(lines, layout.step))
    if isinstance(value, list) and value and not _is_short(value):
        lines = [line for inner in value for line in item_lines(inner, layout)]
        return (lines[0], _indented(lines[1:], 2)) if item else ("", _indented(lines, layout.dash))
    if isinstance(value, str) and (written := literal(value, layout, style)):
        return written[0], _indented(written[1], layout.step)
    return flow(value, style=style, inside=False), []


def entry_lines(key: str, value: Any, layout: Layout) -> list[str]:
    """An entry of a mapping in block style."""
    head, body = parts(value, layout)
    return [f"{text(key)}: {head}" if head else f"{text(key)}:", *body]


def item_lines(value: Any, layout: Layout, *, in_flow: bool = False) -> list[str]:
    """An item of a list in block style; itself in flow style where that is asked for and short."""
    if in_flow and _has_no_script(value):
        written = flow(value)
        if len(written) <= _LONGEST_FLOW:
            return [f"- {written}"]
    head, body = parts(value, layout, item=True)
    return [f"- {head}", *body]


def document_lines(document: Mapping[str, Any], layout: Layout) -> list[str]:
    """A whole document."""
    return [line for key, value in document.items() for line in entry_lines(key, value, layout)] or ["{}"]


def flow(value: Any, *, style: str = "", inside: bool = True) -> str:
    """A value in one line; `inside` a collection in flow style, or behind a key in block style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(k, inside=True)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str):
        return text(value, style=style, inside=inside)
    if isinstance(value, float):
        written = repr(value)
        return written if "." in written else written.replace("e", ".0e")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def text(value: str, *, style: str = "", inside: bool = False) -> str:
    """A text in one line, quoted as before (`style`) or only where it must be."""
    plain = style not in ("'", '"') and _needs_no_quotes(value, inside=inside)
    if plain:
        return value
    fits_single = "\n" not in value and "\t" not in value and not _UNPRINTABLE.search(value)
    awkward_in_double = ('"' in value or "\\" in value) and "'" not in value
    if fits_single and (style == "'" or (style != '"' and awkward_in_double)):
        return "'" + value.replace("'", "''") + "'"
    return '"' + _ESCAPED.sub(_escape, value) + '"'


def literal(value: str, layout: Layout, style: str = "") -> Parts | None:
    """The header of a block scalar and its lines without indentation; None where it is not the way to write
    this text. One line becomes a block scalar only where one stood before, and line ends at the end are kept
    (`|+`) only where they were: else blank lines below would become part of the text.
    """
    content = value.rstrip("\n")
    ends = len(value) - len(content)
    if (
        not layout.scripts
        or _UNPRINTABLE.search(value)
        or not value.strip()
        or (ends > 1 and style[1:] != "+")
    ):
        return None
    if style[:1] not in ("|", ">") and ("\n" not in value or (style == '"' and "\n" not in content)):
        return None
    lines = content.split("\n")
    first = next(line for line in lines if line)
    indent = str(layout.step) if first[0] in " \t" else ""
    keep = "-" if not ends else "" if ends == 1 else "+"
    return f"|{indent}{keep}", lines + [""] * (ends - 1)


def _needs_no_quotes(value: str, *, inside: bool) -> bool:
    if not value or not (value[0].isalpha() or value[0] in _FIRST_SIGNS) or value.strip() != value:
        return False
    if value.lower() in _WORDS or value.startswith("..") or (value[0] == "." and value[1:2].isdigit()):
        return False
    if _BREAKING.search(value) or _UNPRINTABLE.search(value) or (inside and _BREAKING_FLOW.search(value)):
        return False
    try:
        return resolve(value) == value
    except BadScalar:
        return False


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_short(value: list[Any]) -> bool:
    plain = not any(isinstance(item, (Mapping, list)) for item in value)
    return plain and _has_no_script(value) and len(flow(value)) <= _LONGEST_FLOW


def _has_no_script(value: Any) -> bool:
    """Whether no text in a value has several lines."""
    if isinstance(value, Mapping):
        return all(map(_has_no_script, value.values()))
    if isinstance(value, list):
        return all(map(_has_no_script, value))
    return not isinstance(value, str) or "\n" not in value


def _indented(lines: list[str], width: int) -> list[str]:
    return [f"{' ' * width}{line}" if line else "" for line in lines]
