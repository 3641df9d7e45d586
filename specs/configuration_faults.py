"""Faults of a project configuration: the chain of keys that leads there, and a sentence (cider-ci, section 6).

Made by the other modules of the configuration, raised together by those that read one and those that make a
job's work of it. Never knows what a key means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Chain = tuple[str, ...]
"""The keys from the top of the expanded document to a value; indexes of lists count from 0."""

NOT_YET = "`{key}` is not yet carried out by this version; remove it"
MOST_FAULTS = 20
_LONGEST_KEY = 100


@dataclass(frozen=True, slots=True)
class ConfigurationFault:
    """One fault; an empty chain stands for the whole configuration."""

    where: Chain
    message: str

    def __str__(self) -> str:
        chain = " → ".join(_cut(key) for key in self.where)
        return _printable(f"{chain}: {self.message}" if chain else self.message)


Faults = Iterator[ConfigurationFault]


class BadConfiguration(Exception):
    """A configuration, or a job of it, that cannot be carried out; carries the faults, one or more.

    `file`: where the configuration stands, if that is known.
    """

    def __init__(self, faults: Iterable[ConfigurationFault], file: str = "") -> None:
        self.faults = first(faults)
        self.file = file
        super().__init__("; ".join(str(fault) for fault in self.faults))


class NoConfiguration(BadConfiguration):
    """A tree that has no configuration at all."""


def first(faults: Iterable[ConfigurationFault]) -> tuple[ConfigurationFault, ...]:
    """Each fault once, up to a number; what comes after is not even looked for."""
    found: dict[ConfigurationFault, None] = {}
    for fault in faults:
        if len(found) == MOST_FAULTS and fault not in found:
            return (*found, ConfigurationFault(fault.where[:2], "there are more faults than these"))
        found[fault] = None
    return tuple(found)


def _cut(key: str) -> str:
    return f"{key[:_LONGEST_KEY]}…" if len(key) > _LONGEST_KEY else key or '""'


def _printable(text: str) -> str:
    """The text on one line: keys and values come from repositories, and may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
