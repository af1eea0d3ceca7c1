"""The broker in Redis: scripts of one round trip, and one subscription for each process."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection, Sequence
from secrets import token_hex
from typing import Any, Final, Self

from redis.asyncio import Redis

from memory.live.broker import (
    CLAIM_LIFE_S,
    DEAD_AFTER_S,
    KEEP_BYTES,
    KEEP_EVENTS,
    KEEP_S,
    PLACE_LIFE_S,
    PRESENCE_S,
    SENT_LIFE_S,
    SPOKE_WITHIN_S,
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
from memory.live.redis_calls import RedisCalls
from memory.live.redis_keys import Keys
from memory.live.redis_listener import RedisListener
from memory.live.redis_messages import nodes_in, position_in, read_message
from memory.live.redis_runs import RedisRuns
from memory.messages import ConversationId, RunId, UserId, user_key
from memory.redis_connection import RedisConnection

FORGET_NODES_S: Final = 3_600


class RedisBroker:
    """``Broker`` on Redis or Valkey; :class:`Keys` says what lies where."""

    def __init__(
        self, connection: RedisConnection, *, address: str, prefix: str, node: NodeId
    ) -> None:
        self._calls = RedisCalls(connection)
        self._keys = Keys(prefix)
        self._runs = RedisRuns(self._calls, self._keys, node)
        self._node = node
        self._listener = RedisListener(
            address, [f"{self._keys.channel}{name}" for name in (node, "*")]
        )
        self._claims: dict[tuple[UserId, ConversationId], str] = {}

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
        await self._calls.aclose()

    async def publish(self, events: Sequence[Outgoing]) -> list[Published]:
        answers = await self._calls.run(
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
        return await self._calls.run(
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
        await self._calls.ask("leave", lambda redis: redis.zrem(key, self._node))

    async def since(self, user: UserId, position: Position) -> list[tuple[int, bytes]] | None:
        keys = [self._keys.of(user, "events"), self._keys.of(user, "place")]
        (events,) = await self._calls.run("since", [(keys, [position.epoch, position.seq])])
        if events is None:
            return None
        return list(enumerate(events, start=position.seq + 1))

    async def begin_anew(self, user: UserId, *, numbering: bool = True) -> None:
        parts = ("events", "place") if numbering else ("events",)
        keys = [self._keys.of(user, part) for part in parts]
        await self._calls.ask("begin_anew", lambda redis: redis.unlink(*keys))

    async def beat(self) -> Beat:
        answer = await self._calls.run_anyway(
            "beat",
            [self._keys.alive, self._keys.generation],
            self._node,
            token_hex(8),
            FORGET_NODES_S * 1_000_000,
        )
        ages = {
            NodeId(node.decode()): age / 1_000_000
            for node, age in zip(answer[2::2], answer[3::2], strict=True)
        }
        del ages[self._node]
        alive = frozenset(node for node, age_s in ages.items() if age_s < DEAD_AFTER_S)
        return Beat(answer[0].decode(), bool(answer[1]), alive, frozenset(ages) - alive)

    async def inherit(self, node: NodeId) -> Inheritance | None:
        left = await self._calls.run_anyway(
            "inherit",
            [
                self._keys.alive,
                self._keys.runs_of(node),
                self._keys.runs_of(self._node),
            ],
            node,
            int(DEAD_AFTER_S * 1_000_000),
            CLAIM_LIFE_S,
            f'"node":"{node}"',
        )
        if left is None:
            return None
        runs = await self._runs.with_texts(left)
        return Inheritance(tuple(runs), tuple(await self._spoke_to(node)))

    async def _spoke_to(self, node: NodeId) -> list[UserId]:
        key = self._keys.users_of(node)

        async def call(redis: Redis) -> list[tuple[bytes, float]]:
            found: list[tuple[bytes, float]] = await redis.zrange(key, 0, -1, withscores=True)  # type: ignore[assignment]  # with scores, as bytes
            return found

        users = await self._calls.ask("users", call)
        last = users[-1][1] if users else 0.0  # by that node's own clock
        return [UserId(user.decode()) for user, at in users if at >= last - SPOKE_WITHIN_S]

    async def depart(self) -> None:
        await self._calls.ask("depart", lambda redis: redis.zrem(self._keys.alive, self._node))

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
        ((holder, repeated),) = await self._calls.run(
            "claim", [(keys, [self._node, token, *lives, *alive])], beside=self._spoke(user)
        )
        claim = Claim(NodeId(holder.decode()), bool(repeated))
        if claim.holder == self._node:
            self._claims[user, conversation] = f"{self._node} {token}"
        return claim

    def _spoke(self, user: UserId) -> list[list[str | bytes | int]]:
        """The commands that note that *user* says something to this node."""
        key, now = self._keys.users_of(self._node), int(time.time())
        return [
            ["ZADD", key, now, user],
            ["ZREMRANGEBYSCORE", key, "-inf", now - SPOKE_WITHIN_S - 1],
            ["EXPIRE", key, 10 * SPOKE_WITHIN_S],
        ]

    async def release(self, user: UserId, conversation: ConversationId) -> None:
        lane = (user, conversation)
        claimed = self._claims.get(lane)
        if claimed is None:
            return
        await self._calls.run(
            "release", [([self._keys.of(user, f"lane:{conversation}")], [claimed])]
        )
        if self._claims.get(lane) == claimed:  # else it was claimed anew meanwhile
            del self._claims[lane]

    async def begin_run(self, facts: RunFacts) -> None:
        await self._runs.begin(facts)

    async def checkpoint(self, texts: Sequence[RunText]) -> list[bool]:
        return await self._runs.checkpoint(texts)

    async def end_run(self, user: UserId, run: RunId) -> None:
        await self._runs.end(user, run)

    async def runs(self, user: UserId) -> list[LiveRun]:
        return await self._runs.of(user)

    async def post(self, letters: Sequence[tuple[NodeId | None, bytes]]) -> None:
        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for node, body in letters:
                    channel = f"{self._keys.channel}{node or '*'}"
                    pipeline.publish(channel, b"L%b\n%b" % (self._node.encode(), body))
                await pipeline.execute()

        await self._calls.ask("post", call)

    async def incoming(self) -> AsyncGenerator[Event | Letter | None, None]:
        async for message in self._listener.messages():
            yield None if message is None else read_message(message)
