"""Writes the pages that are made from the code: `python -m api.docs.reference`, which `make docs` runs.

Every kind from its model, the settings from theirs, the command line from its verbs. The pages are committed; a test
holds that they are current. Never imported by the daemon.
"""

from __future__ import annotations

from api.docs.contents import FOLDER, kind_page
from api.docs.reference_cli import cli_page
from api.docs.reference_kinds import kind_text, kinds_text
from api.docs.reference_settings import settings_page
from specs.kinds import KINDS


def generated() -> dict[str, str]:
    """File name → text of every page that is made."""
    made = {f"{kind_page(kind)}.md": kind_text(kind) for kind in KINDS}
    return made | {"kinds.md": kinds_text(), "cli.md": cli_page(), "settings.md": settings_page()}


def write() -> None:
    """Put them beside the other pages; pages of kinds that are no more are removed."""
    made = generated()
    for path in FOLDER.glob("reference-*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
