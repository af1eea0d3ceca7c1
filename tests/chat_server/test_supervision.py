from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from chat_server import supervision
from chat_server.supervision import FIRST_PAUSE_S, LONGEST_PAUSE_S, supervise


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def current_time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(supervision, "anyio", time)
    return time


class Failing:
    """Fails *times* times, each after *lasts_s*, then returns."""

    def __init__(self, time: Time, times: int, *, lasts_s: float = 0.0) -> None:
        self.time = time
        self.times = times
        self.lasts_s = lasts_s
        self.begun = 0

    async def __call__(self) -> None:
        self.begun += 1
        self.time.now += self.lasts_s
        if self.begun <= self.times:
            raise RuntimeError("broken")


async def test_a_task_that_returns_is_over(time: Time) -> None:
    task = Failing(time, 0)
    await supervise("a task", task)
    assert task.begun == 1
    assert time.pauses == []


async def test_a_task_that_fails_is_logged_and_begun_again(time: Time) -> None:
    task = Failing(time, 2)
    with capture_logs() as logs:
        await supervise("a task", task)
    assert task.begun == 3
    facts: list[dict[str, Any]] = [
        {name: entry[name] for name in ("event", "log_level", "task", "again_in_s")}
        for entry in logs
    ]
    assert facts == [
        {"event": "task.failed", "log_level": "error", "task": "a task", "again_in_s": pause}
        for pause in (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S)
    ]


async def test_pauses_grow_and_have_an_end(time: Time) -> None:
    with capture_logs():
        await supervise("a task", Failing(time, 12))
    assert time.pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert time.pauses == sorted(time.pauses)
    assert time.pauses[-1] == LONGEST_PAUSE_S


async def test_after_a_long_life_the_pause_is_short_again(time: Time) -> None:
    with capture_logs():
        await supervise("a task", Failing(time, 5, lasts_s=LONGEST_PAUSE_S + 1))
    assert time.pauses == [FIRST_PAUSE_S] * 5


async def test_an_error_in_one_task_reaches_no_other_and_cancelling_ends_both() -> None:
    failed, going_on = anyio.Event(), anyio.Event()
    ended: list[str] = []

    async def fails() -> None:
        failed.set()
        raise RuntimeError("broken")

    async def goes_on() -> None:
        try:
            await failed.wait()
            going_on.set()
            await anyio.sleep_forever()
        finally:
            ended.append("other")

    with anyio.fail_after(10), capture_logs():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervise, "fails", fails)
            tasks.start_soon(supervise, "goes on", goes_on)
            await going_on.wait()
            assert ended == []
            tasks.cancel_scope.cancel()
    assert ended == ["other"]
