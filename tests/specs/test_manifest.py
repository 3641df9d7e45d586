"""Manifests of builds.sr.ht (builds-srht 5.1, 6, and cases 12, 13, 26 and 37 of its section 10)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.manifest import BadManifest, Manifest, ManifestTask, Trigger, check_triggers, parse

TASKS = "tasks:\n- a: |\n    true\n"
HEAD = f"image: debian/stable\n{TASKS}"


def reasons(text: str) -> tuple[str, ...]:
    """What is wrong with a text; nothing for a good one."""
    try:
        parse(text)
    except BadManifest as bad:
        return bad.reasons
    return ()


def of_a_request(triggers: Any) -> list[tuple[str, str]]:
    """Fields and reasons of a request's triggers."""
    return [(fault.field, fault.reason) for fault in check_triggers(triggers)[1]]


# -- 12: what is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TASKS, ("line 1: image is required",)),
        (f"image: ''\n{TASKS}", ("line 1: image is required",)),
        (f"image: 3\n{TASKS}", ("line 1: image must be a string, not a number",)),
        (f"image: {'x' * 129}\n{TASKS}", ("line 1: image must have at most 128 characters",)),
        ("image: x\n", ("line 1: tasks is required: at least one task, or shell: true",)),
        ("image: x\ntasks: []\n", ("line 2: tasks is required: at least one task, or shell: true",)),
        ("image: x\ntasks: {a: b}\n", ("line 2: tasks must be a list of tasks, not a mapping",)),
        (
            "image: x\ntasks:\n- A: b\n",
            ("line 3: tasks[0].A must have a name of 1 to 128 characters a-z, 0-9, _ and -",),
        ),
        (
            "image: x\ntasks:\n- a.b: b\n",
            ("line 3: tasks[0].a.b must have a name of 1 to 128 characters a-z, 0-9, _ and -",),
        ),
        (
            "image: x\ntasks:\n- ä: b\n",
            ("line 3: tasks[0].ä must have a name of 1 to 128 characters a-z, 0-9, _ and -",),
        ),
        (
            "image: x\ntasks:\n- a: b\n- a: c\n",
            ("line 4: tasks[1].a is a task's name already; choose another one",),
        ),
        (
            "image: x\ntasks:\n- a: b\n  c: d\n",
            ("line 3: tasks[0] must have exactly one name, not 2: a, c",),
        ),
        ("image: x\ntasks:\n- {}\n", ("line 3: tasks[0] must have exactly one name, not 0",)),
        ("image: x\ntasks:\n- a:\n", ("line 3: tasks[0].a may not be null",)),
        (
            "image: x\ntasks:\n- a: 1\n",
            ("line 3: tasks[0].a must be a string, which is the task's script, not a number",),
        ),
        (
            "image: x\ntasks:\n- a: true\n",
            ("line 3: tasks[0].a must be a string, which is the task's script, not true",),
        ),
        (
            "image: x\ntasks: [a]\n",
            ("line 2: tasks[0] must be a mapping of one name to one script, not a string",),
        ),
        (f"{HEAD}packages: foo\n", ("line 5: packages must be a list of strings, not a string",)),
        (f"{HEAD}packages:\n- a\n- 3\n", ("line 7: packages[1] must be a string, not a number",)),
        (f"{HEAD}packages: [~]\n", ("line 5: packages[0] may not be null",)),
        (f"{HEAD}repositories: [a]\n", ("line 5: repositories must be a mapping, not a list",)),
        (f"{HEAD}repositories: {{a: 1}}\n", ("line 5: repositories.a must be a string, not a number",)),
        (f"{HEAD}sources: https://x/y\n", ("line 5: sources must be a list of strings, not a string",)),
        (f"{HEAD}environment: [A]\n", ("line 5: environment must be a mapping, not a list",)),
        (
            f"{HEAD}environment:\n  A: {{b: c}}\n",
            ("line 6: environment.A must be a string, a number, a boolean or a list, not a mapping",),
        ),
        (
            f"{HEAD}environment: {{A: [[b]]}}\n",
            ("line 5: environment.A[0] must be a string, a number or a boolean, not a list",),
        ),
        (
            f"{HEAD}artifacts: [a/x, b/x]\n",
            ('line 5: artifacts[1] has the name "x", which an artifact before it has too',),
        ),
        (
            f"{HEAD}artifacts: [a/x, x/]\n",
            ('line 5: artifacts[1] has the name "x", which an artifact before it has too',),
        ),
        (f"{HEAD}artifacts: ['']\n", ("line 5: artifacts[0] must not be empty",)),
        (f"{HEAD}artifacts: [1]\n", ("line 5: artifacts[0] must be a string, not a number",)),
        (f"{HEAD}secrets: [ab]\n", ("line 5: secrets[0] must be a uuid or a name of 3 to 512 characters",)),
        (f"{HEAD}secrets: [1]\n", ("line 5: secrets[0] must be a string, not a number",)),
        (f"{HEAD}shell: 'yes'\n", ("line 5: shell must be true or false, not a string",)),
        (f"{HEAD}shell: 1\n", ("line 5: shell must be true or false, not a number",)),
        (f"{HEAD}oauth: [x]\n", ("line 5: oauth must be a string, not a list",)),
        (f"{HEAD}arch: 64\n", ("line 5: arch must be a string, not a number",)),
        ("[a, b]\n", ("line 1: a manifest is a mapping with at least image and tasks",)),
        ("", ("line 1: a manifest is a mapping with at least image and tasks",)),
        ("# nothing\n", ("line 1: a manifest is a mapping with at least image and tasks",)),
        (f"{HEAD}---\n{HEAD}", ("line 6: a second document begins here; a manifest is one document",)),
        (f'{HEAD}packages: ["a\\0b"]\n', ("line 5: packages[0] must not hold a NUL character",)),
        (f"{HEAD}z: !!set {{a}}\n", ("line 5: the tag tag:yaml.org,2002:set is not allowed; leave it out",)),
        (f"{HEAD}packages: [!x a]\n", ("line 5: the tag !x is not allowed; leave it out",)),
        (f"{HEAD}[a]: b\n", ("line 5: a key must be text, not a mapping or a list",)),
    ],
)  # fmt: skip
def test_12_bad_manifests_are_refused_with_a_sentence(text: str, expected: tuple[str, ...]) -> None:
    """Every rule of 5.1 has a sentence with line and field."""
    assert expected == reasons(text)


