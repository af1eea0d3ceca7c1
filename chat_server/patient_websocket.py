"""uvicorn's WebSocket protocol: frames leave at once, and nobody who asks without listening, or
sends nonsense, costs more than a bound.
"""

from __future__ import annotations

import socket
from asyncio import Task
from asyncio.transports import BaseTransport
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame as WebSocketFrame
from websockets.http11 import Request
from websockets.protocol import State

from chat_server.frames import Frame

WIRE: Final = "tandem.wire"
"""Where an ASGI scope's extensions hold the protocol itself, to write to."""
WRITE_AHEAD_BYTES: Final = 4_096
"""What may wait in the transport before writing pauses: uvloop keeps almost 1 kB beside each
frame that it could not send at once."""
UNSENT_BYTES: Final = 65_536
"""What the kernel takes before it was sent: there it cannot be merged or dropped, and without a
bound it is 4 MB."""
PONGS_BYTES: Final = 16_384
"""Who lets so much wait and asks again is hung up on."""
CLOSED_WITHIN_S: Final = 10.0
"""How long a client may take to read what was written, and to answer the close frame."""
MOST_FRAGMENTS: Final = 1_024
MOST_UNREAD: Final = 1_024
"""Messages that came and were not taken; reading pauses after the first, but one read of the
socket may hold thousands."""
TOO_MANY: Final = 4429
"""The close code of ``too_many_commands``."""


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Answers pings while its answers are read, and hangs up on who sends without reading.

    uvicorn answers each ping at once and pauses reading for data frames only, so a client that
    never reads could fill the memory with pongs. It offers itself as ``scope["extensions"][WIRE]``:
    frames that are encoded already are written to the transport without a task switch. uvicorn's
    own way of sending goes on working.
    """

    on_ready: Callable[[], None] | None = None
    ready: bool = True
    """Whether what was written before is leaving."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(WRITE_AHEAD_BYTES)
        raw = self.transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and raw.family != _UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_ready = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn waits for ever for a request that cannot be read.
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        upgraded = self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
        if upgraded and not self.conn.extensions:
            extensions = cast("dict[str, object]", self.scope["extensions"])
            extensions[WIRE] = self

    def pause_writing(self) -> None:
        super().pause_writing()
        self.ready = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self.ready = True
        if self.on_ready is not None:
            self.on_ready()

    @property
    def waiting_bytes(self) -> int:
        """What the transport holds."""
        return self.transport.get_write_buffer_size()

    def write_frame(self, frame: Frame) -> None:
        """Have *frame* leave after those before it; after the end nothing happens."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(frame.wire)

    def write_frames(self, frames: Sequence[Frame]) -> None:
        """The same for several, in one write."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(b"".join([frame.wire for frame in frames]))

    def hang_up(self, code: int, reason: str) -> None:
        """Say why, after what was written, and end within ``CLOSED_WITHIN_S`` whoever reads it."""
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:  # the peer's close frame must be read
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)

    def handle_ping(self) -> None:
        if self.waiting_bytes < PONGS_BYTES:
            super().handle_ping()
        else:
            self.transport.abort()

    def handle_cont(self, event: WebSocketFrame) -> None:
        """The next fragment; endless empty ones are no message."""
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(1009, "too many fragments")

    def send_receive_event_to_app(self) -> None:
        """Hand a message on; what is not UTF-8 ends the connection, and is not worth a
        traceback.
        """
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:
            return
        if self.queue.qsize() >= MOST_UNREAD:
            self.hang_up(TOO_MANY, "too many frames at once")
            self.queue.put_nowait({"type": "websocket.disconnect", "code": TOO_MANY})
            return
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._fail(1007, "not UTF-8")
                return
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_parser_exception(self) -> None:
        """End the connection after what cannot be read, before the upgrade too."""
        if self.close_sent:
            return
        if self.conn.close_sent is None:  # not even the request could be read
            self.transport.abort()
        else:
            super().handle_parser_exception()

    def on_task_complete(self, task: Task[None]) -> None:
        """Once nobody serves the connection, who does not read its end is not waited for."""
        super().on_task_complete(task)
        if not self.disconnected and self.close_timer is None:
            self.close_timer = self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)

    def _fail(self, code: int, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()


_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_UNIX: Final = getattr(socket, "AF_UNIX", None)
