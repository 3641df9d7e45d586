"""Pages as HTML: headings that can be linked to, links between pages as the daemon serves them.

Called by the route of the documentation. HTML inside Markdown is shown as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from api.docs.contents import pages

PREFIX = "/ui/docs/"
_PAGE = re.compile(r"(?P<name>[a-z0-9-]+)\.md(?P<part>#.*)?")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading below the title: `level` 2 to 6, the `id` to link to, and its plain `text`."""

    level: int
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page: its `title` (plain text), its whole `html` with the title as `h1`, its `headings` in order."""

    title: str
    html: str
    headings: Sequence[Heading]


class UnknownPage(Exception):
    """There is no page of that name."""


@cache
def _paths() -> dict[str, Path]:
    return {page.name: page.path for page in pages()}


def render(name: str) -> Rendered:
    """The page of a name (`first-pipeline`); UnknownPage if there is none. Read once, then kept."""
    if name not in _paths():
        raise UnknownPage(f"there is no page {name!r}")
    return _rendered(name)


@cache
def _rendered(name: str) -> Rendered:
    return to_html(_paths()[name].read_text(encoding="utf-8"))


def to_html(text: str) -> Rendered:
    """Any Markdown as a page; its first heading is the title."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    headings = list(_name_headings(tokens))
    for token in _inline(tokens):
        _serve(token)
    title = headings[0].text if headings else ""
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    html = html.replace("<pre>", '<pre tabindex="0">')  # a long line is scrolled by keys, too
    return Rendered(title, html, tuple(each for each in headings if each.level > 1))


def _name_headings(tokens: Sequence[Token]) -> Iterator[Heading]:
    """Give every heading its id, as forges do, so that the same links work there."""
    seen: Counter[str] = Counter()
    for token, inside in pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(each.content for each in inside.children or ())
            plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            name = f"{plain}-{seen[plain]}" if seen[plain] else plain
            seen[plain] += 1
            token.attrSet("id", name)
            yield Heading(int(token.tag[1:]), name, text)


def _inline(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from token.children or ()


def _serve(token: Token) -> None:
    """A link to another page leads to where that is served; an image lies beside the pages."""
    attribute = {"link_open": "href", "image": "src"}.get(token.type)
    if attribute is None:
        return
    target = str(token.attrGet(attribute))
    if found := _PAGE.fullmatch(target):
        token.attrSet(attribute, f"{PREFIX}{found['name']}{found['part'] or ''}")
    elif attribute == "href" and target.startswith("http"):
        token.attrSet("rel", "noopener noreferrer")
