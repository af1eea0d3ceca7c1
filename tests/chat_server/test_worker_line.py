from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from chat_server import worker_line
from chat_server.worker_line import Handle, Line
from chat_server.worker_messages import Beat, Done, Entered, Gather, Healed, Message, Welcome
from memory.errors import LineBroken, StoreUnavailable


class Told:
    """Keeps what it is told, and answers."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.something = anyio.Event()
        self.go = anyio.Event()

    async def handle(self, message: Message) -> Message | None:
        self.messages.append(message)
        self.something.set()
        match message:
            case Entered():
                await self.go.wait()
            case Gather():
                raise StoreUnavailable("not now")
            case Healed():
                raise StoreUnavailable("nothing to heal")
            case _:
                pass
        return None


@asynccontextmanager
async def lines(one: Handle, other: Handle) -> AsyncIterator[tuple[Line, Line]]:
    here, there = socket.socketpair()
    async with anyio.create_task_group() as tasks:
        ends = Line(here, one), Line(there, other)
        for end in ends:
            tasks.start_soon(end.run)
        with anyio.fail_after(10):
            yield ends
        tasks.cancel_scope.cancel()


async def test_what_is_told_arrives_in_order() -> None:
    told = Told()
    beats = [Beat(ready=bool(number % 2)) for number in range(100)]
    async with lines(Told().handle, told.handle) as (line, _):
        for beat in beats:
            line.tell(beat)
        while len(told.messages) < len(beats):
            await anyio.sleep(0.005)
    assert told.messages == beats


async def test_what_was_told_before_anybody_listened_arrives() -> None:
    told = Told()
    here, there = socket.socketpair()
    line = Line(here, Told().handle)
    line.tell(Welcome(1, 2, "00"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.run)
        tasks.start_soon(Line(there, told.handle).run)
        with anyio.fail_after(10):
            await told.something.wait()
        tasks.cancel_scope.cancel()
    assert told.messages == [Welcome(1, 2, "00")]


async def test_a_question_is_answered_and_others_are_not_kept_waiting() -> None:
    told = Told()
    async with lines(Told().handle, told.handle) as (line, _):
        answers: list[Message] = []

        async def ask() -> None:
            answers.append(await line.ask(Entered(), 5))

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask)
            await told.something.wait()
            assert await line.ask(Welcome(0, 1, ""), 5) == Done()
            assert answers == []
            told.go.set()
    assert answers == [Done()]


async def test_both_ends_ask() -> None:
    async with lines(Told().handle, Told().handle) as (line, other):
        question = Welcome(0, 1, "")
        assert await line.ask(question, 5) == await other.ask(question, 5) == Done()


async def test_what_could_not_be_done_is_said_to_who_asked() -> None:
    async with lines(Told().handle, Told().handle) as (line, _):
        with pytest.raises(LineBroken, match="not now"):
            await line.ask(Gather(), 5)
        assert await line.ask(Welcome(0, 1, ""), 5) == Done()


async def test_what_could_not_be_done_when_it_was_told_stops_nothing() -> None:
    async with lines(Told().handle, Told().handle) as (line, _):
        line.tell(Healed("user_00"))
        assert await line.ask(Welcome(0, 1, ""), 5) == Done()


async def test_who_does_not_answer_in_time_is_given_up() -> None:
    async with lines(Told().handle, Told().handle) as (line, _):
        with pytest.raises(LineBroken, match=r"0\.05 s"):
            await line.ask(Entered(), 0.05)


async def test_when_the_other_process_ends_the_line_is_broken_and_no_question_waits() -> None:
    told = Told()
    here, there = socket.socketpair()
    line = Line(here, told.handle)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.run)
        tasks.start_soon(_closed_soon, there)
        with anyio.fail_after(10):
            with pytest.raises(LineBroken, match="ended"):
                await line.ask(Entered(), 60)
            await line.broken.wait()
            with pytest.raises(LineBroken, match="ended"):
                await line.ask(Entered(), 60)
        line.tell(Beat(ready=True))  # nothing happens


async def _closed_soon(end: socket.socket) -> None:
    await anyio.sleep(0.05)
    end.close()


@pytest.mark.parametrize("rubbish", [b"nonsense\n", b'{"body":{"type":"Unknown"}}\n', b"{}\n"])
async def test_what_is_not_understood_breaks_the_line(rubbish: bytes) -> None:
    here, there = socket.socketpair()
    line = Line(here, Told().handle)
    there.sendall(rubbish)
    with there, anyio.fail_after(10):
        await line.run()
    assert line.broken.is_set()


async def test_a_process_that_takes_nothing_is_as_good_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_line, "MOST_WAITING", 10)
    here, there = socket.socketpair()
    with here, there:
        line = Line(here, Told().handle)
        for _ in range(11):
            line.tell(Beat(ready=True))
        assert line.broken.is_set()
