"""Which trial goes where: never above a load, never two holders of a lock, nobody starved, the same in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.dispatch import PATIENCE, Assignment, Place, Queue
from reconciler.model.queue import UNIT, Changes, Need, QueuedJob, QueuedTrial, units

PLACES = ("Executor/a", "Executor/b", "Executor/c")
LOCKS = ("db", "port")


def place(key: str = "Executor/a", load: float = 2, **spec: object) -> Place:
    return Place(key, {"max_load": load, "traits": ["linux"]} | spec)


def job(number: int, *needs: Need, project: str = "shop", **more: object) -> QueuedJob:
    """A job of a Build of its own, with a waiting trial for each need (one that needs nothing special)."""
    trials = [QueuedTrial(f"{number:05}-{i}", i, 0, need) for i, need in enumerate(needs or (Need(),))]
    fields: dict[str, object] = {
        "key": f"Build/{project}/_/b{number}", "ref": "main", "priority": 0, "beside": False, "stopping": False,
    }  # fmt: skip
    return QueuedJob(number=number, trials=tuple(trials), **(fields | more))  # type: ignore[arg-type]


def at_work(found: QueuedJob, executor: str = "Executor/a") -> QueuedJob:
    return replace(found, trials=tuple(replace(trial, executor=executor) for trial in found.trials))


def queue(*jobs: QueuedJob) -> Queue:
    made = Queue()
    for found in jobs:
        made.update(found.number, found)
    return made


def started(assignments: tuple[Assignment, ...]) -> list[int]:
    return [item.job for item in assignments]


needs = st.builds(
    Need,
    load=st.sampled_from([units(0.1), units(0.5), UNIT, 2 * UNIT]),
    traits=st.sampled_from([frozenset(), frozenset({"arm"}), frozenset({"arm", "gpu"})]),
    images=st.sampled_from([(None,), ("debian",), (None, "postgres")]),
    url=st.sampled_from([None, "https://a/x", "https://b/x"]),
    locks=st.frozensets(st.sampled_from(LOCKS)),
    delay=st.sampled_from([0.0, 0.0, 1.0]),
)


@st.composite
def jobs(draw: st.DrawFn, number: int) -> QueuedJob:
    """A job in some state, with trials that wait or are at work."""
    trials = tuple(
        QueuedTrial(
            f"{number}-{i}",
            i,
            draw(st.integers(-1, 1)),
            need,
            draw(st.sampled_from([None, None, *PLACES])),
        )
        for i, need in enumerate(draw(st.lists(needs, max_size=3)))
    )
    return QueuedJob(
        number=number,
        key=f"Build/{draw(st.sampled_from(['one', 'two', '~ann']))}/_/{draw(st.sampled_from('xy'))}",
        ref=draw(st.sampled_from(["main", None])),
        priority=draw(st.integers(-1, 1)),
        beside=draw(st.booleans()),
        stopping=draw(st.sampled_from([False, False, True])),
        trials=trials,
    )


job_sets = st.sets(st.integers(1, 15), max_size=12).flatmap(
    lambda numbers: st.tuples(*(jobs(number) for number in sorted(numbers)))
)
place_sets = st.lists(
    st.builds(
        Place,
        key=st.sampled_from(PLACES),
        spec=st.fixed_dictionaries(
            {
                "max_load": st.sampled_from([0.3, 1, 2.5, 4]),
                "traits": st.sampled_from([[], ["arm"], ["arm", "gpu"]]),
                "accepted_repositories": st.sampled_from([[], ["https://a/*"]]),
                "images": st.sampled_from(
                    [
                        {"host": {"type": "host"}},
                        {name: {"type": "host"} for name in ("host", "debian", "postgres")},
                    ]
                ),
            }
        ),
        closed=st.sampled_from([None, None, ("DiskNearlyFull", "the disk is full")]),
        idle=st.sampled_from([inf, 0.5, 1.0]),
    ),
    unique_by=lambda found: found.key,
)


@given(job_sets, place_sets)
def test_no_limit_is_broken_and_whoever_waits_is_told_why(
    found: tuple[QueuedJob, ...], offers: list[Place]
) -> None:
    """Loads, locks, traits, images, repositories, order within a Build: each holds for every assignment."""
    made = queue(*found)
    chosen = made.decide(offers)
    by_number = {item.number: item for item in found}
    trials = {trial.id: trial for item in found for trial in item.trials}
    by_key = {offer.key: offer for offer in offers}
    assert len({item.trial for item in chosen}) == len(chosen)
    for offer in offers:
        there = [t.need.load for t in trials.values() if t.executor == offer.key]
        added = [trials[item.trial].need.load for item in chosen if item.executor == offer.key]
        assert not added or sum(there) + sum(added) <= offer.max_load
    held = {lock for t in trials.values() if t.executor for lock in t.need.locks}
    for item in chosen:
        need, offer, owner = trials[item.trial].need, by_key[item.executor], by_number[item.job]
        assert need.traits <= offer.traits
        assert offer.accepts(need.url)
        assert offer.lacks(need.images) == []
        assert offer.closed is None
        assert not owner.stopping
        older = [o for o in found if (o.key, o.ref) == (owner.key, owner.ref) and o.number < owner.number]
        assert owner.beside or not older
        assert held.isdisjoint(need.locks)
        held |= need.locks
    for trial in trials.values():
        waits = trial.executor is None and not by_number[int(trial.id.split("-")[0])].stopping
        assert (made.cause(trial.id, offers) is not None) == waits


@given(job_sets, place_sets)
def test_nothing_that_could_start_is_left_waiting(found: tuple[QueuedJob, ...], offers: list[Place]) -> None:
    """Once the chosen are at work, a second look starts nothing, and nobody is told that there is room."""
    made = queue(*found)
    chosen = {item.trial: item.executor for item in made.decide(offers)}
    for item in found:
        moved = tuple(replace(t, executor=chosen.get(t.id, t.executor)) for t in item.trials)
        made.update(item.number, replace(item, trials=moved))
    begun = set(chosen.values())
    offers = [replace(offer, idle=0.0) if offer.key in begun else offer for offer in offers]
    causes = [made.cause(trial.id, offers) for item in found for trial in item.trials]
    assert made.decide(offers) == ()
    assert "Turn" not in {cause.reason for cause in causes if cause}


@given(job_sets, place_sets, st.randoms())
def test_the_order_of_input_is_irrelevant(
    found: tuple[QueuedJob, ...], offers: list[Place], random: Random
) -> None:
    """Jobs and places in any order, the same decision."""
    shuffled, turned = list(found), list(offers)
    random.shuffle(shuffled)
    random.shuffle(turned)
    assert queue(*found).decide(offers) == queue(*shuffled).decide(turned)


@given(st.lists(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.none() | jobs(n)))), place_sets)
def test_a_queue_that_followed_every_change_equals_a_fresh_one(
    history: list[tuple[int, QueuedJob | None]], offers: list[Place]
) -> None:
    """Whatever came and went before: the same decision, and the same causes."""
    followed = Queue()
    for number, change in history:
        followed.update(number, change)
    fresh = queue(*followed.jobs.values())
    trials = [trial.id for item in followed.jobs.values() for trial in item.trials]
    assert [fresh.cause(t, offers) for t in trials] == [followed.cause(t, offers) for t in trials]
    assert fresh.decide(offers) == followed.decide(offers)


@given(
    st.sampled_from([units(0.3), UNIT, 3 * UNIT]),
    st.dictionaries(st.sampled_from(["p", "q", "r", "~ann"]), st.integers(0, 3), min_size=2),
    st.integers(1, 40),
)
def test_lanes_with_enough_to_do_share_the_room(load: int, running: dict[str, int], slots: int) -> None:
    """Where nobody has more than a start ahead, nobody has afterwards."""
    ahead = min(running.values())
    found = []
    for lane, count in running.items():
        count = min(count, ahead + 1)
        found += [at_work(job(len(found) + i, Need(load), project=lane)) for i in range(count)]
        found += [job(len(found) + i, Need(load), project=lane) for i in range(50)]
    by_number = {item.number: item for item in found}
    loads = Counter(dict.fromkeys(running, 0))
    loads.update(item.lane for item in found if item.trials[0].executor)
    most = (sum(loads.values()) + slots) * load / UNIT
    chosen = queue(*found).decide([place(load=most)])
    assert len(chosen) == slots
    loads.update(by_number[item.job].lane for item in chosen)
    assert max(loads.values()) - min(loads.values()) <= 1


def test_projects_take_turns() -> None:
    """A project with a long queue does not keep another waiting."""
    found = [job(n, project="big") for n in range(1, 6)] + [job(9, project="small")]
    assert started(queue(*found).decide([place(load=2)])) == [1, 9]


def test_what_runs_already_counts_for_fairness() -> None:
    """The project with the least load at work goes first."""
    busy = at_work(job(1, Need(2 * UNIT), project="big"))
    made = queue(busy, job(2, project="big"), job(3, project="small"))
    assert started(made.decide([place(load=3)])) == [3]


def test_an_owner_without_a_project_has_a_lane() -> None:
    """`~ann` and `~bob` are two, as two projects are."""
    found = [job(n, project="~ann") for n in (1, 2, 3)] + [job(4, project="~bob")]
    assert started(queue(*found).decide([place(load=2)])) == [1, 4]


def test_within_a_lane_priority_goes_before_age() -> None:
    """Cider-CI 5.7: job priority, job, task priority, position."""
    first, second = job(1, Need(), Need(), Need()), job(2, priority=5)
    urgent = replace(first.trials[2], priority=1)
    made = queue(replace(first, trials=(*first.trials[:2], urgent)), second)
    chosen = made.decide([place(load=3)])
    assert [item.trial for item in chosen] == ["00002-0", "00001-2", "00001-0"]


def test_only_the_oldest_job_of_a_build_is_offered_unless_it_allows_more() -> None:
    """When it has ended the next one is; each branch has a queue of its own."""
    same = {"key": "Build/shop/_/web"}
    made = queue(job(1, **same), job(2, **same), job(3, ref="dev", **same), job(4, beside=True, **same))
    assert started(made.decide([place(load=9)])) == [1, 3, 4]
    cause = made.cause("00002-0", [place(load=9)])
    assert cause is not None
    assert (cause.reason, "job 1 " in cause.message) == ("Concurrency", True)
    made.update(1, None)
    assert started(made.decide([place(load=9)])) == [2, 3, 4]


def test_what_was_not_claimed_is_offered_again() -> None:
    """Deciding moves nothing: only a change of the job does."""
    made = queue(job(1))
    assert made.decide([place()]) == made.decide([place()]) != ()
    made.update(1, at_work(job(1)))
    assert made.decide([place()]) == ()


def test_jobs_that_are_no_more_fall_out_with_all_they_held() -> None:
    """Also those that vanished without a change: the load, the lock and the turn are free."""
    held = frozenset({"db"})
    made = queue(at_work(job(1, Need(2 * UNIT, locks=held))), job(2, Need(locks=held)), job(3))
    assert made.decide([place(load=2)]) == ()
    made.take(Changes(None, 1, {number: made.jobs[number] for number in (2, 3)}))
    assert started(made.decide([place(load=2)])) == [2, 3]
    assert made.cause("00001-0", [place()]) is None


def test_a_script_that_has_ended_frees_its_load_but_not_its_locks() -> None:
    """Its end is still to be stored; once it is, nothing is freed twice."""
    held = frozenset({"db"})
    made = queue(
        at_work(job(1, Need(2 * UNIT, locks=held))), job(2, Need(locks=held)), job(3), job(4), job(5)
    )
    trial = made.jobs[1].trials[0].id
    assert made.decide([place(load=2)]) == ()
    made.release(1, trial)
    made.release(1, trial)
    assert started(made.decide([place(load=2)])) == [3, 4]
    made.update(3, at_work(job(3)))
    made.update(1, replace(made.jobs[1], priority=1))  # told again before its end is
    assert started(made.decide([place(load=2)])) == [4]
    made.update(1, None)
    assert started(made.decide([place(load=2)])) == [2]
    assert started(made.decide([place(load=3)])) == [2, 4]


def test_what_is_older_than_what_was_told_is_not_taken() -> None:
    """Two readers: the one that looked earlier comes later, and must not bring an ended job back."""
    made = Queue()
    made.take(Changes(None, 5, {1: at_work(job(1)), 2: job(2)}))
    made.take(Changes(5, 8, {1: None}))
    made.take(Changes(5, 7, {1: at_work(job(1))}))
    assert sorted(made.jobs) == [2]
    made.take(Changes(9, 10, {2: None}))  # what came between is not known
    assert (sorted(made.jobs), made.version) == ([2], 8)
    made.take(Changes(7, 11, {2: None}))
    assert (sorted(made.jobs), made.version) == ([], 11)


def test_all_locks_are_taken_at_once_or_none() -> None:
    """Of two that share a lock one starts; one that lacks a lock keeps none."""
    both, db, port = frozenset({"db", "port"}), frozenset({"db"}), frozenset({"port"})
    made = queue(at_work(job(1, Need(locks=db))), job(2, Need(locks=both)), job(3, Need(locks=port)))
    assert started(made.decide([place(load=9)])) == [3]
    cause = made.cause("00002-0", [place(load=9)])
    assert cause is not None
    assert (cause.reason, cause.message) == ("Locked", "lock db held by job 1")


def test_causes_name_what_is_missing() -> None:
    """Traits, repositories, images, loads, room, a closed place: each in words."""
    accepted = "https://git.example.org/x"
    made = queue(
        job(1, Need(traits=frozenset({"gpu"}))),
        job(2, Need(url="https://example.org/x")),
        job(3, Need(images=(None, "docker.io/postgres"), url=accepted)),
        job(4, Need(9 * UNIT, url=accepted)),
        at_work(job(5, Need(2 * UNIT, url=accepted))),
        job(6, Need(url=accepted)),
        job(7),
    )
    offers = [place(accepted_repositories=["https://git.example.org/**"])]
    told = {n: made.cause(f"{n:05}-0", offers) for n in (1, 2, 3, 4, 6, 7)}
    assert [cause.reason for cause in told.values() if cause] == ["NoExecutor"] * 4 + ["Busy", "NoExecutor"]
    for number, word in {
        1: "gpu",
        2: "https://example.org/x",
        3: "postgres",
        4: "max_load 2",
        6: "Executor/a",
        7: "scripts without a repository",
    }.items():
        cause = told[number]
        assert cause is not None
        assert word in cause.message
    closed = made.cause("00006-0", [replace(offers[0], closed=("DiskNearlyFull", "the disk is full"))])
    assert closed is not None
    assert (closed.reason, closed.message) == ("Closed", "Executor/a: the disk is full")


def _others_before(first: QueuedJob, other: Need, offers: list[Place], most: int = 200) -> int:
    """How many younger ones start before `first`, where one ends at a time and more come for ever."""
    made = queue()
    running: list[QueuedJob] = []
    count = 0
    for number in range(1, 5):
        running.append(at_work(job(number, other)))
        made.update(number, running[-1])
    made.update(first.number, first)
    for number in range(first.number + 1, first.number + most):
        made.update(number, job(number, other))
        ended = running.pop(0) if running else None
        if ended is not None:
            made.update(ended.number, None)
        for item in made.decide(offers):
            if item.job == first.number:
                return count
            count += 1
            running.append(at_work(made.jobs[item.job]))
            made.update(item.job, running[-1])
    return count


def test_a_large_load_gets_its_turn() -> None:
    """Small ones take every bit that becomes free, until it has been passed over often enough."""
    assert _others_before(job(9, Need(4 * UNIT)), Need(), [place(load=4)]) <= PATIENCE


def test_a_large_load_gets_its_turn_though_other_projects_come_first() -> None:
    """Its project has the least at work, so those of others pass it over."""
    first = job(9, Need(4 * UNIT), project="other")
    assert _others_before(first, Need(), [place(load=4)]) <= PATIENCE


def test_whoever_needs_several_locks_gets_its_turn() -> None:
    """Others take one lock each, never both free at once, until both are kept."""
    made = queue(job(10, Need(locks=frozenset(LOCKS))))
    offers = [place(load=9)]
    held = {}
    for number, lock in enumerate(LOCKS, 1):
        held[lock] = number
        made.update(number, at_work(job(number, Need(locks=frozenset({lock})))))
    for number in range(11, 200):
        lock = LOCKS[number % 2]
        made.update(number, job(number, Need(locks=frozenset({lock}))))
        if lock in held:
            made.update(held.pop(lock), None)
        for item in made.decide(offers):
            if item.job == 10:
                assert number <= 10 + PATIENCE + len(LOCKS) + 1
                return
            (taken,) = made.jobs[item.job].trials[0].need.locks
            assert taken not in held
            held[taken] = item.job
            made.update(item.job, at_work(made.jobs[item.job]))
    raise AssertionError("it never started")


def test_room_is_kept_on_one_place_only_and_others_are_told() -> None:
    """While one waits for all of a place, the others go on elsewhere."""
    offers = [place("Executor/a", 4), place("Executor/b", 4, traits=["small"])]
    made = queue(at_work(job(1, Need(2 * UNIT))), job(2, Need(4 * UNIT)))
    for number in range(3, 3 + PATIENCE):
        made.update(number, job(number, Need(2 * UNIT, traits=frozenset({"linux"}))))
        assert started(made.decide(offers[:1])) == [number]
        made.update(number, None)
    made.update(90, job(90, Need(2 * UNIT, traits=frozenset({"linux"}))))
    made.update(91, job(91, Need(2 * UNIT, traits=frozenset({"small"}))))
    assert made.decide(offers[:1]) == ()
    cause = made.cause("00090-0", offers[:1])
    assert cause is not None
    assert (cause.reason, "kept for job 2" in cause.message) == ("Busy", True)
    made.update(1, None)
    assert started(made.decide(offers)) == [2, 91]


def test_a_lock_that_is_held_long_keeps_no_room_from_others() -> None:
    """Who waits for a lock alone is not hindered by those who take room."""
    held = frozenset({"db"})
    made = queue(at_work(job(1, Need(locks=held))), job(2, Need(locks=held)))
    for number in range(3, 3 + 3 * PATIENCE):
        made.update(number, job(number))
        assert started(made.decide([place(load=2)])) == [number]
        made.update(number, None)


def test_a_long_queue_costs_what_can_start() -> None:
    """Ten thousand wait for one slot: places are asked about one of them, not about all."""
    asked = Counter[str]()

    class Counted(Place):
        def accepts(self, url: str | None) -> bool:
            asked["times"] += 1
            return super().accepts(url)

    made = queue(*(job(n, Need(url="https://a/x"), project=f"project-{n % 50}") for n in range(10_000)))
    assert started(made.decide([Counted("Executor/a", {"max_load": 1})])) == [0]
    assert asked["times"] == 1


def idle(seconds: float, key: str = "Executor/a", load: float = 9) -> Place:
    """A place that was given something so long ago."""
    return replace(place(key, load), idle=seconds)


SLOW = Need(delay=1.0)


def test_a_start_waits_until_the_place_was_left_alone_long_enough() -> None:
    """It is told why, and when it may go on; what asks for no delay does not wait."""
    made = queue(job(1, SLOW), job(2))
    assert started(made.decide([idle(0.25)])) == [2]
    assert made.later == 1.0  # since job 2 was started there just now
    made = queue(job(1, SLOW))
    assert made.decide([idle(0.25)]) == ()
    assert made.later == 0.75
    assert (cause := made.cause("00001-0", [idle(0.25)])) is not None
    assert (cause.reason, cause.message) == ("Delay", "Executor/a: 1 s are to pass after each start there")
    assert started(made.decide([idle(1.0)])) == [1]


def test_a_place_that_was_never_given_anything_is_open_at_once() -> None:
    made = queue(job(1, SLOW))
    assert started(made.decide([place()])) == [1]


def test_of_those_that_keep_apart_one_starts_at_a_time_on_each_place() -> None:
    made = queue(job(1, SLOW, SLOW, SLOW), job(2, replace(SLOW, delay=5.0)))
    chosen = made.decide([idle(9), idle(9, "Executor/b")])
    assert [(item.job, item.executor) for item in chosen] == [(1, "Executor/a"), (1, "Executor/b")]
    assert made.later == 1.0
    made = queue(job(1, SLOW))
    assert [item.executor for item in made.decide([idle(0.5), idle(3, "Executor/b")])] == ["Executor/b"]


def test_without_a_delay_there_is_nothing_to_wait_for() -> None:
    made = queue(*(job(number) for number in range(1, 9)))
    assert len(made.decide([idle(0.0)])) == 8
    assert made.later is None


def test_a_busy_place_is_left_alone_in_the_end() -> None:
    """Others start there all the time; who waits for it to be left alone gets its turn all the same."""
    made, since, number = queue(job(1, SLOW)), 0.0, 1
    for _ in range(100):
        number += 1
        made.update(number, job(number))
        chosen = made.decide([idle(since)])
        if 1 in started(chosen):
            return
        since = 0.0 if chosen else since
        for item in chosen:
            made.update(item.job, None)
        since += 0.3
    raise AssertionError("it never started")


def test_what_is_kept_for_it_goes_to_others_elsewhere() -> None:
    made = queue(job(1, SLOW))
    for number in range(2, 2 + PATIENCE):
        made.update(number, job(number))
        assert started(made.decide([idle(0.0)])) == [number]
        made.update(number, None)
    made.update(50, job(50))
    assert made.decide([idle(0.5)]) == ()
    assert (cause := made.cause("00050-0", [idle(0.5)])) is not None
    assert cause.message == "Executor/a: room is kept for job 1, which waits longer"
    assert [(i.job, i.executor) for i in made.decide([idle(0.5), idle(0.5, "Executor/b")])] == [
        (50, "Executor/b")
    ]
    assert started(made.decide([idle(1.0)])) == [1, 50]


def test_how_long_a_place_is_left_alone_is_remembered() -> None:
    """By the clock, which may be set back: then it counts from there."""
    made, at = queue(), datetime(2030, 1, 1, tzinfo=UTC)
    assert made.idle("Executor/a", at) == inf
    made.given(["Executor/a"], at)
    assert made.idle("Executor/a", at + timedelta(seconds=3)) == 3
    assert made.idle("Executor/b", at) == inf
    assert made.idle("Executor/a", at - timedelta(hours=1)) == 0
    assert made.idle("Executor/a", at - timedelta(minutes=59)) == 60


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.0]), st.integers(1, 2)), max_size=12),
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(1, 4)), min_size=1, max_size=3),
)
def test_no_delay_is_ever_broken(wanted: list[tuple[float, int]], offered: list[tuple[float, int]]) -> None:
    """Nor is anything left waiting that could start; and there is a later where something waits for one alone."""
    found = [job(n, Need(load=load * UNIT, delay=d)) for n, (d, load) in enumerate(wanted, 1)]
    offers = [idle(at, key, load) for key, (at, load) in zip(PLACES, offered, strict=False)]
    made = queue(*found)
    left = {offer.key: offer.idle for offer in offers}
    room = {offer.key: offer.max_load for offer in offers}
    by_number = {item.number: item.trials[0].need for item in found}
    for item in made.decide(offers):
        need = by_number.pop(item.job)
        assert left[item.executor] >= need.delay
        left[item.executor] = 0.0
        room[item.executor] -= need.load
    assert min(room.values()) >= 0
    waits = [need for need in by_number.values() if any(need.load <= o.max_load for o in offers)]
    for need in waits:
        assert not any(room[key] >= need.load and left[key] >= need.delay for key in room)
    most = {offer.key: offer.max_load for offer in offers}
    pairs = [(need, key) for need in waits for key in left if need.load <= most[key]]
    later = [need.delay - left[key] for need, key in pairs if left[key] < need.delay]
    assert made.later == min(later, default=None)