def test_12_yaml_that_does_not_parse_is_told_with_its_line() -> None:
    """What libyaml says, in our words."""
    assert [reason.startswith("line 2: not valid YAML: ") for reason in reasons("a: [\n")] == [True]
    assert reasons(f"{HEAD}packages: *x\n")[0].startswith("line 5: not valid YAML: ")


def test_12_a_name_of_129_characters_is_refused_and_one_of_128_is_not() -> None:
    """The sentence shows the name in short."""
    assert reasons(f"image: x\ntasks:\n- {'a' * 128}: b\n") == ()
    (reason,) = reasons(f"image: x\ntasks:\n- {'a' * 129}: b\n")
    assert "1 to 128 characters" in reason
    assert len(reason) < 150


def test_all_faults_are_told_in_one_pass() -> None:
    """By line, each once."""
    text = "packages: a\nsecrets: [x]\nimage: 3\ntasks:\n- A: 1\n- b: c\n- b: ~\nshell: 7\noauth: 5\n"
    assert [" ".join(reason.split()[:3]) for reason in reasons(text)] == [
        "line 1: packages",
        "line 2: secrets[0]",
        "line 3: image",
        "line 5: tasks[0].A",
        "line 5: tasks[0].A",
        "line 7: tasks[2].b",
        "line 8: shell",
        "line 9: oauth",
    ]


# -- 13: what is accepted


