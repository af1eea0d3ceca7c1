"""One user's events in this process: their order, and the connections that they go to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from secrets import token_hex
from typing import Final

import anyio

from chat_server.errors import ChatError
from chat_server.event_log import EventLog
from chat_server.events import Reset
from chat_server.frames import Frame, frame_of, placed
from chat_server.outbox import Outbox
from memory.live.broker import Position

MOST_AHEAD: Final = 2_000
PAST_EPOCHS: Final = 8


class UserStream:
    """A user's connections of this process, and the lasting events of late.

    ``epoch`` names the numbering: places of another epoch say nothing here. Events may arrive twice
    and out of order; they leave once and in order.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.epoch = token_hex(8)
        self.log = EventLog(clock=clock)
        self.outboxes: set[Outbox] = set()
        self.coming = 0
        """Connections that are here, or on their way in."""
        self.closed_for: ChatError | None = None
        """Why all connections were closed, if they were: nobody comes in here any more."""
        self.left_at = 0.0
        self.entering = anyio.Lock()
        self.entered = False
        """The broker sends events of other processes here."""
        self.alone = True
        """Events are numbered in this process."""
        self._ahead: dict[int, bytes] = {}
        self._past: deque[str] = deque(maxlen=PAST_EPOCHS)

    @property
    def position(self) -> Position:
        """The place of the last event."""
        return Position(self.epoch, self.log.seq)

    @property
    def has_gap(self) -> bool:
        """Whether an event is missing before one that is there."""
        return bool(self._ahead)

    def write(self, frame: Frame) -> None:
        """Queue *frame* for every connection."""
        for outbox in self.outboxes:
            outbox.put(frame)

    def arrive(self, position: Position, payload: bytes) -> None:
        """Take in the durable event at *position*; it is sent once all before it are."""
        if position.epoch in self._past:
            return
        if position.epoch != self.epoch:
            self.follow(Position(position.epoch, position.seq - 1))
        if position.seq > self.log.seq and len(self._ahead) < MOST_AHEAD:
            self._ahead[position.seq] = payload
        self._send_ahead()

    def add(self, payload: bytes) -> None:
        """Give an event the next place, without a broker, and send it."""
        self._send(self.log.seq + 1, payload)

    def forget(self) -> None:
        """Keep none of the events so far."""
        self.log = EventLog(self.log.seq, clock=self._clock)

    def follow(self, position: Position) -> None:
        """Go on after the broker's *position*: what was missed, if anything, is read over HTTP."""
        if not self.alone and position.epoch != self.epoch:
            self._past.append(self.epoch)  # its events may still be on their way
        self.alone = False
        self._begin_anew(position)

    def stand_alone(self) -> None:
        """Number events in this process from now on: the broker cannot be asked."""
        self.entered = False
        if not self.alone:
            self.alone = True
            self._begin_anew(Position(token_hex(8), 0))

    def _begin_anew(self, position: Position) -> None:
        if position.epoch != self.epoch:
            self._ahead.clear()
        self.epoch = position.epoch
        self.log = EventLog(position.seq, clock=self._clock)
        self.write(frame_of(Reset(epoch=position.epoch, seq=position.seq)))
        self._send_ahead()

    def _send_ahead(self) -> None:
        for seq in [seq for seq in self._ahead if seq <= self.log.seq]:
            del self._ahead[seq]
        while (payload := self._ahead.pop(self.log.seq + 1, None)) is not None:
            self._send(self.log.seq + 1, payload)

    def _send(self, seq: int, payload: bytes) -> None:
        frame = placed(payload, seq)
        self.log.add(seq, frame)
        self.write(frame)
