from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from redis.asyncio import Redis

from memory.child_process import ChildProcess
from memory.errors import ShortTermUnavailable
from memory.redis_connection import CONNECTIONS, RedisConnection, Script
from memory.redis_process import RedisProcess

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(20)
        yield process
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def opened(address: str, *, timeout_s: float = 10) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection.open(address, timeout_s=timeout_s)
    try:
        yield connection
    finally:
        await connection.aclose()


@asynccontextmanager
async def hanging(path: Path) -> AsyncIterator[str]:
    """A server that takes everything in and never answers."""

    async def swallow(stream: SocketStream) -> None:
        async with stream:
            async for _ in stream:
                pass

    listener = await anyio.create_unix_listener(path)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, swallow)
        yield str(path)
        tasks.cancel_scope.cancel()


def test_a_script_is_known_by_the_digest_of_its_text() -> None:
    script = Script("admit")
    assert "redis.call" in script.text
    assert len(script.digest) == 40


async def test_a_script_runs_whether_the_server_knows_it_or_not(server: RedisProcess) -> None:
    script = Script("append")
    script.text = f"return {{KEYS[1], ARGV[1], ARGV[2]}} -- {uuid.uuid4()}"
    script.digest = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
    async with opened(server.url) as connection:
        for _ in range(2):
            assert await connection.run(script, ["key"], b"\xff", 7) == [b"key", b"\xff", b"7"]
            assert await connection.ask(
                "script exists", lambda redis: redis.script_exists(script.digest)
            ) == [True]


@pytest.mark.parametrize("spelling", ["url", "path"])
async def test_a_unix_socket_is_found_by_url_and_by_path(
    server: RedisProcess, spelling: str
) -> None:
    path = str(server.socket_path)
    async with opened(f"unix://{path}" if spelling == "url" else path) as connection:
        assert await connection.ask("ping", lambda redis: redis.ping())


@pytest.mark.parametrize("address", ["", "localhost:6379", "http://localhost:1", "relative/path"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        RedisConnection.open(address, timeout_s=1)


async def test_nobody_there_is_told_as_unavailable(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "nobody")) as connection:
        with pytest.raises(ShortTermUnavailable, match="ping: ConnectionError"):
            await connection.ask("ping", lambda redis: redis.ping())


async def test_no_answer_is_waited_for_no_longer_than_was_said(tmp_path: Path) -> None:
    async with hanging(tmp_path / "s") as path, opened(path, timeout_s=0.05) as connection:
        with anyio.fail_after(10), pytest.raises(ShortTermUnavailable, match="TimeoutError"):
            await connection.ask("ping", lambda redis: redis.ping())


async def test_more_calls_than_connections_do_not_wait_for_ever(tmp_path: Path) -> None:
    faults: list[str] = []

    async def call(connection: RedisConnection) -> None:
        with pytest.raises(ShortTermUnavailable) as fault:
            await connection.ask("ping", lambda redis: redis.ping())
        faults.append(str(fault.value))

    async with hanging(tmp_path / "s") as path, opened(path, timeout_s=0.1) as connection:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(CONNECTIONS + 10):
                    tasks.start_soon(call, connection)
    assert len(faults) == CONNECTIONS + 10


async def test_an_error_of_the_server_is_told_by_its_kind_and_without_its_words(
    server: RedisProcess,
) -> None:
    async def wrong(redis: Redis) -> object:
        await redis.set("text", "a secret")
        return await redis.lrange("text", 0, -1)

    async with opened(server.url) as connection:
        with pytest.raises(ShortTermUnavailable) as fault:
            await connection.ask("lrange", wrong)
    assert str(fault.value) == "lrange: ResponseError"


async def test_the_answer_to_a_cancelled_call_is_nobody_else_s(server: RedisProcess) -> None:
    async with opened(server.url) as connection:
        await connection.ask("set", lambda redis: redis.set("mine", "mine"))

        async def wait_for_nothing() -> None:
            await connection.ask("blpop", lambda redis: redis.blpop(["never"], timeout=0.2))

        for _ in range(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_nothing)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert await connection.ask("get", lambda redis: redis.get("mine")) == b"mine"
