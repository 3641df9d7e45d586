"""Which URLs, branch names and paths may reach Git, and how URLs are compared.

Called by `reconciler.source.git`, `.commit`, `.mirrors` and `.webhook` before anything of a user's becomes an argument.
Pure but for `git_dir_of`, which reads `.git` files; never runs Git.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.errors import Refused, Stalled

_REMOTE_SCHEMES = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<path>.*)")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+")
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
_UNSEEN = re.compile(
    "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"
)  # what some file systems leave out of names
_UNSHOWN = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_GIT = re.compile(r"(?:\.git|git~1)[. ]*", re.IGNORECASE)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_object_id(text: str) -> bool:
    """Whether the text is a full object id, of SHA-1 or SHA-256."""
    return _OBJECT_ID.fullmatch(text) is not None


def check_branch(name: str) -> str:
    """The name, when Git's rules for branches and tags allow it (git-check-ref-format); otherwise Stalled."""
    bad = (
        not name
        or name == "@"
        or name.startswith(("-", ".", "/"))
        or name.endswith((".", "/"))
        or len(name.encode("utf-8", "surrogateescape")) > 250
        or any("\ud800" <= char <= "\udfff" for char in name)
        or _REF_FORBIDDEN.search(name) is not None
    )
    if bad:
        raise Stalled("BadRef", f"{name[:100]!r} is not a name that Git allows for a branch or a tag")
    return name


def check_path(path: str) -> str:
    """A path inside a tree, without slashes at its ends; "" is the root. Leaving the tree is Stalled."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\n" in path or "\0" in path:
        raise Stalled("BadPath", f"{path[:100]!r} is not a path inside the repository")
    return "/".join(parts)


def check_file(path: str) -> str:
    """The path of a file that may be written into a tree, from its root and exactly as given; else Refused.

    Nothing that a checkout could take for Git's own directory on any file system, and only text that can be
    shown.
    """
    names = path.split("/")
    bad = (
        any(name in ("", ".", "..") or len(name.encode("utf-8", "replace")) > 255 for name in names)
        or len(path) > 4000
        or _UNSHOWN.search(path) is not None
        or any(_is_git(name) for name in re.split(r"[/\\]", path))
    )
    if bad:
        raise Refused("BadPath", f"{path[:100]!r} is not a path that a file of the repository may have")
    return path


def _is_git(name: str) -> bool:
    """Whether some file system would take the name for `.git`."""
    return _GIT.fullmatch(_UNSEEN.sub("", name).split(":")[0]) is not None


def check_url(url: str) -> str:
    """The URL as Git shall get it: https, http, ssh, git, `host:path`, or an absolute local path; else
    Stalled.
    """
    shown = redact(url)[:200]
    if not url or url.startswith("-") or re.search(r"[\x00-\x20\x7f]", url) or _HELPER.match(url):
        raise Stalled("GitRefused", f"{shown!r} is not a repository URL that may be used")
    local = local_path(url)
    if local is not None:
        return str(local.absolute())
    if (scp := _SCP.fullmatch(url)) and not _SCHEME.match(url):
        host, secret = scp["host"], False
    else:
        host, secret = _split_remote(url, shown)
    if secret:
        raise Stalled("GitRefused", f"{shown!r} carries a credential; set credentials for its host instead")
    if not _HOST.fullmatch(host.strip("[]")):
        raise Stalled("GitRefused", f"{shown!r} names no host that may be used")
    return url


def _split_remote(url: str, shown: str) -> tuple[str, bool]:
    """Host of a URL with a scheme, and whether it carries a credential."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Stalled("GitRefused", f"{shown!r} is not a repository URL: {error}") from error
    if parts.scheme not in _REMOTE_SCHEMES:
        raise Stalled(
            "GitRefused", f"{shown!r} uses a transport that is not allowed (https, ssh, http, git, a path)"
        )
    return host, parts.password is not None or (parts.scheme != "ssh" and parts.username is not None)


def local_path(url: str) -> Path | None:
    """The path of a repository on this machine ("/abs", "relative", "file:///…"), None for any other URL."""
    if url.lower().startswith("file://"):
        path = url[7:].removeprefix("localhost")
        return Path(unquote(path)) if path.startswith("/") else None
    if not url or url.startswith("-") or _SCHEME.match(url) or _HELPER.match(url):
        return None
    if ":" in url.split("/", 1)[0]:
        return None
    return Path(url)


def git_dir_of(path: Path) -> Path | None:
    """The Git directory of a bare repository, a work tree, a linked work tree or a `.git`; None when it is
    none.
    """
    for candidate in (path / ".git", path):
        if candidate.is_file():
            candidate = _linked(candidate) or candidate
        if (candidate / "HEAD").is_file() and ((candidate / "objects").is_dir() or _common(candidate)):
            return candidate.resolve()
    return None


def common_dir_of(git_dir: Path) -> Path:
    """Where a Git directory keeps its refs: itself, or for a linked work tree that of the main one."""
    return (_common(git_dir) or git_dir).resolve()


def _linked(file: Path) -> Path | None:
    """What a `.git` file points at."""
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return file.parent / text[8:].strip() if text.startswith("gitdir: ") else None


def _common(git_dir: Path) -> Path | None:
    try:
        text = (git_dir / "commondir").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return git_dir / text.strip()


def host_of(url: str) -> str:
    """The host of a remote URL in lower case, "" for a local one; credentials are set by it."""
    if local_path(url) is not None:
        return ""
    if _SCHEME.match(url):
        return (urlsplit(url).hostname or "").lower()
    scp = _SCP.fullmatch(url)
    return scp["host"].strip("[]").lower() if scp else ""


def normalise_url(url: str) -> str:
    """A URL for comparing: `host/path`, without scheme, user, default port, `.git` and trailing slashes."""
    url = url.strip()
    local = local_path(url)
    if local is not None:
        return _trim(str(local))
    if not _SCHEME.match(url):
        scp = _SCP.fullmatch(url)
        return _trim(f"{scp['host'].lower()}/{scp['path'].lstrip('/')}") if scp else _trim(url)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return _trim(url)
    shown = "" if port in (None, _REMOTE_SCHEMES.get(parts.scheme.lower())) else f":{port}"
    return _trim(f"{host}{shown}/{parts.path.lstrip('/')}")


def _trim(text: str) -> str:
    return text.rstrip("/").removesuffix(".git").rstrip("/")


def redact(text: str, *secrets: str | None) -> str:
    """The text without the given secrets and without the user part of any URL in it."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)