@pytest.mark.parametrize(
    "text",
    [
        "image: x\nshell: true\n",
        "image: x\nshell: yes\ntasks:\n",
        f"{HEAD}shell: null\n",
        f"{HEAD}submitter:\n  git.sr.ht:\n    enabled: true\n",
        "image: x\ntasks:\n- a: ''\n",
        f"{HEAD}environment: {{I: 1, B: true, N: ~, L: [p, 1]}}\n",
        "image: x\ntasks:\n- default: a\n- 1: b\n- _x: c\n- a-b_c: d\n",
        f"{HEAD}oauth: ~\npackages:\nsources:\nsecrets:\nartifacts:\ntriggers:\nenvironment:\narch:\n",
        f"{HEAD}secrets: [5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10, abc]\n",
        f"---\n{HEAD}...\n",
        f"\ufeff{HEAD}",
        f"%YAML 1.1\n---\n{HEAD}",
    ],
)
def test_13_good_manifests_are_accepted(text: str) -> None:
    """No fault."""
    assert reasons(text) == ()


def test_values_keep_their_type_in_the_environment() -> None:
    """As the runner's reader has them; what it would take for a string is one."""
    text = (
        "environment: {A: 1, B: 1.50, C: yes, D: off, E: ~, F: '1', G: 0755, H: 0x1F, I: 1_000, J: 2030-01-31,"
        " K: 12:30, L: [a, 2], M: 1e3, N: 99999999999999999999999, O: .inf, P: 08, no: x, 7: y, Q: -3, R: 12e5f}\n"
    )
    environment = parse(HEAD + text).environment
    assert environment == {
        "A": 1, "B": 1.5, "C": True, "D": False, "E": None, "F": "1", "G": 493, "H": 31, "I": 1000,
        "J": "2030-01-31", "K": "12:30", "L": ("a", 2), "M": "1e3", "N": "99999999999999999999999",
        "O": ".inf", "P": "08", "no": "x", "7": "y", "Q": -3, "R": "12e5f",
    }  # fmt: skip
    assert [type(value) for value in (1, 1.5, True)] == [type(environment[name]) for name in "ABC"]


def test_of_equal_keys_the_last_one_counts() -> None:
    """At the top, in a task and in the environment."""
    text = f"{HEAD}environment: {{A: 1, A: 2}}\nimage: other\ntasks:\n- a: x\n  a: y\n"
    manifest = parse(text)
    assert ("other", (ManifestTask("a", "y"),), {"A": 2}) == (
        manifest.image,
        manifest.tasks,
        manifest.environment,
    )


def test_anchors_and_merge_keys_are_carried_out() -> None:
    """A script used twice, and variables taken over."""
    text = (
        "image: x\n.common: &common {A: 1, B: 2}\nenvironment:\n  <<: *common\n  B: 3\n"
        "tasks:\n- a: &script |\n    make\n- b: *script\n"
    )
    manifest = parse(text)
    assert manifest.environment == {"A": 1, "B": 3}
    assert (ManifestTask("a", "make\n"), ManifestTask("b", "make\n")) == manifest.tasks


def test_a_manifest_has_all_that_was_declared() -> None:
    """Typed, in order, with the text it came from."""
    text = (
        "image: alpine/edge\narch: aarch64\npackages: [bash, git]\nrepositories: {x: http://x y}\n"
        "sources: ['https://x/y#z']\nsecrets: [abc]\ntasks:\n- a: b\n- c: ''\nartifacts: [out/x]\n"
        "shell: true\noauth: jobs:RW\ntriggers:\n- {action: email, condition: failure, to: jo@example.org, x: 1}\n"
    )
    assert Manifest(
        text=text,
        image="alpine/edge",
        arch="aarch64",
        packages=("bash", "git"),
        repositories={"x": "http://x y"},
        sources=("https://x/y#z",),
        secrets=("abc",),
        tasks=(ManifestTask("a", "b"), ManifestTask("c", "")),
        triggers=(Trigger("email", "failure", to="jo@example.org", further={"x": 1}),),
        artifacts=("out/x",),
        shell=True,
        oauth="jobs:RW",
    ) == parse(text)


# -- 26: triggers


