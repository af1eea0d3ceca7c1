"""A user's events between the processes of the server: numbered by the broker, kept by it, and
delivered wherever the user is connected.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

import anyio
import structlog

from chat_server.courier import Courier
from chat_server.events import RunDelta
from chat_server.frames import Frame, frame_of, placed
from chat_server.letters import Here, Live, LiveDelta
from chat_server.protocol import ResumePoint
from chat_server.user_stream import UserStream
from memory.errors import ShortTermUnavailable
from memory.live.broker import PRESENCE_S, Broker, Event, NodeId, Outgoing, Position
from memory.messages import RunId, UserId

log = structlog.get_logger(__name__)

PUBLISH_AT_ONCE: Final = 200
STAY_AT_ONCE: Final = 500
MOST_ELSEWHERE: Final = 50_000
RETRY_S: Final = 0.3

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
        self._lines: dict[UserId, deque[Waiting]] = {}
        self._woken = anyio.Event()
        self._nodes: OrderedDict[UserId, tuple[NodeId, ...]] = OrderedDict()
        self._leaving: set[UserId] = set()
        self._gaps: set[UserId] = set()
        self._upkeep = anyio.Event()
        self._resync = False
        self._retry_s = retry_s
        courier.on_event = self.arrived
        courier.on_live = self.arrived_live

    # What is said here.

    def publish(self, user: UserId, payload: bytes) -> None:
        self._lines.setdefault(user, deque()).append(payload)
        self._woken.set()

    def hold(self, user: UserId, frame: Frame) -> bool:
        line = self._lines.get(user)
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
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            while self._lines:
                batch = self._next_batch()
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

    def _deliver(self, user: UserId, position: Position, payload: bytes) -> None:
        self._lines[user].popleft()
        self._arrive(user, position, payload)

    def _deliver_alone(self, event: Outgoing) -> None:
        self._lines[event.user].popleft()
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
            self._gaps.add(user)
            self._upkeep.set()

    def arrived_live(self, node: NodeId, live: Here | Live | LiveDelta) -> None:
        """Take in a live event of another process, or its word that the user is there."""
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
                return
            stream.entered = True
            now = entered.position
            if stream.epoch != now.epoch or stream.log.seq < now.seq:
                stream.follow(now)
            self._note_nodes(user, entered.nodes)
        for node in entered.nodes:
            self._courier.post(node, Here(user=user))

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
        self._leaving.add(user)
        self._upkeep.set()

    def resync(self) -> None:
        """Something may have been missed: compare every stream with the broker."""
        self._resync = True
        self._upkeep.set()

    def broker_lost(self) -> None:
        """What the broker held is gone, with who is connected where."""
        self._nodes.clear()
        self.resync()

    async def run_upkeep(self) -> None:
        """Fill gaps, renew and withdraw the word of who is connected here, until cancelled."""
        while True:
            with anyio.move_on_after(PRESENCE_S / 3) as rest:
                await self._upkeep.wait()
            self._upkeep = anyio.Event()
            try:
                await self._fill_gaps()
                await self._leave_all()
                if self._resync or rest.cancelled_caught:
                    self._resync = False
                    await self._stay()
            except ShortTermUnavailable as fault:
                log.info("events.upkeep_waits", reason=str(fault))
                self._resync = True
                await anyio.sleep(self._retry_s)
                self._upkeep.set()

    async def _fill_gaps(self) -> None:
        while self._gaps:
            user = next(iter(self._gaps))
            stream = self._streams.get(user)
            if stream is not None and stream.has_gap:
                await self._fill(user, stream)
            self._gaps.discard(user)

    async def _fill(self, user: UserId, stream: UserStream) -> None:
        """Read what did not arrive; where it is gone, clients begin anew."""
        position = stream.position
        events = await self._broker.since(user, position)
        if stream.epoch != position.epoch:
            return
        if events is None:
            (now,) = await self._broker.stay([user])
            if now != stream.position:
                stream.follow(now)
            return
        for seq, payload in events:
            stream.arrive(Position(position.epoch, seq), payload)

    async def _leave_all(self) -> None:
        while self._leaving:
            user = next(iter(self._leaving))
            if user not in self._streams:
                await self._broker.leave(user)
            self._leaving.discard(user)
            if user in self._streams:  # back meanwhile
                await self._stay_with([user])

    async def _stay(self) -> None:
        users = list(self._streams)
        for begin in range(0, len(users), STAY_AT_ONCE):
            await self._stay_with(users[begin : begin + STAY_AT_ONCE])

    async def _stay_with(self, users: Sequence[UserId]) -> None:
        positions = await self._broker.stay(users)
        for user, position in zip(users, positions, strict=True):
            stream = self._streams.get(user)
            if stream is None:
                self._leaving.add(user)
                continue
            stream.entered = True
            if stream.epoch != position.epoch:
                stream.follow(position)
            elif stream.log.seq < position.seq:
                await self._fill(user, stream)
