"""The tag of a release in its code repository: made beside the mirror, and pushed (escape-state, 8.4, step 16).

Called by the executions of Builds. The tag is an object of its own (annotated), made in a private repository that
borrows the mirror's objects; the push is a compare-and-swap. Nothing is written to the mirror: its next fetch brings
the tag.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from reconciler.errors import Moved, PushRefused, SteersmanError, Transient
from reconciler.model.job import Checkout
from reconciler.source import parse
from reconciler.source.environment import NOTHING, hardened
from reconciler.source.git import Commands, Mirror
from reconciler.source.mirrors import Mirrors
from reconciler.source.names import check_branch, git_dir_of, is_object_id
from reconciler.source.push import Push, send
from reconciler.source.scratch import Scratch
from reconciler.source.stream import cleaned, stamp, tidy
from reconciler.source.values import Author

_STEERSMAN = Author("Steersman", "steersman@localhost")
_WAITS_SECONDS = (1.0, 4.0)


class TagRefused(PushRefused):
    """The tag is not there and will not be: the message says why, in the other side's words where it has some."""

    def __init__(self, message: str) -> None:
        super().__init__("TagRefused", message)


async def push_tag(
    mirrors: Mirrors,
    checkout: Checkout,
    name: str,
    message: str,
    *,
    force: bool,
    tagger: Author = _STEERSMAN,
) -> None:
    """Have the repository of a checkout call its commit `name`, with a tag of its own. TagRefused.

    The same tag of the same commit is left as it is. One of another commit is refused, or replaced with `force`.
    """
    if checkout.url is None or checkout.commit is None or not is_object_id(checkout.commit):
        raise TagRefused("there is no commit to tag")
    tag = _Tag(name, checkout.commit, message, cleaned(tagger), force)
    for wait in (*_WAITS_SECONDS, None):
        try:
            check_branch(name)
            mirror = await _with_commit(mirrors, checkout, checkout.url, checkout.commit)
            await mirror.beside(partial(_push, mirror, tag))
            return
        except TagRefused:
            raise
        except SteersmanError as error:
            if wait is None or not isinstance(error, Transient):
                raise TagRefused(error.message) from error
            await asyncio.sleep(wait)


@dataclass(frozen=True, slots=True)
class _Tag:
    name: str
    commit: str
    message: str
    tagger: Author
    force: bool

    @property
    def ref(self) -> str:
        return f"refs/tags/{self.name}"

    def content(self) -> bytes:
        """The object, as Git has it."""
        person = f"{self.tagger.name} <{self.tagger.email}> {stamp(datetime.now(UTC))}"
        head = f"object {self.commit}\ntype commit\ntag {self.name}\ntagger {person}\n\n"
        return head.encode("utf-8", "replace") + tidy(self.message)


async def _with_commit(mirrors: Mirrors, checkout: Checkout, url: str, commit: str) -> Mirror:
    """The mirror, with the commit; it is fetched only if that is missing."""
    mirror = await mirrors.get(url, checkout.secret)
    if not await mirror.known([commit]):
        mirror = await mirrors.fetched(url, 0, checkout.secret)
        if not await mirror.known([commit]):
            raise TagRefused(f"{mirror.redacted(url)} does not have the commit {commit} any more")
    return mirror


def _push(mirror: Mirror, tag: _Tag, speaking: Callable[[Path], Commands]) -> None:
    """In a thread: look whether the tag is there, make it, push it."""
    git_dir = git_dir_of(mirror.place)
    if git_dir is None:
        raise Transient("GitUnavailable", f"the mirror {mirror.place} is not there; fetch it again")
    # Always the same for a tag, so that what a killed daemon leaves is removed by who goes on.
    mark = hashlib.sha256(f"{mirror.url}\0{tag.name}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    place = mirror.place.absolute().parent / f"tag-{mark}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        Scratch(place, git_dir, "sha1" if len(tag.commit) == 40 else "sha256")
        commands = speaking(place)
        there, marks = _there(mirror, commands, tag)
        if marks == tag.commit:
            return
        if there is not None and not tag.force:
            raise TagRefused(f"the tag {tag.name} marks another commit already: {marks}")
        made = Commands(place, hardened(NOTHING, git_dir=place)).run("mktag", feed=tag.content())
        try:
            send(mirror, commands, Push(parse.text(made).strip(), tag.name, there, "tags"))
        except Moved as error:  # somebody was faster
            if _there(mirror, commands, tag)[1] != tag.commit:
                raise TagRefused(f"the tag {tag.name} was set to another commit meanwhile") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _there(mirror: Mirror, commands: Commands, tag: _Tag) -> tuple[str | None, str | None]:
    """(the object that the tag is over there, the commit that it marks), None where there is none."""
    peeled = f"{tag.ref}^{{}}"
    output = commands.run(
        "ls-remote", "--", mirror.url, tag.ref, peeled, timeout_seconds=mirror.timeout_seconds
    )
    pairs = (parse.text(line).partition("\t") for line in output.split(b"\n"))
    found = {name: value for value, _, name in pairs}
    there = found.get(tag.ref)
    return there, found.get(peeled, there)
