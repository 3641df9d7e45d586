"""Whose kept files are: the words for it that the store, the doors and served APIs share."""

from __future__ import annotations

TRIAL = "trial"
"""A file of one trial."""

TREE = "tree"
"""A file of a tree, for all jobs of a project that have it."""

NOBODY = ""
"""In the place of a project, for trees that no project has."""
