"""The broker in this process: the twin of Redis for tests, with several nodes on one hub."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from secrets import token_hex

import anyio

from memory.errors import ShortTermUnavailable
from memory.live.broker import (
    DEAD_AFTER_S,
    KEEP_EVENTS,
    Beat,
    Claim,
    Entered,
    Event,
    Inheritance,
    Letter,
    LiveRun,
    NodeId,
    Outgoing,
    Position,
    Published,
    RunFacts,
    RunText,
)
from memory.messages import ConversationId, RunId, UserId


class UserPlace:
    """One user's numbering, events and nodes."""

    def __init__(self) -> None:
        self.epoch = token_hex(8)
        self.seq = 0
        self.events: deque[tuple[int, bytes]] = deque(maxlen=KEEP_EVENTS)
        self.nodes: set[NodeId] = set()

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq)


class Hub:
    """What all nodes share; ``away`` makes every call fail, ``loses`` drops what is sent."""

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self.clock = clock
        self.away = False
        self.loses: Callable[[NodeId], bool] = lambda _node: False
        self.lines: dict[NodeId, deque[Event | Letter | None]] = {}
        self.woken: dict[NodeId, anyio.Event] = {}
        self.flush()

    def flush(self) -> None:
        """Lose everything, as Redis may."""
        self.generation = token_hex(8)
        self.places: dict[UserId, UserPlace] = {}
        self.beats: dict[NodeId, float] = {}
        self.heirs: dict[NodeId, NodeId] = {}
        self.lanes: dict[tuple[UserId, ConversationId], tuple[NodeId, str]] = {}
        self.sent: set[tuple[UserId, str]] = set()
        self.spoke: dict[NodeId, dict[UserId, None]] = {}
        self.running: dict[RunId, RunFacts] = {}
        self.texts: dict[RunId, bytes] = {}

    def place(self, user: UserId) -> UserPlace:
        return self.places.setdefault(user, UserPlace())

    def send(self, node: NodeId, what: Event | Letter | None) -> None:
        """Put *what* into *node*'s line, if it listens."""
        if node in self.lines and not self.loses(node):
            self.lines[node].append(what)
            self.woken[node].set()


class InProcessBroker:
    """``Broker`` on a :class:`Hub`."""

    def __init__(self, hub: Hub, node: NodeId) -> None:
        self._hub = hub
        self._node = node
        self._claims: dict[tuple[UserId, ConversationId], str] = {}

    @property
    def node(self) -> NodeId:
        return self._node

    async def aclose(self) -> None:
        self._hub.lines.pop(self._node, None)

    def _here(self) -> Hub:
        if self._hub.away:
            raise ShortTermUnavailable("the hub is away")
        return self._hub

    async def publish(self, events: Sequence[Outgoing]) -> list[Published]:
        hub = self._here()
        published = []
        for event in events:
            place = hub.place(event.user)
            place.seq += 1
            place.events.append((place.seq, event.payload))
            others = tuple(sorted(place.nodes - {self._node}))
            for node in others:
                hub.send(node, Event(event.user, place.position, event.payload, self._node))
            published.append(Published(place.position, others))
        return published

    async def enter(self, user: UserId) -> Entered:
        place = self._here().place(user)
        place.nodes.add(self._node)
        return Entered(place.position, tuple(sorted(place.nodes - {self._node})))

    async def stay(self, users: Sequence[UserId]) -> list[Position]:
        return [(await self.enter(user)).position for user in users]

    async def leave(self, user: UserId) -> None:
        self._here().place(user).nodes.discard(self._node)

    async def since(self, user: UserId, position: Position) -> list[tuple[int, bytes]] | None:
        place = self._here().place(user)
        missed = place.seq - position.seq
        if place.epoch != position.epoch or not 0 <= missed <= len(place.events):
            return None
        return list(place.events)[len(place.events) - missed :]

    async def begin_anew(self, user: UserId, *, numbering: bool = True) -> None:
        hub = self._here()
        if not numbering:
            hub.place(user).events.clear()
            return
        nodes = hub.place(user).nodes
        hub.places[user] = UserPlace()
        hub.places[user].nodes = nodes

    async def beat(self) -> Beat:
        hub = self._here()
        known, now = self._node in hub.beats, hub.clock()
        hub.beats[self._node] = now
        others = {node: now - at for node, at in hub.beats.items() if node != self._node}
        alive = frozenset(node for node, age_s in others.items() if age_s < DEAD_AFTER_S)
        return Beat(hub.generation, known, alive, frozenset(others) - alive)

    async def inherit(self, node: NodeId) -> Inheritance | None:
        hub = self._here()
        left = [facts for facts in hub.running.values() if facts.node == node]
        again = node not in hub.beats
        if again and not (left and hub.heirs.get(node) == self._node):
            return None
        if not again and hub.clock() - hub.beats[node] < DEAD_AFTER_S:
            return None
        hub.beats.pop(node, None)
        hub.heirs[node] = self._node
        users = tuple(hub.spoke.pop(node, {}))
        return Inheritance(tuple(self._live(facts) for facts in left), users)

    async def depart(self) -> None:
        self._here().beats.pop(self._node, None)

    async def claim(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        client_id: str | None,
        alive: Collection[NodeId],
    ) -> Claim:
        hub = self._here()
        hub.spoke.setdefault(self._node, {})[user] = None
        holder, _ = hub.lanes.get((user, conversation), (self._node, ""))
        if holder != self._node and holder in alive:
            return Claim(holder, repeated=False)
        token = self._claims[user, conversation] = token_hex(8)
        hub.lanes[user, conversation] = (self._node, token)
        repeated = client_id is not None and (user, client_id) in hub.sent
        if client_id is not None:
            hub.sent.add((user, client_id))
        return Claim(self._node, repeated)

    async def release(self, user: UserId, conversation: ConversationId) -> None:
        hub = self._here()
        token = self._claims.pop((user, conversation), None)
        if token is not None and hub.lanes.get((user, conversation)) == (self._node, token):
            del hub.lanes[user, conversation]

    async def begin_run(self, facts: RunFacts) -> None:
        self._here().running[facts.run] = facts

    async def checkpoint(self, texts: Sequence[RunText]) -> list[bool]:
        hub, kept = self._here(), []
        for text in texts:
            before = hub.texts.get(text.run, b"") if text.offset_bytes else b""
            fits = len(before) == text.offset_bytes
            if fits:
                hub.texts[text.run] = before + text.piece
            kept.append(fits)
        return kept

    async def end_run(self, user: UserId, run: RunId) -> None:
        hub = self._here()
        if run in hub.running and hub.running[run].user == user:
            del hub.running[run]
            hub.texts.pop(run, None)

    async def runs(self, user: UserId) -> list[LiveRun]:
        return [self._live(facts) for facts in self._here().running.values() if facts.user == user]

    def _live(self, facts: RunFacts) -> LiveRun:
        text = self._hub.texts.get(facts.run, b"")
        return LiveRun(facts, text.decode(errors="ignore"))

    async def post(self, letters: Sequence[tuple[NodeId | None, bytes]]) -> None:
        hub = self._here()
        for node, body in letters:
            for reader in list(hub.lines) if node is None else [node]:
                hub.send(reader, Letter(self._node, body))

    async def incoming(self) -> AsyncGenerator[Event | Letter | None, None]:
        hub = self._hub
        line = hub.lines[self._node] = deque([None])
        while True:
            hub.woken[self._node] = anyio.Event()
            while line:
                yield line.popleft()
            await hub.woken[self._node].wait()
