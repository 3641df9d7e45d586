"""The manifest that a push submits: as it stands in the repository, but with the pushed commit in its sources, as the
Git service of builds.sr.ht has it.

Called for each manifest of a new head. Knows no URL: which of the sources is the repository is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from specs.manifest import BadManifest, Manifest, document, parse
from specs.manifest_work import source

SUBMITTER = "git.sr.ht"
"""Scripts that ask who has submitted them know this name for pushes."""


def pushed(manifest: Manifest, is_repository: Callable[[str], bool], commit: str, ref: str) -> Manifest:
    """The manifest for one commit: sources with the repository's URL name it, and the environment tells `ref`.

    What the manifest sets itself stays. The text is written anew, without its comments.
    """
    sources = tuple(_at(text, commit) if _is(text, is_repository) else text for text in manifest.sources)
    environment = {"BUILD_SUBMITTER": SUBMITTER, "GIT_REF": ref, **manifest.environment}
    wanted = replace(manifest, sources=sources, environment=environment)
    values = document(manifest.text)
    values["environment"] = {**environment, **(values.get("environment") or {})}
    if sources:
        values["sources"] = list(sources)
    text = _written(values)
    return replace(wanted, text=text) if _reads_as(text, wanted) else wanted


def _is(text: str, is_repository: Callable[[str], bool]) -> bool:
    found = source(text)
    return found.scm == "git" and is_repository(found.url) and text.count("#") <= 1


def _at(text: str, commit: str) -> str:
    return f"{text.partition('#')[0]}#{commit}"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as people write them; nothing is named twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _written(values: Mapping[str, Any]) -> str:
    text: str = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _reads_as(text: str, wanted: Manifest) -> bool:
    """Whether a text means the same; what cannot be written so that it does is left as it stands."""
    try:
        return replace(parse(text), text="") == replace(wanted, text="")
    except BadManifest:
        return False
