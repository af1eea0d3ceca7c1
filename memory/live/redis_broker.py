"""The broker in Redis: scripts of one round trip, and one subscription for each process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Self, TypeVar

import anyio
import msgspec
from redis.asyncio import Redis

from memory.errors import ShortTermUnavailable
from memory.live.broker import (
    CLAIM_LIFE_S,
    DEAD_AFTER_S,
    KEEP_BYTES,
    KEEP_EVENTS,
    KEEP_S,
    PLACE_LIFE_S,
    PRESENCE_S,
    RUN_LIFE_S,
    SENT_LIFE_S,
    Beat,
    Claim,
    Entered,
    Event,
    Letter,
    LiveRun,
    NodeId,
    Outgoing,
    Position,
    Published,
    RunFacts,
    RunText,
)
from memory.live.redis_keys import Keys
from memory.live.redis_listener import RedisListener
from memory.live.redis_messages import nodes_in, position_in, read_message
from memory.messages import ConversationId, RunId, UserId, user_key
from memory.redis_connection import RedisConnection, Script

T = TypeVar("T")

FORGET_NODES_S: Final = 3_600
REST_S: Final = 0.5
"""For so long after a failure nothing is asked but for beats: a crowd does not wait for the
time-out of each."""
_SCRIPTS: Final = Path(__file__).parent
_facts: Final = msgspec.json.Decoder(RunFacts)


class RedisBroker:
    """``Broker`` on Redis or Valkey; :class:`Keys` says what lies where."""

    def __init__(
        self, connection: RedisConnection, *, address: str, prefix: str, node: NodeId
    ) -> None:
        self._connection = connection
        self._keys = Keys(prefix)
        self._node = node
        self._listener = RedisListener(
            address, [f"{self._keys.channel}{name}" for name in (node, "*")]
        )
        self._claims: dict[tuple[UserId, ConversationId], str] = {}
        self._rests_until = 0.0
        names = ("publish", "enter", "since", "beat", "inherit", "claim", "release", "checkpoint")
        self._script = {name: Script(name, _SCRIPTS) for name in names}

    @classmethod
    def open(
        cls, address: str, *, node: NodeId, prefix: str = "chat:", timeout_s: float = 0.25
    ) -> Self:
        """On the server at *address*; see :func:`memory.redis_connection.open_pool`."""
        connection = RedisConnection.open(address, timeout_s=timeout_s)
        return cls(connection, address=address, prefix=prefix, node=node)

    @property
    def node(self) -> NodeId:
        return self._node

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def publish(self, events: Sequence[Outgoing]) -> list[Published]:
        answers = await self._many(
            "publish",
            [
                (
                    [self._keys.of(event.user, part) for part in ("events", "place", "nodes")],
                    [
                        token_hex(8),
                        self._node,
                        self._keys.channel,
                        user_key(event.user),
                        KEEP_S * 1_000,
                        KEEP_EVENTS,
                        PLACE_LIFE_S * 1_000,
                        event.payload,
                        KEEP_BYTES,
                    ],
                )
                for event in events
            ],
        )
        return [Published(position_in(answer), nodes_in(answer[2:])) for answer in answers]

    async def enter(self, user: UserId) -> Entered:
        (answer,) = await self._enter([user])
        return Entered(position_in(answer), nodes_in(answer[2:]))

    async def stay(self, users: Sequence[UserId]) -> list[Position]:
        return [position_in(answer) for answer in await self._enter(users)]

    async def _enter(self, users: Sequence[UserId]) -> list[Any]:
        return await self._many(
            "enter",
            [
                (
                    [self._keys.of(user, "place"), self._keys.of(user, "nodes")],
                    [token_hex(8), self._node, PRESENCE_S, PLACE_LIFE_S * 1_000],
                )
                for user in users
            ],
        )

    async def leave(self, user: UserId) -> None:
        key = self._keys.of(user, "nodes")
        await self._ask("leave", lambda redis: redis.zrem(key, self._node))

    async def since(self, user: UserId, position: Position) -> list[tuple[int, bytes]] | None:
        keys = [self._keys.of(user, "events"), self._keys.of(user, "place")]
        (events,) = await self._many("since", [(keys, [position.epoch, position.seq])])
        if events is None:
            return None
        return list(enumerate(events, start=position.seq + 1))

    async def begin_anew(self, user: UserId) -> None:
        keys = [self._keys.of(user, "place"), self._keys.of(user, "events")]
        await self._ask("begin_anew", lambda redis: redis.unlink(*keys))

    async def beat(self) -> Beat:
        answer = await self._connection.run(
            self._script["beat"],
            [self._keys.alive, self._keys.generation],
            self._node,
            token_hex(8),
            FORGET_NODES_S * 1_000_000,
        )
        self._rests_until = 0.0
        ages = {
            NodeId(node.decode()): age / 1_000_000
            for node, age in zip(answer[2::2], answer[3::2], strict=True)
        }
        del ages[self._node]
        alive = frozenset(node for node, age_s in ages.items() if age_s < DEAD_AFTER_S)
        return Beat(answer[0].decode(), bool(answer[1]), alive, frozenset(ages) - alive)

    async def inherit(self, node: NodeId) -> list[LiveRun] | None:
        left = await self._connection.run(
            self._script["inherit"],
            [
                self._keys.alive,
                self._keys.runs_of(node),
                self._keys.runs_of(self._node),
            ],
            node,
            int(DEAD_AFTER_S * 1_000_000),
            CLAIM_LIFE_S,
        )
        return None if left is None else await self._with_texts(left)

    async def depart(self) -> None:
        await self._ask("depart", lambda redis: redis.zrem(self._keys.alive, self._node))

    async def claim(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        client_id: str | None,
        alive: Collection[NodeId],
    ) -> Claim:
        keys = [self._keys.of(user, f"lane:{conversation}")]
        if client_id is not None:
            keys.append(self._keys.of(user, f"sent:{client_id}"))
        token = token_hex(8)
        lives = [CLAIM_LIFE_S * 1_000, SENT_LIFE_S * 1_000]
        ((holder, repeated),) = await self._many(
            "claim", [(keys, [self._node, token, *lives, *alive])]
        )
        claim = Claim(NodeId(holder.decode()), bool(repeated))
        if claim.holder == self._node:
            self._claims[user, conversation] = f"{self._node} {token}"
        return claim

    async def release(self, user: UserId, conversation: ConversationId) -> None:
        lane = (user, conversation)
        claimed = self._claims.get(lane)
        if claimed is None:
            return
        await self._many("release", [([self._keys.of(user, f"lane:{conversation}")], [claimed])])
        if self._claims.get(lane) == claimed:  # else it was claimed anew meanwhile
            del self._claims[lane]

    async def begin_run(self, facts: RunFacts) -> None:
        encoded = msgspec.json.encode(facts)

        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(self._keys.of(facts.user, "runs"), facts.run, encoded)
                pipeline.expire(self._keys.of(facts.user, "runs"), CLAIM_LIFE_S)
                pipeline.hset(self._keys.runs_of(self._node), facts.run, encoded)
                pipeline.expire(self._keys.runs_of(self._node), CLAIM_LIFE_S)
                await pipeline.execute()

        await self._ask("begin_run", call)

    async def checkpoint(self, texts: Sequence[RunText]) -> list[bool]:
        answers = await self._many(
            "checkpoint",
            [
                (
                    [self._keys.of(text.user, f"run:{text.run}")],
                    [text.offset_bytes, text.piece, RUN_LIFE_S * 1_000],
                )
                for text in texts
            ],
        )
        return [bool(answer) for answer in answers]

    async def end_run(self, user: UserId, run: RunId) -> None:
        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(self._keys.of(user, "runs"), run)
                pipeline.hdel(self._keys.runs_of(self._node), run)
                pipeline.unlink(self._keys.of(user, f"run:{run}"))
                await pipeline.execute()

        await self._ask("end_run", call)

    async def runs(self, user: UserId) -> list[LiveRun]:
        key = self._keys.of(user, "runs")
        return await self._with_texts(await self._ask("runs", lambda redis: redis.hvals(key)))

    async def _with_texts(self, encoded: Sequence[bytes | str]) -> list[LiveRun]:
        facts = [_facts.decode(one) for one in encoded]
        if not facts:
            return []

        async def call(redis: Redis) -> list[bytes | None]:
            async with redis.pipeline(transaction=False) as pipeline:
                for one in facts:
                    pipeline.get(self._keys.of(one.user, f"run:{one.run}"))
                values: list[bytes | None] = await pipeline.execute()
                return values

        texts = await self._ask("texts", call)
        return [
            LiveRun(one, (text or b"").decode(errors="ignore"))
            for one, text in zip(facts, texts, strict=True)
        ]

    async def post(self, letters: Sequence[tuple[NodeId | None, bytes]]) -> None:
        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for node, body in letters:
                    channel = f"{self._keys.channel}{node or '*'}"
                    pipeline.publish(channel, b"L%b\n%b" % (self._node.encode(), body))
                await pipeline.execute()

        await self._ask("post", call)

    async def incoming(self) -> AsyncGenerator[Event | Letter | None, None]:
        async for message in self._listener.messages():
            yield None if message is None else read_message(message)

    async def _many(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | bytes | int]]]
    ) -> list[Any]:
        return await self._guarded(lambda: self._connection.run_many(self._script[name], calls))

    async def _ask(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        return await self._guarded(lambda: self._connection.ask(operation, call))

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        if anyio.current_time() < self._rests_until:
            raise ShortTermUnavailable("not asked: the server did not answer just now")
        try:
            return await call()
        except ShortTermUnavailable:
            self._rests_until = anyio.current_time() + REST_S
            raise
