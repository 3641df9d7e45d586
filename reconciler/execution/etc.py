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
    try:
        for name in names:
            _copy(Path("/etc", name), fresh / name)
        fresh.chmod(0o755)
        fresh.rename(place)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not place.is_dir():  # nobody else was faster
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
    """Copies a file or directory; a link that is named itself, such as resolv.conf, as what it points to.

    What cannot be read (others may not, or it is gone) is left out. OSError for what cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if real.is_dir():
        _copy_directory(real, target)
    else:
        _copy_file(real, target, real.stat().st_mode)


def _copy_directory(source: Path | str, target: Path) -> None:
    """By system calls alone: a machine has a thousand entries, and the first job waits for them."""
    try:
        entries = list(os.scandir(source))
    except OSError:
        return
    target.mkdir()
    for entry in entries:
        path = target / entry.name
        try:
            link = os.readlink(entry.path) if entry.is_symlink() else None  # noqa: PTH115  (hundreds)
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            continue
        if link is not None:
            os.symlink(link, path)  # noqa: PTH211
        elif not mode & stat.S_IROTH:
            continue
        elif stat.S_ISDIR(mode):
            _copy_directory(entry.path, path)
        else:
            _copy_file(entry.path, path, mode)
    target.chmod(0o755)


def _copy_file(source: Path | str, target: Path, mode: int) -> None:
    if not stat.S_ISREG(mode) or not mode & stat.S_IROTH:
        return
    try:
        content = Path(source).read_bytes()
    except OSError:
        return
    target.write_bytes(content)
    target.chmod(0o755 if mode & stat.S_IXOTH else 0o644)


def _clear(directory: Path) -> None:
    """Removes copies that nothing has used for a week."""
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(path, ignore_errors=True)
