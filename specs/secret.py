"""The kind Secret (own-kinds): a value, a key or a file, sealed to the server's public key. The value itself
never stands in Git, and nothing here opens it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from specs import references
from specs.meta import Key
from specs.model import Spec, SpecFault, metadata, no_nul
from specs.references import Reference

LARGEST_SEALED = 512 * 1024

_AGE = b"age-encryption.org/"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MODE = re.compile(r"0?[0-7]{3}")
_SEAL = "must be what `steersman secret seal` gives"


def _sealed(text: str) -> str:
    plain = "".join(text.split())
    try:
        data = base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{_SEAL}, in base64; if this is the value itself, consider it leaked") from None
    if not data.startswith(_AGE):
        raise ValueError(f"{_SEAL}; this is not encrypted, so consider it leaked")
    return plain


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError("must be a UUID in lower case, such as 5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10")
    return str(UUID(text))


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError('must be the permissions of a file in octal, such as "600"')
    return text


def _path(path: str) -> str:
    if ".." in path.split("/") or path.endswith("/") or any(ord(c) < 32 for c in path):
        raise ValueError("must be the path of a file, without ..")
    if path.startswith("~") and not path.startswith("~/"):
        raise ValueError("must be absolute, begin with ~/, or be relative to the home directory")
    return path


class Secret(Spec):
    """A secret of an environment, a project, a user, or the installation."""

    type: Literal["value", "ssh_key", "pgp_key", "plaintext_file"] = "value"
    """What it is to a script: a variable's value, a key in the agent, or a file."""
    uuid: Annotated[str, AfterValidator(_uuid)] | None = None
    """The identifier that builds.sr.ht manifests name it by; made where absent."""
    path: (
        Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(no_nul), AfterValidator(_path)]
        | None
    ) = None
    """Where the file is put; for plaintext_file only."""
    mode: Annotated[str, AfterValidator(_mode)] | None = None
    """The file's permissions in octal, "600" if not set; for plaintext_file only."""
    sealed: Annotated[str, Field(min_length=1, max_length=LARGEST_SEALED), AfterValidator(_sealed)]
    """The encrypted value, as `steersman secret seal` gives it; bound to the kind, the project and the name."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Fields that belong to files, and those that files need."""
    is_file = spec["type"] == "plaintext_file"
    if is_file and spec["path"] is None:
        yield ("path",), "path is missing: a plaintext_file is put somewhere"
    for field in ("path", "mode"):
        if not is_file and spec[field] is not None:
            yield (field,), f"{field} is of a plaintext_file, not of a {spec['type']}; remove it"


def owner(_spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The User whom a Secret belongs to."""
    if key.owner is not None:
        yield from references.user(metadata("owner"), key.owner)
