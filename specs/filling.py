"""Texts beside the specifications: which a specification names, and their content put where it belongs
(`run_file` into `run`, `inline_file` into `inline`, `logo_file` into `logo`).

Called by the evaluation of a resource. Never reads a file; texts come as an argument. Bytes that are no text
stand in them as lone surrogates.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from specs.kinds import Kind
from specs.layers import Layer, holder
from specs.model import LARGEST_TEXT, SpecFault, Steps
from specs.project import LARGEST_LOGO
from specs.texts import text_path


def text_paths(kind: Kind, spec: Mapping[str, Any], layers: Sequence[Layer]) -> dict[Steps, str]:
    """Where a specification names texts -> their paths; those that leave the source are left out."""
    found: dict[Steps, str] = {}
    for steps, name in kind.texts(spec):
        path = text_path(holder(layers, steps)[0].path, name)
        if path is not None:
            found[steps] = path
    return found


def fill_texts(
    spec: dict[str, Any], kind: Kind, files: Mapping[Steps, str], texts: Mapping[str, str | None]
) -> Iterator[SpecFault]:
    """Puts the texts in, and tells of those that are not there."""
    for steps, name in list(kind.texts(spec)):
        holding: Any = spec
        for step in steps[:-1]:
            holding = holding[step]
        field, read = _INTO[str(steps[-1])]
        if holding.get(field):
            continue
        path = files.get(steps)
        text = None if path is None else texts.get(path)
        if path is None:
            yield steps, f'"{name}" is outside the source; name a file inside it'
            continue
        try:
            holding[field] = read(text)
        except ValueError as fault:
            yield steps, f"{path} {fault}"


def _script(text: str | None) -> str:
    if text is None or not _is_text(text):
        raise ValueError("is missing or cannot be read as text")
    if not text.strip() or "\x00" in text or len(text.encode()) > LARGEST_TEXT:
        raise ValueError("must be a text of 1 byte to 1 MiB")
    return text


def _logo(text: str | None) -> str:
    if text is None:
        raise ValueError("is missing or cannot be read")
    logo = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
    if not logo or len(logo) > LARGEST_LOGO:
        raise ValueError(f"must be an image of 1 byte to {LARGEST_LOGO * 3 // 4 // 1024} KiB")
    return logo


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


_INTO: Mapping[str, tuple[str, Callable[[str | None], str]]] = {
    "run_file": ("run", _script),
    "inline_file": ("inline", _script),
    "logo_file": ("logo", _logo),
}
