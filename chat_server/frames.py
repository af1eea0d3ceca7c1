"""Frames on their way out: each event is encoded once, whoever it goes to and however often."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from chat_server.events import RunDelta, RunMemories, ServerEvent

_encoder: Final = msgspec.json.Encoder()

_FIN_TEXT: Final = 0x81
_SHORT: Final = 126
_MEDIUM: Final = 65_536


class Frame:
    """One event as JSON in UTF-8, without a place in any order, or with its ``seq`` inside.

    ``delta`` is the event itself where it is a piece of a reply: adjacent pieces of one reply can
    be merged while they wait. ``ephemeral``: who cannot keep up may be spared it, for what it says
    is told again, by ``run.done`` or on ``attach``.
    """

    __slots__ = ("_wire", "delta", "ephemeral", "payload")

    def __init__(
        self, payload: bytes, *, delta: RunDelta | None = None, ephemeral: bool = False
    ) -> None:
        self.payload = payload
        self.delta = delta
        self.ephemeral = ephemeral
        self._wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """The payload as one unmasked WebSocket text frame (RFC 6455, section 5.2); the same bytes
        for every connection.
        """
        if self._wire is None:
            size = len(self.payload)
            if size < _SHORT:
                head = bytes((_FIN_TEXT, size))
            elif size < _MEDIUM:
                head = struct.pack("!BBH", _FIN_TEXT, 126, size)
            else:
                head = struct.pack("!BBQ", _FIN_TEXT, 127, size)
            self._wire = head + self.payload
        return self._wire

    def __len__(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)


def frame_of(event: ServerEvent) -> Frame:
    """The frame of *event*."""
    delta = event if isinstance(event, RunDelta) else None
    ephemeral = delta is not None or isinstance(event, RunMemories)
    return Frame(_encoder.encode(event), delta=delta, ephemeral=ephemeral)


def placed(payload: bytes, seq: int) -> Frame:
    """The frame of a durable event that was encoded without its ``seq``, with it."""
    return Frame(b'{"seq":%d,%b' % (seq, payload[1:]))
