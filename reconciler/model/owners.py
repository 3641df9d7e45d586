"""Whom a job of a manifest belongs to, as the name that stands in its KEY."""

from __future__ import annotations


def owner_name(subject: str) -> str:
    """`User/jo` is jo; `ServiceAccount/ops/deployer` is ops:deployer, which no user can be called."""
    return subject.partition("/")[2].replace("/", ":")
