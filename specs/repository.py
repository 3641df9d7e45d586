"""The kind Repository (escape-state, section 14), and which repository addresses are allowed at all.

Called by the kinds table and by the daemon before it fetches. Never resolves a name or opens a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from specs import references
from specs.meta import Key
from specs.model import Spec, Text
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


Url = Annotated[str, AfterValidator(_url)]
Branch = Annotated[str, AfterValidator(_branch)]


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


def secrets(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secrets that a Repository names."""
    for field in ("private_key_ref", "webhook_secret_ref"):
        if spec[field] is not None:
            yield references.secret(key, (field,), spec[field])
