"""Whatever stands in a tree: reading it and making work of it raises nothing but BadConfiguration."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from specs.configuration import read
from specs.configuration_faults import BadConfiguration
from specs.configuration_work import work

KEYS = (
    "jobs", "unit", "name", "key", "description", "priority", "depends_on", "run_when", "context", "contexts",
    "task", "tasks", "task_defaults", "script_defaults", "generate_tasks", "include", "read_and_replace_with",
    "aggregate_state", "max_trials", "load", "traits", "environment_variables", "git_options", "submodules",
    "scripts", "body", "timeout", "start_when", "terminate_when", "script_key", "states", "type", "job_key",
    "value", "include_match", "exclude_match", "trial_attachments", "content_type", "path", "submodule", "main",
    "A", "",
)  # fmt: skip
WORDS = (
    "a.yml", "b.json", "c", "job", "branch", "cron", "0 3 * * *", "1 minute", "passed", "(", "{{A}}{{A}}",
    "\x00",
)  # fmt: skip
TEXTS = st.sampled_from((*KEYS, *WORDS)) | st.text(max_size=5)
SCALARS = (
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63) + 1, 2**63 - 1)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)
MAPS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
CONFIGURATIONS = st.builds(
    lambda jobs, more: {"jobs": jobs, **more},
    st.dictionaries(TEXTS, VALUES | MAPS, max_size=3),
    st.just({}) | MAPS,
)
PATHS = ("a.yml", "b.json", "c", "unit", "spec/a\n")


def attempt(files: dict[str, bytes]) -> None:
    """Reads a tree and makes the work of all its jobs, which must be plain JSON."""
    try:
        found = read(files.get)
    except BadConfiguration as refused:
        assert refused.faults
        assert all(str(fault).isprintable() for fault in refused.faults)
        return
    for key, job in found.jobs.items():
        assert key == job.key
        assert all(fault.where[:2] == ("jobs", key) for fault in job.faults)
        try:
            specification = work(job, PATHS)
        except BadConfiguration as refused:
            assert refused.faults
            assert all(fault.where[:2] == ("jobs", key) for fault in refused.faults)
            continue
        assert not job.faults
        assert specification == json.loads(json.dumps(specification))
        names = [task["name"] for task in specification["tasks"]]
        assert len(names) == len(set(names))
        scripts = [script for task in specification["tasks"] for script in task["scripts"]]
        assert all(script["run"] and script["timeout_seconds"] > 0 for script in scripts)


@settings(max_examples=100, deadline=None)
@given(CONFIGURATIONS, MAPS, VALUES)
def test_no_document_breaks_the_reader(top: Any, first: Any, second: Any) -> None:
    attempt(
        {
            "cider-ci.json": json.dumps(top).encode(),
            "a.yml": json.dumps(first, ensure_ascii=False).encode("utf-8", "replace"),
            "b.json": json.dumps(second).encode(),
            "c": b"text\n",
        }
    )


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    attempt({"cider-ci.yml": data})
    attempt({"cider-ci.json": data})
    attempt(
        {
            "cider-ci.yml": b"jobs: {unit: {include: a.yml, task: {read_and_replace_with: a.yml}}}",
            "a.yml": data,
        }
    )


@settings(deadline=None)
@given(st.text("jobs:{}[]&*-? a\n'\"!|>#,", max_size=40))
def test_no_yaml_breaks_the_reader(text: str) -> None:
    attempt({"cider-ci.yml": f"jobs: {text}".encode()})


@settings(deadline=None)
@given(VALUES)
def test_no_job_harms_another(job: Any) -> None:
    top = {"jobs": {"broken": job, "good": {"task": "x"}}}
    found = read({"cider-ci.json": json.dumps(top).encode()}.get)
    assert work(found.jobs["good"])["tasks"][0]["scripts"][0]["run"] == "x"
