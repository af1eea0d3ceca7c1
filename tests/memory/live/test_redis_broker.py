from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import anyio
import pytest
from redis.asyncio import Redis

from memory.child_process import ChildProcess
from memory.errors import ShortTermUnavailable
from memory.live.broker import KEEP_BYTES, KEEP_S, NodeId, Outgoing, Position
from memory.live.redis_broker import RedisBroker
from memory.live.redis_keys import Keys
from memory.messages import UserId
from memory.redis_process import RedisProcess
from tests.contracts.broker import ANN, ONE, TWO, BrokerContract, facts, listening
from tests.memory.redis_server import redis_server

pytestmark = pytest.mark.redis


class RedisWorld:
    def __init__(self, process: RedisProcess, child: ChildProcess) -> None:
        self.url = process.url
        self.child = child
        self.redis = Redis(unix_socket_path=str(process.socket_path))
        self._opened: list[RedisBroker] = []
        self._stopped = False

    def open(self, node: NodeId) -> RedisBroker:
        broker = RedisBroker.open(self.url, node=node, timeout_s=0.5)
        self._opened.append(broker)
        return broker

    async def lose_all(self) -> None:
        await self.redis.flushall()

    async def let_pass(self, seconds: float) -> None:
        alive = "chat:{/nodes}:alive"
        for node in await self.redis.zrange(alive, 0, -1):
            await self.redis.zincrby(alive, -seconds * 1_000_000, node)  # type: ignore[arg-type]  # a name

    def break_off(self) -> None:
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGSTOP)
        self._stopped = True

    async def aclose(self) -> None:
        if self._stopped and self.child.pid is not None:
            os.kill(self.child.pid, signal.SIGCONT)
        for broker in self._opened:
            await broker.aclose()
        await self.redis.aclose()


@pytest.fixture(scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RedisProcess, ChildProcess]]:
    async with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def world(server: tuple[RedisProcess, ChildProcess]) -> AsyncIterator[RedisWorld]:
    world = RedisWorld(*server)
    await world.lose_all()
    yield world
    await world.aclose()


class TestContract(BrokerContract):
    pass


async def test_everything_in_redis_expires(world: RedisWorld) -> None:
    one = world.open(ONE)
    await one.enter(ANN)
    await one.publish([Outgoing(ANN, b"{}")])
    await one.claim(ANN, facts("r").conversation, client_id="x", alive=())
    await one.begin_run(facts("r"))
    keys = [key async for key in world.redis.scan_iter()]
    assert len(keys) == 8
    for key in keys:
        assert await world.redis.ttl(key) > 0, key


async def test_what_is_kept_of_one_user_is_bounded_in_bytes(world: RedisWorld) -> None:
    one, kept = world.open(ONE), Keys("chat:").of(ANN, "events")
    size, count = KEEP_BYTES // 20, 70
    for number in range(count):
        (published,) = await one.publish([Outgoing(ANN, b"x" * size)])
        place = published.position
        assert place.seq == number + 1
        assert (await world.redis.xlen(kept) - 1) * size <= KEEP_BYTES
    missed = await one.since(ANN, Position(place.epoch, count - 9))
    assert [seq for seq, _ in missed or ()] == list(range(count - 8, count + 1))
    assert await one.since(ANN, Position(place.epoch, 1)) is None


async def test_what_is_old_is_dropped_although_more_comes(world: RedisWorld) -> None:
    one, keys = world.open(ONE), Keys("chat:")

    async def let_pass(seconds: float) -> None:
        marked = float(await world.redis.hget(keys.of(ANN, "place"), "marked_at") or 0)
        await world.redis.hset(keys.of(ANN, "place"), "marked_at", marked - seconds)

    for _ in range(5):
        await one.publish([Outgoing(ANN, b"{}")] * 10)
        await let_pass(KEEP_S + 1)
    assert 10 < await world.redis.xlen(keys.of(ANN, "events")) < 30


async def test_what_is_inherited_expires_too(world: RedisWorld) -> None:
    one, two = world.open(ONE), world.open(TWO)
    await one.beat()
    await one.begin_run(facts("r"))
    await world.let_pass(10)
    assert await two.inherit(ONE)
    assert await world.redis.ttl(Keys("chat:").runs_of(TWO)) > 0


async def test_what_could_not_be_released_is_released_later(world: RedisWorld) -> None:
    one, conversation = world.open(ONE), facts("r").conversation
    await one.claim(ANN, conversation, client_id=None, alive=())
    one._calls._rests_until = anyio.current_time() + 60
    with pytest.raises(ShortTermUnavailable):
        await one.release(ANN, conversation)
    one._calls._rests_until = 0.0
    await one.release(ANN, conversation)
    assert not await world.redis.exists(Keys("chat:").of(ANN, f"lane:{conversation}"))


async def test_a_line_that_was_cut_is_open_again_and_says_that_something_may_be_missing(
    world: RedisWorld,
) -> None:
    one, two = world.open(ONE), world.open(TWO)
    async with listening(two) as line:
        await world.redis.client_kill_filter(_type="pubsub")
        await line.until(2)
        await one.post([(TWO, b"after")])
        cut, letter = (await line.until(3))[1:]
        assert cut is None
        assert letter is not None


async def test_scripts_that_the_server_forgot_are_sent_again(world: RedisWorld) -> None:
    one = world.open(ONE)
    await one.publish([Outgoing(ANN, b"{1}")])
    await world.redis.script_flush()
    sent = await one.publish([Outgoing(ANN, b"{2}"), Outgoing(ANN, b"{3}")])
    assert [place.position.seq for place in sent] == [2, 3]


def test_no_user_has_the_keys_of_nodes_whatever_the_name() -> None:
    keys = Keys("chat:")
    own = keys.of(UserId("nodes"), "")
    assert own == "chat:{nodes}:"
    for key in (keys.alive, keys.generation, keys.runs_of(NodeId("0-ab"))):
        assert not key.startswith(own)
