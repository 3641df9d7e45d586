"""Puts a trial's secrets where its script finds them, for `execution.command`: sandboxed, in a container, and bare.

Contents go into memory only (`execution.memory`); what comes to the disk is names, links and argument lists.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Stalled
from reconciler.execution.memory import Held, Memory, write
from reconciler.execution.sandbox import HOME, WORKSPACE
from reconciler.execution.secrets import INSIDE, TMP, Opened, SecretError, ssh_config
from reconciler.execution.supervisor import cookie
from reconciler.execution.workspace import Folder

GNUPG = f"{HOME}/.gnupg"


@dataclass(frozen=True, slots=True)
class Placing:
    """The secrets of one claim: `run` is its run folder, `folder` what it works in."""

    opened: Opened
    run: Path
    folder: Folder
    memory: Memory | None

    def prepare(self, home: str = HOME) -> None:
        """What is no secret: the SSH configuration and, in RUN/keys, how PGP keys are imported; `home` is the script's.

        SecretError where the checkout would lead a file elsewhere.
        """
        if self.opened.ssh:
            (self.folder.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
            config = self.folder.home / ".ssh/config"
            config.write_text(ssh_config(home, self.opened.ssh), encoding="utf-8")
            config.chmod(0o600)
        for held in self.opened.files:
            path = self._below(held.place)
            inside = held.place.startswith(f"{WORKSPACE}/")
            if inside and (path.is_symlink() or path.is_dir() or path.parent.resolve() != path.parent):
                raise SecretError(
                    f"{held.key} is to be put at {held.place}, where the checkout has something else"
                )

    def imports(self, files: Sequence[str]) -> None:
        """Argument lists that import PGP keys, one file each."""
        for number, file in enumerate(files):
            path = self.run / "keys" / f"{number:03}"
            path.parent.mkdir(exist_ok=True)
            words = ("gpg", "--batch", "--quiet", "--import", file)
            path.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))

    def by_path(self, files: Sequence[Held]) -> Iterator[tuple[Path, str]]:
        """Files in memory with their place inside."""
        for number, held in enumerate(files):
            yield write(self.in_memory("files"), str(number), held.content, held.mode), held.place

    def by_link(self, files: Sequence[Held]) -> dict[str, str]:
        """For a bare script: links to the same, and the variable that names a keyring in memory."""
        for path, place in self.by_path(files):
            link = self._below(place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        if not self.opened.pgp:
            return {}
        self.imports([str(self._below(place)) for place in self.opened.pgp])
        # not ~/.gnupg: the agent's socket in it would have too long a path
        return {"GNUPGHOME": str(self.in_memory("gnupg"))}

    def in_memory(self, name: str) -> Path:
        """A folder in memory, gone with the run."""
        if self.memory is None:
            raise Stalled("NoMemoryFiles", "there is no place in memory for secrets")
        place = self.memory.folder(cookie(self.run)) / name
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def _below(self, place: str) -> Path:
        """The host's path of a place inside."""
        folder, run = self.folder, self.run
        places: Mapping[str, Path] = {
            HOME: folder.home,
            TMP: folder.tmp,
            WORKSPACE: folder.workspace,
            INSIDE: run,
        }
        inside = next(each for each in places if place.startswith(f"{each}/"))
        return places[inside].resolve() / place.removeprefix(f"{inside}/")


def passwd(root: Path) -> Iterator[Held]:
    """/etc/passwd with the script's home: where ssh looks for its configuration and keys, whatever HOME is."""
    path = root / "etc/passwd"
    if not path.is_file() or path.is_symlink():
        return
    lines, own = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), str(os.geteuid())
    users = [line.split(":") for line in lines]
    if not any(len(user) == 7 and user[2] == own for user in users):
        users.append(["steersman", "x", own, str(os.getegid()), "", HOME, "/bin/sh"])
    told = (
        ":".join([*user[:5], HOME, user[6]] if len(user) == 7 and user[2] == own else user) for user in users
    )
    content = "".join(f"{line}\n" for line in told).encode("utf-8", "surrogateescape")
    yield Held("/etc/passwd", 0o644, content)
