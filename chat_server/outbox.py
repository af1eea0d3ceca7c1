"""The frames that wait to be written to one connection: bounded, and never waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import anyio

from chat_server.errors import ChatError
from chat_server.events import RunDelta
from chat_server.frames import Frame, frame_of

MAX_BYTES: Final = 1_048_576
"""What may wait for a slow client before it is sent away; it resumes, or reads over HTTP."""
MERGE_FROM_BYTES: Final = 32_768
"""Below this, frames wait as they are: their bytes are shared with the user's other connections."""
TOGETHER_BYTES: Final = 16_384
"""Frames that waited leave in writes of this size: fewer system calls; what a client does not take
of one is its own copy."""
MERGED_CHARS: Final = 8_192
"""So many code points go into one merged frame: below 64 KiB whatever they are."""


class Wire(Protocol):
    """Where frames leave at once, without a task of their own."""

    on_ready: Callable[[], None] | None
    """Called when it has become ready again; may write."""

    @property
    def ready(self) -> bool:
        """Whether the next frame should be written now: what was written before is leaving."""

    @property
    def waiting_bytes(self) -> int:
        """What was written and has not left yet."""

    def write_frame(self, frame: Frame) -> None:
        """Have *frame* leave after those before it. Never waits; after the end it does nothing."""

    def write_frames(self, frames: Sequence[Frame]) -> None:
        """The same for several, together."""


