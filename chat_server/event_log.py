"""The lasting events of one user, kept for those who come back: all that was missed, or nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from chat_server.frames import Frame
from memory.live import broker

KEEP_S: Final[float] = broker.KEEP_S
KEEP_EVENTS: Final = broker.KEEP_EVENTS
KEEP_BYTES: Final = broker.KEEP_BYTES
"""As much as a broker keeps, where there is one."""


class _Entry(NamedTuple):
    seq: int
    frame: Frame
    at: float


class EventLog:
    """Events in the order of their ``seq``, without a gap, bounded in age, number and bytes.

    *seq* is the place of the last event before the first one here.
    """

    def __init__(self, seq: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: deque[_Entry] = deque()
        self._before = seq
        self.size_bytes = 0

    @property
    def seq(self) -> int:
        """The place of the last event."""
        return self._entries[-1].seq if self._entries else self._before

    def add(self, seq: int, frame: Frame) -> None:
        """Append the event after :attr:`seq`.

        Raises:
            ValueError: it is another one.
        """
        if seq != self.seq + 1:
            raise ValueError(f"event {seq} does not follow {self.seq}")
        self._entries.append(_Entry(seq, frame, self._clock()))
        self.size_bytes += len(frame)
        self._trim()

    def since(self, seq: int) -> list[Frame] | None:
        """All events after *seq*; ``None`` when one of them is gone, or *seq* is none of ours."""
        self._trim()
        if not self._before <= seq <= self.seq:
            return None
        missed = self.seq - seq
        return [entry.frame for entry in list(self._entries)[len(self._entries) - missed :]]

    def _trim(self) -> None:
        oldest = self._clock() - KEEP_S
        while self._entries and (
            self._entries[0].at < oldest
            or len(self._entries) > KEEP_EVENTS
            or self.size_bytes > KEEP_BYTES
        ):
            gone = self._entries.popleft()
            self._before = gone.seq
            self.size_bytes -= len(gone.frame)
