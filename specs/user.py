"""The kind User (own-kinds): a person who may sign in. Tokens and passwords are never declared."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from specs.model import Spec, Text, no_nul, or_empty

_EMAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+")


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise ValueError("must be an address such as alice@example.org")
    return text


class User(Spec):
    """A person."""

    display_name: Annotated[str, Field(max_length=200), AfterValidator(no_nul)] = ""
    """The name that people see, and the author of commits; without it, the user's name."""
    email: Annotated[str, Field(max_length=320), AfterValidator(or_empty(_email))] = ""
    """The mail address, also of commits."""
    disabled: bool = False
    """Nobody can sign in as this user, and their tokens are refused."""
    oidc_subject: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(no_nul)] | None = None
    """Who this is to the identity provider."""
    description: Text = ""
    """Who this is, in a sentence for people."""
