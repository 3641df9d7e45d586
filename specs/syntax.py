"""Syntax errors of YAML, told to people: what libyaml says, where, and what to write instead.

Called by the composer when libyaml gives up. Never decides whether a text is right.
"""

from __future__ import annotations

import re

import yaml

from specs.errors import Fault

QUOTE = "quote it or use |"

# Fields that hold scripts, cron texts and globs: here text with : # * { [ in it is likely to stand unquoted.
_TEXTUAL = (
    "accepted_repositories|attachments|branches|build_on_file_changes"
    "|cron|ignore_file_changes|image|inline|key|paths|ready|reference|run|tags"
)
_NEAR = re.compile(rf"(^|[\s{{,-])({_TEXTUAL})\s*:")

_TAB = "tabs cannot indent; use spaces"
_INDENTED = ("did not find expected key", "did not find expected '-' indicator")
"""What is said of a line that is indented wrongly."""

# What libyaml says -> what it means.
_ADVICE = {
    "mapping values are not allowed in this context": '": " inside unquoted text, or a line indented wrongly',
    "did not find expected key": "the line is indented wrongly, or a quote or bracket is missing",
    "did not find expected '-' indicator": "the items of this list are not indented alike",
    "found character that cannot start any token": "quote text that begins with this; tabs cannot indent",
    "did not find expected alphabetic or numeric character": "quote text that begins with * or &",
    "did not find expected ',' or '}'": "a comma or } is missing",
    "did not find expected ',' or ']'": "a comma or ] is missing",
    "found unexpected end of stream": "a quote is opened and never closed",
    "could not find expected ':'": 'a ":" is missing after this key, or long text is not quoted',
    "did not find expected <document start>": "the document has ended above; is this line indented wrongly?",
    "did not find expected node content": "a value is missing, or text is not quoted",
    "found a tab character that violates indentation": _TAB,
    "found a tab character where an indentation space is expected": _TAB,
    "did not find expected whitespace or line break": "a space is missing, or text is not quoted",
    "found unknown escape character": "an unknown escape in \"…\"; use '…' or double the backslash",
    "block sequence entries are not allowed in this context": 'a list begins on its own line; or quote "- "',
}


def syntax_fault(error: yaml.YAMLError, text: str, key: str | None) -> Fault:
    """The fault that a YAML error tells of; `key` is the field that was being read, if any."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        problem = error.problem or error.context or "cannot be read"
    else:
        line, column = _place(text, getattr(error, "position", 0) or 0)
        problem = str(getattr(error, "reason", "") or "cannot be read")
    before = text.split("\n")[line : line + 1]
    message = _TAB if _is_tab(before, column) else _ADVICE.get(problem, problem)
    if _quoting_helps(problem, message, before, column) and _is_textual(text, line, key):
        message = f"{message}; {QUOTE}"
    return Fault(line + 1, column + 1, f"not valid YAML: {message}")


def _is_tab(lines: list[str], column: int) -> bool:
    """Does a tab stand there, or before it where the line is indented?"""
    return any("\t" in line[: column + 1] and not line[: column + 1].strip() for line in lines)


def _quoting_helps(problem: str, message: str, lines: list[str], column: int) -> bool:
    """Not where it is said already, and not against a line that begins in the wrong column."""
    if message == _TAB or QUOTE in message:
        return False
    begins = any(not line[:column].strip(" ") for line in lines)
    return not (begins and problem in _INDENTED)


def _place(text: str, position: int) -> tuple[int, int]:
    before = text.encode("utf-8", "replace")[:position].decode("utf-8", "ignore")
    return before.count("\n"), len(before) - (before.rfind("\n") + 1)


def _is_textual(text: str, line: int, key: str | None) -> bool:
    if key is not None and re.fullmatch(_TEXTUAL, key):
        return True
    lines = text.split("\n")
    return any(_NEAR.search(candidate) for candidate in lines[max(0, line - 1) : line + 1])
