"""Executors: each mistake with its place and its sentence; and which image a name means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specs.executor import PROCESSES, Executor, resolve_image
from specs.tree import Tree

Grow = Callable[..., Tree]

DIGEST = "sha256:" + "0" * 64
NO_IMAGE = "is not an image of this executor"

RIGHT = [
    "{}",
    "{traits: [linux, bash], max_load: 4, sandbox: required, readable: [/opt/x], network: none}",
    "{images: {a: {type: host}}, default_image: a, limits: {log_bytes: 100000, memory_bytes: null}}",
    "{accepted_repositories: ['https://e.org/**'], writable: [/var/x], limits: {}}",
    "{sandbox: off}",
    "{limits: {processes: 1, memory_bytes: 1048576, disk_bytes: 1048576}}",
    "{images: {debian/stable: {type: root, path: /srv/x, install: [apt-get, install, -y], "
    "add_repository: [/usr/bin/add]}}, default_image: debian/stable}",
    "{images: {alpine/edge: {type: container, reference: 'alpine:edge', engine: podman, arch: aarch64, "
    "install: [apk, add], add_repository: [add], arguments: [--init]}}, default_image: alpine/edge}",
    "{images: {'docker.io/library/*': {type: container}}, default_image: 'docker.io/library/alpine:3'}",
]

WRONG = [
    ("{sandbox: false}", "4:17: sandbox must be required or off, not false"),
    ("{readable: [x]}", "4:19: readable[0] must be an absolute path of the host, without .."),
    ("{max_load: 0}", "4:18: max_load must be more than 0"),
    ("{max_laod: 1}", '4:8: unknown field "max_laod"; did you mean "max_load"?'),
    ("{limits: {processes: 0}}", "4:28: limits.processes must be at least 1"),
    ("{limits: {memory_bytes: 1000}}", "4:31: limits.memory_bytes must be at least 1048576"),
    ("{limits: {disk_bytes: 1000}}", "4:29: limits.disk_bytes must be at least 1048576"),
    ("{images: {a: {type: host}}}", f'4:7: "host" {NO_IMAGE}; known here: a'),
    ("{images: {}}", f'4:7: "host" {NO_IMAGE}'),
    ("{default_image: hots}", f'4:23: "hots" {NO_IMAGE}; did you mean "host"?'),
    (
        "{images: {'docker.io/library/*': {type: container}}, default_image: docker.io/alpine}",
        f'4:75: "docker.io/alpine" {NO_IMAGE}; did you mean "docker.io/library/*"?',
    ),
    (
        "{images: {a: {type: hots}}, default_image: a}",
        '4:20: images.a must have a type that is one of host, root, container, not "hots"',
    ),
    ("{images: {a: {type: root}}, default_image: a}", "4:20: images.a.path is missing"),
    (
        "{images: {a: {type: root, path: srv/x}}, default_image: a}",
        "4:39: images.a.path must be an absolute path of the host, without ..",
    ),
    (
        "{images: {'a/*': {type: root, path: /x}, host: {type: host}}}",
        '4:24: "a/*" is a pattern, which only images of type container can have as name; write it out',
    ),
    (
        "{images: {a: {type: container}}, default_image: a}",
        '4:20: image "a" needs a reference: the container image to run; only a pattern needs none',
    ),
    (
        "{images: {a: {type: container, reference: --privileged}}, default_image: a}",
        "4:49: images.a.reference must not begin with - or hold spaces or control characters",
    ),
    (
        "{images: {a: {type: container, reference: x, engine: docker}}, default_image: a}",
        '4:60: images.a.engine must be podman, not "docker"',
    ),
    (
        "{images: {a: {type: root, path: /x, install: apt}}, default_image: a}",
        '4:52: images.a.install must be a list, not "apt"',
    ),
    (
        "{images: {a: {type: root, path: /x, add_repository: [a, '']}}, default_image: a}",
        "4:63: images.a.add_repository[1] must not be empty",
    ),
    (
        "{images: {a: {type: container, reference: x, arguments: [1]}}, default_image: a}",
        '4:64: images.a.arguments[0] must be a quoted string: write "1"',
    ),
    (
        "{images: {a: {type: container, reference: a, arch: 'x/y'}}, default_image: a}",
        "4:58: images.a.arch must be the name of an architecture, such as x86_64 or aarch64",
    ),
    (
        "{images: {a: {type: root, path: /x, arguments: []}}, default_image: a}",
        '4:43: unknown field "arguments"',
    ),
    (
        "{images: {'/a*': {type: container}, host: {type: host}}}",
        "images./a* is a pattern, which must be relative; leave the leading / out",
    ),
    (
        "{images: {'a b': {type: host}, host: {type: host}}}",
        "images.a b must not begin with - or hold spaces",
    ),
]


def errors(grow: Grow, spec: str) -> list[str]:
    """The errors of an Executor with this `spec`."""
    text = f"apiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: local}}\nspec: {spec}\n"
    return [str(each).removeprefix("x.yaml:") for each in grow({"x.yaml": text}).errors]


@pytest.mark.parametrize("spec", RIGHT)
def test_a_right_executor_has_no_error(grow: Grow, spec: str) -> None:
    """Every field, in its forms."""
    assert errors(grow, spec) == []


@pytest.mark.parametrize(("spec", "error"), WRONG)
def test_a_mistake_in_an_executor_is_told(grow: Grow, spec: str, error: str) -> None:
    """One error, at its place."""
    (found,) = errors(grow, spec)
    assert error in found


def executor(**fields: Any) -> dict[str, Any]:
    """An Executor's specification with its built-in values."""
    return Executor.model_validate(fields).model_dump(mode="json")


