"""The line between the supervisor and one worker: lines of JSON over a pair of sockets."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec
import structlog
from anyio.abc import ByteReceiveStream, ByteSendStream, TaskGroup, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from chat_server.worker_messages import LARGEST_BYTES, Done, Envelope, Failed, Message
from memory.errors import LineBroken, MemoryFault

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 1_000
"""Messages that wait to be sent; a process that takes none of so many is as good as gone."""
ENDS: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

Handle = Callable[[Message], Awaitable[Message | None]]
"""What is done with a message; what it returns is the answer, where there was a question. A
``MemoryFault`` that it raises is told as ``Failed``. What was told is handled in order, and one
after the other: it must not take long. Questions have tasks of their own."""


class Line:
    """Tells and asks the process at the other end; needs :meth:`run`."""

    def __init__(self, end: socket.socket, handle: Handle) -> None:
        """*end* of a pair of stream sockets; closed by :meth:`run`."""
        self._end = end
        self._handle = handle
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Waiting] = {}
        self._send, self._to_send = anyio.create_memory_object_stream[bytes](MOST_WAITING)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Envelope).decode
        self.broken = anyio.Event()
        """Nothing more will come, and nothing arrive."""

    async def run(self) -> None:
        """Carry messages until the other process is gone, or this is cancelled."""
        try:
            async with (
                await UNIXSocketStream.from_socket(self._end) as stream,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._write, stream, tasks)
                await self._read(stream, tasks)
                tasks.cancel_scope.cancel()
        finally:
            self._break()

    def tell(self, message: Message) -> None:
        """Send *message*; returns at once, and where the line is broken nothing happens."""
        self._put(Envelope(message))

    async def ask(self, message: Message, within_s: float) -> Message:
        """The answer to *message*.

        Raises:
            LineBroken: none came in time, or the other process could not do it; says why.
        """
        number = next(self._numbers)
        waiting = self._asked[number] = _Waiting()
        try:
            self._put(Envelope(message, asks=number))
            with anyio.move_on_after(within_s):
                await waiting.done.wait()
        finally:
            self._asked.pop(number, None)
        if waiting.answer is None:
            raise LineBroken(f"another process did not answer within {within_s:g} s")
        if isinstance(waiting.answer, Failed):
            raise LineBroken(waiting.answer.reason)
        return waiting.answer

    def _put(self, envelope: Envelope) -> None:
        if self.broken.is_set():
            self._fail_all("another process has ended")
            return
        try:
            self._send.send_nowait(self._encode(envelope) + b"\n")
        except anyio.WouldBlock:
            log.warning("line.stuck", waiting=MOST_WAITING)
            self._break()

    async def _write(self, stream: ByteSendStream, tasks: TaskGroup) -> None:
        try:
            async for line in self._to_send:
                await stream.send(line)
        except ENDS:
            tasks.cancel_scope.cancel()

    async def _read(self, stream: ByteReceiveStream, tasks: TaskGroup) -> None:
        lines = BufferedByteReceiveStream(stream)
        try:
            while not self.broken.is_set():
                await self._take(
                    self._decode(await lines.receive_until(b"\n", LARGEST_BYTES)), tasks
                )
        except (*ENDS, anyio.IncompleteRead):
            return
        except (msgspec.MsgspecError, anyio.DelimiterNotFound) as fault:
            log.warning("line.not_understood", reason=type(fault).__name__)

    async def _take(self, envelope: Envelope, tasks: TaskGroup) -> None:
        if envelope.answers:
            waiting = self._asked.get(envelope.answers)
            if waiting is not None:
                waiting.answer = envelope.body
                waiting.done.set()
        elif envelope.asks:
            tasks.start_soon(self._answer, envelope)
        else:
            try:
                await self._handle(envelope.body)
            except MemoryFault as fault:
                kind = type(envelope.body).__name__
                log.warning("line.not_done", message=kind, reason=str(fault))
            except Exception:  # the boundary of one message: the lines of all others go on
                log.exception("line.message_failed", message=type(envelope.body).__name__)

    async def _answer(self, envelope: Envelope) -> None:
        try:
            answer = await self._handle(envelope.body)
        except MemoryFault as fault:
            answer = Failed(str(fault))
        except Exception:  # likewise
            log.exception("line.message_failed", message=type(envelope.body).__name__)
            answer = Failed("a fault in the other process; its log says which")
        self._put(Envelope(answer or Done(), answers=envelope.asks))

    def _break(self) -> None:
        self.broken.set()
        self._send.close()
        self._to_send.close()
        self._fail_all("another process has ended")

    def _fail_all(self, reason: str) -> None:
        for waiting in self._asked.values():
            waiting.answer = waiting.answer or Failed(reason)
            waiting.done.set()


class _Waiting:
    """For one answer."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: Message | None = None
