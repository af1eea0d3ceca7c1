"""A WebSocket client of few instructions: what the generator of ``bench/wire.py`` is made of."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PING: Final = b'{"type":"ping"}'
PONG: Final = b'{"type":"pong"}'
SMALL_BUFFER_BYTES: Final = 4_096
TEXT: Final = 1
CLOSE: Final = 8

_MEDIUM: Final = 126
_LARGE: Final = 127


def masked(payload: bytes) -> bytes:
    """*payload* as a text frame; its mask is of zeros, which is one too (RFC 6455, 5.3)."""
    if len(payload) < _MEDIUM:
        return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload
    return struct.pack("!BBH4x", 0x81, 0x80 | _MEDIUM, len(payload)) + payload


Told = Callable[["Link", bytes], None]


class Link(asyncio.Protocol):
    """One connection; *opened* is called after the upgrade, ``told`` for every text frame.

    ``token`` is whose it is.
    """

    transport: asyncio.Transport

    def __init__(self, token: str, opened: Callable[[Link], None], told: Told) -> None:
        self.token = token
        self._opened = opened
        self.told = told
        self._held = b""
        self._upgraded = False
        self.close_code: int | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self.transport.write(UPGRADE)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        self.ended = True

    def send(self, payload: bytes) -> None:
        self.transport.write(masked(payload))

    def end(self) -> None:
        """Hang up."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        position = 0
        if not self._upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._held = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(data[:200].decode(errors="replace"))
            self._upgraded, position = True, end + 4
            self._opened(self)
        self._held = data[self._read_frames(data, position) :]

    def _read_frames(self, data: bytes, position: int) -> int:
        """Read whole frames; where the first one begins that is not whole."""
        size = len(data)
        while size - position >= 2:  # a head is two bytes
            length, head = data[position + 1], 2
            if length == _MEDIUM:
                length, head = int.from_bytes(data[position + 2 : position + 4], "big"), 4
            elif length == _LARGE:
                length, head = int.from_bytes(data[position + 2 : position + 10], "big"), 10
            end = position + head + length
            if end > size:
                break
            payload = data[position + head : end]
            opcode = data[position] & 0x0F
            if opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
            elif payload == PING:
                self.send(PONG)
            elif opcode == TEXT:
                self.told(self, payload)
            position = end
        return position


def small_socket(host: str, port: int) -> socket.socket:
    """A connected socket that takes little ahead of who reads from it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    raw.connect((host, port))
    raw.settimeout(0)  # does not block
    return raw
