"""A user's events between the processes of the server: numbered by the broker, kept by it, and
delivered wherever the user is connected.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import anyio.lowlevel
import structlog

from chat_server.courier import Courier, OfUser
from chat_server.events import RunDelta
from chat_server.frames import Frame, frame_of, placed
from chat_server.letters import BegunAnew, Here, Live, LiveDelta
from chat_server.protocol import ResumePoint
from chat_server.relay_upkeep import RETRY_S, RelayUpkeep
from chat_server.user_stream import UserStream
from memory.errors import ShortTermUnavailable
from memory.live.broker import Broker, Event, NodeId, Outgoing, Position
from memory.messages import RunId, UserId

log = structlog.get_logger(__name__)

PUBLISH_AT_ONCE: Final = 200
MOST_ELSEWHERE: Final = 50_000

Waiting = bytes | Frame
"""A durable event without its place, or a live one that stands behind such."""


class Relay:
    """``Elsewhere`` on a broker; *streams* are those of the fan-out.

    Durable events of one user are published in order, all that wait in one round trip; live ones go
    out at once unless a durable one of the same user is on its way. While the broker is away,
    events are numbered here, and clients are told (``reset``).
    """

    def __init__(
        self,
        broker: Broker,
        courier: Courier,
        streams: dict[UserId, UserStream],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        self._broker = broker
        self._courier = courier
        self._streams = streams
        self.upkeep = RelayUpkeep(broker, courier, streams, retry_s=retry_s)
        self._lines: dict[UserId, deque[Waiting]] = {}
        self._woken = anyio.Event()
        self._emptied = anyio.Event()
        self.in_doubt: Callable[[], bool] = lambda: False
        """Whether this process stood still, so that its replies may be others' by now: then
        nothing more is shown of them before it is :attr:`assured`.
        """
        self.on_alone: Callable[[], None] = lambda: None
        """An event was told by this process alone: for whoever counts that."""
        self.assured: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
        self._nodes: OrderedDict[UserId, tuple[NodeId, ...]] = OrderedDict()
        courier.on_event = self.arrived
        courier.on_live = self.arrived_live

    # What is said here.

    def publish(self, user: UserId, payload: bytes) -> None:
        self._lines.setdefault(user, deque()).append(payload)
        self._woken.set()

    def hold(self, user: UserId, frame: Frame) -> bool:
        line = self._lines.get(user)
        if line is None and frame.delta is not None and self.in_doubt():
            line = self._lines[user] = deque()
            self._woken.set()
        if line is not None:
            line.append(frame)
            return True
        self._forward(user, frame)
        return False

    def _forward(self, user: UserId, frame: Frame) -> None:
        for node in self._nodes.get(user, ()):
            delta = frame.delta
            if delta is not None:
                piece = LiveDelta(user=user, run=delta.run, offset=delta.offset, text=delta.text)
                self._courier.post(node, piece)
            else:
                self._courier.post(node, Live(user=user, payload=frame.payload))

    async def run_publisher(self) -> None:
        """Publish what waits, until cancelled."""
        if self._lines:  # left by a fault
            self._woken.set()
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            while self._lines:
                await self.assured()
                for user in list(self._lines):
                    self._settle_line(user)
                batch = self._next_batch()
                if batch:
                    await self._publish(batch)

    async def _publish(self, batch: Sequence[Outgoing]) -> None:
        """Give the events of *batch*, which stand at the heads of their lines, their places, and
        send them with the live ones behind them.
        """
        await self._courier.flush()  # pieces of a reply arrive before its end elsewhere too
        try:
            published = await self._broker.publish(batch)
        except ShortTermUnavailable as fault:
            log.info("events.not_shared", events=len(batch), reason=str(fault))
            self._courier.lost_count()
            for event in batch:
                self._deliver_alone(event)
        else:
            for event, place in zip(batch, published, strict=True):
                self._courier.count_events(place.nodes)
                self._note_nodes(event.user, place.nodes)
                self._deliver(event.user, place.position, event.payload)
        for user in {event.user for event in batch}:
            self._settle_line(user)

    async def settled(self) -> None:
        while self._lines:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    def _next_batch(self) -> list[Outgoing]:
        """The durable events at the heads of the lines; they stay there until they have a place."""
        batch: list[Outgoing] = []
        for user, line in self._lines.items():
            for waiting in line:
                if isinstance(waiting, Frame):
                    break
                batch.append(Outgoing(user, waiting))
                if len(batch) >= PUBLISH_AT_ONCE:
                    return batch
        return batch

    def _settle_line(self, user: UserId) -> None:
        """Send the live events behind those that were published."""
        line = self._lines[user]
        stream = self._streams.get(user)
        while line:
            frame = line[0]
            if not isinstance(frame, Frame):
                return
            line.popleft()
            self._forward(user, frame)
            if stream is not None:
                stream.write(frame)
        del self._lines[user]
        if not self._lines:
            self._emptied.set()

    def drop_pieces(self) -> None:
        """Forget the pieces of replies that wait: others have ended those replies."""
        for line in self._lines.values():
            kept = [it for it in line if not (isinstance(it, Frame) and it.delta is not None)]
            line.clear()
            line.extend(kept)

    def _deliver(self, user: UserId, position: Position, payload: bytes) -> None:
        self._lines[user].popleft()
        self._arrive(user, position, payload)

    def _deliver_alone(self, event: Outgoing) -> None:
        self._lines[event.user].popleft()
        self.upkeep.was_alone(event.user)
        self.on_alone()
        stream = self._streams.get(event.user)
        if stream is not None:
            stream.stand_alone()
            stream.add(event.payload)

    # What is said elsewhere.

    def arrived(self, event: Event) -> None:
        """Take in a durable event of another process."""
        self._arrive(event.user, event.position, event.payload)

    def _arrive(self, user: UserId, position: Position, payload: bytes) -> None:
        stream = self._streams.get(user)
        if stream is None:
            return
        stream.arrive(position, payload)
        if stream.has_gap:
            self.upkeep.fill(user)

    def arrived_live(self, node: NodeId, live: OfUser) -> None:
        """Take in a live event of another process, or its word of the user."""
        if isinstance(live, BegunAnew):
            self.upkeep.is_stale(live.user)
            return
        if isinstance(live, Here):
            nodes = self._nodes.get(live.user, ())
            if node not in nodes:
                self._note_nodes(live.user, (*nodes, node))
            return
        stream = self._streams.get(live.user)
        if stream is None:
            return
        if isinstance(live, LiveDelta):
            delta = RunDelta(run=RunId(live.run), offset=live.offset, text=live.text)
            stream.write(frame_of(delta))
        else:
            stream.write(Frame(live.payload))

    def _note_nodes(self, user: UserId, nodes: tuple[NodeId, ...]) -> None:
        if not nodes:
            self._nodes.pop(user, None)
            return
        self._nodes[user] = nodes
        self._nodes.move_to_end(user)
        if len(self._nodes) > MOST_ELSEWHERE:
            self._nodes.popitem(last=False)

    # Coming and going.

    async def enter(self, user: UserId, stream: UserStream) -> None:
        async with stream.entering:
            if stream.entered:
                return
            try:
                entered = await self._broker.enter(user)
            except ShortTermUnavailable as fault:
                log.info("events.not_heard", reason=str(fault))
                self.upkeep.is_stale(user)
                return
            stream.entered = True
            now = entered.position
            if stream.epoch != now.epoch or stream.log.seq < now.seq:
                stream.follow(now)
            self._note_nodes(user, entered.nodes)
        # To all: a reply may be in the making where the user is not connected any more.
        self._courier.post(None, Here(user=user))

    async def missed(
        self, user: UserId, stream: UserStream, since: ResumePoint
    ) -> Sequence[Frame] | None:
        position = Position(since.epoch, since.seq)
        try:
            events = await self._broker.since(user, position)
        except ShortTermUnavailable:
            return None
        if events is None or stream.epoch != since.epoch:
            return None
        kept = [placed(payload, seq) for seq, payload in events if seq <= stream.log.seq]
        # While that was read, more may have come, which only the stream has.
        rest = stream.log.since(since.seq + len(kept))
        return None if rest is None else [*kept, *rest]

    def leave(self, user: UserId) -> None:
        self.upkeep.leave(user)

    def forget(self, user: UserId) -> None:
        self.upkeep.forget(user)

    def broker_lost(self) -> None:
        """What the broker held is gone, with who is connected where."""
        self._nodes.clear()
        self.upkeep.compare_all()
