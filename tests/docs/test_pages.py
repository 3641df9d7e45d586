"""The pages hold: links lead somewhere, specifications are valid, commands parse, what is made is current."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from api.cli import app
from api.docs import Page, UnknownPage, pages, render
from api.docs.contents import FOLDER
from api.docs.reference import generated
from api.docs.rendering import to_html
from specs.kinds import KINDS

REGENERATE = "run `make docs` and look at the difference"
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = FOLDER.parents[1]
LINK = re.compile(r'(?:href|src)="([^"]*)"')
ALL = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
SEPARATORS = frozenset({"&&", "||", "|", ";", "&", ">", "<", ">>", "(", ")"})


def text_of(page: Page) -> str:
    return page.path.read_text(encoding="utf-8")


def test_every_file_is_a_page_and_every_page_a_file() -> None:
    assert sorted(page.path for page in pages()) == sorted(FOLDER.glob("*.md"))
    assert len({page.name for page in pages()}) == len(pages())
    sections = [page.section for page in pages()]
    assert sections == sorted(sections, key=sections.index)


@ALL
def test_a_page_has_a_title_and_headings_of_their_own(page: Page) -> None:
    shown = render(page.name)

    assert shown.title == page.title
    assert shown.html.startswith('<h1 id="')
    assert len({each.id for each in shown.headings}) == len(shown.headings)
    for each in shown.headings:
        assert f'<h{each.level} id="{each.id}">' in shown.html


@ALL
def test_links_lead_somewhere(page: Page) -> None:
    known = {each.name: render(each.name) for each in pages()}
    own = {each.id for each in render(page.name).headings}
    for target in LINK.findall(render(page.name).html):
        place, _, part = target.partition("#")
        if target.startswith("http"):
            continue
        name = place.removeprefix("/ui/docs/")
        assert not place or (place.startswith("/ui/docs/") and name in known), target
        assert not part or part in ({each.id for each in known[name].headings} if place else own), target


@ALL
def test_specifications_are_valid(page: Page, tmp_path: Path) -> None:
    """All of a page together, since its parts name each other."""
    blocks = BLOCK.finditer(text_of(page))
    found = [block["text"] for block in blocks if re.fullmatch(r"yaml( file=.*)?", block["info"])]
    if page.name.startswith("reference-"):
        assert len(found) == 1
    for number, text in enumerate(found):
        (tmp_path / f"block-{number}.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", str(tmp_path), "--format", "json"], catch_exceptions=False)

    faults = [each for each in re.findall(r'"message": "(.*)"', result.stdout) if not _of_others(page, each)]
    assert faults == []


def _of_others(page: Page, fault: str) -> bool:
    """Is it about things that an example, alone on its page, names and does not bring along?"""
    return page.name.startswith("reference-") and bool(
        re.search(r"(is not|nor \S+ is) declared|there is no |is missing or", fault)
    )


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `steersman …` in shell blocks."""
    for block in BLOCK.finditer(text):
        if block["info"].split(" ")[0] != "sh":
            continue
        for line in block["text"].replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(lexer)
            for at, word in enumerate(words):
                if word == "steersman" and (at == 0 or words[at - 1] in SEPARATORS or "=" in words[at - 1]):
                    end = next((i for i in range(at, len(words)) if words[i] in SEPARATORS), len(words))
                    yield words[at + 1 : end]


@ALL
def test_commands_parse(page: Page) -> None:
    for words in commands(text_of(page)):
        parse(words)


@ALL
def test_verbs_in_the_text_exist(page: Page) -> None:
    """Also where only a part of a command is shown."""
    known = get_command(app).commands  # type: ignore[attr-defined]
    for shown in re.findall(r"`steersman ([a-z]+)(?: ([a-z-]+))?[^`]*`", BLOCK.sub("", text_of(page))):
        assert shown[0] in known, shown
        inner = getattr(known[shown[0]], "commands", None)
        assert inner is None or not shown[1] or shown[1] in inner, shown


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, without carrying it out."""
    command = get_command(app)
    rest = words
    while hasattr(command, "commands"):
        assert rest, words
        if rest[0].startswith("--"):
            assert rest[0] in {option for each in command.params for option in each.opts}, words
            return
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context("steersman", list(rest))


READMES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_readmes_lead_somewhere_and_their_commands_parse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    indented = "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    steersman "))
    found = list(commands(f"```sh\n{indented}```\n"))
    for words in found:
        parse(words)
    assert found or "make demo" in text
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (path.parent / target).exists(), target


def test_a_wrong_command_does_not_parse() -> None:
    for words in (["stat"], ["status", "--nothing"], ["logs", "x"], ["secret", "sea"]):
        with pytest.raises(Exception):  # noqa: B017
            parse(words)


@pytest.mark.parametrize("name", sorted(generated()))
def test_what_is_made_is_current(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == generated()[name], REGENERATE


def test_every_kind_has_a_page_with_all_its_fields() -> None:
    for kind, row in KINDS.items():
        text = (FOLDER / f"reference-{kind.lower()}.md").read_text(encoding="utf-8")
        for name, field in row.model.model_json_schema().get("properties", {}).items():
            assert f"| `{name}` |" in text, (kind, name)
            assert field.get("description"), f"{kind}.{name} has no docstring"


def test_html_in_markdown_is_text() -> None:
    shown = to_html("# A\n\n<script>alert(1)</script> [x](javascript:alert(1)) [y](other.md#part)\n")

    assert "<script>" not in shown.html
    assert 'href="javascript' not in shown.html
    assert 'href="/ui/docs/other#part"' in shown.html


def test_the_same_heading_twice_has_two_names() -> None:
    assert [each.id for each in to_html("# T\n\n## A b\n\n## A b\n").headings] == ["a-b", "a-b-1"]


def test_code_and_tables_are_marked_up() -> None:
    shown = to_html("# T\n\n```yaml fragment\na: 1\n```\n\n| a |\n| --- |\n| 1 |\n")

    assert '<code class="language-yaml">' in shown.html
    assert "<table>" in shown.html


def test_an_unknown_page_is_told() -> None:
    for name in ("nothing", "../../README", "index.md", ""):
        with pytest.raises(UnknownPage):
            render(name)
