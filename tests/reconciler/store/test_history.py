"""What is known of Repositories' histories (cider-ci 2.7, 4.2), on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from reconciler.model.history import Commit
from reconciler.model.job import Checkout, Origin, State, configuration_key
from reconciler.store import history, jobs
from reconciler.store import tables as t
from reconciler.store.database import Connection, Database, Write, connect
from reconciler.store.history import GitFilter
from reconciler.store.jobs import NewJob
from tests.conftest import NewDatabase

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
R, FORK, OTHER = "Repository/shop/web", "Repository/shop/fork", "Repository/other/web"


def commit(name: str, *parents: str, tree: str | None = None, at: int = 0) -> Commit:
    """`a` has the tree `ta`, unless another is said."""
    return Commit(name, tree or f"t{name}", parents, EPOCH + timedelta(minutes=at))


ABC = (commit("A"), commit("B", "A", at=1), commit("C", "B", at=2))


def on(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Do something on an empty store."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


async def known(
    database: Database, repository: str, commits: tuple[Commit, ...], heads: Mapping[str, str]
) -> None:
    """A Repository with these commits and branches."""

    def store(write: Write) -> None:
        history.add(write, repository, commits)
        history.move(write, repository, heads)

    await database.write(store)


async def found(database: Database, git: GitFilter) -> set[str]:
    """Trees that a filter lets through; all ways to ask agree."""

    def ask(connection: Connection) -> set[str]:
        trees = set(connection.execute(history.trees(git)).scalars())
        page = history.commits_page(connection, git, None, 100, 0)
        assert {row.tree for row in page} == trees
        assert len({row.id for row in page}) == len(page)
        some = select(t.commits.c.tree).where(history.among_trees(git, t.commits.c.tree))
        assert set(connection.execute(some).scalars()) == trees
        return trees

    return await database.read(ask)


def test_descendants_are_those_of_the_head_and_itself(new_database: NewDatabase) -> None:
    """Case 10: A–B–C, `next` at B, `master` at C."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"next": "B", "master": "C"})
        assert await found(database, GitFilter((R,), None, "next")) == {"tB", "tC"}
        assert await found(database, GitFilter((R,), "master", "next")) == {"tC"}
        assert await found(database, GitFilter((R,), "next", "master")) == set()
        assert await found(database, GitFilter((R,), None, "none")) == set()
        assert await found(database, GitFilter((R,))) == {"tA", "tB", "tC"}
        assert await found(database, GitFilter(())) == set()

    on(new_database, work)


def test_names_of_branches_are_compared_without_case(new_database: NewDatabase) -> None:
    """Case 9: the whole name, in any case, also beyond ASCII; no pattern."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"Straße": "A", "master": "C"})
        for name in ("MASTER", "master", "Master"):
            assert await found(database, GitFilter((R,), name)) == {"tC"}
        assert await found(database, GitFilter((R,), "STRASSE")) == {"tA"}
        for name in ("mast", "%", "m_ster", "master "):
            assert await found(database, GitFilter((R,), name)) == set()

    on(new_database, work)


def test_a_branch_of_another_repository_does_not_count(new_database: NewDatabase) -> None:
    """Case 12: `dev` exists only in the other one, though the commit is in both."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"master": "C"})
        await known(database, OTHER, ABC[:2], {"dev": "B"})
        assert await found(database, GitFilter((R,), "dev")) == set()
        assert await found(database, GitFilter((R,), None, "dev")) == set()
        assert await found(database, GitFilter((R, OTHER), "dev")) == {"tB"}

    on(new_database, work)


def test_one_commit_meets_all_conditions(new_database: NewDatabase) -> None:
    """Two commits with the same tree, of which each meets one condition, are not enough."""

    async def work(database: Database) -> None:
        same = (commit("A"), commit("X", "A", tree="same"), commit("Y", "A", tree="same"), commit("Z", "Y"))
        await known(database, R, same, {"x": "X", "y": "Y", "z": "Z"})
        assert await found(database, GitFilter((R,), "x", "y")) == set()
        assert await found(database, GitFilter((R,), "y", "y")) == {"same"}

    on(new_database, work)


def test_a_descendant_may_be_known_from_another_repository(new_database: NewDatabase) -> None:
    """A fork goes on where the branch of the other one points; a commit in both is shown once."""

    async def work(database: Database) -> None:
        await known(database, R, ABC[:2], {"next": "B"})
        await known(database, FORK, (*ABC, commit("D", "C")), {"work": "D"})
        both = (R, FORK)
        assert await found(database, GitFilter(both, None, "next")) == {"tB", "tC", "tD"}
        assert await found(database, GitFilter(both, "work", "next")) == {"tD"}
        assert await found(database, GitFilter((R,), None, "next")) == {"tB"}

    on(new_database, work)


