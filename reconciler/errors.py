"""The errors of the whole project, named after what happens next.

    Exception
    └── SteersmanError      has a `reason` (one CamelCase word, for conditions) and a `message` (a sentence)
        ├── Stalled         nothing will change until somebody changes something: bad URL, refused credentials
        │   └── PushRefused     the other side does not take the commit: a hook, a protected branch
        ├── Waiting         come back later, after `after` when it is known: a window, a slot, a busy lock
        ├── Transient       try again with back-off: network, left-behind lock, full disk
        │   └── Moved           the branch is not where the edit began: make the edit anew on its head
        ├── NotFound        a door was asked for something that is not there
        │   └── UnknownCommit   a commit that Git does not have (any more)
        ├── Forbidden       the caller's role is too small for what it asks
        ├── Conflict        a door was asked for something that another change made impossible
        └── Refused         a door was asked for something that cannot be accepted
            └── BadSignature    a webhook whose signature is missing or wrong

I/O raises the first three, and the loop alone turns them into conditions; the doors (commands and queries)
raise the last four, and each served API turns them into its own answers. Pure code raises none of them. No
message ever carries a credential.
"""

from __future__ import annotations

from datetime import timedelta


class SteersmanError(Exception):
    """An error with a reason for conditions and a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class Stalled(SteersmanError):
    """Nothing will change until somebody changes something."""


class PushRefused(Stalled):
    """The repository that was pushed to does not take the commit, and says why: a hook, a protected branch."""


class Waiting(SteersmanError):
    """Not now: come back later, after `after` when that is known."""

    def __init__(self, reason: str, message: str, after: timedelta | None = None) -> None:
        super().__init__(reason, message)
        self.after = after


class Transient(SteersmanError):
    """Worth trying again with back-off."""


class Moved(Transient):
    """Somebody was faster: the branch is not at the commit that was edited. Edit its new head instead."""


class NotFound(SteersmanError):
    """What the caller names does not exist."""


class UnknownCommit(NotFound):
    """Git does not have this commit: never had it, or it was forced away and collected."""


class Forbidden(SteersmanError):
    """The caller may see it, but not do this."""


class Conflict(SteersmanError):
    """What the caller asks for no longer fits what is there."""


class Stale(Conflict):
    """What the caller has read has changed since."""


class BrokenBefore(Conflict):
    """What the caller wants to change is invalid already, and would stay so."""


class Refused(SteersmanError):
    """What the caller asks for cannot be accepted."""


class SpecificationRefused(Refused):
    """The specifications would be invalid: `errors` are (KEY, field or path:line:column, sentence)."""

    def __init__(self, reason: str, message: str, errors: tuple[tuple[str | None, str, str], ...]) -> None:
        super().__init__(reason, message)
        self.errors = errors


class BadSignature(Refused):
    """A webhook whose signature is missing or wrong."""
