"""Which pages there are, in reading order. Called by who serves them and by who makes some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from specs.kinds import KINDS

FOLDER = Path(__file__).parent


def kind_page(kind: str) -> str:
    """The name of the page about a kind."""
    return f"reference-{kind.lower()}"


SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Start": ("index", "first-pipeline", "concepts", "deploying", "people"),
    "Running it": ("operations", "databases", "workers", "capacity", "settings", "http-api"),
    "Coming from": ("from-buildbot", "from-argo-cd", "from-builds-sr-ht", "from-cider-ci", "from-escape"),
    "Reference": ("cli", "kinds", *map(kind_page, sorted(KINDS))),
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `name` as in its address and file name, its `section`, and its `title`, plain text."""

    name: str
    section: str
    title: str

    @property
    def path(self) -> Path:
        """The Markdown file."""
        return FOLDER / f"{self.name}.md"


@cache
def pages() -> Sequence[Page]:
    """All pages in reading order; those of one section stand together."""
    return tuple(Page(name, section, _title(name)) for section, names in SECTIONS.items() for name in names)


def _title(name: str) -> str:
    first = (FOLDER / f"{name}.md").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").replace("`", "")
