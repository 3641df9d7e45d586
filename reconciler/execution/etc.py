"""A small copy of /etc for sandboxes: what programs need to run, and nothing that is secret.

Called by `execution.sandbox`. One directory that is bound as a whole, because bubblewrap takes a quarter millisecond
for each single file that it binds, and there are fifty. A copy is never changed once it is in place: another state of
/etc makes another copy. Files that not everybody may read are never copied. It knows nothing of bubblewrap.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.execution import processes

# never: shadow, gshadow, sudoers, ssh, ssl/private, the settings of daemons, crontabs
_NAMES = [
    "alternatives", "bash.bashrc", "bash_completion.d", "ca-certificates", "ca-certificates.conf",
    "crypto-policies", "debian_version", "dpkg/origins", "fonts", "gitconfig", "group", "hosts", "inputrc",
    "java", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "locale.conf", "locale.gen", "localtime", "login.defs", "lsb-release",
    "magic", "magic.mime", "mailcap", "maven", "mime.types", "nanorc", "networks", "nsswitch.conf",
    "os-release", "passwd", "perl", "php", "pip.conf", "pki/ca-trust", "pki/java", "pki/tls/cert.pem",
    "pki/tls/certs", "pki/tls/openssl.cnf", "profile", "profile.d", "protocols", "python3", "python3.10",
    "python3.11", "python3.12", "python3.13", "python3.14", "rpc", "services", "shells", "skel", "ssl/certs",
    "ssl/cert.pem", "ssl/ct_log_list.cnf", "ssl/openssl.cnf", "system-release", "terminfo", "timezone", "vimrc",
    "wgetrc", "xdg", "zsh", "X11/rgb.txt",
]  # fmt: skip
_NETWORK = ("resolv.conf", "gai.conf", "host.conf")
_STALE = 7 * 86_400.0


def copy(directory: Path, *, network: bool) -> Path:
    """Path of an up-to-date copy below `directory`, made when there is none. OSError when it cannot be written."""
    names = [name for name in (*_NAMES, *(_NETWORK if network else ())) if Path("/etc", name).exists()]
    place = directory / _fingerprint(names)
    if place.is_dir():
        os.utime(place)
        return place
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear(directory)
    fresh = Path(tempfile.mkdtemp(dir=directory))
    for name in names:
        _copy(Path("/etc", name), fresh / name)
    fresh.chmod(0o755)
    try:
        fresh.rename(place)
    except OSError:
        # somebody else was faster
        shutil.rmtree(fresh, ignore_errors=True)
        if not place.is_dir():
            raise
    return place


def _fingerprint(names: list[str]) -> str:
    """Digest of what is there now; of this boot, since a power cut may leave a copy's files empty."""
    digest = hashlib.sha256(processes.boot_id().encode())
    for name in names:
        found = Path("/etc", name).stat()
        digest.update(f"{name} {found.st_ino} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _copy(source: Path, target: Path) -> None:
    """Copies a file or directory; a link that is named itself, such as resolv.conf, as what it points to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if not real.is_dir():
        _copy_file(str(real), str(target))
        return
    # what cannot be copied (unreadable, a socket) is left out
    with contextlib.suppress(shutil.Error):
        shutil.copytree(real, target, symlinks=True, ignore=_unreadable, copy_function=_copy_file)


def _copy_file(source: str, target: str) -> str:
    found = Path(source).stat()
    if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH:
        shutil.copyfile(source, target)
        Path(target).chmod(0o755 if found.st_mode & stat.S_IXOTH else 0o644)
    return target


def _unreadable(directory: str, names: list[str]) -> set[str]:
    return set(_private(directory, names))


def _private(directory: str, names: list[str]) -> Iterator[str]:
    """Names of what not everybody may read, seen without following links."""
    for name in names:
        found = Path(directory, name).lstat()
        if not stat.S_ISLNK(found.st_mode) and not found.st_mode & stat.S_IROTH:
            yield name


def _clear(directory: Path) -> None:
    """Removes copies that nothing has used for a week."""
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(path, ignore_errors=True)
