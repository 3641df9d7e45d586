"""The project configuration of a tree (cider-ci, section 6): which file it is, and the jobs that it declares.

Called by whoever makes jobs of a tree and by the triggers. Takes the tree's files by a function and never
knows where they come from. A fault above the jobs spoils the configuration, one inside a job that job only
(4.3): such a job is made all the same, and is defective.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs import configuration_shape as shape
from specs.configuration_checks import job_key as check_key
from specs.configuration_compact import context_of
from specs.configuration_conditions import Condition, condition
from specs.configuration_expansion import Files, expand
from specs.configuration_faults import (
    BadConfiguration,
    Chain,
    ConfigurationFault,
    Faults,
    NoConfiguration,
    first,
)
from specs.configuration_matches import weight
from specs.configuration_text import UnreadableFile, document

FILES = tuple(
    f"{dot}cider-ci{version}{end}"
    for version in ("_v5", "_v4", "")
    for end in (".yml", ".json")
    for dot in ("", ".")
)
"""The names a configuration may have, the first that is there counts."""

MOST_JOBS = 500
MOST_WEIGHT = 1000
"""Of all regular expressions together: their weight is what it takes to prepare them, about a millisecond."""


@dataclass(frozen=True, slots=True)
class JobDeclaration:
    """One job of a configuration. With `faults` it can only be made as defective; what of it is valid is
    here, so that it is triggered, but `context` is empty.

    `context` is written out as specs.configuration_compact has it; `file` is where the configuration stands.
    """

    key: str
    name: str
    file: str
    description: str | None = None
    priority: int = 0
    run_when: tuple[Condition, ...] = ()
    depends_on: tuple[Condition, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[ConfigurationFault, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a tree declares; `file` is the path it was read from, `jobs` go by their keys."""

    file: str
    name: str | None
    description: str | None
    jobs: Mapping[str, JobDeclaration]


def read(files: Files) -> Configuration:
    """The configuration of a tree; raises NoConfiguration where it has none, BadConfiguration where it
    cannot be read or is faulty above its jobs.
    """
    path, data = _found(files)
    try:
        value = document(path, data)
    except UnreadableFile as unreadable:
        raise BadConfiguration([ConfigurationFault((), str(unreadable))], path) from None
    try:
        expanded = expand(value, path, files)
    except BadConfiguration as bad:
        raise BadConfiguration(bad.faults, path) from None
    value = expanded.value
    jobs = value.get("jobs") if isinstance(value, dict) else None
    of_jobs, above = _divided(expanded.faults, jobs if isinstance(jobs, dict) else {})
    faults = first(itertools.chain(above, shape.project((), value), _excesses(value), _bad_keys(value)))
    if faults:
        raise BadConfiguration(faults, path)
    return Configuration(path, value.get("name"), value.get("description"), _jobs(path, value, of_jobs))


def _found(files: Files) -> tuple[str, bytes]:
    for path in FILES:
        data = files(path)
        if data is not None:
            return path, data
    raise NoConfiguration(
        [ConfigurationFault((), f"the tree has no project configuration; it is read from {FILES[0]}, say")]
    )


def _excesses(value: Any) -> Faults:
    """Faults of a configuration whose checks alone would take too long."""
    jobs = value.get("jobs") if isinstance(value, dict) else None
    if isinstance(jobs, dict) and len(jobs) > MOST_JOBS:
        yield ConfigurationFault(("jobs",), f"must be at most {MOST_JOBS}")
    if sum(map(weight, set(_expressions(value)))) > MOST_WEIGHT:
        message = "has too many regular expressions, or too large ones; use fewer \\w, \\p and counts {n}"
        yield ConfigurationFault((), message)


def _bad_keys(value: Any) -> Faults:
    """Keys by which no job can be kept, not even as a defective one."""
    jobs = value.get("jobs") if isinstance(value, dict) else None
    for key in jobs if isinstance(jobs, dict) else ():
        yield from check_key(("jobs", key), key)


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and key.endswith("_match"):
                yield item
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _expressions(item)


