"""People push and callers write through the API, in any order and at once: nothing is lost, nothing merged as text."""

from __future__ import annotations

import asyncio
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import EVERYTHING, Caller
from reconciler.commands import declare
from reconciler.commands.declare import Terms, Written
from reconciler.daemon import Daemon
from reconciler.errors import Stale
from reconciler.queries import resources
from specs.meta import parse_key
from specs.tree import Tree
from specs.write import Wish
from tests.support import PROJECT, SpecRepository, daemon, settings_for

WENDY = Caller("User/wendy", EVERYTHING)
KEYS = [f"Build/shop/_/b{number}" for number in range(6)]


def document(key: str, seconds: int) -> str:
    """A build by hand, with its comment."""
    name = key.rpartition("/")[2]
    return (
        f"# by hand: {name}\napiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n  timeout_seconds:   {seconds}  # keep\n  tasks: [{{name: t, run: echo}}]\n"
    )


@dataclass
class Team:
    """A bare repository, somebody's clone of it, and a daemon that follows and writes it."""

    bare: Path
    clone: SpecRepository
    running: Daemon
    seconds: dict[str, int]
    commits: int
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def git(self, *arguments: str) -> str:
        """In the bare repository."""
        command = ["git", "-C", str(self.bare), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    async def push(self, key: str, seconds: int) -> None:
        """A person changes a build, in the file where it stands, and pushes until it is taken."""

        def work() -> bool:
            self.clone.git("fetch", "-q", "origin")
            self.clone.git("reset", "-q", "--hard", "origin/main")
            path = next(p for p in self.clone.path.rglob("*.yaml") if f"name: {key[-2:]}," in p.read_text())
            lines = path.read_text().splitlines(keepends=True)
            start = next(at for at, line in enumerate(lines) if f"name: {key[-2:]}," in line)
            at = next(n for n in range(start, len(lines)) if "timeout_seconds" in lines[n])
            lines[at] = f"  timeout_seconds:   {seconds}  # keep\n"
            path.write_text("".join(lines))
            self.clone.git("commit", "-q", "--allow-empty", "-am", f"{key} by hand")
            try:
                self.clone.git("push", "-q", "origin", "main")
            except subprocess.CalledProcessError:
                return False
            return True

        while not await asyncio.to_thread(work):
            pass
        self.seconds[key] = seconds
        self.commits += 1

    async def write(self, key: str, seconds: int) -> None:
        """A caller changes it through the door; the answer is what Git says at its commit."""

        def intent(tree: Tree) -> list[Wish]:
            spec = tree.declared[key].spec
            assert spec is not None
            return [Wish(parse_key(key), {**spec, "timeout_seconds": seconds})]

        written = await declare.write(self.running.installation, WENDY, intent, Terms("PUT test", wait=30))
        if written.commit is None:
            assert self.seconds[key] == seconds
            return
        self.commits += 1
        self.seconds[key] = seconds
        self._changed_one_line(written, seconds)

    def _changed_one_line(self, written: Written, seconds: int) -> None:
        diff = self.git("show", "--format=", "-U0", str(written.commit))
        changed = [line for line in diff.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
        assert len(changed) == 2, diff
        assert changed[1] == f"+  timeout_seconds:   {seconds}  # keep"
        assert written.applied


def team(folder: Path, rng: random.Random) -> tuple[Path, SpecRepository]:
    """Builds in files of their own and together, pushed by a person."""
    bare = folder / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    clone = SpecRepository(folder / "clone")
    clone.git("remote", "add", "origin", str(bare))
    together = rng.sample(KEYS, 3)
    files = {f"{key[-2:]}.yaml": document(key, 100) for key in KEYS if key not in together}
    clone.commit(
        {"p.yaml": PROJECT, "all.yaml": "---\n".join(document(key, 100) for key in together), **files}
    )
    clone.git("push", "-q", "origin", "main")
    return bare, clone


def state(running: Daemon) -> dict[str, Any]:
    """What a database rebuilt from Git must say too."""
    found = running.installation.snapshot.current.resources
    return {k: (r.spec, r.digest, r.location, r.sync, r.conditions == ()) for k, r in found.items()}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    """All that was answered is in Git and in force, one commit each, and a new database says the same."""
    rng = random.Random(seed)

    async def work() -> None:
        bare, clone = team(tmp_path, rng)
        settings = settings_for(str(bare), tmp_path / "data")
        async with daemon(settings) as running:
            group = Team(bare, clone, running, dict.fromkeys(KEYS, 100), 1)
            for _ in range(6):
                keys = rng.sample(KEYS, rng.randint(1, 4))
                person = rng.choice([None, *keys])
                steps = [
                    (group.push if key == person else group.write)(key, rng.randint(10, 999)) for key in keys
                ]
                await asyncio.gather(*steps)
            await running.installation.run_now("source")
            assert int(group.git("rev-list", "--count", "main")) == group.commits
            assert group.git("rev-list", "--merges", "--count", "main") == "0"
            for key, seconds in group.seconds.items():
                shown = await resources.get(running.installation, WENDY, key)
                assert shown["spec"]["timeout_seconds"] == seconds
            texts = group.git("grep", "-h", "", "main", "--", "*.yaml")
            assert texts.count("# keep") == texts.count("# by hand") == len(KEYS)
            before = state(running)
        async with daemon(settings_for(str(bare), tmp_path / "other")) as rebuilt:
            assert state(rebuilt) == before

    asyncio.run(work())


def test_the_same_tag_wins_once(tmp_path: Path) -> None:
    """Of many who read the same, one writes; the others are told so, and nothing of theirs is there."""

    async def work() -> None:
        bare, _ = team(tmp_path, random.Random(0))
        async with daemon(settings_for(str(bare), tmp_path / "data")) as running:
            installation, key = running.installation, KEYS[0]
            tag = (await resources.get(installation, WENDY, key))["digest"]

            async def write(seconds: int) -> bool:
                def intent(tree: Tree) -> list[Wish]:
                    return [
                        Wish(parse_key(key), {**(tree.declared[key].spec or {}), "timeout_seconds": seconds})
                    ]

                terms = Terms("PUT test", {key: tag})
                try:
                    return bool((await declare.write(installation, WENDY, intent, terms)).commit)
                except Stale:
                    return False

            assert sum(await asyncio.gather(*(write(200 + number) for number in range(5)))) == 1

    asyncio.run(work())
