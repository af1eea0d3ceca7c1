"""A line passes everything on as it is, until its moment has come; then it breaks as planned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidMessage

from tests.chaos.wire_faults import Action, LineFault, Moment
from tests.chaos.wire_proxy import Line, open_line

WITHIN_S = 10.0
SILENT_S = 0.3
"""So long nothing comes where nothing is to come."""


async def echo(socket: ServerConnection) -> None:
    async for data in socket:
        await socket.send(data)


@asynccontextmanager
async def line_with(*faults: LineFault) -> AsyncIterator[Line]:
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with open_line(Line(f"http://127.0.0.1:{port}", faults, seed=1)) as line:
            yield line


@asynccontextmanager
async def client(line: Line) -> AsyncIterator[ClientConnection]:
    address = line.url.replace("http", "ws")
    async with connect(address, compression=None, ping_interval=None, close_timeout=0.1) as socket:
        yield socket


def frame(number: int) -> str:
    return f'{{"type": "note", "number": {number}, "text": "é🙂 {"x" * 300}"}}'


def at_second(action: Action, amount: int = 0, connection: int = 0) -> LineFault:
    return LineFault(connection, Moment("down", "note", 2), action, amount)


async def exchange(socket: ClientConnection, numbers: Sequence[int]) -> list[str]:
    """Send frames, and what comes back until nothing more does."""
    for number in numbers:
        await socket.send(frame(number))
    heard: list[str] = []
    while True:
        with anyio.move_on_after(WITHIN_S if len(heard) < len(numbers) else SILENT_S) as scope:
            heard.append(str(await socket.recv()))
        if scope.cancelled_caught:
            return heard


@pytest.mark.parametrize("action", ["delay", "throttle", "split"])
async def test_slow_and_odd_lines_lose_nothing(action: Action) -> None:
    fault = at_second(action, {"delay": 50, "throttle": 20_000}.get(action, 0))
    async with line_with(fault) as line, client(line) as socket:
        assert await exchange(socket, range(5)) == [frame(number) for number in range(5)]
        assert line.made == {action: 1}


async def test_a_frame_is_dropped_and_the_next_ones_come() -> None:
    async with line_with(at_second("drop")) as line, client(line) as socket:
        for number in range(4):
            await socket.send(frame(number))
        heard = [str(await socket.recv()) for _ in range(3)]
        assert heard == [frame(0), frame(2), frame(3)]


async def test_a_frame_comes_twice() -> None:
    async with line_with(at_second("duplicate")) as line, client(line) as socket:
        heard = await exchange(socket, range(3))
        assert heard == [frame(0), frame(1), frame(1), frame(2)]


@pytest.mark.parametrize(("action", "last"), [("cut", 1), ("torn", 0), ("reset", 0)])
async def test_a_broken_line_ends_after_in_or_before_the_frame(action: Action, last: int) -> None:
    heard: list[str] = []
    async with line_with(at_second(action)) as line, client(line) as socket:
        for number in range(2):
            await socket.send(frame(number))
        with anyio.fail_after(WITHIN_S), pytest.raises(ConnectionClosed):
            while True:
                heard.append(str(await socket.recv()))
    assert heard == [frame(number) for number in range(last + 1)]


async def test_a_half_open_line_is_silent_and_says_nothing_of_it() -> None:
    async with line_with(at_second("half_open")) as line, client(line) as socket:
        await socket.send(frame(0))
        assert await socket.recv() == frame(0)
        await socket.send(frame(1))
        await socket.send(frame(2))
        with anyio.move_on_after(SILENT_S) as scope:
            await socket.recv()
        assert scope.cancelled_caught
        async with client(line) as another:
            assert await exchange(another, range(1)) == [frame(0)]
        socket.transport.abort()


async def test_after_a_cut_new_connections_are_refused_for_a_while() -> None:
    async with line_with(at_second("cut", amount=60_000)) as line:
        async with client(line) as socket:
            with anyio.fail_after(WITHIN_S), pytest.raises(ConnectionClosed):
                while True:
                    await socket.send(frame(0))
                    await socket.recv()
        with pytest.raises((OSError, InvalidMessage, EOFError)):
            async with client(line):
                pass
        line.calm()
        async with client(line) as socket:
            assert await exchange(socket, range(3)) == [frame(number) for number in range(3)]


async def test_a_fault_waits_for_its_connection_and_happens_once() -> None:
    async with line_with(at_second("drop", connection=1)) as line:
        for dropped in (0, 1, 0):
            async with client(line) as socket:
                for number in range(3):
                    await socket.send(frame(number))
                heard = [await socket.recv() for _ in range(3 - dropped)]
                assert len(heard) == 3 - dropped
                assert (frame(1) in heard) == (not dropped)
    assert line.made == {"drop": 1}
