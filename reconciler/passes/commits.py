"""What commits of the spec repository say of themselves: who made them, why, and what they have renamed.

Read by the pass that applies a revision, for what keeps histories of its own. Trailers are those that API writes put
into their commits; whoever may push may write the same. Never looks at a file.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from reconciler.controllers.rights import ADMINISTRATOR
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.model.told import Told as Told
from reconciler.source.values import CommitFacts

RENAMED = "Steersman-Renamed"
COMMENT = "Steersman-Comment"

_ACTOR = "Steersman-Actor"
_MOST = 1_000
_TRAILER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]*): ?(?P<value>.*)", re.ASCII)
_ARROW = " -> "
_ESCAPED = re.compile(r"[%>\x00-\x1f\x7f]")
_KINDS = {"user": "User", "serviceaccount": "ServiceAccount"}
_USERS = frozenset({"User"})


def renaming(old: str, new: str) -> tuple[str, str]:
    """The trailer that says that one thing is another one's successor: a KEY, or `schedule RELEASE<tab>SLA`."""
    return RENAMED, _ARROW.join(_escaped(each) for each in (old, new))


def commenting(comment: str) -> tuple[str, str]:
    """The trailer that keeps what a caller says of a write."""
    return COMMENT, _escaped(comment)


async def told(installation: Installation, after: str | None, upto: str) -> tuple[Told, ...]:
    """What the commits say that lead to one and not to the other, oldest first; of many, the newest 1,000.

    Without a commit to begin after, it is the newest alone: all that was before is no change.
    """
    newest = await installation.source.facts(upto)
    if newest is None or after == upto:
        return ()
    if after is None or newest.parents == (after,):
        return (_told(installation, newest),)
    try:
        known = await installation.source.known([after])
        history = installation.source.history([upto], known, portion=_MOST)
        try:
            commits = [commit.id for commit in await anext(history, [])]
        finally:
            await history.aclose()
    except SteersmanError:  # of a history that is cut off; the newest one is there
        commits = [upto]
    facts = [await installation.source.facts(commit) for commit in reversed(commits)]
    return tuple(_told(installation, each) for each in facts if each is not None)


def _escaped(text: str) -> str:
    """In one line, and without what parts two names."""
    return _ESCAPED.sub(lambda found: quote(found[0], safe=""), _clean(text))


async def authors_of(installation: Installation, commit: str) -> frozenset[str]:
    """All subjects that a commit may be of: by its trailer, and by the addresses of author and committer."""
    try:
        facts = await installation.source.facts(commit)
    except SteersmanError:
        return frozenset()
    if facts is None:
        return frozenset()
    known = (
        _told(installation, facts).subject,
        _by_address(installation, facts.author_email),
        _by_address(installation, facts.committer_email),
    )
    return frozenset(subject for subject in known if subject is not None)


def _told(installation: Installation, facts: CommitFacts) -> Told:
    trailers = _trailers(facts.body)
    values = dict(trailers)
    kind, _, name = values.get(_ACTOR, "").partition(":")
    made = _KINDS.get(kind)
    subject = f"{made}/{name}" if made and name else _by_address(installation, facts.author_email)
    comment = values.get(COMMENT)
    return Told(
        facts.id,
        subject,
        _clean(facts.author_name),
        _clean(facts.author_email),
        _clean(facts.subject),
        None if comment is None else _clean(unquote(comment)),
        tuple(each for each in map(_renamed, (v for n, v in trailers if n == RENAMED)) if each is not None),
        facts.committer_date if made else None,
    )


def _trailers(body: str) -> list[tuple[str, str]]:
    """Of the last paragraph, if it has nothing else."""
    lines = body.strip().split("\n\n")[-1].split("\n")
    found = [_TRAILER.fullmatch(line.strip()) for line in lines]
    return [(each["name"], each["value"]) for each in found if each is not None] if all(found) else []


def _renamed(value: str) -> tuple[str, str] | None:
    old, arrow, new = value.partition(_ARROW)
    return (_clean(unquote(old)), _clean(unquote(new))) if arrow else None


def _by_address(installation: Installation, email: str) -> str | None:
    """The User in force who has this address, if only one has."""
    wanted = email.strip().lower()
    users = installation.snapshot.current.of_kinds(_USERS)
    found = [key for key, user in users.items() if ((user.spec or {}).get("email") or "").lower() == wanted]
    known = [key for key in found if key != ADMINISTRATOR]
    return known[0] if wanted and len(known) == 1 else None


def _clean(text: str) -> str:
    """As it can be stored: without NUL and what is no text."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