class Outbox:
    """A queue of frames, counted in bytes; one consumer: a :class:`Wire`, or who takes them.

    Producers never wait, so that a slow client never slows another. While frames wait, the pieces
    of one reply are merged; when there is no room, what is told again later is dropped; when there
    still is none, the connection is closed with ``slow_client``.
    """

    __slots__ = (
        "_allowance",
        "_bytes",
        "_changed",
        "_frames",
        "_max_bytes",
        "_merge_at",
        "_pieces_came",
        "_taken",
        "_wire",
        "closed_for",
        "is_closed",
        "on_closed",
    )

    def __init__(self, max_bytes: int = MAX_BYTES, wire: Wire | None = None) -> None:
        self._max_bytes = max_bytes
        self._wire = wire
        self._frames: deque[Frame] | None = None  # an idle connection has none
        self._bytes = 0
        self._taken: Frame | None = None
        self._allowance = 0
        self._merge_at = MERGE_FROM_BYTES
        self._pieces_came = False
        self._changed: anyio.Event | None = None
        self.is_closed = False
        self.closed_for: ChatError | None = None
        self.on_closed: Callable[[], None] | None = None
        """Called once, at the end."""
        if wire is not None:
            wire.on_ready = self._flush

    def put(self, frame: Frame) -> None:
        """Write *frame* after all before it, now or when there is room."""
        if self.is_closed:
            return
        wire = self._wire
        if wire is not None and not self._frames and wire.ready:
            wire.write_frame(frame)
            return
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)
        self._bytes += len(frame)
        self._pieces_came |= frame.delta is not None
        if self._bytes > self._merge_at:
            self._merge()
        if self._waiting_bytes > self._max_bytes + self._allowance:
            self._make_room()
        self._notify()

    def put_missed(self, frames: Sequence[Frame]) -> None:
        """Write what a client missed; it is kept anyway, so that its bytes count for nothing until
        all of it was written.
        """
        if not frames or self.is_closed:
            return
        size = sum(map(len, frames))
        self._allowance += size
        self._bytes += size
        if self._frames is None:
            self._frames = deque()
        self._frames.extend(frames)
        self._notify()
        if self._wire is not None and self._wire.ready:
            self._flush()

    def close(self, reason: ChatError | None) -> None:
        """Take nothing more; the first reason holds (``None``: the client left)."""
        if self.is_closed:
            return
        self.is_closed = True
        self.closed_for = reason
        self._notify()
        if self.on_closed is not None:
            self.on_closed()

    async def take(self) -> Frame:
        """The next frame; waits for one. It counts as waiting until :meth:`written`."""
        while self._taken is None:
            if self._frames:
                self._taken = self._frames.popleft()
            else:
                await self._change()
        return self._taken

    def written(self) -> None:
        """The frame that was taken has left."""
        if self._taken is not None:
            self._bytes -= len(self._taken)
            self._taken = None
        self._emptied()

    async def closed(self) -> ChatError | None:
        """Wait for the end, and say why."""
        while not self.is_closed:
            await self._change()
        return self.closed_for

    @property
    def is_empty(self) -> bool:
        """Whether everything was written."""
        return not self._frames and self._taken is None

    async def drained(self) -> None:
        """Wait until everything was written."""
        while not self.is_empty:
            await self._change()

    @property
    def _waiting_bytes(self) -> int:
        return self._bytes + (self._wire.waiting_bytes if self._wire is not None else 0)

    def _flush(self) -> None:
        """Write what waits, as far as the wire takes it."""
        wire, frames = self._wire, self._frames
        if wire is None or not frames:
            return
        self._merge()
        while frames and wire.ready:
            together = [frames.popleft()]
            size = len(together[0])
            while frames and size + len(frames[0]) <= TOGETHER_BYTES:
                together.append(frames.popleft())
                size += len(together[-1])
            self._bytes -= size
            wire.write_frames(together)
        self._emptied()

    def _emptied(self) -> None:
        """Begin anew with nothing waiting, if that is so."""
        if self.is_empty:
            self._frames = None
            self._allowance = 0
            self._merge_at = MERGE_FROM_BYTES
        self._notify()

    def _make_room(self) -> None:
        self._merge()
        if self._waiting_bytes <= self._max_bytes + self._allowance:
            return
        self._replace([frame for frame in self._frames or () if not frame.ephemeral])
        if self._waiting_bytes <= self._max_bytes + self._allowance:
            return
        self._replace(())
        self._taken = None
        self.close(ChatError("slow_client", "too much was waiting to be read; reconnect"))

    def _merge(self) -> None:
        """Merge what can be; then not again before twice as much waits."""
        if self._pieces_came and self._frames:
            self._replace(list(merged(self._frames)))
            self._pieces_came = False
        self._merge_at = max(MERGE_FROM_BYTES, 2 * self._bytes)

    def _replace(self, frames: Sequence[Frame]) -> None:
        """Have *frames* wait in the place of those that do; the one that was taken still counts."""
        if self._frames is not None:
            self._frames.clear()
            self._frames.extend(frames)
        taken = len(self._taken) if self._taken is not None else 0
        self._bytes = taken + sum(map(len, frames))

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def merged(frames: Iterable[Frame]) -> Iterator[Frame]:
    """*frames* with the pieces of each reply merged where one continues another, and no lasting
    event stands between them.
    """
    groups: list[list[Frame]] = []
    open_groups: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.delta is None:
            groups.append([frame])
            if not frame.ephemeral:
                open_groups.clear()
            continue
        group = open_groups.get(frame.delta.run)
        if group is not None and _continues(group, frame.delta):
            group.append(frame)
            continue
        open_groups[frame.delta.run] = group = [frame]
        groups.append(group)
    for group in groups:
        yield group[0] if len(group) == 1 else _joined(group)


def _continues(group: Sequence[Frame], delta: RunDelta) -> bool:
    first, last = group[0].delta, group[-1].delta
    if first is None or last is None:
        return False
    whole = delta.offset + len(delta.text) - first.offset
    return delta.offset == last.offset + len(last.text) and whole <= MERGED_CHARS


def _joined(group: Sequence[Frame]) -> Frame:
    deltas = [frame.delta for frame in group if frame.delta is not None]
    text = "".join(delta.text for delta in deltas)
    return frame_of(RunDelta(run=deltas[0].run, offset=deltas[0].offset, text=text))
