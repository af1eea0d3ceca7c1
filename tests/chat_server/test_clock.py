from __future__ import annotations

import anyio
from hypothesis import given
from hypothesis import strategies as st

from chat_server.clock import TICK_S, Clock


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Sleeper:
    """Is woken once, or every ``again_s``; ``woken`` says when."""

    def __init__(self, again_s: float | None = None) -> None:
        self.again_s = again_s
        self.woken: list[float] = []

    def wake(self, now_s: float) -> float | None:
        self.woken.append(now_s)
        return now_s + self.again_s if self.again_s is not None else None


@given(st.lists(st.floats(-5, 60), max_size=20), st.lists(st.floats(0.01, 9), max_size=60))
def test_each_is_woken_once_not_before_its_time_and_soon_after(
    waits_s: list[float], steps_s: list[float]
) -> None:
    time = Time()
    clock = Clock(time)
    sleepers = [Sleeper() for _ in waits_s]
    for sleeper, wait_s in zip(sleepers, waits_s, strict=True):
        clock.set(sleeper, 100.0 + wait_s)
    for step_s in [*steps_s, 100.0]:
        before_s, time.now_s = time.now_s, time.now_s + step_s
        clock.wake_due()
        for sleeper, wait_s in zip(sleepers, waits_s, strict=True):
            if not sleeper.woken:
                assert time.now_s < 100.0 + max(wait_s, 0) + 2 * TICK_S
            elif sleeper.woken[-1] > before_s:
                assert sleeper.woken[-1] >= 100.0 + wait_s
    assert all(len(sleeper.woken) == 1 for sleeper in sleepers)
    assert len(clock) == 0


def test_who_asks_for_it_is_woken_again() -> None:
    time = Time()
    clock, sleeper = Clock(time), Sleeper(again_s=5.0)
    clock.set(sleeper, 105.0)
    for _ in range(60):
        time.now_s += 0.5
        clock.wake_due()
    assert 4 <= len(sleeper.woken) <= 6


def test_the_last_time_that_was_set_counts_and_who_is_forgotten_sleeps_on() -> None:
    time = Time()
    clock, later, gone = Clock(time), Sleeper(), Sleeper()
    clock.set(later, 101.0)
    clock.set(later, 110.0)
    clock.set(gone, 101.0)
    clock.forget(gone)
    clock.forget(gone)
    time.now_s = 105.0
    clock.wake_due()
    assert (later.woken, gone.woken) == ([], [])
    time.now_s = 112.0
    clock.wake_due()
    assert later.woken == [112.0]


def test_one_may_end_another_ones_wait_in_the_same_round() -> None:
    time = Time()
    clock = Clock(time)

    class Rival(Sleeper):
        def wake(self, now_s: float) -> float | None:
            for rival in rivals:
                clock.forget(rival)
            return super().wake(now_s)

    rivals = [Rival(), Rival()]
    for rival in rivals:
        clock.set(rival, 101.0)
    time.now_s = 103.0
    clock.wake_due()
    assert sum(len(rival.woken) for rival in rivals) == 1


async def test_it_runs_by_itself() -> None:
    woken = anyio.Event()

    class Waker:
        def wake(self, _now_s: float) -> float | None:
            woken.set()
            return None

    clock = Clock()
    clock.set(Waker(), 0.0)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.run)
            await woken.wait()
            tasks.cancel_scope.cancel()
