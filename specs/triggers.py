"""What starts the jobs of a Build by itself (own-kinds, `triggers`), and which Builds a `build` trigger means.

Called by the Build's model, the kinds table and whoever follows Builds. Never judges whether a job is owed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field

from specs.meta import Key, plain_name_fault
from specs.model import Spec, Steps, Text
from specs.schedule import check_cron, check_timezone


def _cron(text: str) -> str:
    if message := check_cron(text):
        raise ValueError(message)
    return text


def _timezone(name: str) -> str:
    if message := check_timezone(name):
        raise ValueError(message)
    return name


def _build_name(name: str) -> str:
    if message := plain_name_fault(name):
        raise ValueError(f"must be the name of a Build: {message}")
    return name


Interval = Annotated[int, Field(ge=1, le=366 * 86_400)]


class PollTrigger(Spec):
    """The branch is looked at again and again; a new head is owed a job."""

    type: Literal["poll"]
    """What kind of trigger this is."""
    interval_seconds: Interval = 60
    """Seconds between two looks."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class ScheduleTrigger(Spec):
    """Jobs at fixed times: by `cron`, or every `interval_seconds`."""

    type: Literal["schedule"]
    """What kind of trigger this is."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Five cron fields, or @hourly, @daily, @weekly, @monthly, @yearly."""
    interval_seconds: Interval | None = None
    """Seconds between two starts, counted from 1970 so that a restart does not shift them."""
    timezone: Annotated[str, AfterValidator(_timezone)] | None = None
    """The time zone of `cron`, such as Europe/Amsterdam; without it, the server's."""
    missed: Literal["once", "skip"] = "once"
    """What becomes of starts that were missed while the server was down."""
    jitter_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Starts are moved by up to so many seconds, always the same for one build, to spread load."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class WebhookTrigger(Spec):
    """A push told by the code host; a new head is owed a job."""

    type: Literal["webhook"]
    """What kind of trigger this is."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class ChangeTrigger(Spec):
    """A changed specification is owed a job."""

    type: Literal["change"]
    """What kind of trigger this is."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class BuildTrigger(Spec):
    """Each of these Builds has passed since this trigger last started a job."""

    type: Literal["build"]
    """What kind of trigger this is."""
    builds: list[Annotated[str, AfterValidator(_build_name)]] = Field(min_length=1, max_length=100)
    """Builds of the same project: of the same environment where it has one of that name, else without one."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


Trigger = Annotated[
    PollTrigger | ScheduleTrigger | WebhookTrigger | ChangeTrigger | BuildTrigger, Discriminator("type")
]


def followed(spec: Mapping[str, Any], key: Key) -> Iterator[tuple[Steps, tuple[str, ...]]]:
    """Where `build` triggers name Builds, and the KEYs each name may mean: the first one declared counts."""
    for index, trigger in enumerate(spec.get("triggers") or ()):
        for at, name in enumerate(trigger.get("builds") or () if trigger["type"] == "build" else ()):
            yield ("triggers", index, "builds", at), followed_keys(key, name)


def followed_keys(key: Key, name: str) -> tuple[str, ...]:
    """The KEYs that a name in a `build` trigger of the Build `key` may mean; the first one declared counts."""
    environments = (None,) if key.environment is None else (key.environment, None)
    return tuple(str(Key("Build", key.project, environment, name)) for environment in environments)