@pytest.mark.parametrize(
    ("triggers", "expected"),
    [
        (
            [{"action": "email"}],
            [
                ("triggers[0].condition", "is required"),
                ("triggers[0].to", "is required where there is no cc"),
            ],
        ),
        (
            [{"action": "irc", "condition": "always"}],
            [("triggers[0].action", 'must be email or webhook, not "irc"')],
        ),
        ([{"action": "webhook", "condition": "always"}], [("triggers[0].url", "is required")]),
        (
            [{"action": "webhook", "condition": "always", "url": "ftp://x/"}],
            [("triggers[0].url", "must be an address that begins with https:// or http://")],
        ),
        (
            [{"action": "email", "condition": "never", "cc": "jo@example.org"}],
            [("triggers[0].condition", 'must be success, failure or always, not "never"')],
        ),
        (
            [{"action": "email", "condition": "always", "to": "nobody"}],
            [("triggers[0].to", "must be a list of e-mail addresses")],
        ),
        (
            [{"action": "email", "condition": "always", "cc": "(" * 5000}],
            [("triggers[0].cc", "must be a list of e-mail addresses")],
        ),
        (
            [{"action": "email", "condition": "always", "to": "a@b\nBcc: c@d"}],
            [("triggers[0].to", "must not hold control characters")],
        ),
        (
            [{"action": "email", "condition": 5, "to": "a@b", "cc": None}],
            [
                ("triggers[0].condition", "must be a string, not a number"),
                ("triggers[0].condition", "is required"),
                ("triggers[0].cc", "may not be null"),
            ],
        ),
        (["x"], [("triggers[0]", "must be a mapping with action and condition, not a string")]),
        ({}, [("triggers", "must be a list of triggers, not a mapping")]),
        (None, [("triggers", "may not be null")]),
        ([], []),
    ],
)
def test_26_bad_triggers_of_a_request_name_their_field(
    triggers: Any, expected: list[tuple[str, str]]
) -> None:
    """The field's path is the one that the API answers with."""
    assert expected == of_a_request(triggers)


def test_good_triggers_are_kept_with_their_further_keys() -> None:
    """And become plain mappings again."""
    given_ones = [
        {"action": "webhook", "condition": "success", "url": "https://x.example/y", "extra": [1]},
        {"action": "email", "condition": "always", "to": "Jo <jo@a.b>, ana@c.d", "in_reply_to": "<1@x>"},
    ]
    triggers, faults = check_triggers(given_ones)
    assert faults == ()
    assert given_ones == [trigger.data() for trigger in triggers]
    assert triggers[0].url == "https://x.example/y"


def test_26_triggers_of_a_manifest_are_told_with_their_line() -> None:
    """An explicit null equals absence there."""
    text = f"{HEAD}triggers:\n- action: email\n  condition: always\n  to: a@b\n  cc:\n- action: webhook\n"
    assert reasons(text) == (
        "line 10: triggers[1].condition is required",
        "line 10: triggers[1].url is required",
    )


# -- 37: real manifests

REAL = """\
# built on every push
image: archlinux
packages:
 - meson   # the build system
 - wayland-protocols
repositories:
 sr.ht: >
  https://mirror.example/archlinux/sr.ht/
  DEADBEEF
 weekly-2030: https://mirror.example#rest
sources:
 - https://git.example/~jo/wlroots
 - git@git.example:~jo/tool#v1.2
environment:
 VERSION: 1.10
 RELEASE: 2030-01-31
 JOBS: 4
 cc: clang
 NOTE: "quoted: text"
triggers:
 - action: email
   condition: failure
   to: Jo Doe <jo@example.org>
tasks:
 - setup: |
    cd wlroots
    meson build -Dwerror=false
 - clang-14: |
    cd wlroots   # in the checkout

    CC=clang ninja -C build
 - 2nd: >-
    echo folded
    text
 - smoke_test: ninja -C build test
artifacts:
 - wlroots/build/libwlroots.so
"""


