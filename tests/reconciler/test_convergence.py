"""Whatever a history went through, after its last good commit the store is that of a fresh daemon on that commit."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reconciler.access import ROOT
from reconciler.daemon import Daemon
from reconciler.queries import plans
from tests.conftest import NewDatabase
from tests.support import PROJECT, SpecRepository, daemon, settings_for

FILES = ("a.yaml", "b.yaml", "folder/c.yaml", "d.yml")
BROKEN = ("kind: [", "a: b: c\n", "\tx", "apiVersion: steersman/v1\nkind: Nothing\nmetadata: {name: x}\n")


def repository(name: str, branch: str) -> str:
    return (
        f"apiVersion: steersman/v1\nkind: Repository\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec: {{url: 'https://git.example.org/{name}.git', branch: {branch}}}\n"
    )


def build(name: str, repo: str | None, command: str) -> str:
    source = f"repo: {repo}, branch: main, " if repo else ""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec: {{{source}tasks: [{{name: t, run: 'echo {command}'}}]}}\n"
    )


def executor(name: str, load: int) -> str:
    return (
        f"apiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: {name}}}\nspec: {{max_load: {load}}}\n"
    )


words = st.sampled_from(["one", "two", "three"])
documents = st.one_of(
    st.builds(repository, st.sampled_from(["r1", "r2"]), words),
    st.builds(build, st.sampled_from(["b1", "b2", "b3"]), st.sampled_from([None, "r1", "r2"]), words),
    st.builds(executor, st.sampled_from(["e1", "e2"]), st.integers(1, 3)),
)
contents = st.lists(documents, min_size=0, max_size=4).map("---\n".join)
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(FILES), contents),
    st.tuples(st.just("break"), st.sampled_from(FILES), st.sampled_from(BROKEN)),
    st.tuples(st.just("remove"), st.sampled_from(FILES), st.just("")),
    st.tuples(st.just("rename"), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("revert"), st.just(""), st.just("")),
    st.tuples(st.just("force"), st.just(""), st.integers(1, 3)),
)


@st.composite
def good_trees(draw: st.DrawFn) -> dict[str, str]:
    """Files in which every reference is declared and nothing twice."""
    repositories = draw(st.dictionaries(st.sampled_from(["r1", "r2"]), words))
    builds = draw(st.dictionaries(st.sampled_from(["b1", "b2", "b3"]), st.tuples(st.booleans(), words)))
    executors = draw(st.dictionaries(st.sampled_from(["e1", "e2"]), st.integers(1, 3)))
    texts = [repository(name, branch) for name, branch in repositories.items()]
    some = next(iter(repositories), None)
    texts += [build(name, some if wants else None, word) for name, (wants, word) in builds.items()]
    texts += [executor(name, load) for name, load in executors.items()]
    files: dict[str, list[str]] = {name: [] for name in FILES}
    for text in texts:
        files[draw(st.sampled_from(FILES))].append(text)
    return {name: "---\n".join(parts) for name, parts in files.items()}


def carry_out(repo: SpecRepository, step: tuple[str, str, Any]) -> None:
    """One thing that somebody does to the repository."""
    verb, name, detail = step
    if verb in ("write", "break"):
        repo.commit({name: detail})
    elif verb == "remove":
        repo.commit({name: None})
    elif verb == "rename":
        path = repo.path / name
        content = path.read_bytes() if path.exists() else b""
        repo.commit({name: None, detail: content})
    elif verb == "revert" and int(repo.git("rev-list", "--count", "HEAD")) > 1:
        repo.git("read-tree", "-u", "--reset", "HEAD~1")
        repo.commit()
    elif verb == "force":
        count = int(repo.git("rev-list", "--count", "HEAD"))
        repo.git("reset", "-q", "--hard", f"HEAD~{min(detail, count - 1)}")


async def observe(running: Daemon) -> dict[str, Any]:
    """What the store says, less what depends on the way it came there."""
    installation = running.installation
    view = installation.snapshot.current
    assert view.source is not None
    return {
        "resources": {
            key: {
                "spec": r.spec,
                "digest": r.digest,
                "location": r.location,
                "sync": r.sync,
                "health": r.health,
                "conditions": [(c.type, c.reason, c.message) for c in r.conditions],
                "references": r.references,
                "observed": r.observed_generation == r.generation,
            }
            for key, r in view.resources.items()
        },
        "errors": view.source.errors,
        "held": view.source.held,
        "applied": view.source.applied,
        "plan": await plans.of_branch(installation, ROOT),
    }


async def settle(running: Daemon) -> None:
    """Look at the source until it is applied, and confirm removals as a person would."""
    installation = running.installation
    for _ in range(4):
        await installation.run_now("source")
        source = installation.snapshot.current.source
        digests = [held["digest"] for held in (source.held if source else ()) if held["digest"]]
        if not digests:
            return
        installation.confirmed.update(digests)


async def live(
    folder: Path, urls: tuple[str, str], history: list[tuple[str, str, Any]], last: dict[str, str]
) -> None:
    repo = SpecRepository(folder / "specs")
    repo.commit({"project.yaml": PROJECT})
    async with daemon(settings_for(repo, folder / "one", database=urls[0])) as running:
        for step in history:
            carry_out(repo, step)
            await running.installation.run_now("source")
            resources = running.installation.snapshot.current.resources.values()
            assert not [r for r in resources for c in r.conditions if c.type == "Unsettled"], "planned again"
        repo.commit(last)
        await settle(running)
        await running.loop.idle()
        lived = await observe(running)
    async with daemon(settings_for(repo, folder / "two", database=urls[1])) as running:
        await running.loop.idle()
        fresh = await observe(running)
    assert lived == fresh
    assert lived["plan"]["actions"] == []
    async with daemon(settings_for(repo, folder / "one", database=urls[0])) as running:
        await running.loop.idle()
        assert await observe(running) == lived, "a restart changes nothing"


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # shrinking a history takes minutes; it is short as it is
    suppress_health_check=list(HealthCheck),
)
@given(history=st.lists(steps, max_size=8), last=good_trees())
def test_random_histories_converge(
    new_database: NewDatabase, history: list[tuple[str, str, Any]], last: dict[str, str]
) -> None:
    """Add, change, break, fix, rename, remove, revert, force-push: the end is the same as a fresh start."""
    folder = Path(tempfile.mkdtemp(prefix="steersman-convergence-"))
    try:
        asyncio.run(live(folder, (new_database(), new_database()), history, last))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
