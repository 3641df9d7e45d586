"""The server's key: seals values to it, opens what was sealed for a KEY, and makes marks of our own (design 5.5).

`Keys` are loaded by the daemon at its start; the command line only calls `seal`, with the public key. A key file holds
age identities (X25519): the first one seals, all of them open. What the store keeps of its own is locked with keys made
from them, which takes microseconds. No value is ever part of an error, and nothing here knows where a sealed text lies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyrage
from pyrage.x25519 import Identity, Recipient

LARGEST = 16_384
"""Bytes of a value, as on builds.sr.ht; all forms of it are looked for in logs, which takes time and memory."""

_MARK = b"steersman secret 1\n"
_SALT = b"steersman"
_AT_REST = "at rest"
_WHICH, _NONCE = 8, 12


class SealingError(Exception):
    """A key file, a public key or a sealed text is not what it should be; the message is a sentence."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The identities of one key file."""

    identities: tuple[Identity, ...]

    @property
    def recipient(self) -> str:
        """The public key that values are sealed to."""
        return str(self.identities[0].to_public())

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What tells the identities apart, the first one's first."""
        found = (str(identity.to_public()) for identity in self.identities)
        return tuple(hashlib.sha256(public.encode()).hexdigest() for public in found)

    def open(self, sealed: str, key: str) -> bytes:
        """The value that was sealed for a KEY. SealingError names the KEY."""
        try:
            envelope: bytes = pyrage.decrypt(base64.b64decode(sealed, validate=True), self.identities)
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                raise SealingError(
                    f"{key} is sealed to another key than this server's; seal it anew with `steersman secret seal`"
                ) from None
            raise _damaged(key) from None
        except (binascii.Error, ValueError):
            raise _damaged(key) from None
        mark, (owner, found, value) = envelope[: len(_MARK)], envelope[len(_MARK) :].partition(b"\n")
        if mark != _MARK or not found:
            raise SealingError(f"{key} is encrypted, but not by `steersman secret seal`; seal it with that")
        if owner != key.encode():
            raise SealingError(
                f"{key} holds what was sealed for another KEY; a sealed value cannot be copied or renamed, "
                "seal it anew with `steersman secret seal`"
            )
        if len(value) > LARGEST:
            raise SealingError(f"{key} has {len(value):,} bytes, and a secret at most {LARGEST:,}")
        return value

    def anew(self, sealed: str, key: str) -> str | None:
        """The same value sealed to the first identity; None where it is already. SealingError."""
        with suppress(SealingError):
            Keys(self.identities[:1]).open(sealed, key)
            return None
        return seal(self.open(sealed, key), self.recipient, key)

    def lock(self, value: bytes, name: str) -> bytes:
        """What the store keeps of a value of any size, encrypted and bound to a name; `unlock` gives it back."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        key = _derived(self.identities[0], _AT_REST)
        return _which(self.identities[0]) + nonce + AESGCM(key).encrypt(nonce, value, name.encode())

    def unlock(self, locked: bytes, name: str) -> bytes:
        """The value that was locked under this name, by any identity of the file. SealingError names the name."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        which, nonce, rest = locked[:_WHICH], locked[_WHICH : _WHICH + _NONCE], locked[_WHICH + _NONCE :]
        identity = next((each for each in self.identities if _which(each) == which), None)
        if identity is None:
            raise SealingError(
                f"{name} was stored with a key that is not in this server's key file; put that key back into it"
            )
        try:
            return AESGCM(_derived(identity, _AT_REST)).decrypt(nonce, rest, name.encode())
        except (InvalidTag, ValueError):
            raise SealingError(f"what is stored of {name} is damaged, or belongs to something else") from None

    def is_locked_anew(self, locked: bytes) -> bool:
        """Was it locked with the first identity, so that the others are not needed for it?"""
        return locked[:_WHICH] == _which(self.identities[0])

    def mac(self, purpose: str, text: str) -> str:
        """A mark that only this server can make: an HMAC in hex. One purpose's marks are of no use for another."""
        return _mac(self.identities[0], purpose, text)

    def is_mac(self, purpose: str, text: str, mark: str) -> bool:
        """Is it this server's mark? Those of older identities are good for as long as these are in the file."""
        wanted = [_mac(identity, purpose, text) for identity in self.identities]
        return mark.isascii() and True in [hmac.compare_digest(each, mark) for each in wanted]


def _mac(identity: Identity, purpose: str, text: str) -> str:
    return hmac.digest(_derived(identity, purpose), text.encode("utf-8", "surrogatepass"), "sha256").hex()


def _derived(identity: Identity, purpose: str) -> bytes:
    secret = hmac.digest(_SALT, str(identity).encode(), "sha256")
    return hmac.digest(secret, purpose.encode() + b"\x01", "sha256")  # HKDF's first block


def _which(identity: Identity) -> bytes:
    """What tells by which identity something was locked."""
    return hashlib.sha256(str(identity.to_public()).encode()).digest()[:_WHICH]


def _damaged(key: str) -> SealingError:
    return SealingError(f"{key} cannot be opened: its sealed text is damaged; seal it anew")


def seal(value: bytes, recipient: str, key: str) -> str:
    """One line of base64 that only the server with this public key can open, and only for this KEY."""
    if len(value) > LARGEST:
        raise SealingError(f"a secret has at most {LARGEST:,} bytes; this one has {len(value):,}")
    try:
        to = Recipient.from_str(recipient.strip())
    except pyrage.RecipientError as error:
        raise SealingError(
            f"{recipient.strip()!r} is no public key of a server; `steersman secret key` prints it"
        ) from error
    return base64.b64encode(pyrage.encrypt(_MARK + key.encode() + b"\n" + value, [to])).decode()


def load(path: Path) -> Keys:
    """The identities of a key file. SealingError where others can read it, or it holds none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SealingError(f"the key file {path} cannot be read: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SealingError(f"the key file {path} is no file")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise SealingError(
                f"the key file {path} can be used by others (mode {mode:04o}); run `chmod 600 {path}`"
            )
        lines = file.read(1 << 20).decode("ascii", "replace").splitlines()
    return Keys(tuple(_identities(path, lines)))


def put_in_front(path: Path) -> str:
    """A new identity before those of a key file, in one step: it seals from the next start on. Its public key."""
    load(path)
    path = path.resolve()
    identity = Identity.generate()
    recipient = str(identity.to_public())
    before = path.read_bytes()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            owner = path.stat()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, owner.st_uid, owner.st_gid)
            file.write(f"# public key: {recipient}\n{identity}\n".encode() + before)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        _keep(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return recipient


def _keep(folder: Path) -> None:
    """What was made or renamed in a folder is safely on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _identities(path: Path, lines: list[str]) -> list[Identity]:
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append(Identity.from_str(text))
        except pyrage.IdentityError:
            raise SealingError(
                f"line {number} of the key file {path} is no age identity (AGE-SECRET-KEY-1…)"
            ) from None
    if not found:
        raise SealingError(f"the key file {path} holds no age identity (AGE-SECRET-KEY-1…)")
    return found


def make(path: Path) -> None:
    """A key file with a new identity, safely on the disk; one that is there stays as it is."""
    identity = Identity.generate()
    text = f"# public key: {identity.to_public()}\n{identity}\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
        finally:
            temporary.unlink()
        _keep(path.parent)
    except OSError as error:
        raise SealingError(f"the key file {path} cannot be made: {error.strerror}") from error
