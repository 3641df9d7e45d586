"""The kind Repository (escape-state, section 14), and which repository addresses are allowed at all.

Called by the kinds table and by the daemon before it fetches. Never resolves a name or opens a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag

from specs import references
from specs.configuration_matches import expression_fault
from specs.meta import Key, user_name_fault
from specs.model import Glob, Spec, SpecFault, Text
from specs.references import Reference, SecretName

LONGEST_URL = 2000

_SCP = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!/)[^:\s]\S*")
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
_SCHEMES = ("https", "ssh", "git", "file")
_FORMS = "write https://…, ssh://…, git@host:path, git://… or an absolute path"
_BRANCH_REFUSED = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|\.lock(/|$)|(^|/)\.|^-")


def is_local_url(url: str) -> bool:
    """Whether a repository address means a directory of this machine."""
    return url.startswith(("/", "file://"))


def url_fault(url: str) -> str | None:
    """What is wrong with a repository's address, as a sentence after the field's name, or None."""
    if not url or len(url) > LONGEST_URL:
        return f"must be an address of 1 to {LONGEST_URL} characters; {_FORMS}"
    if any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return "must not hold spaces or control characters"
    if url.startswith("-"):
        return "must not begin with -"
    if _HELPER.match(url):
        return f"must not name a transport helper (…::); {_FORMS}"
    if url.startswith("/"):
        return None
    if "://" in url:
        return _scheme_fault(url)
    if _SCP.fullmatch(url):
        return None
    return f"is not an address that Git can fetch from here; {_FORMS}"


def _scheme_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return f"is not a valid address; {_FORMS}"
    if parts.scheme not in _SCHEMES:
        return f"must not use {parts.scheme}://; {_FORMS}"
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        return "must not hold credentials; consider them leaked, and set them on the server instead"
    if parts.scheme == "file":
        return (
            None
            if not parts.netloc and parts.path.startswith("/")
            else "must name an absolute path: file:///…"
        )
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        return f"must name a host; {_FORMS}"
    return None


def branch_fault(name: str) -> str | None:
    """What is wrong with a branch's name by Git's rules, or None."""
    if not name or len(name) > 250 or _BRANCH_REFUSED.search(name):
        return "must be a branch name that Git allows"
    return None


def _url(url: str) -> str:
    if message := url_fault(url):
        raise ValueError(message)
    return url


def _branch(name: str) -> str:
    if message := branch_fault(name):
        raise ValueError(message)
    return name


def _expression(pattern: str) -> str:
    if message := expression_fault(pattern):
        raise ValueError(message)
    return pattern


def _user(name: str) -> str:
    if message := user_name_fault(name):
        raise ValueError(f"must be the name of a User: {message}")
    return name


# Marks of pydantic's union, which must be no keys that a specification could have.
_ALL_OR_NONE, _SOME = "\x00flag", "\x00expression"


def _form(value: Any) -> str:
    return _SOME if isinstance(value, str) else _ALL_OR_NONE


Url = Annotated[str, AfterValidator(_url)]
Branch = Annotated[str, AfterValidator(_branch)]
Expression = Annotated[str, AfterValidator(_expression)]
UserName = Annotated[str, AfterValidator(_user)]
BranchMatch = Annotated[
    Annotated[bool, Tag(_ALL_OR_NONE)] | Annotated[Expression, Tag(_SOME)], Discriminator(_form)
]


class AttachmentDays(Spec):
    """How many days attachments are kept."""

    trial: int = Field(default=10, gt=0, le=100_000)
    """Those of one trial."""
    tree: int = Field(default=90, gt=0, le=100_000)
    """Those of a tree, which all jobs of the tree share."""


class CiderCi(Spec):
    """What is done with the project configurations in a repository's trees (`cider-ci.yml`)."""

    enabled: bool = True
    """Whether the repository's history is kept, and its configurations make jobs."""
    branch_include_match: BranchMatch = True
    """The branches whose heads trigger jobs: all of them, or a regular expression found in their names."""
    branch_exclude_match: Expression | None = None
    """A regular expression found in the names of those branches that trigger none all the same."""
    max_head_age_seconds: int = Field(default=43_200, gt=0)
    """How old a head may be, by its committer's date, to trigger jobs when its branch has moved."""
    cron: bool = False
    """Whether conditions of the type cron trigger jobs."""
    attachment_days: AttachmentDays = AttachmentDays()
    """How long the attachments of the jobs are kept."""


class Srht(Spec):
    """Manifests of builds.sr.ht in a repository, submitted for each new head of a branch."""

    manifests: Annotated[list[Glob], Field(min_length=1)] = [".build.yml", ".builds/*.yml"]
    """Globs of their paths."""
    submit_as: UserName
    """The User to whom the jobs belong, and whose secrets they may use."""


class Repository(Spec):
    """A code repository of a project."""

    url: Url
    """Where to fetch from: https, ssh (also git@host:path), git, or an absolute local path."""
    branch: Branch | None = Field(default=None)
    """The branch that builds take when they name none; without it, the remote's own default."""
    description: Text = ""
    """What the repository is, in a sentence for people."""
    private_key_ref: SecretName | None = None
    """The name of the Secret that holds the SSH key to fetch with."""
    webhook_secret_ref: SecretName | None = None
    """The name of the Secret that signs the repository's push webhooks; without it, the server's own."""
    fetch_interval_seconds: int = Field(default=60, ge=10)
    """How often it is fetched, where `cider_ci` or `srht` say what is done with new heads."""
    cider_ci: CiderCi | None = None
    """What is done with its project configurations; nothing without it."""
    srht: Srht | None = None
    """What is done with its manifests of builds.sr.ht; nothing without it."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that no field shows by itself."""
    yield from references.twice(("srht", "manifests"), (spec.get("srht") or {}).get("manifests") or [])


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secrets and the User that a Repository names."""
    yield from secrets(spec, key)
    if srht := spec.get("srht"):
        yield Reference(("srht", "submit_as"), (f"User/{srht['submit_as']}",), usable=False)


def secrets(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secrets that a Repository names."""
    for field in ("private_key_ref", "webhook_secret_ref"):
        if spec[field] is not None:
            yield references.secret(key, (field,), spec[field])
