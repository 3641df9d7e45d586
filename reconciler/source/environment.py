"""The environment every Git process gets: no prompts, no hooks, few transports, credentials by host.

Called by `reconciler.source.git`, `.scratch` and `.worktree`. A token reaches Git in a variable that a constant
credential helper prints, bound to one host; it is never in an argument, a URL or a file. The user's own Git
configuration is read (safe.directory, proxies, certificates) but cannot switch hooks, helpers or transports
on; the machine's is not, except for a push on this machine, whose other side is its owner's.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.source.values import Credentials

REMOTE = "https:http:ssh:git"
LOCAL = "file"
NOTHING = "none"  # the name of no transport

_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.logAllRefUpdates": "false",
    "credential.helper": "",
    "protocol.ext.allow": "never",
    "protocol.version": "2",  # lets a checkout ask for any commit, also one that no branch names any more
    "http.followRedirects": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "transfer.credentialsInUrl": "die",
    "i18n.commitEncoding": "UTF-8",
    "push.pushOption": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
}
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n"'
    ' "$STEERSMAN_GIT_USERNAME" "$STEERSMAN_GIT_TOKEN"; :; }; f'
)
# What a daemon started from a Git hook would inherit: each of these would steer Git to another repository.
_INHERITED = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_QUARANTINE_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_SSH",
    "GIT_PROXY_COMMAND",
    "GIT_CEILING_DIRECTORIES",
)


def forget_inherited() -> None:
    """Take Git's repository variables out of this process: gitpython can add variables, not remove them."""
    for name in _INHERITED:
        os.environ.pop(name, None)


def hardened(
    transports: str,
    *,
    git_dir: Path | None = None,
    credentials: Credentials | None = None,
    url: str = "",
    settings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Variables for one repository; `transports` is what may be spoken, `credentials` are for the host of
    `url`, `settings` are further configuration.
    """
    config = _CONFIG | dict(settings or {})
    variables = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": transports,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_SSH_COMMAND": _ssh(credentials),
    }
    if git_dir is not None:
        variables["GIT_DIR"] = str(git_dir)
    if credentials is not None and credentials.token and url.startswith(("https://", "http://")):
        parts = urlsplit(url)
        config[f"credential.{parts.scheme}://{parts.netloc}.helper"] = _HELPER
        variables["STEERSMAN_GIT_USERNAME"] = credentials.username
        variables["STEERSMAN_GIT_TOKEN"] = credentials.token
    return variables | _numbered(config)


def beside_hooks(git_dir: Path) -> dict[str, str]:
    """Variables for a push to a repository of this machine.

    All is said by configuration, which Git keeps from the other side: so its owner's hooks find the
    environment that they find at any push.
    """
    config = _CONFIG | {"protocol.allow": "never", "protocol.file.allow": "always"}
    return {"GIT_DIR": str(git_dir), "GIT_TERMINAL_PROMPT": "0"} | _numbered(config)


def signing(key: Path) -> dict[str, str]:
    """Configuration that signs with the SSH key, whatever the user's own says."""
    return {"gpg.format": "ssh", "user.signingKey": str(key.absolute()), "gpg.ssh.program": "ssh-keygen"}


def _ssh(credentials: Credentials | None) -> str:
    """The ssh command: host keys checked against the user's known_hosts, never a question."""
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
    if credentials is not None and credentials.key_file is not None:
        # Not through a connection that another key has opened.
        words += ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        words += ["-o", "IdentitiesOnly=yes", "-i", str(credentials.key_file.absolute())]
    return shlex.join(words)


def _numbered(config: Mapping[str, str]) -> dict[str, str]:
    """Configuration as variables, which win over every file."""
    variables = {"GIT_CONFIG_COUNT": str(len(config))}
    for number, (key, value) in enumerate(config.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