def test_37_a_real_manifest_is_read() -> None:
    """Folded values, comments, one-space indentation, unquoted numbers and dashes in names."""
    manifest = parse(REAL)
    assert manifest.repositories == {
        "sr.ht": "https://mirror.example/archlinux/sr.ht/ DEADBEEF\n",
        "weekly-2030": "https://mirror.example#rest",
    }
    assert [task.name for task in manifest.tasks] == ["setup", "clang-14", "2nd", "smoke_test"]
    assert manifest.tasks[1].script == "cd wlroots   # in the checkout\n\nCC=clang ninja -C build\n"
    assert manifest.tasks[2].script == "echo folded text"
    assert manifest.environment == {
        "VERSION": 1.1,
        "RELEASE": "2030-01-31",
        "JOBS": 4,
        "cc": "clang",
        "NOTE": "quoted: text",
    }
    assert parse(REAL.replace("\n", "\r\n")).tasks == manifest.tasks


def test_37_the_file_of_another_tool_is_refused() -> None:
    """It has neither image nor tasks."""
    assert reasons("version: 2\nbuild:\n  os: ubuntu\npython:\n  install: [x]\n") == (
        "line 1: image is required",
        "line 1: tasks is required: at least one task, or shell: true",
    )


# -- hostile texts


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"image: x\nz: {'[' * 16000}", "nested deeper than 50 levels"),
        (
            "image: x\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: [*d, *d]\n",
            "more than 20 aliases are expanded",
        ),
        (f"{HEAD}z: &z [*z]\n", "an alias stands here inside of what it names"),
        (f"{HEAD}z: &z {{a: *z}}\n", "an alias stands here inside of what it names"),
        (f"{HEAD}z: &z {{<<: *z}}\n", ""),
        (f"{HEAD}<<: 5\n", "not valid YAML"),
        (f"{HEAD}z: \ud800\n", "line 5: a character stands here that UTF-8 cannot hold"),
        (f"{HEAD}z: \x00\n", "not valid YAML"),
        ("a\n" * 8000, ""),
        ("- " * 8000, ""),
    ],
)
def test_hostile_texts_end_soon_and_harmlessly(text: str, part: str) -> None:
    """Depth, aliases, circles and characters."""
    before = time.process_time()
    assert part in "; ".join(reasons(text))
    assert time.process_time() - before < 20


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    """A manifest, or its faults."""
    reasons(text)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab: -[]{}&*!|>'\"#\n,?%~<0.:_x"), max_size=80))
def test_no_text_that_looks_like_yaml_raises_anything_else(text: str) -> None:
    """The same with the characters that mean something, after a good beginning."""
    reasons(text)
    reasons(f"{HEAD}{text}\n")
    reasons(f"{HEAD}environment:\n  {text}\n")


NAMES = "image arch packages repositories sources environment secrets tasks triggers artifacts shell oauth x"
FIELDS = st.sampled_from(NAMES.split(" "))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | FIELDS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=6))
def test_wrong_values_are_faults_and_right_ones_are_not(value: dict[str, Any]) -> None:
    """Written as JSON, which is YAML: nothing of it raises anything else, and each fault names its line."""
    assert all(reason.startswith("line ") for reason in reasons(json.dumps(value)))


SIGNS = st.text(st.sampled_from("a@.,<>()[]:;\\\"' /?#%1\n"), max_size=15)
TRIGGERS = st.fixed_dictionaries(
    {"action": st.sampled_from(["email", "webhook"]), "condition": st.sampled_from(["always", "x"])},
    optional={"to": SIGNS, "cc": SIGNS, "url": SIGNS.map(lambda text: f"http://{text}"), "more": VALUES},
)


@settings(max_examples=150, deadline=None)
@given(VALUES | st.lists(VALUES | TRIGGERS, max_size=2))
def test_no_triggers_of_a_request_raise(value: Any) -> None:
    """Whatever JSON holds: triggers or faults, never both."""
    triggers, faults = check_triggers(value)
    assert not (triggers and faults)
    assert all(fault.field.startswith("triggers") for fault in faults)
