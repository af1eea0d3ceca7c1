"""A crew of real processes that speak the line and do nothing else."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from chat_server.crew import Crew, Member
from chat_server.figures import Figures
from chat_server.worker_child import WorkerChild
from chat_server.worker_messages import (
    Asked,
    Beat,
    Done,
    Gathered,
    Hold,
    LetGo,
    LookAtLedger,
    Message,
    StoreState,
    Suspected,
)
from memory.child_process import ChildTimes
from memory.errors import LineBroken
from memory.spawn import Launch

WORKER = Path(__file__).with_name("line_worker.py")
TIMES = ChildTimes(probe_every_s=0.05, first_delay_s=0.01, stop_timeout_s=5.0)


class Stand(WorkerChild):
    """Starts a program that stands for a worker."""

    async def prepare(self) -> Launch:
        launch = await super().prepare()
        line = launch.descriptors[1]
        return Launch(
            argv=[sys.executable, str(WORKER), str(line), str(os.getpid())],
            folder=Path.cwd(),
            descriptors=launch.descriptors,
            logs=True,
        )


class Orders:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.heard: list[tuple[int, Message]] = []
        self.restarts: list[str] = []
        self.address = "http://one"

    def make_child(self, slot: int, on_start: Callable[[socket.socket], None]) -> WorkerChild:
        return Stand(slot, self._listener, settings={}, config=None, on_start=on_start)

    def greeting(self) -> Sequence[Message]:
        return (StoreState(address=self.address),)

    async def said(self, member: Member, message: Message) -> Message | None:
        self.heard.append((member.slot, message))
        return None

    def restarted(self, child: str) -> None:
        self.restarts.append(child)

    async def hear(self, slot: int, message: Message, times: int = 1) -> None:
        """Return when *slot* has said *message* so often; the stand-ins repeat what they hear."""
        while self.heard.count((slot, message)) < times:
            await anyio.sleep(0.01)


@asynccontextmanager
async def working(workers: int = 2) -> AsyncIterator[tuple[Crew, Orders]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        orders = Orders(listener)
        crew = Crew(workers, orders, TIMES, salt="00")
        async with crew.working():
            with anyio.fail_after(30):
                await crew.wait_ready(20)
                yield crew, orders


def pid_of(crew: Crew, slot: int) -> int:
    pid = crew.members[slot].child.pid
    assert pid is not None
    return pid


async def test_each_worker_is_greeted_and_told(tmp_path: Path) -> None:
    async with working() as (crew, orders):
        for slot in (0, 1):
            await orders.hear(slot, Asked(("http://one",)))
        crew.tell_all(LookAtLedger())
        answers = await crew.ask_all(LookAtLedger(), 5, but=crew.members[0])
    assert answers == {1: Done()}


async def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays() -> None:
    async with working() as (crew, orders):
        before = pid_of(crew, 0)
        assert [it.pid for it in await crew.figures()] == [before, pid_of(crew, 1)]
        os.kill(before, signal.SIGKILL)
        while crew.members[0].counted is None:
            await anyio.sleep(0.01)
        await crew.wait_ready(20)
        assert orders.restarts == ["worker-0"]
        assert pid_of(crew, 0) != before
        figures = await crew.figures()
    assert [(it.slot, it.lately.throttled, bool(it.pid)) for it in figures] == [
        (0, 1, True),
        (0, 1, False),
        (1, 1, True),
    ]


async def test_who_asks_for_figures_is_not_asked_itself() -> None:
    async with working() as (crew, _):
        assert [it.slot for it in await crew.figures(but=1)] == [0]


async def test_all_are_started_anew_one_after_the_other() -> None:
    async with working() as (crew, orders):
        before = [pid_of(crew, slot) for slot in (0, 1)]
        together: list[int] = []

        async def watch() -> None:
            while True:
                together.append(sum(member.ready for member in crew.members))
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await crew.roll()
            tasks.cancel_scope.cancel()
        assert min(together) == 1, "one of them serves at any moment"
        assert not set(before) & {pid_of(crew, slot) for slot in (0, 1)}
        assert orders.restarts == [], "that is no failure"


async def test_all_are_held_and_let_go_with_what_is_new() -> None:
    async with working() as (crew, orders):
        async with crew.held(batches_only=True):
            for slot in (0, 1):
                await orders.hear(slot, Suspected("Hold 1 True", "stuck"))
            orders.address = "http://two"
        for slot in (0, 1):
            await orders.hear(slot, Asked(("http://two",)))
            await orders.hear(slot, Suspected("LetGo 1", "stuck"))


async def test_a_worker_that_begins_meanwhile_is_held_as_well() -> None:
    async with working(1) as (crew, orders):
        async with crew.held(batches_only=False):
            await orders.hear(0, Suspected("Hold 1 False", "stuck"))
            os.kill(pid_of(crew, 0), signal.SIGKILL)
            await orders.hear(0, Suspected("Hold 1 False", "stuck"), times=2)
        await orders.hear(0, Suspected("LetGo 1", "stuck"))


async def test_who_is_not_ready_in_time_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        crew = Crew(1, Orders(listener), TIMES, salt="00")
        with pytest.raises(LineBroken):
            await crew.wait_ready(0.05)


async def test_at_the_end_all_have_ended_in_order_and_kept_their_line_until_then() -> None:
    async with working() as (crew, orders):
        pids = [pid_of(crew, slot) for slot in (0, 1)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    for slot in (0, 1):
        assert (slot, Suspected("SIGTERM", "stuck")) in orders.heard


def test_messages_between_them_are_values() -> None:
    assert Hold(1, batches_only=True) == Hold(1, batches_only=True)
    assert LetGo(1) != LetGo(2)
    assert Gathered((Figures(slot=0, pid=1, since=0.0),)).figures[0].slot == 0


async def test_what_a_dead_worker_said_last_does_not_make_the_next_one_ready() -> None:
    async with working(1) as (crew, _):
        member = crew.members[0]
        line = member.line
        assert line is not None
        member.left()
        assert not member.ready
        assert member.connected is None
        await line._handle(Beat(ready=True))
        assert not member.ready