MANY = executor(
    default_image="root",
    images={
        "host": {"type": "host"},
        "root": {"type": "root", "path": "/srv/root"},
        "docker.io/library/alpine": {"type": "container", "reference": "alpine:edge"},
        "docker.io/library/*": {"type": "container", "arguments": ["--init"]},
        "docker.io/**": {"type": "container", "arguments": ["--read-only"]},
        "local/*": {"type": "container", "reference": "localhost/one"},
    },
)


def test_without_images_there_is_the_host() -> None:
    """The executor of an installation that declares none has no field `images`."""
    host = {"type": "host", "name": "host"}
    assert [host, host, None] == [resolve_image({"max_load": 4.0}, name) for name in (None, "host", "alpine")]


def test_a_script_may_have_512_processes_where_no_limit_is_declared() -> None:
    """The number that own-kinds has."""
    assert [PROCESSES, executor()["limits"]["processes"]] == [512, 512]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, {"type": "root", "path": "/srv/root", "name": "root"}),
        ("root", {"type": "root", "path": "/srv/root", "name": "root"}),
        ("host", {"type": "host", "name": "host"}),
        ("docker.io/library/alpine", {"reference": "alpine:edge", "arguments": []}),
        ("docker.io/library/alpine:3", {"reference": "docker.io/library/alpine:3", "arguments": ["--init"]}),
        (f"docker.io/library/a@{DIGEST}", {"reference": f"docker.io/library/a@{DIGEST}"}),
        ("docker.io/someone/tool:1", {"arguments": ["--read-only"]}),
        ("local/x", {"reference": "localhost/one", "name": "local/x"}),
    ],
)
def test_a_name_means_an_image(name: str | None, expected: dict[str, Any]) -> None:
    """The default, an exact name before patterns, the longer pattern before the shorter."""
    found = resolve_image(MANY, name)
    assert found is not None
    assert expected == {field: found[field] for field in expected}


@pytest.mark.parametrize(
    "name",
    [
        "alpine",
        "docker.io/library/*",
        "docker.io/library/a b",
        "docker.io/library/a:-x",
        "docker.io/library/--privileged",
        "quay.io/x",
    ],
)
def test_any_other_name_means_none(name: str) -> None:
    """Unknown names, the pattern itself, and what podman could take for something else."""
    assert resolve_image(MANY, name) is None


@pytest.mark.parametrize(
    "name",
    ["dir:/etc", "oci-archive:/srv/x.tar", "docker-archive:x", "containers-storage:x", "oci:x", "Upper"],
)
def test_a_pattern_for_everything_opens_no_file_of_the_host(name: str) -> None:
    """Podman's transports are no image names of a Build's author."""
    everything = executor(images={"host": {"type": "host"}, "**": {"type": "container"}})
    assert resolve_image(everything, name) is None
    assert resolve_image(everything, "localhost:5000/x:1") is not None


def test_every_declared_container_has_a_reference_once_resolved() -> None:
    """Also of the default image that fits a pattern only."""
    spec = executor(images={"e.org/*": {"type": "container"}}, default_image="e.org/a")
    found = resolve_image(spec, None)
    assert found is not None
    assert [found[field] for field in ("name", "reference", "engine")] == ["e.org/a", "e.org/a", "podman"]
