"""A stream of bytes of a WebSocket, cut into its frames as they are; no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

END_OF_HEAD: Final = b"\r\n\r\n"
UPGRADED: Final = re.compile(
    rb"(?ims)^HTTP/1\.1 101 |^GET .*^upgrade: *websocket\r",
)
TYPE: Final = re.compile(rb'"type":\s*"([a-z.]+)"')
TEXT: Final = 0x1
KINDS: Final = {0x0: "continuation", 0x2: "binary", 0x8: "close", 0x9: "ws-ping", 0xA: "ws-pong"}
MASK_BYTES: Final = 4


class Piece(NamedTuple):
    """Bytes that belong together; *kind* is the ``type`` of a JSON frame, or what else it is."""

    kind: str
    data: bytes


class FrameCutter:
    """One direction of one connection: the head of its handshake, then whole frames.

    What comes of a connection that was not upgraded is passed as it comes, as ``raw``.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._upgraded: bool | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """What *data* completes."""
        self._buffer += data
        if self._upgraded is None:
            end = self._buffer.find(END_OF_HEAD)
            if end < 0:
                return
            head = self._taken(end + len(END_OF_HEAD))
            self._upgraded = UPGRADED.match(head) is not None
            yield Piece("handshake", head)
        if not self._upgraded:
            if self._buffer:
                yield Piece("raw", self._taken(len(self._buffer)))
            return
        while (size := _frame_size(self._buffer)) is not None and len(self._buffer) >= size:
            frame = self._taken(size)
            yield Piece(_kind_of(frame), frame)

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _layout(head: bytes | bytearray) -> tuple[int, int] | None:
    """Where the payload begins (behind the mask) and how long it is (RFC 6455, section 5.2)."""
    if len(head) < 2:
        return None
    length, begin = head[1] & 0x7F, 2
    if length >= 126:
        extended = 2 if length == 126 else 8
        if len(head) < begin + extended:
            return None
        length = int.from_bytes(head[begin : begin + extended], "big")
        begin += extended
    return begin + (MASK_BYTES if head[1] & 0x80 else 0), length


def _frame_size(head: bytes | bytearray) -> int | None:
    layout = _layout(head)
    return None if layout is None else sum(layout)


def _kind_of(frame: bytes) -> str:
    opcode = frame[0] & 0x0F
    if opcode != TEXT:
        return KINDS.get(opcode, "unknown")
    layout = _layout(frame)
    assert layout is not None
    payload = frame[layout[0] : layout[0] + 256]  # the type stands at the beginning
    if frame[1] & 0x80:
        mask = frame[layout[0] - MASK_BYTES : layout[0]]
        payload = bytes(byte ^ mask[index % MASK_BYTES] for index, byte in enumerate(payload))
    found = TYPE.search(payload)
    return found.group(1).decode() if found else "text"
