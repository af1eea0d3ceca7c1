"""A line between the workers and Redis that loses messages of pub/sub, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import anyio
from anyio.from_thread import start_blocking_portal

from memory.redis_process import RedisProcess
from memory.spawn import spawn
from tests.chaos.world import wait_until

MESSAGE: Final = b"message"
AGGREGATES: Final = b"*>%~"
LINE_END: Final = b"\r\n"
CHUNK: Final = 65_536


class Item(NamedTuple):
    """One item of Redis' protocol (RESP): its bytes, and its first part where it has several."""

    data: bytes
    first: bytes


class ItemCutter:
    """Cuts what Redis answers into whole items; no I/O."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Item]:
        """The items that *data* completes."""
        self._buffer += data
        while (end := _end_of(self._buffer, 0)) is not None:
            whole, self._buffer = self._buffer[:end], self._buffer[end:]
            parts = whole.split(LINE_END, 3)
            first = parts[2] if whole[:1] in AGGREGATES and len(parts) > 2 else b""
            yield Item(whole, first)


def _end_of(data: bytes, begin: int) -> int | None:
    """Where the item ends that begins at *begin*; ``None``: not all of it is here."""
    line_end = data.find(LINE_END, begin)
    if line_end < 0:
        return None
    kind, end = data[begin : begin + 1], line_end + len(LINE_END)
    if kind in (b"$", b"=", b"!"):
        size = int(data[begin + 1 : line_end])
        end += size + len(LINE_END) if size >= 0 else 0
        return end if end <= len(data) else None
    if kind in AGGREGATES and kind:
        for _ in range(int(data[begin + 1 : line_end]) * (2 if kind == b"%" else 1)):
            after = _end_of(data, end)
            if after is None:
                return None
            end = after
    return end


class LossyRedis:
    """A private Redis, and the socket through which it is to be reached."""

    def __init__(self, folder: Path, *, lose: float, seed: int = 1) -> None:
        """*lose*: the share of published messages that do not arrive."""
        self.process = RedisProcess(folder)
        self.socket = folder / "lossy.sock"
        self.lost = 0
        self._lose = lose
        self._random = random.Random(seed)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def calm(self) -> None:
        """Lose nothing from now on."""
        self._lose = 0.0

    async def serve(self) -> None:
        """Pass on what comes, until cancelled."""
        async with await asyncio.start_unix_server(self._pass_on, self.socket) as server:
            await server.serve_forever()

    async def _pass_on(self, client: StreamReader, to_client: StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_unix_connection(self.process.socket_path)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_pump, client, to_server, tasks.cancel_scope)
                    tasks.start_soon(self._pump_down, server, to_client, tasks.cancel_scope)
            finally:
                to_server.transport.abort()
        finally:
            to_client.transport.abort()

    async def _pump_down(
        self, source: StreamReader, sink: StreamWriter, end: anyio.CancelScope
    ) -> None:
        cutter = ItemCutter()
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                for item in cutter.feed(data):
                    if item.first == MESSAGE and self._random.random() < self._lose:
                        self.lost += 1
                    else:
                        sink.write(item.data)
                await sink.drain()
        end.cancel()


async def _pump(source: StreamReader, sink: StreamWriter, end: anyio.CancelScope) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
    end.cancel()


@contextlib.contextmanager
def lossy_redis(folder: Path, *, lose: float) -> Iterator[LossyRedis]:
    """A Redis of its own below *folder*, and the line to it, in a thread."""
    folder.mkdir(parents=True, exist_ok=True)
    line = LossyRedis(folder, lose=lose)
    with contextlib.ExitStack() as stack:
        child = spawn(anyio.run(line.process.prepare))
        stack.callback(child.wait)
        stack.callback(child.kill)
        wait_until(lambda: anyio.run(line.process.answers), 20, "Redis does not answer")
        portal = stack.enter_context(start_blocking_portal())
        serving = portal.start_task_soon(line.serve)
        stack.callback(serving.cancel)
        wait_until(line.socket.exists, 10, "the line to Redis is not there")
        yield line
