"""The loop: names are passed once at a time, again when woken meanwhile, and back off when they fail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from reconciler.errors import Stalled, Transient
from reconciler.loop import MAX_SLOW, Loop


def drive(
    work: Callable[[Loop, list[str]], Awaitable[None]], body: Callable[[str], Awaitable[datetime | None]]
) -> list[str]:
    """Run a loop around `work`; what its passes did, in order, with the troubles told."""
    seen: list[str] = []

    async def run_pass(name: str) -> datetime | None:
        seen.append(f"begin {name}")
        at = await body(name)
        seen.append(f"end {name}")
        return at

    def trouble(name: str, fact: tuple[str, str] | None) -> None:
        seen.append(f"trouble {name} {fact[0] if fact else None}")

    async def run() -> None:
        loop = Loop(run_pass, trouble)
        task = asyncio.create_task(loop.run())
        try:
            await asyncio.wait_for(work(loop, seen), 20)
        finally:
            await loop.close()
            await task

    asyncio.run(run())
    return seen


async def nothing(_name: str) -> datetime | None:
    return None


def test_wake_ups_of_one_name_are_one_pass() -> None:
    """A wake-up carries a name, never content."""

    async def work(loop: Loop, _seen: list[str]) -> None:
        for _ in range(10):
            loop.wake("a")
        await loop.idle()

    assert drive(work, nothing) == ["begin a", "end a"]


def test_a_wake_up_during_a_pass_is_not_lost() -> None:
    """It passes once more, after and never beside the first."""
    gate = {"open": False}

    async def body(_name: str) -> datetime | None:
        if not gate["open"]:
            await asyncio.sleep(0.05)
        return None

    async def work(loop: Loop, seen: list[str]) -> None:
        loop.wake("a")
        await asyncio.sleep(0.01)
        assert seen == ["begin a"]
        loop.wake("a")
        loop.wake("a")
        gate["open"] = True
        await loop.idle()

    assert drive(work, body) == ["begin a", "end a"] * 2


def test_names_pass_side_by_side() -> None:
    """A slow one does not hold up the others."""

    async def body(name: str) -> datetime | None:
        await asyncio.sleep(0.1 if name == "slow" else 0)
        return None

    async def work(loop: Loop, _seen: list[str]) -> None:
        loop.wake("slow")
        loop.wake("quick")
        await loop.idle()

    assert drive(work, body) == ["begin slow", "begin quick", "end quick", "end slow"]


def test_a_failing_pass_is_told_retried_and_forgotten_when_it_works() -> None:
    """One place turns errors into troubles; the rest goes on."""
    left = [Transient("GitUnavailable", "no answer"), ValueError("a fault of ours")]

    async def body(name: str) -> datetime | None:
        if name == "bad" and left:
            raise left.pop(0)
        return None

    async def work(loop: Loop, seen: list[str]) -> None:
        loop.wake("bad")
        loop.wake("good")
        while "end bad" not in seen or seen[-1] != "trouble bad None":  # noqa: ASYNC110 - the order is what is tested
            await asyncio.sleep(0.01)

    seen = drive(work, body)
    assert "end good" in seen
    troubles = [line for line in seen if line.startswith("trouble")]
    assert troubles == ["trouble bad GitUnavailable", "trouble bad InternalError", "trouble bad None"]


def test_a_stalled_name_waits_for_a_change() -> None:
    """It is not tried again soon; a wake-up does."""

    async def body(_name: str) -> datetime | None:
        raise Stalled("GitRefused", "no")

    async def work(loop: Loop, _seen: list[str]) -> None:
        loop.wake("a")
        await loop.idle()
        assert loop.next_due["a"] > datetime.now(UTC) + timedelta(seconds=60)
        loop.wake("a")
        await loop.idle()

    assert drive(work, body).count("begin a") == 2


def test_the_earliest_due_time_wins() -> None:
    """One date job a name."""

    async def work(loop: Loop, seen: list[str]) -> None:
        now = datetime.now(UTC)
        loop.wake("a", now + timedelta(seconds=60))
        loop.wake("a", now + timedelta(milliseconds=50))
        loop.wake("a", now + timedelta(seconds=30))
        while "end a" not in seen:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        assert datetime.now(UTC) - now < timedelta(seconds=10)

    assert drive(work, nothing) == ["begin a", "end a"]


def test_a_time_that_has_come_is_not_put_off() -> None:
    """Its timer comes late when the process was busy; who asks for a later look meanwhile takes nothing away."""

    async def work(loop: Loop, seen: list[str]) -> None:
        loop.wake("a", datetime.now(UTC) + timedelta(milliseconds=20))
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251 - no timer can fire
        loop.wake("a", datetime.now(UTC) + timedelta(hours=1))
        await loop.idle()
        assert seen == ["begin a", "end a"]

    drive(work, nothing)


def test_what_passes_while_all_is_roused_passes_again() -> None:
    """It may have read the clock before that was set."""

    async def body(_name: str) -> None:
        await asyncio.sleep(0.05)

    async def work(loop: Loop, seen: list[str]) -> None:
        loop.wake("a")
        await asyncio.sleep(0.02)
        assert seen == ["begin a"]
        loop.rouse()
        await loop.idle()

    assert drive(work, body) == ["begin a", "end a"] * 2


def test_all_that_waits_for_its_time_can_be_roused() -> None:
    """Each of them passes once, and waits again for as long as it says."""
    at = datetime.now(UTC) + timedelta(hours=1)

    async def body(_name: str) -> datetime | None:
        return at

    async def work(loop: Loop, _seen: list[str]) -> None:
        loop.wake("a", at)
        loop.wake("b", at + timedelta(hours=1))
        await asyncio.sleep(0.02)
        loop.rouse()
        await loop.idle()
        assert loop.next_due == {"a": at, "b": at}

    assert sorted(drive(work, body)) == ["begin a", "begin b", "end a", "end b"]


def test_run_now_waits_for_a_pass_that_begins_after_it() -> None:
    """Also while the name is at work already."""
    turns: list[int] = []

    async def body(_name: str) -> datetime | None:
        turns.append(len(turns))
        await asyncio.sleep(0.03)
        return None

    async def work(loop: Loop, _seen: list[str]) -> None:
        loop.wake("a")
        await asyncio.sleep(0.01)
        await loop.run_now("a")
        assert len(turns) == 2

    drive(work, body)


def test_timers_fire_on_the_event_loop() -> None:
    """A wake-up from another thread could be lost, and with it everything that it was for."""
    threads: set[int] = set()

    async def work(loop: Loop, seen: list[str]) -> None:
        wake = loop.wake

        def noted(name: str, at: datetime | None = None) -> None:
            threads.add(threading.get_ident())
            wake(name, at)

        loop.wake = noted  # type: ignore[method-assign]
        for number in range(50):
            wake(f"n{number}", datetime.now(UTC) + timedelta(milliseconds=20 + number))
        while sum(line.startswith("end") for line in seen) < 50:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)

    drive(work, nothing)
    assert threads == {threading.get_ident()}


def test_slow_names_leave_room_for_the_others() -> None:
    """However many remotes do not answer, the source and the jobs go on."""
    gate = asyncio.Event()

    async def run() -> list[str]:
        seen: list[str] = []

        async def run_pass(name: str) -> datetime | None:
            if name.startswith("Build/"):
                await gate.wait()
            seen.append(name)
            return None

        loop = Loop(run_pass, lambda _name, _fact: None, slow=lambda name: name.startswith("Build/"))
        task = asyncio.create_task(loop.run())
        for number in range(MAX_SLOW + 10):
            loop.wake(f"Build/{number}")
        await asyncio.sleep(0.01)
        for name in ("source", "job/1", "dispatch"):
            await asyncio.wait_for(loop.run_now(name), 5)
        assert loop.oldest is not None
        assert loop.oldest[0] == f"Build/{MAX_SLOW}"
        first = list(seen)
        gate.set()
        await loop.idle()
        assert len(seen) == MAX_SLOW + 13
        await loop.close()
        await task
        return first

    assert asyncio.run(run()) == ["source", "job/1", "dispatch"]


def test_what_waits_for_a_place_does_not_begin_after_the_end() -> None:
    """Passes that are cancelled leave their places, which nobody takes any more."""
    begun: list[str] = []

    async def run_pass(name: str) -> datetime | None:
        begun.append(name)
        await asyncio.sleep(30)
        return None

    async def run() -> None:
        loop = Loop(run_pass, lambda _name, _fact: None, slow=lambda _name: True)
        task = asyncio.create_task(loop.run())
        for number in range(MAX_SLOW + 4):
            loop.wake(f"Build/{number}")
        await asyncio.sleep(0.05)
        await loop.close()
        await task
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert len(begun) == MAX_SLOW


def test_a_pass_that_fails_is_still_due_when_it_was() -> None:
    """Its back-off, which may be longer, does not put the due time off."""
    times: list[datetime] = []

    async def run_pass(_name: str) -> datetime | None:
        times.append(datetime.now(UTC))
        if len(times) == 1:
            raise Stalled("Broken", "until somebody mends it")
        return None

    async def run() -> None:
        loop = Loop(run_pass, lambda _name, _fact: None)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0)
        due = datetime.now(UTC) + timedelta(seconds=0.3)
        loop.wake("a", due)
        loop.wake("a")
        await asyncio.sleep(0.8)
        await loop.close()
        await task
        assert len(times) == 2
        assert times[1] >= due

    asyncio.run(run())