def _divided(
    faults: tuple[ConfigurationFault, ...], jobs: Mapping[str, Any]
) -> tuple[dict[str, list[ConfigurationFault]], list[ConfigurationFault]]:
    """The faults inside jobs, by their keys, and those above."""
    inside: dict[str, list[ConfigurationFault]] = {}
    above: list[ConfigurationFault] = []
    for fault in faults:
        if fault.where[:1] == ("jobs",) and len(fault.where) > 1 and fault.where[1] in jobs:
            inside.setdefault(fault.where[1], []).append(fault)
        else:
            above.append(fault)
    return inside, above


def _jobs(
    path: str, value: Mapping[str, Any], faults: Mapping[str, list[ConfigurationFault]]
) -> dict[str, JobDeclaration]:
    names, twice = _names(value["jobs"])
    found = {}
    for key, job in value["jobs"].items():
        of_name = [twice[key]] if key in twice else []
        of_job = first(itertools.chain(of_name, faults.get(key, ()), _job_faults(key, job)))
        found[key] = _declaration(path, key, names[key], job, of_job)
    return found


def _names(jobs: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, ConfigurationFault]]:
    """The names of jobs, each once; and what is wrong with those that had to be called by their keys.

    Of two with one name that is the later one, unless it has no other name than its key.
    """
    own = {key: _own_name(key, job) for key, job in jobs.items()}
    twice: dict[str, ConfigurationFault] = {}
    while True:
        names = {key: key if key in twice else own[key] for key in own}
        called: dict[str, str] = {}
        clashes = {
            key: other
            for key in sorted(names, key=lambda key: names[key] != key)
            if (other := called.setdefault(names[key], key)) != key
        }
        if not clashes:
            return names, twice
        for key, other in clashes.items():
            message = f'the jobs {other} and {key} have the same name "{own[key]}"; choose another one'
            twice[key] = ConfigurationFault(("jobs", key, "name"), message)


def _own_name(key: str, job: Any) -> str:
    name = job.get("name", key) if isinstance(job, dict) else key
    return key if any(shape.PLAIN_KEYS["name"]((), name)) else str(name)


def _job_faults(key: str, job: Any) -> Faults:
    where = ("jobs", key)
    yield from shape.job(where, job)
    if isinstance(job, dict) and isinstance(job.get("key"), str) and job["key"] != key:
        yield ConfigurationFault((*where, "key"), f'must be "{key}", as in the map of jobs; leave it out')


def _declaration(
    path: str, key: str, name: str, job: Any, faults: tuple[ConfigurationFault, ...]
) -> JobDeclaration:
    """The job with all of it that is valid."""
    given = job if isinstance(job, dict) else {}
    plain = {
        part: given[part]
        for part, check in shape.PLAIN_KEYS.items()
        if part in given and not any(check((), given[part]))
    }
    return JobDeclaration(
        key=key,
        name=name,
        file=path,
        description=plain.get("description"),
        priority=plain.get("priority", 0),
        run_when=tuple(_conditions(given, ("jobs", key, "run_when"), faults)),
        depends_on=tuple(_conditions(given, ("jobs", key, "depends_on"), faults)),
        context={} if faults else context_of(given),
        faults=faults,
    )


def _conditions(
    job: Mapping[str, Any], where: Chain, faults: tuple[ConfigurationFault, ...]
) -> Iterator[Condition]:
    """The valid conditions at one key of a job. They are checked once more one by one, since not all faults
    are kept; what could not be included is a fault already.
    """
    part = where[-1]
    declared = job.get(part)
    for name, value in declared.items() if isinstance(declared, dict) else ():
        inner = (*where, name)
        known = any(fault.where[: len(inner)] == inner for fault in faults)
        if not known and not any(shape.CONDITION_KEYS[part](where, {name: value})):
            yield condition(name, value)
