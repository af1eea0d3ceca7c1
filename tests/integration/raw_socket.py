"""A WebSocket client that does what it is told: frames made by hand, right or wrong (RFC 6455)."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
ANSWER_WITHIN_S: Final = 30.0
MASK: Final = b"\x11\x22\x33\x44"
UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def masked(payload: bytes) -> bytes:
    """*payload* as clients must send it; a second time gives it back."""
    size = len(payload)
    key = (MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def ws_frame(
    payload: bytes | str = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bool = True,
    size: int | None = None,
) -> bytes:
    """One frame; *size* is what its head says, where that is not the truth."""
    body = payload.encode() if isinstance(payload, str) else payload
    told = len(body) if size is None else size
    head = bytes(((0x80 if fin else 0) | reserved << 4 | opcode,))
    bit = 0x80 if mask else 0
    if told < 126:
        head += bytes((bit | told,))
    elif told < 65_536:
        head += struct.pack("!BH", bit | 126, told)
    else:
        head += struct.pack("!BQ", bit | 127, told)
    return head + (MASK + masked(body) if mask else body)


def json_frame(**fields: Any) -> bytes:
    """A text frame of the protocol."""
    return ws_frame(json.dumps(fields))


ASK: Final = json_frame(type="ping")


@dataclass
class Answer:
    """What came until the connection ended, or until what was wanted (then it is ``alive``).

    ``close`` is the code of the close frame, 1005 for one without; ``None``: there was none.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    close: int | None = None
    alive: bool = False

    @property
    def errors(self) -> list[str]:
        return [event["code"] for event in self.events if event["type"] == "error"]


class RawSocket:
    """One TCP connection; every wait is bounded by ``ANSWER_WITHIN_S``."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host = address.netloc.encode()
        where = (address.hostname or "", address.port or 80)
        self.socket = socket.create_connection(where, timeout=ANSWER_WITHIN_S)
        self._buffer = b""

    def send(self, *parts: bytes) -> None:
        """Write; that the server hung up already is no error."""
        try:
            self.socket.sendall(b"".join(parts))
        except (BrokenPipeError, ConnectionResetError):
            return

    def upgrade(self) -> None:
        """The opening handshake."""
        self.send(UPGRADE % self._host)
        head = self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    def head(self) -> bytes:
        """The head of an HTTP answer; empty when the connection ended instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return b""
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def hello(self, token: str) -> None:
        """Say hello, and read the welcome."""
        self.upgrade()
        self.send(json_frame(type="hello", v=1, token=token))
        welcome = json.loads(self.frame()[1])
        assert welcome["type"] == "welcome", welcome

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the server, which must be whole and unmasked.

        Raises:
            EOFError: the connection ended.
        """
        first, second = self._exactly(2)
        assert first & 0x80
        assert not first & 0x70
        assert not second & 0x80
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def answer(self, until: Callable[[dict[str, Any]], bool] | None = None) -> Answer:
        """Read until the connection ends, or an event comes that *until* wants."""
        answer = Answer()
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == TEXT:
                    answer.events.append(json.loads(payload))
                    if until is not None and until(answer.events[-1]):
                        answer.alive = True
                        return answer
                elif opcode == CLOSE:
                    answer.close = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    self.send(ws_frame(payload[:2], CLOSE))  # else the server waits for it
        except EOFError:
            return answer

    def half_close(self) -> None:
        """Say nothing more."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def reset(self) -> None:
        """End as a crashed machine's kernel does it, with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self._more():
                raise EOFError
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _more(self) -> bool:
        try:
            received = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._buffer += received
        return bool(received)


@contextmanager
def raw_socket(url: str, token: str | None = None) -> Iterator[RawSocket]:
    """A connection, after hello where there is a *token*; closed at the end."""
    raw = RawSocket(url)
    try:
        if token is not None:
            raw.hello(token)
        yield raw
    finally:
        raw.socket.close()
