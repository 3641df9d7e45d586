"""Which trial goes where: never above a load, never without the traits, nobody starved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.dispatch import Place, Waiting, decide

traits = st.frozensets(st.sampled_from(["linux", "arm", "gpu"]))
places = st.lists(
    st.builds(
        Place,
        key=st.sampled_from(["Executor/a", "Executor/b", "Executor/c"]),
        traits=traits,
        max_load=st.integers(1, 6).map(float),
        accepted_repositories=st.just(()),
        busy=st.integers(0, 6).map(float),
    ),
    unique_by=lambda place: place.key,
)
queues = st.lists(
    st.builds(
        Waiting,
        trial=st.uuids().map(str),
        job=st.integers(1, 20),
        project=st.sampled_from(["one", "two", "three"]),
        position=st.integers(0, 3),
        traits=traits,
        load=st.sampled_from([0.5, 1.0, 2.0]),
        url=st.none(),
        behind=st.sampled_from([None, None, 1]),
    ),
    max_size=30,
    unique_by=lambda item: item.trial,
)


def waiting(trial: str, job: int, project: str = "shop", **more: object) -> Waiting:
    fields = {"position": 0, "traits": frozenset(), "load": 1.0, "url": None}
    return Waiting(trial, job, project, **(fields | more))  # type: ignore[arg-type]


def place(key: str = "Executor/a", load: float = 2, **more: object) -> Place:
    fields: dict[str, object] = {"traits": frozenset({"linux"}), "accepted_repositories": (), "busy": 0.0}
    return Place(key, max_load=load, **(fields | more))  # type: ignore[arg-type]


@given(queues, places)
def test_limits_hold_and_everything_is_answered(queue: list[Waiting], offers: list[Place]) -> None:
    """Each trial is assigned once or has a cause; no executor goes above its max_load or lacks a trait."""
    decision = decide(queue, offers, {})
    chosen = {item.trial: item.executor for item in decision.assignments}
    assert len(chosen) == len(decision.assignments)
    assert chosen.keys() | decision.waits.keys() == {item.trial for item in queue}
    assert not chosen.keys() & decision.waits.keys()
    by_key = {offer.key: offer for offer in offers}
    for offer in offers:
        added = [item for item in queue if chosen.get(item.trial) == offer.key]
        assert not added or offer.busy + sum(item.load for item in added) <= offer.max_load
        assert all(item.traits <= offer.traits for item in added)
    for item in queue:
        if item.trial in chosen:
            assert item.behind is None
        elif item.behind is None:
            free = {key: by_key[key].max_load - by_key[key].busy for key in by_key}
            for other in queue:
                if other.trial in chosen:
                    free[chosen[other.trial]] -= other.load
            assert not [
                k for k, left in free.items() if left >= item.load and item.traits <= by_key[k].traits
            ]


@given(queues, places, st.randoms())
def test_the_order_of_input_is_irrelevant(queue: list[Waiting], offers: list[Place], random: object) -> None:
    """Same input in any order, same decision but for the order of equals."""
    queue = [
        item
        for index, item in enumerate(queue)
        if (item.job, item.position) not in {(o.job, o.position) for o in queue[:index]}
    ]
    shuffled = list(queue)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(queue, offers, {}) == decide(shuffled, offers, {})


def test_projects_take_turns() -> None:
    """A project with a long queue does not keep another waiting."""
    queue = [waiting(f"a{n}", n, "big") for n in range(1, 6)] + [waiting("b", 9, "small")]
    decision = decide(queue, [place(load=2)], {})
    assert {item.trial for item in decision.assignments} == {"a1", "b"}


def test_what_runs_already_counts_for_fairness() -> None:
    """The project with the least load at work goes first."""
    queue = [waiting("a", 1, "big"), waiting("b", 2, "small")]
    decision = decide(queue, [place(load=3, busy=2.0)], {"big": 2.0})
    assert [item.trial for item in decision.assignments] == ["b"]


def test_causes_name_what_is_missing() -> None:
    """Traits, repositories, loads, an older job: each in words."""
    queue = [
        waiting("traits", 1, traits=frozenset({"gpu"})),
        waiting("repo", 2, url="https://example.org/x"),
        waiting("load", 3, load=9.0),
        waiting("behind", 4, behind=2),
    ]
    offers = [place(load=2, accepted_repositories=("https://git.example.org/**",))]
    waits = decide(queue, offers, {}).waits
    assert "gpu" in waits["traits"].message
    assert "https://example.org/x" in waits["repo"].message
    assert "max_load" in waits["load"].message
    assert "job 2" in waits["behind"].message


def test_a_long_queue_is_decided_in_milliseconds() -> None:
    """Ten thousand waiting trials cost one pass over them."""
    queue = [waiting(f"t{n}", n, f"project-{n % 50}") for n in range(10_000)]
    decision = decide(queue, [place(load=100)], {})
    assert len(decision.assignments) == 100
