"""A line between one client and the server that breaks at planned frames."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

from tests.chaos.wire_faults import LineFault, Way
from tests.chaos.wire_frames import FrameCutter, Piece

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing drops what waits and sends RST (RFC 9293, section 3.10.7)."""
THROTTLED_BYTES: Final = 4_096
"""After so many bytes a throttled line is as fast as before."""
ODD_BYTES: Final = 48
"""So much of each frame is written in odd pieces; the rest in two."""
LOST: Final = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)


class Line:
    """Passes on what comes to ``url``, and makes each of *faults* happen once, until ``calm``."""

    def __init__(self, target: str, faults: Sequence[LineFault] = (), *, seed: int = 0) -> None:
        self.target = target
        self.url = ""
        self.connections = 0
        self.made: Counter[str] = Counter()
        """Faults that happened, by action."""
        self._faults = list(faults)
        self._random = random.Random(seed)
        self._refuse_until = 0.0
        self._open: set[Wire] = set()

    def calm(self) -> None:
        """No fault happens from now on; a connection that is half open stays so."""
        self._faults.clear()
        self._refuse_until = 0.0
        for wire in self._open:
            wire.calm()

    def cut(self, refuse_s: float = 0.0) -> None:
        """End all connections now, and refuse new ones for a while."""
        self._refuse_until = anyio.current_time() + refuse_s
        for wire in list(self._open):
            wire.end()

    def due(self, wire: Wire, way: Way, kind: str) -> LineFault | None:
        """The fault that happens at this frame, which is counted."""
        wire.counted[way, kind] += 1
        if kind != "handshake":
            wire.counted[way, "any"] += 1
        for fault in self._faults:
            moment = fault.moment
            if (
                fault.connection == wire.number
                and moment.way == way
                and moment.kind in (kind, "any")
                and wire.counted[way, moment.kind] == moment.nth
            ):
                self._faults.remove(fault)
                self.made[fault.action] += 1
                return fault
        return None

    def refuse_for(self, amount_ms: int) -> None:
        self._refuse_until = anyio.current_time() + amount_ms / 1000

    async def serve(self, client: SocketStream) -> None:
        """One connection of the client, until both its ends are gone."""
        try:
            if anyio.current_time() >= self._refuse_until:
                await self._connected(client)
        finally:
            await close(client)

    async def _connected(self, client: SocketStream) -> None:
        number, self.connections = self.connections, self.connections + 1
        host, _, port = self.target.partition("://")[2].rpartition(":")
        try:
            server = await anyio.connect_tcp(host, int(port))
        except OSError:
            return
        wire = Wire(self, number, client, server, random.Random(self._random.random()))
        self._open.add(wire)
        try:
            await wire.run()
        finally:
            self._open.discard(wire)
            await close(server)


async def close(end: SocketStream) -> None:
    """Close it at once, also where the caller is cancelled."""
    with anyio.CancelScope(shield=True):
        await anyio.aclose_forcefully(end)


class Wire:
    """One connection: two directions, each passed on frame by frame."""

    def __init__(
        self,
        line: Line,
        number: int,
        client: SocketStream,
        server: SocketStream,
        choices: random.Random,
    ) -> None:
        self.number = number
        self.counted: Counter[tuple[Way, str]] = Counter()
        self._line = line
        self._ends: dict[Way, SocketStream] = {"up": server, "down": client}
        self._random = choices
        self._deaf: set[Way] = set()
        self._slow: dict[Way, tuple[int, int]] = {}
        self._odd = False
        self._scope = anyio.CancelScope()

    def calm(self) -> None:
        """As fast and as even as any other, if it is not deaf."""
        self._slow.clear()
        self._odd = False

    def end(self) -> None:
        """Close both ends, without a farewell."""
        self._scope.cancel()

    async def run(self) -> None:
        """Pass frames on until an end is closed; a half open one is closed with the line."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pump, "up", self._ends["down"], tasks.cancel_scope)
                tasks.start_soon(self._pump, "down", self._ends["up"], tasks.cancel_scope)

    async def _pump(self, way: Way, source: SocketStream, scope: anyio.CancelScope) -> None:
        cutter = FrameCutter()
        with contextlib.suppress(*LOST):
            while True:
                data = await source.receive()
                for piece in cutter.feed(data):
                    await self._pass_on(way, piece)
        if not self._deaf:
            scope.cancel()

    async def _pass_on(self, way: Way, piece: Piece) -> None:
        fault = self._line.due(self, way, piece.kind)
        data = piece.data
        match fault.action if fault else None:
            case "drop":
                return
            case "half_open":
                self._deaf |= {"up", "down"}
            case "stalled":
                self._deaf.add(way)
            case "duplicate" if piece.kind != "handshake":
                data += data
            case "split":
                self._odd = True
            case "throttle" if fault:
                self._slow[way] = (fault.amount, THROTTLED_BYTES)
            case "delay" if fault:
                await anyio.sleep(fault.amount / 1000)
            case "cut" | "torn" | "reset" if fault:
                await self._break(way, fault, data)
            case _:
                pass
        if way not in self._deaf:
            await self._write(way, data)

    async def _break(self, way: Way, fault: LineFault, data: bytes) -> None:
        self._line.refuse_for(fault.amount)
        if fault.action == "reset":
            for end in self._ends.values():
                raw = end.extra(SocketAttribute.raw_socket)  # noqa: S610  # anyio's, not Django's
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif way not in self._deaf:
            await self._ends[way].send(data if fault.action == "cut" else data[: len(data) // 2])
        self.end()
        await checkpoint()  # where the cancellation arrives

    async def _write(self, way: Way, data: bytes) -> None:
        sink = self._ends[way]
        if way in self._slow:
            rate, left = self._slow[way]
            for begin in range(0, min(len(data), left), 64):
                await sink.send(data[begin : min(begin + 64, left)])
                await anyio.sleep(64 / rate)
            data, left = data[left:], left - len(data)
            if left <= 0:
                self._slow.pop(way, None)
            elif way in self._slow:  # nobody calmed it meanwhile
                self._slow[way] = (rate, left)
        if self._odd:
            odd, data = data[:ODD_BYTES], data[ODD_BYTES:]
            while odd:
                size = self._random.randint(1, 9)
                await sink.send(odd[:size])
                await checkpoint()
                odd = odd[size:]
            middle = self._random.randint(0, len(data))
            for part in (data[:middle], data[middle:]):
                if part:
                    await sink.send(part)
                    await checkpoint()
        elif data:
            await sink.send(data)


@contextlib.asynccontextmanager
async def open_line(line: Line) -> AsyncIterator[Line]:
    """*line* on a free port of loopback; at the end all its connections are closed."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # anyio's, not Django's
    line.url = f"http://127.0.0.1:{port}"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, line.serve)
        try:
            yield line
        finally:
            tasks.cancel_scope.cancel()
    await listener.aclose()