def test_commits_come_by_the_page(new_database: NewDatabase) -> None:
    """Newest first, then by id; by tree; each once, with the first Repository that has it."""

    async def work(database: Database) -> None:
        commits = tuple(commit(f"c{i}", tree=f"t{i % 2}", at=i // 2) for i in range(6))
        await known(database, R, commits, {})
        await known(database, FORK, commits, {})
        git = GitFilter((R, FORK))

        def ask(connection: Connection) -> None:
            every = history.commits_page(connection, git, None, 10, 0)
            assert [row.id for row in every] == ["c4", "c5", "c2", "c3", "c0", "c1"]
            assert {row.repository for row in every} == {FORK}
            assert every[0].committed_at == EPOCH + timedelta(minutes=2)
            assert [row.id for row in history.commits_page(connection, git, None, 2, 1)] == ["c5", "c2"]
            assert [row.id for row in history.commits_page(connection, git, "t1", 2, 0)] == ["c5", "c3"]
            assert history.commits_page(connection, git, "t2", 2, 0) == []
            row = history.commit_row(connection, [R, OTHER], "c3")
            assert row is not None
            assert (row.repository, row.id, row.tree) == (R, "c3", "t1")
            assert history.commit_row(connection, [OTHER], "c3") is None
            assert history.newest_with(connection, R, "t1") == "c5"
            assert history.newest_with(connection, OTHER, "t1") is None

        await database.read(ask)

    on(new_database, work)


def test_who_has_a_tree(new_database: NewDatabase) -> None:
    """Repositories by KEY, and branches by the tree of their head."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"next": "B", "main": "C", "also": "C"})
        await known(database, OTHER, ABC[:1], {"old": "A"})

        def ask(connection: Connection) -> None:
            assert history.repositories_with(connection, "tA") == [OTHER, R]
            assert history.repositories_with(connection, "none") == []
            assert history.heads_with(connection, R, "tC") == ["also", "main"]
            assert history.heads_with(connection, R, "tA") == []
            assert history.repositories(connection) == {R, OTHER}
            assert history.is_known(connection, R)
            assert not history.is_known(connection, FORK)

        await database.read(ask)

    on(new_database, work)


def test_branches_move_come_and_go(new_database: NewDatabase) -> None:
    """What was judged stays so until somebody judges anew; the moment of the move is noted."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"main": "B", "gone": "A"})
        await database.write(lambda w: history.judge(w.connection, R, {"main": "B", "gone": "A"}))
        first = await database.read(lambda c: history.of_repository(c, R))
        await known(database, R, (), {"main": "C", "new": "A"})
        second = await database.read(lambda c: history.of_repository(c, R))
        assert {name: (b.commit, b.tree, b.judged) for name, b in second.items()} == {
            "main": ("C", "tC", "B"),
            "new": ("A", "tA", None),
        }
        assert second["main"].moved_at > first["main"].moved_at
        assert second["main"].committed_at == ABC[2].committed_at
        await known(database, R, (), {"main": "C", "new": "A"})
        assert await database.read(lambda c: history.of_repository(c, R)) == second

    on(new_database, work)


def test_what_nothing_leads_to_is_found(new_database: NewDatabase) -> None:
    """Of what was left behind, the newest; what went is no more, and neither are the arcs to it."""

    async def work(database: Database) -> None:
        left = (commit("X", "B"), commit("Y", "X"))
        await known(database, R, (*ABC, *left), {"main": "C"})
        assert await database.read(lambda c: history.loose(c, R)) == ["Y"]
        await database.write(lambda w: history.remove(w.connection, R, ["X", "Y"]))
        assert await database.read(lambda c: history.loose(c, R)) == []
        assert await database.read(lambda c: history.ids(c, R)) == {"A", "B", "C"}
        query = select(t.arcs.c.parent, t.arcs.c.child)
        arcs = await database.read(lambda c: {tuple(row) for row in c.execute(query)})
        assert arcs == {("A", "B"), ("B", "C")}

    on(new_database, work)


def test_a_repository_is_forgotten_bit_by_bit(new_database: NewDatabase) -> None:
    """And no other one."""

    async def work(database: Database) -> None:
        many = tuple(commit(f"c{i:05}") for i in range(history.AT_ONCE + 1))
        await database.write(lambda w: history.add(w, R, many[: history.AT_ONCE]))
        await known(database, R, many[history.AT_ONCE :], {"main": "c00000"})
        await known(database, OTHER, ABC, {"main": "C"})
        await database.write(lambda w: history.judge_until(w.connection, R, 7))
        assert await database.read(lambda c: history.judged_until(c, R)) == 7
        assert await database.write(lambda w: history.forget(w.connection, R))
        assert await database.read(lambda c: len(history.ids(c, R))) == 1
        assert not await database.write(lambda w: history.forget(w.connection, R))
        assert await database.read(history.repositories) == {OTHER}
        assert await database.read(lambda c: history.judged_until(c, R)) is None
        assert await found(database, GitFilter((OTHER,))) == {"tA", "tB", "tC"}

    on(new_database, work)


def test_commits_are_added_once(new_database: NewDatabase) -> None:
    """Who was killed does it again; what was seen keeps its time."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"main": "C"})
        before = await database.read(lambda c: history.commit_row(c, [R], "A"))
        await known(database, R, ABC, {"main": "C"})
        assert await database.read(lambda c: history.commit_row(c, [R], "A")) == before

    on(new_database, work)


def test_the_filter_says_what_the_definition_says(new_database: NewDatabase) -> None:
    """On random histories of several Repositories, compared with the contract's words taken literally."""
    chance = random.Random(7)

    async def work(database: Database) -> None:
        commits: dict[str, Commit] = {}
        for number in range(30):
            parents = chance.sample(sorted(commits), min(len(commits), chance.choice([0, 1, 1, 1, 2])))
            commits[f"c{number:02}"] = commit(f"c{number:02}", *parents, tree=f"t{chance.randrange(12)}")

        def line(heads: set[str]) -> set[str]:
            reached: set[str] = set()
            left = list(heads)
            while left:
                reached.add(each := left.pop())
                left += [parent for parent in commits[each].parents if parent not in reached]
            return reached

        heads = {
            key: {
                name: chance.choice(sorted(commits)) for name in ("a", "b", "c", "d")[: chance.randint(1, 4)]
            }
            for key in (R, FORK, OTHER)
        }
        reach = {key: line(set(branches.values())) for key, branches in heads.items()}
        for key, branches in heads.items():
            await known(database, key, tuple(commits[each] for each in sorted(reach[key])), branches)
        for _ in range(60):
            among = tuple(chance.sample((R, FORK, OTHER), chance.randint(1, 3)))
            head, after = chance.choice((None, *"abcd")), chance.choice((None, *"abcd"))
            expected = set()
            for each in set().union(*(reach[key] for key in among)):
                at = {heads[key].get(head or "") for key in among}
                past = {heads[key].get(after or "") for key in among} - {None}
                if head is not None and each not in at:
                    continue
                if after is not None and not past & line({each}):
                    continue
                expected.add(commits[each].tree)
            assert await found(database, GitFilter(among, head, after)) == expected

    on(new_database, work)


def test_jobs_of_trees_that_are_gone(new_database: NewDatabase) -> None:
    """Live ones that a trigger has made here; those that somebody asked for stay, and those of other Repositories."""

    async def work(database: Database) -> None:
        await known(database, R, ABC, {"main": "C"})

        def make(write: Write) -> list[int]:
            def job(key: str, tree: str, kind: str, repository: str = R) -> int:
                new = NewJob(
                    configuration_key("shop", key),
                    {"tasks": [{"name": "a"}], "of": key + tree},
                    "w",
                    Checkout(tree=tree),
                    {"type": kind, "repository": repository},
                    {},
                    "system",
                    origin=Origin.CONFIGURATION,
                    name=key,
                )
                return jobs.create(write.connection, new, write.now, write.version)

            ended = job("ended", "gone", "branch")
            loaded = jobs.load(write.connection, ended)
            assert loaded is not None
            jobs.move(
                write.connection, "job", loaded.id, State.ABORTED, None, write.now, version=write.version
            )
            return [
                job("there", "tA", "branch"),
                job("one", "gone", "branch"),
                job("two", "gone", "api"),
                job("three", "gone", "cron"),
                job("four", "gone", "job", OTHER),
            ]

        numbers = await database.write(make)
        types = ("branch", "job", "cron")

        def ask(connection: Connection) -> None:
            assert history.abandoned(connection, R, [R], types) == [numbers[1], numbers[3]]
            assert history.abandoned(connection, R, [], types) == [numbers[0], numbers[1], numbers[3]]
            assert history.changed_trees(connection, R, 0) == ["gone", "tA"]
            assert history.changed_trees(connection, R, database.version) == []
            assert history.trees_with_jobs(connection, "shop", ["tA", "tB"]) == {"tA"}
            assert history.trees_with_jobs(connection, "other", ["tA"]) == set()

        await database.read(ask)

    on(new_database, work)


def test_an_event_is_remembered_by_tree(new_database: NewDatabase) -> None:
    """Of one kind and Repository."""

    async def work(database: Database) -> None:
        await database.write(lambda w: w.record("tree-issue", R, {"tree": "tA", "faults": ["x"]}))

        def ask(connection: Connection) -> None:
            assert history.was_told(connection, "tree-issue", R, "tA")
            for kind, key, tree in (("x", R, "tA"), ("tree-issue", OTHER, "tA"), ("tree-issue", R, "t")):
                assert not history.was_told(connection, kind, key, tree)

        await database.read(ask)

    on(new_database, work)
