"""The runs of all nodes in Redis: their facts, and their texts so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from memory.live.broker import CLAIM_LIFE_S, RUN_LIFE_S, LiveRun, NodeId, RunFacts, RunText
from memory.live.redis_calls import RedisCalls
from memory.live.redis_keys import Keys
from memory.messages import RunId, UserId

_facts: Final = msgspec.json.Decoder(RunFacts)


class RedisRuns:
    """The part of ``RedisBroker`` that is about runs; see the contract."""

    def __init__(self, calls: RedisCalls, keys: Keys, node: NodeId) -> None:
        self._calls = calls
        self._keys = keys
        self._node = node

    async def begin(self, facts: RunFacts) -> None:
        encoded = msgspec.json.encode(facts)

        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(self._keys.of(facts.user, "runs"), facts.run, encoded)
                pipeline.expire(self._keys.of(facts.user, "runs"), CLAIM_LIFE_S)
                pipeline.hset(self._keys.runs_of(self._node), facts.run, encoded)
                pipeline.expire(self._keys.runs_of(self._node), CLAIM_LIFE_S)
                await pipeline.execute()

        await self._calls.ask("begin_run", call)

    async def checkpoint(self, texts: Sequence[RunText]) -> list[bool]:
        answers = await self._calls.run(
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

    async def end(self, user: UserId, run: RunId) -> None:
        async def call(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(self._keys.of(user, "runs"), run)
                pipeline.hdel(self._keys.runs_of(self._node), run)
                pipeline.unlink(self._keys.of(user, f"run:{run}"))
                await pipeline.execute()

        await self._calls.ask("end_run", call)

    async def of(self, user: UserId) -> list[LiveRun]:
        key = self._keys.of(user, "runs")
        return await self.with_texts(await self._calls.ask("runs", lambda redis: redis.hvals(key)))

    async def with_texts(self, encoded: Sequence[bytes | str]) -> list[LiveRun]:
        facts = [_facts.decode(one) for one in encoded]
        if not facts:
            return []

        async def call(redis: Redis) -> list[bytes | None]:
            async with redis.pipeline(transaction=False) as pipeline:
                for one in facts:
                    pipeline.get(self._keys.of(one.user, f"run:{one.run}"))
                values: list[bytes | None] = await pipeline.execute()
                return values

        texts = await self._calls.ask("texts", call)
        return [
            LiveRun(one, (text or b"").decode(errors="ignore"))
            for one, text in zip(facts, texts, strict=True)
        ]
